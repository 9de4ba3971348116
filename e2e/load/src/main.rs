//! `danmu-load`: viewers by the ten thousand and an account of every delivery (`run`), and what the
//! same sends cost without any server (`floor`).

mod account;
mod clock;
mod driver;
mod floor;
mod handshake;
mod latencies;
mod payload;
mod report;
mod run;
mod schedule;
mod stamp;
mod tally;
mod viewer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Danmu's load generator.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Connect viewers, let some of them speak, and account for every delivery.
    Run(run::RunArguments),
    /// Replay a schedule of frames with a bare send(2) loop: the cost no server can go below.
    Floor(floor::FloorArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments).map_err(|error| error.to_string()),
        Command::Floor(arguments) => floor::run(&arguments).map_err(|error| error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("danmu-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Lets this process open as many sockets as the system's hard limit says.
fn raise_socket_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // When it is refused, the viewers that find no socket say so one by one.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
