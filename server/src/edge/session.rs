//! One viewer's session: what its messages mean. Runs on the worker thread that owns the socket.

mod desk;
mod hook;
mod seating;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use danmu_wire::{
    Ack, Chat, CloseCode, Event, Move, Op, Position, RefusalCode, Refused, Role, Say,
    frame::{self, Format},
};

use seating::Wish;

use super::{
    admission::Permit,
    metrics::Metrics,
    token::{Claims, Keys, TokenError},
};
use crate::{
    gate::{Bucket, Speaker},
    hooks::Hooks,
    room::{Destination, Place, Room, Rooms, SubRoom, Turn},
    rows::{Handler, Inboxes, Io},
    traces::Outcome,
};

/// A viewer without a room must `join` within this time.
const LOBBY: Duration = Duration::from_secs(30);

/// Of the query of an address that a viewer was asked to move to.
pub(super) const MOVED: &str = "moved=1";

/// What every session needs.
#[derive(Debug)]
pub struct Sessions {
    /// The rooms of this process.
    pub rooms: Arc<Rooms>,
    /// How a viewer who waits is found again.
    pub inboxes: Arc<Inboxes<Viewer, Order>>,
    /// Where viewers wait for a room that is being connected.
    pub runtime: tokio::runtime::Handle,
    /// Keys for `op: token`.
    pub keys: Arc<Keys>,
    /// Counts refusals.
    pub metrics: Arc<Metrics>,
    /// Who is asked before a message is shown, and told of one that waits for a moderator.
    pub hooks: Arc<Hooks>,
    /// Who else may be asked to move just now.
    pub hints: Mutex<Bucket>,
    /// When this process began to serve.
    pub started: Instant,
}

/// How a viewer came in; gone once it is seated.
#[derive(Debug)]
pub enum Arriving {
    /// Refused, but only after the upgrade: a browser cannot see why a handshake failed.
    Refused(CloseCode),
    /// To the lobby.
    Lobby,
    /// To a room.
    Room {
        /// Its id, not checked yet.
        id: String,
        /// What the viewer has seen of it.
        since: Option<Position>,
        /// The sub-room it asks for.
        sub: Option<u32>,
    },
}

/// Where a viewer is.
#[derive(Clone, Debug)]
struct Seated {
    room: Arc<Room>,
    sub: Arc<SubRoom>,
}

/// One viewer; lives in its worker.
#[derive(Debug)]
pub struct Viewer {
    claims: Option<Box<Claims>>,
    arriving: Option<Box<Arriving>>,
    seated: Option<Seated>,
    /// It asked for its sub-room, as for a friend's: an edit that adds more leaves it there.
    has_chosen: bool,
    bucket: Bucket,
    /// It was asked to move before: here, or where it came from (`moved=1` in the address).
    moved: bool,
    /// Gives the place under the connection cap back when the viewer goes.
    _permit: Permit,
    number: u64,
    address: IpAddr,
    format: Format,
    /// The key of a token it renews with is being looked for.
    renewing: bool,
    /// Actions as a moderator that are under way.
    acting: u8,
    /// Takes what the publish hook is to be asked of, in order.
    asking: Option<hook::Asking>,
}

impl Viewer {
    /// A viewer past its upgrade. `number` is unique in the process.
    pub fn new(
        number: u64,
        claims: Option<Claims>,
        address: IpAddr,
        format: Format,
        arriving: Arriving,
        moved: bool,
        permit: Permit,
    ) -> Self {
        Viewer {
            claims: claims.map(Box::new),
            arriving: Some(Box::new(arriving)),
            seated: None,
            has_chosen: false,
            bucket: Bucket::default(),
            moved,
            _permit: permit,
            number,
            address,
            format,
            renewing: false,
            acting: 0,
            asking: None,
        }
    }

    fn user(&self) -> Option<&str> {
        self.claims.as_ref().map(|claims| claims.sub.as_str())
    }

