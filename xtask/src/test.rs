//! `cargo xtask test`: all that CI and developers check, in the order in which it fails fastest.

use std::time::Instant;

use crate::{
    autobahn, charts,
    commands::{cargo, exists, program, root, step},
    crds, demo, e2e, fuzz, go, openapi, page, sdk,
    server::target,
    soak,
};

/// Pinned, so that a new release cannot turn CI red by itself.
const DENY_VERSION: &str = "0.20.2";

/// Enough to replay the seeds and to notice a parser that breaks at once; `cargo xtask fuzz` runs longer.
const FUZZ_SECONDS: u32 = 5;

pub(crate) fn run(fast: bool) -> Result<(), String> {
    let started = Instant::now();
    go::check()?;
    if !fast {
        e2e::check()?;
    }
    step("format", cargo(&["fmt", "--all", "--check"]))?;
    let fuzz_targets = ["fmt", "--manifest-path", "server/wire/fuzz/Cargo.toml", "--check"];
    step("format of the fuzz targets", cargo(&fuzz_targets))?;
    println!("==> generated CRDs");
    crds::run(&root(), true)?;
    println!("==> generated table of the TypeScript SDK");
    sdk::run(true)?;
    charts::run()?;
    if !page::has_npm() {
        return Err("npm is missing: install Node.js 20.19 or newer (the page is part of the tests)".into());
    }
    page::build()?;
    page::test()?;
    step(
        "clippy",
        cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "--deny", "warnings"]),
    )?;
    println!("==> generated OpenAPI document");
    openapi::run(true)?;
    let mut docs = cargo(&["doc", "--workspace", "--no-deps"]);
    docs.env("RUSTDOCFLAGS", "--deny warnings");
    step("docs", docs)?;
    soak::redis()?;
    step("tests", cargo(&["test", "--workspace"]))?;
    demo::test()?;
    autobahn::run()?;
    fuzz::run(FUZZ_SECONDS, None)?;
    soak::test()?;
    page::test_in_browser()?;
    deny()?;
    if !fast {
        e2e::all()?;
    }
    println!("all is well: {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Licences, bans and sources; advisories where their database can be reached.
fn deny() -> Result<(), String> {
    // The name has the version: a new one is installed beside it.
    let tools = target().join(format!("tools/cargo-deny-{DENY_VERSION}"));
    let binary = tools.join("bin/cargo-deny");
    if !exists(&binary) {
        let mut install = cargo(&["install", "cargo-deny", "--locked", "--version", DENY_VERSION, "--root"]);
        install.arg(&tools);
        step("cargo-deny", install)?;
    }
    let check = |what: &[&str]| {
        let mut command = program(&binary, &["--log-level", "error", "check"], ".");
        command.args(what);
        command
    };
    step("licences, bans, sources", check(&["licenses", "bans", "sources"]))?;
    // The advisory database is a git repository; machines without a way to it still pass, and say so.
    let reached =
        program("git", &["ls-remote", "--exit-code", "https://github.com/RustSec/advisory-db", "HEAD"], ".")
            .env("GIT_TERMINAL_PROMPT", "0")
            .output()
            .is_ok_and(|output| output.status.success());
    if reached {
        step("advisories", check(&["advisories"]))
    } else {
        println!("    advisories: skipped, their database cannot be reached from here");
        Ok(())
    }
}
