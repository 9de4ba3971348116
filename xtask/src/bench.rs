//! `cargo xtask bench`: what the server costs beside the floor, in one run on one machine;
//! `cargo xtask bench relay`: what several of them on one Redis do.
//!
//! ```text
//! bench            builds, goes into a network namespace of its own, prints the table
//! scenarios relay  what is done and what it should come to
//! measure redis    servers, a load, a floor, a Redis: their CPU, memory and counters
//! statistics       medians and their intervals
//! table            rows for people and machines
//! ```

mod machine;
mod measure;
mod redis;
mod relay;
mod scenarios;
mod statistics;
mod sub_rooms;
mod table;

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use clap::Args;

use crate::{
    commands::{cargo, step},
    soak,
};
use scenarios::{Scenario, Suite};

/// What `cargo xtask bench` is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_value_t = Suite::Server)]
    suite: Suite,
    /// Pairs of server and floor a ratio is made of.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// Only this scenario, of whichever suite; repeat it for more.
    #[arg(long, value_enum)]
    only: Vec<Scenario>,
    /// Write the figures to this file as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A tenth of the viewers and short talks: tells whether the benchmark works, and nothing else.
    #[arg(long, hide = true)]
    quick: bool,
    /// Set once inside of the namespace.
    #[arg(long, hide = true)]
    inside: bool,
}

impl Arguments {
    /// Always in this order: the last ones bind local ports, which the kernel then keeps for a minute.
    fn scenarios(&self) -> Vec<Scenario> {
        if self.only.is_empty() {
            return self.suite.scenarios().to_vec();
        }
        let all = [Suite::Server, Suite::Relay].into_iter().flat_map(|suite| suite.scenarios());
        all.filter(|one| self.only.contains(one)).copied().collect()
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    if arguments.inside {
        return inside(arguments);
    }
    step("build", cargo(&["build", "--release", "--package", "danmu-server", "--package", "danmu-load"]))?;
    let needs_redis = arguments.scenarios().iter().any(|one| Suite::Relay.scenarios().contains(one));
    if needs_redis {
        soak::redis()?;
    }
    let unshare = unshare()?;
    let myself = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
    let status = Command::new("unshare")
        .args(unshare)
        .args(["sh", "-c", r#"ip link set lo up && exec "$@""#, "sh"])
        .arg(myself)
        .args(std::env::args_os().skip(1))
        .arg("--inside")
        .env("DANMU_LOG", "error")
        .status()
        .map_err(|error| format!("unshare cannot be run: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the benchmark ended with {status}")) }
}

/// The arguments with which unshare gives us a network namespace: as root, or as root of a user
/// namespace.
fn unshare() -> Result<&'static [&'static str], String> {
    let ways: [&[&str]; 2] = [&["--net"], &["--map-root-user", "--net"]];
    let works = |way: &&&[&str]| {
        Command::new("unshare")
            .args(**way)
            .args(["ip", "link", "set", "lo", "up"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    ways.iter().find(works).copied().ok_or_else(|| {
        "the benchmark needs a network namespace of its own: run it as root, with unshare and ip installed"
            .to_owned()
    })
}

fn inside(arguments: &Arguments) -> Result<(), String> {
    let started = Instant::now();
    let machine = machine::facts();
    let mut rows = Vec::new();
    for scenario in arguments.scenarios() {
        println!("==> {scenario:?}: {}", scenario.about());
        let scale = scenarios::Scale { pairs: arguments.pairs as usize, quick: arguments.quick };
        match scenario.run(&scale) {
            Ok(measured) => rows.extend(measured),
            // What one scenario cannot do must not cost the figures of the others.
            Err(fault) => rows.push(table::Row::failed(scenario.name(), &fault)),
        }
    }
    println!();
    println!("{machine}");
    if arguments.quick {
        println!("QUICK: these figures say only that the benchmark works");
    }
    println!("{}", table::text(&rows));
    println!("{}", statistics::explanation(arguments.pairs as usize));
    println!("the whole took {:.0} s", started.elapsed().as_secs_f64());
    if let Some(file) = &arguments.json {
        std::fs::write(file, table::json(&machine, arguments.pairs, &rows))
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if rows.iter().any(table::Row::is_broken) {
        return Err("a scenario could not be measured, or lost something: see the table".to_owned());
    }
    Ok(())
}
