//! Publishes chats and numbers, in the order in which rooms gave them.

use std::sync::{Arc, atomic::Ordering};

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
    let connection = &session.commanding;
    let each = turn.iter().map(|packet| {
        let mut command = redis::cmd(connection.publish());
        command.arg(&packet.channel).arg(&packet.bytes);
        async move { connection.send(&command).await }
    });
    for sent in join_all(each).await {
        match sent {
            Ok(_) => {
                shared.metrics.published.inc();
            }
            Err(error) => {
                shared.metrics.lost("not_sent");
                session.failed(&error);
            }
        }
    }
}
