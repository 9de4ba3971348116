//! The viewer page: its npm build, its tests, and the test in a real browser.

use std::path::PathBuf;

use crate::{
    commands::{apt_get_install, cargo, exists, program, root, step},
    server::{Server, examples},
};

const FOLDER: &str = "server/web";

/// Whether npm is there.
pub(crate) fn has_npm() -> bool {
    exists("npm")
}

/// Installs the pinned packages and builds the page into `server/web/dist`.
pub(crate) fn build() -> Result<(), String> {
    step("page packages", program("npm", &["ci", "--no-audit", "--no-fund"], FOLDER))?;
    step("page build", program("npm", &["run", "build"], FOLDER))
}

/// Types and unit tests.
pub(crate) fn test() -> Result<(), String> {
    step("page types", program("npm", &["run", "check"], FOLDER))?;
    step("page tests", program("npm", &["test"], FOLDER))
}

/// Pages in headless Chromium against real servers.
pub(crate) fn test_in_browser() -> Result<(), String> {
    let chromium = chromium()?;
    step("server build", cargo(&["build", "--workspace", "--bins"]))?;
    let start = || Server::start("debug", &examples(), &["--admin-token", TOKEN, "--token-secret", SECRET]);
    // A page moves from the first to the second when the first is drained.
    let (server, next) = (start()?, start()?);
    let tokens = [server.token(SECRET, "ann", "speaker")?, server.token(SECRET, "bob", "speaker")?];
    let moderator = server.token(SECRET, "mo", "moderator")?;
    let screenshots = root().join("target/screenshots");
    let mut test = program("node", &["e2e/page.mjs"], FOLDER);
    test.env("CHROMIUM", chromium)
        .args(["--base", &server.public, "--admin", &server.admin, "--admin-token", TOKEN])
        .args(["--next-base", &next.public, "--next-admin", &next.admin])
        .args(["--token-a", &tokens[0], "--token-b", &tokens[1], "--token-moderator", &moderator])
        .arg("--screenshots")
        .arg(screenshots);
    let tested = step("page in Chromium", test);
    // All three, whichever failed: a server that does not stop must not hide what the page did.
    let stopped = (server.stop(), next.stop());
    tested.and(stopped.0).and(stopped.1)
}

const TOKEN: &str = "admin token of the page test";
const SECRET: &str = "token secret of the page test, 32 bytes and more";

/// The path of Chromium: from `CHROMIUM`, the search path, or Debian's package.
fn chromium() -> Result<PathBuf, String> {
    if let Some(found) = std::env::var_os("CHROMIUM").map(PathBuf::from).or_else(on_path) {
        return Ok(found);
    }
    apt_get_install(&["chromium"]).map_err(|fault| format!("{fault}, or set CHROMIUM to its path"))?;
    on_path().ok_or_else(|| {
        "Chromium was installed, but is not on the search path: set CHROMIUM to its path".into()
    })
}

fn on_path() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .flat_map(|folder| ["chromium", "chromium-browser"].map(|name| folder.join(name)))
        .find(|file| file.is_file())
}
