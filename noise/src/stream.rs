//! The stream after the handshake: records of `length u16 | sealed bytes`, and an end that is said.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use snow::TransportState;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes in a record, before they are sealed.
pub const MAX_RECORD: usize = 16 * 1024;
/// What sealing adds.
pub(crate) const TAG: usize = 16;
/// The length in front of a record.
const HEADER: usize = 2;
/// What an idle stream keeps of its buffers.
const KEPT: usize = 1024;

/// What comes is not what the other side said: somebody between is at fault, or it is broken. Of this record, and
/// after it, nothing is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The seal is not good: changed, repeated, left out or put elsewhere.
    #[error("a record was changed on its way")]
    Changed,
    /// A length no record has.
    #[error("a record of {0} bytes, which none has")]
    Length(usize),
    /// The connection ended before the other side said so.
    #[error("the stream was cut off")]
    CutOff,
}

impl From<RecordError> for io::Error {
    fn from(error: RecordError) -> Self {
        let kind = match error {
            RecordError::CutOff => io::ErrorKind::UnexpectedEof,
            RecordError::Changed | RecordError::Length(_) => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// A sealed stream over another.
pub struct NoiseStream<S> {
    inner: S,
    keys: TransportState,
    /// A record that is not whole yet: its header, then as long as it says.
    record: Vec<u8>,
    /// How much of it is there.
    have: usize,
    /// What was opened and not yet read.
    plain: Vec<u8>,
    read: usize,
    /// The other side has said its last.
    ended: bool,
    failed: Option<RecordError>,
    /// A sealed record, and how much of it is written.
    out: Vec<u8>,
    written: usize,
    /// Our last is said.
    finished: bool,
}

impl<S> fmt::Debug for NoiseStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoiseStream(..)")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> NoiseStream<S> {
    pub(crate) fn new(inner: S, keys: TransportState) -> Self {
        Self {
            inner,
            keys,
            record: vec![0; HEADER],
            have: 0,
            plain: Vec::new(),
            read: 0,
            ended: false,
            failed: None,
            out: Vec::new(),
            written: 0,
            finished: false,
        }
    }

    /// Reads on until a record is whole, and opens it.
    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let missing = self.record.get_mut(self.have..).unwrap_or_default();
            if missing.is_empty() {
                match self.record.split_first_chunk::<HEADER>() {
                    Some((header, [])) => {
                        let len = usize::from(u16::from_be_bytes(*header));
                        if !(TAG..=MAX_RECORD + TAG).contains(&len) {
                            return Poll::Ready(Err(self.fail(RecordError::Length(len))));
                        }
                        self.record.resize(HEADER + len, 0);
                    }
                    _ => return Poll::Ready(self.open()),
                }
                continue;
            }
            let mut buf = ReadBuf::new(missing);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf))?;
            match buf.filled().len() {
                0 => return Poll::Ready(Err(self.fail(RecordError::CutOff))),
                some => self.have += some,
            }
        }
    }

    /// Opens the record that is whole.
    fn open(&mut self) -> io::Result<()> {
        let sealed = self.record.get(HEADER..).unwrap_or_default();
        self.plain.resize(sealed.len().saturating_sub(TAG), 0);
        self.read = 0;
        match self.keys.read_message(sealed, &mut self.plain) {
            Ok(len) => self.plain.truncate(len),
            Err(_) => return Err(self.fail(RecordError::Changed)),
        }
        self.ended = self.plain.is_empty();
        self.record.truncate(HEADER);
        self.record.shrink_to(KEPT);
        self.have = 0;
        Ok(())
    }

    fn fail(&mut self, error: RecordError) -> io::Error {
        self.plain.clear();
        self.failed = Some(error);
        error.into()
    }

    /// Seals a record; the one before must be written.
    fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        self.out.resize(HEADER + plain.len() + TAG, 0);
        self.written = 0;
        let Some((header, sealed)) = self.out.split_first_chunk_mut::<HEADER>() else { return Ok(()) };
        let len = self.keys.write_message(plain, sealed).map_err(io::Error::other)?;
        *header = u16::try_from(len).map_err(io::Error::other)?.to_be_bytes();
        Ok(())
    }

    /// Writes what is sealed.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                some => self.written += some,
            }
        }
        self.out.clear();
        self.out.shrink_to(KEPT);
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for NoiseStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(error) = this.failed {
                return Poll::Ready(Err(error.into()));
            }
            let plain = this.plain.get(this.read..).unwrap_or_default();
            if !plain.is_empty() {
                let some = plain.get(..plain.len().min(buf.remaining())).unwrap_or_default();
                buf.put_slice(some);
                this.read += some.len();
                return Poll::Ready(Ok(()));
            }
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            this.plain.clear();
            this.plain.shrink_to(KEPT);
            ready!(this.poll_record(cx))?;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for NoiseStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_out(cx))?;
        if self.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let some = buf.get(..buf.len().min(MAX_RECORD)).unwrap_or_default();
        // An empty record would be the end.
        if !some.is_empty() {
            self.seal(some)?;
            // It is taken, whether or not it can be written now.
            if let Poll::Ready(done) = self.poll_out(cx) {
                done?;
            }
        }
        Poll::Ready(Ok(some.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        if !self.finished {
            self.seal(&[])?;
            self.finished = true;
            ready!(self.poll_out(cx))?;
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
