//! What was said in direct threads before a device of the person was paired: it cannot open the envelopes, and is handed
//! the operations in its inbox by the device that paired it (docs/wire.md, section 15).
//!
//! They travel sealed to the new device's key and not where all of the person's devices read: an old copy of one of
//! these opens nothing that was said later.

use super::event::Event;
use super::ingest::{self, Context, Ingested};
use super::io::{Output, Reply};
use super::refusal::CommandError;
use super::state::State;
use super::upkeep::{KEY_CHECK_MS, store_only};
use crate::codec::Reader;
use crate::entropy::Entropy;
use crate::identity::{Author, LogId, Millis, OperationId};
use crate::limits::{MAX_DEVICES, MAX_HANDED_PAST, MAX_PAST, MAX_PAST_BYTES};
use crate::ops::{Content, OwnDevices, OwnPast, SignedBytes, VerifiedOperation};
use crate::projector::Erased;
use crate::store::{PastOperation, StoreError, ThreadRow, Tx};
use crate::topic::{Generation, Seq, TopicId};
use crate::tree::Arrange;

/// How long a new device is handed what others sealed before they had heard of it, milliseconds: 7 days.
pub const HAND_PAST_MS: u64 = 7 * 24 * 3_600_000;
/// Most bytes of operations in one `own.past`, unless a single one is larger.
const CHUNK_BYTES: usize = 256 * 1024;
/// Under which name it is kept who is handed what was said.
const HANDING: &str = "hand-past";

/// A device that is handed what was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Handing {
    device: Author,
    /// When next.
    next: Millis,
    /// Until when.
    until: Millis,
    /// The last entry that was looked at.
    entry: u64,
}

/// What a device of the person has handed to this one.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) id: OperationId,
    pub(super) past: OwnPast,
    /// Its author, log and number: nothing of it is kept twice.
    pub(super) at: (Author, LogId, u32),
}

fn handings(tx: &Tx<'_>) -> Result<Vec<Handing>, StoreError> {
    let bytes = tx.setting(HANDING)?.unwrap_or_default();
    let mut reader = Reader::new(&bytes);
    let mut found = Vec::new();
    while let (Ok(device), Ok(next), Ok(until), Ok(entry)) =
        (reader.array("device"), reader.u64("next"), reader.u64("until"), reader.u64("entry"))
    {
        found.push(Handing { device: Author(device), next: Millis(next), until: Millis(until), entry });
    }
    Ok(found)
}

/// The newest of what was said in a thread after an entry, as far as it may be handed over, the oldest first; and the last
/// entry of all.
fn newest_said(
    tx: &Tx<'_>,
    log: &LogId,
    after: u64,
    left: &mut usize,
) -> Result<(Vec<PastOperation>, u64), StoreError> {
    let mut said = Vec::new();
    for head in tx.log_heads(log)? {
        said.extend(tx.past_operations(&head.author, log, after, MAX_PAST)?);
    }
    let last = said.iter().map(|it| it.entry).fold(after, u64::max);
    said.arrange_by_key(|it| std::cmp::Reverse(it.place));
    said.truncate(MAX_PAST);
    let fits = said.iter().take_while(|it| {
        let rest = left.checked_sub(it.operation.header.len() + it.operation.body.len());
        *left = rest.unwrap_or(0);
        rest.is_some()
    });
    let fits = fits.count();
    said.truncate(fits);
    said.reverse();
    Ok((said, last))
}

fn keep(tx: &Tx<'_>, handings: &[Handing]) -> Result<(), StoreError> {
    let mut bytes = Vec::new();
    for Handing { device, next, until, entry } in handings {
        bytes.extend_from_slice(&device.0);
        for number in [next.0, until.0, *entry] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
    }
    tx.set_setting(HANDING, &bytes)
}

