//! What happens to Redis, and what pods make of it: slots that move, primaries that die, TLS, many rooms.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

mod cluster;
mod failover;
mod hooks;
mod proxy;
mod rooms;
mod secure;
mod sub_rooms;
#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
#[path = "../support/mod.rs"]
mod support;

use danmu_server::relay::Receipt;
use support::pod::{Pod, Seen};

/// What was acknowledged in one room.
#[derive(Default)]
struct Acknowledged(Vec<(Receipt, String)>);

impl Acknowledged {
    async fn gift(&mut self, pod: &Pod, room: &str, name: String) {
        self.0.push((pod.gift_at_last(room, &name).await, name));
    }

    /// Every acknowledged event came once, or its epoch has ended and everybody was told.
    fn came_or_its_loss_was_told(&self, seen: &Seen) {
        seen.is_whole();
        for (receipt, name) in &self.0 {
            let times = seen.names().iter().filter(|n| *n == name).count();
            let told = receipt.epoch != seen.epoch && seen.openings > 1;
            assert!(times == 1 || (times == 0 && told), "{name} came {times} times: {receipt:?} {seen:?}");
        }
    }
}
