//! Tasks of the repository: `cargo xtask --help` tells them.

mod bench;
mod commands;
mod crds;
mod page;
mod server;
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
    /// Format, lints, docs, unit, property and integration tests, the page in a browser, licences.
    Test,
    /// Measure the server beside the floor, in a network namespace of its own: some 15 minutes.
    Bench(bench::Arguments),
    /// Write the CustomResourceDefinitions in crds/ from the Rust types.
    Crds {
        /// Write nothing; fail if a file differs from the types.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Up { port } => up::run(port),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Test => test::run(),
        Task::Crds { check } => crds::run(crds::folder(), check).map_err(|fault| fault.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}
