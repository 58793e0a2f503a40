//! Blobs: each is sent and fetched in a topic of its own, chunk by chunk, and that topic is let go when it is done
//! (docs/wire.md, section 12.4). What waits, goes on after a restart where it stood: all of it is in the store.

use super::event::Event;
use super::io::{Output, Reply};
use super::refusal::CommandError;
use super::spaces::random;
use super::state::State;
use super::upkeep::store_only;
use crate::crypto::seal_chunk;
use crate::entropy::Entropy;
use crate::identity::{LogId, Millis};
use crate::limits::{BLOB_CHUNK, BLOB_WINDOW, MAX_BLOB_CACHE, MAX_BLOB_TRANSFERS};
use crate::ops::{
    BlobId, Content, CreateError, EncodeError, Hidden, Manifest, Ticket, TicketBytes, VerifiedOperation,
    check_blob,
};
use crate::projector::{Aggregate, Change};
use crate::store::{BlobRow, Db, StoreError, Tx};
use crate::topic::TopicId;
use crate::tree::Map;

/// How long a blob is waited for at the live end of its topic without a further chunk, milliseconds.
pub const BLOB_WAIT_MS: u64 = 10 * 60_000;

/// The blobs that are on their way.
#[derive(Debug, Default)]
pub(super) struct Blobs {
    carriers: Map<TopicId, Transfer>,
    /// There may be one that is to begin.
    look: bool,
    /// When to look again, where there was no room for a topic.
    again: Option<Millis>,
    /// What was being made when the device stopped is removed.
    swept: bool,
    /// When the next one has been waited for long enough.
    waited: Option<Millis>,
    /// What blobs may take that nothing waits for, where the app says so, bytes.
    pub(super) cache: Option<u64>,
    /// What is to be done for topics that were let go, before others connect.
    untold: Vec<Output>,
}

#[derive(Clone, Copy, Debug)]
struct Transfer {
    entry: i64,
    /// Chunks that are over, as far as the app was told.
    have: u32,
    /// It is sent, and not fetched.
    sends: bool,
    /// How long nothing new came at the live end of its topic, over all connections before this one, milliseconds.
    waited_ms: u64,
    /// Since when nothing new comes at the live end; `None` while that is not at hand.
    live_since: Option<Millis>,
}

impl Transfer {
    const fn new(entry: i64, sends: bool) -> Self {
        Self { entry, have: 0, sends, waited_ms: 0, live_since: None }
    }

    /// Whether the topic's live end is at hand. While it is, gives when it has been waited for long enough.
    fn wait(&mut self, live: bool, now: Millis) -> Option<Millis> {
        if !live {
            let since = self.live_since.take();
            self.waited_ms = self.waited_ms.saturating_add(since.map_or(0, |since| now.since(since)));
            return None;
        }
        let since = *self.live_since.get_or_insert(now);
        Some(since.plus(BLOB_WAIT_MS.saturating_sub(self.waited_ms)))
    }

    /// Something new came.
    fn waits_anew(&mut self) {
        (self.waited_ms, self.live_since) = (0, None);
    }
}

impl Blobs {
    /// Whether a topic is there for a blob alone.
    pub(super) fn carry(&self, topic: &TopicId) -> bool {
        self.carriers.contains_key(topic)
    }

    /// Whether there is room for one more that is sent, or fetched: those that wait for what does not come do not hold up
    /// the other ones.
    fn has_room(&self, sends: bool) -> bool {
        self.carriers.values().filter(|transfer| transfer.sends == sends).count() < MAX_BLOB_TRANSFERS
    }

    pub(super) fn poll_timeout(&self) -> Option<Millis> {
        self.again.into_iter().chain(self.waited).min()
    }

    /// The app knows nothing of these topics.
    pub(super) fn hide(&self, staged: &mut Vec<Output>) {
        if !self.carriers.is_empty() {
            staged.retain(|out| !matches!(out, Output::Event(event) if self.carry(&event.topic())));
        }
    }
}

