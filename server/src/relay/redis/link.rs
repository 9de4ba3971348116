//! Holds the subscriptions and takes what arrives.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use danmu_wire::{Event, Lane};
use rand::RngExt;
use redis::{PushInfo, PushKind, RedisError};
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::JoinSet,
};

use super::{
    Address, BYTES, Command, Connection, OUTGOING, Session, Shared,
    packet::{self, Packet},
    script::{self, Answer},
    subscription::Subscription,
    unix_micros,
};
use crate::relay::{Change, Deliver, Opening, peers::Arrived, sequence::Step};

/// Pushed messages that wait; at 20,000 a second these are 400 ms.
const PUSHED: usize = 8192;
/// Loads on their way at once.
const LOADS: usize = 64;
const TICK: Duration = Duration::from_secs(1);
/// How often rooms in use are compared with the log, in ticks.
const COMPARE: u32 = 10;
/// Rooms whose numbers are told in one turn, and the time between two turns: all at once they would fill
/// the queues of every pod, and chats would fall out.
const TURN: usize = 256;
const TURNS: Duration = Duration::from_millis(5);
/// Between two pings; with the wait for an answer under 5 s.
const PING: Duration = Duration::from_secs(2);
/// The first wait before a new connection, and the longest. Each is drawn anew, so that the pods of a
/// fleet do not all come back in the same moment.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// What Redis pushes, on its way to the link.
struct Pushed {
    messages: mpsc::Sender<(String, Vec<u8>)>,
    bytes: AtomicUsize,
    /// Something was lost on the way: a full queue, or a cluster node that went away.
    lost: AtomicBool,
    /// Rung when the session turned out to be dead.
    broken: Arc<Notify>,
    is_cluster: bool,
}

/// A load that came back.
struct Load {
    room: Arc<str>,
    answer: Result<Answer, RedisError>,
}

struct Link {
    shared: Arc<Shared>,
    rooms: HashMap<Arc<str>, Subscription>,
    loads: JoinSet<Load>,
    permits: Arc<Semaphore>,
    /// Rooms whose numbers wait to be told, with the packet.
    telling: VecDeque<(Arc<str>, Vec<u8>)>,
    ticks: u32,
}

/// Connects, serves, and connects again, until the process ends.
pub(super) async fn run(shared: Arc<Shared>, address: Address, mut commands: mpsc::Receiver<Command>) {
    let mut link = Link {
        shared,
        rooms: HashMap::new(),
        loads: JoinSet::new(),
        permits: Arc::new(Semaphore::new(LOADS)),
        telling: VecDeque::new(),
        ticks: 0,
    };
    let mut wait = BACK_OFF[0];
    let mut told = false;
    loop {
        let (messages, mut pushed) = mpsc::channel(PUSHED);
        let queue = Arc::new(Pushed {
            messages,
            bytes: AtomicUsize::new(0),
            lost: AtomicBool::new(false),
            broken: Arc::default(),
            is_cluster: address.is_cluster(),
        });
        match link.connect(&address, &queue).await {
            Ok((commanding, listening)) => {
                (wait, told) = (BACK_OFF[0], false);
                link.serve(commanding, &listening, &queue, &mut pushed, &mut commands).await;
            }
            Err(error) if !told => {
                told = true;
                tracing::warn!(%error, "Redis cannot be reached; rooms go on by themselves");
            }
            Err(_) => {}
        }
        link.go_alone();
        let until = tokio::time::Instant::now() + wait.mul_f64(rand::rng().random_range(0.5..1.5));
        wait = (wait * 2).min(BACK_OFF[1]);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                command = commands.recv() => match command {
                    Some(command) => link.note(&command),
                    None => return,
                },
            }
        }
    }
}

impl Link {
    async fn connect(
        &self,
        address: &Address,
        queue: &Arc<Pushed>,
    ) -> Result<(Connection, Connection), RedisError> {
        let ignore = |_: PushInfo| {};
        let commanding = Connection::open(address, ignore).await?;
        let queue = Arc::clone(queue);
        let shared = Arc::clone(&self.shared);
        let listening = Connection::open(address, move |info| queue.take(info, &shared)).await?;
        self.shared.metrics.connects.inc();
        Ok((commanding, listening))
    }

