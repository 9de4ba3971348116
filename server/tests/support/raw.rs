//! Handshakes and frames that a test writes byte by byte.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Danmu, PATIENCE};

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const PING: u8 = 0x89;
pub(crate) const MASK: [u8; 4] = [7, 21, 99, 180];

/// A handshake that is right; `extra` are whole header lines.
pub(crate) fn handshake(version: u8, extra: &str) -> String {
    format!(
        "GET /rooms/talk/ws HTTP/1.1\r\nHost: danmu\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {version}\r\n{extra}\r\n"
    )
}

/// One masked frame; `first` is the byte with FIN, the reserved bits and the opcode.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        n @ 0..126 => frame.push(0x80 | n as u8),
        n => {
            frame.push(0x80 | 126);
            frame.extend((n as u16).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A viewer past its handshake whose frames the test writes byte by byte.
pub(crate) struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    pub(crate) async fn join(danmu: &Danmu) -> Raw {
        let stream = TcpStream::connect(danmu.public()).await.unwrap();
        Raw::join_over(stream).await
    }

    pub(crate) async fn join_over(mut stream: TcpStream) -> Raw {
        stream.write_all(handshake(13, "").as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Raw { stream }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // The server may have closed already, and said why: the code is what counts.
        let _ = self.stream.write_all(bytes).await;
    }

    /// Opcode and payload of the next frame.
    pub(crate) async fn frame(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let mut start = [0; 2];
            self.stream.read_exact(&mut start).await.expect("closed without a close frame");
            let length = match start[1] {
                126 => u64::from(self.stream.read_u16().await.unwrap()),
                127 => self.stream.read_u64().await.unwrap(),
                n => u64::from(n),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut payload).await.unwrap();
            (start[0] & 0x0f, payload)
        };
        tokio::time::timeout(PATIENCE, read).await.expect("nothing comes")
    }

    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            if let (8, payload) = self.frame().await {
                return payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
            }
        }
    }
}

/// Reads up to the empty line and not a byte more.
pub(crate) async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("no answer");
    String::from_utf8(head).unwrap()
}

pub(crate) async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Whoever is turned away unread may find the socket closed.
    let _ = stream.write_all(request.as_bytes()).await;
    head(&mut stream).await
}
