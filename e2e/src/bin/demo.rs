//! Walks through what a room can do, on a server of its own: `cargo xtask demo`.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use danmu_e2e::demo;

/// What to walk through.
#[derive(Parser)]
struct Arguments {
    /// The program danmu-server.
    #[arg(long)]
    server: PathBuf,
    /// Only this chapter.
    only: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let walked = async {
        let (stage, _server) = demo::start(&arguments.server).await?;
        demo::run(&stage, arguments.only.as_deref()).await
    };
    match walked.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
