//! `danmu-server`: serve, check, or mint a token.

use std::{process::ExitCode, time::Duration, time::Instant};

use clap::{Parser, Subcommand};
use danmu_server::{
    admin,
    catalog::{self, Catalog},
    config::{Config, Flags},
    edge::{
        pages,
        session::unix_now,
        token::{self, Claims},
    },
    serve,
};
use danmu_wire::Role;
use tokio::signal::unix::{SignalKind, signal};

/// EX_USAGE of sysexits.h: the command was told something that cannot be.
const USAGE: u8 = 64;

#[derive(Parser)]
#[command(name = "danmu-server", version, about = "Danmu's room server: viewers in, danmu out")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Option<Flags>,
}

#[derive(Subcommand)]
enum Command {
    /// Check flags and manifests, and say everything that is wrong
    Check {
        #[command(flatten)]
        flags: Box<Flags>,
    },
    /// Print the OpenAPI document of the admin API
    Openapi,
    /// Print a token for trials
    Token {
        /// The HS256 secret that the server has as --token-secret
        #[arg(long, env = "DANMU_TOKEN_SECRET", hide_env_values = true)]
        secret: String,
        /// Who: the `sub` claim
        #[arg(long)]
        user: String,
        /// The name to show
        #[arg(long)]
        name: Option<String>,
        /// viewer, speaker, moderator or publisher
        #[arg(long, default_value = "speaker", value_parser = role)]
        role: Role,
        /// Only these rooms
        #[arg(long = "room")]
        rooms: Vec<String>,
        /// How long it holds
        #[arg(long, default_value_t = 3600)]
        seconds: u64,
        /// The `aud` claim, for a server with --token-audience
        #[arg(long, env = "DANMU_TOKEN_AUDIENCE")]
        audience: Option<String>,
        /// The `iss` claim, for a server with --token-issuer
        #[arg(long, env = "DANMU_TOKEN_ISSUER")]
        issuer: Option<String>,
    },
}

fn role(text: &str) -> Result<Role, String> {
    serde_json::from_value(text.into()).map_err(|_| "one of viewer, speaker, moderator, publisher".to_owned())
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match (cli.command, cli.flags) {
        (Some(Command::Token { secret, user, name, role, rooms, seconds, audience, issuer }), _) => {
            let rooms = (!rooms.is_empty()).then_some(rooms);
            let claims = Claims { sub: user, name, role, rooms, exp: unix_now().saturating_add(seconds) };
            match token::mint_for(secret.as_bytes(), &claims, audience.as_deref(), issuer.as_deref()) {
                Ok(token) => println!("{token}"),
                Err(error) => return fail(&[format!("token: {error}")]),
            }
            ExitCode::SUCCESS
        }
        (Some(Command::Openapi), _) => {
            print!("{}", admin::document());
            ExitCode::SUCCESS
        }
        (Some(Command::Check { flags }), _) => match checked(&flags) {
            Ok((_, catalog)) => {
                println!("all is well: {} rooms", catalog.rooms.len());
                ExitCode::SUCCESS
            }
            Err(faults) => fail(&faults),
        },
        (None, Some(flags)) => match checked(&flags) {
            Ok((config, catalog)) => run(&flags, config, catalog),
            Err(faults) => fail(&faults),
        },
        (None, None) => fail(&["--rooms DIR is missing: a folder with DanmuRoom manifests".to_owned()]),
    }
}

/// Flags and manifests, every fault at once.
fn checked(flags: &Flags) -> Result<(Config, Catalog), Vec<String>> {
    let catalog = flags.rooms.as_deref().map_or_else(|| Ok(Catalog::default()), catalog::load);
    match (flags.check(), catalog) {
        (Ok(config), Ok(catalog)) if catalog.fleet.hooks.is_some() && config.hooks.secret.is_none() => {
            Err(vec![
                "--hook-secret is missing: the DanmuFleet has spec.hooks, and their requests are signed"
                    .to_owned(),
            ])
        }
        (Ok(config), Ok(catalog)) => Ok((config, catalog)),
        (config, catalog) => {
            let mut faults = config.err().unwrap_or_default();
            faults.extend(catalog.err().unwrap_or_default());
            Err(faults)
        }
    }
}

fn fail(faults: &[String]) -> ExitCode {
    for fault in faults {
        eprintln!("danmu-server: {fault}");
    }
    ExitCode::from(USAGE)
}

fn run(flags: &Flags, config: Config, catalog: Catalog) -> ExitCode {
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("DANMU_LOG").unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    if !pages::is_built() {
        tracing::warn!("built without the page: build server/web with npm first");
    }
    // The runtime accepts, upgrades and administers; viewers live on the rows' own threads.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = runtime.and_then(|runtime| runtime.block_on(serve_until_signal(flags, config, catalog)));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("danmu-server: cannot serve on {} and {}: {error}", flags.public, flags.admin);
            ExitCode::FAILURE
        }
    }
}

async fn serve_until_signal(flags: &Flags, config: Config, catalog: Catalog) -> std::io::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = serve::start(flags, config, catalog).await?;
    println!("danmu-server: viewers on http://{}, admin on http://{}", server.public, server.admin);
    let told = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    let seconds = server.drain.seconds();
    tracing::info!(signal = told, seconds, "draining before the end");
    server.drain.start(Duration::from_secs(seconds), Instant::now());
    let mut code = ExitCode::SUCCESS;
    let again = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        eprintln!("danmu-server: second signal: ending at once");
        code = ExitCode::from(130);
    };
    server.finish(again).await;
    Ok(code)
}
