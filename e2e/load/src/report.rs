//! What a run says at its end, for people and as JSON.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::{
    driver::Outcome,
    latencies::Percentiles,
    run::Plan,
    tally::{PriorityTally, Reasons, Tally},
};

/// A thread that is this busy cannot read everything on time: the latencies are ours.
const BUSY: f64 = 0.9;
/// Messages sent later than this (99 of 100 are sooner) were not sent evenly.
const LATE_MS: f64 = 20.0;

/// What the tool itself used; filled in by the main thread.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Tool {
    /// CPU time of the process from the start of the talk until all was quiet.
    pub(crate) cpu_seconds: f64,
    /// The same on the clock.
    pub(crate) wall_seconds: f64,
    /// Messages still came when the run was ended: what is lost is only late.
    pub(crate) still_coming: bool,
    cpu_us_per_delivery: f64,
    busiest_thread: f64,
    send_lateness_ms: Percentiles,
    frames: u64,
    bytes: u64,
    reads: u64,
    /// Why the figures tell of this tool rather than of the server; empty when they do not.
    bottleneck: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ViewerReport {
    asked: u64,
    joined: u64,
    slow: u64,
    accounted: u64,
    failed: Reasons,
    departed: Reasons,
    moves: u64,
    connect_ms: Percentiles,
}

#[derive(Debug, Serialize)]
struct OfferedReport {
    sent: u64,
    unsent: u64,
    shown: u64,
    sampled: u64,
    refused: Reasons,
    unanswered: u64,
    ack_ms: Percentiles,
}

#[derive(Debug, Serialize)]
struct ChatReport {
    expected: u64,
    received: u64,
    gap_told: u64,
    open_gaps: u64,
    lost: u64,
    surplus: u64,
    duplicates: u64,
    unjudged: u64,
    foreign: u64,
    stats_sampled: u64,
    latency_ms: Percentiles,
}

#[derive(Debug, Serialize)]
struct PriorityReport {
    received: u64,
    gap_told: u64,
    missing_offsets: u64,
    lost: u64,
    duplicates: u64,
    latency_ms: Percentiles,
}

/// The report of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    viewers: ViewerReport,
    offered: OfferedReport,
    chat: ChatReport,
    priority: PriorityReport,
    tool: Tool,
    first_fault: Option<String>,
}

impl Report {
    /// Of a run whose accounts are closed.
    pub(crate) fn new(plan: &Plan, outcome: &Outcome, tool: Tool) -> Report {
        let tally = &outcome.tally;
        let answered = tally.shown + tally.sampled + tally.refused.values().sum::<u64>();
        Report {
            viewers: ViewerReport {
                asked: plan.arguments.viewers,
                joined: tally.joined,
                slow: plan.arguments.viewers - plan.first_slow,
                accounted: outcome.accounts.len() as u64,
                failed: tally.failed.clone(),
                departed: tally.departed.clone(),
                moves: tally.moves,
                connect_ms: (&tally.connect).into(),
            },
            offered: OfferedReport {
                sent: tally.sent,
                unsent: tally.unsent,
                shown: tally.shown,
                sampled: tally.sampled,
                refused: tally.refused.clone(),
                unanswered: tally.sent.saturating_sub(answered),
                ack_ms: (&tally.ack).into(),
            },
            chat: ChatReport {
                expected: tally.expected,
                received: tally.received,
                gap_told: tally.told,
                open_gaps: tally.open_gaps,
                lost: tally.lost,
                surplus: tally.surplus,
                duplicates: tally.duplicates,
                unjudged: tally.unjudged,
                foreign: tally.foreign,
                stats_sampled: tally.stats_sampled,
                latency_ms: (&tally.delivery).into(),
            },
            priority: PriorityReport::new(&tally.priority),
            tool: tool.with(tally),
            first_fault: tally.first_fault.clone(),
        }
    }

    /// As one line of JSON.
    pub(crate) fn json(&self) -> String {
        // Plain structs with text keys: cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl PriorityReport {
    fn new(tally: &PriorityTally) -> PriorityReport {
        PriorityReport {
            received: tally.received,
            gap_told: tally.told,
            missing_offsets: tally.missing_offsets,
            lost: tally.lost,
            duplicates: tally.duplicates,
            latency_ms: (&tally.delivery).into(),
        }
    }
}

impl Tool {
    fn with(mut self, tally: &Tally) -> Tool {
        let deliveries = tally.received + tally.priority.received;
        self.cpu_us_per_delivery =
            if deliveries == 0 { 0.0 } else { self.cpu_seconds * 1e6 / deliveries as f64 };
        self.busiest_thread = tally.busiest_thread;
        self.send_lateness_ms = (&tally.lateness).into();
        (self.frames, self.bytes, self.reads) = (tally.frames, tally.bytes, tally.reads);
        if self.busiest_thread > BUSY {
            let share = self.busiest_thread * 100.0;
            self.bottleneck
                .push(format!("a thread of viewers used {share:.0} % of a core: give more --threads"));
        }
        let late = tally.lateness.milliseconds_at(99.0);
        if late > LATE_MS {
            self.bottleneck.push(format!("1 of 100 messages was sent {late:.0} ms late or more"));
        }
        self
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { viewers, offered, chat, priority, tool, first_fault } = self;
        writeln!(
            f,
            "viewers   {} of {} joined ({}), {} slow, failed {:?}, departed {:?}",
            viewers.joined, viewers.asked, viewers.connect_ms, viewers.slow, viewers.failed, viewers.departed
        )?;
        writeln!(
            f,
            "offered   {} sent, {} not; shown {}, sampled out {}, refused {:?}, unanswered {}",
            offered.sent, offered.unsent, offered.shown, offered.sampled, offered.refused, offered.unanswered
        )?;
        writeln!(
            f,
            "chat      {} of {} delivered ({}), told as lost {}, LOST {}, duplicates {}",
            chat.received, chat.expected, chat.latency_ms, chat.gap_told, chat.lost, chat.duplicates
        )?;
        writeln!(
            f,
            "priority  {} delivered ({}), told as lost {}, LOST {}, duplicates {}",
            priority.received, priority.latency_ms, priority.gap_told, priority.lost, priority.duplicates
        )?;
        writeln!(
            f,
            "this tool {:.2} CPU s in {:.2} s ({:.2} us a delivery, busiest thread {:.0} %), sends late by {}",
            tool.cpu_seconds,
            tool.wall_seconds,
            tool.cpu_us_per_delivery,
            tool.busiest_thread * 100.0,
            tool.send_lateness_ms
        )?;
        for reason in &tool.bottleneck {
            writeln!(f, "THIS TOOL IS THE BOTTLENECK: {reason}")?;
        }
        if tool.still_coming {
            writeln!(f, "messages still came when the run was given up: what is lost may only be late")?;
        }
        if let Some(fault) = first_fault {
            writeln!(f, "the first fault: {fault}")?;
        }
        writeln!(f, "(times are the middle, 99 % and the longest)")
    }
}
