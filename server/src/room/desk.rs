//! Keeping order: what moderators do, what waits for them, and who of this process is told.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use danmu_wire::{Action, Chat, Event, Held, RefusalCode, Refused, Removed, Settled, frame};
use serde::Serialize;

use super::{Destination, Room, SubRoom};
use crate::relay::{
    Change, Logged, PublishError, Target,
    desk::{HELD, HELD_FOR, unix_ms},
};

/// Where a viewer of this process is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The worker that owns its socket.
    pub worker: usize,
    /// The connection's number there.
    pub connection: u32,
    /// The viewer's own number: another may have the connection's by then.
    pub number: u64,
}

/// Sends a frame to one viewer, if it is still there.
pub type Tell = Box<dyn Fn(Address, Vec<u8>) + Send + Sync>;

/// What of the moderators' desk is here; the queue and the log are the relay's.
#[derive(Debug, Default)]
pub(super) struct Desk {
    moderators: Mutex<HashMap<u64, Address>>,
    /// Who on this pod waits for a moderator's word, by the message's id.
    waiting: Mutex<HashMap<String, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    at: Address,
    reference: Option<String>,
    since: Instant,
}

/// What came of a moderator's action.
#[derive(Debug, PartialEq)]
pub enum Acted {
    /// It is done.
    Done,
    /// What waits for a moderator.
    Held(Vec<Held>),
}

