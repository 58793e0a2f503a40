//! What must hold, along the way and in the end.

use std::collections::BTreeSet;

use bytes::Bytes;
use delta_core::engine::{CommandError, Engine, Event as News};
use delta_core::identity::{Author, EnvelopeHash, LogId, OperationId};
use delta_core::ops::{self, DeviceKey};
use delta_core::store::{Durability, OutboxCounts, PendingCount, PendingLimits, Reader, Store, StoreError};
use delta_core::topic::{Seq, TopicId};

use crate::disk;
use crate::faults::Fault;
use crate::model::Fact;
use crate::rows::{self, Rows};
use crate::trace::short;
use crate::violation::{Violation, ensure};
use crate::world::World;

/// Rows read at once.
const PAGE: usize = 500;

impl World {
    /// An operation whose publish was answered is in the store: durable before visible.
    pub(crate) fn check_durable(
        &self,
        device: usize,
        topic: TopicId,
        operation: OperationId,
    ) -> Result<(), Violation> {
        let reader = self.reader(device)?;
        let found = reader.operation(&operation).map_err(|error| broken(device, &error))?;
        ensure!(found.is_some(), "device {device} reports {operation} in {topic}, which its store lacks");
        Ok(())
    }

    /// A refusal must have a reason that the app can see.
    pub(crate) fn check_refusal(&self, device: usize, error: &CommandError) -> Result<(), Violation> {
        let reads_only = self.devices[device].tickets.iter().any(|ticket| !ticket.can_write());
        let fine = match error {
            CommandError::ReadOnly => reads_only,
            CommandError::Store(error) => {
                self.devices[device].is_full() && matches!(**error, StoreError::DiskFull { .. })
            }
            CommandError::Entropy(_) => self.devices[device].lacked_entropy(),
            _ => false,
        };
        ensure!(fine, "device {device} refuses a command: {error}");
        Ok(())
    }

    /// Events say nothing that is not so.
    pub(crate) fn app_hears_event(&mut self, device: usize, news: &News) -> Result<(), Violation> {
        let now = self.now();
        match news {
            News::Acknowledged { topic, operation, seq } => {
                self.trace.line(
                    now,
                    format_args!("device {device}: {} is acknowledged at {seq}", short(operation)),
                );
                let author = self.model.topics.get(topic).and_then(|model| model.seen_outside.get(operation));
                ensure!(
                    self.town.is_some()
                        || author.is_some_and(|(author, _)| *author == self.devices[device].author()),
                    "device {device} takes {operation} for acknowledged, which never was in the log"
                );
            }
            News::Forked { author, .. } => {
                return Err(Violation::new(format!("device {device} sees a fork of {author}'s log")));
            }
            // A server put back to an older state has shown two histories; nothing else here does.
            News::ServerEquivocates { equivocation, .. } if !self.faults.struck(Fault::ServerRollback) => {
                return Err(Violation::new(format!("device {device} sees two histories: {equivocation:?}")));
            }
            News::FalseReset { old, new, .. } if !self.faults.struck(Fault::ServerRollback) => {
                return Err(Violation::new(format!("device {device} sees two logs: {old:?} and {new:?}")));
            }
            News::ServerWithholds { topic, seq } => {
                self.trace.line(now, format_args!("device {device}: {seq} of {} is kept back", short(topic)));
                let misbehaves = self.faults.strength(Fault::Withhold) > 0;
                self.faults.count(Fault::Withhold, u64::from(misbehaves));
            }
            News::Changed { topic, changes } => {
                self.trace.line(
                    now,
                    format_args!("device {device}: {} changes in {}", changes.len(), short(topic)),
                );
            }
            other => self.trace.line(now, format_args!("device {device}: {}", rows::say(other))),
        }
        Ok(())
    }

