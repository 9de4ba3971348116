//! A viewer of a room, over as many connections as it takes.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use danmu_wire::{Action, CloseCode, Event, Joined, Moderate, Op, Position, Say};
use futures_util::Stream;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    backoff::Backoff,
    connect::Trouble,
    link::{Link, Told, WAITING},
    options::{Options, Token},
    position::{Joining, Seen},
};

/// Updates that wait for the reader. When they are as many, the connection is not read: the server then
/// leaves out chats, and closes with 4008 in the end.
const UPDATES: usize = 256;
/// Frames on their way from the connections: they may be large.
const FRAMES: usize = 4;
/// A connection that held this long was a good one: the next trouble starts with short waits again.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// What a viewer learns.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Update {
    /// The room is joined: for the first time, again after a cut, or by a move.
    Joined {
        /// As the server told it; its history has only what is new.
        joined: Box<Joined>,
        /// Gifts or notices may be missing since the position before.
        lost: bool,
    },
    /// Everything else, each message once and in order.
    Event(Event),
    /// The connection is lost; the next try follows.
    Waiting {
        /// Why.
        trouble: Trouble,
        /// When.
        retry: Duration,
    },
    /// It is over, and nothing follows.
    Ended(End),
}

/// Why a viewer does not come back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({code})")]
pub struct End {
    /// The close code; [`CloseCode::from_code`] knows those of a server.
    pub code: u16,
    /// In words.
    pub reason: String,
}

/// So much waits to be sent that nothing more is taken, or the viewer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sent: too much waits already, or the viewer has ended")]
pub struct Full;

/// A viewer of one room: a stream of [`Update`]s that ends with [`Update::Ended`].
///
/// It comes back by itself, with full jitter up to 30 seconds and its position; goes where the server asks it
/// to, and leaves the old connection only when the new one has joined. Dropping it leaves the room.
#[derive(Debug)]
pub struct Viewer {
    updates: mpsc::Receiver<Update>,
    ops: mpsc::Sender<Op>,
    place: Arc<Mutex<Place>>,
}

#[derive(Clone, Debug, Default)]
struct Place {
    position: Option<Position>,
    sub: Option<u32>,
}

impl Viewer {
    /// Starts to connect, in a task of the current Tokio runtime.
    ///
    /// # Panics
    /// Outside of a Tokio runtime, as `tokio::spawn` does.
    pub fn connect(options: Options) -> Viewer {
        let (tell, updates) = mpsc::channel(UPDATES);
        let (ops, asked) = mpsc::channel(WAITING);
        let place = Arc::new(Mutex::new(Place { position: options.since.clone(), sub: options.sub }));
        let stay = Stay::new(options, tell, Arc::clone(&place));
        tokio::spawn(stay.run(asked));
        Viewer { updates, ops, place }
    }

    /// The next update; none after [`Update::Ended`].
    pub async fn next(&mut self) -> Option<Update> {
        self.updates.recv().await
    }

    /// Says something. What is said between two connections is lost: only an `ack` means it was taken.
    ///
    /// # Errors
    /// [`Full`] when too much waits.
    pub fn say(&self, text: impl Into<String>) -> Result<(), Full> {
        self.say_as(Say { text: text.into(), ..Say::default() })
    }

    /// Says something in a style, at a position of a replay, or with a `ref` that comes back in `ack` or `refused`.
    ///
    /// # Errors
    /// [`Full`] when too much waits.
    pub fn say_as(&self, say: Say) -> Result<(), Full> {
        self.ops.try_send(Op::Say(say)).map_err(|_| Full)
    }

    /// Keeps order, as a moderator.
    ///
    /// # Errors
    /// [`Full`] when too much waits.
    pub fn moderate(&self, reference: Option<String>, action: Action) -> Result<(), Full> {
        self.ops.try_send(Op::Moderate(Moderate { reference, action })).map_err(|_| Full)
    }

