//! What the nemesis does when, drawn from a seed before the run begins.

use std::{fmt, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{history::Ms, world::Traffic};

/// A round: trouble, then calm.
const TROUBLE: Ms = 30_000;
const CALM: Ms = 14_000;
/// Viewers come before the first fault.
const START: Ms = 2_500;

/// What may be broken in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nemesis {
    /// Servers, the links to Redis, and a Redis with a replica.
    Pair,
    /// Servers, and a Redis cluster of three.
    Cluster,
    /// Only short cuts of subscriptions and links: what recovery from the log mends.
    Links,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A server crashes and is started again afterwards.
    KillPod(usize),
    /// A server stands still.
    StopPod(usize),
    /// A server drains and ends, as in a rollout, and is started again.
    DrainPod(usize),
    /// All subscriptions are cut: `CLIENT KILL TYPE pubsub`.
    CutSubscriptions,
    /// Redis takes no commands: `CLIENT PAUSE`.
    PauseRedis,
    /// Redis stands still.
    StopRedis,
    /// Redis loses its memory: `FLUSHALL`.
    Flush,
    /// Redis crashes and comes back empty.
    RestartRedis,
    /// The primary crashes and the replica takes its place.
    FailOver,
    /// The replica takes the place of a primary that lives on for a while.
    SplitBrain,
    /// The room's slot moves to another node of the cluster.
    MoveSlot,
    /// A server is cut off while more is published than the log holds.
    Burst(usize),
    /// The link between a server and Redis is not what it was.
    Link(usize, Traffic),
}

/// A fault, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it begins.
    pub at: Ms,
    /// What.
    pub act: Act,
    /// How long it lasts.
    pub lasts: Ms,
}

impl Act {
    /// How many epochs it may end.
    pub const fn epochs(&self) -> usize {
        match self {
            Act::Flush | Act::RestartRedis | Act::FailOver | Act::SplitBrain | Act::MoveSlot => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::KillPod(pod) => write!(f, "kill pod {pod}, start it again"),
            Act::StopPod(pod) => write!(f, "stop pod {pod}"),
            Act::DrainPod(pod) => write!(f, "drain pod {pod}, start it again"),
            Act::CutSubscriptions => f.write_str("cut all subscriptions"),
            Act::PauseRedis => f.write_str("CLIENT PAUSE"),
            Act::StopRedis => f.write_str("stop Redis"),
            Act::Flush => f.write_str("FLUSHALL"),
            Act::RestartRedis => f.write_str("restart Redis empty"),
            Act::FailOver => f.write_str("kill the primary, promote the replica"),
            Act::SplitBrain => f.write_str("promote the replica, the old primary lives on"),
            Act::MoveSlot => f.write_str("move the room's slot"),
            Act::Burst(pod) => write!(f, "link proxy of pod {pod}: Cut, and a burst of gifts"),
            Act::Link(pod, traffic) => write!(f, "link proxy of pod {pod}: {traffic:?}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8.3} s  {} ({} ms)", self.at as f64 / 1000.0, self.act, self.lasts)
    }
}

/// Two lists of faults: those of one list do not overlap. All are over by `until`.
pub fn draw(seed: u64, nemesis: Nemesis, pods: usize, until: Ms) -> [Vec<Step>; 2] {
    let mut random = StdRng::seed_from_u64(seed);
    [pod_deck as Deck, store_deck].map(|deck| {
        let mut steps = Vec::new();
        let mut cards = Vec::new();
        let mut at = START + random.random_range(0..1_500);
        while at < until {
            if cards.is_empty() {
                // Every fault comes once before any comes twice.
                cards = deck(nemesis, pods, &mut random);
                cards.shuffle(&mut random);
            }
            let Some(act) = cards.pop() else { break };
            let mut lasts = lasts(act, &mut random);
            if nemesis == Nemesis::Links {
                lasts = lasts.min(1_500);
            }
            let round = at % (TROUBLE + CALM);
            if round + lasts > TROUBLE {
                cards.push(act);
                at += TROUBLE + CALM - round + random.random_range(0..1_500);
                continue;
            }
            if at + lasts > until {
                break;
            }
            steps.push(Step { at, act, lasts });
            at += lasts + random.random_range(300..2_500);
        }
        steps
    })
}

type Deck = fn(Nemesis, usize, &mut StdRng) -> Vec<Act>;

fn pod_deck(nemesis: Nemesis, pods: usize, random: &mut StdRng) -> Vec<Act> {
    let mut pod = || random.random_range(0..pods);
    match nemesis {
        Nemesis::Links => vec![],
        _ => vec![Act::KillPod(pod()), Act::KillPod(pod()), Act::StopPod(pod()), Act::DrainPod(pod())],
    }
}

fn store_deck(nemesis: Nemesis, pods: usize, random: &mut StdRng) -> Vec<Act> {
    let mut link = |traffic| Act::Link(random.random_range(0..pods), traffic);
    let links = vec![
        link(Traffic::Cut),
        link(Traffic::Stalls),
        link(Traffic::HalfOpen),
        link(Traffic::Late(Duration::from_millis(200))),
    ];
    let cuts = vec![link(Traffic::Cut), Act::CutSubscriptions];
    let burst = vec![Act::Burst(random.random_range(0..pods))];
    let redis = [Act::CutSubscriptions, Act::PauseRedis, Act::StopRedis, Act::Flush];
    match nemesis {
        Nemesis::Pair => {
            let more = [Act::CutSubscriptions, Act::RestartRedis, Act::FailOver, Act::SplitBrain];
            [links, redis.to_vec(), more.to_vec(), burst].concat()
        }
        Nemesis::Cluster => [redis.to_vec(), vec![Act::MoveSlot, Act::MoveSlot]].concat(),
        Nemesis::Links => cuts,
    }
}

fn lasts(act: Act, random: &mut StdRng) -> Ms {
    match act {
        Act::CutSubscriptions | Act::Flush | Act::MoveSlot => 0,
        // As long as it takes to publish them, which is about this.
        Act::Burst(_) => 4_000,
        Act::KillPod(_) | Act::DrainPod(_) => random.random_range(100..5_000),
        Act::FailOver | Act::SplitBrain | Act::RestartRedis => random.random_range(200..4_000),
        Act::PauseRedis | Act::StopRedis | Act::StopPod(_) | Act::Link(..) => random.random_range(300..9_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_schedule_and_another_is_another() {
        let schedule = |seed| draw(seed, Nemesis::Pair, 3, 120_000);
        assert_eq!(schedule(7), schedule(7));
        assert_ne!(schedule(7), schedule(8));
    }

    #[test]
    fn faults_of_one_list_do_not_overlap_and_rounds_end_in_calm() {
        for seed in 0..50 {
            for steps in draw(seed, Nemesis::Pair, 3, 300_000) {
                assert!(steps.len() > 5);
                for pair in steps.windows(2) {
                    assert!(pair[0].at + pair[0].lasts < pair[1].at);
                }
                assert!(steps.iter().all(|step| (step.at + step.lasts) % (TROUBLE + CALM) <= TROUBLE));
            }
        }
    }

    #[test]
    fn a_long_run_has_every_fault() {
        let steps = draw(1, Nemesis::Pair, 3, 600_000).concat();
        for act in [Act::Flush, Act::FailOver, Act::SplitBrain, Act::StopRedis, Act::RestartRedis] {
            assert!(steps.iter().any(|step| step.act == act), "{act}");
        }
    }
}
