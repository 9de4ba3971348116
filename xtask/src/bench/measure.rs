//! One run: a server or a floor under one load, and what it used between the moment when all viewers
//! have joined and the moment when all is delivered.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    ops::Add,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    slice,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::machine;
use crate::server::{Server, binary};

/// How long the admin port may take for one answer.
const ADMIN_DEADLINE: Duration = Duration::from_secs(5);

/// What rooms without a manifest are allowed.
const FLEET: &str = "apiVersion: danmu.live/v1alpha1
kind: DanmuFleet
metadata: {name: default}
spec:
  server: {unlistedRooms: Allow}
  defaults:
    limits: {messagesPerSecond: 1000, perViewer: {messages: 500, seconds: 5}}
    moderation: {anonymous: Speak}
";

/// A room server with one room, its manifest in a folder of its own.
pub(super) struct Subject {
    server: Server,
    folder: tempfile::TempDir,
}

/// What a process had used at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) writes: f64,
    pub(super) sent_bytes: f64,
}

/// A run that is over.
#[derive(Debug)]
pub(super) struct Measured {
    /// Used during the talk; `resident_bytes` is what it had at the end of it.
    pub(super) used: Reading,
    pub(super) steady: Steady,
    /// What the load says.
    pub(super) report: Value,
    /// From the start of the load to the last `joined`.
    pub(super) joining: Duration,
    /// Of each server's record of flushes: those of the talk, beginning at 0.
    schedules: Vec<String>,
}

/// Of a run, all but the first second: until then a server does not know what is coming.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steady {
    pub(super) used: Reading,
    /// Messages delivered.
    pub(super) received: f64,
}

impl Subject {
    /// Starts the server with the room `bench`, whose `spec` follows `fleet:` in the manifest.
    pub(super) fn start(spec: &str) -> Result<Subject, String> {
        Subject::start_with(spec, machine::cores(), &[])
    }

    /// The same with so many workers and more flags.
    pub(super) fn start_with(spec: &str, workers: usize, flags: &[&str]) -> Result<Subject, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no folder for the manifests: {error}"))?;
        let rooms = folder.path().join("rooms");
        let manifest = format!(
            "apiVersion: danmu.live/v1alpha1\nkind: DanmuRoom\nmetadata: {{name: bench}}\nspec:\n  fleet: default\n{spec}"
        );
        fs::create_dir(&rooms)
            .and_then(|()| fs::write(rooms.join("bench.yaml"), manifest))
            .and_then(|()| fs::write(rooms.join("fleet.yaml"), FLEET))
            .map_err(|error| format!("{}: {error}", rooms.display()))?;
        let record = folder.path().join("flushes").to_string_lossy().into_owned();
        let workers = workers.to_string();
        let ours = ["--workers", &workers, "--record-flushes", &record, "--public", "0.0.0.0:0"];
        Ok(Subject { server: Server::start("release", &rooms, &[&ours, flags].concat())?, folder })
    }

    /// Where viewers connect.
    pub(super) fn url(&self) -> String {
        self.url_of("bench")
    }

    /// Where viewers of another room connect.
    pub(super) fn url_of(&self, room: &str) -> String {
        let port = self.server.public.rsplit(':').next().unwrap_or_default();
        format!("ws://127.0.0.1:{port}/rooms/{room}/ws")
    }

    /// Where priority messages are published.
    pub(super) fn admin(&self) -> &str {
        &self.server.admin
    }

    /// What the server has used so far.
    pub(super) fn read(&self) -> Result<Reading, String> {
        let [writes, sent_bytes] = self.metrics(["danmu_writes_total", "danmu_sent_bytes_total"])?;
        Ok(Reading {
            cpu_seconds: machine::cpu_seconds(self.server.id())?,
            resident_bytes: machine::resident_bytes(self.server.id())?,
            writes,
            sent_bytes,
        })
    }

    /// Metrics without labels, by their names.
    pub(super) fn metrics<const N: usize>(&self, names: [&str; N]) -> Result<[f64; N], String> {
        let metrics = ask(&self.server.admin, "GET", "/metrics", "")?;
        let mut values = [0.0; N];
        for (name, value) in names.into_iter().zip(&mut values) {
            *value = metrics
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<f64>().ok())
                .ok_or_else(|| format!("the server's metrics have no {name}"))?;
        }
        Ok(values)
    }

    /// Begins a drain of so long.
    pub(super) fn drain(&self, seconds: u64) -> Result<(), String> {
        let answer = ask(&self.server.admin, "POST", "/drain", &format!(r#"{{"seconds":{seconds}}}"#))?;
        if answer.starts_with("HTTP/1.1 202") { Ok(()) } else { Err(format!("the drain: {answer}")) }
    }

    /// Runs viewers against it.
    pub(super) fn run(&self, options: &[&str]) -> Result<Measured, String> {
        Talk::begin(slice::from_ref(self), options)?.end(|| Ok(())).map(|(measured, ())| measured)
    }

    fn recorded(&self) -> String {
        fs::read_to_string(self.folder.path().join("flushes")).unwrap_or_default()
    }
}

/// A talk before one server or several.
pub(super) struct Talk<'a> {
    pods: &'a [Subject],
    load: Load,
    joining: Duration,
    before: Reading,
    /// How long each server's record of flushes was.
    recorded: Vec<usize>,
}

