//! Envoy Gateway, by its own chart, which is in its Go module.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use super::{Cluster, file, kubectl};
use crate::{
    commands::{program, step},
    go::{ENVOY_GATEWAY, GATEWAY_API, HELM, cache, module},
};

/// The GatewayClass that tests use.
pub(super) const CLASS: &str = "eg";

/// Its own images, for clusters that can pull.
pub(super) const RELEASED: &str = "docker.io/envoyproxy/gateway:v1.9.1";
pub(super) const RELEASED_ENVOY: &str = "docker.io/envoyproxy/envoy:distroless-v1.39.1";

/// Installs it, with images of its controller and of Envoy.
pub(super) fn install(cluster: &dyn Cluster, image: &str, envoy: &str) -> Result<(), String> {
    install_definitions(cluster)?;
    let gateway = module(ENVOY_GATEWAY)?;
    let chart = cache().join("chart-of-envoy-gateway");
    write_chart(&gateway.join("charts/gateway-helm"), &chart, image)?;
    let arguments =
        ["upgrade", "--install", "eg", "--namespace", "envoy-gateway-system", "--create-namespace"];
    let mut helm = program(HELM.install()?, &arguments, ".");
    helm.env("KUBECONFIG", cluster.kubeconfig()).stdout(Stdio::null());
    helm.args(["--skip-crds", "--set", "crds.enabled=false", "--wait", "--timeout", "5m"]);
    // Our nodes have no topology; without it no webhook stands in the way of pods.
    helm.args(["--set", "topologyInjector.enabled=false"]);
    helm.args(["--set", "deployment.envoyGateway.resources.requests.cpu=50m"]).arg(&chart);
    step("Envoy Gateway", helm)?;

    let manifest = file("manifests/gateway.yaml");
    let text = fs::read_to_string(&manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
    let filled = chart.join("class.yaml");
    fs::write(&filled, text.replace("@ENVOY_IMAGE@", envoy).replace("@CLASS@", CLASS))
        .map_err(|error| format!("{}: {error}", filled.display()))?;
    step(
        "its GatewayClass",
        quiet(kubectl(cluster, &["apply", "--filename", &filled.display().to_string()])),
    )?;
    let class = format!("gatewayclass/{CLASS}");
    step(
        "its acceptance",
        quiet(kubectl(cluster, &["wait", "--for=condition=Accepted", &class, "--timeout=60s"])),
    )
}

/// The kinds of Gateway API and of Envoy Gateway.
fn install_definitions(cluster: &dyn Cluster) -> Result<(), String> {
    let folders = [
        module(GATEWAY_API)?.join("config/crd/standard"),
        module(ENVOY_GATEWAY)?.join("charts/gateway-helm/charts/crds/crds/generated"),
    ];
    // On the server's side: they are too large for the note that kubectl leaves on what it applies.
    let mut apply = kubectl(cluster, &["apply", "--server-side", "--force-conflicts"]);
    for folder in &folders {
        apply.arg("--filename").arg(folder);
    }
    step("definitions of Gateway API and Envoy Gateway", quiet(apply))?;
    let wait = ["wait", "--for=condition=Established", "customresourcedefinition", "--all", "--timeout=60s"];
    step("their acceptance", quiet(kubectl(cluster, &wait)))
}

fn quiet(mut command: Command) -> Command {
    command.stdout(Stdio::null());
    command
}

/// In the module the chart's values are a template that the authors' release fills in.
fn write_chart(from: &Path, to: &Path, image: &str) -> Result<(), String> {
    let fault = |error: std::io::Error| format!("{}: {error}", to.display());
    let _ = fs::remove_dir_all(to);
    copy(from, to).map_err(fault)?;
    let values = fs::read_to_string(from.join("values.tmpl.yaml")).map_err(fault)?;
    let values =
        values.replace("${GatewayImage}", image).replace("${GatewayImagePullPolicy}", "IfNotPresent");
    fs::write(to.join("values.yaml"), values).map_err(fault)
}

/// The module's files may not be written; ours may.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        let (path, to) = (file.path(), to.join(file.file_name()));
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            fs::write(&to, fs::read(&path)?)?;
        }
    }
    Ok(())
}
