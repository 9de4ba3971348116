//! Priority messages through the server's admin API, one after the other from a thread of its own.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use tungstenite::http::Uri;

use crate::{
    clock,
    stamp::Stamp,
    tally::{Tally, count},
};

/// How long the admin API may take for one answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Longest answer that is read.
const MAX_ANSWER: u64 = 64 * 1024;

/// Where and how often to publish.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    /// `HOST:PORT` of the admin API.
    authority: String,
    room: String,
    token: Option<String>,
    rate: f64,
}

/// Priority messages that cannot be published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadPublisher {
    /// No http:// URL.
    #[error("`{0}` is no admin address: write http://HOST:PORT")]
    Url(String),
    /// The room is not in the viewers' URL.
    #[error("`{0}` names no room: priority messages need ws://HOST:PORT/rooms/ROOM/ws")]
    Room(String),
}

impl Publisher {
    /// Publishes to the room that `viewers_url` names.
    ///
    /// # Errors
    /// [`BadPublisher`] with what to write instead.
    pub(crate) fn new(
        url: &str,
        viewers_url: &str,
        token: Option<String>,
        rate: f64,
    ) -> Result<Publisher, BadPublisher> {
        let uri = url.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("http"));
        let authority = uri.as_ref().and_then(Uri::authority);
        let authority = authority.ok_or_else(|| BadPublisher::Url(url.to_owned()))?;
        let room = viewers_url.split_once("/rooms/").and_then(|(_, rest)| rest.split('/').next());
        let room = room
            .filter(|room| danmu_wire::is_room_id(room))
            .ok_or_else(|| BadPublisher::Room(viewers_url.to_owned()))?;
        let port = authority.port_u16().unwrap_or(80);
        Ok(Publisher {
            authority: format!("{}:{port}", authority.host()),
            room: room.to_owned(),
            token,
            rate,
        })
    }

    /// One request of the admin API that shows `text` as a gift.
    fn request(&self, text: &str) -> Vec<u8> {
        // The text is letters, digits, dots and blanks: nothing to escape.
        let body = format!(r#"{{"kind":"gift","gift":"rose","text":"{text}"}}"#);
        let bearer = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
        format!(
            "POST /rooms/{}/publish HTTP/1.1\r\nHost: {}\r\n{}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.room,
            self.authority,
            bearer.unwrap_or_default(),
            body.len(),
        )
        .into_bytes()
    }

    /// Publishes from `go_ns` for `talk_ns`; answers what became of it.
    pub(crate) fn run(&self, run: &str, text_bytes: usize, go_ns: u64, talk_ns: u64) -> Tally {
        let mut tally = Tally::default();
        let mut connection = None;
        let messages = (talk_ns as f64 / 1e9 * self.rate) as u32;
        for sequence in 0..messages {
            let due_ns = go_ns + (f64::from(sequence) * 1e9 / self.rate) as u64;
            std::thread::sleep(Duration::from_nanos(due_ns.saturating_sub(clock::monotonic_ns())));
            let sent_ns = clock::monotonic_ns();
            tally.lateness.record_ns(sent_ns.saturating_sub(due_ns));
            let text = Stamp { speaker: None, sequence, sent_ns }.text(run, text_bytes);
            let answer = connection
                .take()
                .map_or_else(|| self.connect(), Ok)
                .and_then(|open| ask(open, &self.request(&text)));
            match answer {
                Ok((status, open)) => {
                    connection = open;
                    if (200..300).contains(&status) {
                        tally.priority.published += 1;
                    } else {
                        count(&mut tally.priority.unpublished, &format!("HTTP {status}"));
                    }
                }
                Err(error) => {
                    count(&mut tally.priority.unpublished, &error.kind().to_string());
                    tally.first_fault.get_or_insert_with(|| format!("publishing: {error}"));
                }
            }
            if clock::monotonic_ns() > go_ns + talk_ns {
                // The API is slower than the rate; the run does not wait for it, and says so.
                for _ in sequence + 1..messages {
                    count(&mut tally.priority.unpublished, "not attempted: the API was too slow");
                }
                break;
            }
        }
        tally
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(&self.authority)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(BufReader::new(stream))
    }
}

/// Sends a request and reads the answer: its status, and the connection if it can be used again.
fn ask(
    mut connection: BufReader<TcpStream>,
    request: &[u8],
) -> io::Result<(u16, Option<BufReader<TcpStream>>)> {
    connection.get_mut().write_all(request)?;
    let mut answer = connection.by_ref().take(MAX_ANSWER);
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "the admin API did not answer in HTTP");
    let (mut status, mut length) = (None, Some(0_u64));
    loop {
        let mut line = String::new();
        answer.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if status.is_none() {
            status = Some(line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?);
        } else if line.is_empty() {
            break;
        } else if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        } else if line.starts_with("transfer-encoding:") || line == "connection: close" {
            length = None;
        }
    }
    let status = status.ok_or_else(broken)?;
    let Some(length) = length else { return Ok((status, None)) };
    let mut body = Vec::new();
    answer.take(length).read_to_end(&mut body)?;
    Ok((status, (body.len() as u64 == length).then_some(connection)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const ROOM: &str = "ws://127.0.0.1:8080/rooms/finals/ws?room=finals";

    #[test]
    fn taken_and_refused_messages_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let api = std::thread::spawn(move || {
            let mut connection = BufReader::new(listener.accept().unwrap().0);
            let mut requests = Vec::new();
            for answer in
                ["200 OK\r\nContent-Length: 2\r\n\r\n{}", "403 Forbidden\r\nContent-Length: 0\r\n\r\n"]
            {
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    connection.read_line(&mut line).unwrap();
                    if let Some(value) = line.strip_prefix("Content-Length: ") {
                        length = value.trim().parse().unwrap();
                    }
                    let end = line == "\r\n";
                    requests.push(line);
                    if end {
                        break;
                    }
                }
                let mut body = vec![0; length];
                connection.read_exact(&mut body).unwrap();
                requests.push(String::from_utf8(body).unwrap());
                connection.get_mut().write_all(format!("HTTP/1.1 {answer}").as_bytes()).unwrap();
            }
            requests.concat()
        });
        let publisher = Publisher::new(&url, ROOM, Some("secret".into()), 2.0).unwrap();
        let tally = publisher.run("r", 10, clock::monotonic_ns(), 1_000_000_000);
        assert_eq!(tally.priority.published, 1);
        assert_eq!(tally.priority.unpublished["HTTP 403"], 1);
        let requests = api.join().unwrap();
        assert!(requests.starts_with("POST /rooms/finals/publish HTTP/1.1\r\n"), "{requests}");
        assert!(requests.contains("Authorization: Bearer secret\r\n"), "{requests}");
        assert!(requests.contains(r#"{"kind":"gift","gift":"rose","text":"r.p.0."#), "{requests}");
    }

    #[test]
    fn addresses_that_cannot_be_used_say_what_to_write() {
        let bad = |url, room| Publisher::new(url, room, None, 1.0).unwrap_err().to_string();
        assert!(bad("localhost:9090", ROOM).contains("http://HOST:PORT"));
        assert!(bad("http://localhost:9090", "ws://127.0.0.1:8080/ws").contains("rooms/ROOM"));
    }
}
