//! A tap on the wire in front of a node: it passes every byte on, counts, notes the sizes of packets, and looks for
//! what must not be there.
//!
//! The node's public address is the tap's, so what is recorded is exactly what the node gets to see. It is also the
//! place where a hostile node is played: whatever it would do to packets is done here.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::hostile::{Hostile, Meddler};
use super::search::{Found, Needles, Scanner};

const BUFFER: usize = 64 * 1024;
/// Longest request head that is looked at.
pub const MAX_HEAD: usize = 16 * 1024;

/// What a tap saw.
#[derive(Debug)]
pub struct Seen {
    /// Bytes to and from the node.
    pub bytes: AtomicU64,
    /// Lengths of request bodies, and how often.
    pub bodies: Mutex<BTreeMap<u64, u64>>,
    /// What was found of what must not be there.
    pub found: Mutex<Found>,
}

/// A tap, until it is dropped.
#[derive(Debug)]
pub struct Tap {
    address: SocketAddr,
    seen: Arc<Seen>,
    hostile: Option<Arc<Hostile>>,
    task: tokio::task::JoinHandle<()>,
}

impl Tap {
    /// Listens on loopback in front of `node`, which is where it runs now, if it runs.
    pub async fn start(
        node: watch::Receiver<Option<SocketAddr>>,
        needles: Arc<Needles>,
        hostile: Option<Arc<Hostile>>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let found = Mutex::new(Found::default());
        let seen = Arc::new(Seen { bytes: AtomicU64::new(0), bodies: Mutex::default(), found });
        let task = tokio::spawn(accept(listener, node, needles, Arc::clone(&seen), hostile.clone()));
        Ok(Self { address, seen, hostile, task })
    }

    /// Where others reach the node.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has done to packets, where it plays a hostile node.
    pub fn hostile(&self) -> Option<&Hostile> {
        self.hostile.as_deref()
    }

    /// What passed so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    node: watch::Receiver<Option<SocketAddr>>,
    needles: Arc<Needles>,
    seen: Arc<Seen>,
    hostile: Option<Arc<Hostile>>,
) {
    while let Ok((outside, _)) = listener.accept().await {
        let (needles, seen) = (Arc::clone(&needles), Arc::clone(&seen));
        // A node that is down refuses; so does its tap, by closing.
        let Some(node) = *node.borrow() else { continue };
        let meddler = hostile.clone().map(|hostile| Meddler::new(hostile, node));
        tokio::spawn(async move {
            let Ok(inside) = TcpStream::connect(node).await else { return };
            if outside.set_nodelay(true).and_then(|()| inside.set_nodelay(true)).is_err() {
                return;
            }
            let (from_outside, to_outside) = outside.into_split();
            let (from_inside, to_inside) = inside.into_split();
            let request = pass(from_outside, to_inside, &needles, &seen, Some(Meter::default()), meddler);
            let answer = pass(from_inside, to_outside, &needles, &seen, None, None);
            // One direction's end ends both: a cut connection must look cut from the other side too.
            tokio::select! {
                _ = request => {}
                _ = answer => {}
            }
        });
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    needles: &Needles,
    seen: &Seen,
    mut meter: Option<Meter>,
    mut meddler: Option<Meddler>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut scanner = Scanner::default();
    loop {
        let len = from.read(&mut buffer).await?;
        let bytes = buffer.get(..len).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        match &mut meddler {
            None => to.write_all(bytes).await?,
            Some(meddler) => to.write_all(&meddler.take(bytes)).await?,
        }
        seen.bytes.fetch_add(len as u64, Ordering::Relaxed);
        let found = scanner.scan(needles, bytes);
        if found != Found::default() {
            seen.found.lock().unwrap_or_else(PoisonError::into_inner).add(&found);
        }
        if let Some(meter) = &mut meter {
            let mut bodies = seen.bodies.lock().unwrap_or_else(PoisonError::into_inner);
            meter.feed(bytes, |length| *bodies.entry(length).or_default() += 1);
        }
    }
}

/// Finds the lengths of request bodies in a stream of HTTP/1.1 requests; gives up at anything else.
#[derive(Debug)]
enum Meter {
    Head(Vec<u8>),
    Body(u64),
    /// A WebSocket, or a head that is none.
    Other,
}

impl Default for Meter {
    fn default() -> Self {
        Self::Head(Vec::new())
    }
}

impl Meter {
    fn feed(&mut self, mut bytes: &[u8], mut body: impl FnMut(u64)) {
        while !bytes.is_empty() {
            match self {
                Self::Other => return,
                Self::Body(left) => {
                    let now = (*left).min(bytes.len() as u64);
                    *left -= now;
                    bytes = bytes.get(now as usize..).unwrap_or_default();
                    if *left == 0 {
                        *self = Self::default();
                    }
                }
                Self::Head(head) => {
                    let before = head.len();
                    head.extend_from_slice(bytes);
                    let Some(end) = head_length(head) else {
                        if head.len() > MAX_HEAD {
                            *self = Self::Other;
                        }
                        return;
                    };
                    bytes = bytes.get(end - before..).unwrap_or_default();
                    *self = match read_head(head.get(..end).unwrap_or_default()) {
                        Head::Upgrade => Self::Other,
                        Head::Body(0) => Self::default(),
                        Head::Body(length) => {
                            body(length);
                            Self::Body(length)
                        }
                    };
                }
            }
        }
    }
}

/// What follows a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A WebSocket.
    Upgrade,
    /// A body of this length.
    Body(u64),
}

/// Length of the request head at the beginning of these bytes, when it is whole.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4)
}

/// What a whole head says.
pub fn read_head(head: &[u8]) -> Head {
    let head = String::from_utf8_lossy(head).to_lowercase();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    if header("upgrade:").is_some() {
        return Head::Upgrade;
    }
    Head::Body(header("content-length:").and_then(|length| length.trim().parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_finds_bodies_however_the_stream_is_cut() {
        let stream = b"POST /hop HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello\
            GET /health HTTP/1.1\r\n\r\nPOST /hop HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc\
            GET /topic HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x82\x7e\x00";
        for cut in 1..stream.len() {
            let (mut meter, mut bodies) = (Meter::default(), Vec::new());
            for piece in stream.chunks(cut) {
                meter.feed(piece, |length| bodies.push(length));
            }
            assert_eq!(bodies, [5, 3], "in pieces of {cut}");
        }
    }
}
