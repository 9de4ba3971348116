//! `danmu-load run`: starts the threads, says when to talk and when to leave, and reports.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum};
use danmu_wire::frame::Format;

use crate::{
    clock,
    driver::{Driver, Outcome},
    handshake::{BadTarget, Target},
    raise_socket_limit,
    report::{Report, Tool},
};

/// Between the last viewer in and the first message, so that every thread starts on time.
const LEAD: Duration = Duration::from_millis(100);
/// Nothing delivered for so long after the talk: everything has come.
const QUIET: Duration = Duration::from_secs(1);
/// Longest wait for what is still under way; 22 s was the worst seen of a server at twice its capacity.
const LONGEST_DRAIN: Duration = Duration::from_secs(60);
/// How often the phases are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What `run` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArguments {
    /// The room: ws://HOST:PORT/rooms/ROOM/ws.
    #[arg(long)]
    pub(crate) url: String,
    /// How many viewers connect.
    #[arg(long, default_value_t = 100)]
    pub(crate) viewers: u64,
    /// Messages a second, over all speakers.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) rate: f64,
    /// How many of the viewers speak.
    #[arg(long, default_value_t = 1)]
    pub(crate) speakers: u64,
    /// Seconds of talk.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) duration: f64,
    /// New connections a second.
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) connect_rate: f64,
    /// Threads the viewers are spread over.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: u64,
    /// The sub-protocol to ask for.
    #[arg(long, value_enum, default_value_t = FormatName::Json)]
    pub(crate) format: FormatName,
    /// This share of the viewers stops reading once joined; they are in no account.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) slow_percent: f64,
    /// Instead of --rate and --speakers: every viewer speaks once, at a random moment of so many seconds.
    #[arg(long)]
    pub(crate) once_within: Option<f64>,
    /// Bytes each text is padded to.
    #[arg(long, default_value_t = 60)]
    pub(crate) text_bytes: usize,
    /// Local addresses to connect from, in turn: one address has about 28,000 ports.
    #[arg(long, num_args = 1..)]
    pub(crate) source: Vec<IpAddr>,
    /// The token every viewer shows.
    #[arg(long, env = "DANMU_LOAD_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A format by its name on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FormatName {
    /// Text frames of JSON.
    Json,
    /// Larger frames as raw deflate.
    Deflate,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// An address that cannot be used.
    #[error(transparent)]
    Target(#[from] BadTarget),
    /// Arguments that make no run.
    #[error("{0}")]
    Arguments(&'static str),
    /// Polling or starting a thread failed.
    #[error("a thread of viewers could not go on: {0}")]
    Thread(#[from] io::Error),
    /// The report says why.
    #[error("no viewer joined")]
    Nobody,
    /// A thread panicked.
    #[error("a thread of viewers panicked; the account would be wrong")]
    Panicked,
}

/// The run as its threads need it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) format: Format,
    pub(crate) arguments: RunArguments,
    /// Viewers with this number and above read no more once joined.
    pub(crate) first_slow: u64,
    /// Stands at the head of every text of this run.
    pub(crate) run: String,
    /// When the first viewer connects, on the monotonic clock.
    pub(crate) start_ns: u64,
}

/// What the threads and the main thread tell each other.
#[derive(Debug, Default)]
pub(crate) struct Phases {
    /// Viewers that joined or never will.
    pub(crate) settled: AtomicU64,
    /// When the talk starts; 0 is not yet known.
    pub(crate) talk_ns: AtomicU64,
    /// When something was last delivered.
    pub(crate) last_event_ns: AtomicU64,
    /// The viewers leave.
    pub(crate) leave: AtomicBool,
}

impl Plan {
    fn new(arguments: &RunArguments) -> Result<Plan, RunError> {
        let positive = |number: f64| number.is_finite() && number > 0.0;
        let slow = arguments.slow_percent;
        if arguments.viewers == 0 || arguments.threads == 0 {
            return Err(RunError::Arguments("--viewers and --threads are at least 1"));
        }
        if !(positive(arguments.rate) && positive(arguments.duration) && positive(arguments.connect_rate)) {
            return Err(RunError::Arguments("--rate, --duration and --connect-rate are numbers above 0"));
        }
        if arguments.once_within.is_some_and(|within| !positive(within) || within > arguments.duration) {
            return Err(RunError::Arguments("--once-within is above 0 and at most --duration"));
        }
        if !(0.0..=100.0).contains(&slow) {
            return Err(RunError::Arguments("--slow-percent is a number from 0 to 100"));
        }
        let first_slow = arguments.viewers - (arguments.viewers as f64 * slow / 100.0).round() as u64;
        if arguments.speakers > first_slow {
            return Err(RunError::Arguments("--speakers and the slow viewers are more than --viewers"));
        }
        Ok(Plan {
            target: Target::parse(&arguments.url)?,
            format: match arguments.format {
                FormatName::Json => Format::Json,
                FormatName::Deflate => Format::Deflate,
            },
            arguments: arguments.clone(),
            first_slow,
            run: format!("{:08x}", rand::random::<u32>()),
            start_ns: clock::monotonic_ns(),
        })
    }

    /// How long the talk lasts, in nanoseconds.
    pub(crate) fn talk_length_ns(&self) -> u64 {
        (self.arguments.duration * 1e9) as u64
    }
}

/// Runs, and prints the report to standard output.
///
/// # Errors
/// [`RunError`] when there was no run; refused viewers and losses are in the report instead.
pub(crate) fn run(arguments: &RunArguments) -> Result<(), RunError> {
    let plan = Arc::new(Plan::new(arguments)?);
    raise_socket_limit();
    let phases = Arc::new(Phases::default());
    let threads: Vec<_> = (0..arguments.threads)
        .map(|number| {
            let (plan, phases) = (Arc::clone(&plan), Arc::clone(&phases));
            thread::Builder::new()
                .name(format!("viewers-{number}"))
                .spawn(move || Driver::new(number, &plan, &phases)?.work())
        })
        .collect::<Result<_, _>>()?;
    let failed = || threads.iter().any(thread::JoinHandle::is_finished);
    let mut tool = Tool::default();
    conduct(&plan, &phases, &mut tool, &failed);
    let mut all = Outcome::default();
    for thread in threads {
        let one = thread.join().map_err(|_| RunError::Panicked)??;
        all.tally.merge(&one.tally);
        all.accounts.extend(one.accounts);
    }
    all.tally.close(&all.accounts);
    let report = Report::new(&plan, &all, tool);
    if arguments.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    if all.tally.joined == 0 { Err(RunError::Nobody) } else { Ok(()) }
}

/// Starts the talk once all viewers have settled and ends the run once all is quiet, or at once when
/// a thread `failed`.
fn conduct(plan: &Plan, phases: &Phases, tool: &mut Tool, failed: &dyn Fn() -> bool) {
    while phases.settled.load(Ordering::Relaxed) < plan.arguments.viewers && !failed() {
        thread::sleep(LOOK);
    }
    let cpu_before = clock::process_cpu_ns();
    let start = clock::monotonic_ns() + LEAD.as_nanos() as u64;
    phases.talk_ns.store(start, Ordering::Relaxed);
    let end = start + plan.talk_length_ns();
    loop {
        thread::sleep(LOOK);
        let now = clock::monotonic_ns();
        let last = phases.last_event_ns.load(Ordering::Relaxed).max(end);
        let given_up = now > end + LONGEST_DRAIN.as_nanos() as u64;
        if now > last + QUIET.as_nanos() as u64 || given_up || failed() {
            tool.still_coming = given_up;
            break;
        }
    }
    tool.cpu_seconds = (clock::process_cpu_ns() - cpu_before) as f64 / 1e9;
    tool.wall_seconds = clock::monotonic_ns().saturating_sub(start) as f64 / 1e9;
    phases.leave.store(true, Ordering::Relaxed);
}
