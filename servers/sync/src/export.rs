//! One topic as a file: to move it to another server, or to keep it.
//!
//! ```text
//! "dlt-exp1" | topic_id[32] | signed u8 | counter u64 | read_key len u8 (0 or 32), bytes | metadata len u16, bytes
//! | count u64 | count × (seq u64 | received_ms u64 | len u32 | op) | BLAKE3 of all before [32]
//! ```
//!
//! Seqs and times are those of the old server, for people; the new one gives its own seqs.

use std::io::{self, Read, Write};

use delta_core::identity::Millis;
use delta_core::limits::{MAX_CONTROL, MAX_ENVELOPE};
use delta_core::topic::{Seq, TopicId};
use delta_topic_log::{LogReader, LogState, TopicFacts};
use thiserror::Error;

use crate::store::{Sql, StoreError};

const MAGIC: &[u8; 8] = b"dlt-exp1";

/// A topic cannot be exported, or a file is no export.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The file cannot be read or written, or ends early.
    #[error("the export file cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// The file is no export, or was changed since it was written. Nothing of it was imported.
    #[error("the file is no export of a topic, or it is damaged ({0})")]
    Damaged(&'static str),
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What stands before the operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The topic.
    pub topic: TopicId,
    /// Whether it has had a signed write.
    pub signed: bool,
    /// What control messages said; never that it is closed.
    pub facts: TopicFacts,
    /// How many operations follow.
    pub count: u64,
}

/// One exported operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Its seq on the old server.
    pub seq: Seq,
    /// When the old server received it.
    pub received: Millis,
    /// The envelope.
    pub op: Vec<u8>,
}

