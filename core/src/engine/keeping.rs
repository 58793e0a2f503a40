//! What a device does by itself for the keys of its spaces, so that apps notice nothing.
//!
//! Nothing here is an event that could be missed: what is to be done follows from what is stored, and is looked at
//! whenever a space changes, a topic is live again, a turn comes, and at start. A manager's device moves a topic whose
//! keys may be in the wrong hands ([`Membership::outlived`]), hands keys to devices that lack them, and leaves behind
//! what reads the epoch before. Whose deed it is goes first; the other managers' devices wait for a time that each draws
//! for itself, and look again when it comes. Every member's device keeps its key bundle fresh, and asks for keys.
//!
//! [`Membership::outlived`]: crate::space::Membership::outlived

use std::collections::{BTreeMap, BTreeSet};

use super::io::{Output, Reply};
use super::receive::News;
use super::refusal::{CommandError, Unreadable};
use super::seal::{SealJob, SealResult, SealWork, Sealed};
use super::spaces::{random, store_error};
use super::state::State;
use crate::crypto::{Context, DeviceSecrets, GroupCrypto, Purpose, TwoParty, open_key};
use crate::entropy::Entropy;
use crate::identity::{Author, Identity, LogId, Millis, OperationId};
use crate::limits::MAX_HANDED_KEYS;
use crate::ops::{Content, EpochKeys, HandedKey, Rotation, Ticket, VerifiedOperation};
use crate::space::{Access, Membership, Outlived, Register};
use crate::store::{Handed, Store, StoreError, Tx};
use crate::sync::backoff::jitter;
use crate::topic::TopicId;

use super::rotation::Closed;

/// Shortest time that a manager's device leaves what is to be done to the one whose deed it is, milliseconds.
pub const KEEP_MIN_MS: u64 = 10_000;
/// Longest such time, milliseconds.
pub const KEEP_MAX_MS: u64 = 70_000;
/// How long sealing may take before it is given out again, milliseconds.
const SEAL_MS: u64 = 60_000;
/// After what could not be done a space is looked at again, milliseconds.
const AGAIN_MS: u64 = 30_000;
/// A space is looked at this often in any case, milliseconds: prekeys end.
const LOOK_MS: u64 = 24 * 3_600_000;
/// Looks at a space in one batch: what is done about it changes it.
const ROUNDS: usize = 4;

/// When which space is looked at, and whose turn is when.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    due: BTreeMap<LogId, Millis>,
    turns: BTreeMap<Turn, Millis>,
    /// What could not be done is left alone until then, so that it neither repeats itself nor holds up anything else.
    paused: BTreeMap<Turn, Millis>,
    sealing: Option<Given>,
    /// Spaces that have work for when nothing is given out.
    waiting: BTreeSet<LogId>,
    jobs: u64,
}

/// The job given out.
#[derive(Clone, Copy, Debug)]
struct Given {
    number: u64,
    turn: Turn,
    /// When it is given up.
    until: Millis,
}

/// What managers' devices take turns at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// Of this device alone.
    Prekey,
    Rotate(TopicId),
    Hand(LogId),
    Past(TopicId),
    Unmute(LogId, Identity),
}

impl Keeping {
    /// At start every space is looked at.
    pub(super) fn load(store: &Store, now: Millis) -> Result<Self, StoreError> {
        let due = store.spaces()?.into_iter().map(|row| (row.space, now)).collect();
        Ok(Self { due, ..Self::default() })
    }

    /// As [`Self::load`] once more; a job that is out stays one of its own.
    pub(super) fn reload(&mut self, store: &Store, now: Millis) -> Result<(), StoreError> {
        let jobs = self.jobs;
        *self = Self { jobs, ..Self::load(store, now)? };
        Ok(())
    }

    /// A space is looked at in this batch.
    pub(super) fn hurry(&mut self, space: LogId, now: Millis) {
        self.later(space, now);
    }

    /// A topic is open no more: nobody's turn comes there.
    pub(super) fn forget_turns(&mut self, topic: TopicId) {
        for turn in [Turn::Rotate(topic), Turn::Past(topic)] {
            self.done(&turn);
        }
    }