    fn role(&self) -> Role {
        self.claims.as_ref().map_or(Role::Viewer, |claims| claims.role)
    }

    fn room(&self) -> Option<&Arc<Room>> {
        self.seated.as_ref().map(|seated| &seated.room)
    }

    /// Whom the room's sample counts this viewer's messages for.
    fn sender(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match self.user() {
            Some(user) => user.hash(&mut hasher),
            None => self.number.hash(&mut hasher),
        }
        hasher.finish()
    }
}

/// What can be asked of every viewer.
#[derive(Clone, Debug)]
pub enum Order {
    /// Close whoever is visited.
    Close(CloseCode),
    /// Close this user's connections.
    Disconnect(String),
    /// Close whoever may not be in the room any more.
    CloseBanned,
    /// Ask to connect anew before the time.
    Move(Instant),
    /// Look whether whoever is visited is in the right sub-room, if it is their turn.
    Reseat(Turn),
    /// Let the viewer of this number, who waited, into its room.
    Enter(u64),
    /// Look again at the token with which the viewer of this number renews: its key was looked for.
    Renew(u64, String),
    /// Send this frame to the viewer of this number.
    Tell(u64, Vec<u8>),
    /// The same, as the answer to what it did as a moderator.
    Acted(u64, Vec<u8>),
}

impl Handler for Sessions {
    type Viewer = Viewer;
    type Order = Order;

    fn opened(&self, viewer: &mut Viewer, io: &mut Io<'_>) {
        match viewer.arriving.take().map(|arriving| *arriving) {
            Some(Arriving::Refused(code)) => io.close(code),
            Some(Arriving::Room { id, since, sub }) => {
                self.join(viewer, &Wish { id: &id, since, sub }, true, io);
            }
            Some(Arriving::Lobby) | None => {
                io.send(&frame::personal(&[Event::Joined(Box::default())]));
                self.set_deadline(viewer, io, Some(io.now + LOBBY));
            }
        }
    }

    fn text(&self, viewer: &mut Viewer, text: &str, io: &mut Io<'_>) {
        match Op::parse(text) {
            Ok(Op::Say(say)) => self.say(viewer, say, io),
            Ok(Op::Join(join)) => self.change_room(viewer, &join, io),
            Ok(Op::Token { token }) => self.renew(viewer, &token, true, io),
            Ok(Op::Moderate(moderate)) => self.moderate(viewer, moderate, io),
            Ok(Op::Ping {}) => io.send(&frame::personal(&[Event::Pong])),
            Err(error) => {
                self.metrics.refused(RefusalCode::BadRequest);
                let refused = Refused {
                    reference: None,
                    code: RefusalCode::BadRequest,
                    text: error.to_string(),
                    retry_ms: None,
                };
                io.send(&frame::personal(&[Event::Refused(refused)]));
            }
        }
    }

    fn binary(&self, _: &mut Viewer, _: &[u8], io: &mut Io<'_>) {
        self.refuse(None, RefusalCode::BadRequest, None, io);
    }

    fn due(&self, viewer: &mut Viewer, io: &mut Io<'_>) {
        if viewer.claims.as_ref().is_some_and(|claims| claims.exp <= unix_now()) {
            io.close(CloseCode::TokenExpired);
        } else if viewer.seated.is_none() {
            io.close(CloseCode::LobbyTimeout);
        } else {
            self.set_deadline(viewer, io, None);
        }
    }

