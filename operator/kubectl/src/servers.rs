//! What all servers of a fleet say of themselves.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use danmu_client::{Load, Publisher};
use danmu_operator::{Told, state};
use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::cluster::Cluster;

/// Servers asked at once.
const AT_ONCE: usize = 16;
const ACCEPTED: &str = "danmu_accepted_messages_total";

/// What one server said.
pub(crate) struct Answer {
    pub(crate) load: Load,
    /// All messages it took, and when it said so; none where metrics have a token of their own.
    pub(crate) accepted: Option<(f64, Instant)>,
}

/// Ways to servers, kept open between rounds.
#[derive(Default)]
pub(crate) struct Servers {
    open: HashMap<String, Publisher>,
}

impl Servers {
    /// Asks all servers that run; by the pod's name, each with why it did not answer.
    pub(crate) async fn ask(&mut self, cluster: &Cluster) -> HashMap<String, Result<Answer, String>> {
        let running = cluster.found.pods.iter().filter(|pod| state(pod).0);
        let asked: Vec<_> = running
            .map(|pod| {
                let (name, known) = (pod.name_any(), self.open.get(&pod.name_any()).cloned());
                async move {
                    let server = match known {
                        Some(server) => Ok(server),
                        None => cluster.server(&name).await,
                    };
                    match server {
                        Ok(server) => (name, answer(&server).await.map(|answer| (server, answer))),
                        Err(error) => (name, Err(error)),
                    }
                }
            })
            .collect();
        let answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        // A pod that did not answer is reached anew: another one may have its name by now.
        self.open.clear();
        let mut all = HashMap::new();
        for (name, answer) in answers {
            all.insert(
                name.clone(),
                answer.map(|(server, answer)| {
                    self.open.insert(name, server);
                    answer
                }),
            );
        }
        all
    }
}

async fn answer(server: &Publisher) -> Result<Answer, String> {
    let load = server.load().await.map_err(|fault| fault.to_string())?;
    let metrics = server.metrics().await.ok();
    let accepted = metrics.and_then(|text| counter(&text, ACCEPTED)).map(|count| (count, Instant::now()));
    Ok(Answer { load, accepted })
}

/// A counter without labels.
fn counter(metrics: &str, name: &str) -> Option<f64> {
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.split(' ').next()?.parse().ok())
}

/// Messages a second between two answers; a server that began anew counts from nothing.
pub(crate) fn rate(before: (f64, Instant), now: (f64, Instant)) -> Option<f64> {
    let passed = now.1.saturating_duration_since(before.1);
    let count = if now.0 >= before.0 { now.0 - before.0 } else { now.0 };
    (passed >= Duration::from_millis(100)).then(|| count / passed.as_secs_f64())
}

/// The loads in the operator's words, by the pods' uids.
pub(crate) fn loads(
    cluster: &Cluster,
    answers: &HashMap<String, Result<Answer, String>>,
) -> HashMap<String, Arc<Told>> {
    let seconds = i64::from(cluster.found.fleet.spec.drain_seconds);
    let known = cluster.found.pods.iter().filter_map(|pod| {
        let answer = answers.get(&pod.name_any())?.as_ref().ok()?;
        Some((pod.uid()?, Arc::new(heard(&answer.load, seconds, Timestamp::now()))))
    });
    known.collect()
}

fn heard(load: &Load, drain_seconds: i64, at: Timestamp) -> Told {
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let left = load.seconds_left.map_or(0, |left| i64::try_from(left).unwrap_or(i64::MAX));
    Told {
        at,
        viewers: count(u64::try_from(load.viewers).unwrap_or(0)),
        capacity: count(load.capacity),
        rooms: load.rooms.iter().map(|(room, viewers)| (room.clone(), count(*viewers))).collect(),
        shedding: load.shedding.clone(),
        draining: load
            .draining
            .then(|| at - SignedDuration::from_secs((drain_seconds - left).clamp(1, 3600))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_came_between_two_answers() {
        let began = Instant::now();
        let later = began + Duration::from_secs(2);
        assert_eq!(rate((10.0, began), (30.0, later)), Some(10.0));
        assert_eq!(rate((10.0, began), (4.0, later)), Some(2.0), "begun anew");
        assert_eq!(rate((10.0, began), (30.0, began)), None);
    }

    #[test]
    fn a_counter_is_read_out_of_openmetrics() {
        let text = "# TYPE danmu_accepted_messages counter\ndanmu_accepted_messages_total 42 1.5\ndanmu_x 1\n# EOF\n";
        assert_eq!(counter(text, ACCEPTED), Some(42.0));
        assert_eq!(counter("danmu_accepted_messages_total_more 7", ACCEPTED), None);
    }

    #[test]
    fn a_drain_began_before_what_is_left_of_it() {
        let load = Load { draining: true, seconds_left: Some(40), viewers: -1, ..Load::default() };
        let at = Timestamp::UNIX_EPOCH;
        let told = heard(&load, 60, at);
        assert_eq!((told.draining, told.viewers), (Some(at - SignedDuration::from_secs(20)), 0));
    }
}
