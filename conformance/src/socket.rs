//! A subscriber: opens a socket, checks everything the server says on it, and can misbehave on purpose.

use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::failure::{Checked, Failure, ensure, equal};
use crate::frame::{self, Frame, Head, Hello, Item};
use crate::http::Stream;
use crate::target::{TRIES, Target, WAIT, pause};
use crate::topic::Topic;
use crate::view::View;

/// The subprotocol of binary frames.
pub const BINARY: &str = "delta.sync.2";

/// Which frames the server is to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Subprotocol `delta.sync.2`.
    Binary,
    /// No subprotocol.
    Json,
}

/// Both modes, for checks of what they share.
pub const MODES: [Mode; 2] = [Mode::Binary, Mode::Json];

impl Mode {
    /// For messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Json => "JSON",
        }
    }
}

/// Something that came on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A frame.
    Frame(Frame),
    /// The answer to a ping.
    Pong(Vec<u8>),
    /// The end, with its code when the server gave one.
    Closed(Option<u16>),
}

/// How a socket is opened.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The query, with its question mark, or empty.
    pub query: String,
    /// What is offered as `Sec-WebSocket-Protocol`.
    pub protocols: Option<&'static str>,
    /// Size of the receive buffer, for slow readers.
    pub receive_buffer: Option<u32>,
}

impl Ask {
    /// A mode with a query.
    pub fn new(mode: Mode, query: impl Into<String>) -> Self {
        let protocols = match mode {
            Mode::Binary => Some(BINARY),
            Mode::Json => None,
        };
        Self { query: query.into(), protocols, receive_buffer: None }
    }
}

/// A WebSocket.
pub struct Socket {
    inner: WebSocketStream<Stream>,
    /// The frames it carries.
    pub mode: Mode,
    /// The subprotocol the server chose.
    pub protocol: Option<String>,
}

impl Socket {
    /// Opens a socket for a topic.
    pub async fn open(target: &Target, topic: &Topic, ask: &Ask) -> Checked<Self> {
        let path = target.base.path(&format!("/topic/{}{}", topic.hex, ask.query));
        let failure = |got: String| Failure::new(format!("opening GET {path}"), "101", got);
        let mut request = format!("ws://{}{path}", target.base.authority)
            .into_client_request()
            .map_err(|error| failure(error.to_string()))?;
        if let Some(protocols) = ask.protocols {
            request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(protocols));
        }
        let mut tries = 1;
        let (inner, response) = loop {
            let request = request.clone();
            let opened = tokio::time::timeout(WAIT, async {
                let stream = target.base.connect(ask.receive_buffer).await.map_err(Error::Io)?;
                let config = WebSocketConfig::default().read_buffer_size(8 * 1024);
                tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await
            });
            match opened.await {
                Ok(Ok(opened)) => break opened,
                // Busy: asked again like any other request.
                Ok(Err(Error::Http(response))) if response.status() == 429 && tries < TRIES => {
                    let asked = response.headers().get("Retry-After");
                    pause(asked.and_then(|value| value.to_str().ok())).await?;
                    tries += 1;
                }
                Ok(Err(Error::Http(response))) => return Err(failure(response.status().to_string())),
                Ok(Err(error)) => return Err(failure(error.to_string())),
                Err(_) => return Err(failure(format!("nothing within {WAIT:?}"))),
            }
        };
        let protocol = response.headers().get("Sec-WebSocket-Protocol");
        let protocol = protocol.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mode = if protocol.as_deref() == Some(BINARY) { Mode::Binary } else { Mode::Json };
        Ok(Self { inner, mode, protocol })
    }

    /// The next event; `None` when there is none within `wait`.
    pub async fn event_within(&mut self, wait: Duration) -> Checked<Option<Event>> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let message = match tokio::time::timeout_at(deadline, self.inner.next()).await {
                Err(_) => return Ok(None),
                Ok(None) => return Ok(Some(Event::Closed(None))),
                Ok(Some(Err(Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed))) => {
                    return Ok(Some(Event::Closed(None)));
                }
                Ok(Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)))) => {
                    return Ok(Some(Event::Closed(None)));
                }
                Ok(Some(Err(error))) => {
                    return Err(Failure::new("a socket", "WebSocket messages", error.to_string()));
                }
                Ok(Some(Ok(message))) => message,
            };
            return match (message, self.mode) {
                (Message::Binary(bytes), Mode::Binary) => Ok(Some(Event::Frame(frame::binary(&bytes)?))),
                (Message::Text(text), Mode::Json) => Ok(Some(Event::Frame(frame::json(&text)?))),
                (Message::Close(close), _) => {
                    Ok(Some(Event::Closed(close.map(|frame| u16::from(frame.code)))))
                }
                (Message::Pong(bytes), _) => Ok(Some(Event::Pong(bytes.to_vec()))),
                (Message::Ping(_) | Message::Frame(_), _) => continue,
                (other, mode) => {
                    let got = if other.is_text() { "a text message" } else { "a binary message" };
                    Err(Failure::new(format!("a socket with {} frames", mode.name()), "its frames", got))
                }
            };
        }
    }

    /// The next event, which must come.
    pub async fn event(&mut self) -> Checked<Event> {
        let event = self.event_within(WAIT).await?;
        event
            .ok_or_else(|| Failure::new("a socket", "a frame or a close", format!("nothing within {WAIT:?}")))
    }

    /// The next frame, which must come.
    pub async fn frame(&mut self) -> Checked<Frame> {
        loop {
            match self.event().await? {
                Event::Frame(frame) => return Ok(frame),
                Event::Pong(_) => {}
                Event::Closed(code) => {
                    return Err(Failure::new("a socket", "a frame", format!("closed with {code:?}")));
                }
            }
        }
    }

    /// Reads on until the server closes.
    pub async fn close_code(&mut self) -> Checked<Option<u16>> {
        loop {
            if let Event::Closed(code) = self.event().await? {
                return Ok(code);
            }
        }
    }

    /// Demands that the server closes with `code`.
    pub async fn expect_close(&mut self, what: &str, code: u16) -> Checked {
        let got = self.close_code().await.map_err(|failure| failure.within(what))?;
        equal(format!("the close code after {what}"), &got, &Some(code))
    }

    /// Sends a message. Fails silently when the server has hung up: what it said is read next.
    pub async fn send(&mut self, message: Message) {
        let _ = tokio::time::timeout(WAIT, self.inner.send(message)).await;
    }

    /// Sends bytes below the WebSocket protocol.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let stream = self.inner.get_mut();
        let _ = tokio::time::timeout(WAIT, async {
            stream.write_all(bytes).await?;
            stream.flush().await
        })
        .await;
    }
}

