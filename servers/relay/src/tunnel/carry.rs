//! The bytes of one open tunnel, both ways, until one side ends or has nothing to say.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use delta_core::identity::Millis;
use delta_server_shell::bucket::TokenBucket;
use delta_server_shell::platform::Clock;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::TunnelLimits;

/// Most bytes of the server's in one message.
const CHUNK: usize = 16 * 1024;
/// How long to wait for a client to take notice of a close.
const LINGER: Duration = Duration::from_secs(2);

/// The server ended the stream.
const CLOSE_ENDED: u16 = 1000;
const CLOSE_NOT_BYTES: u16 = 1003;
const CLOSE_TOO_BIG: u16 = 1009;
/// The connection to the server broke.
const CLOSE_BROKE: u16 = 1011;
const CLOSE_RESTART: u16 = 1012;
const CLOSE_IDLE: u16 = 1013;

/// How a tunnel ends.
#[derive(Debug)]
enum End {
    /// With this close code.
    Close(u16),
    /// The client is gone, or has closed.
    Gone,
}

/// Carries bytes both ways until one side ends, no byte has passed for the idle time, or `closing` turns true.
pub(super) async fn carry<C, S>(
    ws: WebSocketStream<C>,
    server: S,
    limits: TunnelLimits,
    clock: Clock,
    mut closing: watch::Receiver<bool>,
) where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite,
{
    let (mut sink, mut messages) = ws.split();
    let (mut from, mut to) = tokio::io::split(server);
    let active = AtomicU64::new(clock.now().0);
    let up = async {
        let mut pace = Pace::new(clock, limits.bytes_per_second);
        while let Some(message) = messages.next().await {
            let bytes = match carried(message) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                Err(end) => return end,
            };
            active.store(clock.now().0, Ordering::Relaxed);
            pace.wait(bytes.len()).await;
            if to.write_all(&bytes).await.is_err() {
                return End::Close(CLOSE_BROKE);
            }
        }
        End::Gone
    };
    let down = async {
        let mut pace = Pace::new(clock, limits.bytes_per_second);
        let mut buffer = BytesMut::new();
        loop {
            let bytes = match read(&mut from, &mut buffer).await {
                Ok(bytes) if bytes.is_empty() => return End::Close(CLOSE_ENDED),
                Ok(bytes) => bytes,
                Err(_) => return End::Close(CLOSE_BROKE),
            };
            active.store(clock.now().0, Ordering::Relaxed);
            pace.wait(bytes.len()).await;
            if sink.send(Message::Binary(bytes)).await.is_err() {
                return End::Gone;
            }
        }
    };
    let end = tokio::select! {
        end = up => end,
        end = down => end,
        () = idle(&active, limits.idle, clock) => End::Close(CLOSE_IDLE),
        _ = closing.wait_for(|closing| *closing) => End::Close(CLOSE_RESTART),
    };
    let closing = async {
        if let End::Close(code) = end {
            let frame = CloseFrame { code: code.into(), reason: "".into() };
            sink.send(Message::Close(Some(frame))).await?;
            // The client's own close, so that the last bytes are not cut off by ours.
            while messages.next().await.is_some_and(|message| message.is_ok()) {}
        }
        sink.close().await
    };
    let _ = tokio::time::timeout(LINGER, closing).await;
}

/// The bytes of a client's message; none are no sign of life either.
fn carried(message: Result<Message, Error>) -> Result<Option<Bytes>, End> {
    match message {
        Ok(Message::Binary(bytes)) => Ok(Some(bytes).filter(|bytes| !bytes.is_empty())),
        Ok(Message::Text(_)) => Err(End::Close(CLOSE_NOT_BYTES)),
        Ok(Message::Close(_)) => Err(End::Gone),
        Ok(_) => Ok(None),
        Err(Error::Capacity(_)) => Err(End::Close(CLOSE_TOO_BIG)),
        Err(_) => Err(End::Gone),
    }
}

/// Ends once no byte has passed for the idle time.
async fn idle(active: &AtomicU64, most: Duration, clock: Clock) {
    while let Some(left) = until_idle(Millis(active.load(Ordering::Relaxed)), most, clock.now()) {
        tokio::time::sleep(left).await;
    }
}

/// How long a tunnel may stay open at least; `None` when it is idle.
fn until_idle(active: Millis, most: Duration, now: Millis) -> Option<Duration> {
    let silent = Duration::from_millis(now.since(active));
    most.checked_sub(silent).filter(|left| !left.is_zero())
}

/// Slows one direction of a tunnel down to its rate.
struct Pace {
    clock: Clock,
    bucket: TokenBucket,
    per_second: u64,
}

impl Pace {
    const fn new(clock: Clock, per_second: u64) -> Self {
        Self { clock, bucket: TokenBucket::full(Millis(0)), per_second }
    }