    /// Redis is away: whoever waits for a room is let in.
    fn go_alone(&mut self) {
        self.shared.session.store(None);
        self.shared.metrics.degraded.set(1);
        self.loads.abort_all();
        self.loads = JoinSet::new();
        self.telling.clear();
        let Some(deliver) = self.shared.deliver() else { return };
        for (room, subscription) in &mut self.rooms {
            subscription.sequence.load_failed();
            deliver.alone(room);
        }
    }

    /// While Redis is away.
    fn note(&mut self, command: &Command) {
        match command {
            Command::Open(room) => {
                self.rooms.entry(Arc::clone(room)).or_insert_with(Subscription::new);
                if let Some(deliver) = self.shared.deliver() {
                    deliver.alone(room);
                }
            }
            Command::Close(room) => drop(self.rooms.remove(room)),
            Command::Check(_) => {}
        }
    }

    /// One session: until a connection turns out to be dead.
    async fn serve(
        &mut self,
        commanding: Connection,
        listening: &Connection,
        queue: &Pushed,
        pushed: &mut mpsc::Receiver<(String, Vec<u8>)>,
        commands: &mut mpsc::Receiver<Command>,
    ) {
        let channels: Vec<String> = self.rooms.keys().map(|room| self.shared.keys.channel(room)).collect();
        if let Err(error) = listening.subscribe(&channels).await {
            tracing::warn!(%error, "Redis refused the subscriptions");
            return;
        }
        let broken = Arc::clone(&queue.broken);
        let session = Arc::new(Session { commanding: commanding.clone(), broken });
        self.shared.session.store(Some(Arc::clone(&session)));
        self.shared.metrics.degraded.set(0);
        tracing::info!(rooms = channels.len(), "connected to Redis");
        self.come_back();
        let pings = tokio::spawn(ping(Arc::clone(&session), listening.clone()));
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut turns = tokio::time::interval(TURNS);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = queue.broken.notified() => break,
                Some((channel, bytes)) = pushed.recv() => {
                    queue.bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
                    self.take(&channel, &bytes, &commanding);
                }
                Some(load) = self.loads.join_next() => {
                    if let Ok(load) = load {
                        self.loaded(load, &session);
                    }
                }
                command = commands.recv() => {
                    let Some(command) = command else { break };
                    if !self.obey(command, commands, &commanding, listening).await {
                        break;
                    }
                }
                _ = turns.tick(), if !self.telling.is_empty() => self.tell(),
                _ = tick.tick() => {
                    let lost = queue.lost.swap(false, Ordering::Relaxed);
                    if !self.tick(lost, &commanding, listening).await {
                        break;
                    }
                }
            }
        }
        pings.abort();
        tracing::warn!("the connection to Redis is lost; rooms go on by themselves");
    }

    /// After a cut every room's lane is made whole from the log.
    fn come_back(&mut self) {
        let now = Instant::now();
        for subscription in self.rooms.values_mut() {
            subscription.roster.heard_again(now);
            subscription.asked = true;
            subscription.reload = true;
        }
    }

    /// Opens and closes rooms, all that wait at once: a thousand rooms are one SUBSCRIBE.
    async fn obey(
        &mut self,
        first: Command,
        commands: &mut mpsc::Receiver<Command>,
        commanding: &Connection,
        listening: &Connection,
    ) -> bool {
        let (mut opened, mut closed) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Open(room) if !self.rooms.contains_key(&room) => opened.push(room),
                Command::Open(room) | Command::Check(room) => self.load(&room, commanding),
                Command::Close(room) => closed.push(room),
            }
            next = commands.try_recv().ok();
        }
        self.close(closed, listening).await;
        self.open(opened, commanding, listening).await
    }

    async fn open(&mut self, rooms: Vec<Arc<str>>, commanding: &Connection, listening: &Connection) -> bool {
        if rooms.is_empty() {
            return true;
        }
        let channels: Vec<String> = rooms.iter().map(|room| self.shared.keys.channel(room)).collect();
        // Subscribed first and loaded then, so that nothing falls between the two.
        let subscribed = listening.subscribe(&channels).await;
        for room in rooms {
            self.rooms.insert(Arc::clone(&room), Subscription::new());
            self.telling.push_back((Arc::clone(&room), packet::here(&self.shared.pod, 0, 0)));
            if subscribed.is_ok() {
                self.load(&room, commanding);
            }
        }
        self.shared.metrics.subscriptions.set(self.rooms.len() as i64);
        subscribed.is_ok()
    }

    async fn close(&mut self, rooms: Vec<Arc<str>>, listening: &Connection) {
        if rooms.is_empty() {
            return;
        }
        let channels: Vec<String> = rooms.iter().map(|room| self.shared.keys.channel(room)).collect();
        listening.unsubscribe(&channels).await;
        for room in rooms {
            self.rooms.remove(&room);
            self.shared.send(&room, packet::gone(&self.shared.pod));
        }
        self.shared.metrics.subscriptions.set(self.rooms.len() as i64);
    }

    /// Tells the next rooms' numbers, as long as half of the queue is left for chats.
    fn tell(&mut self) {
        for _ in 0..TURN {
            if self.shared.outgoing.capacity() < OUTGOING / 2 {
                return;
            }
            let Some((room, packet)) = self.telling.pop_front() else { return };
            if self.rooms.contains_key(&room) {
                self.shared.send(&room, packet);
            }
        }
    }

    /// Starts to load a room's log, unless that is under way.
    fn load(&mut self, room: &Arc<str>, commanding: &Connection) {
        let Some(subscription) = self.rooms.get_mut(room) else { return };
        subscription.reload = false;
        if !subscription.sequence.start_load() {
            return;
        }
        self.shared.metrics.loads.inc();
        let known = subscription.known();
        let (shared, permits) = (Arc::clone(&self.shared), Arc::clone(&self.permits));
        let (room, connection) = (Arc::clone(room), commanding.clone());
        self.loads.spawn(async move {
            let _permit = permits.acquire().await;
            let answer = shared.scripts.load(&connection, &shared.keys, &room, &known).await;
            Load { room, answer }
        });
    }

    fn loaded(&mut self, Load { room, answer }: Load, session: &Session) {
        let Some(deliver) = self.shared.deliver() else { return };
        let Some(subscription) = self.rooms.get_mut(&room) else { return };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(room = &*room, %error, "the room's log could not be loaded");
                subscription.sequence.load_failed();
                subscription.reload = true;
                return session.failed(&error);
            }
        };
        let loaded = subscription.sequence.loaded(&answer.epoch, answer.top, answer.events);
        subscription.version = answer.version;
        let offset = subscription.sequence.offset();
        if loaded.anew {
            if !loaded.events.is_empty() {
                subscription.used = Some(Instant::now());
            }
            let moderation = answer.moderation.unwrap_or_default();
            deliver.opened(&room, Opening { epoch: answer.epoch, offset, log: loaded.events, moderation });
        } else {
            for change in answer.moderation.into_iter().flatten() {
                moderate(&*deliver, &room, &change);
            }
            if loaded.lost > 0 {
                deliver.gap(&room, Lane::Priority, Some(loaded.lost));
            }
            self.deliver(&*deliver, &room, loaded.events);
        }
        if loaded.again {
            self.load(&room, &session.commanding);
        }
    }

    /// Delivers priority events; what a full room does not take comes again from the log.
    fn deliver(&mut self, deliver: &dyn Deliver, room: &Arc<str>, events: Vec<Event>) {
        let Some(subscription) = self.rooms.get_mut(room) else { return };
        for event in events {
            let offset = event.offset().unwrap_or_default();
            subscription.used = Some(Instant::now());
            if deliver.priority(room, event).is_err() {
                subscription.sequence.take_back(offset);
                subscription.reload = true;
                return;
            }
        }
    }

    /// Takes one pushed message.
    fn take(&mut self, channel: &str, bytes: &[u8], commanding: &Connection) {
        if packet::sender(bytes) == Some(self.shared.pod.as_bytes()) {
            return;
        }
        let Some((room, _)) = self.shared.keys.room(channel).and_then(|room| self.rooms.get_key_value(room))
        else {
            return;
        };
        let room = Arc::clone(room);
        let (Some(packet), Some(deliver)) = (Packet::parse(bytes), self.shared.deliver()) else {
            return self.shared.metrics.lost("unreadable");
        };
        self.shared.metrics.received.inc();
        let Some(subscription) = self.rooms.get_mut(&room) else { return };
        let now = Instant::now();
        match packet {
            Packet::Chat { pod, before, sent, chats } => {
                let lag = Duration::from_micros(unix_micros().saturating_sub(sent));
                self.shared.metrics.lag.observe(lag.as_secs_f64());
                match subscription.roster.chat(pod, before, chats.len() as u64, now) {
                    Arrived::Late => return self.shared.metrics.lost("late"),
                    Arrived::Next { lost: 0 } => {}
                    Arrived::Next { lost } => deliver.gap(&room, Lane::Chat, Some(lost)),
                }
                deliver.chat(&room, chats);
            }
            Packet::Here { pod, viewers, senders } => {
                subscription.asked |= subscription.roster.here(pod, viewers, senders, now);
                if let Some(peers) = subscription.new_peers() {
                    deliver.peers(&room, peers);
                }
            }
            Packet::Gone { pod } => subscription.roster.gone(pod),
            Packet::Priority { epoch, offset, event } => {
                match subscription.sequence.push(epoch, offset, event) {
                    Step::Wait => {}
                    Step::Deliver(events) => self.deliver(&*deliver, &room, events),
                    Step::Load => self.load(&room, commanding),
                }
            }
            Packet::Epoch(epoch) => {
                if epoch != subscription.sequence.epoch() {
                    self.load(&room, commanding);
                }
            }
            Packet::Moderate(change) => moderate(&*deliver, &room, &change),
        }
    }

    /// Once a second: rooms that were missed, numbers to tell, pods that fell silent, lanes to compare.
    async fn tick(&mut self, lost: bool, commanding: &Connection, listening: &Connection) -> bool {
        let Some(deliver) = self.shared.deliver() else { return true };
        let now = Instant::now();
        self.ticks = self.ticks.wrapping_add(1);
        let here = deliver.here();
        let missed: Vec<Arc<str>> = here
            .iter()
            .filter(|here| !self.rooms.contains_key(&here.room))
            .map(|here| Arc::clone(&here.room))
            .collect();
        if !self.open(missed, commanding, listening).await {
            return false;
        }
        let mut open = std::collections::HashSet::with_capacity(here.len());
        let (compare, all_told) = (self.ticks.is_multiple_of(COMPARE), self.telling.is_empty());
        let mut reload = Vec::new();
        for here in here {
            let Some(subscription) = self.rooms.get_mut(&here.room) else { continue };
            if all_told && subscription.has_to_tell(&here, now) {
                let packet = packet::here(&self.shared.pod, here.viewers, here.senders);
                self.telling.push_back((Arc::clone(&here.room), packet));
            }
            subscription.roster.sweep(now);
            if let Some(peers) = subscription.new_peers() {
                deliver.peers(&here.room, peers);
            }
            if lost || subscription.reload || (compare && subscription.is_in_use(now)) {
                reload.push(Arc::clone(&here.room));
            }
            open.insert(here.room);
        }
        for room in reload {
            self.load(&room, commanding);
        }
        let left = self.rooms.keys().filter(|room| !open.contains(*room)).cloned().collect();
        self.close(left, listening).await;
        true
    }
}