    /// There is nothing to do there, or it is done.
    fn done(&mut self, turn: &Turn) {
        self.turns.remove(turn);
        self.paused.remove(turn);
    }

    /// Takes a result: whose turn it was. `None`: nobody waits for it any more.
    fn finish(&mut self, number: u64, now: Millis) -> Option<Turn> {
        let given = self.sealing.take_if(|given| given.number == number)?;
        for space in std::mem::take(&mut self.waiting) {
            self.hurry(space, now);
        }
        Some(given.turn)
    }

    /// What was given out and not heard of again is given up.
    fn give_up(&mut self, now: Millis) {
        if self.sealing.take_if(|given| given.until <= now).is_some() {
            self.waiting.clear();
            self.hurry_all(now);
        }
    }

    /// What this device said in a log has a place: if it is a space's, that may be what a rotation waits for.
    pub(super) fn acknowledged(&mut self, log: LogId, now: Millis) {
        if self.due.contains_key(&log) {
            self.hurry(log, now);
        }
    }

    /// Every space is looked at in this batch.
    fn hurry_all(&mut self, now: Millis) {
        for due in self.due.values_mut() {
            *due = (*due).min(now);
        }
    }

    fn later(&mut self, space: LogId, at: Millis) {
        let due = self.due.entry(space).or_insert(at);
        *due = (*due).min(at);
    }

    fn take_due(&mut self, now: Millis) -> Option<LogId> {
        let space = self.due.iter().find(|(_, at)| **at <= now).map(|(space, _)| *space)?;
        self.due.remove(&space);
        Some(space)
    }

    /// When this device's turn is.
    fn turn(&mut self, turn: Turn, own: bool, now: Millis, entropy: &mut dyn Entropy) -> Millis {
        let mut wait = || if own { 0 } else { KEEP_MIN_MS + jitter(KEEP_MAX_MS - KEEP_MIN_MS, entropy) };
        let at = self.turns.entry(turn).or_insert_with(|| now.plus(wait()));
        if own {
            *at = (*at).min(now);
        }
        let paused = self.paused.get(&turn).copied().filter(|paused| *paused > now);
        paused.unwrap_or(*at)
    }

    pub(super) fn poll_timeout(&self) -> Option<Millis> {
        let sealing = self.sealing.map(|given| given.until);
        self.due.values().copied().min().into_iter().chain(sealing).min()
    }
}

/// Whether others look for what an operation says when they hand out keys.
pub(super) const fn is_about_keys(content: &Content) -> bool {
    matches!(content, Content::DeviceBundle(_) | Content::EpochKeys(_))
}

/// A space as a manager's device sees it.
struct Look {
    space: LogId,
    /// What the devices of its members are handed. A device that its person revoked is not among them, and every epoch
    /// that it was handed moves on.
    devices: BTreeMap<Author, Access>,
    /// Whose device this is there.
    me: Option<Identity>,
    manages: bool,
    history: bool,
    /// What this device has seen.
    heads: Vec<OperationId>,
}

impl State {
    /// Looks at every space that is due.
    pub(super) fn keep_spaces(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.keeping.give_up(now);
        for _ in 0..ROUNDS {
            let Some(first) = self.keeping.take_due(now) else { break };
            let mut next = Some(first);
            let mut looked = Vec::new();
            while let Some(space) = next {
                let again = self.keep_space(tx, now, entropy, space, staged)?;
                looked.push((space, again));
                next = self.keeping.take_due(now);
            }
            for (space, again) in looked {
                self.keeping.later(space, again);
            }
            // What was done is news, too.
            self.tend_spaces(tx, now, staged)?;
        }
        Ok(())
    }

