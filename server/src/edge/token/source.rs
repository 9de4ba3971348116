//! Where a key set comes from, and how it is kept fresh: by URL or as a file, now and then and when a token
//! names a key that is not known.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::{
    HeaderMap, Method, StatusCode, Uri,
    header::{ACCEPT, HeaderValue},
};
use jsonwebtoken::{Algorithm, Validation};
use tokio::sync::{Notify, watch};

use super::set::{self, MAX_SET, SetFault, SetKey};
use crate::https::{Fault, Https};

/// A source must have answered whole within this time; a viewer with an unknown key waits no longer.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// How often the source is read.
#[derive(Clone, Copy, Debug)]
pub struct Follow {
    /// Between two readings that nothing asked for.
    pub refresh: Duration,
    /// Least time between two readings, whatever tokens ask for: anybody can make up a key's name.
    pub cooldown: Duration,
    /// How long the source may take.
    pub deadline: Duration,
}

impl Default for Follow {
    fn default() -> Self {
        Follow { refresh: Duration::from_secs(300), cooldown: Duration::from_secs(10), deadline: DEADLINE }
    }
}

/// Where a key set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Served by its issuer, over TLS or on this machine.
    Url(Uri),
    /// A file, such as a mounted Secret's.
    File(PathBuf),
}

/// Why the key set cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceFault {
    /// An address that anybody on the way could answer for.
    #[error(
        "{0}: keys may come over https only, or http from this machine; whoever is in between could put keys of their own in"
    )]
    Plain(String),
    /// No address at all.
    #[error("{0}: it is no address; write for example https://id.example.com/.well-known/jwks.json")]
    BadUrl(String),
    /// The file cannot be read.
    #[error("{0}: it cannot be read: {1}")]
    File(String, String),
    /// No TLS.
    #[error("this machine's certificate authorities cannot be read: {0}")]
    Roots(String),
    /// It did not answer whole in time.
    #[error("{0}: no answer within {1} s")]
    Slow(String, u64),
    /// It does not answer, or badly.
    #[error("{0}: {1}")]
    Unreachable(String, String),
    /// It answers something else than 200. A redirect is not followed: write where it leads.
    #[error("{0}: it answers {1}")]
    Status(String, StatusCode),
    /// It answers what is no key set.
    #[error("{0}: {1}")]
    Set(String, SetFault),
}

impl Source {
    /// Reads `https://…`, `http://…` of this machine, or a file's path.
    ///
    /// # Errors
    /// [`SourceFault::Plain`] or [`SourceFault::BadUrl`].
    pub fn parse(place: &str) -> Result<Source, SourceFault> {
        if !place.contains("://") {
            return Ok(Source::File(place.into()));
        }
        let bad = || SourceFault::BadUrl(place.to_owned());
        let uri: Uri = place.parse().map_err(|_| bad())?;
        let host = uri.host().ok_or_else(bad)?;
        match uri.scheme_str() {
            Some("https") => Ok(Source::Url(uri)),
            Some("http") if is_here(host) => Ok(Source::Url(uri)),
            Some("http") => Err(SourceFault::Plain(place.to_owned())),
            _ => Err(bad()),
        }
    }
}

