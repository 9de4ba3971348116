//! The CustomResourceDefinitions as files, for `kubectl apply` and for review.

use std::fs;
use std::path::Path;

use danmu_crds::{DanmuFleet, DanmuRoom};
use kube::CustomResourceExt;

/// The folder the files are kept in.
pub(crate) fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../crds"))
}

/// Writes the definitions to `folder`, or with `check` only compares them with what is there.
pub(crate) fn run(folder: &Path, check: bool) -> Result<(), String> {
    let definitions = [("danmurooms.yaml", DanmuRoom::crd()), ("danmufleets.yaml", DanmuFleet::crd())];
    for (name, definition) in definitions {
        let path = folder.join(name);
        let yaml =
            serde_saphyr::to_string(&definition).map_err(|e| format!("{name}: cannot be made: {e}"))?;
        let text =
            format!("# Written by `cargo xtask crds` from the types in crds/src; do not edit.\n{yaml}");
        if !check {
            fs::write(&path, text).map_err(|e| format!("{}: cannot be written: {e}", path.display()))?;
        } else if fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            return Err(format!("{}: differs from the types; run `cargo xtask crds`", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_in_the_repository_are_those_of_the_types() {
        run(folder(), true).unwrap();
    }

    #[test]
    fn the_check_fails_on_a_file_that_is_missing_or_edited() {
        let dir = tempfile::tempdir().unwrap();
        assert!(run(dir.path(), true).unwrap_err().contains("run `cargo xtask crds`"));
        run(dir.path(), false).unwrap();
        run(dir.path(), true).unwrap();
        fs::write(dir.path().join("danmufleets.yaml"), "edited").unwrap();
        assert!(run(dir.path(), true).unwrap_err().contains("danmufleets.yaml"));
    }

    #[test]
    fn the_written_yaml_reads_back_as_the_definition() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), false).unwrap();
        let text = fs::read_to_string(dir.path().join("danmurooms.yaml")).unwrap();
        let read: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
            serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, DanmuRoom::crd());
    }
}