/// A frame header as a client writes it, with a mask of zeros, announcing `len` bytes.
pub fn raw_header(first: u8, len: u64) -> Vec<u8> {
    let mut header = vec![first];
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => header.push(0x80 | short),
        (_, Ok(medium)) => {
            header.push(0x80 | 126);
            header.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend_from_slice(&len.to_be_bytes());
        }
    }
    header.extend_from_slice(&[0; 4]);
    header
}

/// First and last missing seq and the chain at the last.
pub type Gap = (u64, u64, [u8; 32]);

/// What came until `ready`, it included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// In binary always.
    pub hello: Option<Hello>,
    /// Generation and head, when what the client showed is not of this log.
    pub reset: Option<([u8; 16], u64)>,
    /// What was evicted before the replay began: first and last seq, and the chain at the last.
    pub gap: Option<Gap>,
    /// The replay.
    pub items: Vec<Item>,
    /// What was evicted while the replay ran: each behind so many of the operations above.
    pub later_gaps: Vec<(usize, Gap)>,
    /// Verified.
    pub ready: Head,
}

impl Opening {
    /// The seqs of the replay.
    pub fn seqs(&self) -> Vec<u64> {
        self.items.iter().map(|item| item.seq).collect()
    }
}

/// A subscriber that has caught up.
pub struct Follower {
    /// Its socket.
    pub socket: Socket,
    /// What came until `ready`.
    pub opening: Opening,
    /// Where it is.
    pub view: View,
    /// Live heads that came, verified.
    pub heads: Vec<Head>,
    /// Signals that came.
    pub signals: Vec<Vec<u8>>,
    node: VerifyingKey,
}

impl Follower {
    /// Subscribes from the start.
    pub async fn start(target: &Target, topic: &Topic, mode: Mode) -> Checked<Self> {
        Self::open(target, topic, &Ask::new(mode, "?since=0"), None).await
    }

    /// Subscribes behind `at`, showing its generation and chain.
    pub async fn resume(target: &Target, topic: &Topic, mode: Mode, at: &View) -> Checked<Self> {
        let generation = hex::encode(at.generation);
        let query = format!("?since={}&generation={generation}&chain={}", at.seq, at.prefix());
        Self::open(target, topic, &Ask::new(mode, query), Some(at)).await
    }

