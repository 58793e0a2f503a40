//! Topic logs in memory: for the simulation, mock servers and as the reference of the storage contract.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

use bytes::Bytes;
use delta_core::identity::{EnvelopeHash, Millis};
use delta_core::topic::{Chain, Seq, TopicId};

use crate::storage::{Inserted, LogReader, LogState, LogStorage, NewRow, Order, StoredOp, TopicFacts};

/// [`LogStorage`] in memory. A clone is a backup.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    logs: BTreeMap<TopicId, Log>,
    undo: Option<Vec<Undo>>,
}

#[derive(Clone, Debug, Default)]
struct Log {
    /// Row `i` has seq `i + 1`.
    rows: Vec<Row>,
    places: HashMap<EnvelopeHash, Seq>,
    evicted: u64,
    signed: bool,
    facts: TopicFacts,
}

#[derive(Clone, Debug)]
struct Row {
    received: Millis,
    hash: EnvelopeHash,
    chain: Chain,
    bytes: u64,
    /// Empty once evicted.
    op: Bytes,
}

#[derive(Clone, Debug)]
enum Undo {
    Insert(TopicId),
    Signed(TopicId),
    Facts(TopicId, TopicFacts),
    Evict(TopicId, u64, Vec<Bytes>),
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    fn visit<'a>(
        log: &'a Log,
        seqs: impl Iterator<Item = usize>,
        visit: &mut dyn FnMut(StoredOp<'_>) -> bool,
    ) {
        for index in seqs {
            let Some(Row { received, chain, op, .. }): Option<&'a Row> = log.rows.get(index) else { return };
            if !visit(StoredOp { seq: Seq(index as u64 + 1), received: *received, chain: *chain, op }) {
                return;
            }
        }
    }

    /// Indices of the retained rows strictly between two seqs.
    fn between(log: &Log, after: Seq, before: Seq) -> std::ops::Range<usize> {
        let end = (before.0.saturating_sub(1) as usize).min(log.rows.len());
        (after.0.max(log.evicted) as usize).min(end)..end
    }
}

impl LogReader for MemoryStorage {
    type Error = Infallible;

    fn state(&self, topic: &TopicId) -> Result<Option<LogState>, Infallible> {
        Ok(self.logs.get(topic).map(|log| LogState {
            head: Seq(log.rows.len() as u64),
            tail: Seq(log.evicted + 1),
            chain: log.rows.last().map(|row| row.chain),
            received: log.rows.last().map_or(Millis(0), |row| row.received),
            bytes: log.rows.last().map_or(0, |row| row.bytes),
            signed: log.signed,
            closed: log.facts.closed,
        }))
    }

    fn facts(&self, topic: &TopicId) -> Result<TopicFacts, Infallible> {
        Ok(self.logs.get(topic).map(|log| log.facts.clone()).unwrap_or_default())
    }

    fn find(&self, topic: &TopicId, hash: &EnvelopeHash) -> Result<Option<Seq>, Infallible> {
        Ok(self.logs.get(topic).and_then(|log| log.places.get(hash)).copied())
    }

    fn mark(&self, topic: &TopicId, seq: Seq) -> Result<Option<(Chain, Millis)>, Infallible> {
        let index = seq.0.checked_sub(1).map(|index| index as usize);
        let row = self.logs.get(topic).zip(index).and_then(|(log, index)| log.rows.get(index));
        Ok(row.map(|row| (row.chain, row.received)))
    }

    fn walk(
        &self,
        topic: &TopicId,
        after: Seq,
        before: Seq,
        order: Order,
        visit: &mut dyn FnMut(StoredOp<'_>) -> bool,
    ) -> Result<(), Infallible> {
        let Some(log) = self.logs.get(topic) else { return Ok(()) };
        let between = Self::between(log, after, before);
        match order {
            Order::Ascending => Self::visit(log, between, visit),
            Order::Descending => Self::visit(log, between.rev(), visit),
        }
        Ok(())
    }
}

impl LogStorage for MemoryStorage {
    fn begin(&mut self) -> Result<(), Infallible> {
        self.undo = Some(Vec::new());
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Infallible> {
        self.undo = None;
        Ok(())
    }

    fn rollback(&mut self) {
        for step in self.undo.take().unwrap_or_default().into_iter().rev() {
            match step {
                Undo::Insert(topic) => {
                    let log = self.logs.entry(topic).or_default();
                    if let Some(row) = log.rows.pop() {
                        log.places.remove(&row.hash);
                    }
                }
                Undo::Signed(topic) => self.logs.entry(topic).or_default().signed = false,
                Undo::Facts(topic, facts) => self.logs.entry(topic).or_default().facts = facts,
                Undo::Evict(topic, evicted, ops) => {
                    let log = self.logs.entry(topic).or_default();
                    log.evicted = evicted;
                    for (row, op) in log.rows.iter_mut().skip(evicted as usize).zip(ops) {
                        row.op = op;
                    }
                }
            }
        }
    }

    fn insert(&mut self, topic: &TopicId, row: &NewRow<'_>) -> Result<Inserted, Infallible> {
        let log = self.logs.entry(*topic).or_default();
        if let Some(seq) = log.places.get(&row.hash) {
            return Ok(Inserted::Duplicate(*seq));
        }
        log.places.insert(row.hash, row.seq);
        let op = Bytes::copy_from_slice(row.op);
        log.rows.push(Row { received: row.received, hash: row.hash, chain: row.chain, bytes: row.bytes, op });
        self.undo.iter_mut().for_each(|undo| undo.push(Undo::Insert(*topic)));
        Ok(Inserted::Fresh)
    }

    fn mark_signed(&mut self, topic: &TopicId) -> Result<(), Infallible> {
        let log = self.logs.entry(*topic).or_default();
        if !std::mem::replace(&mut log.signed, true) {
            self.undo.iter_mut().for_each(|undo| undo.push(Undo::Signed(*topic)));
        }
        Ok(())
    }

    fn set_facts(&mut self, topic: &TopicId, facts: &TopicFacts) -> Result<(), Infallible> {
        let log = self.logs.entry(*topic).or_default();
        let before = std::mem::replace(&mut log.facts, facts.clone());
        self.undo.iter_mut().for_each(|undo| undo.push(Undo::Facts(*topic, before.clone())));
        Ok(())
    }

    fn evict(&mut self, topic: &TopicId, up_to: Seq) -> Result<(), Infallible> {
        let log = self.logs.entry(*topic).or_default();
        let before = log.evicted;
        let up_to = up_to.0.min(log.rows.len() as u64);
        let ops: Vec<Bytes> = log
            .rows
            .iter_mut()
            .take(up_to as usize)
            .skip(before as usize)
            .map(|row| std::mem::take(&mut row.op))
            .collect();
        log.evicted = before.max(up_to);
        self.undo.iter_mut().for_each(|undo| undo.push(Undo::Evict(*topic, before, ops.clone())));
        Ok(())
    }
}
