//! One address, and whichever server behind it is wanted.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU16, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

pub(crate) struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: AtomicU16,
    /// The next script's answer is lost, and its connection with it.
    swallow: AtomicBool,
    cut: Notify,
}

impl Proxy {
    pub(crate) async fn start(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Shared { target: target.into(), swallow: false.into(), cut: Notify::new() };
        let shared = Arc::new(shared);
        let proxy = Proxy { port, shared: Arc::clone(&shared) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move { shared.carry(client).await });
            }
        });
        proxy
    }

    /// For new connections.
    pub(crate) fn lead_to(&self, port: u16) {
        self.shared.target.store(port, Ordering::Relaxed);
    }

    /// For all: those that are open are cut.
    pub(crate) fn turn_to(&self, port: u16) {
        self.lead_to(port);
        self.shared.cut.notify_waiters();
    }

    pub(crate) fn swallow_an_answer(&self) {
        self.shared.swallow.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_swallowed(&self) -> bool {
        !self.shared.swallow.load(Ordering::Relaxed)
    }
}

impl Shared {
    async fn carry(&self, mut client: TcpStream) {
        let address = ("127.0.0.1", self.target.load(Ordering::Relaxed));
        let Ok(mut server) = TcpStream::connect(address).await else { return };
        let (mut client, mut to_client) = client.split();
        let (mut server, mut to_server) = server.split();
        let answers = async {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = server.read(&mut bytes).await {
                // An array is a script's answer; what is pushed begins with `>`.
                if bytes[0] == b'*' && self.swallow.swap(false, Ordering::Relaxed) {
                    return;
                }
                if to_client.write_all(&bytes[..length]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            _ = tokio::io::copy(&mut client, &mut to_server) => {}
            () = answers => {}
            () = self.cut.notified() => {}
        }
    }
}
