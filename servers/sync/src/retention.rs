//! What the server no longer keeps: evicted in small commits of their own, between which deliveries are taken, so that
//! neither a first limit on a large log nor the deletion of one makes anybody wait, or fills a disk that is nearly full.

use std::collections::BTreeSet;
use std::ops::Bound;

use delta_core::identity::Millis;
use delta_core::topic::{Seq, TopicId};
use delta_topic_log::{Closed, LogReader, LogState, TopicLogs};

use crate::limits::Limits;
use crate::store::{Sql, StoreError};

/// Operations one commit evicts at most.
pub const ROUND_OPS: u64 = 1024;
/// Their bytes, at most; one operation in any case.
pub const ROUND_BYTES: u64 = 2 * 1024 * 1024;
/// How often topics that were written to are looked at.
const EVERY_MS: u64 = 1_000;
/// How often topics nobody writes to are looked at.
const SWEEP_EVERY_MS: u64 = 3_600_000;
/// Topics looked at in one round.
const ROUND_TOPICS: usize = 256;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What a round evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// How many operations.
    pub ops: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Which topics are to be looked at, and when.
#[derive(Debug)]
pub struct Retention {
    limits: Limits,
    waiting: BTreeSet<TopicId>,
    /// The topic looked at last: one that cannot be read does not keep the others waiting.
    last: Option<TopicId>,
    looked_at: Millis,
    swept_at: Millis,
    /// How far a sweep over all topics is, while there is one.
    sweep: Option<Option<TopicId>>,
    /// There is more to do at once.
    busy: bool,
}

impl Retention {
    /// Nothing has been looked at.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: BTreeSet::new(),
            last: None,
            looked_at: Millis(0),
            swept_at: Millis(0),
            sweep: None,
            busy: false,
        }
    }

    /// Whether anything is evicted but what was deleted.
    const fn has_limits(&self) -> bool {
        self.limits.bytes_per_topic > 0 || self.limits.ops_per_topic > 0 || self.limits.max_age_days > 0
    }

    /// A topic was written to.
    pub fn wrote(&mut self, topic: TopicId) {
        if self.has_limits() {
            self.waiting.insert(topic);
        }
    }

    /// Topics were closed: deleted ones lose their operations.
    pub fn closed(&mut self, topics: impl IntoIterator<Item = TopicId>) {
        self.waiting.extend(topics);
        self.busy |= !self.waiting.is_empty();
    }

    /// Whether there is more to do at once.
    pub const fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether a round is due.
    pub fn is_due(&self, now: Millis) -> bool {
        // A clock that was set back must not stop it.
        self.busy || now.since(self.looked_at) >= EVERY_MS || now < self.looked_at
    }

    /// Evicts and commits at most one round's worth.
    ///
    /// # Errors
    /// The storage failed. What was to be evicted is tried again after a second.
    pub fn round(&mut self, now: Millis, logs: &mut TopicLogs<Sql>) -> Result<Evicted, StoreError> {
        (self.looked_at, self.busy) = (now, false);
        self.go_on_sweeping(now, logs.storage())?;
        for _ in 0..ROUND_TOPICS {
            let Some(topic) = self.pick() else { return Ok(Evicted::default()) };
            self.last = Some(topic);
            let state = logs.state(&topic)?;
            let target = self.target(now, &topic, &state, logs.storage())?.min(state.head);
            if target < state.tail {
                self.waiting.remove(&topic);
                continue;
            }
            let (up_to, bytes) = bounded(&topic, state.tail, target, logs.storage())?;
            logs.evict(&topic, up_to)?;
            logs.commit()?;
            self.busy = true;
            return Ok(Evicted { ops: up_to.0 + 1 - state.tail.0, bytes });
        }
        self.busy = !self.waiting.is_empty();
        Ok(Evicted::default())
    }

    /// The next topic after the last one, in a ring.
    fn pick(&self) -> Option<TopicId> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        self.waiting.range((after, Bound::Unbounded)).next().or_else(|| self.waiting.first()).copied()
    }

    fn go_on_sweeping(&mut self, now: Millis, storage: &Sql) -> Result<(), StoreError> {
        if self.has_limits() && (now.since(self.swept_at) >= SWEEP_EVERY_MS || now < self.swept_at) {
            (self.swept_at, self.sweep) = (now, Some(None));
        }
        let Some(mut at) = self.sweep else { return Ok(()) };
        for _ in 0..ROUND_TOPICS {
            let Some(next) = storage.topic_after(at.as_ref())? else {
                self.sweep = None;
                return Ok(());
            };
            self.waiting.insert(next);
            at = Some(next);
        }
        (self.sweep, self.busy) = (Some(at), true);
        Ok(())
    }

    /// Up to which seq the topic keeps nothing; 0 when it keeps everything.
    fn target(
        &self,
        now: Millis,
        topic: &TopicId,
        state: &LogState,
        storage: &Sql,
    ) -> Result<Seq, StoreError> {
        if state.closed == Some(Closed::Deleted) {
            return Ok(state.head);
        }
        let mut up_to = Seq(0);
        if self.limits.ops_per_topic > 0 {
            up_to = Seq(state.head.0.saturating_sub(self.limits.ops_per_topic));
        }
        if self.limits.bytes_per_topic > 0 {
            up_to = up_to.max(storage.evict_for_bytes(topic, self.limits.bytes_per_topic)?);
        }
        if self.limits.max_age_days > 0 {
            let oldest = now.0.saturating_sub(self.limits.max_age_days.saturating_mul(DAY_MS));
            up_to = up_to.max(received_before(topic, state, Millis(oldest), storage)?);
        }
        Ok(up_to)
    }
}

