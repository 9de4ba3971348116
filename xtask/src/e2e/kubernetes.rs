//! The programs of e2e/cluster/kubernetes: all of Kubernetes, etcd, CoreDNS and kwok, from their Go modules.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::file;
use crate::{
    commands::step,
    go::{KUBERNETES, cache, go, required_module},
};

/// Names of the one binary that main.go is.
const COMPONENTS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];

/// What kwok's nodes and pods do when; kwok does nothing without.
const STAGES: [&str; 3] = ["node/fast", "node/heartbeat-with-lease", "pod/fast"];

/// What they are made of.
const SOURCES: [&[u8]; 4] = [
    include_bytes!("../../../e2e/cluster/kubernetes/go.mod"),
    include_bytes!("../../../e2e/cluster/kubernetes/go.sum"),
    include_bytes!("../../../e2e/cluster/kubernetes/main.go"),
    include_bytes!("../../../e2e/cluster/kubernetes/coredns/main.go"),
];

/// Where they are. Another name for other sources, so that a cluster that runs keeps its programs.
pub(super) fn folder() -> PathBuf {
    let mut hash = Sha256::new();
    SOURCES.iter().for_each(|source| hash.update(source));
    let hash: String = hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    cache().join("bin").join(format!("kubernetes-{KUBERNETES}-{hash}"))
}

/// Builds them if these are not there yet.
pub(super) fn install() -> Result<(), String> {
    let folder = folder();
    if folder.exists() {
        return Ok(());
    }
    println!(
        "    Kubernetes {KUBERNETES} is built: about 10 minutes on 2 cores the first time, and 4 GB of memory"
    );
    let unfinished = folder.with_extension("unfinished");
    fs::create_dir_all(&unfinished).map_err(|error| format!("{}: {error}", unfinished.display()))?;
    build(&unfinished, ".", "kubernetes", &flags())?;
    build(&unfinished, "./coredns", "coredns", "-s -w")?;
    build(&unfinished, "sigs.k8s.io/kwok/cmd/kwok", "kwok", "-s -w")?;
    let finish = || -> std::io::Result<()> {
        for name in COMPONENTS {
            let _ = fs::remove_file(unfinished.join(name));
            symlink("kubernetes", unfinished.join(name))?;
        }
        Ok(())
    };
    finish().map_err(|error| format!("{}: {error}", unfinished.display()))?;
    write_stages(&unfinished.join("kwok-stages.yaml"))?;
    fs::rename(&unfinished, &folder).map_err(|error| format!("{}: {error}", folder.display()))
}

fn build(folder: &Path, package: &str, name: &str, flags: &str) -> Result<(), String> {
    let mut command =
        go(&["build", "-mod=readonly", "-trimpath", "-ldflags", flags, "-o"], "e2e/cluster/kubernetes");
    command.arg(folder.join(name)).arg(package);
    step(&format!("{name} from its Go modules"), command)
}

/// Without them it says it is version 0.0.0, and clients believe that.
fn flags() -> String {
    let minor = KUBERNETES.split('.').nth(1).unwrap_or_default();
    let mut flags = "-s -w".to_owned();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [
            ("gitVersion", format!("v{KUBERNETES}").as_str()),
            ("gitMajor", "1"),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
            ("buildDate", "2026-01-01T00:00:00Z"),
        ] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    flags
}

fn write_stages(to: &Path) -> Result<(), String> {
    let module = required_module("sigs.k8s.io/kwok", &file("kubernetes"))?;
    let mut stages = String::new();
    for name in STAGES {
        let folder = module.join("kustomize/stage").join(name);
        let in_folder = |error| format!("{}: {error}", folder.display());
        let mut paths: Vec<_> =
            fs::read_dir(&folder).map_err(in_folder)?.flatten().map(|file| file.path()).collect();
        paths.sort();
        for path in paths.iter().filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".yaml") && !name.starts_with("kustomization")
        }) {
            stages.push_str("---\n");
            stages.push_str(&fs::read_to_string(path).map_err(in_folder)?);
        }
    }
    fs::write(to, stages).map_err(|error| format!("{}: {error}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_requires_the_version_that_is_told() {
        let module = fs::read_to_string(file("kubernetes/go.mod")).unwrap();
        assert!(module.contains(&format!("k8s.io/kubernetes v{KUBERNETES}\n")));
        let staging = KUBERNETES.replacen("1.", "v0.", 1);
        for line in module.lines().filter(|line| line.contains("=>")) {
            assert!(line.ends_with(&staging), "{line}");
        }
    }
}