    /// The server committed an envelope: it must come from a device that has it in its store.
    pub(crate) fn committed(&mut self, topic: TopicId, envelope: &Bytes) -> Result<(), Violation> {
        let now = self.now();
        if let Some(town) = &mut self.town {
            town.topics.insert(topic);
            let hash = EnvelopeHash::of(envelope);
            self.trace.line(now, format_args!("the server commits {} in {}", short(&hash.0), short(&topic)));
            return Ok(());
        }
        let model = self.model.topics.get_mut(&topic);
        let model =
            model.ok_or_else(|| Violation::new(format!("the server has a topic nobody opened: {topic}")))?;
        let (author, id, seq_num) = open(&model.keys, envelope)?;
        model.seen_outside.insert(id, (author, EnvelopeHash::of(envelope)));
        self.trace.line(
            now,
            format_args!(
                "the server commits {} in {}: number {seq_num} of {}",
                short(&id),
                short(&topic),
                short(&author)
            ),
        );
        let Some(device) = self.model.authors.get(&author).copied() else {
            return Err(Violation::new(format!("operation {id} is by nobody")));
        };
        if self.devices[device].engine.is_some() {
            let reader = self.reader(device)?;
            let found = reader.operation(&id).map_err(|error| broken(device, &error))?;
            ensure!(found.is_some(), "{id} of device {device} is outside and not in its store");
        }
        Ok(())
    }

    /// After a crash everything anybody ever saw of a device is in its store.
    pub(crate) fn check_reopened(&self, device: usize) -> Result<(), Violation> {
        let author = self.devices[device].author();
        let reader = self.reader(device)?;
        for model in self.model.topics.values() {
            let seen = model.seen_outside.iter().filter(|(_, (by, _))| *by == author).map(|(id, _)| id);
            let told = model.published.iter().filter(|(by, ..)| *by == device).map(|(_, id, _)| id);
            for id in seen.chain(told) {
                let found = reader.operation(id).map_err(|error| broken(device, &error))?;
                ensure!(found.is_some(), "device {device} forgot its operation {id}, which others have seen");
            }
        }
        Ok(())
    }

    /// Whether a device may stop reading a topic of a town for good: one of a pairing, or an inbox that is not its own any
    /// more (whose database was put back goes on with another key, and what was its inbox is another device's).
    fn may_be_given_up(&self, device: usize, topic: TopicId) -> Result<bool, Violation> {
        let Some(town) = &self.town else { return Ok(false) };
        if town.passing.contains(&topic) {
            return Ok(true);
        }
        let reader = self.reader(device)?;
        let inboxes = reader.inboxes().map_err(|error| broken(device, &error))?;
        let known = reader.topic(topic).map_err(|error| broken(device, &error))?;
        let is_own = inboxes.iter().any(|inbox| inbox.topic == topic);
        Ok(town.inboxes.contains(&topic) && known.is_none() && !is_own)
    }

    /// Notes the topics that are a device's inboxes now.
    fn note_inboxes(&mut self, device: usize) -> Result<(), Violation> {
        let rows = self.reader(device)?.inboxes().map_err(|error| broken(device, &error))?;
        if let Some(town) = &mut self.town {
            town.inboxes.extend(rows.into_iter().map(|row| row.topic));
        }
        Ok(())
    }

    /// No cursor goes back outside a reset, and none passes the log's head.
    pub(crate) fn check_cursors(&mut self, device: usize) -> Result<(), Violation> {
        if self.town.is_some() {
            self.note_inboxes(device)?;
        }
        let in_town = self.town.iter().flat_map(|town| town.topics.iter().copied());
        for topic in self.model.topics.keys().copied().chain(in_town).collect::<Vec<_>>() {
            let new = self.reader(device)?.cursor(topic).map_err(|error| broken(device, &error))?;
            let Some(new) = new else {
                if !self.devices[device].cursors.contains_key(&topic) {
                    continue;
                }
                let given_up = self.may_be_given_up(device, topic)?;
                ensure!(given_up, "device {device} lost its cursor of {topic}");
                self.devices[device].cursors.remove(&topic);
                continue;
            };
            if let Some(old) = self.devices[device].cursors.insert(topic, new) {
                let back = (new.resets, new.seq) < (old.resets, old.seq);
                ensure!(!back, "device {device}: the cursor of {topic} goes back from {old:?} to {new:?}");
                ensure!(
                    new.resets > old.resets || new.generation == old.generation,
                    "device {device}: the generation of {topic} changes without a reset"
                );
            }
        }
        Ok(())
    }

    pub(crate) fn reader(&self, device: usize) -> Result<&Reader, Violation> {
        let reader = self.devices[device].reader.as_ref();
        reader.ok_or_else(|| Violation::new(format!("device {device} is down")))
    }

