//! Outbox policy of one topic: what goes into the next packet, when a packet counts as lost, when to try again.
//!
//! Pure bookkeeping over row numbers and hashes; the envelopes themselves stay in the database. A row is queued,
//! then sent in a packet, then acknowledged by its own echo in the topic log. Only the echo acknowledges: an HTTP
//! answer promises nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::entropy::Entropy;
use crate::identity::{EnvelopeHash, Millis, NodeId};
use crate::limits::{MAX_BATCH, OUTBOX_RUN_AHEAD, OUTBOX_WINDOW};
use crate::sync::backoff::{RoundTrip, doubled, jitter};
use crate::tree::{Arrange, Map, Set};

/// Shortest time to wait for an echo, milliseconds.
pub const ECHO_TIMEOUT_MIN_MS: u64 = 8_000;
/// Longest time to wait for an echo, milliseconds.
pub const ECHO_TIMEOUT_MAX_MS: u64 = 120_000;
/// Longest time a packet may take to its entry relay, milliseconds. The driver gives up before and says so; this only
/// keeps a row from hanging on an answer that never comes.
pub const HANDOVER_MAX_MS: u64 = 10 * 60_000;
/// Longest pause an entry relay can ask for, milliseconds.
pub const BUSY_MAX_MS: u64 = 60_000;
/// Attempts that follow each other without backoff.
pub const QUICK_ATTEMPTS: u32 = 4;
/// Cap that the delay between slow attempts grows to, milliseconds.
pub const RETRY_MAX_MS: u64 = 30 * 60 * 1000;
/// Cap of the delay after the entry relay refused a packet for the first time, milliseconds.
pub const REFUSED_RETRY_MS: u64 = 250;
/// Paths of earlier attempts that a row remembers.
pub const REMEMBERED_PATHS: usize = 16;
/// Most envelope bytes put into one shared packet: fits class 3 with its list overhead.
pub const MAX_SHARED_BYTES: usize = 192 * 1024;

/// A row of the outbox table.
pub type RowId = i64;

/// One packet on its way. Unique within a device's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u64);

/// The relays one packet went over, the entry first.
pub type Path = Arc<[NodeId]>;

/// What the policy needs to know of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The row.
    pub id: RowId,
    /// Its envelope's hash, by which the echo is known.
    pub hash: EnvelopeHash,
    /// Length of the envelope in bytes.
    pub len: u32,
    /// Attempts so far.
    pub tries: u32,
    /// Not to be sent before this instant.
    pub not_before: Millis,
}

/// Which rows may go that were sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retries {
    /// None.
    None,
    /// Those that surely have not arrived, or were looked for.
    Looked,
    /// All.
    All,
}

/// The rows for one packet, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The rows, at least one.
    pub rows: Vec<RowId>,
    /// Tries of these rows before this one (0 for a first sending).
    pub tries: u32,
}

/// An acknowledged row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The row, to be removed.
    pub id: RowId,
    /// Round trip of its packet in milliseconds, when the row was sent once only.
    pub round_trip_ms: Option<u64>,
    /// The path of its packet, when this is the first sign of that packet's arrival.
    pub path: Option<Path>,
}

/// What a timeout brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Rows that go back to waiting.
    pub rows: Vec<Requeued>,
    /// The paths of packets of which nothing arrived.
    pub paths: Vec<Path>,
    /// The packets.
    pub attempts: Vec<AttemptId>,
}

/// A row that goes back to waiting: to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requeued {
    /// The row.
    pub id: RowId,
    /// Attempts so far.
    pub tries: u32,
    /// Not to be sent before this instant.
    pub not_before: Millis,
}

#[derive(Clone, Debug)]
struct Row {
    len: u32,
    tries: u32,
    place: Place,
    /// It may have arrived, and was not looked for since.
    unlooked: bool,
    /// An entry relay said that it has it, or an earlier process may have heard so.
    taken: bool,
    /// Paths of earlier attempts, the latest last.
    used: Vec<Path>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Waiting(Millis),
    InFlight(AttemptId),
}