impl State {
    /// At start: what is on its way goes on.
    pub(super) fn load_blobs(&mut self, store: &Db) -> Result<(), StoreError> {
        let before = std::mem::take(&mut self.blobs.carriers);
        self.blobs.untold.clear();
        self.blobs.look = true;
        for (id, entry) in store.blob_carriers()? {
            let state = store.blob_at(entry)?.map(|row| row.state);
            if let Some(topic) = self.topics.get_mut(&id) {
                topic.subscribed = state == Some(BlobRow::FETCHING);
            }
            let known = before.get(&id).filter(|transfer| transfer.entry == entry);
            let waited_ms = known.map_or(0, |transfer| transfer.waited_ms);
            let transfer = Transfer::new(entry, state == Some(BlobRow::SENDING));
            self.blobs.carriers.insert(id, Transfer { waited_ms, ..transfer });
        }
        Ok(())
    }

    /// Begins to make a blob; what it is known by until it is whole.
    pub(super) fn make_blob(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        size: u64,
        mime: String,
        name: Option<String>,
    ) -> Result<Reply, CommandError> {
        self.sweep_unmade(tx)?;
        check_blob(size, &mime, name.as_deref())
            .map_err(|limit| CreateError::from(EncodeError::Limit(limit)))?;
        let (id, key) = (BlobId(*random(entropy)?), Hidden(*random(entropy)?));
        let chunks = vec![[0; 32]; usize::try_from(Manifest::chunks_of(size)).unwrap_or(0)];
        let ticket = TicketBytes([0; TicketBytes::LEN]);
        tx.put_blob(&Manifest { id, key, size, mime, name, ticket, chunks }, BlobRow::MADE, now)?;
        Ok(Reply::Blob(id))
    }

    /// Keeps the next chunk of a blob that is made.
    pub(super) fn put_chunk(
        tx: &Tx<'_>,
        blob: &BlobId,
        number: u32,
        bytes: &[u8],
    ) -> Result<Reply, CommandError> {
        let row = made(tx, blob)?;
        let manifest = tx.stored_manifest(row.entry)?;
        if number != row.next || Manifest::chunk_len(manifest.size, number) != Some(bytes.len()) {
            return Err(CommandError::BlobChunk);
        }
        let sealed = seal_chunk(&manifest.key, number, row.chunks, bytes).ok_or(CommandError::BlobChunk)?;
        tx.put_chunk(row.entry, number, &sealed)?;
        tx.set_blob(&BlobRow { next: number.saturating_add(1), ..row })?;
        Ok(Reply::Done)
    }

    /// All chunks of a blob are here: it has its id, and a topic of its own, and is sent.
    pub(super) fn finish_blob(
        &mut self,
        tx: &Tx<'_>,
        entropy: &mut dyn Entropy,
        blob: &BlobId,
    ) -> Result<Reply, CommandError> {
        let row = made(tx, blob)?;
        if row.next != row.chunks {
            return Err(CommandError::BlobChunk);
        }
        let mut manifest = tx.stored_manifest(row.entry)?;
        let mut whole = blake3::Hasher::new();
        for (number, hash) in (0..).zip(&mut manifest.chunks) {
            let bytes = tx.chunk(row.entry, number)?.ok_or(CommandError::BlobChunk)?;
            *hash = *blake3::hash(&bytes).as_bytes();
            whole.update(&bytes);
        }
        manifest.id = BlobId(*whole.finalize().as_bytes());
        manifest.ticket = Ticket::generate_private(entropy)?.bytes();
        tx.finish_blob(row.entry, &manifest)?;
        self.blobs.look = true;
        Ok(Reply::Blob(manifest.id))
    }

    /// Fetches a blob that a message names, if it is not here; it is the last to give way from now on.
    pub(super) fn fetch_blob(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        blob: &BlobId,
    ) -> Result<Reply, CommandError> {
        let row = match tx.blob(blob)? {
            Some(row) if row.state == BlobRow::MADE => return Err(CommandError::UnknownBlob),
            Some(row) => row,
            None => {
                let manifest = tx.blob_manifest(blob)?.ok_or(CommandError::UnknownBlob)?;
                let entry = tx.put_blob(&manifest, BlobRow::FETCHING, now)?;
                tx.blob_at(entry)?.ok_or(CommandError::UnknownBlob)?
            }
        };
        if row.state > BlobRow::HERE {
            let state = match Self::is_to_be_sent(tx, &row)? {
                true => BlobRow::SENDING,
                false => BlobRow::FETCHING,
            };
            tx.set_blob(&BlobRow { state, next: 0, ..row })?;
        }
        tx.use_blob(row.entry, now)?;
        self.blobs.look = true;
        Ok(Reply::Done)
    }

