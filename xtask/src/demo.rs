//! `cargo xtask demo`: a walk through what a room can do, on a server of its own, or on a fleet in a cluster.

use crate::{
    commands::{cargo, program, step},
    e2e,
    server::binary,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this chapter.
    chapter: Option<String>,
    /// On a cluster, which comes up first, as for `cargo xtask e2e`, and is taken down after.
    #[arg(long, conflicts_with = "chapter")]
    cluster: bool,
}

/// The test on the cluster that walks through the chapters.
const TEST: &str = "t12_demo";

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    if arguments.cluster {
        return e2e::run(&e2e::Arguments::only(TEST));
    }
    let build = [
        "build",
        "--package",
        "danmu-server",
        "--package",
        "danmu-e2e",
        "--bin",
        "danmu-server",
        "--bin",
        "demo",
    ];
    step("build of the server and the demo", cargo(&build))?;
    let mut demo = program(binary("debug", "demo"), &["--server"], ".");
    demo.arg(binary("debug", "danmu-server")).args(&arguments.chapter);
    step("demo", demo)
}

/// The whole walk, as a test.
pub(crate) fn test() -> Result<(), String> {
    run(&Arguments { chapter: None, cluster: false })
}