    /// Everything that must hold once nothing happens any more; gives the number of operations.
    pub(crate) fn check_end(&mut self) -> Result<u64, Violation> {
        let mut count = 0;
        for device in 0..self.devices.len() {
            ensure!(self.devices[device].is_idle(), "device {device} still has work to do");
        }
        for topic in self.model.topics.keys().copied().collect::<Vec<_>>() {
            self.check_log(topic)?;
            self.check_order(topic)?;
            count += self.check_operations(topic)?;
        }
        self.check_rows()?;
        for device in 0..self.devices.len() {
            self.check_rebuild(device)?;
        }
        Ok(count)
    }

    /// The server holds each envelope once; each device stands at the head with nothing left to send.
    fn check_log(&self, topic: TopicId) -> Result<(), Violation> {
        let envelopes = self.server.envelopes(&topic);
        let hashes: BTreeSet<_> = envelopes.iter().map(|(_, envelope)| EnvelopeHash::of(envelope)).collect();
        ensure!(hashes.len() == envelopes.len(), "the server holds an envelope twice in {topic}");
        let (head, generation) = (self.server.log_state(&topic).head, self.server.generation(&topic));
        for device in 0..self.devices.len() {
            let standing = self.reader(device)?.standing(topic).map_err(|error| broken(device, &error))?;
            ensure!(
                standing.outbox == OutboxCounts::default(),
                "device {device} still has {:?} in its outbox of {topic}",
                standing.outbox
            );
            ensure!(
                standing.pending == PendingCount::default(),
                "device {device} still has {:?} pending in {topic}; {}",
                standing.pending,
                self.lacks(device, topic)?
            );
            ensure!(
                standing.refetches.is_empty(),
                "device {device} still has {:?} to read again in {topic}",
                standing.refetches
            );
            // What the projector skips (an edit of somebody else's message) is stored all the same.
            let dropped = standing.dropped.iter().find(|(reason, _)| !reason.starts_with("skipped-"));
            ensure!(dropped.is_none(), "device {device} dropped {dropped:?} in {topic}");
            let cursor = standing.cursor.map(|cursor| (cursor.generation, cursor.seq));
            ensure!(
                cursor == Some((generation, head)),
                "device {device} stands at {cursor:?} in {topic}, the head is {head} of {generation}"
            );
        }
        Ok(())
    }

    /// What other devices hold of a topic and this one does not, in words.
    fn lacks(&self, device: usize, topic: TopicId) -> Result<String, Violation> {
        let Some(model) = self.model.topics.get(&topic) else { return Ok(String::new()) };
        let log = model.keys.log();
        let held = |device| facts(self.reader(device)?, &log).map_err(|error| broken(device, &error));
        let own: BTreeSet<Fact> = held(device)?.into_iter().collect();
        let mut lacking = Vec::new();
        for other in 0..self.devices.len() {
            for fact in held(other)?.into_iter().filter(|fact| !own.contains(fact)) {
                let stored =
                    self.reader(other)?.operation(&fact.id).map_err(|error| broken(other, &error))?;
                let body = if stored.is_some_and(|stored| stored.body.is_none()) { " (erased)" } else { "" };
                let (id, author) = (short(&fact.id), short(&fact.author));
                lacking.push(format!("{id}, number {} of {author}, held by {other}{body}", fact.seq_num));
            }
        }
        lacking.truncate(20);
        Ok(format!("it lacks {}", lacking.join("; ")))
    }

    /// All devices hold the same operations: what was acknowledged, once, and nothing that nobody asked for.
    fn check_operations(&self, topic: TopicId) -> Result<u64, Violation> {
        let Some(model) = self.model.topics.get(&topic) else { return Ok(0) };
        let log = model.keys.log();
        let all = self.all_facts(&log)?;
        for device in 0..self.devices.len() {
            let lacking = self.lacking(device, &log, &all)?;
            if lacking.iter().any(|fact| !self.is_erased_everywhere(fact)) {
                return Err(Violation::new(format!(
                    "device {device} differs in {topic}: {}",
                    self.lacks(device, topic)?
                )));
            }
        }
        model.check(&all.iter().cloned().collect::<Vec<_>>(), &self.model.authors)?;
        Ok(all.len() as u64)
    }

