//! A real server in this process, and a server that says whatever a test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]
#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use danmu_client::{Options, Publisher, Retries, Update, Viewer, wire::Event};
use danmu_server::{
    catalog,
    config::Flags,
    edge::{session, token},
    serve::{self, Server},
};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        protocol::CloseFrame,
    },
};

pub(crate) const SECRET: &str = "a secret for tests only";
pub(crate) const ADMIN: &str = "admin token for tests";
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

const ROOMS: &str = "
apiVersion: danmu.live/v1alpha1
kind: DanmuRoom
metadata: {name: talk}
spec:
  limits: {messagesPerSecond: 1000, perViewer: {messages: 1000, seconds: 1}}
  moderation: {anonymous: Speak, words: {block: [forbidden], hold: [perhaps]}}
";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

pub(crate) struct Danmu {
    pub(crate) server: Server,
    _folder: tempfile::TempDir,
}

impl Danmu {
    pub(crate) async fn start() -> Danmu {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rooms.yaml"), ROOMS).unwrap();
        let rooms = folder.path().to_str().unwrap();
        let flags = Cli::parse_from([
            "danmu-server",
            "--rooms",
            rooms,
            "--public=127.0.0.1:0",
            "--admin=127.0.0.1:0",
            "--workers=2",
            "--token-secret",
            SECRET,
            "--admin-token",
            ADMIN,
        ])
        .flags;
        let catalog = catalog::load(flags.rooms.as_deref().unwrap()).unwrap();
        let server = serve::start(&flags, flags.check().unwrap(), catalog).await.unwrap();
        Danmu { server, _folder: folder }
    }

    pub(crate) fn options(&self) -> Options {
        Options::new(&format!("http://{}", self.server.public), "talk").unwrap()
    }

    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::new(&format!("http://{}", self.server.admin), ADMIN).unwrap().retries(quick())
    }

    pub(crate) async fn watch(&self) -> Viewer {
        let mut viewer = Viewer::connect(self.options());
        joins(&mut viewer).await;
        viewer
    }
}

pub(crate) fn quick() -> Retries {
    let [first, longest, deadline] = [20, 50, 2_000].map(Duration::from_millis);
    Retries { tries: 4, first, longest, deadline }
}

pub(crate) fn mint(user: &str, role: &str, seconds: u64) -> String {
    let claims = token::Claims {
        sub: user.to_owned(),
        name: None,
        role: serde_json::from_value(role.into()).unwrap(),
        rooms: None,
        exp: session::unix_now() + seconds,
    };
    token::mint(SECRET.as_bytes(), &claims).unwrap()
}

pub(crate) async fn next(viewer: &mut Viewer) -> Update {
    timeout(PATIENCE, viewer.next()).await.expect("nothing comes").expect("it is over already")
}

/// The next update that fits; others are passed over.
pub(crate) async fn find<T>(viewer: &mut Viewer, fits: impl Fn(&Update) -> Option<T>) -> T {
    loop {
        let update = next(viewer).await;
        if let Some(found) = fits(&update) {
            return found;
        }
        assert!(!matches!(update, Update::Ended(_)), "{update:?}");
    }
}

/// Waits until the room is joined; whether something was lost.
pub(crate) async fn joins(viewer: &mut Viewer) -> bool {
    find(viewer, |update| match update {
        Update::Joined { lost, .. } => Some(*lost),
        _ => None,
    })
    .await
}

pub(crate) async fn gift(viewer: &mut Viewer) -> String {
    find(viewer, |update| match update {
        Update::Event(Event::Gift(gift)) => Some(gift.gift.clone()),
        _ => None,
    })
    .await
}

pub(crate) async fn chat(viewer: &mut Viewer) -> String {
    find(viewer, |update| match update {
        Update::Event(Event::Chat(chat)) => Some(chat.text.clone()),
        _ => None,
    })
    .await
}

/// A server of the protocol that does as a test tells it.
pub(crate) struct Forged(TcpListener);

pub(crate) type Accepted = WebSocketStream<TcpStream>;

pub(crate) const JOINED: &str = r#"{"ev":"joined","epoch":"E","offset":0,"recovered":true,"viewers":1}"#;

impl Forged {
    pub(crate) async fn start() -> Forged {
        Forged(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn options(&self) -> Options {
        Options::new(&format!("ws://{}", self.address()), "talk").unwrap()
    }

    /// The next TCP connection, before any handshake.
    pub(crate) async fn tcp(&self) -> TcpStream {
        timeout(PATIENCE, self.0.accept()).await.expect("nobody comes").unwrap().0
    }

    /// The next viewer, with the address and the sub-protocols it asked for.
    #[allow(clippy::result_large_err, reason = "tungstenite's own callback")]
    pub(crate) async fn accept(&self) -> (Accepted, String, String) {
        let (mut uri, mut offer) = (String::new(), String::new());
        let look = |request: &Request, mut response: Response| {
            uri = request.uri().to_string();
            offer = request.headers()["sec-websocket-protocol"].to_str().unwrap().to_owned();
            response.headers_mut().insert("sec-websocket-protocol", "danmu.v1.json".parse().unwrap());
            Ok(response)
        };
        let socket = accept_hdr_async(self.tcp().await, look).await.unwrap();
        (socket, uri, offer)
    }

    /// Accepts and lets in.
    pub(crate) async fn seat(&self) -> (Accepted, String) {
        let (mut socket, uri, _) = self.accept().await;
        tell(&mut socket, &format!("[{JOINED}]")).await;
        (socket, uri)
    }
}

pub(crate) async fn tell(socket: &mut Accepted, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
}

pub(crate) async fn close(socket: &mut Accepted, code: u16, reason: &str) {
    socket.close(Some(CloseFrame { code: code.into(), reason: reason.to_owned().into() })).await.unwrap();
}

/// The code that the viewer closes with.
pub(crate) async fn close_code(socket: &mut Accepted) -> u16 {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("it is not closed") {
            Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
            Some(Ok(_)) => {}
            other => panic!("no close frame: {other:?}"),
        }
    }
}
