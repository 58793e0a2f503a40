//! What a device does by itself for the keys of its spaces, so that apps notice nothing.
//!
//! Nothing here is an event that could be missed: what is to be done follows from what is stored, and is looked at
//! whenever a space changes, a topic is live again, a turn comes, and at start. A manager's device moves a topic whose
//! keys may be in the wrong hands ([`Membership::outlived`]), hands keys to devices that lack them, and leaves behind
//! what reads the epoch before. Whose deed it is goes first; the other managers' devices wait for a time that each draws
//! for itself, and look again when it comes. Every member's device keeps its key bundle fresh, and asks for keys.
//!
//! [`Membership::outlived`]: crate::space::Membership::outlived

mod by_inbox;
mod hand;
mod moves;
mod own;
mod renew;
mod take;
mod told;
mod welcome;

use super::io::{Output, Reply};
use super::receive::News;
use super::refusal::CommandError;
use super::seal::{SealJob, SealResult, SealWork, Sealed};
use super::spaces::{random, store_error};
use super::state::State;
use crate::crypto::{Context, DeviceSecrets, Purpose, TwoParty, open_key};
use crate::entropy::Entropy;
use crate::identity::{Author, Identity, LogId, Millis, OperationId};
use crate::limits::MAX_HANDED_KEYS;
use crate::ops::{Content, EpochKeys, HandedKey, Rotation, Ticket, VerifiedOperation};
use crate::space::{Access, Judgement, Membership, Outlived, Register};
use crate::store::{Handed, Store, StoreError, Tx};
use crate::sync::backoff::jitter;
use crate::topic::TopicId;
use crate::tree::{IntoTree, Map, Set};

use super::rotation::{Closed, read as rotation_in};

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
    due: Map<LogId, Millis>,
    turns: Map<Turn, Millis>,
    /// What could not be done is left alone until then, so that it neither repeats itself nor holds up anything else.
    paused: Map<Turn, Millis>,
    sealing: Option<Given>,
    /// Spaces whose turn came while this device did not hear what others did: they are looked at when it does.
    unheard: Set<LogId>,
    /// Spaces that have work for when nothing is given out.
    waiting: Set<LogId>,
    /// Which renewal of a room was looked at last.
    renewed: Map<LogId, Option<OperationId>>,
    /// Rooms in which this device's rotations lose to somebody who manages the space no more.
    beaten: Map<LogId, Beaten>,
    jobs: u64,
}

/// Rotations of a room that lost.
#[derive(Clone, Copy, Debug)]
struct Beaten {
    /// The epoch in which the first one did.
    first: u32,
    times: u32,
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
    /// Of a room, by its log.
    Renew(LogId),
    Threads(TopicId),
    Unmute(LogId, Identity),
}

