//! Holds the subscriptions and takes what arrives.

mod arriving;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rand::RngExt;
use redis::{PushInfo, RedisError};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use super::{
    Address, Channel, Command, Connection, OUTGOING, Session, Shared, packet,
    pushed::{self, Push, Pushed},
    script::Answer,
    subscription::Subscription,
};
use crate::relay::Here;

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

/// How long a room that opens waits for a connection to be made before it goes on alone.
const BEARABLE: Duration = Duration::from_secs(1);

/// A load that came back.
struct Load {
    room: Arc<str>,
    answer: Result<Answer, RedisError>,
}

struct Link {
    shared: Arc<Shared>,
    channels: HashMap<Channel, Subscription>,
    loads: JoinSet<Load>,
    permits: Arc<Semaphore>,
    /// Rooms whose numbers wait to be told, with the packet.
    telling: VecDeque<(Channel, Vec<u8>)>,
    ticks: u32,
    /// Whether a failing load was told; there is one a room and second.
    complained: bool,
}

/// Connects, serves, and connects again, until the process ends.
pub(super) async fn run(shared: Arc<Shared>, address: Address, mut commands: mpsc::Receiver<Command>) {
    let mut link = Link {
        shared,
        channels: HashMap::new(),
        loads: JoinSet::new(),
        permits: Arc::new(Semaphore::new(LOADS)),
        telling: VecDeque::new(),
        ticks: 0,
        complained: false,
    };
    let mut wait = BACK_OFF[0];
    let mut told = false;
    loop {
        let (pushes, mut pushed) = mpsc::channel(pushed::QUEUE);
        let queue = Arc::new(Pushed::new(pushes, address.is_cluster()));
        let mut connecting = std::pin::pin!(connect(Arc::clone(&link.shared), &address, &queue));
        let connected = match tokio::time::timeout(BEARABLE, &mut connecting).await {
            Ok(connected) => connected,
            Err(_) => match link.meanwhile(&mut commands, connecting).await {
                Some(connected) => connected,
                None => return,
            },
        };
        let started = Instant::now();
        let served = match connected {
            Ok((commanding, listening)) => {
                link.serve(commanding, &listening, &queue, &mut pushed, &mut commands).await
            }
            Err(error) => Err(error),
        };
        match served {
            // A server that takes us and is of no use, as a replica is, must not be asked all the time.
            Ok(()) if started.elapsed() > BACK_OFF[1] => (wait, told) = (BACK_OFF[0], false),
            Ok(()) => {}
            Err(error) if !told => {
                told = true;
                tracing::warn!(%error, "Redis cannot be used; rooms go on by themselves");
            }
            Err(_) => {}
        }
        link.go_alone();
        let pause = tokio::time::sleep(wait.mul_f64(rand::rng().random_range(0.5..1.5)));
        wait = (wait * 2).min(BACK_OFF[1]);
        if link.meanwhile(&mut commands, pause).await.is_none() {
            return;
        }
    }
}

async fn connect(
    shared: Arc<Shared>,
    address: &Address,
    queue: &Arc<Pushed>,
) -> Result<(Connection, Connection), RedisError> {
    let (queue, metrics) = (Arc::clone(queue), Arc::clone(&shared.metrics));
    let take = move |info: PushInfo| queue.take(info, &shared);
    let (commanding, listening) =
        tokio::try_join!(Connection::open(address, |_: PushInfo| {}), Connection::open(address, take))?;
    if !commanding.is_primary().await {
        return Err(std::io::Error::other("it is no primary, or does not tell").into());
    }
    metrics.connects.inc();
    Ok((commanding, listening))
}

impl Link {
    /// Waits for something while Redis is away, and goes on alone with rooms that open; `None` at the end.
    async fn meanwhile<T>(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        something: impl Future<Output = T>,
    ) -> Option<T> {
        let mut something = std::pin::pin!(something);
        loop {
            tokio::select! {
                done = &mut something => return Some(done),
                command = commands.recv() => self.note(&command?),
            }
        }
    }

    /// Redis is away: whoever waits for a room is let in.
    fn go_alone(&mut self) {
        self.shared.session.store(None);
        self.shared.metrics.degraded.set(1);
        // Dropping the set ends the loads in it.
        self.loads = JoinSet::new();
        self.telling.clear();
        let Some(deliver) = self.shared.deliver() else { return };
        for (channel, subscription) in &mut self.channels {
            subscription.sequence.load_failed();
            if channel.sub.is_none() {
                deliver.alone(&channel.room);
            }
        }
    }

    /// While Redis is away.
    fn note(&mut self, command: &Command) {
        match command {
            Command::Open(channel) => {
                self.channels.entry(channel.clone()).or_insert_with(Subscription::new);
                if channel.sub.is_none()
                    && let Some(deliver) = self.shared.deliver()
                {
                    deliver.alone(&channel.room);
                }
            }
            Command::Close(channel) => drop(self.channels.remove(channel)),
            Command::Check(_) => {}
        }
    }

