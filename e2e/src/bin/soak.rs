//! Runs the checker once: prints its seed, its schedule, and what was broken. `cargo xtask soak` builds
//! what it needs and starts it.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use danmu_e2e::{
    check::{Violation, check, report},
    history::{Answer, History, What},
    run::{Plan, run},
    schedule::Nemesis,
};

/// Violations told in full.
const TOLD: usize = 5;

/// Checks a fleet like a database, on a real Redis.
#[derive(Parser)]
struct Arguments {
    /// The danmu-server to check
    #[arg(long)]
    server: PathBuf,
    /// How long things are broken; the end takes 20 s more
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Draws the schedule and all decisions; without it a new one
    #[arg(long)]
    seed: Option<u64>,
    /// A Redis cluster instead of a primary and its replica
    #[arg(long, conflicts_with = "no_recovery")]
    cluster: bool,
    /// Servers that do not recover from the log: has to end with violations
    #[arg(long)]
    no_recovery: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let nemesis = match (arguments.cluster, arguments.no_recovery) {
        (true, _) => Nemesis::Cluster,
        (_, true) => Nemesis::Links,
        _ => Nemesis::Pair,
    };
    let plan = Plan {
        server: arguments.server,
        // In the range that every reader and shell takes.
        seed: arguments.seed.unwrap_or_else(|| rand::random::<u64>() >> 32),
        nemesis,
        trouble: arguments.seconds * 1000,
        no_recovery: arguments.no_recovery,
    };
    println!("seed {}", plan.seed);
    let schedule = plan.schedule();
    let mut steps = schedule.concat();
    steps.sort_by_key(|step| step.at);
    steps.iter().for_each(|step| println!("  {step}"));
    match carry_out(&plan) {
        Ok((history, violations)) => tell(&plan, &history, &violations),
        Err(fault) => {
            eprintln!("the run broke off: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(plan: &Plan) -> Result<(History, Vec<Violation>), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let ran = runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        // Whatever ends the run, the processes it started end with it.
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        tokio::select! {
            ran = run(plan, folder.path()) => ran.map_err(|error| error.to_string()),
            _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
            _ = terminate.recv() => Err("terminated".to_owned()),
        }
    });
    let violations = ran.as_ref().map(check).unwrap_or_default();
    if (ran.is_err() || !violations.is_empty()) && !plan.no_recovery {
        println!("the servers' logs are in {}", folder.keep().display());
    }
    Ok((ran?, violations))
}

fn tell(plan: &Plan, history: &History, violations: &[Violation]) -> ExitCode {
    print!("{}", report(history, violations, TOLD));
    let seen = || history.connections.iter().flat_map(|connection| &connection.seen);
    let count = |is: &dyn Fn(&What) -> bool| seen().filter(|seen| is(&seen.what)).count();
    println!(
        "{} connections ({} recovered, {} not), {} gifts acknowledged in {} attempts, {} received, {} chats shown, \
         {} received, {} gaps, {} faults",
        history.connections.len(),
        count(&|what| matches!(what, What::Joined { recovered: true, .. })),
        count(&|what| matches!(what, What::Joined { recovered: false, .. })),
        history.publishes.iter().filter(|publish| matches!(publish.answer, Answer::Taken(_))).count(),
        history.publishes.len(),
        count(&|what| matches!(what, What::Gift { .. })),
        history.said.iter().filter(|said| said.shown.is_some()).count(),
        count(&|what| matches!(what, What::Chat { .. })),
        count(&|what| matches!(what, What::Gap { .. })),
        history.faults.len(),
    );
    println!("{} violations (seed {})", violations.len(), plan.seed);
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