    /// Does what is due in one space; gives when to look again.
    fn keep_space(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        space: LogId,
        staged: &mut Vec<Output>,
    ) -> Result<Millis, StoreError> {
        let author = self.author();
        let again = now.plus(LOOK_MS);
        if tx.belongs(&space)?.is_none() {
            // Claimed, and nothing known of it yet: whoever lets this device in has its bundle.
            let bundle = self.keep_bundle(tx, now, entropy, space, staged)?;
            return Ok(bundle.map_or(again, |at| at.min(again)));
        }
        let look = tx.look_at_space(space, |graph| look(graph, space, author))?;
        let Some(look) = look else { return Ok(again) };
        let mut next = vec![again];
        if look.devices.len() > 1 || !look.devices.contains_key(&author) {
            next.extend(self.keep_bundle(tx, now, entropy, space, staged)?);
        }
        let logs = tx.logs_of_space(&space)?;
        next.extend(self.take_keys(tx, now, &look, &logs, staged)?);
        if !look.manages {
            return Ok(next.into_iter().min().unwrap_or(again));
        }
        let rotations = self.keep_rotated(tx, now, entropy, &look, &logs, staged)?;
        let past = self.keep_past(tx, now, entropy, &look, &logs, staged)?;
        let handed = self.keep_handed(tx, now, entropy, &look, &logs, staged)?;
        let unmuted = self.keep_unmuted(tx, now, entropy, &look, staged)?;
        next.extend([rotations, past, handed, unmuted].into_iter().flatten());
        Ok(next.into_iter().min().unwrap_or(again))
    }

    /// Whether this device may act on what others did: it has heard of what they did about it.
    fn follows(&self, log: &LogId) -> bool {
        self.newest(log).and_then(|id| self.topics.get(&id)).is_some_and(super::state::Topic::is_live)
    }

    /// The turn of this device, or when it comes. `None`: it has come.
    fn wait_for(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        turn: Turn,
        own: bool,
        logs: [&LogId; 2],
    ) -> Option<Millis> {
        let at = self.keeping.turn(turn, own, now, entropy);
        if at > now {
            return Some(at);
        }
        let may = own || logs.into_iter().all(|log| self.follows(log));
        // When it is live again the space is looked at, too.
        (!may).then(|| now.plus(LOOK_MS))
    }

    /// Gives work to another thread, one job at a time. Gives when to look again at the latest: what comes of it, and
    /// the end of what is out already, make the space be looked at.
    fn give_out(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        (space, turn): (LogId, Turn),
        work: SealWork,
        staged: &mut Vec<Output>,
    ) -> Option<Millis> {
        if let Some(given) = self.keeping.sealing {
            self.keeping.waiting.insert(space);
            return Some(given.until);
        }
        let Ok(seed) = random(entropy) else { return Some(now.plus(AGAIN_MS)) };
        self.keeping.jobs += 1;
        let (number, device, until) = (self.keeping.jobs, self.author(), now.plus(SEAL_MS));
        self.keeping.sealing = Some(Given { number, turn, until });
        staged.push(Output::Seal(Box::new(SealJob { number, device, now, seed, work })));
        Some(until)
    }

    /// Keeps this device's key bundle where the space's managers see it.
    fn keep_bundle(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        space: LogId,
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let Some(id) = self.newest(&space) else { return Ok(None) };
        let Some(topic) = self.topics.get(&id) else { return Ok(None) };
        if topic.closed.is_some() || topic.keys.write_key().is_none() {
            return Ok(None);
        }
        let mut secrets = tx.device_secrets()?;
        if let Some(kept) = secrets.as_ref().and_then(|secrets| secrets.forget_expired(now)) {
            if let Ok(bytes) = kept.to_bytes() {
                tx.put_device_secrets(&bytes)?;
            }
            secrets = Some(kept);
        }
        let Some(secrets) = secrets.as_ref().filter(|secrets| !secrets.wants_rotation(now)) else {
            let at = self.keeping.turn(Turn::Prekey, true, now, entropy);
            if at > now {
                return Ok(Some(at));
            }
            let work = SealWork::Prekey(secrets.map(Box::new));
            return Ok(self.give_out(now, entropy, (space, Turn::Prekey), work, staged));
        };
        let (name, expires) = (format!("bundle:{space}"), secrets.expires().0.to_be_bytes());
        if tx.setting(&name)?.as_deref() == Some(&expires) {
            return Ok(None);
        }
        let Ok(bundle) = TwoParty.bundle(secrets) else { return Ok(None) };
        match self.publish(tx, now, id, Content::DeviceBundle(bundle), staged) {
            Ok(_) => tx.set_setting(&name, &expires).map(|()| None),
            Err(error) => again(error, now),
        }
    }

