//! `kubectl danmu why ROOM`: the plan's reasons, made from what is seen now.

use danmu_plan::{Fleet, Plan};
use kube::ResourceExt;

use crate::{
    cluster::Cluster,
    servers::{self, Servers},
    table::table,
};

/// Observes the fleet as the operator does, plans, and prints why.
pub(crate) async fn why(cluster: &Cluster, room: &str) -> Result<(), String> {
    let Some(manifest) = cluster.found.rooms.iter().find(|known| known.name_any() == room) else {
        return Err(no_room(cluster, room));
    };
    let answers = Servers::default().ask(cluster).await;
    for (pod, answer) in &answers {
        if let Err(error) = answer {
            eprintln!("kubectl danmu: {pod} did not tell its load: {error}");
        }
    }
    let observation = cluster.found.observation(servers::loads(cluster, &answers));
    let plan = danmu_plan::plan(&observation);
    let fleet = &observation.fleet;
    println!("{}", plan.reason_of(fleet, room).unwrap_or_else(|| format!("{room}: not planned")));
    println!("\nThe fleet {}:", cluster.found.fleet.name_any());
    for line in of_fleet(&plan, fleet) {
        println!("  {line}");
    }
    let conditions = manifest.status.iter().flat_map(|status| &status.conditions);
    let rows: Vec<Vec<String>> = conditions
        .map(|condition| {
            [&condition.type_, &condition.status, &condition.reason, &condition.message]
                .map(Clone::clone)
                .into()
        })
        .collect();
    if rows.is_empty() {
        println!("\nThe operator has not said anything of it yet: does it run?");
    } else {
        println!("\nWhat the operator said last:");
        print!("{}", table(&["CONDITION", "STATUS", "REASON", "MESSAGE"], &rows));
    }
    Ok(())
}

/// The reasons without those of single rooms: there may be hundreds.
fn of_fleet(plan: &Plan, fleet: &Fleet) -> Vec<String> {
    let is_rooms = |line: &String| {
        line.split_once(": ")
            .and_then(|(name, _)| plan.reason_of(fleet, name))
            .is_some_and(|own| own == *line)
    };
    plan.reasons(fleet).into_iter().filter(|line| !is_rooms(line)).collect()
}

fn no_room(cluster: &Cluster, room: &str) -> String {
    let fleet = cluster.found.fleet.name_any();
    format!(
        "the fleet {fleet} has no room {room} in the namespace {}; see: kubectl get danmurooms -n {0}",
        cluster.namespace
    )
}

#[cfg(test)]
mod tests {
    use danmu_plan::Observation;

    use super::*;

    #[test]
    fn of_the_fleet_only_its_own_reasons_are_told() {
        let saved = r#"{"now": "2026-11-01T18:00:00Z", "replicas": 0, "replicasSince": "2026-11-01T17:00:00Z",
            "fleet": {"name": "danmu-default", "viewersPerPod": 100, "replicas": {"min": 1, "max": 5},
                "headroomPercent": 20, "warmupSeconds": 300, "hotRoomViewers": 50, "maxHotRooms": 10, "drainSeconds": 60},
            "rooms": [{"name": "finals", "expectedViewers": 250}, {"name": "rollout", "expectedViewers": 90}]}"#;
        let observation: Observation = serde_json::from_str(saved).unwrap();
        let told = of_fleet(&danmu_plan::plan(&observation), &observation.fleet);
        assert!(told[0].starts_with("replicas "), "{told:?}");
        assert!(!told.iter().any(|line| line.contains("finals") || line.starts_with("rollout")), "{told:?}");
    }
}