impl Pushed {
    /// On the connection's own task: never waits.
    fn take(&self, info: PushInfo, shared: &Shared) {
        match info.kind {
            PushKind::Message | PushKind::SMessage => {
                let Some(message) = script::message(info.data) else { return };
                let length = message.1.len();
                if self.bytes.fetch_add(length, Ordering::Relaxed) + length > BYTES
                    || self.messages.try_send(message).is_err()
                {
                    self.bytes.fetch_sub(length, Ordering::Relaxed);
                    self.lost.store(true, Ordering::Relaxed);
                    shared.metrics.lost("inbox_full");
                }
            }
            // One server: the session is over. A cluster: one of its nodes, which comes back by itself.
            PushKind::Disconnection => {
                self.lost.store(true, Ordering::Relaxed);
                if !self.is_cluster {
                    self.broken.notify_one();
                }
            }
            _ => {}
        }
    }
}

fn moderate(deliver: &dyn Deliver, room: &str, change: &Change) {
    if let Err(error) = deliver.moderate(room, change) {
        tracing::warn!(room, %error, "a mute or ban of another pod does not fit");
    }
}

/// A half-open link answers nothing and breaks nothing: only asking finds it.
async fn ping(session: Arc<Session>, listening: Connection) {
    loop {
        tokio::time::sleep(PING).await;
        let (commands, pushes) = tokio::join!(session.commanding.ping(), listening.ping());
        if !(commands && pushes) {
            return session.broken.notify_one();
        }
    }
}