    /// Moves topics whose keys may be in the wrong hands.
    fn keep_rotated(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        look: &Look,
        logs: &[LogId],
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let mut next = None;
        for log in logs {
            let Some(id) = self.newest(log) else { continue };
            let Some(topic) = self.topics.get(&id) else { continue };
            // An own rotation that has no place yet, and the keys it gives, are looked at when it has one.
            let is_gone = topic.unreadable == Some(Unreadable::Gone);
            if topic.closed.is_some() || topic.rotates || is_gone || topic.keys.write_key().is_none() {
                continue;
            }
            // Why the space's own log moves is to stand before the place at which it ends: packets overtake each other,
            // and who is removed reads nothing behind that place.
            if log == &look.space && !topic.outbox.is_empty() {
                next = next.into_iter().chain([now.plus(AGAIN_MS)]).min();
                continue;
            }
            let turn = Turn::Rotate(id);
            let Some(outlived) = self.is_outlived(tx, look, id)? else {
                self.keeping.done(&turn);
                continue;
            };
            let at = match self.wait_for(now, entropy, turn, outlived.own, [log, &look.space]) {
                Some(at) => Some(at),
                None => self.begin_rotation(tx, now, entropy, look, id, staged)?,
            };
            next = next.into_iter().chain(at).min();
        }
        Ok(next)
    }

    /// At which membership operations the epoch of a topic began; `None`: that is not known here.
    fn began(&self, tx: &Tx<'_>, id: TopicId) -> Result<Option<Vec<OperationId>>, StoreError> {
        let Some(topic) = self.topics.get(&id) else { return Ok(None) };
        let (log, epoch) = (topic.keys.log(), topic.keys.epoch());
        let Some(before) = epoch.checked_sub(1) else { return Ok(Some(Vec::new())) };
        let before = self.by_log.at(&log, before).and_then(|before| self.topics.get(&before));
        if let Some(closed) =
            before.and_then(|before| before.closed.as_ref()).filter(|closed| closed.at.successor == id)
        {
            return Ok(Some(closed.heads.clone()));
        }
        // Whoever handed it to this device knew what had been done before.
        let handed = tx.handed_to(&log, &self.author())?;
        let Some(handed) = handed.iter().find(|handed| handed.topic == id) else { return Ok(None) };
        Ok(stored(tx, &handed.operation)?.map(|operation| operation.body().auth_heads.clone()))
    }

    fn is_outlived(&self, tx: &Tx<'_>, look: &Look, id: TopicId) -> Result<Option<Outlived>, StoreError> {
        let Some(topic) = self.topics.get(&id) else { return Ok(None) };
        let (log, epoch, author) = (topic.keys.log(), topic.keys.epoch(), self.author());
        let Some(began) = self.began(tx, id)? else { return Ok(None) };
        if let Some(outlived) = tx.look_at_space(look.space, |graph| graph.outlived(&began, author))? {
            return Ok(Some(outlived));
        }
        if epoch == 0 {
            // A room's first keys stand in the space's log, for whoever reads that later.
            let open = log != look.space && !look.history;
            let made = tx.look_at_space(look.space, |graph| graph.room_maker(log) == look.me)?;
            return Ok(open.then_some(Outlived { own: made }));
        }
        let held = tx.holders(&log, epoch)?.held;
        let astray = held.iter().any(|(device, had)| look.devices.get(device) < Some(had));
        Ok(astray.then_some(Outlived { own: false }))
    }