    /// One session: until a connection turns out to be dead.
    async fn serve(
        &mut self,
        commanding: Connection,
        listening: &Connection,
        queue: &Pushed,
        pushed: &mut mpsc::Receiver<Push>,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Result<(), RedisError> {
        let channels = self.names(self.channels.keys());
        listening.subscribe(&channels).await?;
        let broken = Arc::clone(&queue.broken);
        let session = Arc::new(Session { commanding: commanding.clone(), broken });
        self.shared.session.store(Some(Arc::clone(&session)));
        self.shared.metrics.degraded.set(0);
        tracing::info!(channels = channels.len(), "connected to Redis");
        self.come_back();
        let pings = tokio::spawn(ping(Arc::clone(&session), listening.clone()));
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut turns = tokio::time::interval(TURNS);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = queue.broken.notified() => break,
                Some(push) = pushed.recv() => match push {
                    Push::Message(channel, bytes) => {
                        queue.bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
                        self.take(&channel, &bytes, &commanding);
                    }
                    Push::Ended(channel) => self.ended(&channel),
                },
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
                    let cut = queue.cut.swap(false, Ordering::Relaxed);
                    let lost = queue.lost.swap(false, Ordering::Relaxed) || cut;
                    if !self.subscribe_again(cut, listening).await
                        || !self.tick(lost, &commanding, listening).await
                    {
                        break;
                    }
                }
            }
        }
        pings.abort();
        tracing::warn!("the connection to Redis is lost; rooms go on by themselves");
        Ok(())
    }

    /// After a cut every room's lane is made whole from the log.
    fn come_back(&mut self) {
        let now = Instant::now();
        for subscription in self.channels.values_mut() {
            subscription.roster.heard_again(now);
            // What did not come back before the cut says nothing of this session.
            subscription.echoed();
            subscription.asked = true;
            subscription.reload = true;
        }
    }

    fn names<'a>(&self, channels: impl IntoIterator<Item = &'a Channel>) -> Vec<String> {
        let name = |channel: &Channel| self.shared.keys.channel_of(&channel.room, channel.sub);
        channels.into_iter().map(name).collect()
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
                Command::Open(channel) => {
                    closed.retain(|other| *other != channel);
                    match self.channels.get_mut(&channel) {
                        // Its close was overtaken or lost: this is another room, which has been told nothing.
                        Some(subscription) => {
                            subscription.forget_told();
                            // Its chats count from 0, and the other pods still know the old count.
                            self.shared.send(&channel.room, channel.sub, packet::gone(&self.shared.pod));
                            self.load(&channel, commanding);
                        }
                        None => opened.push(channel),
                    }
                }
                Command::Check(room) => self.load(&Channel::new(&room, None), commanding),
                Command::Close(channel) => {
                    opened.retain(|other| *other != channel);
                    closed.push(channel);
                }
            }
            next = commands.try_recv().ok();
        }
        self.close(closed, listening).await;
        self.open(opened, commanding, listening).await
    }

    async fn open(
        &mut self,
        channels: Vec<Channel>,
        commanding: &Connection,
        listening: &Connection,
    ) -> bool {
        if channels.is_empty() {
            return true;
        }
        // Subscribed first and loaded then, so that nothing falls between the two.
        let subscribed = listening.subscribe(&self.names(&channels)).await;
        for channel in channels {
            self.channels.insert(channel.clone(), Subscription::new());
            let (room, sub) = (Arc::clone(&channel.room), channel.sub);
            let here = Here { room, sub, viewers: 0, senders: 0, messages: 0, stage: 0 };
            self.telling.push_back((channel.clone(), packet::here(&self.shared.pod, &here)));
            if subscribed.is_ok() {
                self.load(&channel, commanding);
            }
        }
        self.shared.metrics.subscriptions.set(self.channels.len() as i64);
        subscribed.is_ok()
    }

    async fn close(&mut self, channels: Vec<Channel>, listening: &Connection) {
        if channels.is_empty() {
            return;
        }
        listening.unsubscribe(&self.names(&channels)).await;
        for channel in channels {
            self.channels.remove(&channel);
            self.shared.send(&channel.room, channel.sub, packet::gone(&self.shared.pod));
        }
        self.shared.metrics.subscriptions.set(self.channels.len() as i64);
    }

    /// Tells the next rooms' numbers, as long as half of the queue is left for chats.
    fn tell(&mut self) {
        for _ in 0..TURN {
            if self.shared.outgoing.capacity() < OUTGOING / 2 {
                return;
            }
            let Some((channel, packet)) = self.telling.pop_front() else { return };
            if let Some(subscription) = self.channels.get_mut(&channel)
                && self.shared.send(&channel.room, channel.sub, packet)
            {
                subscription.was_told(Instant::now());
            }
        }
    }

    /// Starts to load a room's log, unless that is under way. A sub-room's channel has none.
    fn load(&mut self, channel: &Channel, commanding: &Connection) {
        let Some(subscription) = self.channels.get_mut(channel) else { return };
        subscription.reload = false;
        if channel.sub.is_some() || !subscription.sequence.start_load() {
            return;
        }
        self.shared.metrics.loads.inc();
        let known = subscription.known();
        let (shared, permits) = (Arc::clone(&self.shared), Arc::clone(&self.permits));
        let (room, connection) = (Arc::clone(&channel.room), commanding.clone());
        self.loads.spawn(async move {
            let _permit = permits.acquire().await;
            let answer = shared.scripts.load(&connection, &shared.keys, &room, &known).await;
            Load { room, answer }
        });
    }

    /// A subscription that ended without our doing has to be made anew.
    fn ended(&mut self, channel: &str) {
        let Some((room, sub)) = self.shared.keys.room(channel) else { return };
        if let Some(subscription) = self.channels.get_mut(&Channel { room: room.into(), sub }) {
            (subscription.is_cut, subscription.reload) = (true, true);
        }
    }

    /// On a cluster: subscribes anew where a slot moved, and everywhere when a node went away. The client
    /// library forgets a subscription that the server ended, and renews those of a dead node only when
    /// some command happens to find the new one.
    async fn subscribe_again(&mut self, everywhere: bool, listening: &Connection) -> bool {
        let mut cut = Vec::new();
        for (channel, subscription) in &mut self.channels {
            if std::mem::take(&mut subscription.is_cut) || everywhere {
                cut.push(self.shared.keys.channel_of(&channel.room, channel.sub));
            }
        }
        let subscribed = listening.subscribe(&cut).await;
        if let Err(error) = &subscribed {
            tracing::warn!(%error, channels = cut.len(), "channels of the Redis cluster cannot be subscribed to again");
        }
        subscribed.is_ok()
    }

    /// Once a second: rooms that were missed, numbers to tell, pods that fell silent, lanes to compare.
    async fn tick(&mut self, lost: bool, commanding: &Connection, listening: &Connection) -> bool {
        let Some(deliver) = self.shared.deliver() else { return true };
        let now = Instant::now();
        self.ticks = self.ticks.wrapping_add(1);
        let here = deliver.here();
        let channels = here.iter().map(|here| Channel::new(&here.room, here.sub));
        let missed = channels.filter(|channel| !self.channels.contains_key(channel)).collect();
        if !self.open(missed, commanding, listening).await {
            return false;
        }
        let mut open = std::collections::HashSet::with_capacity(here.len());
        let (compare, all_told) = (self.ticks.is_multiple_of(COMPARE), self.telling.is_empty());
        let mut reload = Vec::new();
        for here in here {
            let channel = Channel::new(&here.room, here.sub);
            let Some(subscription) = self.channels.get_mut(&channel) else { continue };
            if lost {
                // Our own packet may be among what was lost.
                subscription.echoed();
            }
            // Redis 1.8's client takes what a moved slot pushes for the answer to what was asked before, so a
            // subscription may be lost without a word. On one server the two connections lead to different
            // ones, and the session is over.
            if subscription.is_deaf(now) {
                tracing::warn!(room = &*here.room, sub = here.sub, "the room does not hear its own packets");
                if !listening.is_cluster() {
                    return false;
                }
                (subscription.is_cut, subscription.reload) = (true, true);
            }
            if all_told && subscription.has_to_tell(&here, now) {
                let packet = packet::here(&self.shared.pod, &here);
                self.telling.push_back((channel.clone(), packet));
            }
            subscription.roster.sweep(now);
            if let Some(peers) = subscription.new_peers() {
                deliver.peers(&here.room, here.sub, peers);
            }
            if lost || subscription.reload || (compare && subscription.is_in_use(now)) {
                reload.push(channel.clone());
            }
            open.insert(channel);
        }
        for channel in reload {
            self.load(&channel, commanding);
        }
        let left = self.channels.keys().filter(|channel| !open.contains(*channel)).cloned().collect();
        self.close(left, listening).await;
        true
    }
}

/// A half-open link answers nothing and breaks nothing, and a primary that was demoted goes on taking chats
/// that only its own subscribers hear: only asking finds either.
async fn ping(session: Arc<Session>, listening: Connection) {
    loop {
        tokio::time::sleep(PING).await;
        let (commands, pushes) = tokio::join!(session.commanding.is_primary(), listening.ping());
        if !(commands && pushes) {
            return session.broken.notify_one();
        }
    }
}
