//! The rules of the schemas that hold several fields against each other, in the form for files. The tests hold
//! the two forms against each other.

use super::is_https;
use crate::{DanmuFleetSpec, DanmuRoomSpec, Hooks, RoomMode, hooks::is_hook_url, schema::clipped};

/// What a room's fields say against each other.
pub(super) fn of_room(spec: &DanmuRoomSpec) -> Vec<String> {
    let upside_down = spec.schedule.iter().enumerate().filter(|(_, window)| window.start >= window.end);
    let mut faults: Vec<String> = upside_down
        .map(|(nth, _)| format!("spec.schedule[{nth}]: ends before it starts; correct one of the two"))
        .collect();
    if spec.recording.is_some() && spec.started_at.is_none() && spec.mode == RoomMode::Live {
        faults.push("spec.recording: a Live room is recorded from startedAt on; add startedAt".to_owned());
    }
    if spec.shedding.is_some() && (spec.recording.is_none() || spec.started_at.is_none()) {
        faults.push(
            "spec.shedding: viewers then fetch what is recorded; add recording and startedAt".to_owned(),
        );
    }
    if spec.shedding.is_some_and(|s| s.viewers_above.is_none() && s.messages_per_second_above.is_none()) {
        faults.push("spec.shedding: is empty; give viewersAbove, messagesPerSecondAbove or both".to_owned());
    }
    faults
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
    faults.extend(spec.hooks.iter().flat_map(of_hooks));
    let key_set = spec.auth.as_ref().and_then(|auth| auth.jwks.as_ref());
    if key_set.is_some_and(|key_set| !is_https(&key_set.url)) {
        faults.push(
            "spec.auth.jwks.url: is no https address; write one such as https://id.example.com/.well-known/jwks.json"
                .to_owned(),
        );
    }
    faults
}

fn of_hooks(hooks: &Hooks) -> Vec<String> {
    let mut urls: Vec<(String, &str)> = hooks
        .webhooks
        .iter()
        .enumerate()
        .map(|(nth, hook)| (format!("spec.hooks.webhooks[{nth}].url"), hook.url.as_str()))
        .collect();
    urls.extend(hooks.publish.iter().map(|hook| ("spec.hooks.publish.url".to_owned(), hook.url.as_str())));
    let mut faults: Vec<String> = urls.into_iter().filter(|(_, url)| !is_hook_url(url)).map(|(field, url)| {
        format!("{field}: {:?} is not an address; write one such as https://example.com/danmu, without a user or a fragment", clipped(url))
    }).collect();
    let names: std::collections::HashSet<&str> =
        hooks.webhooks.iter().map(|hook| hook.name.as_str()).collect();
    if names.len() < hooks.webhooks.len() {
        faults.push("spec.hooks.webhooks: two have one name; give each a name of its own".to_owned());
    }
    faults
}