    /// Renews the token in place.
    ///
    /// # Errors
    /// [`Full`] when too much waits.
    pub fn renew(&self, token: impl Into<String>) -> Result<(), Full> {
        self.ops.try_send(Op::Token { token: token.into() }).map_err(|_| Full)
    }

    /// How far the priority lane was seen: where a later viewer can go on.
    pub fn position(&self) -> Option<Position> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).position.clone()
    }

    /// The part of a divided room that this viewer is in.
    pub fn sub(&self) -> Option<u32> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).sub
    }
}

impl Stream for Viewer {
    type Item = Update;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Update>> {
        self.updates.poll_recv(context)
    }
}

/// A connection, and what it tells for the second time.
struct Held {
    link: Link,
    joining: Joining,
    joined: Option<Instant>,
}

/// The viewer went, or it is over.
struct Over;

struct Stay {
    options: Options,
    tell: mpsc::Sender<Update>,
    place: Arc<Mutex<Place>>,
    links: mpsc::Sender<Told>,
    heard: mpsc::Receiver<Told>,
    number: u64,
    current: Option<Held>,
    /// The one to move to; not joined yet.
    next: Option<Held>,
    /// Left already, but answers may be on their way.
    old: Option<(u64, Joining)>,
    seen: Seen,
    sub: Option<u32>,
    backoff: Backoff,
    moves: Backoff,
    retry: Option<Instant>,
}

impl Stay {
    fn new(options: Options, tell: mpsc::Sender<Update>, place: Arc<Mutex<Place>>) -> Stay {
        let (links, heard) = mpsc::channel(FRAMES);
        Stay {
            seen: Seen::from(options.since.clone()),
            sub: options.sub,
            options,
            tell,
            place,
            links,
            heard,
            number: 0,
            current: None,
            next: None,
            old: None,
            backoff: Backoff::default(),
            moves: Backoff::default(),
            retry: None,
        }
    }

    async fn run(mut self, mut ops: mpsc::Receiver<Op>) {
        self.current = Some(self.open(None));
        loop {
            let done = tokio::select! {
                told = self.heard.recv() => match told {
                    Some(Told::Frame(number, frame)) => self.frame(number, frame).await,
                    Some(Told::Ended(number, trouble)) => self.ended(number, trouble).await,
                    None => Err(Over),
                },
                op = ops.recv() => match op {
                    Some(op) => {
                        self.send(op);
                        Ok(())
                    }
                    None => Err(Over),
                },
                () = sleep_until(self.retry.unwrap_or_else(Instant::now)), if self.retry.is_some() => {
                    self.again();
                    Ok(())
                }
            };
            self.remember();
            if done.is_err() {
                return;
            }
        }
    }

    fn open(&mut self, to: Option<&str>) -> Held {
        self.number += 1;
        let url = self.options.target(to, self.seen.position().as_ref(), self.sub);
        let link = Link::open(self.number, url, self.options.token.get(), self.links.clone());
        Held { link, joining: Joining::default(), joined: None }
    }

    /// The time of a wait is over: connect, or try to move once more.
    fn again(&mut self) {
        self.retry = None;
        if self.current.is_none() {
            self.current = Some(self.open(None));
        } else if self.next.is_none() {
            // At the usual address, and saying that we were moved: or we would be sent once more to where we
            // could not get in.
            self.next = Some(self.open(Some("?moved=1")));
        }
    }

    fn send(&mut self, op: Op) {
        if let Some(held) = self.current.as_ref().filter(|held| held.joined.is_some()) {
            // Full: the server takes nothing, which its link notices; the words are lost as in a cut.
            let _ = held.link.say.try_send(op);
        }
    }