    fn visit(&self, viewer: &mut Viewer, order: &Order, io: &mut Io<'_>) {
        match order {
            Order::Close(code) => io.close(*code),
            Order::Disconnect(user) => {
                if viewer.user() == Some(user) {
                    io.close(CloseCode::Disconnected);
                }
            }
            Order::CloseBanned => {
                let banned = viewer.room().is_some_and(|room| {
                    room.gate.enter(&room.policy(), viewer.user(), viewer.address, io.now)
                        == Err(CloseCode::Banned)
                });
                if banned {
                    io.close(CloseCode::Banned);
                }
            }
            Order::Enter(number) if *number == viewer.number => {
                if let Some(Arriving::Room { id, since, sub }) = viewer.arriving.take().map(|it| *it) {
                    self.join(viewer, &Wish { id: &id, since, sub }, false, io);
                }
            }
            Order::Reseat(turn) => {
                if turn.is_of(viewer.number) {
                    self.reseat(viewer, io);
                }
            }
            Order::Renew(number, token) if *number == viewer.number => {
                viewer.renewing = false;
                self.renew(viewer, token, false, io);
            }
            Order::Tell(number, frame) if *number == viewer.number => io.send(frame),
            Order::Acted(number, frame) if *number == viewer.number => {
                viewer.acting = viewer.acting.saturating_sub(1);
                io.send(frame);
            }
            Order::Enter(_) | Order::Renew(..) | Order::Tell(..) | Order::Acted(..) => {}
            Order::Move(deadline) => {
                let within_ms = deadline.saturating_duration_since(io.now).as_millis() as u64;
                io.send(&frame::personal(&[Event::Move(Move { url: None, within_ms })]));
            }
        }
    }

    fn closed(&self, viewer: Viewer, _: Option<CloseCode>, worker: usize) {
        if let Some(Seated { room, sub }) = &viewer.seated {
            room.drop_moderator(viewer.number);
            sub.leave(worker, viewer.format);
        }
    }
}

impl Sessions {
    fn say(&self, viewer: &mut Viewer, say: Say, io: &mut Io<'_>) {
        let Some(Seated { room, sub }) = viewer.seated.clone() else {
            return self.refuse(say.reference, RefusalCode::NotInRoom, None, io);
        };
        let policy = room.policy();
        let destination = room.destination(say.at);
        if destination == Destination::Nowhere {
            return self.refuse(say.reference, RefusalCode::Position, None, io);
        }
        let role = viewer.role();
        let user = viewer.claims.as_ref().map(|claims| claims.sub.as_str());
        let speaker = Speaker { user, address: viewer.address, role };
        let passed = room.gate.say(&policy, &speaker, &mut viewer.bucket, &say.text, &say.style, io.now);
        let crate::gate::Passed { text, held } = match passed {
            Ok(passed) => passed,
            Err(refusal) => return self.refuse(say.reference, refusal.code, refusal.retry, io),
        };
        let chat = Chat {
            id: crate::room::id::next(),
            user: viewer.user().map(str::to_owned),
            name: viewer.claims.as_ref().and_then(|claims| claims.name.clone()),
            text,
            style: say.style,
            role,
            n: 1,
        };
        let id = chat.id.clone();
        if held && !room.is_capped() {
            // Nobody looks at a replay's desk while it is watched.
            return self.refuse(say.reference, RefusalCode::BlockedWord, None, io);
        }
        if viewer.user().is_some_and(|user| room.gate.is_shadowed(user, io.now)) {
            room.said(&id, if held { Outcome::Held } else { Outcome::Shadowed }, io.now);
            // As everybody's, in as many frames: nothing tells the sender that nobody else sees it.
            let ack = Event::Ack(Ack { reference: say.reference, id, shown: !held, held });
            io.send(&frame::personal(&[ack]));
            if !held && destination == Destination::Everybody {
                io.send(&frame::personal(&[Event::Chat(chat)]));
            }
            return;
        }
        if held {
            return self.hold(viewer, Seated { room, sub }, chat, say.reference, io);
        }
        // Asked also where nothing is left out: this pod's part of the cap, once the room is Live again, goes
        // by who speaks here.
        let fits = role >= Role::Moderator
            || room.sample(&sub, viewer.sender(), &policy, io.now)
            || !room.is_capped();
        if !fits {
            room.left_out(&sub);
            room.said(&id, Outcome::Sampled, io.now);
            self.metrics.sampled.inc();
            let ack = Event::Ack(Ack { reference: say.reference, id, shown: false, held: false });
            return io.send(&frame::personal(&[ack, Event::Chat(chat)]));
        }
        if role < Role::Moderator && self.hooks.asks() {
            let (seated, reference, received) = (Seated { room, sub }, say.reference, io.now);
            let said = hook::Said { seated, chat, destination, reference, received };
            return self.ask(viewer, said, io);
        }
        if let Destination::Position(place) = destination {
            return self.keep(viewer, &room, chat, place, say.reference, io);
        }
        room.say(&sub, chat);
        self.metrics.accepted.inc();
        room.said(&id, Outcome::Shown, io.now);
        let ack = Event::Ack(Ack { reference: say.reference, id, shown: true, held: false });
        io.send(&frame::personal(&[ack]));
    }