    fn begin_rotation(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        look: &Look,
        id: TopicId,
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let (Some(secrets), Some(row)) = (tx.device_secrets()?, tx.topic(id)?) else {
            return Ok(Some(now.plus(AGAIN_MS)));
        };
        if let Some(given) = self.keeping.sealing {
            self.keeping.waiting.insert(look.space);
            return Ok(Some(given.until));
        }
        let mut to = Vec::new();
        for (device, access) in look.devices.iter().filter(|(device, _)| **device != self.author()) {
            let bundle = tx.device_bundle(device)?;
            to.extend(bundle.map(|bundle| (bundle, *access == Access::Write)));
        }
        let work = SealWork::Rotation {
            space: look.space,
            topic: id,
            heads: look.heads.clone(),
            secrets: Box::new(secrets),
            ends: tx.log_ends(&row.ticket.log())?,
            current: row.ticket,
            to,
        };
        Ok(self.give_out(now, entropy, (look.space, Turn::Rotate(id)), work, staged))
    }

    /// Leaves behind what reads the epoch before: always in the space's own log, without which nobody can judge
    /// anything, elsewhere where history is readable.
    fn keep_past(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        look: &Look,
        logs: &[LogId],
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let mut next = None;
        for log in logs.iter().filter(|log| **log == look.space || look.history) {
            let Some(id) = self.newest(log) else { continue };
            let Some(topic) = self.topics.get(&id) else { continue };
            let open = topic.closed.is_none() && topic.keys.write_key().is_some();
            let Some(before) = topic.keys.epoch().checked_sub(1).filter(|_| open) else { continue };
            let (turn, known) = (Turn::Past(id), self.by_log.at(log, before));
            let closed = known.and_then(|id| self.topics.get(&id)).and_then(|it| it.closed.as_ref());
            // By someone else there may be another: what leads here is what is left.
            let Some(closed) = closed.filter(|closed| closed.at.successor == id) else { continue };
            let own = closed.rotator == self.author();
            let Some(ticket) = known.map(|id| tx.topic(id)).transpose()?.flatten().map(|row| row.ticket)
            else {
                continue;
            };
            if tx.past_keys(log, before)?.iter().any(|known| known.topic() == ticket.topic()) {
                self.keeping.done(&turn);
                continue;
            }
            let mut at = self.wait_for(now, entropy, turn, own, [log, &look.space]);
            if at.is_none()
                && let Some(past) = ticket.as_past()
            {
                at = self.keep_said(tx, now, id, past, staged)?;
            }
            next = next.into_iter().chain(at).min();
        }
        Ok(next)
    }

    /// Publishes what nobody asked for; what cannot be published now is tried again.
    fn keep_said(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        id: TopicId,
        keys: EpochKeys,
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        match self.publish(tx, now, id, Content::EpochKeys(Box::new(keys)), staged) {
            Ok(_) => Ok(None),
            Err(error) => again(error, now),
        }
    }

    /// Hands keys to devices that lack them.
    fn keep_handed(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        look: &Look,
        logs: &[LogId],
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let turn = Turn::Hand(look.space);
        let mut lacking = Vec::new();
        for log in logs {
            if let Some(id) = self.newest(log)
                && self.is_outlived(tx, look, id)?.is_none()
            {
                self.lacking(tx, now, look, id, &mut lacking)?;
            }
            self.asking(tx, now, look, log, &mut lacking)?;
        }
        let Some((first, _)) = lacking.first() else {
            self.keeping.done(&turn);
            return Ok(None);
        };
        let (device, me) = (first.device(), self.author());
        let own = tx.look_at_space(look.space, |graph| graph.let_in_by(device, me))?;
        if let Some(at) = self.wait_for(now, entropy, turn, own, [&look.space, &look.space]) {
            return Ok(Some(at));
        }
        let Some(secrets) = tx.device_secrets()? else { return Ok(Some(now.plus(AGAIN_MS))) };
        lacking.truncate(MAX_HANDED_KEYS);
        let (space, heads, secrets) = (look.space, look.heads.clone(), Box::new(secrets));
        let work = SealWork::Keys { space, heads, secrets, keys: lacking };
        Ok(self.give_out(now, entropy, (look.space, turn), work, staged))
    }

