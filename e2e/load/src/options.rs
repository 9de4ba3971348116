//! The command line of `danmu-load run`, judged before anything is connected.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use clap::{Args, Parser, Subcommand, ValueEnum};
use danmu_wire::frame::Format;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{
    fleet::Shard,
    handshake::{BadTarget, Target},
    processes,
    publish::{BadPublisher, Publisher},
    worker::{Plan, Talk},
};

/// Ports one address can connect from: the kernel's default range 32768–60999.
const PORTS_PER_ADDRESS: u64 = 28_000;

/// Descriptors a process needs beside its viewers.
const OTHER_DESCRIPTORS: u64 = 100;

/// The load generator of Danmu.
#[derive(Debug, Parser)]
#[command(name = "danmu-load", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Viewers by the thousand: join a room, talk, and account for every delivery.
    Run(Box<RunOptions>),
    /// What the kernel costs: send(2) of ready frames to as many sockets, and nothing else.
    Floor(FloorOptions),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FormatName {
    Json,
    Deflate,
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// A room's address, ws://HOST:PORT/rooms/ROOM/ws; several share the viewers evenly. Several of one
    /// room are as if behind a balancer: who comes back goes to another one.
    #[arg(long, required = true)]
    pub(crate) url: Vec<String>,
    /// Viewers who join before anybody talks.
    #[arg(long, default_value_t = 1000)]
    pub(crate) viewers: u64,
    /// How many of the viewers talk.
    #[arg(long, default_value_t = 0)]
    pub(crate) speakers: u64,
    /// Messages a second over all speakers, evenly spaced.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) rate: f64,
    /// Seconds of talk.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) duration: f64,
    /// Every viewer says one thing, at a random time within so many seconds (instead of --speakers,
    /// --rate and --duration).
    #[arg(long, conflicts_with_all = ["speakers", "rate", "duration"])]
    pub(crate) once_within: Option<f64>,
    /// Bytes of a message's text; 60 make a frame of about 120.
    #[arg(long, default_value_t = 60)]
    pub(crate) text_bytes: usize,
    /// A file of lines; each message says one of them after its stamp, instead of --text-bytes of words.
    #[arg(long, conflicts_with = "text_bytes", value_name = "FILE")]
    pub(crate) texts: Option<PathBuf>,
    /// Viewers obey `move` (join there, then leave here) and come back after a cut with their position,
    /// with full jitter.
    #[arg(long)]
    pub(crate) follow: bool,
    /// Connections a second; who is told 503 comes back when `Retry-After` says.
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) connect_rate: f64,
    /// Seconds from connecting to `joined`.
    #[arg(long, default_value_t = 30.0)]
    pub(crate) connect_timeout: f64,
    /// Longest wait in seconds for the last deliveries; ends early after one quiet second.
    #[arg(long, default_value_t = 30.0)]
    pub(crate) settle: f64,
    /// An address to connect from; repeat it beyond 28,000 viewers (127.0.0.1, 127.0.0.2, …).
    #[arg(long)]
    pub(crate) source: Vec<IpAddr>,
    /// Threads of each process.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: u64,
    /// Processes; each has its own limit of open files.
    #[arg(long, default_value_t = 1)]
    pub(crate) processes: u64,
    /// What the viewers ask for.
    #[arg(long, value_enum, default_value_t = FormatName::Json)]
    pub(crate) format: FormatName,
    /// Percent of the viewers who stop reading once they have joined.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) slow_percent: f64,
    /// A token (JWT) for all viewers.
    #[arg(long, env = "DANMU_LOAD_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// The server's admin address, http://HOST:PORT, for priority messages.
    #[arg(long, requires = "priority_rate")]
    pub(crate) publish_url: Option<String>,
    /// Bearer token of the admin address.
    #[arg(long, env = "DANMU_LOAD_PUBLISH_TOKEN", hide_env_values = true)]
    pub(crate) publish_token: Option<String>,
    /// Priority messages a second.
    #[arg(long, requires = "publish_url")]
    pub(crate) priority_rate: Option<f64>,
    /// How many messages every viewer must get, when somebody else does the talking (the floor).
    #[arg(long)]
    pub(crate) expect: Option<u64>,
    /// The mark of the run in all texts, [a-z0-9]; made up unless given. The floor's is `floor`.
    #[arg(long, env = processes::RUN_ID)]
    pub(crate) run_id: Option<String>,
    /// Seconds into the talk; the latencies of gifts published before and after it are told apart, the
    /// later ones without viewers who were moved or cut.
    #[arg(long, value_name = "S")]
    pub(crate) split: Option<f64>,
    /// One line of JSON instead of a report for people, and no progress bar.
    #[arg(long)]
    pub(crate) json: bool,
    /// Lines of JSON on standard output: how many have joined so far, when all have joined, when they have talked for a second, and
    /// when all is quiet after the talk.
    #[arg(long)]
    pub(crate) phases: bool,
    /// Set for child processes.
    #[arg(long, env = processes::SHARD, hide = true, value_parser = shard)]
    pub(crate) shard: Option<Shard>,
}