impl State {
    /// A device of the person that this one has paired is handed what was said in direct threads, as soon as it says where
    /// it is written to.
    pub(super) fn hand_past(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        device: Author,
    ) -> Result<Reply, CommandError> {
        let mut handings = handings(tx)?;
        handings.retain(|it| it.device != device && now < it.until);
        if handings.len() >= MAX_DEVICES {
            handings.remove(0);
        }
        handings.push(Handing { device, next: Millis(0), until: now.plus(HAND_PAST_MS), entry: 0 });
        keep(tx, &handings)?;
        if let Some(own) = self.own {
            self.keeping.hurry(own, now);
        }
        Ok(Reply::Done)
    }

    /// Hands what is due. Gives when to look again.
    pub(super) fn keep_past_handed(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
    ) -> Result<Option<Millis>, StoreError> {
        let before = handings(tx)?;
        let sisters = match before.is_empty() {
            true => return Ok(None),
            false => tx.sisters(&self.identity(), &self.author())?,
        };
        let mut after = Vec::new();
        for mut handing in before.iter().copied() {
            let reachable = sisters.contains(&handing.device) && tx.peer_inbox(&handing.device)?.is_some();
            // A clock that went back makes it wait no longer.
            if reachable && (handing.next <= now || handing.next > now.plus(KEY_CHECK_MS)) {
                handing.entry = self.hand_all_past(tx, now, entropy, &handing)?;
                handing.next = now.plus(KEY_CHECK_MS);
            }
            if now < handing.until && handing.until <= now.plus(HAND_PAST_MS) {
                after.push(handing);
            }
        }
        if after != before {
            keep(tx, &after)?;
        }
        Ok(after.iter().map(|it| it.next.max(now.plus(1))).filter(|_| !sisters.is_empty()).min())
    }

    /// Gives the last entry that was looked at.
    fn hand_all_past(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        handing: &Handing,
    ) -> Result<u64, StoreError> {
        let (mut left, mut entry) = (MAX_PAST_BYTES, handing.entry);
        // The newest threads first.
        for row in tx.direct_threads()?.into_iter().rev() {
            let Some((log, topic)) = row.log.zip(row.topic) else { continue };
            let (said, last) = newest_said(tx, &log, handing.entry, &mut left)?;
            entry = entry.max(last);
            self.hand_thread(tx, now, entropy, handing.device, (&row, topic), said)?;
        }
        Ok(entry)
    }

    fn hand_thread(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        to: Author,
        (row, topic): (&ThreadRow, TopicId),
        said: Vec<PastOperation>,
    ) -> Result<(), StoreError> {
        let cursor = self.topics.get(&topic).and_then(|topic| topic.cursor);
        let generation = cursor.map_or(Generation([0; 16]), |cursor| cursor.generation);
        let Some(thread) = Self::own_thread(tx, row)? else { return Ok(()) };
        let mut said = said.into_iter().peekable();
        while said.peek().is_some() {
            let (mut chunk, mut bytes) = (Vec::new(), 0);
            while let Some(next) = said.next_if(|next| {
                let len = next.operation.header.len() + next.operation.body.len();
                chunk.is_empty() || (chunk.len() < MAX_HANDED_PAST && bytes + len <= CHUNK_BYTES)
            }) {
                bytes += next.operation.header.len() + next.operation.body.len();
                chunk.push((next.place.seq, next.operation));
            }
            let past = OwnPast { thread: thread.clone(), generation, said: chunk };
            let content = Content::OwnDevices(Box::new(OwnDevices::Past(Box::new(past))));
            let sent = store_only(self.send_to_inbox(tx, now, entropy, to, content))?;
            // It is on its way sealed, and stands here already.
            if let Some(sent) = sent.map(|id| tx.operation(&id)).transpose()?.flatten() {
                tx.erase_body(&sent.author, &sent.log, sent.seq_num, Erased::Other)?;
            }
        }
        Ok(())
    }

