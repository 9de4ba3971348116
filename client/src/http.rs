//! Requests to the admin API, each with a deadline, and again where that is safe.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rand::RngExt;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::{sleep, timeout};

use crate::{connect, options::BadAddress};

/// A load of 10,000 rooms has about 1 MiB, a log of 1,000 lines less.
const LARGEST: usize = 8 << 20;

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    /// Tries of one request, the first one included.
    pub tries: u32,
    /// The longest wait before the second try; it doubles up to `longest`, and each is random below it.
    pub first: Duration,
    /// The longest wait of all.
    pub longest: Duration,
    /// How long one try may take.
    pub deadline: Duration,
}

impl Default for Retries {
    /// Five tries over at most some 8 seconds of waiting, each of at most 5 seconds.
    fn default() -> Self {
        let [first, longest, deadline] = [500, 4_000, 5_000].map(Duration::from_millis);
        Retries { tries: 5, first, longest, deadline }
    }
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// 401 or 403: the token is missing or wrong, or may not do this here.
    #[error("not allowed: {0}")]
    Denied(String),
    /// 404: no such room, or nothing to take back.
    #[error("not found: {0}")]
    NotFound(String),
    /// 409: the key was used for another message.
    #[error("conflict: {0}")]
    Conflict(String),
    /// Any other refusal, in the server's words: trying again would not help.
    #[error("refused ({status}): {words}")]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// What is wrong.
        words: String,
    },
    /// The server is too busy, or cannot be reached, after all tries.
    #[error("away, after {tries} tries: {words}")]
    Away {
        /// How often it was tried.
        tries: u32,
        /// What the last try brought.
        words: String,
        /// Whether it may have been done all the same: an answer did not come.
        unknown: bool,
    },
    /// An answer that is none of this API.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

/// What may be sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// Doing it twice is as good as once: also when no answer came.
    Always,
    /// Only when the server said that it did not do it.
    IfRefused,
}

#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    authorization: header::HeaderValue,
    pub(crate) retries: Retries,
}

/// One try.
enum Tried {
    Answered(StatusCode, Option<Duration>, Bytes),
    /// Nobody was asked.
    Unreachable(String),
    /// Asked, but there is no answer.
    Unanswered(String),
}

impl Http {
    pub(crate) fn new(address: &str, token: &str) -> Result<Http, BadAddress> {
        let bad = |why: String| BadAddress {
            address: address.to_owned(),
            why,
            example: "http://danmu-default-admin:9090",
        };
        let uri: Uri =
            address.parse().map_err(|error: hyper::http::uri::InvalidUri| bad(error.to_string()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
            return Err(bad("it has to begin with http:// or https:// and a host".to_owned()));
        }
        let mut authorization = header::HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| bad("the token has characters that no header may have".to_owned()))?;
        authorization.set_sensitive(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connect::connector().map_err(bad)?);
        let base = address.trim_end_matches('/').to_owned();
        Ok(Http { client, base, authorization, retries: Retries::default() })
    }

    /// Asks, again and again within bounds, and reads the answer.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        key: Option<&str>,
        again: Again,
    ) -> Result<T, Fault> {
        let answer = self.ask(method, path, body, key, again).await?;
        serde_json::from_slice(&answer).map_err(|error| Fault::Unreadable(error.to_string()))
    }

    /// The same, for answers without a body or of another kind.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        key: Option<&str>,
        again: Again,
    ) -> Result<Bytes, Fault> {
        let (mut cap, mut unknown) = (self.retries.first, false);
        let tries = self.retries.tries.max(1);
        for number in 1.. {
            let request = self.request(&method, path, body.clone(), key)?;
            let (words, after) = match self.once(request).await {
                Tried::Answered(status, after, _) if is_later(status) => {
                    (format!("the server answered {status}"), after)
                }
                Tried::Answered(status, _, body) if status.is_success() => return Ok(body),
                Tried::Answered(status, _, body) => return Err(fault(status, &body)),
                Tried::Unreachable(words) => (words, None),
                Tried::Unanswered(words) => {
                    unknown = true;
                    if again == Again::IfRefused {
                        return Err(Fault::Away { tries: number, words, unknown });
                    }
                    (words, None)
                }
            };
            if number >= tries {
                return Err(Fault::Away { tries: number, words, unknown });
            }
            // Retry-After is the same for everybody: the jitter goes on top of it.
            let jitter = cap.mul_f64(rand::rng().random_range(0.0..1.0));
            sleep(after.unwrap_or_default().min(self.retries.longest) + jitter).await;
            cap = (cap * 2).min(self.retries.longest);
        }
        Err(Fault::Unreadable("there was no try".to_owned()))
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        body: Option<Bytes>,
        key: Option<&str>,
    ) -> Result<Request<Full<Bytes>>, Fault> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, self.authorization.clone());
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let refused = |error: hyper::http::Error| Fault::Refused { status: 400, words: error.to_string() };
        request.body(Full::new(body.unwrap_or_default())).map_err(refused)
    }

    async fn once(&self, request: Request<Full<Bytes>>) -> Tried {
        let exchange = async {
            let answer = match self.client.request(request).await {
                Ok(answer) => answer,
                Err(error) if error.is_connect() => return Tried::Unreachable(connect::chain(&error)),
                Err(error) => return Tried::Unanswered(connect::chain(&error)),
            };
            let status = answer.status();
            let after = answer.headers().get(header::RETRY_AFTER);
            let after = after.and_then(|after| after.to_str().ok()?.parse().ok()).map(Duration::from_secs);
            match Limited::new(answer.into_body(), LARGEST).collect().await {
                Ok(body) => Tried::Answered(status, after, body.to_bytes()),
                Err(error) => Tried::Unanswered(error.to_string()),
            }
        };
        let late = || Tried::Unanswered("no answer in time".to_owned());
        timeout(self.retries.deadline, exchange).await.unwrap_or_else(|_| late())
    }
}

/// Too busy, or Redis is away: nothing was done.
fn is_later(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
}

fn fault(status: StatusCode, body: &[u8]) -> Fault {
    #[derive(Deserialize)]
    struct Words {
        error: String,
    }
    let words = match serde_json::from_slice::<Words>(body) {
        Ok(words) => words.error,
        Err(_) => status.to_string(),
    };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Fault::Denied(words),
        StatusCode::NOT_FOUND => Fault::NotFound(words),
        StatusCode::CONFLICT => Fault::Conflict(words),
        status => Fault::Refused { status: status.as_u16(), words },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_scheme_is_refused_in_words() {
        for address in ["", "danmu:9090", "ftp://danmu", "http://", "http://a b"] {
            let told = Http::new(address, "t").unwrap_err().to_string();
            assert!(told.contains("write for example http://"), "{told}");
        }
        assert!(Http::new("http://[::1]:9090/", "t\n").unwrap_err().to_string().contains("token"));
    }

    #[test]
    fn a_refusal_is_told_in_the_servers_words_or_by_its_status() {
        let told = |status: u16, body: &str| fault(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        assert_eq!(told(409, r#"{"error":"used"}"#), Fault::Conflict("used".into()));
        assert_eq!(told(422, r#"{"error":"too long"}"#).to_string(), "refused (422): too long");
        assert_eq!(told(502, "<html>").to_string(), "refused (502): 502 Bad Gateway");
    }
}