/// The last retained seq received before `oldest`, or one below the tail. Receive times never decrease along a log.
fn received_before(
    topic: &TopicId,
    state: &LogState,
    oldest: Millis,
    storage: &Sql,
) -> Result<Seq, StoreError> {
    let is_older = |seq| Ok::<_, StoreError>(storage.mark(topic, seq)?.is_some_and(|(_, at)| at < oldest));
    let (mut low, mut high) = (state.tail.previous().0, state.head.0.saturating_add(1));
    // Everything up to `low` is older, `high` and what follows is not.
    while high.saturating_sub(low) > 1 {
        let middle = low + (high - low) / 2;
        if is_older(Seq(middle))? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(Seq(low))
}

/// As much of `tail..=target` as one round may evict, and how many bytes that is.
fn bounded(topic: &TopicId, tail: Seq, target: Seq, storage: &Sql) -> Result<(Seq, u64), StoreError> {
    let before = storage.bytes_up_to(topic, tail.previous())?;
    let mut count = (target.0 - tail.0).saturating_add(1).min(ROUND_OPS);
    loop {
        let up_to = Seq(tail.0 + count - 1);
        let bytes = storage.bytes_up_to(topic, up_to)?.saturating_sub(before);
        if bytes <= ROUND_BYTES || count == 1 {
            return Ok((up_to, bytes));
        }
        count /= 2;
    }
}

#[cfg(test)]
mod tests {
    use delta_topic_log::{GenerationSecret, Write};

    use super::*;

    const TOPIC: TopicId = TopicId([4; 32]);
    const DAY: Millis = Millis(DAY_MS);

    fn logs(dir: &std::path::Path) -> TopicLogs<Sql> {
        TopicLogs::new(Sql::writer(&dir.join("db"), 0).unwrap(), GenerationSecret::from_bytes([1; 32]))
    }

    /// Appends an operation of `len` bytes at each time.
    fn fill(logs: &mut TopicLogs<Sql>, topic: &TopicId, times: impl IntoIterator<Item = u64>, len: usize) {
        let mut placed = Vec::new();
        for (n, at) in times.into_iter().enumerate() {
            let mut op = vec![0; len];
            op[..4].copy_from_slice(&(n as u32).to_be_bytes());
            logs.append(Millis(at), topic, &[&op], Write::Signed, &mut placed).unwrap();
        }
        logs.commit().unwrap();
    }

    /// Rounds until nothing is left to do; gives how many evicted something.
    fn settle(retention: &mut Retention, now: Millis, logs: &mut TopicLogs<Sql>) -> Vec<u64> {
        let mut rounds = Vec::new();
        loop {
            let Evicted { ops, bytes } = retention.round(now, logs).unwrap();
            assert!(ops <= ROUND_OPS && (bytes <= ROUND_BYTES || ops == 1));
            rounds.extend((ops > 0).then_some(ops));
            if !retention.is_busy() {
                return rounds;
            }
        }
    }

    fn tail_under(limits: Limits, now: Millis, times: &[u64], len: usize) -> u64 {
        let dir = tempfile::tempdir().unwrap();
        let mut logs = logs(dir.path());
        fill(&mut logs, &TOPIC, times.iter().copied(), len);
        let mut retention = Retention::new(limits);
        settle(&mut retention, now, &mut logs);
        logs.state(&TOPIC).unwrap().tail.0
    }

    #[test]
    fn a_count_keeps_the_newest() {
        let limit = |ops_per_topic| Limits { ops_per_topic, ..Limits::default() };
        assert_eq!(tail_under(limit(5), DAY, &[0; 5], 8), 1, "at the limit");
        assert_eq!(tail_under(limit(4), DAY, &[0; 5], 8), 2, "past it");
        assert_eq!(tail_under(Limits::default(), DAY, &[0; 5], 8), 1, "no limit");
    }

    #[test]
    fn bytes_keep_the_newest_that_fit() {
        let limit = |bytes_per_topic| Limits { bytes_per_topic, ..Limits::default() };
        assert_eq!(tail_under(limit(500), DAY, &[0; 5], 100), 1, "at the limit");
        assert_eq!(tail_under(limit(499), DAY, &[0; 5], 100), 2, "past it");
        assert_eq!(tail_under(limit(250), DAY, &[0; 5], 100), 4);
        assert_eq!(tail_under(limit(99), DAY, &[0; 5], 100), 6, "not even one fits");
    }

    #[test]
    fn age_keeps_what_is_exactly_as_old_as_allowed() {
        let limits = Limits { max_age_days: 2, ..Limits::default() };
        let times = [0, 1, DAY_MS, DAY_MS + 1, 2 * DAY_MS];
        assert_eq!(tail_under(limits, Millis(2 * DAY_MS), &times, 8), 1, "at the limit");
        assert_eq!(tail_under(limits, Millis(2 * DAY_MS + 1), &times, 8), 2, "one millisecond past it");
        assert_eq!(tail_under(limits, Millis(3 * DAY_MS + 1), &times, 8), 4);
        assert_eq!(tail_under(limits, Millis(9 * DAY_MS), &times, 8), 6, "all");
    }

    #[test]
    fn a_large_log_goes_in_rounds() {
        let dir = tempfile::tempdir().unwrap();
        let mut logs = logs(dir.path());
        fill(&mut logs, &TOPIC, [0; 2_500], 8);
        let mut retention = Retention::new(Limits { ops_per_topic: 100, ..Limits::default() });
        assert_eq!(settle(&mut retention, DAY, &mut logs), [1024, 1024, 352]);
        // Large operations: as many as fit the bytes, one in any case.
        let large = TopicId([5; 32]);
        fill(&mut logs, &large, [0; 5], 900_000);
        retention.wrote(large);
        retention.limits.ops_per_topic = 1;
        assert_eq!(settle(&mut retention, DAY, &mut logs), [2, 2]);
    }

    #[test]
    fn a_deleted_topic_loses_everything_without_any_limit_and_a_blocked_one_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut logs = logs(dir.path());
        let [deleted, blocked] = [TopicId([6; 32]), TopicId([7; 32])];
        for (topic, closed) in [(deleted, Closed::Deleted), (blocked, Closed::Blocked)] {
            fill(&mut logs, &topic, [0; 3_000], 8);
            logs.set_closed(&topic, Some(closed)).unwrap();
            logs.commit().unwrap();
        }
        assert!(logs.state(&deleted).unwrap().tail < Seq(3_000), "not all of it at once");
        let mut retention = Retention::new(Limits::default());
        retention.closed([deleted, blocked]);
        settle(&mut retention, DAY, &mut logs);
        assert_eq!(logs.state(&deleted).unwrap().tail, Seq(3_001));
        assert_eq!(logs.state(&blocked).unwrap().tail, Seq(1));
    }

    #[test]
    fn all_topics_are_looked_at_in_time_also_when_the_clock_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut logs = logs(dir.path());
        // Also the topic whose id is all zeros.
        let topics: Vec<TopicId> = (0..600u32)
            .map(|n| {
                let mut id = [0; 32];
                id[28..].copy_from_slice(&n.to_be_bytes());
                TopicId(id)
            })
            .collect();
        topics.iter().for_each(|topic| fill(&mut logs, topic, [0; 2], 8));
        let mut retention = Retention::new(Limits { ops_per_topic: 1, ..Limits::default() });
        settle(&mut retention, Millis(10 * SWEEP_EVERY_MS), &mut logs);
        assert!(topics.iter().all(|topic| logs.state(topic).unwrap().tail == Seq(2)));
        assert!(!retention.is_due(Millis(10 * SWEEP_EVERY_MS + EVERY_MS - 1)));
        assert!(retention.is_due(Millis(10 * SWEEP_EVERY_MS + EVERY_MS)));
        assert!(retention.is_due(Millis(5)), "set back");
    }
}
