//! Tasks of the repository: `cargo xtask --help` tells them.

mod autobahn;
mod bench;
mod charts;
mod commands;
mod crds;
mod demo;
mod e2e;
mod fuzz;
mod go;
mod image;
mod openapi;
mod page;
mod sdk;
mod server;
mod soak;
mod test;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Danmu repository")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything and run the server on examples/, with a bot that chats.
    Up {
        /// The page's port.
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Format, lints, docs, unit, property and integration tests, Autobahn's cases, a little fuzzing,
    /// the checker, the page in a browser, licences, and e2e.
    Test {
        /// Without e2e, which needs a cluster.
        #[arg(long)]
        fast: bool,
    },
    /// Walk through what a room can do, step by step: gifts, moderation, replays, shedding, keys.
    Demo(demo::Arguments),
    /// The built page in a real browser, against real servers.
    Page,
    /// Autobahn's WebSocket cases against the rows engine, compared with server/tests/autobahn.
    Autobahn,
    /// The fuzz targets of server/wire/fuzz.
    Fuzz {
        /// Only this one.
        target: Option<String>,
        /// How long each target runs.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Measure the server beside the floor, or several on one Redis, in a network namespace of its own:
    /// some 15 minutes.
    Bench(bench::Arguments),
    /// Check a fleet like a database: real servers and a real Redis, and a nemesis that breaks them.
    Soak {
        /// How long things are broken.
        #[arg(long, default_value_t = 1.0)]
        minutes: f64,
        /// The same seed draws the same schedule; without it a new one, which is printed.
        #[arg(long)]
        seed: Option<u64>,
        /// A Redis cluster whose slots move, instead of a primary and its replica.
        #[arg(long)]
        cluster: bool,
        /// Servers that do not recover after a cut: has to find violations.
        #[arg(long, conflicts_with = "cluster")]
        no_recovery: bool,
    },
    /// Write the CustomResourceDefinitions in crds/ and in the chart danmu-crds from the Rust types.
    Crds {
        /// Write nothing; fail if a file differs from the types.
        #[arg(long)]
        check: bool,
    },
    /// Lint the charts, render them with each of charts/danmu/ci and check what comes out; needs Go.
    Charts,
    /// Tests on a real cluster with a real gateway, which come up first and are taken down after.
    E2e(e2e::Arguments),
    /// Build the images of server and operator as OCI tarballs, without Docker.
    Image(image::Arguments),
    /// Write server/openapi.json, the admin API's document, from the server's code.
    Openapi {
        /// Write nothing; fail if the file differs from the code.
        #[arg(long)]
        check: bool,
    },
    /// Write the protocol's table of the TypeScript SDK from danmu-wire.
    Sdk {
        /// Write nothing; fail if the file differs from the types.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Up { port } => up::run(port),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Test { fast } => test::run(fast),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Page => page::test_in_browser(),
        Task::Autobahn => autobahn::run(),
        Task::Fuzz { target, seconds } => fuzz::run(seconds, target.as_deref()),
        Task::Soak { minutes, seed, cluster, no_recovery } => soak::run(minutes, seed, cluster, no_recovery),
        Task::Crds { check } => crds::run(&commands::root(), check),
        Task::Charts => charts::run(),
        Task::E2e(arguments) => e2e::run(&arguments),
        Task::Image(arguments) => image::run(&arguments),
        Task::Openapi { check } => openapi::run(check),
        Task::Sdk { check } => sdk::run(check),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}
