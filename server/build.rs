//! Compiles the built page in, if it is there: the server builds without Node.js and says so.

use std::{env, fmt::Write, fs, io, path::Path};

fn main() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let pages = Path::new(&root).join("web/dist");
    println!("cargo::rerun-if-changed={}", pages.display());
    let mut files = Vec::new();
    if pages.is_dir() {
        collect(&pages, &pages, &mut files)?;
    } else {
        println!(
            "cargo::warning=server/web/dist is missing: the page is left out (cargo xtask builds it with npm)"
        );
    }
    files.sort();
    let mut table = String::from("static FILES: &[(&str, &[u8])] = &[\n");
    for (name, path) in files {
        let _ = writeln!(table, "    ({name:?}, include_bytes!({path:?})),");
    }
    table.push_str("];\n");
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("pages.rs"), table)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if let Ok(name) = path.strip_prefix(root) {
            files.push((format!("/{}", name.display()), path.display().to_string()));
        }
    }
    Ok(())
}
