//! kind: a node in a container of Docker, with everything pulled but our own images.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Cluster, Environment, file, gateway, images, install_definitions};
use crate::{
    commands::{program, step, tidy_up},
    go::{HELM, Tool, cache},
};

const KIND: Tool = Tool { name: "kind", package: "sigs.k8s.io/kind", version: "v0.33.0" };
const NAME: &str = "danmu-e2e";
/// Its only node is a container of this name.
const NODE: &str = "danmu-e2e-control-plane";

pub(super) struct Kind;

impl Kind {
    fn kind(arguments: &[&str]) -> Result<Command, String> {
        let mut command = program(KIND.install()?, arguments, ".");
        command.args(["--name", NAME]).env("KUBECONFIG", Kind.kubeconfig());
        Ok(command)
    }

    fn is_up() -> Result<bool, String> {
        let output = program(KIND.install()?, &["get", "clusters"], ".").output();
        let output = output.map_err(|error| format!("kind get clusters: {error}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().any(|line| line == NAME))
    }
}

impl Cluster for Kind {
    fn prepare(&self) -> Result<(), String> {
        HELM.install()?;
        KIND.install()?;
        images::make_ours(&folder())
    }

    fn up(&self) -> Result<(), String> {
        if !Kind::is_up()? {
            let mut create = Kind::kind(&["create", "cluster", "--wait", "120s"])?;
            create.arg("--config").arg(file("kind.yaml"));
            // Which Kubernetes: kind's own choice, or a node image that CI names.
            if let Ok(image) = env::var("DANMU_E2E_KIND_IMAGE") {
                create.args(["--image", &image]);
            }
            step("kind's cluster", create)?;
        }
        for path in images::files(&folder()) {
            let load = Kind::kind(&["load", "image-archive", &path.display().to_string()])?;
            step(&format!("load {}", path.display()), load)?;
        }
        step("routes into it", program(file("kind-routes.sh"), &[NODE], "."))?;
        gateway::install(self, gateway::RELEASED, gateway::RELEASED_ENVOY)?;
        install_definitions(self)
    }

    fn down(&self) -> Result<(), String> {
        tidy_up("cluster goes down", Kind::kind(&["delete", "cluster"])?)?;
        tidy_up("routes into it", program(file("kind-routes.sh"), &[], "."))
    }

    fn kubeconfig(&self) -> PathBuf {
        folder().join("kubeconfig")
    }

    /// Where there is Docker for tests there is a kubectl; it need not be of the cluster's version.
    fn kubectl(&self) -> PathBuf {
        PathBuf::from("kubectl")
    }

    fn write_logs(&self, to: &Path) {
        let export = Kind::kind(&["export", "logs", &to.display().to_string()]);
        let _ = export.map(|mut command| command.output());
    }

    fn environment(&self) -> Environment {
        let mut environment = images::environment(true);
        environment.extend([
            ("DANMU_E2E_GATEWAY_CLASS", gateway::CLASS.to_owned()),
            ("DANMU_CLUSTER_MODE", "kind".to_owned()),
            ("DANMU_CLUSTER_NODE", NODE.to_owned()),
        ]);
        // The network of kind's nodes has this machine as its gateway.
        let gateway = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
        let told = Command::new("docker").args(["network", "inspect", "kind", "--format", gateway]).output();
        let told =
            told.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if let Some(address) = told.split_whitespace().find(|address| address.contains('.')) {
            environment.push(("DANMU_E2E_HOST", address.to_owned()));
        }
        environment
    }
}

fn folder() -> PathBuf {
    cache().join("kind")
}
