//! `cargo xtask image`: the images of the Dockerfile without Docker. Each is an OCI layout in one tar, which
//! `ctr images import` and `skopeo copy oci-archive:…` take. The same binaries give the same bytes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

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
enum Component {
    /// The room server
    Server,
    /// The operator
    Operator,
}

impl Component {
    fn name(self) -> &'static str {
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
        None => build(&components)?,
    };
    let folder = target().join("images");
    fs::create_dir_all(&folder).map_err(in_file(&folder))?;
    let authorities = fs::read(Path::new("/").join(AUTHORITIES)).ok();
    if authorities.is_none() {
        println!("    no /{AUTHORITIES} here: rediss:// will need --redis-ca");
    }
    for component in components {
        let path = binaries.join(component.name());
        let binary = fs::read(&path).map_err(in_file(&path))?;
        is_static(&binary).map_err(in_file(&path))?;
        let name = format!("{}/{}:{}", arguments.repository, component.name(), arguments.tag);
        let tar = image(component, &name, &binary, authorities.as_deref()).map_err(in_file(&path))?;
        let path = folder.join(format!("{}.tar", component.name()));
        // Whole or not at all: what imports it may be watching.
        let unfinished = path.with_extension("tmp");
        File::create(&unfinished)
            .and_then(|mut file| file.write_all(&tar))
            .and_then(|()| fs::rename(&unfinished, &path))
            .map_err(in_file(&path))?;
        println!("    {name}: {} ({} KiB)", path.display(), tar.len() / 1024);
    }
    Ok(())
}

fn in_file<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> String {
    move |error| format!("{}: {error}", path.display())
}

/// Statically linked against glibc, whose allocator is what the benchmarks were made with.
fn build(components: &[Component]) -> Result<PathBuf, String> {
    if components.iter().any(|component| matches!(component, Component::Server)) {
        if page::has_npm() {
            page::build()?;
        } else {
            println!("npm is missing: the server is built without the page");
        }
    }
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = cargo(&["build", "--release", "--locked", "--target", &triple]);
    for component in components {
        command.args(["--package", component.name()]);
    }
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    step("static binaries", command)?;
    Ok(target().join(triple).join("release"))
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

/// Blobs by their digest.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Takes a blob in, and describes it.
    fn add(&mut self, kind: &str, bytes: Vec<u8>) -> Value {
        let (digest, size) = (sha256(&bytes), bytes.len());
        self.0.insert(digest.clone(), bytes);
        json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size})
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The OCI layout of one image, as a tar.
fn image(
    component: Component,
    name: &str,
    binary: &[u8],
    authorities: Option<&[u8]>,
) -> std::io::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    if let Some(authorities) = authorities {
        for folder in ["etc/", "etc/ssl/", "etc/ssl/certs/"] {
            append(&mut layer, folder, EntryType::Directory, 0o755, &[])?;
        }
        append(&mut layer, AUTHORITIES, EntryType::Regular, 0o644, authorities)?;
    }
    append(&mut layer, component.name(), EntryType::Regular, 0o755, binary)?;
    let layer = layer.into_inner()?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&layer)?;

    let mut blobs = Blobs::default();
    let config = config(component, &sha256(&layer));
    let layer = blobs.add("application/vnd.oci.image.layer.v1.tar+gzip", packed.finish()?);
    let config = blobs.add("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let mut manifest = blobs.add(MANIFEST, manifest.to_string().into_bytes());
    manifest["platform"] = json!({"architecture": architecture(), "os": "linux"});
    // containerd takes the whole name from the first, other tools the tag from the second.
    let tag = name.rsplit_once(':').map_or(name, |(_, tag)| tag);
    manifest["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]});

    let mut tar = Builder::new(Vec::new());
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    append(&mut tar, "oci-layout", EntryType::Regular, 0o644, layout)?;
    append(&mut tar, "index.json", EntryType::Regular, 0o644, index.to_string().as_bytes())?;
    for (digest, bytes) in &blobs.0 {
        append(&mut tar, &format!("blobs/sha256/{digest}"), EntryType::Regular, 0o644, bytes)?;
    }
    tar.into_inner()
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    }
}

fn config(component: Component, diff: &str) -> Value {
    let ports: BTreeMap<String, Value> =
        component.ports().iter().map(|port| (format!("{port}/tcp"), json!({}))).collect();
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": USER,
            "Entrypoint": [format!("/{}", component.name())],
            "WorkingDir": "/",
            "ExposedPorts": ports,
            "Labels": {
                "org.opencontainers.image.title": component.title(),
                "org.opencontainers.image.version": VERSION,
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
                "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff}")]},
    })
}

/// Owners and times are 0, so that the bytes depend on the content alone.
fn append(
    tar: &mut Builder<Vec<u8>>,
    path: &str,
    kind: EntryType,
    mode: u32,
    bytes: &[u8],
) -> std::io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn files(tar: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            (path, (entry.header().mode().unwrap(), bytes))
        });
        entries.collect()
    }

    /// The blob of a descriptor, which must have the size and digest that the descriptor says.
    fn blob(files: &BTreeMap<String, (u32, Vec<u8>)>, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let (_, bytes) = &files[&format!("blobs/sha256/{digest}")];
        assert_eq!(sha256(bytes), digest);
        assert_eq!(descriptor["size"], bytes.len());
        bytes.clone()
    }

    fn json_blob(files: &BTreeMap<String, (u32, Vec<u8>)>, descriptor: &Value) -> Value {
        serde_json::from_slice(&blob(files, descriptor)).unwrap()
    }

    #[test]
    fn the_tar_is_an_oci_layout_whose_parts_lead_to_each_other() {
        let tar = image(Component::Server, "localhost:5000/danmu-server:1", b"binary", Some(b"certificates"))
            .unwrap();
        let files = files(&tar);
        assert_eq!(files["oci-layout"].1, br#"{"imageLayoutVersion":"1.0.0"}"#);
        let index: Value = serde_json::from_slice(&files["index.json"].1).unwrap();
        let entry = &index["manifests"][0];
        assert_eq!(entry["annotations"]["io.containerd.image.name"], "localhost:5000/danmu-server:1");
        assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "1");
        let manifest = json_blob(&files, entry);
        let config = json_blob(&files, &manifest["config"]);
        let mut layer = Vec::new();
        GzDecoder::new(&blob(&files, &manifest["layers"][0])[..]).read_to_end(&mut layer).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{}", sha256(&layer))]));
        assert_eq!(files.len(), 2 + 3, "no blob that nothing leads to");
        let inside = self::files(&layer);
        assert_eq!(inside["danmu-server"], (0o755, b"binary".to_vec()));
        assert_eq!(inside[AUTHORITIES], (0o644, b"certificates".to_vec()));
    }

    #[test]
    fn the_program_runs_as_nobody_and_is_labelled() {
        for (component, ports) in [
            (Component::Server, json!({"8080/tcp": {}, "9090/tcp": {}})),
            (Component::Operator, json!({"8081/tcp": {}})),
        ] {
            let config = &config(component, "0")["config"];
            assert_eq!(config["User"], "65532:65532");
            assert_eq!(config["Entrypoint"], json!([format!("/{}", component.name())]));
            assert_eq!(config["ExposedPorts"], ports);
            assert_eq!(config["Labels"]["org.opencontainers.image.version"], VERSION);
            assert_eq!(config["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0");
        }
    }

    #[test]
    fn the_same_binary_gives_the_same_bytes() {
        let make = || image(Component::Operator, "localhost/danmu-operator:1", b"binary", None).unwrap();
        assert_eq!(make(), make());
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
}
