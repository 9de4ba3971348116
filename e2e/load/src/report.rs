//! What a run comes to: one account for machines, one for people, and what is wrong.

use serde_json::{Value, json};

use crate::{
    latencies::Latencies,
    tally::{Reasons, Tally, Viewers},
    worker::Plan,
};

/// Later than this (p99) its own messages make the tool's latencies worthless.
const LATE_MS: f64 = 20.0;

/// A thread with less idle time than a tenth reads later than the bytes come.
const BUSY: f64 = 0.9;

/// Promised and kept deliveries of one lane, over all viewers that stayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Balance {
    viewers: u64,
    expected: u64,
    lost: u64,
    /// Lost, and the viewer was told of a gap without a number.
    open: u64,
    beyond: u64,
}

/// A finished run.
pub(crate) struct Report<'a> {
    plan: &'a Plan,
    tally: &'a Tally,
    /// Messages every viewer was to get; `None` when nobody promised any.
    promised: Option<u64>,
    chats: Balance,
    priority: Balance,
}

impl<'a> Report<'a> {
    /// Judges `tally`; `expect` replaces the number of messages that were acknowledged as shown.
    pub(crate) fn new(plan: &'a Plan, tally: &'a Tally, expect: Option<u64>) -> Report<'a> {
        let promised = expect.or((plan.speakers > 0).then_some(tally.shown));
        let lane = &tally.priority;
        Report {
            plan,
            tally,
            promised,
            chats: promised.map_or_else(Balance::default, |promised| {
                balance(promised, &tally.accounted, &tally.accounted_open)
            }),
            priority: balance(lane.published, &lane.accounted, &lane.accounted_open),
        }
    }

    /// Sent messages to which nothing was answered.
    fn unanswered(&self) -> u64 {
        let refused: u64 = self.tally.refused.values().sum();
        self.tally.sent.saturating_sub(self.tally.shown + self.tally.sampled + refused)
    }

    /// What the server, or the way to it, did wrong; empty is a clean run.
    pub(crate) fn problems(&self) -> Vec<String> {
        let (tally, priority) = (self.tally, &self.tally.priority);
        let numbers = [
            (tally.failed.values().sum(), "viewers never joined"),
            (tally.departed.values().sum(), "viewers were cut during the run"),
            (self.unanswered(), "messages were never answered"),
            (self.chats.lost, "deliveries lost without a word"),
            (self.chats.beyond, "deliveries more than were promised"),
            (tally.duplicates, "deliveries made twice"),
            (self.priority.lost, "priority deliveries lost without a word"),
            (priority.untold_offsets, "priority offsets passed over without a word"),
            (priority.duplicates, "priority deliveries made twice"),
            (priority.unpublished.values().sum(), "priority messages not taken by the admin API"),
        ];
        numbers.into_iter().filter(|(number, _)| *number > 0).map(|(n, what)| format!("{n} {what}")).collect()
    }

    /// Why the figures say more about this tool than about the server; empty is as it should be.
    fn bottleneck(&self) -> Vec<String> {
        let mut told = Vec::new();
        let late_ms = self.tally.lateness.milliseconds_at(99.0);
        if late_ms > LATE_MS {
            let sound = format!("at most {LATE_MS} ms is sound");
            told.push(format!("its own messages were sent late: p99 {late_ms:.1} ms, {sound}"));
        }
        if self.tally.busiest_thread > BUSY {
            let percent = self.tally.busiest_thread * 100.0;
            let mend = "give more --threads or --processes";
            told.push(format!("its busiest thread used {percent:.0} % of a core: {mend}"));
        }
        told
    }

    fn joining_seconds(&self) -> f64 {
        self.tally.last_joined_ns.saturating_sub(self.tally.first_connect_ns) as f64 / 1e9
    }

    fn seconds(&self) -> f64 {
        self.tally.wall_ns.max(1) as f64 / 1e9
    }

    /// The account for machines.
    pub(crate) fn json(&self) -> Value {
        let (plan, tally) = (self.plan, self.tally);
        json!({
            "run": plan.run,
            "viewers": plan.viewers,
            "speakers": plan.speakers,
            "slow": plan.slow,
            "connect": {
                "joined": tally.joined,
                "failed": tally.failed,
                "retried": tally.retried,
                "seconds": self.joining_seconds(),
                "ms": percentiles(&tally.connect),
            },
            "departed": tally.departed,
            "departed_slow": tally.departed_slow,
            "moves": tally.moves,
            "follow": {
                "cuts": tally.cuts,
                "rejoined": tally.rejoined,
                "ms": percentiles(&tally.rejoin),
                "overlaps": tally.overlaps,
            },
            "messages": {
                "offered": tally.sent,
                "unsent": tally.unsent,
                "shown": tally.shown,
                "sampled": tally.sampled,
                "refused": tally.refused,
                "unanswered": self.unanswered(),
                "ack_ms": percentiles(&tally.ack),
                "stats_sampled": tally.stats_sampled,
            },
            "deliveries": {
                "promised": self.promised,
                "viewers": self.chats.viewers,
                "expected": self.chats.expected,
                "received": tally.received,
                "told": tally.told,
                "told_without_number": self.chats.open,
                "lost": self.promised.map(|_| self.chats.lost),
                "beyond": self.chats.beyond,
                "duplicates": tally.duplicates,
                "unjudged": tally.unjudged,
                "foreign": tally.foreign,
                "ms": percentiles(&tally.delivery),
            },
            "priority": self.priority_json(),
            "read": {
                "frames": tally.frames,
                "bytes": tally.bytes,
                "reads": tally.reads,
                "frames_per_second": tally.frames as f64 / self.seconds(),
                "seconds": self.seconds(),
            },
            "own": {
                "cpu_seconds": tally.cpu_ns as f64 / 1e9,
                "cpu_us_per_delivery": tally.cpu_ns as f64 / 1e3 / tally.received.max(1) as f64,
                "busiest_thread": tally.busiest_thread,
                "lateness_ms": percentiles(&tally.lateness),
                "bottleneck": self.bottleneck(),
            },
            "problems": self.problems(),
            "still_coming": tally.still_coming,
            "first_fault": tally.first_fault,
        })
    }

    fn priority_json(&self) -> Value {
        let lane = &self.tally.priority;
        json!({
            "published": lane.published,
            "unpublished": lane.unpublished,
            "expected": self.priority.expected,
            "received": lane.received,
            "told": lane.told,
            "told_without_number": self.priority.open,
            "lost": self.priority.lost,
            "duplicates": lane.duplicates,
            "missing_offsets": lane.missing_offsets,
            "untold_offsets": lane.untold_offsets,
            "ms": percentiles(&lane.delivery),
            "ms_before_split": percentiles(&lane.before),
            "ms_after_split": percentiles(&lane.after),
        })
    }

    /// The account for people.
    pub(crate) fn text(&self) -> String {
        let tally = self.tally;
        let joining = self.joining_seconds();
        let mut lines = vec![
            format!("joined      {} of {} in {joining:.2} s", tally.joined, self.plan.viewers),
            format!("            {}", times(&tally.connect)),
        ];
        if tally.retried > 0 {
            lines.push(format!("            {} × told to come back later (503), and did", tally.retried));
        }
        push_reasons(&mut lines, "failed", &tally.failed);
        push_reasons(&mut lines, "cut, back", &tally.cuts);
        if tally.moves + tally.rejoined > 0 {
            lines.push(format!(
                "moved       {} asked; joined again {} ({}); {} deliveries came on both connections",
                tally.moves,
                tally.rejoined,
                times(&tally.rejoin),
                tally.overlaps,
            ));
        }
        push_reasons(&mut lines, "cut", &tally.departed);
        push_reasons(&mut lines, "slow, cut", &tally.departed_slow);
        self.push_messages(&mut lines);
        self.push_deliveries(&mut lines);
        self.push_priority(&mut lines);
        lines.push(format!(
            "read        {} frames, {} bytes in {:.1} s ({:.0} frames/s)",
            tally.frames,
            tally.bytes,
            self.seconds(),
            tally.frames as f64 / self.seconds(),
        ));
        lines.push(format!(
            "this tool   {:.2} s of CPU, busiest thread {:.0} % of a core; sent late by {}",
            tally.cpu_ns as f64 / 1e9,
            tally.busiest_thread * 100.0,
            times(&tally.lateness),
        ));
        lines.extend(self.bottleneck().into_iter().map(|why| format!("BOTTLENECK  {why}")));
        if tally.still_coming {
            lines.push("still came  when --settle was over: what is lost may only be late".to_owned());
        }
        lines.extend(self.problems().into_iter().map(|what| format!("PROBLEM     {what}")));
        lines.extend(tally.first_fault.iter().map(|fault| format!("first fault {fault}")));
        lines.join("\n")
    }

    fn push_messages(&self, lines: &mut Vec<String>) {
        let tally = self.tally;
        if tally.sent + tally.unsent == 0 {
            return;
        }
        let refused: u64 = tally.refused.values().sum();
        lines.push(format!(
            "offered     {} = {} shown + {} left out + {refused} refused + {} unanswered",
            tally.sent,
            tally.shown,
            tally.sampled,
            self.unanswered(),
        ));
        if tally.unsent > 0 {
            lines.push(format!("not sent    {}: the speaker was not there", tally.unsent));
        }
        push_reasons(lines, "refused", &tally.refused);
        lines.push(format!("answered    {}", times(&tally.ack)));
    }

    fn push_deliveries(&self, lines: &mut Vec<String>) {
        let (tally, chats) = (self.tally, &self.chats);
        lines.push(match self.promised {
            Some(promised) => format!(
                "delivered   {} of {} ({promised} messages × {} viewers); told as lost {}, lost {}, twice {}",
                tally.received, chats.expected, chats.viewers, tally.told, chats.lost, tally.duplicates,
            ),
            None => format!(
                "delivered   {}; nobody promised any, so loss is not judged (--expect)",
                tally.received
            ),
        });
        lines.push(format!("            {}", times(&tally.delivery)));
    }

    fn push_priority(&self, lines: &mut Vec<String>) {
        let lane = &self.tally.priority;
        if lane.published + lane.received == 0 && lane.unpublished.is_empty() {
            return;
        }
        lines.push(format!(
            "priority    {} of {} ({} published); told as lost {}, lost {}, twice {}",
            lane.received,
            self.priority.expected,
            lane.published,
            lane.told,
            self.priority.lost,
            lane.duplicates,
        ));
        push_reasons(lines, "not taken", &lane.unpublished);
        lines.push(format!("            {}", times(&lane.delivery)));
    }
}

