//! A real server in this process on ports the system chose, and viewers over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

pub(crate) mod pod;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod receiver;
pub(crate) mod redis;

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use danmu_server::{
    catalog,
    config::{Config, Flags},
    rows::Limits,
    serve,
    serve::Server,
};
use danmu_wire::Event;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite};
use tungstenite::{Message, client::IntoClientRequest};

/// Nothing here takes longer on an idle machine than a tenth of this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const SECRET: &str = "a secret for tests only";
pub(crate) const ADMIN_TOKEN: &str = "admin token for tests";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

pub(crate) struct Danmu {
    pub server: Server,
    /// Its manifests.
    pub folder: tempfile::TempDir,
}

/// Rooms of the tests: `talk` lets everybody write, `quiet` only those with a token.
pub(crate) const ROOMS: &str = "
apiVersion: danmu.live/v1alpha1
kind: DanmuRoom
metadata: {name: talk}
spec:
  limits: {messagesPerSecond: 1000, perViewer: {messages: 1000, seconds: 1}}
  moderation: {anonymous: Speak, words: {block: [forbidden], mask: [darn], hold: [perhaps]}}
---
apiVersion: danmu.live/v1alpha1
kind: DanmuRoom
metadata: {name: quiet}
spec:
  moderation: {anonymous: Watch, slowModeSeconds: 30}
---
apiVersion: danmu.live/v1alpha1
kind: DanmuRoom
metadata: {name: members}
spec:
  moderation: {anonymous: Deny}
";

impl Danmu {
    pub(crate) async fn start(extra: &[&str]) -> Danmu {
        Danmu::start_with(extra, Limits::default()).await
    }

    /// With limits of a connection that no flag sets.
    pub(crate) async fn start_with(extra: &[&str], limits: Limits) -> Danmu {
        Danmu::start_changed(extra, "", |config| Config { limits, ..config }).await
    }

    /// With further manifests, and with what no flag sets.
    pub(crate) async fn start_changed(
        extra: &[&str],
        manifests: &str,
        change: impl FnOnce(Config) -> Config,
    ) -> Danmu {
        let folder = tempfile::tempdir().unwrap();
        if !manifests.is_empty() {
            std::fs::write(folder.path().join("more.yaml"), manifests).unwrap();
        }
        std::fs::write(folder.path().join("rooms.yaml"), ROOMS).unwrap();
        let rooms = folder.path().to_str().unwrap();
        let mut arguments = vec!["danmu-server", "--rooms", rooms, "--public=127.0.0.1:0"];
        arguments.extend(["--admin=127.0.0.1:0", "--workers=2", "--token-secret", SECRET]);
        arguments.extend(["--admin-token", ADMIN_TOKEN]);
        arguments.extend(extra);
        let flags = Cli::parse_from(arguments).flags;
        let config = change(flags.check().unwrap());
        let catalog = catalog::load(flags.rooms.as_deref().unwrap()).unwrap();
        let server = serve::start(&flags, config, catalog).await.unwrap();
        Danmu { server, folder }
    }

    pub(crate) fn public(&self) -> SocketAddr {
        self.server.public
    }

    pub(crate) async fn join(&self, room: &str) -> Viewer {
        let mut viewer = self.connect(&format!("/rooms/{room}/ws?room={room}"), &[]).await.unwrap();
        let joined = viewer.event().await;
        assert!(matches!(joined, Event::Joined(_)), "{joined:?}");
        viewer
    }

    pub(crate) async fn join_as(&self, room: &str, user: &str, role: &str) -> Viewer {
        let token = token(user, role, 600);
        let protocols = ["danmu.v1.json".to_owned(), format!("token.{token}")];
        let mut viewer = self.connect(&format!("/rooms/{room}/ws"), &protocols).await.unwrap();
        let joined = viewer.event().await;
        assert!(matches!(joined, Event::Joined(_)), "{joined:?}");
        viewer
    }

