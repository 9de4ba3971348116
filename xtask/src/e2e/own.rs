//! The clusters of e2e/cluster: one with a real node, and ones with fake nodes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Cluster, Environment, file, gateway, images, install_definitions, kubernetes, setting};
use crate::{
    commands::{apt_get_install, program, step, tidy_up},
    go::{HELM, cache},
};

/// What a node needs of the system: Debian's packages, each with a file that tells it is there.
const PACKAGES: [(&str, &str); 8] = [
    ("containerd", "/usr/bin/containerd"),
    ("runc", "/usr/sbin/runc"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("nftables", "/usr/sbin/nft"),
    ("iproute2", "/usr/sbin/ip"),
    ("openssl", "/usr/bin/openssl"),
    // For images.
    ("busybox-static", "/bin/busybox"),
    ("redis-server", "/usr/bin/redis-server"),
];

/// Whether a cluster with a node can be made here.
pub(super) fn is_root() -> Result<(), String> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err("no Docker answers here, and without it the cluster needs root: it makes network namespaces, mounts and cgroups"
        .into())
}

/// With all of Kubernetes, a real node and Envoy Gateway.
pub(super) struct Node;

impl Cluster for Node {
    fn prepare(&self) -> Result<(), String> {
        is_root()?;
        let missing: Vec<&str> =
            PACKAGES.iter().filter(|(_, file)| !Path::new(file).exists()).map(|(name, _)| *name).collect();
        if !missing.is_empty() {
            println!("    packages of the node are missing and will be installed: {}", missing.join(" "));
            apt_get_install(&missing)?;
        }
        let pip = program("python3", &["-m", "pip", "--version"], ".").output();
        if !pip.is_ok_and(|output| output.status.success()) {
            println!("    Python's pip is missing and will be installed: python3-pip");
            apt_get_install(&["python3-pip"])?;
        }
        kubernetes::install()?;
        images::make_all(&cache().join("images"))
    }

    fn up(&self) -> Result<(), String> {
        step("cluster with a node", script("up.sh", "node", &[]))?;
        gateway::install(self, images::GATEWAY, images::ENVOY)?;
        install_definitions(self)
    }

    fn down(&self) -> Result<(), String> {
        tidy_up("cluster goes down", script("down.sh", "node", &[]))
    }

    fn kubeconfig(&self) -> PathBuf {
        folder("node-0").join("kubeconfig")
    }

    fn kubectl(&self) -> PathBuf {
        kubernetes::folder().join("kubectl")
    }

    fn write_logs(&self, to: &Path) {
        copy_logs(&folder("node-0"), to);
    }

    fn environment(&self) -> Environment {
        let mut environment = images::environment(false);
        environment.push(("DANMU_E2E_GATEWAY_CLASS", gateway::CLASS.to_owned()));
        environment.extend(scripts("node"));
        environment
    }
}

/// A control plane on loopback, and kwok.
pub(super) struct FakeNodes {
    pub(super) nodes: u16,
}

impl FakeNodes {
    fn folder() -> PathBuf {
        folder(&format!("fake-{}", setting("PORT_OFFSET", "100")))
    }
}

impl Cluster for FakeNodes {
    fn prepare(&self) -> Result<(), String> {
        if !Path::new("/usr/bin/openssl").exists() {
            println!("    a package is missing and will be installed: openssl");
            apt_get_install(&["openssl"])?;
        }
        kubernetes::install()?;
        HELM.install()?;
        Ok(())
    }

    fn up(&self) -> Result<(), String> {
        let name = format!("cluster with {} fake nodes", self.nodes);
        step(&name, script("up.sh", "fake", &[&self.nodes.to_string()]))?;
        install_definitions(self)
    }

    fn down(&self) -> Result<(), String> {
        tidy_up("cluster goes down", script("down.sh", "fake", &[]))
    }

    fn kubeconfig(&self) -> PathBuf {
        FakeNodes::folder().join("kubeconfig")
    }

    fn kubectl(&self) -> PathBuf {
        Node.kubectl()
    }

    fn write_logs(&self, to: &Path) {
        copy_logs(&FakeNodes::folder(), to);
    }

    fn environment(&self) -> Environment {
        scripts("fake")
    }

    fn tests(&self) -> (&'static str, &'static str) {
        ("danmu-operator", "kwok")
    }
}

/// What a cluster has on the disk while it runs.
fn folder(name: &str) -> PathBuf {
    cache().join(name)
}

fn script(name: &str, mode: &str, arguments: &[&str]) -> Command {
    let mut command = program(file(name), arguments, ".");
    command.envs(scripts(mode));
    command
}

/// What the scripts need to know, those that tests run too.
fn scripts(mode: &str) -> Environment {
    vec![
        ("DANMU_CLUSTER_MODE", mode.to_owned()),
        ("DANMU_CLUSTER_DIR", cache().display().to_string()),
        ("DANMU_CLUSTER_BIN", kubernetes::folder().display().to_string()),
        ("PORT_OFFSET", setting("PORT_OFFSET", "100")),
    ]
}

fn copy_logs(cluster: &Path, to: &Path) {
    for log in fs::read_dir(cluster.join("logs")).into_iter().flatten().flatten() {
        let _ = fs::copy(log.path(), to.join(log.file_name()));
    }
}
