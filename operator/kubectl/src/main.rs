//! `kubectl danmu`: who watches where, and why. Needs nothing but the kubeconfig: servers are asked through the
//! API's port-forward, with the admin token of the fleet's Secret.

mod cluster;
mod servers;
mod table;
mod tail;
mod top;
mod why;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use danmu_client::Publish;

use cluster::Cluster;

/// EX_USAGE of sysexits.h.
const USAGE: u8 = 64;

#[derive(Parser)]
#[command(
    name = "kubectl-danmu",
    bin_name = "kubectl danmu",
    version,
    about = "Danmu's rooms and servers in a cluster"
)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Where to look, as for kubectl itself.
#[derive(Args)]
struct Place {
    /// The namespace; none: the context's
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,
    /// The context of the kubeconfig; none: the current one
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// The fleet; none: the namespace's only one
    #[arg(long, global = true, value_name = "NAME")]
    fleet: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Pods and rooms by viewers, over and over
    Top {
        /// Print once
        #[arg(long)]
        once: bool,
        /// Print once, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Why a room is where it is, and what the fleet does
    Why {
        /// The room
        room: String,
    },
    /// What is said in a room, a line each, until Ctrl-C
    Tail {
        /// The room
        room: String,
        /// The servers' address, instead of a port-forward
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// A viewer's token, for rooms that nobody may watch without
        #[arg(long, env = "DANMU_TOKEN", hide_env_values = true, value_name = "TOKEN")]
        token: Option<String>,
    },
    /// Say something in a room: a notice, that everybody sees
    Say {
        /// The room
        room: String,
        /// The text
        text: String,
        /// As a chat instead
        #[arg(long)]
        chat: bool,
        /// The name that a chat shows
        #[arg(long, requires = "chat", value_name = "NAME")]
        name: Option<String>,
    },
    /// Move all viewers of a pod to others; it stays empty until it is taken back
    Drain {
        /// The pod
        pod: String,
        /// Take the drain back
        #[arg(long)]
        undo: bool,
        /// How long viewers have; none: as the fleet says
        #[arg(long, conflicts_with = "undo", value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: Option<u64>,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime
        .map_err(|error| format!("no threads: {error}"))
        .and_then(|runtime| runtime.block_on(run(cli)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kubectl danmu: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), String> {
    let Place { namespace, context, fleet } = cli.place;
    if let Command::Tail { room, url: Some(url), token } = cli.command {
        return tail::tail(&url, &room, token).await;
    }
    let cluster = Cluster::connect(namespace, context, fleet).await?;
    match cli.command {
        Command::Top { once, json } => top::top(&cluster, once, json).await,
        Command::Why { room } => why::why(&cluster, &room).await,
        Command::Tail { room, token, .. } => tail::through(&cluster, &room, token).await,
        Command::Say { room, text, chat, name } => {
            let message = if chat { Publish::Chat { text, user: None, name } } else { Publish::notice(text) };
            let published = cluster.any_server().await?.publish(&room, &message).await;
            let published = published.map_err(|fault| format!("{room}: {fault}"))?;
            println!("published {}", published.id);
            Ok(())
        }
        Command::Drain { pod, undo, seconds } => {
            let server = cluster.server(&pod).await?;
            if undo {
                server.undrain().await.map_err(|fault| format!("{pod}: {fault}"))?;
                println!("pod/{pod} drains no more");
                return Ok(());
            }
            let left = server.drain(seconds).await.map_err(|fault| format!("{pod}: {fault}"))?;
            println!("pod/{pod} drains; viewers have {left} s");
            println!(
                "take it back with: kubectl danmu drain {pod} --undo (the operator takes it back too, when it needs the pod)"
            );
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_may_stand_anywhere_and_contradictions_are_refused() {
        let cli = |line: &str| Cli::try_parse_from(line.split(' '));
        let drain = cli("kubectl-danmu drain danmu-default-0 -n live --fleet big --seconds 30").unwrap();
        assert_eq!(
            (drain.place.namespace.as_deref(), drain.place.fleet.as_deref()),
            (Some("live"), Some("big"))
        );
        assert!(cli("kubectl-danmu --context there top --once").is_ok());
        for bad in
            ["drain", "drain p --undo --seconds 3", "drain p --seconds 0", "say r", "say r t --name x", "why"]
        {
            assert!(cli(&format!("kubectl-danmu {bad}")).is_err(), "{bad}");
        }
    }
}