    pub(crate) async fn connect(
        &self,
        path: &str,
        protocols: &[String],
    ) -> Result<Viewer, tungstenite::Error> {
        connect_to(self.public(), path, protocols).await
    }

    /// A request to the admin port; answers the status and the body.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.admin_with(ADMIN_TOKEN, method, path, body).await
    }

    pub(crate) async fn admin_with(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, String) {
        admin_of(self.server.admin, token, method, path, body).await
    }
}

/// Opens a WebSocket to any server.
pub(crate) async fn connect_to(
    public: SocketAddr,
    path: &str,
    protocols: &[String],
) -> Result<Viewer, tungstenite::Error> {
    let mut request = format!("ws://{public}{path}").into_client_request()?;
    if !protocols.is_empty() {
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocols.join(", ").parse().unwrap());
    }
    let (socket, response) = tokio::time::timeout(PATIENCE, tokio_tungstenite::connect_async(request))
        .await
        .expect("the handshake takes too long")?;
    let protocol = response.headers().get("Sec-WebSocket-Protocol").map(|p| p.to_str().unwrap().to_owned());
    Ok(Viewer { socket, protocol, waiting: Vec::new() })
}

/// A request to any server's admin port.
pub(crate) async fn admin_of(
    admin: SocketAddr,
    token: &str,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String) {
    http(admin, &format!(
            "{method} {path} HTTP/1.1\r\nHost: admin\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
        .await
}

/// Sends raw bytes and reads until the server closes.
pub(crate) async fn http(address: SocketAddr, request: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("no answer").unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    (status, body)
}

pub(crate) fn token(user: &str, role: &str, seconds: u64) -> String {
    let claims = danmu_server::edge::token::Claims {
        sub: user.to_owned(),
        name: Some(user.to_uppercase()),
        role: serde_json::from_value(role.into()).unwrap(),
        rooms: None,
        exp: danmu_server::edge::session::unix_now() + seconds,
    };
    danmu_server::edge::token::mint(SECRET.as_bytes(), &claims).unwrap()
}

pub(crate) struct Viewer {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub protocol: Option<String>,
    waiting: Vec<Event>,
}

impl Viewer {
    pub(crate) async fn send(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.send(serde_json::json!({"op": "say", "text": text, "ref": text}).to_string()).await;
    }

    /// The next event, whatever it is.
    pub(crate) async fn event(&mut self) -> Event {
        while self.waiting.is_empty() {
            match self.message().await {
                Message::Text(text) => self.waiting = serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not an event: {other:?}"),
            }
        }
        self.waiting.remove(0)
    }

    /// The next event that fits; others are passed over.
    pub(crate) async fn find(&mut self, fits: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.event().await;
            if fits(&event) {
                return event;
            }
        }
    }

    pub(crate) async fn hears(&mut self, text: &str) -> danmu_wire::Chat {
        match self.find(|e| matches!(e, Event::Chat(c) if c.text == text)).await {
            Event::Chat(chat) => chat,
            _ => unreachable!(),
        }
    }

    pub(crate) async fn refusal(&mut self) -> danmu_wire::Refused {
        match self.find(|e| matches!(e, Event::Refused(_))).await {
            Event::Refused(refused) => refused,
            _ => unreachable!(),
        }
    }

    /// The next answer to an operation: an event or the close code.
    pub(crate) async fn answer(&mut self) -> Result<Event, u16> {
        match self.message().await {
            Message::Text(text) => Ok(serde_json::from_str::<Vec<Event>>(&text).unwrap().remove(0)),
            Message::Close(frame) => Err(frame.map_or(1005, |frame| frame.code.into())),
            other => panic!("no answer: {other:?}"),
        }
    }

    /// The code the server closes with.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.message().await {
                return frame.map_or(1005, |frame| frame.code.into());
            }
        }
    }

    async fn message(&mut self) -> Message {
        tokio::time::timeout(PATIENCE, self.socket.next())
            .await
            .expect("nothing comes")
            .expect("closed")
            .unwrap()
    }
}
