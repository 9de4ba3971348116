//! The admin API's OpenAPI document as a file, for review and for makers of clients.

use std::{fs, path::Path};

use crate::commands::{cargo, root};

/// Writes the document to `server/openapi.json`, or with `check` only compares it with what is there.
/// The server prints it; linking the server here would rebuild it for each of these tasks.
pub(crate) fn run(check: bool) -> Result<(), String> {
    let output = cargo(&["run", "--quiet", "--package", "danmu-server", "--", "openapi"])
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("danmu-server openapi: {}", String::from_utf8_lossy(&output.stderr)));
    }
    keep(&root().join("server/openapi.json"), &output.stdout, check, "openapi")
}

/// Writes a generated file, or compares it; `task` is what writes it.
pub(crate) fn keep(path: &Path, document: &[u8], check: bool, task: &str) -> Result<(), String> {
    if !check {
        return fs::write(path, document)
            .map_err(|error| format!("{}: cannot be written: {error}", path.display()));
    }
    if fs::read(path).ok().as_deref() != Some(document) {
        return Err(format!("{}: differs from the code; run `cargo xtask {task}`", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_fails_on_a_file_that_is_missing_or_edited() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("openapi.json");
        assert!(keep(&path, b"{}", true, "openapi").unwrap_err().contains("run `cargo xtask openapi`"));
        keep(&path, b"{}", false, "openapi").unwrap();
        keep(&path, b"{}", true, "openapi").unwrap();
        fs::write(&path, "edited").unwrap();
        assert!(keep(&path, b"{}", true, "openapi").is_err());
    }
}