#[derive(Clone, Debug)]
struct Attempt {
    rows: Set<RowId>,
    sent_at: Millis,
    due: Millis,
    /// How long its echo may take once the entry relay has it, milliseconds.
    echo_timeout_ms: u64,
    /// What its relays were asked to wait: no part of a round trip, which says what the next packet takes.
    delays_ms: u64,
    path: Path,
    arrived: bool,
}

/// The outbox of one topic.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    rows: BTreeMap<RowId, Row>,
    by_hash: HashMap<EnvelopeHash, RowId>,
    /// Rows that wait for their first attempt, by the instant they may go, then first in first out.
    fresh: BTreeSet<(Millis, RowId)>,
    /// Rows that wait for a further attempt: they go before fresh ones, because receivers wait for them.
    again: BTreeSet<(Millis, RowId)>,
    attempts: Map<AttemptId, Attempt>,
    due: Set<(Millis, AttemptId)>,
    round_trip: RoundTrip,
}

impl Outbox {
    /// Adds a row. A hash that is already there is ignored.
    pub fn insert(&mut self, row: OutboxRow) {
        if self.by_hash.contains_key(&row.hash) {
            return;
        }
        self.by_hash.insert(row.hash, row.id);
        self.queue(row.tries).insert((row.not_before, row.id));
        let place = Place::Waiting(row.not_before);
        // What was sent before this process began may have arrived.
        let (tries, unlooked) = (row.tries, row.tries > 0);
        self.rows
            .insert(row.id, Row { len: row.len, tries, place, unlooked, taken: tries > 0, used: Vec::new() });
    }

    /// The row whose envelope has this hash.
    pub fn find(&self, hash: &EnvelopeHash) -> Option<RowId> {
        self.by_hash.get(hash).copied()
    }

    /// No row left.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows waiting and rows in flight.
    pub fn counts(&self) -> (usize, usize) {
        let waiting = self.fresh.len() + self.again.len();
        (waiting, self.rows.len() - waiting)
    }

    /// Smoothed round trip of this topic's deliveries, milliseconds.
    pub const fn round_trip_ms(&self) -> Option<u64> {
        self.round_trip.smoothed_ms()
    }

    /// The rows of the next packet, if the window has room and something may go now. Rows that have left
    /// before are held back as `retries` says: nobody knows whether they arrived. A row that was tried before goes
    /// alone.
    pub fn plan(&self, now: Millis, retries: Retries) -> Option<Plan> {
        if self.attempts.len() >= OUTBOX_WINDOW {
            return None;
        }
        let again = match retries {
            Retries::None => None,
            Retries::Looked => self.due_again(now).find(|id| !self.is_unlooked(*id)),
            Retries::All => self.due_again(now).next(),
        };
        if let Some(id) = again {
            let tries = self.rows.get(&id)?.tries;
            return Some(Plan { rows: vec![id], tries });
        }
        let mut rows: Vec<RowId> = Vec::new();
        let mut bytes = 0usize;
        for &(not_before, id) in &self.fresh {
            if not_before > now || rows.len() >= MAX_BATCH || self.runs_ahead(id) {
                break;
            }
            let Some(row) = self.rows.get(&id) else { continue };
            let len = row.len as usize;
            if !rows.is_empty() && bytes + len > MAX_SHARED_BYTES {
                break;
            }
            bytes += len;
            rows.push(id);
        }
        (!rows.is_empty()).then_some(Plan { rows, tries: 0 })
    }

    /// Whether a row could go again, but for the question whether it has arrived.
    pub fn wants_look(&self, now: Millis) -> bool {
        self.due_again(now).any(|id| self.is_unlooked(id))
    }