#[derive(Debug, Args)]
pub(crate) struct FloorOptions {
    /// Where viewers connect to; port 0 takes a free one. The address is printed first.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: std::net::SocketAddr,
    /// How many viewers to wait for.
    #[arg(long)]
    pub(crate) viewers: usize,
    /// Starts at the first line on standard input (all viewers or not) instead of when all are here.
    #[arg(long)]
    pub(crate) start_on_stdin: bool,
    /// Milliseconds between the last viewer (or the line) and the first message.
    #[arg(long, default_value_t = 500)]
    pub(crate) start_after: u64,
    /// Threads that send, each to its part of the viewers.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Bytes of one message on the wire, when there is no schedule.
    #[arg(long, default_value_t = 120)]
    pub(crate) bytes: usize,
    /// Seconds of talk, when there is no schedule.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) duration: f64,
    #[command(flatten)]
    pub(crate) plan: FloorPlan,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct FloorPlan {
    /// Replays a file of lines `OFFSET_US FRAME_BYTES`: when, and how many bytes in one send. Or what
    /// `danmu-server --record-flushes` wrote; then give as many --threads as it had --workers.
    #[arg(long)]
    pub(crate) schedule: Option<PathBuf>,
    /// So many messages a second, one send each.
    #[arg(long, value_name = "RATE")]
    pub(crate) strict: Option<f64>,
    /// So many messages a second; those that came during a fan-out go out in one send after it.
    #[arg(long, value_name = "RATE")]
    pub(crate) merge: Option<f64>,
    /// All messages of a tick in one send.
    #[arg(long, num_args = 2, value_names = ["MS", "RATE"])]
    pub(crate) tick: Option<Vec<f64>>,
}

/// Options that make no run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadOptions {
    #[error("--url: {0}")]
    Url(#[from] BadTarget),
    #[error("--publish-url: {0}")]
    Publish(#[from] BadPublisher),
    #[error("{name} must be {range}; it is {value}")]
    Range { name: &'static str, range: &'static str, value: f64 },
    #[error("--speakers {speakers} and {slow} slow viewers are more than --viewers {viewers}")]
    TooManyRoles { speakers: u64, slow: u64, viewers: u64 },
    #[error("--rate {0} needs somebody who talks: give --speakers")]
    NoSpeakers(f64),
    #[error("--texts: {0} cannot be read: {1}")]
    Texts(PathBuf, std::io::Error),
    #[error("--texts: {0} has no line")]
    NoTexts(PathBuf),
    #[error("--run-id is letters and digits in lower case, at most 16")]
    RunId,
    #[error(
        "{viewers} viewers are more than {addresses} local address(es) have ports for ({PORTS_PER_ADDRESS} each): \
         give more --source, for example --source 127.0.0.1 --source 127.0.0.2"
    )]
    Ports { viewers: u64, addresses: u64 },
    #[error(
        "{viewers} viewers a process are more than its limit of {limit} open files: \
         give --processes {processes}, or raise the limit (ulimit -n)"
    )]
    Files { viewers: u64, limit: u64, processes: u64 },
}

