//! `danmu-load run`: viewers by the ten thousand, and an account of every delivery.
//! `danmu-load floor`: the least that sending to so many sockets costs, to compare servers with.
//!
//! ```text
//! main   options            what to do
//! processes   fleet         several processes, their threads
//! worker   viewer           one thread, its sockets
//! payload  account  tally   what was said, got, counted
//! report                    what it comes to
//! ```

mod account;
mod clock;
mod fleet;
mod floor;
mod handshake;
mod latencies;
mod options;
mod payload;
mod processes;
mod progress;
mod publish;
mod report;
mod schedule;
mod stamp;
mod tally;
mod viewer;
mod worker;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use crate::{
    fleet::{RunError, Shard},
    options::{Command, Options, RunOptions},
    progress::Conductor,
    publish::Publisher,
    report::Report,
    worker::Plan,
};

/// Options that make no sense (EX_USAGE of sysexits).
const USAGE: u8 = 64;
/// The tool itself failed (EX_SOFTWARE); 1 is a run that found problems.
const FAILED: u8 = 70;

fn main() -> ExitCode {
    match Options::parse().command {
        Command::Run(options) => run(&options),
        Command::Floor(options) => match floor::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error, if error.is_usage() { USAGE } else { FAILED }),
        },
    }
}

fn run(options: &RunOptions) -> ExitCode {
    let made_up = format!("r{:06x}", rand::random_range(0..0x0100_0000_u32));
    let (plan, publisher) = match options.plan(made_up).and_then(|plan| Ok((plan, options.publisher()?))) {
        Ok(both) => both,
        Err(error) => return complain(&error, USAGE),
    };
    let result = match options.shard {
        Some(shard) => run_shard(options, &plan, publisher.filter(|_| shard.index == 0).as_ref(), shard),
        None => run_all(options, &plan, publisher.as_ref()),
    };
    match result {
        Ok(clean) => ExitCode::from(u8::from(!clean)),
        Err(error) => complain(&error, FAILED),
    }
}

/// This process's part of a run that another process conducts.
fn run_shard(
    options: &RunOptions,
    plan: &Plan,
    publisher: Option<&Publisher>,
    shard: Shard,
) -> Result<bool, RunError> {
    let mut parent = processes::Parent::new();
    let tally =
        fleet::run(plan, shard, options.threads, publisher, &mut |progress| parent.conduct(progress))?;
    parent.finish(tally)?;
    Ok(true)
}

/// Runs it all and prints the report; answers whether all is well.
fn run_all(options: &RunOptions, plan: &Plan, publisher: Option<&Publisher>) -> Result<bool, RunError> {
    let mut conductor = Conductor::new(plan.viewers, plan.talk_ns, options.json, options.phases);
    let mut watch = |progress| Ok(conductor.conduct(progress));
    let tally = if options.processes > 1 {
        let deadline = Duration::from_secs(options.deadline_seconds());
        processes::run(options.processes, &plan.run, deadline, &mut watch)?
    } else {
        fleet::run(plan, Shard { index: 0, of: 1 }, options.threads, publisher, &mut watch)?
    };
    conductor.finish();
    let report = Report::new(plan, &tally, options.expect);
    if options.json {
        println!("{}", report.json());
    } else {
        println!("{}", report.text());
    }
    Ok(report.problems().is_empty())
}

fn complain(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("danmu-load: {error}");
    ExitCode::from(code)
}
