//! Lets viewers in: the upgrade, and one `joined`.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use danmu_wire::{Event, Joined, frame};
use mio::{Events, Interest, Poll, Token, Waker, net::TcpListener, net::TcpStream};
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::{
    floor::{FloorError, replay::Outbound},
    handshake::{MAX_HEAD, answer},
};

const LISTENER: Token = Token(usize::MAX);
const START: Token = Token(usize::MAX - 1);

/// As many connections may wait as the kernel lets (`net.core.somaxconn`).
const BACKLOG: i32 = 65_535;

/// How long to wait for viewers.
const DEADLINE: Duration = Duration::from_secs(600);

/// Prints the address, and when so many `viewers` have joined; waits for them or, with
/// `start_on_stdin`, for a line.
///
/// # Errors
/// [`FloorError`] when the address cannot be listened on or nobody comes.
pub(super) fn accept(
    address: SocketAddr,
    viewers: usize,
    start_on_stdin: bool,
) -> Result<Vec<Outbound>, FloorError> {
    let mut lobby = Lobby::new(address)?;
    println!("{}", json!({"listening": lobby.listener.local_addr()?.to_string()}));
    // Lives as long as the poll: closing it would take back a wake-up that was not seen yet.
    let waker = Arc::new(Waker::new(lobby.poll.registry(), START)?);
    if start_on_stdin {
        let waker = Arc::clone(&waker);
        std::thread::spawn(move || {
            // The end of the input is a start too: there will be no other.
            let _ = io::stdin().read_line(&mut String::new());
            let _ = waker.wake();
        });
    }
    let mut told = false;
    let (mut events, end) = (Events::with_capacity(256), Instant::now() + DEADLINE);
    loop {
        if !told && lobby.joined.len() >= viewers {
            told = true;
            println!("{}", json!({"joined": viewers}));
            if !start_on_stdin {
                return Ok(lobby.joined);
            }
        }
        let rest = end.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            let (here, seconds) = (lobby.joined.len(), DEADLINE.as_secs());
            return Err(FloorError::Alone { here, expected: viewers, seconds });
        }
        match lobby.poll.poll(&mut events, Some(rest)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            match event.token() {
                START => return Ok(lobby.joined),
                LISTENER => lobby.accept_all()?,
                Token(number) => lobby.read(number),
            }
        }
    }
}

struct Lobby {
    poll: Poll,
    listener: TcpListener,
    /// Viewers whose request is not whole yet.
    arriving: HashMap<usize, (TcpStream, Vec<u8>)>,
    next: usize,
    joined: Vec<Outbound>,
    joined_frame: Vec<u8>,
}

impl Lobby {
    fn new(address: SocketAddr) -> io::Result<Lobby> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let mut listener = TcpListener::from_std(socket.into());
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let joined = Joined { epoch: "floor".to_owned(), recovered: true, ..Joined::default() };
        Ok(Lobby {
            poll,
            listener,
            arriving: HashMap::new(),
            next: 0,
            joined: Vec::new(),
            joined_frame: frame::personal(&[Event::Joined(Box::new(joined))]),
        })
    }

    fn accept_all(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true)?;
                    self.poll.registry().register(&mut stream, Token(self.next), Interest::READABLE)?;
                    self.arriving.insert(self.next, (stream, Vec::new()));
                    self.next += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a request; one that is broken loses its connection and is no viewer.
    fn read(&mut self, number: usize) {
        let Some((mut stream, mut request)) = self.arriving.remove(&number) else { return };
        let mut buffer = [0; 2048];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => request.extend_from_slice(buffer.get(..length).unwrap_or(&[])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return,
            }
            if request.len() > MAX_HEAD {
                return;
            }
        }
        match answer(&request) {
            Ok(None) => {
                self.arriving.insert(number, (stream, request));
            }
            Ok(Some(mut bytes)) => {
                bytes.extend_from_slice(&self.joined_frame);
                // A fresh socket takes 300 bytes at once, or it is broken. Out of the poll: its
                // wake-ups must not be part of what sending costs.
                let registered = self.poll.registry().deregister(&mut stream);
                if registered.is_ok() && stream.write(&bytes).is_ok_and(|written| written == bytes.len()) {
                    self.joined.push(Outbound::new(stream.into()));
                }
            }
            Err(_) => {}
        }
    }
}