    /// The operations of a log that any device holds.
    fn all_facts(&self, log: &LogId) -> Result<BTreeSet<Fact>, Violation> {
        let mut all = BTreeSet::new();
        for device in 0..self.devices.len() {
            all.extend(facts(self.reader(device)?, log).map_err(|error| broken(device, &error))?);
        }
        Ok(all)
    }

    fn lacking(&self, device: usize, log: &LogId, all: &BTreeSet<Fact>) -> Result<BTreeSet<Fact>, Violation> {
        let own = facts(self.reader(device)?, log).map_err(|error| broken(device, &error))?;
        let own: BTreeSet<Fact> = own.into_iter().collect();
        Ok(all.difference(&own).cloned().collect())
    }

    /// A deleted message (or an edit of one) is erased on every device that holds it. After a wipe nobody can deliver
    /// it again, so a device that had not read it before never will: the one difference there may be.
    fn is_erased_everywhere(&self, fact: &Fact) -> bool {
        let copies =
            self.devices.iter().filter_map(|device| device.reader.as_ref()?.operation(&fact.id).ok()?);
        self.was_reset() && copies.into_iter().all(|copy| copy.body.is_none())
    }

    fn was_reset(&self) -> bool {
        self.faults.struck(Fault::ServerWipe) || self.faults.struck(Fault::ServerRollback)
    }

    /// All devices show the same rows, and the rows that the reference model expects.
    fn check_rows(&self) -> Result<(), Violation> {
        let expected = self.expected_rows()?;
        for device in 0..self.devices.len() {
            let mut lacking = BTreeSet::new();
            for log in self.logs() {
                let facts = self.lacking(device, &log, &self.all_facts(&log)?)?;
                lacking.extend(facts.into_iter().map(|fact| fact.id));
            }
            let difference = expected.difference(&self.rows(device)?, &lacking);
            ensure!(difference.is_none(), "device {device}: {}", difference.unwrap_or_default());
        }
        Ok(())
    }

    /// All devices show messages in the server's order, and none before an earlier one of its author. Messages that
    /// are not in the log at hand (deleted before a wipe, or evicted) are left out.
    fn check_order(&self, topic: TopicId) -> Result<(), Violation> {
        let Some(model) = self.model.topics.get(&topic) else { return Ok(()) };
        let log = model.keys.log();
        let seq = |id: &OperationId| {
            let (_, envelope) = model.seen_outside.get(id)?;
            self.server.find(&topic, envelope)
        };
        let mut positions = Vec::new();
        let mut highest: Option<(Author, Seq)> = None;
        for fact in self.all_facts(&log)? {
            let before = highest.filter(|(author, _)| *author == fact.author).map_or(Seq(0), |(_, seq)| seq);
            let own = seq(&fact.id);
            let position = own.unwrap_or(Seq(0)).max(before);
            highest = Some((fact.author, position));
            positions.extend(own.map(|_| (position, fact.author, fact.seq_num, fact.id)));
        }
        positions.sort_unstable();
        for device in 0..self.devices.len() {
            let shown = rows::order(self.reader(device)?, &log).map_err(|error| broken(device, &error))?;
            let shown: Vec<_> = shown.into_iter().filter(|id| seq(id).is_some()).collect();
            let held: BTreeSet<_> = shown.iter().copied().collect();
            let expected: Vec<_> =
                positions.iter().map(|(.., id)| *id).filter(|id| held.contains(id)).collect();
            let differs = shown.iter().zip(&expected).find(|(shown, expected)| shown != expected);
            if let Some((shown, expected)) = differs {
                let (shown, expected) = (short(shown), short(expected));
                return Err(Violation::new(format!(
                    "device {device} shows {shown} of {topic} before {expected}"
                )));
            }
        }
        Ok(())
    }

    fn logs(&self) -> Vec<LogId> {
        self.model.topics.values().map(|model| model.keys.log()).collect()
    }

    fn rows(&self, device: usize) -> Result<Rows, Violation> {
        let authors: Vec<Author> = self.model.authors.keys().copied().collect();
        Rows::read(self.reader(device)?, &self.logs(), &authors).map_err(|error| broken(device, &error))
    }