fn balance(promised: u64, accounted: &Viewers, open: &Viewers) -> Balance {
    let mut balance = Balance::default();
    for (had, viewers) in accounted {
        balance.lost += promised.saturating_sub(*had) * viewers;
    }
    for (had, viewers) in open {
        balance.open += promised.saturating_sub(*had) * viewers;
    }
    for (had, viewers) in accounted.iter().chain(open) {
        balance.viewers += viewers;
        balance.beyond += had.saturating_sub(promised) * viewers;
    }
    balance.expected = promised * balance.viewers;
    balance
}

fn percentiles(latencies: &Latencies) -> Value {
    json!({
        "count": latencies.count(),
        "p50": latencies.milliseconds_at(50.0),
        "p90": latencies.milliseconds_at(90.0),
        "p99": latencies.milliseconds_at(99.0),
        "p999": latencies.milliseconds_at(99.9),
        "max": latencies.milliseconds_at(100.0),
    })
}

fn times(latencies: &Latencies) -> String {
    if latencies.count() == 0 {
        return "–".to_owned();
    }
    let [p50, p90, p99, max] = [50.0, 90.0, 99.0, 100.0].map(|percent| latencies.milliseconds_at(percent));
    format!("p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms, max {max:.1} ms")
}

fn push_reasons(lines: &mut Vec<String>, what: &str, reasons: &Reasons) {
    lines.extend(reasons.iter().map(|(reason, number)| format!("{what:<11} {number} × {reason}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_losses_balance_and_silent_ones_do_not() {
        let accounted = Viewers::from([(10, 7), (8, 2), (11, 1)]);
        let open = Viewers::from([(3, 5)]);
        let expected = Balance { viewers: 15, expected: 150, lost: 4, open: 35, beyond: 1 };
        assert_eq!(balance(10, &accounted, &open), expected);
    }

    #[test]
    fn nobody_there_means_nothing_expected() {
        assert_eq!(balance(10, &Viewers::new(), &Viewers::new()), Balance::default());
    }
}