impl Talk<'_> {
    /// All viewers have joined; they begin to speak.
    pub(super) fn begin<'a>(pods: &'a [Subject], options: &[&str]) -> Result<Talk<'a>, String> {
        let urls: Vec<String> = pods.iter().map(Subject::url).collect();
        let mut load = Load::start(&urls, options)?;
        let joining = load.wait_for("joined")?;
        let before = Reading::of(pods)?;
        let recorded = pods.iter().map(|pod| pod.recorded().len()).collect();
        Ok(Talk { pods, load, joining, before, recorded })
    }

    /// Waits until all is delivered; reads something more at that moment.
    pub(super) fn end<T>(
        mut self,
        reading: impl FnOnce() -> Result<T, String>,
    ) -> Result<(Measured, T), String> {
        let warm_received = self.load.line("warm")?;
        let warm = Reading::of(self.pods)?;
        let received = self.load.line("quiet")? - warm_received;
        let after = Reading::of(self.pods)?;
        let more = reading()?;
        let records = self.pods.iter().map(Subject::recorded).zip(self.recorded);
        let schedules = records.map(|(all, known)| schedule(all.get(known..).unwrap_or_default())).collect();
        let steady = Steady { used: after.since(&warm), received };
        let (used, joining) = (after.since(&self.before), self.joining);
        Ok((Measured { used, steady, report: self.load.report()?, joining, schedules }, more))
    }
}

impl Add for Reading {
    type Output = Reading;

    fn add(self, other: Reading) -> Reading {
        Reading {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            resident_bytes: self.resident_bytes + other.resident_bytes,
            writes: self.writes + other.writes,
            sent_bytes: self.sent_bytes + other.sent_bytes,
        }
    }
}

impl Reading {
    /// The sum over servers.
    fn of(pods: &[Subject]) -> Result<Reading, String> {
        pods.iter().try_fold(Reading::default(), |sum, pod| Ok(sum + pod.read()?))
    }

    fn since(&self, before: &Reading) -> Reading {
        Reading {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            resident_bytes: self.resident_bytes,
            writes: self.writes - before.writes,
            sent_bytes: self.sent_bytes - before.sent_bytes,
        }
    }
}

/// The lines of a record, their times beginning at 0.
fn schedule(recorded: &str) -> String {
    let lines: Vec<(u64, &str)> = recorded
        .lines()
        .filter_map(|line| line.split_once(' ').and_then(|(at, rest)| Some((at.parse().ok()?, rest))))
        .collect();
    let first = lines.iter().map(|(at, _)| *at).min().unwrap_or(0);
    lines.iter().map(|(at, rest)| format!("{} {rest}\n", at - first)).collect()
}

impl Measured {
    /// A number of the load's report, by its path.
    pub(super) fn number(&self, path: &str) -> f64 {
        self.report.pointer(path).and_then(Value::as_f64).unwrap_or(0.0)
    }

