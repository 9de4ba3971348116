//! Running other programs: each step is named before it runs and timed after.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process_group};

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
pub(crate) fn step(name: &str, command: Command) -> Result<(), String> {
    let done = timed(name, command, status);
    if interrupted() { Err(format!("{name}: interrupted")) } else { done }
}

/// A step that tidies up, and so is taken after an interrupt too. A second one must not reach it.
pub(crate) fn tidy_up(name: &str, command: Command) -> Result<(), String> {
    timed(name, command, |command| command.process_group(0).status())
}

fn timed(
    name: &str,
    mut command: Command,
    status: impl Fn(&mut Command) -> std::io::Result<ExitStatus>,
) -> Result<(), String> {
    println!("==> {name}");
    let started = Instant::now();
    let status = status(&mut command).map_err(|error| {
        format!("{name}: {} cannot be run: {error}", command.get_program().to_string_lossy())
    })?;
    if !status.success() {
        return Err(format!("{name}: failed ({status})"));
    }
    println!("    {name}: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// What an interrupt ends; see `tidy_up_after_interrupts`.
#[derive(Default)]
struct Running {
    interrupted: bool,
    group: Option<Pid>,
}

static RUNNING: OnceLock<Mutex<Running>> = OnceLock::new();

/// From now on Ctrl-C and SIGTERM end the step that runs, and those that follow fail, but we ourselves go on: for
/// tasks that have to take down what they brought up.
pub(crate) fn tidy_up_after_interrupts() -> Result<(), String> {
    if RUNNING.get().is_some() {
        return Ok(());
    }
    let running = RUNNING.get_or_init(Mutex::default);
    ctrlc::set_handler(|| {
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        running.interrupted = true;
        if let Some(group) = running.group {
            // It may just have ended by itself.
            let _ = kill_process_group(group, Signal::TERM);
        }
    })
    .map_err(|error| format!("signals cannot be handled: {error}"))
}

/// Whether Ctrl-C or SIGTERM came.
pub(crate) fn interrupted() -> bool {
    RUNNING.get().is_some_and(|running| running.lock().unwrap_or_else(PoisonError::into_inner).interrupted)
}

/// As `Command::status`, but an interrupt ends it with all its children.
fn status(command: &mut Command) -> std::io::Result<ExitStatus> {
    let Some(running) = RUNNING.get() else { return command.status() };
    let lock = || running.lock().unwrap_or_else(PoisonError::into_inner);
    let mut child = {
        let mut running = lock();
        if running.interrupted {
            return Err(std::io::Error::other("we were interrupted"));
        }
        // A group of its own: the terminal's Ctrl-C comes to us alone, and we pass it on.
        let child = command.process_group(0).spawn()?;
        running.group = Pid::from_raw(child.id().cast_signed());
        child
    };
    let status = child.wait();
    lock().group = None;
    status
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
