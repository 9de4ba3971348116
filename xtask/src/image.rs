//! `cargo xtask image`: the images of the Dockerfile without Docker.

mod oci;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

pub(crate) use oci::Image;

use crate::{
    commands::{cargo, step},
    page,
    server::target,
};

/// nobody's number in images without a distribution; the charts and the Dockerfile name it too.
const USER: &str = "65532:65532";

/// What TLS to a Redis of a public authority needs; Debian's and most others' place.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this one
    #[arg(value_enum)]
    component: Option<Component>,
    /// The tag
    #[arg(long, default_value = VERSION)]
    tag: String,
    /// What stands before the image's name
    #[arg(long, default_value = "localhost", value_name = "PREFIX")]
    repository: String,
    /// Take the statically linked binaries of this folder instead of building them
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Component {
    /// The room server
    Server,
    /// The operator
    Operator,
}

impl Component {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Component::Server => "danmu-server",
            Component::Operator => "danmu-operator",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Component::Server => "Danmu's room server",
            Component::Operator => "Danmu's operator",
        }
    }

    fn ports(self) -> &'static [u16] {
        match self {
            Component::Server => &[8080, 9090],
            Component::Operator => &[8081],
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let components =
        arguments.component.map_or(vec![Component::Server, Component::Operator], |one| vec![one]);
    let binaries = match &arguments.binaries {
        Some(folder) => folder.clone(),
        None => {
            if components.iter().any(|component| matches!(component, Component::Server)) {
                build_page()?;
            }
            build(&components, "release")?
        }
    };
    let folder = target().join("images");
    fs::create_dir_all(&folder).map_err(in_file(&folder))?;
    for component in components {
        let path = folder.join(format!("{}.tar", component.name()));
        write(component, &arguments.repository, &arguments.tag, &binaries, &path)?;
    }
    Ok(())
}

/// The viewer page, which the server's binary has within.
fn build_page() -> Result<(), String> {
    if page::has_npm() {
        return page::build();
    }
    println!("npm is missing: the server is built without the page");
    Ok(())
}

/// Writes the image of one component to a file.
pub(crate) fn write(
    component: Component,
    repository: &str,
    tag: &str,
    binaries: &Path,
    file: &Path,
) -> Result<(), String> {
    let path = binaries.join(component.name());
    let binary = fs::read(&path).map_err(in_file(&path))?;
    is_static(&binary).map_err(in_file(&path))?;
    let authorities = fs::read(Path::new("/").join(AUTHORITIES)).ok();
    if authorities.is_none() {
        println!("    no /{AUTHORITIES} here: rediss:// will need --redis-ca");
    }
    let name = format!("{repository}/{}:{tag}", component.name());
    let mut image = Image::new(&name, config(component, tag));
    if let Some(authorities) = authorities {
        image.file(AUTHORITIES, 0o644, authorities);
    }
    image.file(component.name(), 0o755, binary);
    let size = image.write(file).map_err(in_file(file))?;
    println!("    {name}: {} ({} KiB)", file.display(), size / 1024);
    Ok(())
}

fn in_file<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> String {
    move |error| format!("{}: {error}", path.display())
}

/// Statically linked against glibc, whose allocator is what the benchmarks were made with.
pub(crate) fn build(components: &[Component], profile: &str) -> Result<PathBuf, String> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = cargo(&["build", "--profile", profile, "--locked", "--target", &triple]);
    for component in components {
        command.args(["--package", component.name()]);
    }
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    step("static binaries", command)?;
    Ok(target().join(triple).join(profile))
}

/// An image from scratch has no loader: a binary that asks for one (PT_INTERP) would not be found by name.
fn is_static(elf: &[u8]) -> Result<(), String> {
    let number = |at: usize, size: usize| {
        let bytes = elf.get(at..at + size).unwrap_or_default();
        bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return Err("not a program of 64-bit Linux".into());
    }
    let (headers, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    let asks_for_a_loader = (0..count).any(|index| number(headers.saturating_add(index * size), 4) == 3);
    if asks_for_a_loader {
        return Err(
            "it is linked dynamically; build it with RUSTFLAGS='-C target-feature=+crt-static'".into()
        );
    }
    Ok(())
}

fn config(component: Component, version: &str) -> Value {
    let ports: BTreeMap<String, Value> =
        component.ports().iter().map(|port| (format!("{port}/tcp"), json!({}))).collect();
    json!({
        "User": USER,
        "Entrypoint": [format!("/{}", component.name())],
        "WorkingDir": "/",
        "ExposedPorts": ports,
        "Labels": {
            "org.opencontainers.image.title": component.title(),
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
            "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::root;

    #[test]
    fn the_program_runs_as_nobody_and_is_labelled() {
        for (component, ports) in [
            (Component::Server, json!({"8080/tcp": {}, "9090/tcp": {}})),
            (Component::Operator, json!({"8081/tcp": {}})),
        ] {
            let config = config(component, "1.2.3");
            assert_eq!(config["User"], "65532:65532");
            assert_eq!(config["Entrypoint"], json!([format!("/{}", component.name())]));
            assert_eq!(config["ExposedPorts"], ports);
            assert_eq!(config["Labels"]["org.opencontainers.image.version"], "1.2.3");
            assert_eq!(config["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0");
        }
    }

    #[test]
    fn a_binary_that_needs_a_loader_is_told() {
        let mut elf = vec![0; 0x40 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[0x20], elf[0x36], elf[0x38]) = (0x40, 56, 1);
        elf[0x40] = 1; // PT_LOAD
        assert_eq!(is_static(&elf), Ok(()));
        elf[0x40] = 3; // PT_INTERP
        assert!(is_static(&elf).unwrap_err().contains("dynamically"));
        assert!(is_static(b"#!/bin/sh").unwrap_err().contains("not a program"));
        elf.truncate(0x41);
        let _ = is_static(&elf);
    }

    #[test]
    fn docker_is_given_every_crate_of_the_workspace() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let ignored = std::fs::read_to_string(root().join(".dockerignore")).unwrap();
        let members = manifest.lines().find(|line| line.starts_with("members = ")).unwrap();
        for member in members.split('"').skip(1).step_by(2) {
            let folder = member.split('/').next().unwrap();
            assert!(ignored.lines().any(|line| line == format!("!{folder}")), "{folder} is not built from");
        }
    }
}
