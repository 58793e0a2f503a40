//! Writing to a subscriber: ready-made bytes shared among all of them, and how long a client may take for them.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;

use crate::metrics::Metrics;
use crate::wire::Wire;

/// A socket that takes not one byte for this long is dropped.
const NO_PROGRESS: Duration = Duration::from_secs(30);
/// Bytes a second that a socket takes at least, or it is dropped.
const LEAST_RATE: usize = 1024;
/// A subscriber that fell off the live buffer while a write took this long is too slow.
const STALL: Duration = Duration::from_secs(1);
/// How long to wait for a client to take notice of a close.
const LINGER: Duration = Duration::from_secs(2);

/// How much time a client gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    no_progress: Duration,
    least_rate: usize,
    stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { no_progress: NO_PROGRESS, least_rate: LEAST_RATE, stall: STALL }
    }
}

/// The client is gone, or takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// A subscriber's socket.
#[derive(Debug)]
pub(super) struct Line<S> {
    /// For reading.
    pub(super) ws: WebSocketStream<S>,
    patience: Patience,
    /// The last write took long.
    stalled: bool,
    metrics: Arc<Metrics>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    pub(super) const fn new(ws: WebSocketStream<S>, patience: Patience, metrics: Arc<Metrics>) -> Self {
        Self { ws, patience, stalled: false, metrics }
    }

    /// Whether the last write took long.
    pub(super) const fn stalled(&self) -> bool {
        self.stalled
    }

    /// Writes messages, one after the other.
    pub(super) async fn write(&mut self, wires: &[Wire]) -> Result<(), Gone> {
        let len: usize = wires.iter().map(|wire| wire.header().len() + wire.payload().len()).sum();
        // A client that takes a byte now and then must not hold what it does not read for ever.
        let most = self.patience.no_progress + Duration::from_secs((len / self.patience.least_rate) as u64);
        timeout(most, self.write_all(wires)).await.unwrap_or(Err(Gone))
    }

    async fn write_all(&mut self, wires: &[Wire]) -> Result<(), Gone> {
        self.flush().await?;
        let mut slices: Vec<IoSlice<'_>> = wires
            .iter()
            .flat_map(|wire| [wire.header(), wire.payload()])
            .filter(|part| !part.is_empty())
            .map(IoSlice::new)
            .collect();
        let started = Instant::now();
        self.stalled = false;
        self.write_raw(&mut slices).await?;
        self.stalled |= started.elapsed() >= self.patience.stall;
        Ok(())
    }

    /// The library's own bytes (pongs) go out first, whole.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        match timeout(self.patience.no_progress, self.ws.flush()).await {
            // A close the client began is answered and ends the session when it is read.
            Ok(Ok(()) | Err(Error::ConnectionClosed)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Asks whether the client is there.
    pub(super) async fn ping(&mut self) -> Result<(), Gone> {
        self.flush().await?;
        self.write_raw(&mut [IoSlice::new(&[0x89, 0])]).await
    }

    async fn write_raw(&mut self, mut slices: &mut [IoSlice<'_>]) -> Result<(), Gone> {
        let Patience { no_progress, stall, .. } = self.patience;
        while !slices.is_empty() {
            let patience = if self.stalled { no_progress } else { stall };
            match timeout(patience, self.ws.get_mut().write_vectored(slices)).await {
                Ok(Ok(count)) if count > 0 => IoSlice::advance_slices(&mut slices, count),
                Err(_) if !self.stalled => {
                    self.stalled = true;
                    self.metrics.stalls.inc();
                }
                _ => return Err(Gone),
            }
        }
        // TLS may have taken what the network has not: without this it would wait for the next write.
        match timeout(no_progress, self.ws.get_mut().flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Closes the socket with a code.
    pub(super) async fn close(&mut self, code: u16, reason: &str) {
        let mut close = vec![0x88, 2 + reason.len() as u8];
        close.extend_from_slice(&code.to_be_bytes());
        close.extend_from_slice(reason.as_bytes());
        if self.write_raw(&mut [IoSlice::new(&close)]).await.is_err() {
            return;
        }
        // Unread input would make the system cut the connection before the close is read: take it and forget it.
        let stream = self.ws.get_mut();
        let discard = async {
            let _ = stream.shutdown().await;
            let mut sink = [0; 4096];
            while matches!(stream.read(&mut sink).await, Ok(count) if count > 0) {}
        };
        let _ = timeout(LINGER, discard).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::wire;

    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(1_000);
    /// Only a broken line reaches it.
    const BROKEN: Duration = Duration::from_secs(30);

    /// A line to a client whose system takes 64 bytes before it reads.
    async fn line(patience: Patience) -> (Line<DuplexStream>, DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        let ws = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        (Line::new(ws, patience, Arc::default()), far)
    }

    /// Writes one long message, and gives what came of it.
    async fn write(line: &mut Line<DuplexStream>) -> Result<(), Gone> {
        let wires = [wire::binary(vec![7; 10_000])];
        timeout(BROKEN, line.write(&wires)).await.expect("nobody is waited for for ever")
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_dropped() {
        let short = Duration::from_millis(20);
        let (mut line, far) = line(Patience { no_progress: short, least_rate: 1, stall: short }).await;
        assert_eq!(write(&mut line).await, Err(Gone));
        assert_eq!((line.stalled(), line.metrics.stalls.get()), (true, 1));
        drop(far);
    }

    #[tokio::test]
    async fn case_70_a_client_that_takes_a_byte_now_and_then_is_dropped_for_its_rate() {
        let some = Duration::from_millis(200);
        let (mut line, mut far) =
            line(Patience { no_progress: some, least_rate: usize::MAX, stall: LONG }).await;
        let trickle = tokio::spawn(async move {
            while far.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert_eq!(write(&mut line).await, Err(Gone));
        trickle.abort();
    }

    /// As TLS does, which takes bytes that the network has not: they leave with the next write, or when they are flushed.
    #[tokio::test]
    async fn nothing_stays_behind_in_what_lies_between_the_line_and_the_network() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let near = tokio::io::BufStream::with_capacity(1 << 16, 1 << 16, near);
        let ws = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        let mut line = Line::new(ws, Patience::default(), Arc::default());
        line.write(&[wire::binary(vec![7; 100])]).await.unwrap();
        let mut all = [0; 102];
        timeout(BROKEN, far.read_exact(&mut all)).await.expect("it was flushed").unwrap();
        assert_eq!(all[..3], [0x82, 100, 7]);
    }

    #[tokio::test]
    async fn a_client_that_reads_gets_every_byte_however_it_is_cut() {
        let (mut line, mut far) = line(Patience { no_progress: LONG, least_rate: 1, stall: LONG }).await;
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        write(&mut line).await.unwrap();
        assert_eq!((line.stalled(), line.metrics.stalls.get()), (false, 0));
        drop(line);
        let all = reading.await.unwrap();
        // RFC 6455, 5.2: the last fragment, binary, a length of 16 bits.
        assert_eq!(all[..4], [0x82, 126, 0x27, 0x10]);
        assert!(all.len() == 10_004 && all[4..].iter().all(|byte| *byte == 7));
    }
}