    /// Devices that lack the key of the epoch a log lives in.
    fn lacking(
        &self,
        tx: &Tx<'_>,
        now: Millis,
        look: &Look,
        id: TopicId,
        lacking: &mut Vec<(crate::crypto::DeviceBundle, Ticket)>,
    ) -> Result<(), StoreError> {
        let Some(topic) = self.topics.get(&id).filter(|topic| topic.closed.is_none()) else { return Ok(()) };
        let (log, epoch) = (topic.keys.log(), topic.keys.epoch());
        // The first keys of a room stand in the space's log, those of the space in the invitation.
        if epoch == 0 {
            return Ok(());
        }
        let Some(ticket) = tx.topic(id)?.map(|row| row.ticket) else { return Ok(()) };
        let holders = tx.holders(&log, epoch)?;
        for (device, access) in &look.devices {
            let held = holders.held.get(device);
            // Who cannot read the space does not read what is handed there either.
            let elsewhere = log == look.space && held.is_none();
            let may = *access == Access::Read || ticket.can_write();
            if *device == self.author()
                || held >= Some(access)
                || elsewhere
                || !may
                || holders.spent.contains(device)
            {
                continue;
            }
            let bundle = tx.device_bundle(device)?.filter(|it| it.bundle().verify(now).is_ok());
            let ticket = if *access == Access::Write { ticket.clone() } else { ticket.read_only() };
            lacking.extend(bundle.map(|bundle| (bundle, ticket)));
        }
        Ok(())
    }

    /// Devices that ask for the key of an epoch that is over: of members of that time, and where history is readable.
    fn asking(
        &self,
        tx: &Tx<'_>,
        now: Millis,
        look: &Look,
        log: &LogId,
        lacking: &mut Vec<(crate::crypto::DeviceBundle, Ticket)>,
    ) -> Result<(), StoreError> {
        for (epoch, device) in tx.key_asks(log)? {
            let Some(id) = self.by_log.at(log, epoch).filter(|id| self.newest(log) != Some(*id)) else {
                continue;
            };
            let holders = tx.holders(log, epoch)?;
            if device == self.author()
                || !look.devices.contains_key(&device)
                || holders.held.contains_key(&device)
                || holders.spent.contains(&device)
            {
                continue;
            }
            let began = self.began(tx, id)?;
            let then = tx.look_at_space(look.space, |graph| {
                began.is_some_and(|began| graph.read_at(device, &began))
            })?;
            let (Some(row), true) = (tx.topic(id)?, then || look.history) else { continue };
            let bundle = tx.device_bundle(&device)?.filter(|it| it.bundle().verify(now).is_ok());
            lacking.extend(bundle.map(|bundle| (bundle, row.ticket.read_only())));
        }
        Ok(())
    }

    /// Mutes that are over end by an operation.
    fn keep_unmuted(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        look: &Look,
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let mutes = tx.look_at_space(look.space, |graph| graph.mutes())?;
        let mut next = None;
        for (member, by, until) in mutes {
            let turn = Turn::Unmute(look.space, member);
            if until > now {
                self.keeping.done(&turn);
                next = next.into_iter().chain([until]).min();
                continue;
            }
            let mut at = self.wait_for(now, entropy, turn, Some(by) == look.me, [&look.space, &look.space]);
            if at.is_none() {
                let unmute = crate::ops::Action::Unmute { member };
                at = match self.act(tx, now, look.space, unmute, staged) {
                    Ok(_) => None,
                    Err(error) => again(error, now)?,
                };
                self.keeping.done(&turn);
            }
            next = next.into_iter().chain(at).min();
        }
        Ok(next)
    }

    /// Takes keys that were handed to this device or left behind, and asks for what does not open.
    fn take_keys(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        look: &Look,
        logs: &[LogId],
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let mut next = None;
        for log in logs {
            let mut news = News::default();
            let failed = self.take_handed(tx, now, log, &mut news)?;
            for epoch in self.by_log.epochs(log) {
                let Some(before) = epoch.checked_sub(1) else { continue };
                if self.by_log.at(log, before).is_some() {
                    continue;
                }
                for ticket in tx.past_keys(log, before)? {
                    self.adopt(tx, now, &ticket, &mut news)?;
                }
            }
            if let Some(id) = self.newest(log) {
                news.tell(tx, id, staged)?;
            }
            if let Some((epoch, failed)) = failed.or_else(|| self.lacks(log))
                && !tx.has_asked(log, epoch, &self.author(), failed)?
                && look.devices.contains_key(&self.author())
                && let Some(id) = self.newest(&look.space)
            {
                let at = self.keep_said(tx, now, id, EpochKeys::Ask { log: *log, epoch, failed }, staged)?;
                next = next.into_iter().chain(at).min();
            }
        }
        Ok(next)
    }