impl Keeping {
    /// At start every space is looked at.
    pub(super) fn load(store: &Store, now: Millis) -> Result<Self, StoreError> {
        let due = store.spaces()?.into_iter().map(|row| (row.space, now)).into_map();
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
    pub(super) fn hurry_all(&mut self, now: Millis) {
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

    /// Others are left more time than for what they only may be doing already: they may have to be asked first.
    fn leave_time(&mut self, turn: Turn, own: bool, now: Millis, entropy: &mut dyn Entropy) {
        if !own {
            let mut drawn = || KEEP_MAX_MS + KEEP_MIN_MS + jitter(KEEP_MAX_MS - KEEP_MIN_MS, entropy);
            self.turns.entry(turn).or_insert_with(|| now.plus(drawn()));
        }
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
    devices: Map<Author, Access>,
    /// Whose device this is there.
    me: Option<Identity>,
    manages: bool,
    /// Whether what it says about keys counts: a manager who is muted leaves that to others.
    hands: bool,
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
        if self.own == Some(space) {
            let next = self.keep_own(tx, now, entropy, space, staged)?;
            return Ok(next.map_or(again, |at| at.min(again)));
        }
        if tx.belongs(&space)?.is_none() {
            // Claimed, and nothing known of it yet: whoever lets this device in has its bundle.
            let bundle = self.keep_bundle(tx, now, entropy, space, staged)?;
            return Ok(bundle.map_or(again, |at| at.min(again)));
        }
        let look = tx.look_at_space(space, |graph| look(graph, space, author))?;
        let Some(look) = look else { return Ok(again) };
        let mut next = vec![again];
        // Whoever claims an invitation writes to the inbox that the bundle names. Where newcomers read nothing of before,
        // whoever is alone moves its rooms, too: their first keys stand in the log.
        let is_alone = look.devices.len() <= 1 && look.devices.contains_key(&author);
        if !is_alone || !look.history || !tx.inboxes()?.is_empty() {
            next.extend(self.keep_bundle(tx, now, entropy, space, staged)?);
        }
        self.open_rooms(tx, now, space, staged)?;
        let logs = tx.logs_of_space(&space)?;
        self.keep_sisters(tx, now, &look, &logs, staged)?;
        let mut asking = self.asks_in(tx, now, space)?;
        self.ask_others(tx, now, entropy, &mut asking)?;
        next.extend(self.tell_devices(tx, now, entropy, &mut asking)?);
        next.extend(self.take_keys(tx, now, entropy, &look, (&logs, &mut asking), staged)?);
        next.extend(Self::asked(tx, now, &asking)?);
        if look.manages {
            self.welcome(tx, now, entropy, &look)?;
            self.deliver_told(tx, now, space)?;
            next.extend(self.keep_unmuted(tx, now, entropy, &look, staged)?);
        }
        if !look.hands {
            return Ok(next.into_iter().min().unwrap_or(again));
        }
        next.extend(self.keep_renewed(tx, now, entropy, &look, &logs, staged)?);
        let rotations = self.keep_rotated(tx, now, entropy, &look, &logs, staged)?;
        let past = self.keep_past(tx, now, entropy, &look, &logs, staged)?;
        let handed = self.keep_handed(tx, now, entropy, &look, &logs, staged)?;
        next.extend([rotations, past, handed].into_iter().flatten());
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
        if !may {
            self.keeping.unheard.extend(logs.into_iter().copied());
        }
        (!may).then(|| now.plus(LOOK_MS))
    }

    /// A topic is live: what could not be done before, because others may have done it, is looked at again.
    pub(super) fn hears_again(&mut self, tx: &Tx<'_>, now: Millis, id: TopicId) -> Result<(), StoreError> {
        let Some(log) = self.topics.get(&id).map(|topic| topic.keys.log()) else { return Ok(()) };
        // An earlier epoch that is read up to now may be where the log lives after all.
        if self.keeping.unheard.remove(&log) || self.newest(&log) != Some(id) {
            let space = tx.belongs(&log)?.map_or(log, |belongs| belongs.space);
            self.keeping.hurry(space, now);
        }
        Ok(())
    }

    /// Has X25519 secrets of this device made, from those it has. Gives when to look again, as [`State::give_out`].
    pub(super) fn renew_secrets(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        space: Option<LogId>,
        stale: Option<DeviceSecrets>,
        staged: &mut Vec<Output>,
    ) -> Option<Millis> {
        let at = self.keeping.turn(Turn::Prekey, true, now, entropy);
        if at > now {
            return Some(at);
        }
        let work = SealWork::Prekey(stale.map(Box::new));
        self.give_out(now, entropy, (space, Turn::Prekey), work, staged)
    }

    /// Gives work to another thread, one job at a time. Gives when to look again at the latest: what comes of it, and
    /// the end of what is out already, make the space be looked at.
    fn give_out(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        (space, turn): (Option<LogId>, Turn),
        work: SealWork,
        staged: &mut Vec<Output>,
    ) -> Option<Millis> {
        if let Some(given) = self.keeping.sealing {
            self.keeping.waiting.extend(space);
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
        let by_inbox = topic.closed.is_some() || topic.keys.write_key().is_none();
        let secrets = match Self::fresh_secrets(tx, now)? {
            Some(secrets) if !secrets.wants_rotation(now) => secrets,
            stale => return Ok(self.renew_secrets(now, entropy, Some(space), stale, staged)),
        };
        if by_inbox {
            return self.tell_managers_keys(tx, now, entropy, space).map(|()| None);
        }
        let inbox = tx.inboxes()?.pop().map(|row| row.topic.0);
        let said =
            [secrets.expires().0.to_be_bytes().as_slice(), inbox.as_ref().map_or(&[], |it| it)].concat();
        let name = bundle_setting(&space);
        if tx.setting(&name)?.as_ref() == Some(&said) {
            return Ok(None);
        }
        let Ok(bundle) = self.own_bundle(tx, &secrets) else { return Ok(None) };
        match self.publish(tx, now, id, Content::DeviceBundle(bundle), staged) {
            Ok(_) => tx.set_setting(&name, &said).map(|()| None),
            Err(error) => again(error, now),
        }
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

    /// The space that judges a topic's log is looked at in this batch.
    pub(super) fn hurry_log_of(&mut self, tx: &Tx<'_>, now: Millis, id: TopicId) -> Result<(), StoreError> {
        let Some(log) = self.topics.get(&id).map(|topic| topic.keys.log()) else { return Ok(()) };
        if let Some(belongs) = tx.belongs(&log)? {
            self.keeping.hurry(belongs.space, now);
        }
        Ok(())
    }

    /// What was sealed is used, if the space is as it was.
    pub(super) fn take_sealed(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
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
                self.keeping.hurry_all(now);
                return match is_newest {
                    true => self.renew_keys(tx, now, entropy, &secrets, staged),
                    false => Ok(()),
                };
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
                let sealed = !keys.is_empty();
                let (keys, all) = self.hand_by_inbox(tx, now, entropy, space, keys)?;
                let said = match self.newest(&space) {
                    _ if keys.is_empty() => Ok(sealed.then_some(Reply::Done)),
                    Some(id) => {
                        let content = Content::EpochKeys(Box::new(EpochKeys::Hand(keys)));
                        self.publish(tx, now, id, content, staged).map(Some)
                    }
                    None => Ok(None),
                };
                said.map(|said| said.filter(|_| all))
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

/// Under which name is kept what bundle this device said last in a log.
fn bundle_setting(log: &LogId) -> String {
    format!("bundle:{log}")
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
        manages: graph.standing(author).may_manage(),
        hands: graph.standing(author).may_manage() && graph.standing(author).may_write(),
        history: graph.has_history(&state),
        heads: graph.cite(author),
    })
}

pub(super) fn stored(tx: &Tx<'_>, id: &OperationId) -> Result<Option<VerifiedOperation>, StoreError> {
    let bytes = tx.operation_bytes(id)?;
    Ok(bytes.and_then(|(header, body)| VerifiedOperation::from_store(&header, &body).ok()))
}
