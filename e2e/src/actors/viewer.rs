//! A viewer that comes, watches, talks, goes, and comes back with its position, as the page does.

use std::{collections::HashSet, time::Duration};

use danmu_wire::{Event, Position};
use futures_util::{SinkExt, StreamExt};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use super::{Phase, Stage};
use crate::{
    history::{Connection, Said, Seen, What},
    world::Addresses,
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A server that says nothing for so long, though asked, counts as gone.
const SILENCE: Duration = Duration::from_secs(5);
const PING: Duration = Duration::from_millis(1500);

struct Viewer {
    stage: Stage,
    number: usize,
    talks: bool,
    random: StdRng,
    position: Option<Position>,
    /// The pod of the last connection.
    pod: Option<usize>,
}

/// An open connection.
struct Link {
    socket: Socket,
    /// Its place in the history.
    index: usize,
    pod: usize,
    joined: bool,
    /// Chats said on it.
    said: usize,
}

/// How a watch ended.
enum End {
    Leaves,
    Moves,
    Closed(String),
    Over,
}

/// Watches until the run is over; `talks` when it also speaks.
pub async fn viewer(stage: Stage, number: usize, talks: bool) {
    let random = StdRng::seed_from_u64(stage.seed ^ (0xA000 + number as u64));
    let mut viewer = Viewer { stage, number, talks, random, position: None, pod: None };
    let mut next = None;
    while viewer.stage.phase() < Phase::Over {
        let link = match next.take() {
            Some(link) => Some(link),
            None => viewer.connect().await,
        };
        let Some(mut link) = link else {
            // Full jitter, short: the run has to see many.
            let wait = viewer.random.random_range(20..600);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            continue;
        };
        match viewer.watch(&mut link).await {
            End::Moves => next = viewer.moves(link).await,
            End::Leaves => {
                // Half of them close, half are gone without a word.
                if viewer.random.random_bool(0.5) {
                    let _ = timeout(Duration::from_millis(200), link.socket.close(None)).await;
                }
                viewer.closed(&link, "left");
            }
            End::Closed(why) => viewer.closed(&link, &why),
            End::Over => return,
        }
    }
}

impl Viewer {
    fn choose(&mut self) -> Option<Addresses> {
        let pods = &self.stage.pods;
        if self.stage.phase() >= Phase::Settle {
            return pods.addresses(self.number % pods.count());
        }
        let live: Vec<Addresses> = (0..pods.count()).filter_map(|pod| pods.addresses(pod)).collect();
        (!live.is_empty()).then(|| live[self.random.random_range(0..live.len())].clone())
    }

    async fn connect(&mut self) -> Option<Link> {
        let addresses = self.choose()?;
        let since = self.position.clone();
        let query = since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
        let url = format!("ws://{}/rooms/soak/ws?room=soak{query}", addresses.public);
        let opened = self.stage.now();
        let (socket, _) = timeout(Duration::from_secs(2), connect_async(url)).await.ok()?.ok()?;
        let connection =
            Connection { viewer: self.number, pod: addresses.pod, since, opened, ..Connection::default() };
        let index = {
            let mut history = self.stage.history();
            history.connections.push(connection);
            history.connections.len() - 1
        };
        self.pod = Some(addresses.pod.pod);
        Some(Link { socket, index, pod: addresses.pod.pod, joined: false, said: 0 })
    }

    fn closed(&self, link: &Link, why: &str) {
        let now = self.stage.now();
        if let Some(connection) = self.stage.history().connections.get_mut(link.index) {
            connection.closed.get_or_insert((now, why.to_owned()));
        }
    }

    /// Watches and talks until something ends it.
    async fn watch(&mut self, link: &mut Link) -> End {
        let stay = Duration::from_millis(self.random.random_range(1_500..14_000));
        let leaves = Instant::now() + stay;
        let mut speaks = Instant::now() + self.pause();
        let mut pings = Instant::now() + PING;
        let mut heard = Instant::now();
        let mut phase = self.stage.phase.clone();
        let mut words = self.stage.last_words.clone();
        loop {
            let now = *phase.borrow_and_update();
            match now {
                Phase::Over => return End::Over,
                Phase::Settle if link.pod != self.number % self.stage.pods.count() => return End::Leaves,
                _ => {}
            }
            tokio::select! {
                message = link.socket.next() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => {
                            if self.take(link, &text) {
                                return End::Moves;
                            }
                        }
                        Some(Ok(Message::Close(frame))) => {
                            return End::Closed(frame.map_or_else(|| "closed".into(), |f| f.code.to_string()));
                        }
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return End::Closed(error.to_string()),
                        None => return End::Closed("cut".into()),
                    }
                }
                () = sleep_until(leaves), if now == Phase::Work => return End::Leaves,
                () = sleep_until(speaks), if self.talks && link.joined && now < Phase::Last => {
                    speaks = Instant::now() + self.pause();
                    let text = format!("c{}-{}-{}", self.number, link.index, link.said);
                    if let Err(why) = self.say(link, text).await {
                        return End::Closed(why);
                    }
                }
                () = sleep_until(pings) => {
                    pings = Instant::now() + PING;
                    if heard.elapsed() > SILENCE {
                        return End::Closed("silent".into());
                    }
                    if let Err(why) = send(link, r#"{"op":"ping"}"#.to_owned()).await {
                        return End::Closed(why);
                    }
                }
                Ok(()) = words.changed() => {
                    let word = words.borrow_and_update().get(self.number).cloned().flatten();
                    if let Some(word) = word
                        && let Err(why) = self.say(link, word).await
                    {
                        return End::Closed(why);
                    }
                }
                Ok(()) = phase.changed() => {}
            }
        }
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(60..500))
    }

    async fn say(&mut self, link: &mut Link, text: String) -> Result<(), String> {
        link.said += 1;
        let said = Said { connection: link.index, text: text.clone(), at: self.stage.now(), shown: None };
        self.stage.history().said.push(said);
        send(link, format!(r#"{{"op":"say","text":"{text}","ref":"{text}"}}"#)).await
    }

    /// Writes down a frame's events and follows the position; whether the viewer is asked to move.
    fn take(&mut self, link: &mut Link, text: &str) -> bool {
        let at = self.stage.now();
        let events: Vec<Event> = serde_json::from_str(text).unwrap_or_default();
        let mut moves = false;
        let mut history = self.stage.history();
        // A chat that was left out of the sample is an echo to its sender alone.
        let mut echoes = HashSet::new();
        for event in events {
            let what = match event {
                Event::Joined(joined) => {
                    link.joined = true;
                    if !joined.epoch.is_empty() {
                        let before = self.position.as_ref().filter(|p| p.epoch == joined.epoch);
                        let offset = before.map_or(joined.offset, |p| p.offset.max(joined.offset));
                        self.position = Some(Position { epoch: joined.epoch.clone(), offset });
                    }
                    What::Joined {
                        epoch: joined.epoch,
                        offset: joined.offset,
                        recovered: joined.recovered,
                        viewers: joined.viewers,
                        history: joined.history.into_iter().map(|chat| (chat.id, chat.text)).collect(),
                    }
                }
                Event::Gift(gift) => {
                    if let Some(position) = &mut self.position {
                        position.offset = position.offset.max(gift.offset);
                    }
                    What::Gift { id: gift.id, offset: gift.offset, gift: gift.gift }
                }
                Event::Chat(chat) if echoes.contains(&chat.id) => continue,
                Event::Chat(chat) => What::Chat { id: chat.id, text: chat.text },
                Event::Gap(gap) => {
                    if let Some(epoch) = &gap.epoch {
                        self.position = Some(Position { epoch: epoch.clone(), offset: 0 });
                    }
                    What::Gap { lane: gap.lane, dropped: gap.dropped, epoch: gap.epoch }
                }
                Event::Stats(stats) => What::Viewers(stats.viewers),
                Event::Ack(ack) => {
                    if !ack.shown {
                        echoes.insert(ack.id);
                    } else if let Some(text) = ack.reference
                        && let Some(said) = history.said.iter_mut().rev().find(|said| said.text == text)
                    {
                        said.shown = Some(at);
                    }
                    continue;
                }
                Event::Move(_) => {
                    moves = true;
                    What::Move
                }
                _ => continue,
            };
            if let Some(connection) = history.connections.get_mut(link.index) {
                connection.seen.push(Seen { at, what });
            }
        }
        moves
    }

    /// Opens the new connection, waits for `joined`, then closes the old one, as the protocol says.
    async fn moves(&mut self, mut old: Link) -> Option<Link> {
        let mut new = self.connect().await;
        let deadline = Instant::now() + Duration::from_secs(3);
        while let Some(link) = &mut new
            && !link.joined
        {
            match tokio::time::timeout_at(deadline, link.socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => {
                    self.take(link, &text);
                }
                Ok(Some(Ok(_))) => {}
                _ => {
                    self.closed(link, "no joined");
                    new = None;
                }
            }
        }
        // What came on the old one meanwhile was seen as well.
        while let Ok(Some(Ok(message))) = timeout(Duration::from_millis(30), old.socket.next()).await {
            if let Message::Text(text) = message {
                self.take_from_old(&mut old, &text);
            }
        }
        let _ = timeout(Duration::from_millis(200), old.socket.close(None)).await;
        self.closed(&old, "moved");
        new
    }

    /// An old connection's epoch must not turn the position of the new one.
    fn take_from_old(&mut self, old: &mut Link, text: &str) {
        let position = self.position.clone();
        self.take(old, text);
        self.position = position;
    }
}

async fn send(link: &mut Link, text: String) -> Result<(), String> {
    match timeout(Duration::from_secs(2), link.socket.send(Message::Text(text.into()))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("cannot send".to_owned()),
    }
}
