//! Running other programs: each step is named before it runs and timed after.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// A program to run in a folder of the repository.
pub(crate) fn program(name: impl AsRef<OsStr>, arguments: &[&str], folder: &str) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(root().join(folder)).stdin(Stdio::null());
    command
}

/// Cargo, the one that runs us.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments, ".")
}

/// Runs a named step.
pub(crate) fn step(name: &str, mut command: Command) -> Result<(), String> {
    println!("==> {name}");
    let started = Instant::now();
    let status = command.status().map_err(|error| {
        format!("{name}: {} cannot be run: {error}", command.get_program().to_string_lossy())
    })?;
    if !status.success() {
        return Err(format!("{name}: failed ({status})"));
    }
    println!("    {name}: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Whether a program answers `--version`.
pub(crate) fn exists(name: impl AsRef<OsStr>) -> bool {
    Command::new(name)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Installs packages of Debian, where there is apt-get; elsewhere says what is missing.
pub(crate) fn apt_get_install(packages: &[&str]) -> Result<(), String> {
    let names = packages.join(" ");
    if !exists("apt-get") {
        return Err(format!("missing here: {names}; install it (these are its names in Debian)"));
    }
    let apt = |arguments: &[&str]| {
        let mut command = program("apt-get", arguments, ".");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let missing = |fault: String| format!("{fault}; missing here: {names}: install it, or run this as root");
    step("apt-get update", apt(&["update", "-qq"])).map_err(missing)?;
    let mut install = apt(&["install", "-y", "-qq"]);
    install.args(packages);
    step(&format!("apt-get install {names}"), install).map_err(missing)
}
