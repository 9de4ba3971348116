//! The plan in sentences, for `danmu-operator plan` and for Events.

use crate::{Fleet, Placed, Plan, ReplicasReason, Rollout, RoomPlan, Share, Source};

impl Plan {
    /// Why the plan is as it is, a sentence a line: the fleet first, then each room that is hot or not covered.
    pub fn reasons(&self, fleet: &Fleet) -> Vec<String> {
        let mut lines = vec![self.replicas_line()];
        if self.loads_unknown {
            let unknown = self.unknown.len();
            lines.push(format!(
                "the loads of {unknown} Ready pods, over a third, are unknown: no pod is added or removed"
            ));
        } else if !self.unknown.is_empty() {
            let names = names(fleet, self.unknown.iter().copied());
            lines.push(format!("the load of {names} is unknown: it keeps its rooms and gets no more"));
        }
        if !self.drain.is_empty() {
            lines.push(format!("{} drains", names(fleet, self.drain.iter().copied())));
        }
        if !self.undrain.is_empty() {
            lines.push(format!(
                "{} is needed again and stops draining",
                names(fleet, self.undrain.iter().copied())
            ));
        }
        lines.extend(self.rollout_line(fleet));
        if self.uncovered > 0 {
            lines.push(format!("no pod has room for {} of {} viewers", self.uncovered, self.demand));
        }
        lines.extend(
            self.rooms.iter().filter(|room| room.hot || !room.placed.holds()).map(|room| room.line(fleet)),
        );
        lines
    }

    /// Why one room is where it is, hot or not.
    pub fn reason_of(&self, fleet: &Fleet, room: &str) -> Option<String> {
        self.rooms.iter().find(|planned| planned.name == room).map(|planned| planned.line(fleet))
    }

    fn replicas_line(&self) -> String {
        let replicas = &self.replicas;
        let why = match replicas.reason {
            ReplicasReason::Demand => format!("{} viewers need {}", self.demand, replicas.needed),
            ReplicasReason::Minimum => {
                format!("the fleet's minimum; {} viewers need {}", self.demand, replicas.needed)
            }
            ReplicasReason::Maximum => format!("the fleet's maximum; {} viewers need more", self.demand),
            ReplicasReason::TailUnknown => "the load of the highest pod is unknown, so it stays".to_owned(),
            ReplicasReason::LoadsUnknown => "too many loads are unknown to change them".to_owned(),
            ReplicasReason::Paused => "the fleet is paused".to_owned(),
            ReplicasReason::RollingOut => "no pod goes while a rollout runs".to_owned(),
            ReplicasReason::Surge => {
                "one pod more, to hold the viewers of the pod that is replaced".to_owned()
            }
        };
        let on_the_way = match replicas.now {
            now if now > replicas.target => format!(" (now {now}, until the rest is empty)"),
            _ => String::new(),
        };
        format!("replicas {}{on_the_way}: {why}", replicas.target)
    }

    fn rollout_line(&self, fleet: &Fleet) -> Option<String> {
        Some(match self.rollout {
            Rollout::Done => return None,
            Rollout::Held => {
                "outdated pods wait: the fleet is paused, or too many loads are unknown".to_owned()
            }
            Rollout::Surge => "rollout: one more pod first, the others cannot hold the viewers".to_owned(),
            Rollout::Await(pod) => format!(
                "rollout: waits until {} is Ready, at the newest revision, with a known load",
                fleet.pod_name(pod)
            ),
            Rollout::Drain(pod) => format!("rollout: {} drains, to be replaced", fleet.pod_name(pod)),
            Rollout::Evict(pod) => format!("rollout: {} is replaced", fleet.pod_name(pod)),
        })
    }
}

impl RoomPlan {
    fn line(&self, fleet: &Fleet) -> String {
        let source = match self.source {
            Source::Expected => "expected".to_owned(),
            Source::Scheduled => "scheduled".to_owned(),
            Source::Observed => format!("{} now, and headroom", self.observed),
        };
        let place = match self.placement.as_slice() {
            [] => "on all pods".to_owned(),
            shares => format!("on {}", placed_on(fleet, shares)),
        };
        let divided = match self.parts.iter().map(|part| part.sub_room).max() {
            Some(last) => format!(", in {} sub-rooms", last.saturating_add(1)),
            None => String::new(),
        };
        let short = match self.placed {
            Placed::PodsStarting | Placed::LoadsUnknown | Placed::FleetFull if self.uncovered == 0 => {
                "; fewer pods than its minPods".to_owned()
            }
            Placed::Fits | Placed::Shared => String::new(),
            Placed::TooManyHotRooms => "; larger rooms use up maxHotRooms".to_owned(),
            Placed::PodsStarting => format!("; {} wait for pods that start", self.uncovered),
            Placed::LoadsUnknown => format!("; {} fit only on pods of unknown load", self.uncovered),
            Placed::FleetFull => format!("; no room for {}", self.uncovered),
            Placed::NoReadyPods => "; no pod is Ready".to_owned(),
        };
        format!("{}: {} viewers ({source}) {place}{divided}{short}", self.name, self.demand)
    }
}

fn placed_on(fleet: &Fleet, shares: &[Share]) -> String {
    let most = shares.iter().map(|share| share.viewers).max().unwrap_or(0);
    format!("{}, {most} each", names(fleet, shares.iter().map(|share| share.pod)))
}

/// `danmu-default-0..3, 7`: runs of ordinals, because a large room may have a hundred pods.
fn names(fleet: &Fleet, ordinals: impl Iterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for ordinal in ordinals {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(ordinal) => *last = ordinal,
            _ => runs.push((ordinal, ordinal)),
        }
    }
    let runs: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}..{last}") })
        .collect();
    fleet.name.clone() + "-" + &runs.join(", ")
}

#[cfg(test)]
mod tests;