    /// Keeps what was said at its position; the viewer is answered once it is kept.
    fn keep(
        &self,
        viewer: &Viewer,
        room: &Arc<Room>,
        chat: Chat,
        place: Place,
        reference: Option<String>,
        io: &mut Io<'_>,
    ) {
        let again = reference.clone();
        let answer = hook::Kept { room: Arc::clone(room), id: chat.id.clone(), reference, received: io.now };
        let told = hook::once_kept(self.beside(), hook::address(viewer, io), answer);
        if !room.keep(place, chat, told) {
            self.refuse(again, RefusalCode::Busy, None, io);
        }
    }

    /// A fresh token of the same user takes the old one's place; silence is the answer when it is good. It
    /// must be good for the room too: a moderator's token of another room makes no moderator here. A `patient`
    /// viewer's unknown key is looked for.
    fn renew(&self, viewer: &mut Viewer, token: &str, patient: bool, io: &mut Io<'_>) {
        let fits = |claims: &Claims| {
            viewer.user().is_none_or(|user| user == claims.sub)
                && viewer.room().is_none_or(|room| claims.admits(&room.id))
        };
        match self.keys.verify(token, unix_now()) {
            Ok(claims) if fits(&claims) => {
                viewer.claims = Some(Box::new(claims));
                let lobby = viewer.seated.is_none().then(|| io.now + LOBBY);
                self.set_deadline(viewer, io, lobby);
                if let Some(room) = viewer.room().cloned() {
                    self.sit_at_desk(viewer, &room, io);
                }
            }
            // One task a viewer.
            Err(TokenError::UnknownKey) if patient && !viewer.renewing => {
                viewer.renewing = true;
                let (keys, inboxes, number) =
                    (Arc::clone(&self.keys), Arc::clone(&self.inboxes), viewer.number);
                let (worker, connection, token) = (io.worker, io.connection, token.to_owned());
                self.runtime.spawn(async move {
                    let _ = keys.look_up(&token, unix_now()).await;
                    inboxes.visit_one(worker, connection, Order::Renew(number, token));
                });
            }
            _ => self.refuse(None, RefusalCode::TokenInvalid, None, io),
        }
    }

    fn refuse(&self, reference: Option<String>, code: RefusalCode, retry: Option<Duration>, io: &mut Io<'_>) {
        self.metrics.refused(code);
        let retry_ms = retry.map(|retry| retry.as_millis() as u64);
        let refused = Refused { reference, code, text: code.text().to_owned(), retry_ms };
        io.send(&frame::personal(&[Event::Refused(refused)]));
    }

    /// The earlier of the lobby's limit and the token's end.
    fn set_deadline(&self, viewer: &Viewer, io: &mut Io<'_>, lobby: Option<Instant>) {
        let expiry = viewer.claims.as_ref().and_then(|claims| {
            io.now.checked_add(Duration::from_secs(claims.exp.saturating_sub(unix_now())))
        });
        io.set_deadline(lobby.into_iter().chain(expiry).min());
    }
}

/// Seconds since 1970, as tokens count them.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
