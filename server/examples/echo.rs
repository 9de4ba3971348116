//! Echoes every message over the rows engine, so that Autobahn's cases judge the code that viewers
//! meet: `cargo run --example echo`, then point a WebSocket client at the address it prints.
//!
//! Only the handshake is the example's own: room servers do it in `edge`, which knows no echo.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use danmu_server::rows::{Arrival, Handler, Inboxes, Io, Limits, Metrics, Workers};
use danmu_wire::{CloseCode, frame};

/// Autobahn's largest message is 16 MiB.
const LARGEST: usize = 16 * 1024 * 1024;
/// Longest head of a handshake taken.
const HEAD: usize = 8 * 1024;

struct Echo;

impl Handler for Echo {
    type Viewer = ();
    type Order = ();

    fn opened(&self, (): &mut (), _: &mut Io<'_>) {}

    fn text(&self, (): &mut (), text: &str, io: &mut Io<'_>) {
        let mut answer = Vec::with_capacity(text.len() + 10);
        frame::push_text(&mut answer, text.as_bytes());
        io.send(&answer);
    }

    fn binary(&self, (): &mut (), bytes: &[u8], io: &mut Io<'_>) {
        let mut answer = Vec::with_capacity(bytes.len() + 10);
        frame::push_binary(&mut answer, bytes);
        io.send(&answer);
    }

    fn due(&self, (): &mut (), _: &mut Io<'_>) {}

    fn visit(&self, (): &mut (), (): &(), _: &mut Io<'_>) {}

    fn closed(&self, (): (), _: Option<CloseCode>, _: usize) {}
}

fn main() -> io::Result<()> {
    let limits = Limits {
        message: LARGEST,
        // Some cases send a million bytes in fragments of 64, or thousands of messages at once.
        frames_per_second: u32::MAX,
        owed_personal: 4 * LARGEST,
        ..Limits::default()
    };
    let (inboxes, polls) = Inboxes::new(1)?;
    let _workers = Workers::start(&inboxes, polls, &Arc::new(Echo), limits, &Arc::new(Metrics::default()))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("echo on ws://{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let inboxes = Arc::clone(&inboxes);
        std::thread::spawn(move || {
            match stream.and_then(shake_hands) {
                Ok(socket) => inboxes.adopt(0, Arrival { socket, viewer: (), early: Vec::new() }),
                Err(error) => eprintln!("echo: no handshake: {error}"),
            };
        });
    }
    Ok(())
}

/// Answers the handshake; the socket comes back non-blocking, with nothing read past the head.
fn shake_hands(mut stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head);
    let key = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim()))
        .ok_or_else(|| io::Error::other("no Sec-WebSocket-Key"))?;
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Server: danmu-rows\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        tungstenite::handshake::derive_accept_key(key.as_bytes())
    )?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