    /// Subscribes and reads until `ready`: checks the order of frames, the seqs, the chain and the signed head. `at` is
    /// what the client knows at `since`; without it `since` must be 0, or the server must reset.
    pub async fn open(target: &Target, topic: &Topic, ask: &Ask, at: Option<&View>) -> Checked<Self> {
        let mut socket = Socket::open(target, topic, ask).await?;
        let opening = read_opening(&mut socket).await?;
        let generation = match (&opening.hello, &opening.ready.generation) {
            (Some(hello), _) => hello.generation,
            (None, Some(generation)) => *generation,
            (None, None) => return Err(Failure::new("a JSON ready", "`generation`", "none")),
        };
        let mut view = match (&opening.gap, &opening.reset, at) {
            (Some((_, to, chain)), _, _) => View { topic: topic.id, generation, seq: *to, chain: *chain },
            (None, None, Some(at)) => at.clone(),
            (None, _, _) => View::start(topic.id, generation),
        };
        if let Some((reset, _)) = opening.reset {
            equal("reset.generation", &hex::encode(reset), &hex::encode(generation))?;
        }
        let mut done = 0;
        for (behind, gap) in &opening.later_gaps {
            view.extend(&opening.items[done..*behind])?;
            view.skip(*gap)?;
            done = *behind;
        }
        view.extend(&opening.items[done..])?;
        view.check("ready", &target.node, &opening.ready)?;
        Ok(Self { socket, opening, view, heads: Vec::new(), signals: Vec::new(), node: target.node })
    }

    /// Reads one frame; operations and heads are checked against the view. Returns the operations.
    pub async fn step(&mut self) -> Checked<Vec<Item>> {
        let frame = self.socket.frame().await?;
        self.take(frame)
    }

    /// Checks a live frame.
    pub fn take(&mut self, frame: Frame) -> Checked<Vec<Item>> {
        match frame {
            Frame::Ops(items) => {
                self.view.extend(&items)?;
                Ok(items)
            }
            Frame::Head(head) => {
                self.view.check("head", &self.node, &head)?;
                self.heads.push(head);
                Ok(Vec::new())
            }
            Frame::Signal(bytes) => {
                self.signals.push(bytes);
                Ok(Vec::new())
            }
            Frame::Gap { from, to, chain } => self.view.skip((from, to, chain)).map(|()| Vec::new()),
            other => Err(Failure::new("a live frame", "ops, gap, head or signal", format!("{other:?}"))),
        }
    }

    /// Follows until `seq` has come; returns the operations.
    pub async fn until(&mut self, seq: u64) -> Checked<Vec<Item>> {
        let mut items = Vec::new();
        while self.view.seq < seq {
            let step = self.step().await;
            items.extend(step.map_err(|failure| failure.within(&format!("following to seq {seq}")))?);
        }
        Ok(items)
    }
}

async fn read_opening(socket: &mut Socket) -> Checked<Opening> {
    let hello = match socket.mode {
        Mode::Json => None,
        Mode::Binary => match socket.frame().await? {
            Frame::Hello(hello) => Some(hello),
            other => return Err(Failure::new("the first binary frame", "hello", format!("{other:?}"))),
        },
    };
    let (mut reset, mut gap, mut items, mut later_gaps) = (None, None, Vec::new(), Vec::new());
    loop {
        let frame = socket.frame().await.map_err(|failure| failure.within("before ready"))?;
        let shown = format!("{frame:?}");
        let early = match frame {
            Frame::Reset { generation, head } => {
                let early = reset.is_none() && gap.is_none() && items.is_empty();
                reset = Some((generation, head));
                early
            }
            Frame::Gap { from, to, chain } => {
                if gap.is_none() && items.is_empty() {
                    gap = Some((from, to, chain));
                } else {
                    later_gaps.push((items.len(), (from, to, chain)));
                }
                true
            }
            Frame::Ops(more) => {
                items.extend(more);
                true
            }
            Frame::Ready(ready) => return Ok(Opening { hello, reset, gap, items, later_gaps, ready }),
            Frame::Hello(_) | Frame::Signal(_) | Frame::Slow { .. } | Frame::Head(_) => false,
        };
        ensure(early, "the order of frames", "hello, reset, gap, ops, ready", shown)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_headers_use_the_shortest_length() {
        assert_eq!(raw_header(0x82, 5), [0x82, 0x85, 0, 0, 0, 0]);
        assert_eq!(raw_header(0x82, 300), [0x82, 0xfe, 1, 44, 0, 0, 0, 0]);
        assert_eq!(raw_header(0x82, 1 << 24), [0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }
}
