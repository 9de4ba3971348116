//! An OCI image made of files: a layout in one tar, which `ctr images import` and `skopeo copy oci-archive:…` take.
//! The same files give the same bytes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What is to be in an image.
pub(crate) struct Image {
    /// With its tag.
    name: String,
    /// How it is run, as the specification has it: `Entrypoint`, `User`, …
    config: Value,
    /// By path; folders above them are made.
    files: BTreeMap<String, Entry>,
}

struct Entry {
    kind: EntryType,
    mode: u32,
    bytes: Vec<u8>,
}

impl Image {
    pub(crate) fn new(name: &str, config: Value) -> Image {
        Image { name: name.to_owned(), config, files: BTreeMap::new() }
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) {
        self.add(path, Entry { kind: EntryType::Regular, mode, bytes });
    }

    pub(crate) fn folder(&mut self, path: &str, mode: u32) {
        self.add(path, Entry { kind: EntryType::Directory, mode, bytes: Vec::new() });
    }

    fn add(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            let folder = Entry { kind: EntryType::Directory, mode: 0o755, bytes: Vec::new() };
            self.files.entry(format!("{}/", &path[..at])).or_insert(folder);
        }
        let slash = if entry.kind == EntryType::Directory { "/" } else { "" };
        self.files.insert(format!("{path}{slash}"), entry);
    }

    /// Writes it whole or not at all: what imports it may be watching. The same image is not written again, so
    /// that the file's time tells of changes.
    pub(crate) fn write(&self, path: &Path) -> io::Result<u64> {
        let tar = self.tar()?;
        if fs::read(path).is_ok_and(|there| there == tar) {
            return Ok(tar.len() as u64);
        }
        let unfinished = path.with_extension("tmp");
        File::create(&unfinished)?.write_all(&tar)?;
        fs::rename(&unfinished, path)?;
        Ok(tar.len() as u64)
    }

    /// The layout, as a tar.
    pub(super) fn tar(&self) -> io::Result<Vec<u8>> {
        let mut layer = Builder::new(Vec::new());
        for (path, entry) in &self.files {
            append(&mut layer, path, entry)?;
        }
        let layer = layer.into_inner()?;
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&layer)?;

        let mut blobs = Blobs::default();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))]},
        });
        drop(layer);
        let layer = blobs.add("application/vnd.oci.image.layer.v1.tar+gzip", packed.finish()?);
        let config = blobs.add("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let mut manifest = blobs.add(MANIFEST, manifest.to_string().into_bytes());
        manifest["platform"] = json!({"architecture": architecture(), "os": "linux"});
        // containerd takes the whole name from the first, other tools the tag from the second.
        let tag = self.name.rsplit_once(':').map_or(&self.name[..], |(_, tag)| tag);
        manifest["annotations"] =
            json!({"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": tag});
        blobs.layout(&manifest)
    }
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

    fn layout(self, manifest: &Value) -> io::Result<Vec<u8>> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [manifest],
        });
        let file = |bytes| Entry { kind: EntryType::Regular, mode: 0o644, bytes };
        let mut tar = Builder::new(Vec::new());
        append(&mut tar, "oci-layout", &file(br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()))?;
        append(&mut tar, "index.json", &file(index.to_string().into_bytes()))?;
        for (digest, bytes) in self.0 {
            append(&mut tar, &format!("blobs/sha256/{digest}"), &file(bytes))?;
        }
        tar.into_inner()
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    }
}

/// Owners and times are 0, so that the bytes depend on the content alone.
fn append(tar: &mut Builder<Vec<u8>>, path: &str, entry: &Entry) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(entry.kind);
    header.set_mode(entry.mode);
    header.set_size(entry.bytes.len() as u64);
    tar.append_data(&mut header, path, &entry.bytes[..])
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

    fn example() -> Image {
        let mut image = Image::new("localhost:5000/example:1", json!({"User": "65532:65532"}));
        image.file("/usr/bin/program", 0o755, b"binary".to_vec());
        image.folder("/tmp", 0o1777);
        image
    }

    #[test]
    fn the_tar_is_an_oci_layout_whose_parts_lead_to_each_other() {
        let files = files(&example().tar().unwrap());
        assert_eq!(files["oci-layout"].1, br#"{"imageLayoutVersion":"1.0.0"}"#);
        let index: Value = serde_json::from_slice(&files["index.json"].1).unwrap();
        let entry = &index["manifests"][0];
        assert_eq!(entry["annotations"]["io.containerd.image.name"], "localhost:5000/example:1");
        assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "1");
        let manifest = json_blob(&files, entry);
        let config = json_blob(&files, &manifest["config"]);
        assert_eq!(config["config"]["User"], "65532:65532");
        let mut layer = Vec::new();
        GzDecoder::new(&blob(&files, &manifest["layers"][0])[..]).read_to_end(&mut layer).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{}", sha256(&layer))]));
        assert_eq!(files.len(), 2 + 3, "no blob that nothing leads to");
        let inside = self::files(&layer);
        assert_eq!(inside["usr/bin/program"], (0o755, b"binary".to_vec()));
        assert_eq!(inside["tmp/"].0, 0o1777);
        assert_eq!(inside["usr/"].0, 0o755, "the folders above");
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        assert_eq!(example().tar().unwrap(), example().tar().unwrap());
    }
}
