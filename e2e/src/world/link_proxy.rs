//! A TCP proxy on the link between one server and Redis: it stands for the network, and for the Service
//! or DNS name that a failover points elsewhere. Nothing real is unplugged.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the proxy does with what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// All passes.
    Passes,
    /// All passes, later.
    Late(Duration),
    /// Nothing passes now; nothing is lost.
    Stalls,
    /// Connections are cut, and new ones as soon as they are made.
    Cut,
    /// What is sent is lost and nobody is told; such a connection never comes back to life.
    HalfOpen,
}

/// The proxy; it ends when dropped.
#[derive(Debug)]
pub struct LinkProxy {
    /// Where it listens, on loopback.
    pub port: u16,
    traffic: watch::Sender<Traffic>,
    accepting: tokio::task::JoinHandle<()>,
}

impl LinkProxy {
    /// Listens, and leads new connections to the port that `target` holds then.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(target: watch::Receiver<u16>) -> std::io::Result<LinkProxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (traffic, seen) = watch::channel(Traffic::Passes);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(link(near, target.clone(), seen.clone()));
            }
        });
        Ok(LinkProxy { port, traffic, accepting })
    }

    /// Changes what happens to traffic from now on.
    pub fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }
}

impl Drop for LinkProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn link(near: TcpStream, target: watch::Receiver<u16>, traffic: watch::Receiver<Traffic>) {
    let now = *traffic.borrow();
    match now {
        Traffic::Cut => return,
        Traffic::HalfOpen => return swallow(near).await,
        _ => {}
    }
    let port = *target.borrow();
    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    // When one direction ends, the other is of no use.
    tokio::select! {
        () = carry(near_in, far_out, traffic.clone()) => {}
        () = carry(far_in, near_out, traffic) => {}
    }
}

async fn swallow(mut near: TcpStream) {
    let mut bytes = [0; 4096];
    while near.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}

/// Carries one direction until an end closes, or the link is cut.
async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut traffic: watch::Receiver<Traffic>,
) {
    let mut bytes = vec![0; 64 << 10];
    let mut dead = false;
    loop {
        let now = *traffic.borrow_and_update();
        dead |= now == Traffic::HalfOpen;
        let count = tokio::select! {
            read = from.read(&mut bytes) => match read {
                Ok(count) if count > 0 => count,
                // The end is lost as everything else on a half-open link.
                _ if dead => return std::future::pending().await,
                _ => return,
            },
            changed = traffic.changed() => match changed {
                Ok(()) if *traffic.borrow() != Traffic::Cut => continue,
                _ => return,
            },
        };
        loop {
            let now = *traffic.borrow_and_update();
            match now {
                Traffic::Passes => break,
                Traffic::Late(by) => {
                    tokio::time::sleep(by).await;
                    break;
                }
                Traffic::Stalls => {
                    if traffic.changed().await.is_err() {
                        return;
                    }
                }
                Traffic::Cut => return,
                Traffic::HalfOpen => {
                    dead = true;
                    break;
                }
            }
        }
        if !dead && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