    /// Takes what another device of the person hands over.
    pub(super) fn take_handed_past(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        handed: &Handed,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Handed { id, past, at: (author, log, seq_num) } = handed;
        if self.lacks_room(tx, now, &past.thread)? {
            return self.hold(tx, id);
        }
        tx.erase_body(author, log, *seq_num, Erased::Other)?;
        self.meet_thread(tx, now, None, &past.thread, staged)?;
        let Some(row) = tx.direct_thread(&past.thread.thread)? else { return Ok(()) };
        let Some((log, id)) = row.log.zip(row.topic) else { return Ok(()) };
        let Some(topic) = self.topics.get(&id) else { return Ok(()) };
        let cursor = topic.cursor;
        let mut changes = Vec::new();
        for (seq, signed) in &past.said {
            let Some(operation) = self.of_thread(tx, &row, log, signed)? else {
                tx.count_dropped(id, "direct-past")?;
                continue;
            };
            // In another copy of the log it stands elsewhere: before what is new.
            let (generation, resets, seq) = match cursor {
                Some(cursor) if cursor.generation != past.generation => {
                    (cursor.generation, cursor.resets, (*seq).min(cursor.seq.max(Seq(1))))
                }
                Some(cursor) => (cursor.generation, cursor.resets, *seq),
                None => (past.generation, 0, *seq),
            };
            let received = operation.body().sent_at.map_or(now, |sent| sent.min(now));
            let context = Context { topic: id, log, epoch: 0, generation, resets, seq, received, now };
            if let Ingested::Stored { changes: new } = ingest::ingest_again(tx, &context, &operation)? {
                Self::learn(tx, &operation, now, &mut self.own_news)?;
                changes.extend(new);
            }
        }
        changes.extend(tx.settle_positions()?);
        if !changes.is_empty() {
            staged.push(Output::Event(Event::Changed { topic: id, changes }));
        }
        Ok(())
    }

    /// An operation of the thread's log by a device of the two people, revoked or not.
    fn of_thread(
        &self,
        tx: &Tx<'_>,
        row: &ThreadRow,
        log: LogId,
        signed: &SignedBytes,
    ) -> Result<Option<VerifiedOperation>, StoreError> {
        let Ok(operation) = signed.verify() else { return Ok(None) };
        let whose = match operation.certificate() {
            Some(certificate) => certificate.identity,
            None => tx.identity_of(&operation.author())?,
        };
        let people = [self.identity(), tx.identity_of(&row.peer)?];
        let is_theirs = people.contains(&whose) || operation.author() == row.peer;
        Ok((operation.log() == log && is_theirs).then_some(operation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ingest::tests_support::{Device, LOG, Writer};

    #[test]
    fn so_much_of_a_thread_is_handed_over_the_newest() {
        let (mut device, mut writer) = (Device::new(), Writer::new(1));
        let all: Vec<_> = (0..=MAX_PAST).map(|_| writer.say("hello")).collect();
        device.receive_all((1..).zip(&all));
        device.write(|tx| {
            let counted = |after: u64, left: &mut usize| {
                let (said, last) = newest_said(tx, &LOG, after, left).unwrap();
                (said.len(), said.first().map(|it| it.place.seq), last)
            };
            let (mut left, end) = (MAX_PAST_BYTES, all.len() as u64);
            let first = Some(Seq(2));
            assert_eq!(counted(1, &mut left), (MAX_PAST, first, end), "at the limit");
            let len = |op: &VerifiedOperation| op.header().len() + op.body_bytes().len();
            assert_eq!(left, MAX_PAST_BYTES - all[1..].iter().map(len).sum::<usize>());
            assert_eq!(counted(0, &mut left), (MAX_PAST, first, end), "past it");
            // Of all threads together so many bytes.
            let ten: usize = all.iter().rev().take(10).map(len).sum();
            let mut left = ten;
            assert_eq!((counted(0, &mut left), left), ((10, Some(Seq(end - 9)), end), 0));
            let mut left = ten - 1;
            assert_eq!((counted(0, &mut left), left), ((9, Some(Seq(end - 8)), end), 0), "nothing older");
        });
    }
}
