//! What goes on beside the workers, and answers the viewer from there: messages that the publish hook is asked
//! about, those that wait for a moderator, those kept at a position.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use danmu_crds::HookEvent;
use danmu_wire::{Ack, Chat, Event, RefusalCode, Refused, frame};
use serde_json::json;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{Order, Seated, Sessions, Viewer};
use crate::{
    edge::metrics::Metrics,
    gate,
    hooks::{Answer, Hooks, Question},
    room::{Address, Destination, Room},
    rows::{Inboxes, Io},
    segments::Told,
    traces::Outcome,
};

/// Messages of one viewer that wait for the hook, beside the one it is asked about.
const QUEUE: usize = 8;
/// How long a viewer's task is kept that has nothing to ask.
const IDLE: Duration = Duration::from_secs(2);

/// What a viewer said that passed the gate.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) seated: Seated,
    pub(super) chat: Chat,
    pub(super) destination: Destination,
    pub(super) reference: Option<String>,
    /// When it came.
    pub(super) received: Instant,
}

/// The queue of one viewer's messages; boxed, because a channel keeps room for more than may wait in it.
pub(super) type Asking = mpsc::Sender<Box<Said>>;

/// What a task beside the workers needs to answer a viewer.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    inboxes: Arc<Inboxes<Viewer, Order>>,
    metrics: Arc<Metrics>,
    hooks: Arc<Hooks>,
}

pub(super) fn address(viewer: &Viewer, io: &Io<'_>) -> Address {
    Address { worker: io.worker, connection: io.connection, number: viewer.number }
}

impl Sessions {
    pub(super) fn beside(&self) -> Beside {
        Beside {
            inboxes: Arc::clone(&self.inboxes),
            metrics: Arc::clone(&self.metrics),
            hooks: Arc::clone(&self.hooks),
        }
    }

    /// The publish hook is asked first. A viewer's messages are asked about one after the other, which keeps their
    /// order.
    pub(super) fn ask(&self, viewer: &mut Viewer, said: Said, io: &mut Io<'_>) {
        let said = Box::new(said);
        let said = match &viewer.asking {
            Some(asking) => match asking.try_send(said) {
                Ok(()) => return,
                Err(TrySendError::Full(said)) => {
                    return self.refuse(said.reference, RefusalCode::Busy, None, io);
                }
                Err(TrySendError::Closed(said)) => said,
            },
            None => said,
        };
        let (asking, queue) = mpsc::channel(QUEUE);
        viewer.asking = Some(asking);
        self.runtime.spawn(self.beside().ask_all(said, queue, address(viewer, io)));
    }
}

impl Beside {
    /// Asks until there has been nothing to ask about for a while; also when the viewer has gone since.
    async fn ask_all(self, first: Box<Said>, mut queue: mpsc::Receiver<Box<Said>>, at: Address) {
        let mut next = Some(first);
        while let Some(said) = next {
            self.ask(*said, at).await;
            next = match tokio::time::timeout(IDLE, queue.recv()).await {
                Ok(next) => next,
                // What came in this very moment is still taken.
                Err(_) => {
                    queue.close();
                    queue.recv().await
                }
            };
        }
    }

    async fn ask(&self, said: Said, at: Address) {
        let Said { seated, mut chat, destination, reference, received } = said;
        let room = &seated.room;
        let policy = room.policy();
        let question = Question {
            room: &room.id,
            id: &chat.id,
            user: chat.user.as_deref(),
            name: chat.name.as_deref(),
            text: &chat.text,
        };
        let clean = |text: &str| gate::check_text(&policy, text).ok();
        match self.hooks.ask(&question, clean).await {
            Answer::Show(text) => {
                if let Some(text) = text {
                    chat.text = text;
                }
                self.show(&seated, chat, destination, reference, at, received);
            }
            Answer::Refuse(reason) => self.refuse(at, reference, RefusalCode::Rejected, reason),
            // Nobody looks at a replay's desk while it is watched.
            Answer::Hold if !room.is_capped() => self.refuse(at, reference, RefusalCode::Rejected, None),
            Answer::Hold => self.hold(&seated, chat, at, reference, received).await,
            Answer::TryLater => self.refuse(at, reference, RefusalCode::Busy, None),
        }
    }

    fn show(
        &self,
        Seated { room, sub }: &Seated,
        chat: Chat,
        destination: Destination,
        reference: Option<String>,
        at: Address,
        received: Instant,
    ) {
        if let Destination::Position(place) = destination {
            let again = reference.clone();
            let kept = Kept { room: Arc::clone(room), id: chat.id.clone(), reference, received };
            if !room.keep(place, chat, once_kept(self.clone(), at, kept)) {
                self.refuse(at, again, RefusalCode::Busy, None);
            }
            return;
        }
        let id = chat.id.clone();
        room.say(sub, chat);
        self.metrics.accepted.inc();
        room.said(&id, Outcome::Shown, received);
        self.tell(at, Event::Ack(Ack { reference, id, shown: true, held: false }));
    }

    /// A moderator looks at the message first; who wants to know is told.
    pub(super) async fn hold(
        &self,
        seated: &Seated,
        chat: Chat,
        at: Address,
        reference: Option<String>,
        received: Instant,
    ) {
        let Seated { room, sub } = seated;
        let id = chat.id.clone();
        let data = json!({
            "room": &*room.id, "id": chat.id, "user": chat.user, "name": chat.name, "text": chat.text,
        });
        match room.hold(sub, chat, at, reference.clone()).await {
            Ok(()) => {
                self.metrics.held.inc();
                room.said(&id, Outcome::Held, received);
                self.hooks.tell(HookEvent::MessageHeld, &id, data);
                self.tell(at, Event::Ack(Ack { reference, id, shown: false, held: true }));
            }
            Err(error) => {
                tracing::debug!(%error, "a message cannot wait for a moderator");
                self.refuse(at, reference, RefusalCode::Busy, None);
            }
        }
    }

    fn refuse(&self, at: Address, reference: Option<String>, code: RefusalCode, reason: Option<String>) {
        self.metrics.refused(code);
        let text = reason.unwrap_or_else(|| code.text().to_owned());
        self.tell(at, Event::Refused(Refused { reference, code, text, retry_ms: None }));
    }

    fn tell(&self, at: Address, event: Event) {
        self.inboxes.visit_one(at.worker, at.connection, Order::Tell(at.number, frame::personal(&[event])));
    }
}

/// A message that is being kept.
pub(super) struct Kept {
    pub(super) room: Arc<Room>,
    pub(super) id: String,
    pub(super) reference: Option<String>,
    pub(super) received: Instant,
}

/// Answers the viewer once its message is kept, or cannot be.
pub(super) fn once_kept(beside: Beside, at: Address, message: Kept) -> Told {
    let Kept { room, id, reference, received } = message;
    Box::new(move |kept: bool| {
        if kept {
            beside.metrics.accepted.inc();
            room.said(&id, Outcome::Kept, received);
            beside.tell(at, Event::Ack(Ack { reference, id, shown: true, held: false }));
        } else {
            beside.refuse(at, reference, RefusalCode::Busy, None);
        }
    })
}
