//! Topics that close: the first rotation that counts, by its place, ends a topic, and its log goes on in the next.
//!
//! The app notices nothing: it goes on naming the conversation by the topic it opened, and events name that one. What
//! was not acknowledged before the close keeps its signed operation and gets one new envelope. What stands in the
//! closed topic after that place is ignored, whoever wrote it, unless the rotation itself names it as part of a log.
//!
//! Whether a rotation counts is asked in one place, [`judge`].

mod closed;
mod judge;

use super::event::Event;
use super::ingest::{self, Context};
use super::io::{Output, Reply};
use super::own::OwnNews;
use super::receive::News;
use super::refusal::CommandError;
use super::state::{State, Topic};
use crate::crypto::{
    DeviceSecrets, IncomingRotation, MAX_BUNDLE_LIFETIME_MS, OpenError, PreparedRotation, TwoParty,
    open_rotation,
};
use crate::identity::{Author, EnvelopeHash, Millis, OperationId};
use crate::ops::{Content, Rotation, Ticket, VerifiedOperation, is_renewal};
use crate::store::{NewOutboxRow, Origin, Receipt, StoreError, StoredRotation, TopicClose, Tx};
use crate::sync::outbox::Requeued;
use crate::topic::TopicId;
use crate::tree::Set;

pub(super) use closed::{Closed, Read, read};
pub use judge::{WORD_WAIT_MAX_MS, WORD_WAIT_MS};

/// On one day of so many, counted from the Unix epoch in UTC, a topic that ended is read again; each has its own.
const ENDED_DAYS: u64 = 7;
const DAY_MS: u64 = 86_400_000;
/// Why the rows of a closed topic are parked, as the store keeps it.
const PARKED_CLOSED: &str = "topic-closed";
/// Under which name what comes after a close is counted.
const AFTER_CLOSE: &str = "topic-closed";
/// Rows moved to the next topic in one look.
const MOVED_ROWS: usize = 256;

impl State {
    /// The topic in which the conversation of `id` lives now, as far as this device has the keys.
    pub(super) fn current(&self, id: TopicId) -> TopicId {
        let log = self.topics.get(&id).map(|topic| topic.keys.log());
        log.and_then(|log| self.newest(&log)).unwrap_or_else(|| self.at_hand(id))
    }

    /// The topic by which the app knows the conversation of `id`.
    pub(super) fn known_as(&self, id: TopicId) -> TopicId {
        let id = self.at_hand(id);
        self.topics.get(&id).map_or(id, |topic| topic.known_as)
    }

    /// At start: which topics are closed, and in which rotations stand.
    pub(super) fn load_closes(&mut self, store: &crate::store::Store, now: Millis) -> Result<(), StoreError> {
        self.undecided.clear();
        for at in store.topic_closes()? {
            if !self.topics.contains_key(&at.topic) {
                continue;
            }
            let found = store.rotations(at.topic)?.into_iter().find(|it| it.operation == at.operation);
            let closed = match found {
                Some(found) => Some(Closed::new(at, found.rotator, read(&found.body))),
                None => store.located(&at.operation)?.map(|(by, ..)| Closed::by_renewal(at, by)),
            };
            if let Some(topic) = self.topics.get_mut(&at.topic) {
                topic.closed = closed;
            }
        }
        for id in store.contested_topics()? {
            let Some(topic) = self.topics.get_mut(&id).filter(|topic| topic.closed.is_none()) else {
                continue;
            };
            topic.contested = true;
            self.undecided.insert((now, id));
            self.waiting.extend(store.space_of(&topic.keys.log())?.map(|belongs| belongs.space));
        }
        for id in store.unplaced_rotations()? {
            if let Some(topic) = self.topics.get_mut(&id) {
                topic.rotates = true;
            }
        }
        Ok(())
    }

    /// Keeps what an operation says about devices: certificates and key bundles.
    pub(super) fn learn(
        tx: &Tx<'_>,
        operation: &VerifiedOperation,
        now: Millis,
        news: &mut OwnNews,
    ) -> Result<(), StoreError> {
        if let Some(certificate) = operation.certificate()
            && tx.put_certificate(certificate)?
        {
            news.introduced.insert(certificate.identity);
        }
        if let Content::DeviceBundle(bundle) = &operation.body().content {
            tx.put_device_bundle(operation, bundle.expires, now)?;
            if let Some(seed) = bundle.inbox.filter(|_| bundle.expires.since(now) <= MAX_BUNDLE_LIFETIME_MS) {
                tx.put_peer_inbox(&operation.author(), &seed, bundle.expires)?;
            }
        }
        Ok(())
    }

