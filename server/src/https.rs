//! Requests to other servers, over TLS with the machine's certificate authorities or plain. No redirect is
//! followed, and no more of an answer is read than asked for. The deadline is the caller's.

use std::{io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

/// For a connection to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection that nobody uses is kept: less than servers commonly do.
const IDLE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The other end cannot be reached, or breaks off.
    #[error("{0}")]
    Away(String),
    /// The answer is longer than asked for.
    #[error("the answer is too long")]
    TooLong,
}

/// A client; clones share its connections.
#[derive(Clone)]
pub struct Https {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Https {
    /// A client that keeps so many connections to each server for the next request.
    ///
    /// # Errors
    /// When the machine's certificate authorities cannot be read.
    pub fn new(kept: usize) -> io::Result<Https> {
        // One crypto provider for the process; a second installation is refused, and is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut plain = HttpConnector::new();
        plain.enforce_http(false);
        plain.set_nodelay(true);
        plain.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_or_http()
            .enable_http1()
            .wrap_connector(plain);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(kept);
        Ok(Https { client: builder.build(connector) })
    }

    /// Sends a request and reads the answer: of one that is not 200, or when `longest` is 0, only the status.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn request(
        &self,
        method: Method,
        uri: &Uri,
        headers: HeaderMap,
        body: Bytes,
        longest: usize,
    ) -> Result<(StatusCode, Bytes), Fault> {
        let mut request = Request::new(Full::new(body));
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri.clone(), headers);
        let answer = self.client.request(request).await.map_err(|error| away(&error))?;
        let status = answer.status();
        if status != StatusCode::OK || longest == 0 {
            return Ok((status, Bytes::new()));
        }
        let body = Limited::new(answer.into_body(), longest).collect().await;
        let body = body
            .map_err(|error| if error.is::<LengthLimitError>() { Fault::TooLong } else { away(&*error) })?;
        Ok((status, body.to_bytes()))
    }
}

fn away(error: &dyn std::error::Error) -> Fault {
    let deepest = std::iter::successors(Some(error), |error| error.source()).last();
    Fault::Away(deepest.map(ToString::to_string).unwrap_or_default())
}

impl std::fmt::Debug for Https {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Https")
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpListener, sync::Arc, thread};

    use super::*;

    /// A TLS server with a certificate of its own making; answers what it was asked, if it was.
    fn impostor() -> (u16, thread::JoinHandle<io::Result<usize>>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = thread::spawn(move || {
            let tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = rustls::StreamOwned::new(tls, listener.accept()?.0);
            stream.read(&mut [0; 1024])
        });
        (port, served)
    }

    #[tokio::test]
    async fn who_has_no_certificate_of_a_known_authority_is_told_nothing() {
        let https = Https::new(0).unwrap();
        let (port, served) = impostor();
        let uri = format!("https://localhost:{port}/").parse().unwrap();
        let body = Bytes::from_static(b"secret");
        let answer = https.request(Method::POST, &uri, HeaderMap::new(), body, 0).await;
        let Err(Fault::Away(fault)) = answer else { panic!("{answer:?}") };
        assert!(fault.contains("certificate"), "{fault}");
        let seen = served.join().unwrap();
        assert!(seen.as_ref().is_err_and(|error| error.to_string().contains("UnknownCA")), "{seen:?}");
    }
}
