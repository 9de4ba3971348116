//! Publishes chats and numbers, in the order in which rooms gave them.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::{Outgoing, Shared};

/// Packets in one turn; their commands travel together.
const TURN: usize = 256;

/// Sends until the relay is dropped. While Redis is away packets are lost, and counted.
pub(super) async fn run(shared: Arc<Shared>, mut outgoing: mpsc::Receiver<Outgoing>) {
    let mut turn = Vec::with_capacity(TURN);
    while outgoing.recv_many(&mut turn, TURN).await > 0 {
        let bytes: usize = turn.iter().map(|packet| packet.bytes.len()).sum();
        send(&shared, &turn).await;
        shared.outgoing_bytes.fetch_sub(bytes, Ordering::Relaxed);
        turn.clear();
    }
}

async fn send(shared: &Shared, turn: &[Outgoing]) {
    let Some(session) = shared.session.load_full() else {
        turn.iter().for_each(|_| shared.metrics.lost("away"));
        return;
    };
    let mut rooms: HashMap<&str, Vec<&[u8]>> = HashMap::new();
    for packet in turn {
        rooms.entry(&packet.channel).or_default().push(&packet.bytes);
    }
    // A cluster's connection keeps no order between commands, only within a pipeline.
    let each = rooms.into_iter().map(|(channel, packets)| {
        let connection = &session.commanding;
        async move { (packets.len() as u64, connection.publish_all(channel, &packets).await) }
    });
    for (packets, sent) in join_all(each).await {
        match sent {
            Ok(()) => {
                shared.metrics.published.inc_by(packets);
            }
            Err(error) => {
                (0..packets).for_each(|_| shared.metrics.lost("not_sent"));
                session.failed(&error);
            }
        }
    }
}