    async fn frame(&mut self, number: u64, events: Vec<Event>) -> Result<(), Over> {
        for event in events {
            match event {
                Event::Joined(joined) => self.joined(number, joined).await?,
                Event::Move(to) => {
                    if self.is_current(number) && self.next.is_none() {
                        self.retry = None;
                        self.next = Some(self.open(to.url.as_deref()));
                    }
                }
                Event::Pong => {}
                event => {
                    let current = self.is_current(number);
                    let held = [&mut self.current, &mut self.next].into_iter().flatten();
                    let held = held.map(|held| (held.link.number, &mut held.joining));
                    let old = self.old.as_mut().map(|(number, joining)| (*number, joining));
                    let from = held.chain(old).find(|(other, _)| *other == number);
                    if let Some((_, joining)) = from
                        && self.seen.take(joining, &event, current)
                    {
                        self.tell(Update::Event(event)).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn joined(&mut self, number: u64, mut joined: Box<Joined>) -> Result<(), Over> {
        if self.next.as_ref().is_some_and(|next| next.link.number == number) {
            // Dropping the link closes it.
            self.old = self.current.take().map(|held| (held.link.number, held.joining));
            self.current = self.next.take();
            self.moves = Backoff::default();
            self.retry = None;
        }
        let Some(held) = self.current.as_mut().filter(|held| held.link.number == number) else {
            return Ok(());
        };
        held.joined = Some(Instant::now());
        let lost = self.seen.join(&mut held.joining, &mut joined);
        self.sub = joined.sub;
        self.remember();
        self.tell(Update::Joined { joined, lost }).await
    }

    async fn ended(&mut self, number: u64, trouble: Trouble) -> Result<(), Over> {
        if self.next.as_ref().is_some_and(|next| next.link.number == number) {
            // The old one still works: stay, and try again until it closes.
            self.next = None;
            self.retry = Some(Instant::now() + self.moves.next());
            return Ok(());
        }
        if !self.is_current(number) {
            self.old = self.old.take().filter(|(old, _)| *old != number);
            return Ok(());
        }
        let joined = self.current.take().and_then(|held| held.joined);
        self.retry = None;
        if let Some(next) = self.next.take() {
            // On its way already: it is the connection now.
            self.current = Some(next);
            return Ok(());
        }
        if let Trouble::Closed { code, reason } = &trouble
            && is_final(*code, &self.options.token)
        {
            self.tell(Update::Ended(End { code: *code, reason: reason.clone() })).await?;
            return Err(Over);
        }
        if joined.is_some_and(|joined| joined.elapsed() >= GOOD_AFTER) {
            self.backoff = Backoff::default();
        }
        let retry = self.backoff.next();
        self.retry = Some(Instant::now() + retry);
        self.tell(Update::Waiting { trouble, retry }).await
    }

    fn is_current(&self, number: u64) -> bool {
        self.current.as_ref().is_some_and(|held| held.link.number == number)
    }

    async fn tell(&self, update: Update) -> Result<(), Over> {
        self.tell.send(update).await.map_err(|_| Over)
    }

    fn remember(&self) {
        let place = Place { position: self.seen.position(), sub: self.sub };
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }
}

/// Whether nothing would be different the next time.
fn is_final(code: u16, token: &Token) -> bool {
    match CloseCode::from_code(code) {
        // The same token has expired the next time too.
        Some(CloseCode::TokenExpired) => !matches!(token, Token::Fresh(_)),
        Some(known) => !known.reconnect(),
        // Of a newer server, or of a proxy: the range tells the first, and RFC 6455 the faults that we would repeat.
        None => (4500..5000).contains(&code) || matches!(code, 1003 | 1008 | 1010),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_when_to_come_back_and_the_range_for_codes_that_are_not_in_it() {
        for code in CloseCode::ALL {
            let fresh = Token::Fresh(Arc::new(String::new));
            assert_eq!(is_final(code.code(), &fresh), !code.reconnect(), "{code:?}");
        }
        let finals = [4498, 4599, 1006, 1011, 1012, 1008, 3000].map(|code| is_final(code, &Token::None));
        assert_eq!(finals, [false, true, false, false, false, true, false]);
        assert!(is_final(4005, &Token::Fixed("t".into())));
    }
}
