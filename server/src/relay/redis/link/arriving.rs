//! What arrives: pushed packets and loaded logs, on their way to the rooms.

use std::time::{Duration, Instant};

use danmu_wire::{Event, Lane};

use super::{Link, Load};
use crate::relay::{
    Deliver, Opening,
    peers::Arrived,
    redis::{
        Channel, Connection, Session,
        packet::{self, Packet},
        unix_micros,
    },
    sequence::Step,
};

impl Link {
    pub(super) fn loaded(&mut self, Load { room, answer }: Load, session: &Session) {
        let Some(deliver) = self.shared.deliver() else { return };
        let channel = Channel::new(&room, None);
        let Some(subscription) = self.channels.get_mut(&channel) else { return };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(room = &*room, %error, "the room's log could not be loaded; more of this is not told");
                }
                subscription.sequence.load_failed();
                subscription.reload = true;
                return session.failed(&error);
            }
        };
        self.complained = false;
        let mut loaded = subscription.sequence.loaded(&answer.epoch, answer.top, answer.events);
        if !self.shared.recovers && !loaded.anew {
            (loaded.lost, loaded.events) = (0, Vec::new());
        }
        subscription.version = answer.version;
        if let Some(all) = answer.moderation {
            deliver.moderation(&room, &all);
        }
        let offset = subscription.sequence.offset();
        if loaded.anew {
            if !loaded.events.is_empty() {
                subscription.used = Some(Instant::now());
            }
            deliver.opened(&room, Opening { epoch: answer.epoch, offset, log: loaded.events });
        } else {
            if loaded.lost > 0 {
                deliver.gap(&room, None, Lane::Priority, Some(loaded.lost));
            }
            self.deliver(&*deliver, &channel, loaded.events);
        }
        if loaded.again {
            self.load(&channel, &session.commanding);
        }
    }

    /// Delivers priority events; what a full room does not take comes again from the log.
    fn deliver(&mut self, deliver: &dyn Deliver, channel: &Channel, events: Vec<Event>) {
        let Some(subscription) = self.channels.get_mut(channel) else { return };
        for event in events {
            let offset = event.offset().unwrap_or_default();
            subscription.used = Some(Instant::now());
            if deliver.priority(&channel.room, event).is_err() {
                subscription.sequence.take_back(offset);
                subscription.reload = true;
                return;
            }
        }
    }

    /// Takes one pushed message.
    pub(super) fn take(&mut self, channel: &str, bytes: &[u8], commanding: &Connection) {
        let Some((room, sub)) = self.shared.keys.room(channel) else { return };
        let channel = Channel { room: room.into(), sub };
        let room = &channel.room;
        let Some(subscription) = self.channels.get_mut(&channel) else { return };
        if packet::sender(bytes) == Some(self.shared.pod.as_bytes()) {
            return subscription.echoed();
        }
        let (Some(packet), Some(deliver)) = (Packet::parse(bytes), self.shared.deliver()) else {
            return self.shared.metrics.lost("unreadable");
        };
        self.shared.metrics.received.inc();
        let now = Instant::now();
        match packet {
            Packet::Chat { pod, before, sent, chats } => {
                let lag = Duration::from_micros(unix_micros().saturating_sub(sent));
                self.shared.metrics.lag.observe(lag.as_secs_f64());
                match subscription.roster.chat(pod, before, chats.len() as u64, now) {
                    Arrived::Late => return self.shared.metrics.lost("late"),
                    Arrived::Next { lost: 0 } => {}
                    Arrived::Next { lost } => deliver.gap(room, sub, Lane::Chat, Some(lost)),
                }
                deliver.relayed(room, sub, sent, &chats);
                deliver.chat(room, sub, chats);
            }
            Packet::Here { pod, viewers, senders, messages, stage } => {
                subscription.asked |= subscription.roster.here(pod, viewers, senders, now);
                subscription.roster.load(pod, messages, stage);
                if let Some(peers) = subscription.new_peers() {
                    deliver.peers(room, sub, peers);
                }
            }
            Packet::Gone { pod } => subscription.roster.gone(pod),
            // A sub-room's channel is for chats and numbers alone.
            _ if sub.is_some() => self.shared.metrics.lost("unreadable"),
            Packet::Priority { epoch, offset, event } => {
                match subscription.sequence.push(epoch, offset, event) {
                    Step::Wait => {}
                    Step::Deliver(events) => self.deliver(&*deliver, &channel, events),
                    Step::Load => self.load(&channel, commanding),
                }
            }
            Packet::Epoch(epoch) => {
                if epoch != subscription.sequence.epoch() {
                    self.load(&channel, commanding);
                }
            }
            Packet::Held(held) => deliver.held(room, *held),
            Packet::Settled(settled) => deliver.settled(room, &settled),
            Packet::Moderate(change) => {
                // A load that is under way may have looked before this, and would undo it.
                subscription.reload |= subscription.sequence.is_loading();
                if let Err(error) = deliver.moderate(room, &change) {
                    tracing::warn!(room = &**room, %error, "a mute or ban of another pod does not fit");
                }
            }
        }
    }
}
