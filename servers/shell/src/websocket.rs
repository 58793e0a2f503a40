//! The WebSocket handshake (RFC 6455, section 4.2), for servers that answer HTTP themselves.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What proves to the client that its request was understood: the value of `Sec-WebSocket-Accept`.
#[derive(Debug)]
pub struct Accept(String);

/// Reads a request; `None` when it is no WebSocket upgrade.
pub fn accept(headers: &HeaderMap) -> Option<Accept> {
    let upgrades = tokens(headers, header::UPGRADE).any(|token| token == "websocket")
        && tokens(headers, header::CONNECTION).any(|token| token == "upgrade")
        && headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    upgrades.then(|| Accept(derive_accept_key(key.as_bytes())))
}

/// Whether a client offers a subprotocol.
pub fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    tokens(headers, header::SEC_WEBSOCKET_PROTOCOL).any(|token| token == protocol)
}

/// The answer that switches protocols.
pub fn switching(accept: Accept, protocol: Option<&'static str>) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&accept.0) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    response
}

/// The comma-separated tokens of a header, in lower case.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = String> {
    let values = headers.get_all(name).iter().filter_map(|value| HeaderValue::to_str(value).ok());
    values.flat_map(|value| value.split(',')).map(|token: &str| token.trim().to_ascii_lowercase())
}