    /// What the load found wrong.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = texts(&self.report["problems"]);
        if !problems.is_empty() {
            problems.extend(self.report["first_fault"].as_str().map(|fault| format!("first fault: {fault}")));
        }
        problems
    }

    /// Why the figures tell of the load rather than of the server.
    pub(super) fn bottleneck(&self) -> Vec<String> {
        texts(&self.report["own"]["bottleneck"])
    }

    /// Seconds from the first recorded flush to the last.
    fn schedule_seconds(&self) -> f64 {
        let lines = self.schedules.iter().flat_map(|schedule| schedule.lines());
        let times = lines.filter_map(|line| line.split(' ').next()?.parse::<u64>().ok());
        times.max().unwrap_or(0) as f64 / 1e6
    }

    /// Replays the same flushes with a bare send(2) loop, before as many viewers.
    pub(super) fn replay(&self, viewers: u64) -> Result<Floor, String> {
        self.replay_with(viewers, machine::cores(), &["--connect-rate", "2500"])
    }

    /// The same for servers with so many workers; the load gets `options`.
    pub(super) fn replay_with(
        &self,
        viewers: u64,
        threads: usize,
        options: &[&str],
    ) -> Result<Floor, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no folder for schedules: {error}"))?;
        let mut plans = Vec::new();
        for (number, schedule) in self.schedules.iter().enumerate() {
            let file = folder.path().join(number.to_string());
            fs::write(&file, schedule).map_err(|error| format!("the schedule: {error}"))?;
            plans.push(vec!["--schedule".to_owned(), file.to_string_lossy().into_owned()]);
        }
        let floor = floors(viewers, threads, &plans, self.schedule_seconds() + 1.0, options)?;
        // The quotient is one of a send by a write only if both did the same work.
        if (floor.sends / self.used.writes - 1.0).abs() > 0.01 {
            return Err(format!("the floor made {} sends for {} writes", floor.sends, self.used.writes));
        }
        Ok(floor)
    }
}

/// What a floor cost.
#[derive(Debug)]
pub(super) struct Floor {
    pub(super) cpu_seconds: f64,
    pub(super) sends: f64,
    pub(super) deliveries: f64,
    /// What the load says.
    pub(super) report: Value,
    /// What the load found wrong.
    pub(super) problems: Vec<String>,
}

/// A bare send(2) loop before so many viewers who listen for so long.
pub(super) fn floor(viewers: u64, plan: &[&str], seconds: f64) -> Result<Floor, String> {
    let plan = plan.iter().map(|&word| word.to_owned()).collect();
    floors(viewers, machine::cores(), &[plan], seconds, &["--connect-rate", "2500"])
}

/// One floor for each plan; they share the viewers evenly and start together.
fn floors(
    viewers: u64,
    threads: usize,
    plans: &[Vec<String>],
    seconds: f64,
    options: &[&str],
) -> Result<Floor, String> {
    let (threads, of) = (threads.to_string(), plans.len() as u64);
    let (mut floors, mut urls) = (Vec::new(), Vec::new());
    for (number, plan) in (0..).zip(plans) {
        let share = ((viewers + of - 1 - number) / of).to_string();
        let mut command = Command::new(binary("release", "danmu-load"));
        command.args(["floor", "--start-on-stdin", "--viewers", &share, "--threads", &threads]).args(plan);
        let mut floor = Program::start(command)?;
        let listening = floor.line("listening")?;
        urls.push(format!("ws://{}/rooms/floor/ws", listening.as_str().unwrap_or_default()));
        floors.push(floor);
    }
    let (count, duration) = (viewers.to_string(), format!("{:.1}", seconds + 1.0));
    let ours = ["--run-id", "floor", "--viewers", &count, "--duration", &duration];
    let mut load = Load::start(&urls, &[&ours, options].concat())?;
    for floor in &mut floors {
        floor.line("joined")?;
    }
    load.wait_for("joined")?;
    let cpu = |floors: &[Program]| {
        floors.iter().try_fold(0.0, |sum, floor| Ok(sum + machine::cpu_seconds(floor.child.id())?))
    };
    let before: f64 = cpu(&floors).map_err(|error: String| error)?;
    for floor in &mut floors {
        floor.go();
    }
    let costs = floors.iter_mut().map(|floor| floor.line("")).collect::<Result<Vec<_>, _>>()?;
    let cpu_seconds = cpu(&floors)? - before;
    for phase in ["warm", "quiet"] {
        load.line(phase)?;
    }
    let report = load.report()?;
    let number = |name: &str| costs.iter().filter_map(|cost| cost[name].as_f64()).sum::<f64>();
    let mut problems = texts(&report["problems"]);
    let received = report["deliveries"]["received"].as_f64().unwrap_or(0.0);
    if received != number("deliveries") {
        problems.push(format!("the floor sent {} and {received} arrived", number("deliveries")));
    }
    for name in ["eagains", "gone"] {
        if number(name) > 0.0 {
            problems.push(format!("{} sends of the floor: {name}", number(name)));
        }
    }
    Ok(Floor { cpu_seconds, sends: number("sends"), deliveries: received, report, problems })
}