    /// The envelopes that wait for a further attempt, oldest first, at most so many.
    pub fn tried(&self, limit: usize) -> Vec<EnvelopeHash> {
        let mut ids: Vec<RowId> = self.again.iter().map(|(_, id)| *id).collect();
        ids.arrange();
        ids.truncate(limit);
        let of = |id: &RowId| self.by_hash.iter().find(|(_, row)| *row == id).map(|(hash, _)| *hash);
        ids.iter().filter_map(of).collect()
    }

    /// All that waits for a further attempt is being looked for.
    pub fn looked(&mut self) {
        for (_, id) in &self.again {
            if let Some(row) = self.rows.get_mut(id) {
                row.unlooked = false;
            }
        }
    }

    fn due_again(&self, now: Millis) -> impl Iterator<Item = RowId> {
        self.again.iter().take_while(move |(at, _)| *at <= now).map(|(_, id)| *id)
    }

    fn is_unlooked(&self, id: RowId) -> bool {
        self.rows.get(&id).is_some_and(|row| row.unlooked)
    }

    /// The paths that earlier attempts of the plan's rows took, the latest last.
    pub fn used(&self, plan: &Plan) -> Vec<Path> {
        plan.rows.iter().filter_map(|id| self.rows.get(id)).flat_map(|row| row.used.iter().cloned()).collect()
    }

    /// The rows of `plan` leave in packet `attempt` over `path`, whose relays add `delays_ms` by request. Its echo may
    /// take 4 × the smoothed round trip + delays, within 8 s to 120 s, ± 25 %, and never less than the delays and three
    /// quarters of 8 s, from when the entry relay has taken it ([`Self::taken`]): a slow uplink is no loss. Returns the instant at which the rows may go again should this
    /// process end before.
    pub fn sent(
        &mut self,
        plan: &Plan,
        attempt: AttemptId,
        path: &Path,
        now: Millis,
        delays_ms: u64,
        entropy: &mut dyn Entropy,
    ) -> Millis {
        let expected = self.round_trip.smoothed_ms().unwrap_or(0).saturating_mul(4).saturating_add(delays_ms);
        let timeout = expected.clamp(ECHO_TIMEOUT_MIN_MS, ECHO_TIMEOUT_MAX_MS);
        let echo_timeout_ms = timeout * 3 / 4 + jitter(timeout / 2, entropy);
        let echo_timeout_ms = echo_timeout_ms.max(delays_ms.saturating_add(ECHO_TIMEOUT_MIN_MS * 3 / 4));
        let due = now.plus(HANDOVER_MAX_MS);
        for id in &plan.rows {
            let Some(row) = self.rows.get_mut(id) else { continue };
            if let Place::Waiting(at) = row.place {
                let queue = if row.tries == 0 { &mut self.fresh } else { &mut self.again };
                queue.remove(&(at, *id));
            }
            row.place = Place::InFlight(attempt);
            row.tries = row.tries.saturating_add(1);
            if row.used.len() >= REMEMBERED_PATHS {
                row.used.remove(0);
            }
            row.used.push(Arc::clone(path));
        }
        let (rows, path) = (plan.rows.iter().copied().collect(), Arc::clone(path));
        let entry = Attempt { rows, sent_at: now, due, echo_timeout_ms, delays_ms, path, arrived: false };
        self.attempts.insert(attempt, entry);
        self.due.insert((due, attempt));
        now.plus(echo_timeout_ms)
    }

    /// The entry relay has the packet: from now on its echo is waited for.
    pub fn taken(&mut self, attempt: AttemptId, now: Millis) {
        if let Some(entry) = self.attempts.get_mut(&attempt) {
            self.due.remove(&(entry.due, attempt));
            (entry.sent_at, entry.due) = (now, now.plus(entry.echo_timeout_ms));
            self.due.insert((entry.due, attempt));
            for id in &entry.rows {
                if let Some(row) = self.rows.get_mut(id) {
                    row.taken = true;
                }
            }
        }
    }

