//! How many segments a running server answers a second, and how many for one second of its CPU time.
//!
//! ```text
//! cargo run --release -p danmu-server --example fetches -- ADDRESS ROOM SEGMENTS SECONDS PID
//! ```
//! Eight connections ask for one of the room's first SEGMENTS segments after the other, compressed. PID is the
//! server's, whose CPU time is read from /proc.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement ends where it goes wrong")]

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const CONNECTIONS: u64 = 8;
const SEGMENT: u64 = 10_000;

static ANSWERS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, room, segments, seconds, pid] = arguments.as_slice() else {
        eprintln!("fetches ADDRESS ROOM SEGMENTS SECONDS PID");
        return;
    };
    let (segments, seconds): (u64, u64) = (segments.parse().unwrap(), seconds.parse().unwrap());
    let server = procfs::process::Process::new(pid.parse().unwrap()).unwrap();
    let cpu = || {
        let stat = server.stat().unwrap();
        (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
    };
    let until = Instant::now() + Duration::from_secs(seconds);
    let (before, started) = (cpu(), Instant::now());
    let all = (0..CONNECTIONS).map(|offset| fetch(address, room, segments, offset, until));
    futures_util::future::join_all(all).await;
    let (answers, cpu, took) = (ANSWERS.load(Ordering::Relaxed), cpu() - before, started.elapsed());
    let each = BYTES.load(Ordering::Relaxed) / answers.max(1);
    println!(
        "{answers} answers of {each} bytes in {took:.1?}: {:.0} a second, {:.0} for a second of the server's CPU time",
        answers as f64 / took.as_secs_f64(),
        answers as f64 / cpu
    );
}

async fn fetch(address: &str, room: &str, segments: u64, offset: u64, until: Instant) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut buffer = vec![0; 1 << 20];
    for number in offset.. {
        if Instant::now() > until {
            return;
        }
        let from = number % segments * SEGMENT;
        let request = format!(
            "GET /rooms/{room}/danmu?from={from}&to={} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n",
            from + SEGMENT
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut have = 0;
        loop {
            have += stream.read(&mut buffer[have..]).await.unwrap();
            if whole(&buffer[..have]) {
                break;
            }
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..have.min(200)]));
        ANSWERS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(have as u64, Ordering::Relaxed);
    }
}

/// Whether the answer has come in full.
fn whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    bytes.len() == end + 4 + length.unwrap_or(0)
}