    /// The epoch of which this device has no key, where a topic closed and nothing later is open.
    fn lacks(&self, log: &LogId) -> Option<(u32, Option<OperationId>)> {
        let newest = self.newest(log).and_then(|id| self.topics.get(&id))?;
        newest.closed.as_ref().map(|closed| (closed.at.epoch, None))
    }

    /// Takes what was handed to this device, newest first. What did not open, if nothing newer did.
    fn take_handed(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        log: &LogId,
        news: &mut News,
    ) -> Result<Option<(u32, Option<OperationId>)>, StoreError> {
        let device = self.author();
        let mut failed = None;
        for handed in tx.handed_to(log, &device)? {
            let known = self.topics.get(&handed.topic);
            let has = known.is_some_and(|it| handed.access == Access::Read || it.keys.write_key().is_some());
            let opened = has || {
                let Some(secrets) = tx.device_secrets()? else { continue };
                match open_handed(tx, now, log, &handed, (&device, &secrets))? {
                    Some(ticket) => self.adopt(tx, now, &ticket, news)?,
                    None => false,
                }
            };
            let newest = self.newest(log).and_then(|id| self.topics.get(&id));
            let behind = newest.is_none_or(|it| it.keys.epoch() < handed.epoch);
            if !opened && behind && failed.is_none() {
                failed = Some((handed.epoch, Some(handed.operation)));
            }
        }
        Ok(failed)
    }

    /// What reads the epoch before, left in a log of which nothing is known yet: the first one is taken, because
    /// without what it opens nobody's right to leave it can be judged.
    pub(super) fn take_past(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        operation: &VerifiedOperation,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let Content::EpochKeys(keys) = &operation.body().content else { return Ok(()) };
        let EpochKeys::Past { epoch, write, secret } = &**keys else { return Ok(()) };
        let Some(topic) = self.topics.get(&id) else { return Ok(()) };
        let log = topic.keys.log();
        if epoch.checked_add(1) == Some(topic.keys.epoch())
            && tx.belongs(&log)?.is_none()
            && let Ok(ticket) = Ticket::past(log, *epoch, *write, secret.0)
        {
            self.adopt(tx, now, &ticket, news)?;
        }
        Ok(())
    }

    /// The space that judges a topic's log is looked at in this batch.
    pub(super) fn hurry_log_of(&mut self, tx: &Tx<'_>, now: Millis, id: TopicId) -> Result<(), StoreError> {
        let Some(log) = self.topics.get(&id).map(|topic| topic.keys.log()) else { return Ok(()) };
        if let Some(belongs) = tx.belongs(&log)? {
            self.keeping.hurry(belongs.space, now);
        }
        Ok(())
    }

    /// Notes to whom the rotation that closed a topic handed the next epoch.
    pub(super) fn note_handed(
        tx: &Tx<'_>,
        log: &LogId,
        closed: &Closed,
        rotation: &Rotation,
    ) -> Result<(), StoreError> {
        let Some(belongs) = tx.belongs(log)? else { return Ok(()) };
        let access = tx.look_at_space(belongs.space, |graph| graph.device_access_at(&closed.heads))?;
        let (epoch, topic, operation) = (rotation.epoch, rotation.topic, closed.at.operation);
        for part in &rotation.parts {
            // Whoever was no member's then was given what nobody knows.
            let access = access.get(&part.device).copied().unwrap_or(Access::Write);
            tx.put_handed(log, &part.device, &Handed { epoch, topic, operation, access })?;
        }
        let access = Access::Write;
        tx.put_handed(log, &closed.rotator, &Handed { epoch, topic, operation, access })
    }