impl RunOptions {
    /// The run that the options ask for; `made_up` is its mark unless one was given. Raises the limit
    /// of open files as far as it goes.
    ///
    /// # Errors
    /// [`BadOptions`], which says what to give instead.
    pub(crate) fn plan(&self, made_up: String) -> Result<Plan, BadOptions> {
        self.check_ranges()?;
        let slow = (self.viewers as f64 * self.slow_percent / 100.0).round() as u64;
        let speakers = if self.once_within.is_some() { self.viewers - slow } else { self.speakers };
        if speakers + slow > self.viewers {
            return Err(BadOptions::TooManyRoles { speakers, slow, viewers: self.viewers });
        }
        if self.rate > 0.0 && speakers == 0 {
            return Err(BadOptions::NoSpeakers(self.rate));
        }
        let run = self.run_id.clone().unwrap_or(made_up);
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if run.is_empty() || run.len() > 16 || !run.bytes().all(fits) {
            return Err(BadOptions::RunId);
        }
        self.check_sockets()?;
        Ok(Plan {
            run,
            targets: self.url.iter().map(|url| Target::parse(url)).collect::<Result<_, _>>()?,
            sources: self.source.clone(),
            viewers: self.viewers,
            speakers,
            slow,
            connect_rate: self.connect_rate,
            connect_timeout_ns: nanoseconds(self.connect_timeout),
            format: match self.format {
                FormatName::Json => Format::Json,
                FormatName::Deflate => Format::Deflate,
            },
            token: self.token.clone(),
            text_bytes: self.text_bytes,
            texts: self.texts()?,
            follow: self.follow,
            talk: if self.once_within.is_some() { Talk::Once } else { Talk::Paced { rate: self.rate } },
            talk_ns: nanoseconds(self.once_within.unwrap_or(self.duration)),
            split_ns: self.split.map(nanoseconds),
            settle_ns: nanoseconds(self.settle),
        })
    }

    fn texts(&self) -> Result<Arc<[String]>, BadOptions> {
        let Some(file) = &self.texts else { return Ok(Arc::default()) };
        let text = std::fs::read_to_string(file).map_err(|error| BadOptions::Texts(file.clone(), error))?;
        let lines: Vec<String> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        if lines.is_empty() { Err(BadOptions::NoTexts(file.clone())) } else { Ok(lines.into()) }
    }

    /// Who publishes priority messages, if anybody.
    ///
    /// # Errors
    /// [`BadOptions`] for addresses that cannot be used.
    pub(crate) fn publisher(&self) -> Result<Option<Publisher>, BadOptions> {
        let (Some(url), Some(rate), Some(viewers_url)) =
            (&self.publish_url, self.priority_rate, self.url.first())
        else {
            return Ok(None);
        };
        range("--priority-rate", rate, 0.001, 10_000.0, "0.001 to 10000 a second")?;
        Ok(Some(Publisher::new(url, viewers_url, self.publish_token.clone(), rate)?))
    }

    /// Seconds in which the run must be over, whatever the server does.
    pub(crate) fn deadline_seconds(&self) -> u64 {
        let talk = self.once_within.unwrap_or(self.duration);
        let connect = self.viewers as f64 / self.connect_rate + self.connect_timeout;
        (connect + talk + self.settle) as u64 + 30
    }

    fn check_ranges(&self) -> Result<(), BadOptions> {
        let day = 86_400.0;
        range("--viewers", self.viewers as f64, 1.0, 4e9, "1 to 4000000000")?;
        range("--rate", self.rate, 0.0, 1e6, "0 to 1000000 a second")?;
        range("--duration", self.duration, 0.0, day, "0 to 86400 s")?;
        range("--once-within", self.once_within.unwrap_or(1.0), 0.001, day, "0.001 to 86400 s")?;
        range("--connect-rate", self.connect_rate, 0.1, 1e6, "0.1 to 1000000 a second")?;
        range("--connect-timeout", self.connect_timeout, 0.001, 3600.0, "0.001 to 3600 s")?;
        range("--split", self.split.unwrap_or(0.0), 0.0, day, "0 to 86400 s")?;
        range("--settle", self.settle, 0.0, 3600.0, "0 to 3600 s")?;
        range("--slow-percent", self.slow_percent, 0.0, 100.0, "0 to 100")?;
        range("--text-bytes", self.text_bytes as f64, 0.0, 3000.0, "0 to 3000")?;
        range("--threads", self.threads as f64, 1.0, 256.0, "1 to 256")?;
        range("--processes", self.processes as f64, 1.0, 256.0, "1 to 256")
    }

