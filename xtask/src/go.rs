//! Programs and files from Go modules: the tools of `charts`, and the cluster of `e2e`. Built once a version, into
//! a cache that all clones of this repository share.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::commands::{program, step};

/// The newest Kubernetes we know, and the one that `e2e` runs; e2e/cluster/kubernetes/go.mod has it too.
pub(crate) const KUBERNETES: &str = "1.37.2";

/// The gateway that `e2e` runs, and the Gateway API it is made for; the charts are checked against both.
pub(crate) const ENVOY_GATEWAY: &str = "github.com/envoyproxy/gateway@v1.9.1";
pub(crate) const GATEWAY_API: &str = "sigs.k8s.io/gateway-api@v1.6.1";

pub(crate) const HELM: Tool = Tool { name: "helm", package: "helm.sh/helm/v3/cmd/helm", version: "v3.22.0" };

/// Where builds and downloads are kept.
pub(crate) fn cache() -> PathBuf {
    let folder = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let folder = folder.or_else(|| env::home_dir().map(|home| home.join(".cache")));
    folder.unwrap_or_else(env::temp_dir).join("danmu-cluster")
}

/// Go, with caches of its own: what is built here is large, and may be deleted as one folder.
pub(crate) fn go(arguments: &[&str], folder: &str) -> Command {
    let mut command = program("go", arguments, folder);
    command.env("GOMODCACHE", cache().join("gomod")).env("GOCACHE", cache().join("gocache"));
    // Neither settings of the user's nor the state of this repository may change what is built.
    command.env("CGO_ENABLED", "0").env("GOFLAGS", "-buildvcs=false").env("GOWORK", "off");
    command
}

/// Whether there is a Go that is new enough; an older one fetches a newer by itself, if it may.
pub(crate) fn check() -> Result<(), String> {
    match go(&["version"], ".").output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(
            "Go is missing: install Go 1.26 or newer (the charts' tools and the clusters are built with it)"
                .into(),
        ),
    }
}

/// A program of a Go module, with the dependencies its authors released it with.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
}

impl Tool {
    /// Where it is; built first if this version is not there yet.
    pub(crate) fn install(&self) -> Result<PathBuf, String> {
        let folder = cache().join("bin").join(format!("{}-{}", self.name, self.version));
        let binary = folder.join(self.name);
        if !binary.exists() {
            let package = format!("{}@{}", self.package, self.version);
            let mut install = go(&["install", "-trimpath", "-ldflags", "-s -w", &package], ".");
            install.env("GOBIN", &folder);
            step(&format!("{} {} from its Go module", self.name, self.version), install)?;
        }
        Ok(binary)
    }
}

/// The folder of a module's files, downloaded if it is not there yet.
pub(crate) fn module(name: &str) -> Result<PathBuf, String> {
    let output = go(&["mod", "download", "-json", name], ".")
        .output()
        .map_err(|error| format!("go mod download {name}: {error} (Go 1.26 is needed)"))?;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    told["Dir"].as_str().map(PathBuf::from).ok_or_else(|| {
        let fault = told["Error"].as_str().unwrap_or_default();
        format!("go mod download {name}: {fault}{}", String::from_utf8_lossy(&output.stderr))
    })
}

/// The same for a module that another one requires, in the version that it requires.
pub(crate) fn required_module(name: &str, folder: &Path) -> Result<PathBuf, String> {
    let output = go(&["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", name], ".")
        .current_dir(folder)
        .output()
        .map_err(|error| format!("go list {name}: {error} (Go 1.26 is needed)"))?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if folder.is_empty() {
        return Err(format!("go list {name}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(PathBuf::from(folder))
}