    /// Whether a blob that is not to be had is an own one, all of which is here: nobody but this device can send it.
    fn is_to_be_sent(tx: &Tx<'_>, row: &BlobRow) -> Result<bool, StoreError> {
        let ticket = Ticket::from_bytes(&tx.stored_manifest(row.entry)?.ticket.0);
        Ok(ticket.is_ok_and(|ticket| ticket.can_write()) && tx.blob_have(row.entry)? == row.chunks)
    }

    /// Removes a blob from this device, and what of it is on its way. Others keep what they have.
    pub(super) fn drop_blob(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        blob: &BlobId,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        if let Some(row) = tx.blob(blob)? {
            tx.remove_blob(row.entry)?;
            self.tell_blob(tx, blob, staged)?;
            if let Some(carrier) = row.carrier {
                self.drop_carrier(tx, now, carrier, staged)?;
            }
            self.blobs.look = true;
        }
        Ok(Reply::Done)
    }

    /// Takes what stands in a blob's topic. Only what the manifest names counts, whoever says it.
    pub(super) fn take_chunk(
        &self,
        tx: &Tx<'_>,
        id: TopicId,
        operation: &VerifiedOperation,
    ) -> Result<(), StoreError> {
        let Content::BlobChunk { index, bytes } = &operation.body().content else { return Ok(()) };
        let Some(transfer) = self.blobs.carriers.get(&id) else { return Ok(()) };
        let row = tx.blob_at(transfer.entry)?.filter(|row| row.state == BlobRow::FETCHING);
        let Some(row) = row.filter(|row| *index < row.chunks) else { return Ok(()) };
        match tx.stored_manifest(row.entry)?.has(*index, bytes) {
            true => tx.put_chunk(row.entry, *index, bytes),
            false => tx.count_dropped(id, "blob-chunk"),
        }
    }

    /// Looks after the blobs that are on their way, and begins with others where there is room.
    pub(super) fn tend_blobs(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.sweep_unmade(tx)?;
        staged.append(&mut self.blobs.untold);
        self.blobs.waited = None;
        self.blobs.look |= self.blobs.again.take_if(|at| *at <= now).is_some();
        let ids: Vec<TopicId> = self.blobs.carriers.keys().copied().collect();
        for id in ids {
            self.tend_carrier(tx, now, id, staged)?;
        }
        // What is done at once makes room for another one.
        while std::mem::take(&mut self.blobs.look) {
            for (sends, state) in [(true, BlobRow::SENDING), (false, BlobRow::FETCHING)] {
                while self.blobs.has_room(sends)
                    && let Some(row) = tx.next_transfer(state)?
                    && self.begin_transfer(tx, now, &row, staged)?
                {}
            }
            for gone in tx.evict_blobs(self.blobs.cache.unwrap_or(MAX_BLOB_CACHE), now)? {
                self.tell_blob(tx, &gone, staged)?;
            }
        }
        Ok(())
    }

    fn sweep_unmade(&mut self, tx: &Tx<'_>) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.blobs.swept, true) { Ok(()) } else { tx.remove_unmade_blobs() }
    }