fn is_here(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A key set that is followed.
pub(super) struct KeySet {
    source: Source,
    http: Option<Https>,
    follow: Follow,
    validations: [(Algorithm, Validation); 3],
    /// The last good ones; empty until there were some.
    keys: ArcSwap<Vec<SetKey>>,
    /// Rung by who needs a key that is not there.
    wanted: Notify,
    looks: watch::Sender<Looks>,
}

/// The looks at the source so far.
#[derive(Clone, Copy, Debug, Default)]
struct Looks {
    begun: Option<Instant>,
    ended: Option<Instant>,
    /// Whether the last one brought keys.
    good: bool,
    count: u64,
    failed: u64,
}

impl KeySet {
    /// A file is read at once: it is there or it is a mistake. A URL may be away for now.
    pub(super) fn new(
        place: &str,
        follow: Follow,
        validations: [(Algorithm, Validation); 3],
    ) -> Result<KeySet, SourceFault> {
        let source = Source::parse(place)?;
        let (http, keys) = match &source {
            Source::Url(_) => {
                let roots = |error: io::Error| SourceFault::Roots(error.to_string());
                (Some(Https::new(0).map_err(roots)?), Vec::new())
            }
            Source::File(path) => (None, set_of(place, &file(path)?, &validations)?),
        };
        let looks = watch::Sender::new(Looks::default());
        let keys = ArcSwap::from_pointee(keys);
        Ok(KeySet { source, http, follow, validations, keys, wanted: Notify::new(), looks })
    }

    pub(super) fn keys(&self) -> Arc<Vec<SetKey>> {
        self.keys.load_full()
    }

    pub(super) fn looks(&self) -> (u64, u64) {
        let looks = *self.looks.borrow();
        (looks.count, looks.failed)
    }

    /// Reads the source now and then, for ever.
    pub(super) async fn follow(&self) {
        let mut told = false;
        loop {
            let began = Instant::now();
            self.looks.send_modify(|looks| looks.begun = Some(began));
            let fault = self.read().await.err();
            self.looks.send_modify(|looks| {
                looks.ended = Some(Instant::now());
                looks.good = fault.is_none();
                looks.count += 1;
                looks.failed += u64::from(fault.is_some());
            });
            match &fault {
                Some(fault) if !told => {
                    tracing::warn!(%fault, "the key set of tokens cannot be read; the keys known so far stay in force");
                }
                _ => {}
            }
            told = fault.is_some();
            // Who has none at all looks again as soon as it may.
            let empty = self.keys.load().is_empty();
            let pause = if empty { self.follow.cooldown } else { self.follow.refresh };
            let _ = tokio::time::timeout(pause, async {
                tokio::time::sleep(self.follow.cooldown.saturating_sub(began.elapsed())).await;
                self.wanted.notified().await;
            })
            .await;
        }
    }

    /// Waits for a look at the source that began after this call, or was under way; whether it brought keys.
    /// False at once where the last one was just before.
    pub(super) async fn look(&self) -> bool {
        let asked = Instant::now();
        let mut looks = self.looks.subscribe();
        let last = *looks.borrow_and_update();
        let running = last.begun > last.ended;
        if !running && last.begun.is_some_and(|begun| begun.elapsed() < self.follow.cooldown) {
            return false;
        }
        self.wanted.notify_one();
        let over = looks.wait_for(|looks| looks.ended > Some(asked));
        match tokio::time::timeout(self.follow.deadline, over).await {
            Ok(Ok(looks)) => looks.good,
            _ => false,
        }
    }

    async fn read(&self) -> Result<(), SourceFault> {
        let (place, bytes) = match (&self.source, &self.http) {
            (Source::Url(uri), Some(http)) => {
                let fetched = tokio::time::timeout(self.follow.deadline, fetch(http, uri)).await;
                let slow = |_| SourceFault::Slow(uri.to_string(), self.follow.deadline.as_secs());
                (uri.to_string(), fetched.map_err(slow)??)
            }
            (Source::File(path), _) => {
                let (path, place) = (path.clone(), path.display().to_string());
                let read = tokio::task::spawn_blocking(move || file(&path)).await;
                let gone =
                    |error: tokio::task::JoinError| SourceFault::File(place.clone(), error.to_string());
                let bytes = read.map_err(gone)??;
                (place, bytes.into())
            }
            (Source::Url(_), None) => return Ok(()),
        };
        let keys = set_of(&place, &bytes, &self.validations)?;
        self.keys.store(Arc::new(keys));
        Ok(())
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("source", &self.source).field("keys", &self.keys()).finish()
    }
}

fn set_of(
    place: &str,
    bytes: &[u8],
    validations: &[(Algorithm, Validation)],
) -> Result<Vec<SetKey>, SourceFault> {
    set::read(bytes, validations).map_err(|fault| SourceFault::Set(place.to_owned(), fault))
}

async fn fetch(https: &Https, uri: &Uri) -> Result<Bytes, SourceFault> {
    let accept = HeaderValue::from_static("application/jwk-set+json, application/json");
    let headers = HeaderMap::from_iter([(ACCEPT, accept)]);
    match https.request(Method::GET, uri, headers, Bytes::new(), MAX_SET).await {
        Ok((StatusCode::OK, bytes)) => Ok(bytes),
        Ok((status, _)) => Err(SourceFault::Status(uri.to_string(), status)),
        Err(Fault::TooLong) => Err(SourceFault::Set(uri.to_string(), SetFault::TooLong)),
        Err(Fault::Away(fault)) => Err(SourceFault::Unreachable(uri.to_string(), fault)),
    }
}

fn file(path: &Path) -> Result<Vec<u8>, SourceFault> {
    use io::Read as _;
    let fault = |error: io::Error| SourceFault::File(path.display().to_string(), error.to_string());
    // Opening a named pipe would wait for its writer, for ever.
    if !std::fs::metadata(path).map_err(fault)?.is_file() {
        return Err(fault(io::Error::other("it is no file")));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(fault)?;
    file.take(MAX_SET as u64 + 1).read_to_end(&mut bytes).map_err(fault)?;
    Ok(bytes)
}
