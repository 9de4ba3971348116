//! One WebSocket, from the handshake to its end: a task of its own, spoken to over bounded queues.

use std::time::Duration;

use danmu_wire::{CloseCode, Event, Op};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{
    self, Message,
    protocol::{CloseFrame, frame::coding::CloseCode as Code},
};
use url::Url;

use crate::connect::{self, Socket, Trouble};

/// From opening to `joined`: a handshake that hangs is a failed one.
const JOIN_DEADLINE: Duration = Duration::from_secs(15);
const PING_EVERY: Duration = Duration::from_secs(25);
/// Two of our pings, and the server's own in between, without any answer.
const SILENCE: Duration = Duration::from_secs(60);
const SEND_DEADLINE: Duration = Duration::from_secs(10);
/// How long a connection that is left stays open for answers on their way, and for the server's close.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Operations that wait to be sent.
pub(crate) const WAITING: usize = 64;

/// What a connection tells; the number says which one.
#[derive(Debug)]
pub(crate) enum Told {
    Frame(u64, Vec<Event>),
    /// Exactly once, and the last.
    Ended(u64, Trouble),
}

/// Our end of it. When it is dropped, the connection is closed with 1000.
pub(crate) struct Link {
    pub(crate) number: u64,
    pub(crate) say: mpsc::Sender<Op>,
}

impl Link {
    pub(crate) fn open(number: u64, url: Url, token: Option<String>, tell: mpsc::Sender<Told>) -> Link {
        let (say, said) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let trouble = run(number, &url, token, said, &tell).await;
            let _ = tell.send(Told::Ended(number, trouble)).await;
        });
        Link { number, say }
    }
}

async fn run(
    number: u64,
    url: &Url,
    token: Option<String>,
    mut said: mpsc::Receiver<Op>,
    tell: &mpsc::Sender<Told>,
) -> Trouble {
    let join_by = Instant::now() + JOIN_DEADLINE;
    let late = || Trouble::Unreachable("no answer in time".to_owned());
    let mut socket = match tokio::time::timeout_at(join_by, connect::open(url, token)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(trouble)) => return trouble,
        Err(_) => return late(),
    };
    let mut state = Talk { joined: false, unanswered: 0, heard: Instant::now() };
    let mut ping = Instant::now() + PING_EVERY;
    let mut leave_by = None;
    loop {
        let deadline = if state.joined { state.heard + SILENCE } else { join_by };
        tokio::select! {
            message = socket.next() => match state.take(message) {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    if tell.send(Told::Frame(number, frame)).await.is_err() {
                        return bye(socket).await;
                    }
                    // The reader may have taken its time; that is no silence of the server.
                    state.heard = Instant::now();
                }
                Err(trouble) => return trouble,
            },
            op = said.recv(), if leave_by.is_none() => match op {
                Some(op) => {
                    state.unanswered += u32::from(matches!(op, Op::Say(_) | Op::Moderate(_)));
                    let text = serde_json::to_string(&op).unwrap_or_default();
                    if let Err(trouble) = send(&mut socket, Message::text(text)).await {
                        return trouble;
                    }
                }
                None => leave_by = Some(Instant::now() + LAST_ANSWERS),
            },
            () = sleep_until(ping) => {
                ping = Instant::now() + PING_EVERY;
                if let Err(trouble) = send(&mut socket, Message::Ping(bytes::Bytes::new())).await {
                    return trouble;
                }
            }
            () = sleep_until(deadline) => {
                return if state.joined { Trouble::Lost("it went silent".to_owned()) } else { late() };
            }
            () = sleep_until(leave_by.unwrap_or(deadline)), if leave_by.is_some() => return bye(socket).await,
        }
        if leave_by.is_some() && state.unanswered == 0 {
            return bye(socket).await;
        }
    }
}

struct Talk {
    joined: bool,
    unanswered: u32,
    heard: Instant,
}

impl Talk {
    /// What came, if it was a frame of events.
    fn take(
        &mut self,
        message: Option<Result<Message, tungstenite::Error>>,
    ) -> Result<Option<Vec<Event>>, Trouble> {
        self.heard = Instant::now();
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Close(frame))) => return Err(closed(frame)),
            Some(Ok(_)) => return Ok(None),
            Some(Err(error)) => return Err(Trouble::Lost(error.to_string())),
            None => return Err(Trouble::Lost("it ended".to_owned())),
        };
        let frame = read(&text).map_err(|error| Trouble::Lost(format!("a frame cannot be read: {error}")))?;
        for event in &frame {
            match event {
                Event::Joined(_) => self.joined = true,
                Event::Ack(_) | Event::Refused(_) | Event::Done(_) => {
                    self.unanswered = self.unanswered.saturating_sub(1);
                }
                _ => {}
            }
        }
        Ok(Some(frame))
    }
}

fn closed(frame: Option<CloseFrame>) -> Trouble {
    match frame {
        Some(frame) => Trouble::Closed { code: frame.code.into(), reason: frame.reason.to_string() },
        None => Trouble::Lost("it was closed without a reason".to_owned()),
    }
}

async fn send(socket: &mut Socket, message: Message) -> Result<(), Trouble> {
    match timeout(SEND_DEADLINE, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        // The server's close frame may wait to be read, and says more than this.
        Ok(Err(error)) => Err(last_word(socket).await.unwrap_or_else(|| Trouble::Lost(error.to_string()))),
        Err(_) => Err(Trouble::Lost("it takes nothing more".to_owned())),
    }
}

async fn last_word(socket: &mut Socket) -> Option<Trouble> {
    let close = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(frame) = message {
                return Some(closed(frame));
            }
        }
        None
    };
    timeout(LAST_ANSWERS, close).await.ok().flatten()
}

/// Closes politely, and waits a moment for the server to do the same.
async fn bye(mut socket: Socket) -> Trouble {
    let (code, reason) = (CloseCode::Normal.code(), CloseCode::Normal.reason());
    let frame = CloseFrame { code: Code::from(code), reason: reason.into() };
    let _ = timeout(LAST_ANSWERS, async {
        socket.close(Some(frame)).await?;
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<(), tungstenite::Error>(())
    })
    .await;
    Trouble::Closed { code, reason: reason.to_owned() }
}

/// Reads a frame. Events and fields of a newer server are left out; what is no array is no server of ours.
fn read(text: &str) -> Result<Vec<Event>, serde_json::Error> {
    let items: Vec<serde_json::Value> = serde_json::from_str(text)?;
    Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_newer_server_does_not_stop_the_others() {
        let frame = read(
            r#"[{"ev":"hologram","id":"1"},{"ev":"pong","more":1},7,null,{"ev":"chat"},
                {"ev":"joined","epoch":"E","offset":1,"recovered":true,"viewers":2,"sub":3}]"#,
        )
        .unwrap();
        assert!(
            matches!(&frame[..], [Event::Pong, Event::Joined(joined)] if joined.sub == Some(3)),
            "{frame:?}"
        );
    }

    #[test]
    fn what_is_no_frame_is_told_and_nothing_panics() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for bad in ["", "{}", "null", "[", "[1,", "\u{0}", &deep] {
            assert!(read(bad).is_err(), "{}", bad.len());
        }
        let strange = r#"[{"ev":"joined","epoch":"E","offset":1,"recovered":true,"viewers":2,"sub":"x"},
            {"ev":["chat"]},{"ev":"chat","id":5,"text":"x"},{"ev":"stats","viewers":-1,"sampled":1e99}]"#;
        let frame = read(strange).unwrap();
        assert!(frame.is_empty(), "{frame:?}");
    }
}
