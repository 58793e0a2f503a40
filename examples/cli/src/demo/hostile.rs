//! A hostile relay, played at its tap: of what it is sent it drops and changes nearly everything, and passes the rest on
//! twice. Outside nobody can tell: its answers are those of an honest relay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tap::{Head, MAX_HEAD, head_length, read_head};

/// Of so many packets the first is passed on, twice; the others are dropped or changed in turn. A relay that loses less
/// is not left out: what it loses is sent again over other routes, which takes the demo too long to show.
const ROUND: u64 = 16;
/// Where a packet is changed: behind its header, under its seal.
const CHANGED_AT: usize = 100;

/// What it has done so far.
#[derive(Debug, Default)]
pub struct Hostile {
    packets: AtomicU64,
    pub dropped: AtomicU64,
    pub tampered: AtomicU64,
    pub replayed: AtomicU64,
    rests: AtomicBool,
}

enum Deed {
    Replay,
    Drop,
    Tamper,
}

impl Hostile {
    /// Packets it was sent.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// It behaves from now on. What is written into an inbox is sent again after a minute or so, because its sender
    /// asks for it from elsewhere first: against a relay that loses nearly all of it a demo would take too long.
    pub fn rest(&self) {
        self.rests.store(true, Ordering::Relaxed);
    }

    fn next(&self) -> Deed {
        let (deed, count) = match self.packets.fetch_add(1, Ordering::Relaxed) % ROUND {
            0 => (Deed::Replay, &self.replayed),
            odd if odd % 2 == 1 => (Deed::Drop, &self.dropped),
            _ => (Deed::Tamper, &self.tampered),
        };
        count.fetch_add(1, Ordering::Relaxed);
        deed
    }
}

/// One connection to the hostile relay: collects each request and decides what its node gets to see of it.
#[derive(Debug)]
pub struct Meddler {
    hostile: Arc<Hostile>,
    node: SocketAddr,
    buffer: Vec<u8>,
    /// No HTTP request any more (or never): passed on as it is.
    raw: bool,
}

impl Meddler {
    pub fn new(hostile: Arc<Hostile>, node: SocketAddr) -> Self {
        Self { hostile, node, buffer: Vec::new(), raw: false }
    }

    /// What is to be passed on now that these bytes have come.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.buffer.extend_from_slice(bytes);
        let mut out = Vec::new();
        while !self.raw && !self.buffer.is_empty() {
            let Some(head) = head_length(&self.buffer) else {
                self.raw = self.buffer.len() > MAX_HEAD;
                break;
            };
            let (text, rest) = self.buffer.split_at(head);
            match read_head(text) {
                Head::Upgrade => self.raw = true,
                Head::Body(length) if (rest.len() as u64) < length => break,
                Head::Body(length) => {
                    // It fits: so much is in the buffer.
                    let mut request: Vec<u8> = self.buffer.drain(..head + length as usize).collect();
                    if length > 0 && request.starts_with(b"POST /hop ") {
                        self.meddle(&mut request, head);
                    }
                    out.extend(request);
                }
            }
        }
        if self.raw {
            out.append(&mut self.buffer);
        }
        out
    }

    /// A packet that is dropped still reaches the program behind, as zeros, so that the answer is its own.
    fn meddle(&self, request: &mut [u8], head: usize) {
        let Some(packet) = request.get_mut(head..).filter(|_| !self.hostile.rests.load(Ordering::Relaxed))
        else {
            return;
        };
        match self.hostile.next() {
            Deed::Drop => packet.fill(0),
            Deed::Tamper => packet.iter_mut().skip(CHANGED_AT).take(1).for_each(|byte| *byte ^= 1),
            Deed::Replay => {
                let (node, copy) = (self.node, request.to_vec());
                tokio::spawn(async move { replay(node, &copy).await });
            }
        }
    }
}

/// The same packet over a connection of its own. What the node says to it, or that it is down, matters to nobody.
async fn replay(node: SocketAddr, request: &[u8]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(node).await?;
    stream.write_all(request).await?;
    stream.read(&mut [0; 64]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_are_dropped_changed_and_doubled_and_everything_else_passes() {
        let request = |line: &str, body: &[u8]| {
            let head = format!("{line} HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
            [head.as_bytes(), body].concat()
        };
        let packet = |number: u8| request("POST /hop", &[number; 4096]);
        let other = b"GET /records HTTP/1.1\r\nhost: x\r\n\r\n".to_vec();
        let upgrade = b"GET /tunnel HTTP/1.1\r\nupgrade: websocket\r\n\r\n\x82\x01POST /hop x".to_vec();
        let stream = [packet(1), other.clone(), packet(2), packet(3), upgrade.clone()].concat();
        let mut changed = packet(3);
        let at = changed.len() - 4096 + CHANGED_AT;
        changed[at] ^= 1;
        let expected = [packet(1), other, request("POST /hop", &[0; 4096]), changed, upgrade].concat();
        for cut in [1, 7, 4096, stream.len()] {
            let hostile = Arc::<Hostile>::default();
            let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
            let mut meddler = Meddler::new(Arc::clone(&hostile), nobody);
            let passed: Vec<u8> = stream.chunks(cut).flat_map(|piece| meddler.take(piece)).collect();
            assert!(passed == expected, "in pieces of {cut}");
            let done =
                [&hostile.replayed, &hostile.dropped, &hostile.tampered].map(|n| n.load(Ordering::Relaxed));
            assert_eq!((done, hostile.packets()), ([1, 1, 1], 3));
        }
    }
}
