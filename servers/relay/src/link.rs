//! One keep-alive connection to a next node, and one request on it.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use delta_relay_core::Outcome;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use delta_server_shell::connect::{ConnectError, Connector, Destination, Resolve, Stream};

/// Content-Type of a packet.
pub const PACKET: &str = "application/octet-stream";
/// What is read of an answer's body before the connection is cut.
pub const MAX_ANSWER: usize = 1024;
/// What is read of an answer's head before the connection is cut.
const MAX_ANSWER_HEAD: usize = 16 * 1024;

type Conn = Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>;

/// A connection that is idle, or gone.
pub struct Link {
    to: Arc<Destination>,
    sender: SendRequest<Full<Bytes>>,
    // `None` once the connection has ended.
    conn: Option<Pin<Box<Conn>>>,
    used: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link(..)")
    }
}

/// Sends one body of the given Content-Type, over `link` when it still leads to `to`, and leaves a connection that can be used again there.
pub async fn send<R: Resolve>(
    connector: &Connector<R>,
    link: &mut Option<Link>,
    to: &Arc<Destination>,
    kind: &'static str,
    packet: &Bytes,
) -> Outcome {
    let trying =
        tokio::time::timeout(connector.timeouts().total, try_once(connector, link, to, kind, packet));
    let outcome = trying.await.unwrap_or(Outcome::Unreachable);
    if outcome == Outcome::Unreachable {
        *link = None;
    }
    outcome
}

async fn try_once<R: Resolve>(
    connector: &Connector<R>,
    link: &mut Option<Link>,
    to: &Arc<Destination>,
    kind: &'static str,
    packet: &Bytes,
) -> Outcome {
    if link.as_ref().is_some_and(|link| link.conn.is_none() || link.to != *to) {
        *link = None;
    }
    loop {
        let open = match link {
            Some(open) => open,
            None => match Link::open(connector, to).await {
                Ok(open) => link.insert(open),
                Err(ConnectError::Forbidden) => return Outcome::AddressRefused,
                Err(ConnectError::Unreachable(_)) => return Outcome::Unreachable,
            },
        };
        let reused = open.used;
        match open.request(kind, packet).await {
            Ok(status) => return judge(status),
            // The other side closed an idle connection while we wrote: not a failure of the node. Should it have
            // read the packet all the same, it drops the second copy as a replay.
            Err(_) if reused => *link = None,
            Err(_) => return Outcome::Unreachable,
        }
    }
}

/// What a status says about the packet. Redirects are not followed.
fn judge(status: StatusCode) -> Outcome {
    match status.as_u16() {
        200..=299 => Outcome::Delivered,
        429 | 500..=599 => Outcome::Unreachable,
        _ => Outcome::Refused,
    }
}

impl Link {
    async fn open<R: Resolve>(connector: &Connector<R>, to: &Arc<Destination>) -> Result<Self, ConnectError> {
        let stream = connector.connect(to).await?;
        let handshake =
            http1::Builder::new().max_buf_size(MAX_ANSWER_HEAD).handshake(TokioIo::new(stream)).await;
        let (sender, conn) =
            handshake.map_err(|error| ConnectError::Unreachable(std::io::Error::other(error)))?;
        Ok(Self { to: Arc::clone(to), sender, conn: Some(Box::pin(conn)), used: false })
    }

    /// Waits until the other side closes; forever once it has.
    pub async fn closed(&mut self) {
        if let Some(conn) = &mut self.conn {
            let _ = conn.await;
            self.conn = None;
        }
        std::future::pending().await
    }

    async fn request(&mut self, kind: &'static str, packet: &Bytes) -> hyper::Result<StatusCode> {
        self.used = true;
        let mut request = Request::new(Full::new(packet.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.to.path().clone();
        request.headers_mut().insert(HOST, self.to.host_header().clone());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        drive(&mut self.conn, self.sender.ready()).await?;
        let response = drive(&mut self.conn, self.sender.send_request(request)).await?;
        let status = response.status();
        if !self.drain(response).await {
            self.conn = None;
        }
        Ok(status)
    }

    /// Reads the answer's body, which nobody looks at; whether it ended within [`MAX_ANSWER`].
    async fn drain(&mut self, response: Response<Incoming>) -> bool {
        let mut body = response.into_body();
        let mut left = MAX_ANSWER;
        while let Some(frame) = drive(&mut self.conn, body.frame()).await {
            let Ok(frame) = frame else { return false };
            let len = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(len) else { return false };
            left = rest;
        }
        true
    }
}

/// Awaits `future` while the connection below it makes progress in the same task.
async fn drive<T>(conn: &mut Option<Pin<Box<Conn>>>, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    if let Some(open) = conn {
        tokio::select! {
            biased;
            output = &mut future => return output,
            _ = open => {}
        }
        // What the connection had for the future it has handed over; dropping it fails the rest.
        *conn = None;
    }
    future.await
}

#[cfg(test)]
mod tests;
