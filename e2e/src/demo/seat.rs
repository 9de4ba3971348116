//! A viewer who watches a chapter: what it sees is waited for, one event after the other.

use std::time::Duration;

use danmu_wire::{Event, Joined};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use super::stage::Stage;

/// Until something that was done is seen.
const SOON: Duration = Duration::from_secs(10);

/// A viewer in a room.
pub(super) struct Seat {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What came and was not asked for yet, in its order.
    waiting: std::collections::VecDeque<Event>,
    /// What the room said of itself.
    pub(super) joined: Joined,
}

impl Seat {
    /// Comes into a room. `query` follows the address, such as `&sub=1`.
    pub(super) async fn join(
        stage: &Stage,
        room: &str,
        query: &str,
        token: Option<&str>,
    ) -> Result<Seat, String> {
        let url = format!("ws://{}/rooms/{room}/ws?room={room}{query}", stage.public);
        let mut request = url.into_client_request().map_err(|error| error.to_string())?;
        let protocols =
            token.map_or("danmu.v1.json".to_owned(), |token| format!("danmu.v1.json, token.{token}"));
        let protocols = HeaderValue::from_str(&protocols).map_err(|error| error.to_string())?;
        request.headers_mut().insert("sec-websocket-protocol", protocols);
        let connecting =
            timeout(SOON, connect_async(request)).await.map_err(|_| "no 101 in time".to_owned())?;
        let (socket, _) = connecting.map_err(|error| error.to_string())?;
        let mut seat = Seat { socket, waiting: std::collections::VecDeque::new(), joined: Joined::default() };
        seat.joined = seat
            .sees("joined", |event| match event {
                Event::Joined(joined) => Some(*joined),
                _ => None,
            })
            .await?;
        Ok(seat)
    }

    /// Takes the first event that fits, of those that came and of those to come. The others stay: a message and its
    /// acknowledgement come in either order, and a demo that passed one over waited for it in vain.
    pub(super) async fn sees<T>(
        &mut self,
        what: &str,
        find: impl FnMut(Event) -> Option<T>,
    ) -> Result<T, String> {
        self.sees_within(SOON, what, find).await
    }

    /// The same, for longer.
    pub(super) async fn sees_within<T>(
        &mut self,
        within: Duration,
        what: &str,
        mut find: impl FnMut(Event) -> Option<T>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + within;
        let mut looked = 0;
        loop {
            while let Some(event) = self.waiting.get(looked) {
                if let Some(found) = find(event.clone()) {
                    self.waiting.remove(looked);
                    return Ok(found);
                }
                looked += 1;
            }
            match timeout_at(deadline, self.socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => {
                    let events: Vec<Event> =
                        serde_json::from_str(&text).map_err(|error| error.to_string())?;
                    self.waiting.extend(events);
                }
                Ok(Some(Ok(Message::Close(frame)))) => {
                    let why = frame.map(|frame| format!("{} {}", u16::from(frame.code), frame.reason));
                    return Err(format!("closed while {what} was waited for: {}", why.unwrap_or_default()));
                }
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(format!("{what}: {error}")),
                Ok(None) => return Err(format!("cut while {what} was waited for")),
                Err(_) => {
                    let seen = serde_json::to_string(&self.waiting).unwrap_or_default();
                    return Err(format!("{what} was not seen in {within:?}, but {seen}"));
                }
            }
        }
    }

    /// The next chat's text.
    pub(super) async fn next_chat(&mut self) -> Result<String, String> {
        self.sees("a chat", |event| match event {
            Event::Chat(chat) => Some(chat.text),
            _ => None,
        })
        .await
    }

    pub(super) async fn send(&mut self, op: Value) -> Result<(), String> {
        self.socket.send(Message::Text(op.to_string().into())).await.map_err(|error| error.to_string())
    }

    /// Says something; whether it is shown, or held.
    pub(super) async fn say(&mut self, text: &str) -> Result<danmu_wire::Ack, String> {
        self.send(json!({"op": "say", "text": text, "ref": text})).await?;
        self.answer(text).await
    }

    /// The answer to what was said with this `ref`.
    pub(super) async fn answer(&mut self, reference: &str) -> Result<danmu_wire::Ack, String> {
        let answer = self.sees("ack", |event| match event {
            Event::Ack(ack) if ack.reference.as_deref() == Some(reference) => Some(Ok(ack)),
            Event::Refused(refused) if refused.reference.as_deref() == Some(reference) => {
                Some(Err(refused.text))
            }
            _ => None,
        });
        answer.await?
    }
}