/// Why a moderator's action was not done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// Nothing to take back, or another moderator was faster.
    #[error("there was none")]
    None,
    /// The relay or a list does not take it.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Room {
    /// A moderator came in here and is told what waits.
    pub fn add_moderator(&self, at: Address) {
        locked(&self.desk.moderators).insert(at.number, at);
    }

    /// The moderator of this number is none any more, or went.
    pub fn drop_moderator(&self, number: u64) {
        locked(&self.desk.moderators).remove(&number);
    }

    fn tell_viewer(&self, at: Address, events: &[Event]) {
        if let Some(tell) = self.tell.get() {
            tell(at, frame::personal(events));
        }
    }

    pub(super) fn tell_moderators(&self, event: Event) {
        let moderators: Vec<Address> = locked(&self.desk.moderators).values().copied().collect();
        let events = [event];
        for at in moderators {
            self.tell_viewer(at, &events);
        }
    }

    /// Has a message wait for a moderator; its sender is told what became of it.
    ///
    /// # Errors
    /// [`PublishError`] when it cannot wait.
    pub async fn hold(
        &self,
        sub: &SubRoom,
        chat: Chat,
        at: Address,
        reference: Option<String>,
    ) -> Result<(), PublishError> {
        let id = chat.id.clone();
        {
            let mut waiting = locked(&self.desk.waiting);
            if waiting.len() >= HELD {
                return Err(PublishError::Busy);
            }
            waiting.insert(id.clone(), Waiting { at, reference, since: Instant::now() });
        }
        let sub = self.is_divided().then_some(sub.number);
        let held = self.ways.relay.hold(&self.id, Held { chat, at: unix_ms(), sub }).await;
        if held.is_err() {
            locked(&self.desk.waiting).remove(&id);
        }
        held
    }

    /// A message of any pod waits no more.
    pub(super) fn settled(&self, settled: &Settled) {
        let waiting = locked(&self.desk.waiting).remove(&settled.id);
        if let Some(waiting) = waiting.filter(|_| !settled.shown) {
            self.turn_away(waiting);
        }
        self.tell_moderators(Event::Settled(settled.clone()));
    }

    /// Messages that nobody looked at in time are turned away.
    pub(super) fn sweep_desk(&self, now: Instant) {
        let over = |waiting: &Waiting| now.saturating_duration_since(waiting.since) >= HELD_FOR;
        let left: Vec<Waiting> = locked(&self.desk.waiting)
            .extract_if(|_, waiting| over(waiting))
            .map(|(_, waiting)| waiting)
            .collect();
        left.into_iter().for_each(|waiting| self.turn_away(waiting));
    }

    fn turn_away(&self, Waiting { at, reference, .. }: Waiting) {
        let code = RefusalCode::Rejected;
        let refused = Refused { reference, code, text: code.text().to_owned(), retry_ms: None };
        self.tell_viewer(at, &[Event::Refused(refused)]);
    }

    /// Does what a moderator asks for, on every pod, and writes it down.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn act(&self, by: &str, action: Action) -> Result<Acted, ActError> {
        let logged = Logged::now(by, &action);
        let logged = match action {
            Action::Held {} => return Ok(Acted::Held(self.ways.relay.held(&self.id).await?)),
            Action::Remove { ids, user } => {
                self.remove(Removed { ids, user, ..Removed::default() }).await?;
                logged
            }
            Action::Clear {} => {
                self.remove(Removed { all: true, ..Removed::default() }).await?;
                logged
            }
            Action::Mute { user, seconds } => self.change(Target::Mute(user), seconds, None, logged).await?,
            Action::Shadow { user, seconds } => {
                self.change(Target::Shadow(user), seconds, None, logged).await?
            }
            Action::SlowMode { seconds } => {
                self.change(Target::SlowMode, None, Some(seconds), logged).await?
            }
            Action::Unmute { user } => self.lift(Target::Mute(user), logged).await?,
            Action::Unshadow { user } => self.lift(Target::Shadow(user), logged).await?,
            Action::ResetSlowMode {} => self.lift(Target::SlowMode, logged).await?,
            Action::Show { id } => self.decide(id, true, logged).await?,
            Action::Reject { id } => self.decide(id, false, logged).await?,
        };
        self.write_down(logged).await;
        Ok(Acted::Done)
    }

    /// What moderators did, oldest first.
    ///
    /// # Errors
    /// [`PublishError::Away`].
    pub async fn written(&self) -> Result<Vec<Logged>, PublishError> {
        self.ways.relay.written(&self.id).await
    }

    /// Writes down what was done by other means.
    pub async fn note(&self, by: &str, what: impl Serialize) {
        self.write_down(Logged::now(by, what)).await;
    }

    /// What is done is done: that it could not be written down does not undo it.
    async fn write_down(&self, logged: Logged) {
        let what = serde_json::Value::Object(logged.what.clone()).to_string();
        let by = logged.by.clone();
        if let Err(error) = self.ways.relay.write_down(&self.id, logged).await {
            tracing::error!(room = &*self.id, by, what, %error, "a moderator's action is missing in the log");
        }
    }

    async fn remove(&self, removed: Removed) -> Result<u64, PublishError> {
        let receipt = self.ways.relay.priority(&self.id, Event::Removed(removed), None, 0).await?;
        Ok(receipt.offset)
    }

    async fn change(
        &self,
        target: Target,
        lasts: Option<u64>,
        seconds: Option<u32>,
        logged: Logged,
    ) -> Result<Logged, ActError> {
        let until = lasts.map(|seconds| unix_ms().saturating_add(seconds.saturating_mul(1000)));
        self.ways.relay.moderate(&self.id, Change { target, until, lifted: false, seconds }).await?;
        Ok(logged)
    }

    async fn lift(&self, target: Target, logged: Logged) -> Result<Logged, ActError> {
        let change = Change { target, until: None, lifted: true, seconds: None };
        if self.ways.relay.moderate(&self.id, change).await? { Ok(logged) } else { Err(ActError::None) }
    }

    /// The log has the text too: the message itself is gone, or long past.
    async fn decide(&self, id: String, shown: bool, mut logged: Logged) -> Result<Logged, ActError> {
        let settled = Settled { id, shown, by: logged.by.clone() };
        let held = self.ways.relay.settle(&self.id, &settled).await?.ok_or(ActError::None)?;
        logged.what.insert("user".to_owned(), held.chat.user.clone().into());
        logged.what.insert("text".to_owned(), held.chat.text.clone().into());
        if shown {
            // The room may have become a replay since: it is kept where the video was.
            match self.destination(self.place(held.at)) {
                Destination::Position(place) if !self.is_capped() => {
                    if !self.keep(place, held.chat, Box::new(|_| {})) {
                        return Err(PublishError::Busy.into());
                    }
                }
                // Should its sub-room be gone, it is for all.
                _ => self.say_in(held.sub.filter(|sub| *sub < self.sub_rooms()), held.chat),
            }
        }
        Ok(logged)
    }
}
