//! The bar on a terminal, and the decision when the talk starts.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{clock, fleet::Progress};

/// From the last `joined` to the start of the talk: every thread and process has heard of it by then.
const HEAD_START_NS: u64 = 200_000_000;

/// Nothing was delivered for so long after the talk. Sooner than the threads' own idea of it, because
/// then viewers leave, and that costs a server what no message did.
const QUIET_NS: u64 = 500_000_000;

/// So often those who wait are told how many have joined.
const JOINING_NS: u64 = 5_000_000_000;

/// A server has found its rhythm so long after the start of the talk.
const WARM_NS: u64 = 1_000_000_000;

/// Watches a run.
pub(crate) struct Conductor {
    viewers: u64,
    talk_ns: u64,
    go_ns: Option<u64>,
    bar: ProgressBar,
    /// Tell the phases.
    phases: bool,
    /// What was received, and since when it has been that much.
    last: (u64, u64),
    told_warm: bool,
    told_quiet: bool,
    told_joining_ns: u64,
}

impl Conductor {
    /// For a run of so many viewers who talk for so long; the bar is drawn on standard error when it
    /// is a terminal, and not `quiet`.
    pub(crate) fn new(viewers: u64, talk_ns: u64, quiet: bool, phases: bool) -> Conductor {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(viewers), target);
        bar.set_style(style("joining  {bar:40} {pos}/{len}  {msg}"));
        Conductor {
            viewers,
            talk_ns,
            go_ns: None,
            bar,
            phases,
            last: (0, 0),
            told_warm: false,
            told_quiet: false,
            told_joining_ns: clock::monotonic_ns(),
        }
    }

    /// Answers the start once every viewer has joined or failed.
    pub(crate) fn conduct(&mut self, progress: Progress) -> Option<u64> {
        let now_ns = clock::monotonic_ns();
        if let Some(go_ns) = self.go_ns {
            self.bar.set_position(now_ns.saturating_sub(go_ns).min(self.talk_ns) / 1_000_000);
            self.bar.set_message(format!("{} deliveries", progress.received));
            self.tell_phase(progress.received, now_ns, go_ns);
            return Some(go_ns);
        }
        self.bar.set_position(progress.joined);
        if self.phases && now_ns > self.told_joining_ns + JOINING_NS {
            self.told_joining_ns = now_ns;
            println!("{}", serde_json::json!({"joining": progress.joined}));
        }
        if progress.failed > 0 {
            self.bar.set_message(format!("{} failed", progress.failed));
        }
        if progress.joined + progress.failed >= self.viewers {
            self.go_ns = Some(now_ns + HEAD_START_NS);
            if self.phases {
                println!("{}", serde_json::json!({"joined": progress.joined, "failed": progress.failed}));
            }
            self.bar.set_length(self.talk_ns / 1_000_000);
            self.bar.set_style(style("talking  {bar:40} {pos}/{len} ms  {msg}"));
        }
        self.go_ns
    }

    fn tell_phase(&mut self, received: u64, now_ns: u64, go_ns: u64) {
        if received != self.last.0 {
            self.last = (received, now_ns);
        }
        if self.phases && !self.told_warm && now_ns > go_ns + WARM_NS {
            self.told_warm = true;
            println!("{}", serde_json::json!({"warm": received}));
        }
        let since_ns = self.last.1.max(go_ns + self.talk_ns);
        if self.phases && !self.told_quiet && now_ns.saturating_sub(since_ns) > QUIET_NS {
            self.told_quiet = true;
            println!("{}", serde_json::json!({"quiet": received}));
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants that parse; the default bar is the stand-in.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_talk_starts_once_when_the_last_viewer_has_joined_or_failed() {
        let mut conductor = Conductor::new(3, 1_000_000_000, true, false);
        let at = |joined, failed| Progress { joined, failed, received: 0 };
        assert_eq!(conductor.conduct(at(2, 0)), None);
        let go_ns = conductor.conduct(at(2, 1));
        assert!(go_ns.is_some_and(|go_ns| go_ns > clock::monotonic_ns()));
        assert_eq!(conductor.conduct(at(2, 1)), go_ns);
    }
}