    /// Rows that wait to be sent and that no relay ever took.
    pub fn untaken(&self) -> usize {
        let waiting = |row: &&Row| matches!(row.place, Place::Waiting(_)) && !row.taken;
        self.rows.values().filter(waiting).count()
    }

    /// The envelope with this hash stands in the topic log: its row is done.
    pub fn acknowledge(&mut self, hash: &EnvelopeHash, now: Millis) -> Option<Acknowledged> {
        let id = self.by_hash.remove(hash)?;
        let row = self.rows.remove(&id)?;
        let (mut round_trip_ms, mut path) = (None, None);
        match row.place {
            Place::Waiting(at) => {
                self.queue(row.tries).remove(&(at, id));
            }
            Place::InFlight(attempt) => {
                if let Some((sent_at, first)) = self.leave_attempt(attempt, id) {
                    round_trip_ms = (row.tries == 1).then(|| now.since(sent_at));
                    path = first;
                }
            }
        }
        if let Some(ms) = round_trip_ms {
            self.round_trip.sample(ms);
        }
        Some(Acknowledged { id, round_trip_ms, path })
    }

    /// Forgets a row, wherever it is; nothing is learned about the packet it may be in.
    pub fn forget(&mut self, hash: &EnvelopeHash) {
        let Some(id) = self.by_hash.remove(hash) else { return };
        let Some(row) = self.rows.remove(&id) else { return };
        match row.place {
            Place::Waiting(at) => {
                self.queue(row.tries).remove(&(at, id));
            }
            Place::InFlight(attempt) => {
                let Some(entry) = self.attempts.get_mut(&attempt) else { return };
                entry.rows.remove(&id);
                if entry.rows.is_empty() {
                    let due = entry.due;
                    self.attempts.remove(&attempt);
                    self.due.remove(&(due, attempt));
                }
            }
        }
    }

    /// Takes back a row that was never sent.
    pub fn withdraw(&mut self, hash: &EnvelopeHash) {
        let Some(id) = self.find(hash) else { return };
        if let Some(Row { tries: 0, place: Place::Waiting(at), .. }) = self.rows.get(&id) {
            self.fresh.remove(&(*at, id));
            self.rows.remove(&id);
            self.by_hash.remove(hash);
        }
    }

    /// The entry relay did not take the packet, or so it says. Its rows wait a little, and as long as the relay asked
    /// for.
    pub fn refused(
        &mut self,
        attempt: AttemptId,
        now: Millis,
        retry_after_ms: u64,
        entropy: &mut dyn Entropy,
    ) -> Vec<Requeued> {
        let floor_ms = retry_after_ms.min(BUSY_MAX_MS);
        self.end_attempt(attempt, now, REFUSED_RETRY_MS, floor_ms, entropy).0
    }

    /// The entry relay could not be connected to: nothing of the packet has left this device.
    pub fn unreached(&mut self, attempt: AttemptId, now: Millis, entropy: &mut dyn Entropy) -> Vec<Requeued> {
        let rows = self.attempts.get(&attempt).map(|entry| entry.rows.clone()).unwrap_or_default();
        let surely = rows.into_iter().filter(|id| !self.is_unlooked(*id)).collect::<Vec<_>>();
        let requeued = self.refused(attempt, now, 0, entropy);
        for id in surely {
            if let Some(row) = self.rows.get_mut(&id) {
                row.unlooked = false;
            }
        }
        requeued
    }

    /// Packets whose echo did not come in time count as lost; their rows go back to waiting.
    pub fn handle_timeout(&mut self, now: Millis, entropy: &mut dyn Entropy) -> Lost {
        let mut lost = Lost::default();
        while let Some(&(due, attempt)) = self.due.first()
            && due <= now
        {
            let (rows, path) = self.end_attempt(attempt, now, 0, 0, entropy);
            lost.rows.extend(rows);
            lost.paths.extend(path);
            lost.attempts.push(attempt);
        }
        lost
    }

