//! The rules of the schemas that hold several fields against each other, in the form for files. The tests hold
//! the two forms against each other.

use crate::{DanmuFleetSpec, DanmuRoomSpec};

/// What a room's fields say against each other.
pub(super) fn of_room(spec: &DanmuRoomSpec) -> Vec<String> {
    let upside_down = spec.schedule.iter().enumerate().filter(|(_, window)| window.start >= window.end);
    upside_down
        .map(|(nth, _)| format!("spec.schedule[{nth}]: ends before it starts; correct one of the two"))
        .collect()
}

/// What a fleet's fields say against each other.
pub(super) fn of_fleet(spec: &DanmuFleetSpec) -> Vec<String> {
    let mut faults = Vec::new();
    if spec.replicas.min > spec.replicas.max {
        faults.push("spec.replicas: min is more than max; correct one of the two".to_owned());
    }
    if spec.redis.as_ref().is_some_and(|redis| redis.url.is_some() == redis.secret_ref.is_some()) {
        faults.push("spec.redis: give either url or secretRef, and not both".to_owned());
    }
    if spec.route.gateway.is_some() && spec.route.ingress.is_some() {
        faults.push("spec.route: give gateway or ingress, and not both".to_owned());
    }
    faults
}