/// Viewers.
pub(super) struct Load {
    program: Program,
    started: Instant,
}

impl Load {
    /// Starts `danmu-load run`.
    pub(super) fn start(urls: &[String], options: &[&str]) -> Result<Load, String> {
        let mut command = Command::new(binary("release", "danmu-load"));
        command.args(["run", "--json", "--phases"]);
        command.args(urls.iter().flat_map(|url| ["--url", url])).args(options);
        Ok(Load { program: Program::start(command)?, started: Instant::now() })
    }

    /// Waits for a phase; answers how long it took since the start.
    pub(super) fn wait_for(&mut self, phase: &str) -> Result<Duration, String> {
        self.program.line(phase)?;
        Ok(self.started.elapsed())
    }

    /// Waits for a phase; answers its number.
    pub(super) fn line(&mut self, phase: &str) -> Result<f64, String> {
        Ok(self.program.line(phase)?.as_f64().unwrap_or(0.0))
    }

    /// The end.
    pub(super) fn report(mut self) -> Result<Value, String> {
        self.program.line("")
    }
}

/// A child that writes lines of JSON; killed when dropped.
struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(mut command: Command) -> Result<Program, String> {
        let fault = |error: &dyn std::fmt::Display| format!("danmu-load: {error}");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|error| fault(&error))?;
        let output = child.stdout.take().ok_or_else(|| fault(&"no output"))?;
        Ok(Program { input: child.stdin.take(), child, output: BufReader::new(output) })
    }

    /// What waits for the end of its input goes on.
    fn go(&mut self) {
        self.input = None;
    }

    /// The next line, which must have the field; answers the field, or the whole line for no name.
    fn line(&mut self, field: &str) -> Result<Value, String> {
        let line = loop {
            let mut line = String::new();
            self.output.read_line(&mut line).map_err(|error| format!("danmu-load: {error}"))?;
            let line: Value = serde_json::from_str(&line)
                .map_err(|_| "danmu-load ended before its time; its own words are above".to_owned())?;
            match line.get("joining") {
                Some(joined) => println!("    {joined} viewers have joined"),
                None => break line,
            }
        };
        match line.get(field) {
            _ if field.is_empty() => Ok(line),
            Some(value) => Ok(value.clone()),
            None => Err(format!("danmu-load did not tell `{field}` but {line}")),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and only has to be waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn ask(base: &str, method: &str, path: &str, body: &str) -> Result<String, String> {
    let address = base.trim_start_matches("http://");
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ADMIN_DEADLINE))?;
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        let kind = "Content-Type: application/json\r\n";
        write!(stream, "{head}{kind}Content-Length: {length}\r\n\r\n{body}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    ask().map_err(|error: std::io::Error| format!("{base}{path}: {error}"))
}

/// What the messages of a benchmark say: a file beside the load generator.
pub(super) fn texts_file() -> PathBuf {
    Path::new("e2e/load/danmu.txt").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_begins_at_zero_whichever_worker_was_first() {
        let recorded = "# head line\n1500 1 130 5000 0 0\n1400 0 130 5000 0 0\n2400 0 90 5000 0 0\n";
        assert_eq!(schedule(recorded), "100 1 130 5000 0 0\n0 0 130 5000 0 0\n1000 0 90 5000 0 0\n");
    }
}