/// Writes what a server keeps of a topic; tells how many operations.
///
/// # Errors
/// The file is not whole.
pub fn write(sql: &Sql, topic: &TopicId, out: &mut dyn Write) -> Result<u64, ExportError> {
    let mut out = Hashing { inner: out, hasher: blake3::Hasher::new() };
    let state = sql.state(topic)?.unwrap_or(LogState::EMPTY);
    let facts = sql.facts(topic)?;
    let count = state.head.0.saturating_add(1).saturating_sub(state.tail.0);
    out.write_all(MAGIC)?;
    out.write_all(&topic.0)?;
    out.write_all(&[u8::from(state.signed)])?;
    out.write_all(&facts.counter.to_be_bytes())?;
    let read_key = facts.read_key.as_ref().map_or(&[][..], |key| key);
    out.write_all(&[read_key.len() as u8])?;
    out.write_all(read_key)?;
    let metadata = facts.metadata.unwrap_or_default();
    out.write_all(&(metadata.len() as u16).to_be_bytes())?;
    out.write_all(&metadata)?;
    out.write_all(&count.to_be_bytes())?;
    let (mut written, mut failed) = (0, None);
    sql.ascend(topic, Seq(0), Seq(u64::MAX), &mut |stored| {
        let put = out
            .write_all(&stored.seq.0.to_be_bytes())
            .and_then(|()| out.write_all(&stored.received.0.to_be_bytes()))
            .and_then(|()| out.write_all(&(stored.op.len() as u32).to_be_bytes()))
            .and_then(|()| out.write_all(stored.op));
        written += 1;
        failed = put.err();
        failed.is_none()
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if written != count {
        return Err(ExportError::Damaged("the log has holes: run a check"));
    }
    let hash = *out.hasher.finalize().as_bytes();
    out.inner.write_all(&hash)?;
    Ok(count)
}

/// Reads a file: the header, then each operation to `visit`. Read it once with a `visit` that does nothing to know
/// that it is whole.
///
/// # Errors
/// The file is no export, or damaged; or `visit` failed.
pub fn read<E: From<ExportError>>(
    input: &mut dyn Read,
    mut visit: impl FnMut(&Header, Exported) -> Result<(), E>,
) -> Result<Header, E> {
    let mut input = Hashing { inner: input, hasher: blake3::Hasher::new() };
    let header = read_header(&mut input)?;
    for _ in 0..header.count {
        let exported = read_operation(&mut input)?;
        visit(&header, exported)?;
    }
    finish(&mut input)?;
    Ok(header)
}

fn read_header(input: &mut Hashing<&mut dyn Read>) -> Result<Header, ExportError> {
    if input.array()? != *MAGIC {
        return Err(ExportError::Damaged("it begins with something else"));
    }
    let topic = TopicId(input.array()?);
    let [signed] = input.array()?;
    let counter = u64::from_be_bytes(input.array()?);
    let read_key = match input.array()? {
        [0] => None,
        [32] => Some(input.array()?),
        _ => return Err(ExportError::Damaged("its read key")),
    };
    let len = usize::from(u16::from_be_bytes(input.array()?));
    if len > MAX_CONTROL || signed > 1 || counter > Seq::MAX.0 {
        return Err(ExportError::Damaged("its description"));
    }
    let metadata = input.bytes(len)?;
    let metadata = (!metadata.is_empty()).then_some(metadata);
    let count = u64::from_be_bytes(input.array()?);
    let facts = TopicFacts { counter, read_key, metadata, closed: None };
    Ok(Header { topic, signed: signed == 1, facts, count })
}

fn read_operation(input: &mut Hashing<&mut dyn Read>) -> Result<Exported, ExportError> {
    let seq = Seq(u64::from_be_bytes(input.array()?));
    let received = Millis(u64::from_be_bytes(input.array()?));
    let len = u32::from_be_bytes(input.array()?) as usize;
    if len == 0 || len > MAX_ENVELOPE || received.0 > Seq::MAX.0 {
        return Err(ExportError::Damaged("an operation"));
    }
    Ok(Exported { seq, received, op: input.bytes(len)? })
}

fn finish(input: &mut Hashing<&mut dyn Read>) -> Result<(), ExportError> {
    let expected = *input.hasher.finalize().as_bytes();
    let found: [u8; 32] = input.array()?;
    if found != expected {
        return Err(ExportError::Damaged("its hash"));
    }
    match input.inner.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(ExportError::Damaged("more follows")),
    }
}

/// Hashes what passes.
struct Hashing<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl Write for Hashing<&mut dyn Write> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Hashing<&mut dyn Read> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    fn bytes(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.inner.read_exact(&mut bytes)?;
        self.hasher.update(&bytes);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use delta_topic_log::{GenerationSecret, LogStorage, TopicLogs};

    use super::*;

    const TOPIC: TopicId = TopicId([7; 32]);

    fn exported(path: &Path) -> Vec<u8> {
        let mut storage = Sql::writer(path, 0).unwrap();
        let facts =
            TopicFacts { counter: 4, read_key: Some([5; 32]), metadata: Some(vec![6; 7]), closed: None };
        storage.set_facts(&TOPIC, &facts).unwrap();
        let mut logs = TopicLogs::new(storage, GenerationSecret::from_bytes([1; 32]));
        for n in 1..=4u8 {
            let signed = delta_topic_log::Write::Signed;
            logs.append(Millis(n.into()), &TOPIC, &[&[n; 3]], signed, &mut Vec::new()).unwrap();
        }
        logs.evict(&TOPIC, Seq(1)).unwrap();
        logs.commit().unwrap();
        let mut file = Vec::new();
        assert_eq!(write(logs.storage(), &TOPIC, &mut file).unwrap(), 3);
        file
    }

    fn reads(mut file: &[u8]) -> Result<(Header, Vec<Exported>), ExportError> {
        let mut ops = Vec::new();
        let header = read(&mut file, |_, op| {
            ops.push(op);
            Ok::<(), ExportError>(())
        })?;
        Ok((header, ops))
    }

    #[test]
    fn what_was_written_is_read_and_any_change_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = exported(&dir.path().join("db"));
        let (header, ops) = reads(&file).unwrap();
        assert_eq!((header.topic, header.signed, header.count), (TOPIC, true, 3));
        assert_eq!((header.facts.counter, header.facts.read_key), (4, Some([5; 32])));
        let last = Exported { seq: Seq(4), received: Millis(4), op: vec![4; 3] };
        assert_eq!((ops.len(), ops.last()), (3, Some(&last)));
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 1;
            assert!(reads(&bad).is_err(), "byte {at}");
            assert!(reads(&file[..at]).is_err(), "cut at {at}");
        }
        assert!(reads(&[&file[..], b"x"].concat()).is_err());
    }
}
