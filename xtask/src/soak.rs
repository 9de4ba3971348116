//! The checker of `e2e`: Danmu checked like a database, on a real Redis.

use std::process::Command;

use crate::{
    commands::{apt_get_install, cargo, exists, program, step},
    server::target,
};

/// What `cargo xtask test` runs: a seed that draws nearly every fault. Every run takes about 16 s more, until
/// all is mended and counted.
const SHORT: [&str; 4] = ["--seconds", "24", "--seed", "26"];
/// Enough cuts for a relay that does not recover to show.
const NO_RECOVERY: [&str; 5] = ["--seconds", "10", "--seed", "1", "--no-recovery"];

/// Builds and runs the checker.
pub(crate) fn run(minutes: f64, seed: Option<u64>, cluster: bool, no_recovery: bool) -> Result<(), String> {
    build()?;
    let mut soak = soak(&["--seconds", &format!("{:.0}", (minutes * 60.0).max(1.0))]);
    soak.args(seed.iter().flat_map(|seed| ["--seed".to_owned(), seed.to_string()]));
    soak.args(cluster.then_some("--cluster"));
    soak.args(no_recovery.then_some("--no-recovery"));
    step("soak", soak)
}

/// A short run without violations, and one that must have some: a checker that cannot fail is worthless.
pub(crate) fn test() -> Result<(), String> {
    build()?;
    step("soak", soak(&SHORT))?;
    println!("==> soak of servers that do not recover, which has to fail");
    let output = soak(&NO_RECOVERY).output().map_err(|error| format!("soak: {error}"))?;
    let told = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(1) && told.contains("NoHoles") {
        println!("    found: {}", told.lines().last().unwrap_or_default());
        return Ok(());
    }
    Err(format!("the checker did not find that nothing is recovered: {}\n{told}", output.status))
}

/// Installs Redis if it is missing; the server's tests need it as well.
pub(crate) fn redis() -> Result<(), String> {
    if exists("redis-server") { Ok(()) } else { apt_get_install(&["redis-server"]) }
}

fn build() -> Result<(), String> {
    redis()?;
    step("soak build", cargo(&["build", "--package", "danmu-server", "--package", "danmu-e2e", "--bins"]))
}

fn soak(arguments: &[&str]) -> Command {
    let binary = |name: &str| target().join("debug").join(name);
    let mut command = program(binary("soak"), arguments, ".");
    command.arg("--server").arg(binary("danmu-server"));
    command
}