    /// The network changed, or the server was reached again: whatever waits may go now.
    pub fn hurry(&mut self, now: Millis) -> Vec<Requeued> {
        let waiting = self.fresh.iter().chain(&self.again);
        let late: Vec<(Millis, RowId)> = waiting.filter(|(at, _)| *at > now).copied().collect();
        late.into_iter()
            .filter_map(|(at, id)| {
                let row = self.rows.get_mut(&id)?;
                row.place = Place::Waiting(now);
                let tries = row.tries;
                let queue = self.queue(tries);
                queue.remove(&(at, id));
                queue.insert((now, id));
                Some(Requeued { id, tries, not_before: now })
            })
            .collect()
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_due(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    /// When to call [`Self::handle_timeout`] or [`Self::plan`] (with [`Retries::None`] unless `allow_retries`) next.
    pub fn poll_timeout(&self, allow_retries: bool) -> Option<Millis> {
        let due = self.poll_due();
        let open = self.attempts.len() < OUTBOX_WINDOW;
        let again = self.again.first().filter(|_| allow_retries);
        let fresh = self.fresh.first().filter(|(_, id)| !self.runs_ahead(*id));
        let waiting = fresh.into_iter().chain(again).map(|(at, _)| *at);
        due.into_iter().chain(waiting.filter(|_| open)).min()
    }

    /// Whether sending this row would leave the oldest unacknowledged one too far behind. Receivers keep operations
    /// that wait for their predecessor, but not without limit; until a lost one is read back nothing runs away from
    /// it. Rows are numbered over all topics, so a topic among busy others waits a little sooner.
    fn runs_ahead(&self, id: RowId) -> bool {
        self.rows.first_key_value().is_some_and(|(oldest, _)| id.saturating_sub(*oldest) > OUTBOX_RUN_AHEAD)
    }

    fn queue(&mut self, tries: u32) -> &mut BTreeSet<(Millis, RowId)> {
        if tries == 0 { &mut self.fresh } else { &mut self.again }
    }

    /// When the row's packet was sent, and its path if nothing of it had arrived before.
    fn leave_attempt(&mut self, attempt: AttemptId, row: RowId) -> Option<(Millis, Option<Path>)> {
        let entry = self.attempts.get_mut(&attempt)?;
        entry.rows.remove(&row);
        let first = !std::mem::replace(&mut entry.arrived, true);
        let path = first.then(|| Arc::clone(&entry.path));
        let sent_at = entry.sent_at.plus(entry.delays_ms);
        let (due, done) = (entry.due, entry.rows.is_empty());
        if done {
            self.attempts.remove(&attempt);
            self.due.remove(&(due, attempt));
        }
        Some((sent_at, path))
    }

    /// Gives the rows that go back to waiting, and the path if nothing had arrived over it.
    fn end_attempt(
        &mut self,
        attempt: AttemptId,
        now: Millis,
        quick_ms: u64,
        floor_ms: u64,
        entropy: &mut dyn Entropy,
    ) -> (Vec<Requeued>, Option<Path>) {
        let Some(entry) = self.attempts.remove(&attempt) else { return (Vec::new(), None) };
        let path = (!entry.arrived).then_some(entry.path);
        self.due.remove(&(entry.due, attempt));
        let mut requeued = Vec::with_capacity(entry.rows.len());
        for id in entry.rows {
            let Some(row) = self.rows.get_mut(&id) else { continue };
            let cap = match row.tries.checked_sub(QUICK_ATTEMPTS) {
                None => doubled(quick_ms, row.tries.saturating_sub(1), RETRY_MAX_MS),
                Some(slow) => doubled(ECHO_TIMEOUT_MIN_MS, slow, RETRY_MAX_MS),
            };
            let not_before = now.plus(jitter(cap, entropy).max(floor_ms));
            row.place = Place::Waiting(not_before);
            row.unlooked = true;
            self.again.insert((not_before, id));
            requeued.push(Requeued { id, tries: row.tries, not_before });
        }
        (requeued, path)
    }
}
#[cfg(test)]
mod tests;
