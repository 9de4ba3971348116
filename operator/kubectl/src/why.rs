//! `kubectl danmu why ROOM`: the plan's reasons, made from what is seen now.

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
    let own = format!("{room}: ");
    for line in plan.reasons(fleet).iter().filter(|line| !line.starts_with(&own)) {
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

fn no_room(cluster: &Cluster, room: &str) -> String {
    let fleet = cluster.found.fleet.name_any();
    format!(
        "the fleet {fleet} has no room {room} in the namespace {}; see: kubectl get danmurooms -n {0}",
        cluster.namespace
    )
}
