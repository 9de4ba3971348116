//! `danmu-operator`: the commands, and their flags.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use danmu_crds::{DanmuFleet, DanmuRoom};
use danmu_operator::{OPERATOR, Options, Settings};
use kube::CustomResourceExt;
use tracing_subscriber::EnvFilter;

/// EX_USAGE of sysexits.h: the command was told something that cannot be.
const USAGE: u8 = 64;

#[derive(Parser)]
#[command(
    name = "danmu-operator",
    version,
    about = "Danmu's operator: fleets and rooms in, pods and routes out"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run in a cluster
    Run(Box<Flags>),
    /// Print the CustomResourceDefinitions
    Crds,
    /// Explain what would be done about a saved observation
    Plan {
        /// The observation, as JSON; `-` is standard input
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Print the whole plan as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Flags {
    /// The namespace of the operator's own lease
    #[arg(long, env = "POD_NAMESPACE", default_value = "default", value_name = "NAME")]
    namespace: String,
    /// Who holds the lease: the pod's name
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    identity: Option<String>,
    /// Only this namespace's fleets; none: the whole cluster's
    #[arg(long, env = "DANMU_WATCH_NAMESPACE", value_name = "NAME")]
    watch_namespace: Option<String>,
    /// The room servers' image, for fleets that name none
    #[arg(long, env = "DANMU_SERVER_IMAGE", value_name = "IMAGE")]
    server_image: Option<String>,
    /// A ClusterRole for the room servers, bound in each fleet's namespace; they read their rooms with it
    #[arg(long, env = "DANMU_SERVER_ROLE", value_name = "NAME")]
    server_role: Option<String>,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "DANMU_HEALTH", default_value = "[::]:8081", value_name = "ADDR")]
    health: SocketAddr,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let done = match cli.command {
        Command::Run(flags) => return run(*flags),
        Command::Crds => crds(),
        Command::Plan { from, json } => danmu_operator::explain(&from, json),
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("danmu-operator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn crds() -> Result<String, String> {
    let definitions = [DanmuRoom::crd(), DanmuFleet::crd()];
    let documents = definitions.iter().map(serde_saphyr::to_string);
    let documents: Result<Vec<String>, _> = documents.collect();
    documents.map(|documents| documents.join("---\n")).map_err(|error| error.to_string())
}

fn run(flags: Flags) -> ExitCode {
    let filter = EnvFilter::try_from_env("DANMU_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("danmu-operator: no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let options = Options {
        settings: Settings { server_image: flags.server_image, server_role: flags.server_role },
        identity: flags.identity.unwrap_or_else(|| format!("{}-{:08x}", OPERATOR, rand::random::<u32>())),
        namespace: flags.namespace,
        watched: flags.watch_namespace,
        health: flags.health,
    };
    match runtime.block_on(danmu_operator::run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("danmu-operator: {error}");
            ExitCode::FAILURE
        }
    }
}
