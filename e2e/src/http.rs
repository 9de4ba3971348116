//! One HTTP request on a connection of its own: what is asked again must not hang on an old one.

use std::{fmt::Display, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as far as it is text.
    pub body: String,
}

impl Answer {
    /// A header's value; empty without it.
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }
}

/// Asks the server at `host:port`.
///
/// # Errors
/// There is no whole answer within the time.
pub async fn ask(
    within: Duration,
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Result<Answer, String> {
    let fault = |error: &dyn Display| format!("{method} {address}{path}: {error}");
    let exchange = async {
        let stream = TcpStream::connect(address).await.map_err(|error| fault(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| fault(&error))?;
        let driving = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| fault(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| fault(&error))?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| fault(&error))?.to_bytes();
        driving.abort();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    };
    timeout(within, exchange).await.unwrap_or_else(|_| Err(fault(&format!("no answer in {within:?}"))))
}