    /// Names the devices that may close the topics of a conversation, and judges anew what stands there.
    pub(super) fn set_rotators(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        id: TopicId,
        devices: &[Author],
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let id = self.current(id);
        let topic = self.topics.get(&id).ok_or(CommandError::UnknownTopic)?;
        tx.set_rotators(&topic.keys.log(), devices)?;
        let mut news = News::default();
        self.judge_rotations(tx, now, id, &mut news)?;
        news.tell(tx, id, staged)?;
        Ok(Reply::Done)
    }

    /// Keeps fresh X25519 secrets and publishes their bundle.
    pub(super) fn publish_bundle(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        id: TopicId,
        secrets: &DeviceSecrets,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let bundle = self.own_bundle(tx, secrets)?;
        let log = self.topics.get(&id).ok_or(CommandError::UnknownTopic)?.keys.log();
        // Before anybody hears of them: they may have been made from others than those at hand.
        self.keep_secrets(tx, now, secrets)?;
        let reply = self.publish(tx, now, id, Content::DeviceBundle(bundle), staged)?;
        tx.put_bundle_log(&log, secrets.expires())?;
        self.upkeep.bundles = true;
        Ok(reply)
    }

    /// Publishes a rotation that was prepared from the state at hand. It counts once it stands in the topic, before
    /// any other.
    pub(super) fn rotate(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        id: TopicId,
        prepared: PreparedRotation,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let id = self.current(id);
        let PreparedRotation { rotation, ticket, left_out: _ } = prepared;
        let topic = self.topics.get(&id).ok_or(CommandError::UnknownTopic)?;
        let (log, epoch) = (topic.keys.log(), topic.keys.epoch());
        let belongs = tx.belongs(&log)?;
        if ticket.log() != log
            || ticket.epoch() != rotation.epoch
            || (belongs.is_some_and(|it| it.room) && is_renewal(rotation.epoch))
            || epoch.checked_add(1) != Some(rotation.epoch)
        {
            return Err(CommandError::StaleRotation);
        }
        let author = self.device.author();
        let heads = match belongs {
            Some(belongs) => tx.look_at_space(belongs.space, |graph| graph.cite(author))?,
            None => Vec::new(),
        };
        if !Self::may_rotate(tx, topic, &author, &heads)? {
            return Err(CommandError::NotRotator);
        }
        let reply = self.publish(tx, now, id, Content::RoomRotate(Box::new(rotation)), staged)?;
        let Reply::Published(operation) = &reply else { return Ok(reply) };
        if let Some((header, body)) = tx.operation_bytes(operation)?
            && let Ok(operation) = VerifiedOperation::from_store(&header, &body)
        {
            tx.put_own_rotation(id, &operation, &ticket)?;
        }
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.rotates = true;
        }
        Ok(reply)
    }

    /// Whether what is to be sent in a topic has nowhere to go: it closed, and where the log goes on this device has no
    /// key, or may not write.
    pub(super) fn is_stuck(&self, id: TopicId) -> bool {
        let is_closed = self.topics.get(&id).is_some_and(|topic| topic.closed.is_some());
        let next = self.topics.get(&self.current(id)).filter(|next| next.closed.is_none());
        is_closed && next.is_none_or(|next| next.keys.write_key().is_none())
    }

    /// Whether the log goes on in another topic that is open here: what the app hears is that one's news.
    pub(super) fn has_moved(&self, id: TopicId) -> bool {
        self.current(id) != id
    }

    /// Whether what stands at this place is ignored because the topic closed before it.
    pub(super) fn comes_after_close(
        &self,
        tx: &Tx<'_>,
        context: &Context,
        operation: &VerifiedOperation,
    ) -> Result<bool, StoreError> {
        let Some(topic) = self.topics.get(&context.topic) else { return Ok(false) };
        let closed = topic.closed.as_ref().filter(|closed| closed.precedes(context));
        let Some(closed) = closed else { return Ok(false) };
        if closed.covers(&operation.author(), operation.seq_num(), &operation.id()) {
            return Ok(false);
        }
        // Placed before, and read again from a later copy of the log. What was carried into a later epoch lives there,
        // whichever of the two was read first.
        let epoch = topic.keys.epoch();
        let stored = tx.place_of(&operation.id())?;
        Ok(!stored.is_some_and(|it| it.place.is_placed() && it.first.epoch <= epoch))
    }

    /// Whether all of a topic was read up to its close, and the log goes on in another one that is open here: nothing
    /// more is to be read there. One day in [`ENDED_DAYS`] it is, once, should the server have lost it.
    pub(super) fn has_ended(&self, id: TopicId, now: Millis) -> bool {
        let its_day = u64::from(id.0[0]) % ENDED_DAYS == (now.0 / DAY_MS) % ENDED_DAYS;
        let was_live = self.topics.get(&id).is_some_and(|topic| topic.was_live);
        self.is_read_out(id) && (was_live || !its_day)
    }

    /// Whether all of a topic was read up to its close, and the log goes on in another one that is open here.
    pub(super) fn is_read_out(&self, id: TopicId) -> bool {
        let Some(topic) = self.topics.get(&id) else { return false };
        let is_read = |closed: &Closed| topic.cursor.is_some_and(|cursor| closed.is_before(&cursor));
        topic.closed.as_ref().is_some_and(is_read) && self.has_moved(id) && topic.refetch.is_idle()
    }

    /// Whether the topic closed before this place.
    pub(super) fn is_closed_before(&self, context: &Context) -> bool {
        let closed = self.topics.get(&context.topic).and_then(|topic| topic.closed.as_ref());
        closed.is_some_and(|closed| closed.precedes(context))
    }

    /// Counts what came after the close.
    pub(super) fn ignore_after_close(tx: &Tx<'_>, id: TopicId) -> Result<(), StoreError> {
        tx.count_dropped(id, AFTER_CLOSE)
    }

    /// A rotation stands at a place of its topic: notes it, and looks whether it closes the topic.
    pub(super) fn take_rotation(
        &mut self,
        tx: &Tx<'_>,
        receipt: &Receipt,
        operation: &VerifiedOperation,
        news: &mut News,
        now: Millis,
    ) -> Result<(), StoreError> {
        let Content::RoomRotate(rotation) = &operation.body().content else { return Ok(()) };
        // One that was carried over closes nothing here. Where it stood before it may, also when that is read later.
        let epoch = self.topics.get(&receipt.topic).map(|topic| topic.keys.epoch());
        if epoch.and_then(|epoch| epoch.checked_add(1)) != Some(rotation.epoch) {
            return Ok(());
        }
        tx.place_rotation(receipt, &operation.id(), &operation.author(), operation.body_bytes())?;
        if let Some(topic) = self.topics.get_mut(&receipt.topic) {
            topic.contested = true;
        }
        self.judge_rotations(tx, now, receipt.topic, news)
    }

    /// An own operation was placed: if it is a rotation, as [`Self::take_rotation`].
    pub(super) fn own_was_placed(
        &mut self,
        tx: &Tx<'_>,
        receipt: &Receipt,
        operation: &OperationId,
        news: &mut News,
        now: Millis,
    ) -> Result<(), StoreError> {
        let Some(topic) = self.topics.get(&receipt.topic) else { return Ok(()) };
        // A rotation may have waited for this place.
        if self.waiting.contains(&topic.keys.log()) {
            tx.note_space_news(topic.keys.log());
        }
        if !topic.rotates {
            return Ok(());
        }
        let Some((header, body)) = tx.operation_bytes(operation)? else { return Ok(()) };
        let Ok(operation) = VerifiedOperation::from_store(&header, &body) else { return Ok(()) };
        self.take_rotation(tx, receipt, &operation, news, now)
    }

    fn close_topic(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        found: &StoredRotation,
        read: Read,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let rotation = read.rotation.clone();
        let StoredRotation { operation, rotator, generation, resets, seq, .. } = *found;
        let (successor, epoch) = (rotation.topic, rotation.epoch);
        let at = TopicClose { topic: id, operation, generation, resets, seq, successor, epoch };
        tx.put_topic_close(&at)?;
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        let log = topic.keys.log();
        let closed = Closed::new(at, rotator, Some(read));
        Self::note_handed(tx, &log, &closed, &rotation)?;
        // Judged late: what stands after it was taken in, and goes.
        let covers = |author: &Author, seq_num, id: &OperationId| closed.covers(author, seq_num, id);
        let (changes, own) = ingest::close(tx, &at, &log, &self.device.author(), covers)?;
        news.changes.extend(changes);
        topic.closed = Some(closed);
        topic.rotates = false;
        // A delete that counts no longer: what it erased is to be read again.
        if !tx.refetches(id)?.is_empty() {
            topic.refetch.wish(now);
        }
        self.keeping.forget_turns(id);
        news.events.push(Event::Closed { topic: id, rotator, successor });
        let lost = tx.remove_lost_rotations(id, &operation)?;
        self.note_beaten(tx, log, rotator, (epoch.saturating_sub(1), !lost.is_empty()))?;
        news.events.extend(lost.into_iter().map(|operation| Event::RotationLost { topic: id, operation }));
        for operation in own {
            self.send_again(tx, now, id, &operation)?;
        }
        if let Some(belongs) = tx.belongs(&log)? {
            self.keeping.hurry(belongs.space, now);
        } else if self.own == Some(log) {
            self.keeping.hurry(log, now);
        }
        // The conversation is known here to go on, by whatever way that came.
        if let Some(next) = self.newest(&log).filter(|next| *next != id) {
            return self.moved(tx, now, id, next, news);
        }
        let ticket = match tx.rotation_ticket(&operation)? {
            // The key can come again by another way.
            _ if self.is_full(tx, now)? => {
                let why = OpenError::TooManyTopics;
                news.events.push(Event::AwaitingKey { topic: id, successor, why });
                None
            }
            Some(ticket) => Some(ticket),
            None => self.open_part(tx, now, id, rotator, &rotation, news)?,
        };
        match ticket {
            Some(ticket) => self.move_on(tx, now, id, &ticket, news),
            None => tx.outbox_park_topic(id, PARKED_CLOSED),
        }
    }

    /// Takes what a rotation hands to this device. `None`: nothing that opens; the key may come by another way.
    fn open_part(
        &self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        rotator: Author,
        rotation: &Rotation,
        news: &mut News,
    ) -> Result<Option<Ticket>, StoreError> {
        match self.look_into_part(tx, now, id, rotator, rotation)? {
            Ok(ticket) => Ok(Some(ticket)),
            Err(why) => {
                news.events.push(Event::AwaitingKey { topic: id, successor: rotation.topic, why });
                Ok(None)
            }
        }
    }

    /// What a rotation hands to this device.
    fn look_into_part(
        &self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        rotator: Author,
        rotation: &Rotation,
    ) -> Result<Result<Ticket, OpenError>, StoreError> {
        let Some(topic) = self.topics.get(&id) else { return Ok(Err(OpenError::NoPart)) };
        let device = self.device.author();
        let (log, epoch) = (topic.keys.log(), topic.keys.epoch());
        let incoming = IncomingRotation { rotation, rotator, log, epoch, now };
        // The very topic may be open here by another way; any other place has it from before.
        let is_old = |topic: &TopicId| {
            let keys = self.topics.get(topic).map(|known| &known.keys);
            keys.is_some_and(|keys| (keys.log(), keys.epoch()) != (incoming.log, rotation.epoch))
        };
        Ok(match (tx.device_secrets()?, rotation.part(&device)) {
            (Some(secrets), Some(_)) => open_rotation(&TwoParty, &secrets, incoming, &device, is_old),
            (None, Some(_)) => Err(OpenError::UnknownPrekey),
            (_, None) => Err(OpenError::NoPart),
        })
    }

    /// A ticket of the topic that a closed one moved to, by whatever way it came. Whether it is one.
    pub(super) fn take_key(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        ticket: &Ticket,
        staged: &mut Vec<Output>,
    ) -> Result<bool, CommandError> {
        let from = self.by_log.topics(&ticket.log()).into_iter().find(|id| {
            let closed = self.topics.get(id).and_then(|topic| topic.closed.as_ref());
            closed.is_some_and(|closed| {
                closed.at.successor == ticket.topic() && closed.at.epoch == ticket.epoch()
            })
        });
        let Some(from) = from else { return Ok(false) };
        if !self.topics.contains_key(&ticket.topic()) && self.is_full(tx, now)? {
            return Err(CommandError::TooManyTopics);
        }
        let mut news = News::default();
        self.move_on(tx, now, from, ticket, &mut news)?;
        news.tell(tx, from, staged)?;
        Ok(true)
    }

    /// The log goes on in the next topic: opened, followed as this one was, with what was not acknowledged here.
    fn move_on(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        from: TopicId,
        ticket: &Ticket,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let to = ticket.topic();
        let Some(old) = self.topics.get(&from) else { return Ok(()) };
        let topic = Topic::beside(old, ticket.keys(), now);
        if let Some(known) = self.topics.get(&to) {
            let (log, epoch) = (known.keys.log(), known.keys.epoch());
            let is_it = (log, epoch) == (ticket.log(), ticket.epoch());
            if is_it && self.by_log.at(&log, epoch) != Some(to) {
                self.return_to(tx, log, epoch, to)?;
            }
        } else {
            tx.put_topic(ticket, now)?;
            self.insert_topic(to, topic);
        }
        self.moved(tx, now, from, to, news)
    }

    /// What was not acknowledged in one topic of a conversation goes to another.
    pub(super) fn moved(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        from: TopicId,
        to: TopicId,
        news: &mut News,
    ) -> Result<(), StoreError> {
        // Also what waited in earlier ones, because this device might not write in those between.
        let Some(log) = self.topics.get(&to).map(|topic| topic.keys.log()) else { return Ok(()) };
        for earlier in self.by_log.topics(&log).into_iter().filter(|earlier| *earlier != to) {
            self.move_rows(tx, now, earlier, to)?;
            self.touched.insert(earlier);
        }
        self.slots.touch(to);
        self.touched.extend([from, to]);
        news.events.push(Event::Moved { topic: from, successor: to });
        Ok(())
    }

    /// Every own row of a closed topic gets one new envelope in the next.
    pub(super) fn move_rows(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        from: TopicId,
        to: TopicId,
    ) -> Result<(), StoreError> {
        let Some(keys) = self.topics.get(&to).map(|topic| topic.keys.clone()) else { return Ok(()) };
        // A reader's rows wait where they are, should it ever be allowed to write.
        if keys.write_key().is_none() {
            self.upkeep.leaves.insert(keys.log());
            self.upkeep.claims = true;
            return tx.outbox_park_topic(from, PARKED_CLOSED);
        }
        let (mut after, mut seen) = (None, Set::new());
        loop {
            let rows = tx.outbox_rows(from, after, MOVED_ROWS)?;
            let Some(last) = rows.last() else { break };
            after = Some(last.id);
            for row in rows.iter().filter(|row| row.own && seen.insert(row.operation)) {
                let Some((header, body)) = tx.operation_bytes(&row.operation)? else { continue };
                let Ok(envelope) = keys.seal(&header, &body) else { continue };
                tx.outbox_remove(row.id)?;
                if let Some(topic) = self.topics.get_mut(&from) {
                    topic.outbox.forget(&row.hash);
                }
                self.outbox_rows = self.outbox_rows.saturating_sub(1);
                self.outbox_bytes = self.outbox_bytes.saturating_sub(u64::from(row.len));
                self.queue(tx, now, to, row.operation, &envelope, !row.never_sent())?;
            }
        }
        tx.outbox_unpark_topic(from).map(drop)
    }

    /// An own operation that was acknowledged after the close was not: it waits to be sent again.
    pub(super) fn send_again(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        operation: &VerifiedOperation,
    ) -> Result<(), StoreError> {
        let Some(topic) = self.topics.get(&id) else { return Ok(()) };
        let Ok(envelope) = topic.keys.seal(operation.header(), operation.body_bytes()) else { return Ok(()) };
        // With a full outbox its log stands still, visibly: it stays without a place.
        let known = topic.outbox.find(&EnvelopeHash::of(&envelope)).is_some();
        if known || !self.outbox_has_room(envelope.len()) {
            return Ok(());
        }
        self.queue(tx, now, id, operation.id(), &envelope, true)
    }

    /// `has_left`: a packet held the operation, in an envelope of an earlier topic. It is never taken back then: the
    /// next one would fork the log.
    fn queue(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        topic: TopicId,
        operation: OperationId,
        envelope: &[u8],
        has_left: bool,
    ) -> Result<(), StoreError> {
        let (hash, origin) = (EnvelopeHash::of(envelope), Origin::Own);
        let row =
            tx.outbox_push(&NewOutboxRow { topic, operation, hash, envelope, origin, not_before: now })?;
        if has_left {
            tx.outbox_requeue(&[Requeued { id: row, tries: 1, not_before: now }])?;
        }
        self.add_outbox_row(topic, row, hash, envelope.len(), now);
        Ok(())
    }
}
