//! Several processes for one run: a process has about 20,000 sockets, a room has more viewers.
//!
//! The first process starts the others with its own arguments. They talk in lines of JSON: a child
//! tells its progress and in the end its tally; the parent answers once, when the talk starts.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    fleet::{Conduct, Progress, RunError},
    tally::Tally,
};

/// Environment of a child: `INDEX/OF`.
pub(crate) const SHARD: &str = "DANMU_LOAD_SHARD";
/// Environment of a child: the mark of the run.
pub(crate) const RUN_ID: &str = "DANMU_LOAD_RUN_ID";

/// Lines of children that wait to be read.
const QUEUE: usize = 64;

#[derive(Serialize, Deserialize)]
enum Line {
    Progress(Progress),
    Tally(Box<Tally>),
}

/// Runs `of` processes and merges what they counted; kills them after `deadline`.
///
/// # Errors
/// [`RunError`] when a process cannot be started, ends early or does not end.
pub(crate) fn run(
    of: u64,
    run: &str,
    deadline: Duration,
    conduct: &mut Conduct<'_>,
) -> Result<Tally, RunError> {
    let (sender, lines) = sync_channel(QUEUE);
    let mut children = Children(Vec::new());
    for index in 0..of {
        let mut child = start(index, of, run).map_err(|error| RunError::Start(index, error))?;
        if let Some(output) = child.stdout.take() {
            let sender = sender.clone();
            thread::spawn(move || forward(index, BufReader::new(output), &sender));
        }
        children.0.push(child);
    }
    drop(sender);
    collect(&mut children, &lines, deadline, conduct)
}

/// Killed when dropped, so that no error leaves them behind.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended cannot be killed, and needs no more than to be waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start(index: u64, of: u64, run: &str) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(SHARD, format!("{index}/{of}"))
        .env(RUN_ID, run)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
}

fn forward(index: u64, output: impl BufRead, sender: &SyncSender<(u64, Line)>) {
    for line in output.lines().map_while(Result::ok) {
        let Ok(line) = serde_json::from_str(&line) else { return };
        if sender.send((index, line)).is_err() {
            return;
        }
    }
}

/// How often the conductor is asked at least.
const CONDUCT: Duration = Duration::from_millis(50);

fn collect(
    children: &mut Children,
    lines: &Receiver<(u64, Line)>,
    deadline: Duration,
    conduct: &mut Conduct<'_>,
) -> Result<Tally, RunError> {
    let start = Instant::now();
    let mut progress = vec![Progress::default(); children.0.len()];
    let mut tallies: Vec<Option<Box<Tally>>> = children.0.iter().map(|_| None).collect();
    let mut started = false;
    loop {
        match lines.recv_timeout(CONDUCT.min(deadline.saturating_sub(start.elapsed()))) {
            Ok((index, Line::Progress(new))) => progress[index as usize] = new,
            Ok((index, Line::Tally(tally))) => tallies[index as usize] = Some(tally),
            // It is quiet when no line comes: the conductor has to be asked then, too. Asked only at the next
            // line, it called it quiet when viewers had left, and the pods were charged for the goodbyes.
            Err(RecvTimeoutError::Timeout) if start.elapsed() < deadline => {}
            Err(RecvTimeoutError::Timeout) => return Err(RunError::Endless(deadline.as_secs())),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let total = progress.iter().fold(Progress::default(), |sum, one| Progress {
            joined: sum.joined + one.joined,
            failed: sum.failed + one.failed,
            received: sum.received + one.received,
        });
        if let Some(go_ns) = conduct(total)?.filter(|_| !started) {
            started = true;
            for child in &mut children.0 {
                if let Some(input) = &mut child.stdin {
                    // A child that is gone is found out by its missing tally.
                    let _ = writeln!(input, "{go_ns}");
                }
            }
        }
    }
    let mut all = Tally::default();
    for (index, tally) in tallies.into_iter().enumerate() {
        all.merge(&*tally.ok_or(RunError::Silent(index as u64))?);
    }
    Ok(all)
}

/// A child's side: tells progress on standard output, hears the start on standard input.
pub(crate) struct Parent {
    start: Receiver<u64>,
    last: Option<Progress>,
    told_start: bool,
}

impl Parent {
    /// Starts to listen.
    pub(crate) fn new() -> Parent {
        let (sender, start) = sync_channel(1);
        thread::spawn(move || {
            let mut line = String::new();
            if std::io::stdin().lock().read_line(&mut line).is_ok()
                && let Ok(go_ns) = line.trim().parse()
            {
                let _ = sender.send(go_ns);
            }
        });
        Parent { start, last: None, told_start: false }
    }

    /// Tells progress when it has changed; answers the start when it has come.
    ///
    /// # Errors
    /// [`RunError::Orphaned`] when there is nobody to tell.
    pub(crate) fn conduct(&mut self, progress: Progress) -> Result<Option<u64>, RunError> {
        if self.last != Some(progress) {
            self.last = Some(progress);
            tell(&Line::Progress(progress))?;
        }
        match self.start.try_recv() {
            Ok(go_ns) => {
                self.told_start = true;
                Ok(Some(go_ns))
            }
            Err(TryRecvError::Disconnected) if !self.told_start => Err(RunError::Orphaned),
            Err(_) => Ok(None),
        }
    }

    /// Tells the tally, the last line.
    ///
    /// # Errors
    /// [`RunError::Orphaned`] when there is nobody to tell.
    pub(crate) fn finish(&self, tally: Tally) -> Result<(), RunError> {
        tell(&Line::Tally(Box::new(tally)))
    }
}

fn tell(line: &Line) -> Result<(), RunError> {
    let text = serde_json::to_string(line).map_err(|_| RunError::Orphaned)?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{text}").and_then(|()| output.flush()).map_err(|_| RunError::Orphaned)
}