    /// What was sealed is used, if the space is as it was.
    pub(super) fn take_sealed(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        sealed: Sealed,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(turn) = self.keeping.finish(sealed.number, now) else { return Ok(()) };
        let author = self.author();
        let is_same = |tx: &Tx<'_>, space: LogId, heads: &[OperationId]| {
            tx.look_at_space(space, |graph| graph.cite(author) == heads)
        };
        let done = match sealed.result {
            SealResult::Prekey { replaced, secrets } => {
                let is_newest = tx.device_secrets()?.map(|stored| stored.expires()) == replaced;
                if let Some(bytes) = secrets.to_bytes().ok().filter(|_| is_newest) {
                    tx.put_device_secrets(&bytes)?;
                }
                self.keeping.hurry_all(now);
                return Ok(());
            }
            SealResult::Rotation { space, topic, heads, prepared } => {
                self.keeping.hurry(space, now);
                if !is_same(tx, space, &heads)? || self.newest_of(topic) != Some(topic) {
                    return Ok(());
                }
                self.rotate(tx, now, topic, *prepared, staged).map(Some)
            }
            SealResult::Keys { space, heads, keys } => {
                self.keeping.hurry(space, now);
                if !is_same(tx, space, &heads)? {
                    return Ok(());
                }
                match self.newest(&space).filter(|_| !keys.is_empty()) {
                    Some(id) => {
                        let content = Content::EpochKeys(Box::new(EpochKeys::Hand(keys)));
                        self.publish(tx, now, id, content, staged).map(Some)
                    }
                    None => Ok(None),
                }
            }
            SealResult::Failed => Ok(None),
        };
        if !matches!(done, Ok(Some(_))) {
            self.keeping.paused.insert(turn, now.plus(AGAIN_MS));
        }
        store_error(done)
    }

    fn newest_of(&self, id: TopicId) -> Option<TopicId> {
        self.newest(&self.topics.get(&id)?.keys.log())
    }
}

/// When what could not be done now is tried again.
fn again(error: CommandError, now: Millis) -> Result<Option<Millis>, StoreError> {
    store_error(Err::<Reply, _>(error)).map(|()| Some(now.plus(AGAIN_MS)))
}

/// `None`: there is nothing to look after.
fn look(graph: &Membership, space: LogId, author: Author) -> Option<Look> {
    let state = graph.current().filter(|state| !state.registers.contains_key(&Register::Deleted))?;
    if graph.is_suspended() {
        return None;
    }
    Some(Look {
        space,
        devices: graph.device_access(),
        me: graph.identity_in(&state, author),
        // What a muted manager's device does counts for nothing.
        manages: graph.standing(author).may_manage() && graph.standing(author).may_write(),
        history: graph.has_history(&state),
        heads: graph.cite(author),
    })
}

fn stored(tx: &Tx<'_>, id: &OperationId) -> Result<Option<VerifiedOperation>, StoreError> {
    let bytes = tx.operation_bytes(id)?;
    Ok(bytes.and_then(|(header, body)| VerifiedOperation::from_store(&header, &body).ok()))
}

/// `None`: it does not open, or was opened when the rotation came, if it can be.
fn open_handed(
    tx: &Tx<'_>,
    now: Millis,
    log: &LogId,
    handed: &Handed,
    (device, secrets): (&Author, &DeviceSecrets),
) -> Result<Option<Ticket>, StoreError> {
    let Some(operation) = stored(tx, &handed.operation)? else { return Ok(None) };
    let Content::EpochKeys(keys) = &operation.body().content else { return Ok(None) };
    let EpochKeys::Hand(keys) = &**keys else { return Ok(None) };
    let (epoch, sender, recipient) = (handed.epoch, operation.author(), *device);
    let is_it = |key: &&HandedKey| (key.log, key.epoch, key.device) == (*log, epoch, *device);
    let Some(key) = keys.iter().find(is_it) else { return Ok(None) };
    let context = Context { purpose: Purpose::Handed, log: *log, epoch, sender, recipient };
    Ok(open_key(&TwoParty, secrets, &context, &key.topic, &key.block, now).ok())
}