    /// Opens the topic of a blob. `false`: there is no room for one now.
    fn begin_transfer(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        row: &BlobRow,
        staged: &mut Vec<Output>,
    ) -> Result<bool, StoreError> {
        let mut ticket = Ticket::from_bytes(&tx.stored_manifest(row.entry)?.ticket.0).ok();
        // Somebody else chose it: a topic that is anything else here would be gone with the blob.
        if let Some(named) = &ticket
            && !self.is_new(tx, named)?
        {
            ticket = None;
        }
        let Some(ticket) = ticket else {
            tx.set_blob(&BlobRow { state: BlobRow::CORRUPT, ..*row })?;
            self.tell_blob(tx, &row.id, staged)?;
            return Ok(true);
        };
        let id = ticket.topic();
        if store_only(self.open_topic(tx, now, ticket, staged))?.is_none() {
            self.blobs.again = Some(now.plus(BLOB_WAIT_MS));
            return Ok(false);
        }
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.subscribed = row.state == BlobRow::FETCHING;
        }
        self.slots.touch(id);
        tx.set_blob(&BlobRow { carrier: Some(id), ..*row })?;
        self.blobs.carriers.insert(id, Transfer::new(row.entry, row.state == BlobRow::SENDING));
        self.tend_carrier(tx, now, id, staged)?;
        Ok(true)
    }

    /// Whether nothing is known here of the conversation that a ticket opens.
    fn is_new(&self, tx: &Tx<'_>, ticket: &Ticket) -> Result<bool, StoreError> {
        let (id, log) = (ticket.topic(), ticket.log());
        Ok(!self.topics.contains_key(&id)
            && self.by_log.log_of_retired(&id).is_none()
            && tx.topics_of_log(log)?.is_empty()
            && tx.belongs(&log)?.is_none()
            && tx.log_heads(&log)?.is_empty())
    }

    fn tend_carrier(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        id: TopicId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(mut transfer) = self.blobs.carriers.get(&id).copied() else { return Ok(()) };
        let row = tx.blob_at(transfer.entry)?.filter(|row| row.carrier == Some(id));
        // What it belonged to is gone.
        let Some(row) = row else { return self.drop_carrier(tx, now, id, staged) };
        let (have, state) = match row.state {
            BlobRow::SENDING => self.send_chunks(tx, now, id, row, staged)?,
            _ => {
                let have = tx.blob_have(row.entry)?;
                if have != transfer.have {
                    transfer.waits_anew();
                }
                (have, self.fetched(tx, now, id, &row, have, &mut transfer)?)
            }
        };
        if state != row.state {
            tx.set_blob(&BlobRow { state, carrier: None, ..row })?;
            if state == BlobRow::HERE {
                // However long it took: it does not give way the moment it arrives.
                tx.use_blob(row.entry, now)?;
            }
            self.drop_carrier(tx, now, id, staged)?;
        } else {
            self.blobs.carriers.insert(id, Transfer { have, ..transfer });
        }
        if (have, state) == (transfer.have, row.state) { Ok(()) } else { self.tell_blob(tx, &row.id, staged) }
    }

    /// Publishes the next chunks as far as the window allows. Gives how many the server has, and the state.
    fn send_chunks(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        id: TopicId,
        row: BlobRow,
        staged: &mut Vec<Output>,
    ) -> Result<(u32, i64), StoreError> {
        let waiting = |state: &Self| {
            let (queued, sent) = state.topics.get(&id).map_or((0, 0), |topic| topic.outbox.counts());
            queued + sent
        };
        let mut next = row.next;
        while next < row.chunks && waiting(self) < BLOB_WINDOW && self.outbox_has_room(2 * BLOB_CHUNK) {
            let Some(bytes) = tx.chunk(row.entry, next)? else { break };
            let content = Content::BlobChunk { index: next, bytes };
            if store_only(self.publish(tx, now, id, content, staged))?.is_none() {
                break;
            }
            next += 1;
        }
        if next != row.next {
            tx.set_blob(&BlobRow { next, ..row })?;
        }
        let have = next.saturating_sub(u32::try_from(waiting(self)).unwrap_or(u32::MAX));
        // What cannot be read is never acknowledged.
        let unreadable = self.topics.get(&id).is_none_or(|topic| topic.unreadable.is_some());
        let state = if have == row.chunks { BlobRow::HERE } else { row.state };
        Ok((have, if unreadable { BlobRow::UNAVAILABLE } else { state }))
    }

    /// What state a blob is in of which so many chunks are here.
    fn fetched(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        row: &BlobRow,
        have: u32,
        transfer: &mut Transfer,
    ) -> Result<i64, StoreError> {
        if have == row.chunks {
            let mut whole = blake3::Hasher::new();
            for number in 0..row.chunks {
                whole.update(&tx.chunk(row.entry, number)?.unwrap_or_default());
            }
            if whole.finalize().as_bytes() == &row.id.0 {
                return Ok(BlobRow::HERE);
            }
            tx.erase_chunks(row.entry)?;
            return Ok(BlobRow::CORRUPT);
        }
        let Some(topic) = self.topics.get(&id) else { return Ok(BlobRow::UNAVAILABLE) };
        if topic.unreadable.is_some() {
            return Ok(BlobRow::UNAVAILABLE);
        }
        let Some(until) = transfer.wait(topic.is_live(), now) else { return Ok(row.state) };
        if until <= now || !tx.gaps(id)?.is_empty() {
            return Ok(BlobRow::UNAVAILABLE);
        }
        self.blobs.waited = self.blobs.waited.into_iter().chain([until]).min();
        Ok(row.state)
    }

    /// A conversation with this log is about to be opened, or to be looked for among those that are: what was taken for a
    /// blob's topic, because somebody's manifest said so, is let go of first.
    pub(super) fn yield_log(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        log: &LogId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let is_of = |id: &TopicId| self.topics.get(id).is_some_and(|topic| topic.keys.log() == *log);
        let carriers = self.blobs.carriers.iter().filter(|(id, _)| is_of(id));
        let carriers: Vec<(TopicId, i64)> = carriers.map(|(id, transfer)| (*id, transfer.entry)).collect();
        for (id, entry) in carriers {
            let row = tx.blob_at(entry)?.filter(|row| row.carrier == Some(id));
            self.drop_carrier(tx, now, id, staged)?;
            let Some(row) = row else { continue };
            let state = match row.state {
                // Its bytes are what they are.
                BlobRow::SENDING => BlobRow::UNAVAILABLE,
                _ => {
                    tx.erase_chunks(entry)?;
                    BlobRow::CORRUPT
                }
            };
            tx.set_blob(&BlobRow { state, carrier: None, ..row })?;
            self.tell_blob(tx, &row.id, staged)?;
        }
        Ok(())
    }

    /// The same, where nothing can be told until the batch is settled.
    pub(super) fn yield_log_quietly(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        log: &LogId,
    ) -> Result<(), StoreError> {
        let mut untold = std::mem::take(&mut self.blobs.untold);
        let done = self.yield_log(tx, now, log, &mut untold);
        self.blobs.untold = untold;
        done
    }

    /// A topic that was there for a blob is there no more.
    fn drop_carrier(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.blobs.look = true;
        self.blobs.hide(staged);
        self.blobs.carriers.remove(&id);
        let Some(keys) = self.topics.get(&id).map(|topic| &topic.keys) else { return Ok(()) };
        // Somebody else chose the log of what is fetched: whatever else is known of it stays.
        if keys.write_key().is_none() {
            tx.wipe_topic(id)?;
            return self.leave_topic(tx, now, id, staged);
        }
        for id in tx.wipe_wholly(&self.author(), keys.log())? {
            self.leave_topic(tx, now, id, staged)?;
        }
        Ok(())
    }

    /// Tells the app, wherever a blob was named.
    fn tell_blob(&self, tx: &Tx<'_>, blob: &BlobId, staged: &mut Vec<Output>) -> Result<(), StoreError> {
        for log in tx.logs_of_blob(blob)? {
            let Some(topic) = self.newest(&log) else { continue };
            let changes = vec![Change::new(log, Aggregate::Blob, vec![blob.0])];
            staged.push(Output::Event(Event::Changed { topic, changes }));
        }
        Ok(())
    }
}

/// The row of a blob that is being made.
fn made(tx: &Tx<'_>, blob: &BlobId) -> Result<BlobRow, CommandError> {
    tx.blob(blob)?.filter(|row| row.state == BlobRow::MADE).ok_or(CommandError::UnknownBlob)
}

#[cfg(test)]
mod tests;