    async fn wait(&mut self, bytes: usize) {
        while let Err(ms) = self.bucket.take(self.clock.now(), bytes as u64, self.per_second, 1_000) {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }
}

/// The next bytes, at most [`CHUNK`]. The buffer is used again once what was read before is sent.
async fn read(from: &mut (impl AsyncReadExt + Unpin), buffer: &mut BytesMut) -> io::Result<Bytes> {
    buffer.reserve(CHUNK);
    from.take(CHUNK as u64).read_buf(buffer).await?;
    Ok(buffer.split().freeze())
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(30);
    const LIMITS: TunnelLimits = TunnelLimits { tunnels: 1, bytes_per_second: 0, idle: PATIENCE };

    /// A tunnel in memory: the client's socket, the server's end, and what closes it.
    async fn tunnel(
        limits: TunnelLimits,
    ) -> (WebSocketStream<DuplexStream>, DuplexStream, watch::Sender<bool>) {
        let ((near, far), (inner, server)) = (tokio::io::duplex(1 << 20), tokio::io::duplex(1 << 20));
        let ws = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let (close, closing) = watch::channel(false);
        tokio::spawn(carry(ws, inner, limits, Clock::start(), closing));
        (WebSocketStream::from_raw_socket(near, Role::Client, None).await, server, close)
    }

    async fn close_code(client: &mut WebSocketStream<DuplexStream>) -> u16 {
        let closed = async {
            loop {
                match client.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => return u16::from(frame.code),
                    // As often as it is answered: this is no traffic.
                    Some(Ok(_)) => client.send(Message::Ping(Bytes::new())).await.unwrap(),
                    other => panic!("no close: {other:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, closed).await.unwrap()
    }

    #[tokio::test]
    async fn a_tunnel_that_carries_nothing_is_closed_with_1013_however_often_it_is_pinged() {
        let idle = Duration::from_millis(20);
        let (mut client, _server, _close) = tunnel(TunnelLimits { idle, ..LIMITS }).await;
        client.send(Message::Ping(Bytes::new())).await.unwrap();
        assert_eq!(close_code(&mut client).await, CLOSE_IDLE);
    }

    #[test]
    fn only_bytes_are_carried() {
        let message = |message| carried(Ok(message)).ok().flatten();
        assert_eq!(message(Message::Binary(Bytes::from_static(b"a"))), Some(Bytes::from_static(b"a")));
        for none in
            [Message::Binary(Bytes::new()), Message::Ping(b"a"[..].into()), Message::Pong(Bytes::new())]
        {
            assert!(matches!(carried(Ok(none.clone())), Ok(None)), "{none:?} starts the idle time anew");
        }
        assert!(matches!(carried(Ok(Message::Text("a".into()))), Err(End::Close(CLOSE_NOT_BYTES))));
        assert!(matches!(carried(Ok(Message::Close(None))), Err(End::Gone)));
    }

    #[test]
    fn every_byte_starts_the_idle_time_anew() {
        let left = |active, now| until_idle(Millis(active), super::super::IDLE, Millis(now));
        assert_eq!(left(1_000, 1_000), Some(Duration::from_secs(300)));
        assert_eq!(left(1_000, 300_999), Some(Duration::from_millis(1)));
        assert_eq!(left(1_000, 301_000), None);
        assert_eq!(left(2_000, 301_000), Some(Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn one_buffer_serves_all_that_is_read_and_holds_no_more_than_a_message() {
        let (mut server, mut near) = tokio::io::duplex(1 << 20);
        server.write_all(&[7; 5 * CHUNK / 2]).await.unwrap();
        let (mut buffer, mut places) = (BytesMut::new(), Vec::new());
        for expected in [CHUNK, CHUNK, CHUNK / 2] {
            let bytes = read(&mut near, &mut buffer).await.unwrap();
            assert_eq!(bytes.len(), expected);
            places.push(bytes.as_ptr());
        }
        assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
        drop(server);
        assert!(read(&mut near, &mut buffer).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_is_above_a_tunnels_bytes_per_second_waits_both_ways() {
        let clock = Clock::start();
        // Two bytes each way; the second of each waits for the rate, by two clocks that count whole milliseconds.
        let took = async |bytes_per_second| {
            let (mut client, mut server, _close) = tunnel(TunnelLimits { bytes_per_second, ..LIMITS }).await;
            let (mut both, start) = ([0; 2], clock.now());
            for byte in [b"a", b"b"] {
                client.send(Message::Binary(byte.as_slice().into())).await.unwrap();
            }
            server.read_exact(&mut both).await.unwrap();
            assert_eq!(&both, b"ab");
            let up = clock.now().since(start);
            for byte in [b"c", b"d"] {
                server.write_all(byte).await.unwrap();
                assert_eq!(client.next().await.unwrap().unwrap().into_data(), byte.as_slice());
            }
            (up, clock.now().since(start) - up)
        };
        let (up, down) = took(1).await;
        assert!(up >= 998 && down >= 998, "{up} ms, {down} ms");
        // Without a limit nothing is counted at all: `TokenBucket` has the test.
        took(0).await;
    }
}
