//! TCP and TLS to a server, and the WebSocket handshake.

use std::{sync::LazyLock, time::Duration};

use danmu_wire::{PROTOCOL_JSON, PROTOCOL_TOKEN_PREFIX};
use hyper::{
    Uri,
    header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, client::IntoClientRequest, protocol::WebSocketConfig},
};
use tower::ServiceExt;
use url::Url;

/// More than any flush of a server.
pub(crate) const LARGEST_FRAME: usize = 4 << 20;
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

pub(crate) type Socket = WebSocketStream<TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>>;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No TCP, no TLS, or no answer.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// The handshake was answered with a status of HTTP: 503 is overload or drain, 403 another origin.
    #[error("the server answered the handshake with {0}")]
    TurnedAway(u16),
    /// The connection ended without a word.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The server closed it, and said why.
    #[error("the server closed the connection: {reason} ({code})")]
    Closed {
        /// As in [`danmu_wire::CloseCode`].
        code: u16,
        /// In words.
        reason: String,
    },
}

/// To servers with and without TLS; authorities are the system's.
pub(crate) fn connector() -> Result<HttpsConnector<HttpConnector>, String> {
    /// Read once: there may be hundreds of them.
    static CONNECTOR: LazyLock<Result<HttpsConnector<HttpConnector>, String>> = LazyLock::new(|| {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_DEADLINE));
        let tls = HttpsConnectorBuilder::new().with_native_roots().map_err(|error| error.to_string())?;
        Ok(tls.https_or_http().enable_http1().wrap_connector(http))
    });
    CONNECTOR.clone().map_err(|error| format!("the system's certificate authorities cannot be read: {error}"))
}

/// The handshake; whoever calls sets the deadline.
pub(crate) async fn open(url: &Url, token: Option<String>) -> Result<Socket, Trouble> {
    let unreachable = |error: String| Trouble::Unreachable(error);
    let mut request = url.as_str().into_client_request().map_err(|error| unreachable(error.to_string()))?;
    let offer = match token {
        Some(token) => format!("{PROTOCOL_JSON}, {PROTOCOL_TOKEN_PREFIX}{token}"),
        None => PROTOCOL_JSON.to_owned(),
    };
    let offer = HeaderValue::from_str(&offer)
        .map_err(|_| unreachable("the token has characters that no header may have".to_owned()))?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offer);
    // The connector knows HTTP's names of the two schemes.
    let uri: Uri = url
        .as_str()
        .replacen("ws", "http", 1)
        .parse()
        .map_err(|_| unreachable(format!("{url} is no address")))?;
    let stream =
        connector().map_err(unreachable)?.oneshot(uri).await.map_err(|error| unreachable(chain(&*error)))?;
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .max_message_size(Some(LARGEST_FRAME))
        .max_frame_size(Some(LARGEST_FRAME));
    match client_async_with_config(request, TokioIo::new(stream), Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(answer)) => Err(Trouble::TurnedAway(answer.status().as_u16())),
        Err(error) => Err(unreachable(error.to_string())),
    }
}

/// An error with what caused it: the outer one alone says little.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut inner = error.source();
    while let Some(cause) = inner {
        words = format!("{words}: {cause}");
        inner = cause.source();
    }
    words
}