    fn expected_rows(&self) -> Result<Rows, Violation> {
        let mut expected = Rows::default();
        for model in self.model.topics.values() {
            let log = model.keys.log();
            let contents = model.contents();
            for fact in self.all_facts(&log)? {
                match contents.get(&fact.id) {
                    Some(content) => expected.apply(&log, &fact, content),
                    None => self.apply_unheard(&mut expected, &log, &fact)?,
                }
            }
        }
        expected.finish();
        Ok(expected)
    }

    /// What a device said and never heard of again is known from its body alone.
    fn apply_unheard(&self, expected: &mut Rows, log: &LogId, fact: &Fact) -> Result<(), Violation> {
        let copies =
            self.devices.iter().filter_map(|device| device.reader.as_ref()?.operation(&fact.id).ok()?);
        match copies.into_iter().find_map(|copy| copy.body) {
            Some(body) => {
                let body = ops::Body::decode(&body).map_err(|error| broken(0, &error))?;
                expected.apply(log, fact, &body.content);
            }
            None => drop(expected.unknown.insert(fact.id)),
        }
        Ok(())
    }

    /// The read model is what a rebuild gives, also after closing and opening.
    fn check_rebuild(&mut self, device: usize) -> Result<(), Violation> {
        let before = self.rows(device)?;
        let order = self.order(device)?;
        let now = self.device_now(device);
        let state = &mut self.devices[device];
        let Some(engine) = state.engine.take() else { return Ok(()) };
        state.reader = None;
        engine.close().map_err(|error| broken(device, &error))?;
        let file = state.file();
        let mut store = Store::open(&file, disk::options(PendingLimits::default()))
            .map_err(|error| broken(device, &error))?;
        store.check().map_err(|error| broken(device, &error))?;
        let tx = store.begin(Durability::Normal).map_err(|error| broken(device, &error))?;
        tx.rebuild().map_err(|error| broken(device, &error))?;
        tx.commit().map_err(|error| broken(device, &error))?;
        let key = DeviceKey::from_bytes(state.key());
        let engine = Engine::open(store, key, now).map_err(|error| broken(device, &error))?;
        state.reader = Some(engine.reader().map_err(|error| broken(device, &error))?);
        state.engine = Some(engine);
        let after = self.rows(device)?;
        let difference = before.difference(&after, &BTreeSet::new());
        ensure!(
            difference.is_none(),
            "device {device}: a rebuild changes rows: {}",
            difference.unwrap_or_default()
        );
        ensure!(order == self.order(device)?, "device {device}: a rebuild changes the order of messages");
        Ok(())
    }

    /// Messages in the order shown.
    fn order(&self, device: usize) -> Result<Vec<OperationId>, Violation> {
        let reader = self.reader(device)?;
        let mut order = Vec::new();
        for log in self.logs() {
            order.extend(rows::order(reader, &log).map_err(|error| broken(device, &error))?);
        }
        Ok(order)
    }
}

/// Author, id and number of the operation in an envelope.
fn open(keys: &ops::TopicKeys, envelope: &[u8]) -> Result<(Author, OperationId, u32), Violation> {
    let opened =
        keys.open(envelope).map_err(|error| Violation::new(format!("the log holds no envelope: {error}")))?;
    let operation = ops::verify(&opened.header, &opened.body, &keys.log())
        .map_err(|error| Violation::new(format!("the log holds no operation: {error}")))?;
    Ok((operation.author(), operation.id(), operation.seq_num()))
}

/// Every stored operation of a log, by author and number.
fn facts(reader: &Reader, log: &LogId) -> Result<Vec<Fact>, delta_core::store::StoreError> {
    let mut facts = Vec::new();
    let mut after = None;
    loop {
        let page = reader.list_operations(after.as_ref(), PAGE)?;
        let Some(last) = page.last() else { return Ok(facts) };
        after = Some(*last);
        let wanted = page.iter().filter(|one| one.log == *log);
        facts.extend(wanted.map(|one| Fact { author: one.author, seq_num: one.seq_num, id: one.id }));
    }
}

pub(crate) fn broken(device: usize, error: &dyn std::fmt::Display) -> Violation {
    Violation::new(format!("device {device}: {error}"))
}