    fn check_sockets(&self) -> Result<(), BadOptions> {
        let addresses = self.source.len().max(1) as u64;
        if self.viewers > addresses * self.url.len() as u64 * PORTS_PER_ADDRESS {
            return Err(BadOptions::Ports { viewers: self.viewers, addresses });
        }
        let viewers = self.viewers.div_ceil(self.processes);
        let limit = open_files();
        if viewers + OTHER_DESCRIPTORS > limit {
            let processes = self.viewers.div_ceil(limit.saturating_sub(OTHER_DESCRIPTORS).max(1));
            return Err(BadOptions::Files { viewers, limit, processes });
        }
        Ok(())
    }
}

/// Raises the soft limit of open files to the hard one; answers what it is then.
pub(crate) fn open_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // If this is not allowed, the limit is what it was; it is asked for again below.
        let _ = setrlimit(Resource::Nofile, limit);
        limit = getrlimit(Resource::Nofile);
    }
    limit.current.unwrap_or(u64::MAX)
}

fn range(name: &'static str, value: f64, from: f64, to: f64, range: &'static str) -> Result<(), BadOptions> {
    // Written so that NaN is out of range too.
    if (from..=to).contains(&value) { Ok(()) } else { Err(BadOptions::Range { name, range, value }) }
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

fn shard(text: &str) -> Result<Shard, String> {
    let (index, of) = text.split_once('/').ok_or("written INDEX/OF")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let shard = Shard { index: number(index)?, of: number(of)? };
    if shard.index < shard.of { Ok(shard) } else { Err("INDEX is below OF".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(extra: &[&str]) -> Result<Plan, BadOptions> {
        let base = ["danmu-load", "run", "--url", "ws://127.0.0.1:1/rooms/a/ws"];
        let options = Options::try_parse_from(base.iter().chain(extra)).unwrap();
        let Command::Run(run) = options.command else { panic!() };
        run.publisher()?;
        run.plan("made1up".into())
    }

    #[test]
    fn a_run_is_what_its_options_say() {
        let told = ["--viewers", "200", "--speakers", "10", "--rate", "20", "--slow-percent", "5"];
        let plan = plan(&told).unwrap();
        assert_eq!((plan.viewers, plan.speakers, plan.slow), (200, 10, 10));
        assert_eq!((plan.talk, plan.run.as_str()), (Talk::Paced { rate: 20.0 }, "made1up"));
    }

    #[test]
    fn in_the_old_test_everybody_who_reads_talks_once() {
        let plan = plan(&["--viewers", "200", "--once-within", "3", "--slow-percent", "10"]).unwrap();
        assert_eq!((plan.talk, plan.speakers, plan.talk_ns), (Talk::Once, 180, 3_000_000_000));
    }

    #[test]
    fn options_that_make_no_run_say_what_to_give() {
        let told = |extra: &[&str]| plan(extra).unwrap_err().to_string();
        assert!(told(&["--rate", "5"]).contains("give --speakers"));
        assert!(told(&["--viewers", "5", "--speakers", "6"]).contains("more than --viewers 5"));
        assert!(told(&["--rate", "NaN"]).contains("--rate must be"));
        assert!(told(&["--run-id", "a.b"]).contains("--run-id"));
        assert!(told(&["--viewers", "30000"]).contains("--source 127.0.0.2"));
        let told = told(&["--priority-rate", "0", "--publish-url", "http://127.0.0.1:1"]);
        assert!(told.contains("--priority-rate must be"), "{told}");
    }

    #[test]
    fn more_viewers_than_open_files_need_more_processes() {
        let viewers = (open_files().min(1_000_000) * 2).to_string();
        let sources = (1..=100).flat_map(|n| ["--source".to_owned(), format!("127.0.0.{n}")]);
        let extra: Vec<String> = ["--viewers".to_owned(), viewers].into_iter().chain(sources).collect();
        let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
        assert!(plan(&extra).unwrap_err().to_string().contains("give --processes"));
    }

    #[test]
    fn a_shard_is_written_index_of() {
        assert_eq!(shard("1/3"), Ok(Shard { index: 1, of: 3 }));
        for bad in ["", "3/3", "1", "a/b", "1/0"] {
            assert!(shard(bad).is_err(), "{bad}");
        }
    }
}
