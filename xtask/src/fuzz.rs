//! The fuzz targets of `server/wire/fuzz`, built with libFuzzer's instrumentation by the pinned
//! stable toolchain: neither nightly nor cargo-fuzz is needed.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    commands::{apt_get_install, cargo, exists, root, step},
    server::target,
};

const FOLDER: &str = "server/wire/fuzz";

/// What cargo-fuzz passes for `--sanitizer none`: our code has no `unsafe` for a sanitizer to watch.
/// Line breaks separate flags in `CARGO_ENCODED_RUSTFLAGS` here, and become its 0x1f.
const FLAGS: &str = "--cfg=fuzzing\n-Ccodegen-units=1\n-Cpasses=sancov-module\n\
    -Cllvm-args=-sanitizer-coverage-level=4\n-Cllvm-args=-sanitizer-coverage-inline-8bit-counters\n\
    -Cllvm-args=-sanitizer-coverage-pc-table\n-Cllvm-args=-sanitizer-coverage-trace-compares";

/// Longest input tried: a message is at most 4 KiB, and short inputs find more in the same time.
const LONGEST: &str = "-max_len=4096";

/// Runs one target, or all, for so many seconds each.
pub(crate) fn run(seconds: u32, only: Option<&str>) -> Result<(), String> {
    let targets = targets()?;
    if let Some(only) = only
        && !targets.iter().any(|target| target == only)
    {
        return Err(format!("there is no fuzz target `{only}`: {}", targets.join(", ")));
    }
    if !exists("c++") {
        // libFuzzer itself is C++.
        apt_get_install(&["g++"])?;
    }
    let host = host()?;
    let built = target().join("fuzz");
    let mut build = cargo(&["build", "--release", "--locked", "--bins", "--target", &host]);
    build
        .args(["--manifest-path", &format!("{FOLDER}/Cargo.toml"), "--target-dir"])
        .arg(&built)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.replace('\n', "\u{1f}"));
    step("fuzz targets", build)?;
    for target in targets.iter().filter(|target| only.is_none_or(|only| only == *target)) {
        let binary = built.join(&host).join("release").join(target);
        fuzz(target, Command::new(binary), seconds)?;
    }
    Ok(())
}

/// What is found new goes to `corpus/`, which is not committed; `seeds/` is, and stays as it is.
fn fuzz(target: &str, mut command: Command, seconds: u32) -> Result<(), String> {
    let folder = root().join(FOLDER);
    let folders = ["corpus", "artifacts", "seeds"].map(|kind| folder.join(kind).join(target));
    for folder in &folders {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let [corpus, artifacts, seeds] = folders;
    command
        .args([corpus, seeds])
        .args([LONGEST, "-timeout=5", "-print_final_stats=1"])
        .args([format!("-max_total_time={seconds}"), format!("-artifact_prefix={}/", artifacts.display())]);
    println!("==> fuzz {target}, {seconds} s");
    let output = command.output().map_err(|error| format!("fuzz {target}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!(
            "{said}\nfuzz {target}: failed; the input is in {}; make it a test before you mend the fault",
            artifacts.display()
        ));
    }
    let runs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    println!("    fuzz {target}: {} inputs, no fault", runs.unwrap_or("?").trim());
    Ok(())
}

/// The names of the files in `fuzz_targets`.
fn targets() -> Result<Vec<String>, String> {
    let folder = root().join(FOLDER).join("fuzz_targets");
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut targets: Vec<String> = entries
        .filter_map(|entry| PathBuf::from(entry.ok()?.file_name()).file_stem()?.to_str().map(str::to_owned))
        .collect();
    targets.sort();
    Ok(targets)
}

/// The host's triple. Naming it as the target keeps build scripts and macros free of instrumentation.
fn host() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|error| format!("rustc -vV: {error}"))?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .ok_or_else(|| "rustc -vV names no host".to_owned())
}
