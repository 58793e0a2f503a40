//! Direct threads on all devices of a person (docs/wire.md, section 15): what one of them does is said where the person's
//! devices are among themselves, with the bundles of the other person's devices; each tells those its own keys, and which
//! devices of its person were revoked.

use super::direct::{thread_id, thread_ticket};
use super::event::Event;
use super::io::Output;
use super::refusal::CommandError;
use super::state::State;
use super::upkeep::store_only;
use crate::crypto::DeviceBundle;
use crate::entropy::Entropy;
use crate::identity::{Author, LogId, Millis, Revocation, ThreadId};
use crate::limits::{MAX_DEVICES, MAX_DIRECT_REQUESTS, MAX_TOLD_REVOCATIONS};
use crate::ops::{Action, Content, Hidden, OwnDevices, OwnThread, SignedBytes, Stage, ThreadPlace, Ticket};
use crate::projector::{Aggregate, Change};
use crate::store::{StoreError, ThreadRow, ThreadState, Tx};
use crate::topic::{TopicId, WriteKey};
use crate::tree::Arrange;

/// What the acceptance of a thread brings to its secret, the same on all devices of the person that was asked: two that
/// accept at once open the same thread.
pub fn accepted_share(own: &LogId, thread: &ThreadId) -> Hidden {
    let mut hasher = blake3::Hasher::new_derive_key("delta direct share v1");
    Hidden(*hasher.update(&own.0).update(&thread.0).finalize().as_bytes())
}

/// A later state does not give way to an earlier one.
const fn rank(state: ThreadState) -> u8 {
    match state {
        ThreadState::Asked | ThreadState::Requested => 0,
        ThreadState::Open => 1,
        ThreadState::Closed => 2,
    }
}

const fn ticket(place: &ThreadPlace) -> Ticket {
    Ticket::direct(place.log, WriteKey::from_seed(place.write.0))
}

pub(super) fn changed(thread: ThreadId) -> Change {
    Change::new(LogId(thread.0), Aggregate::DirectThread, vec![thread.0])
}

impl State {
    /// A thread has come so far on this device: the person's other ones are told with this batch.
    pub(super) fn share_thread(&mut self, thread: ThreadId) {
        self.own_news.threads.insert(thread);
        self.upkeep.bundles = true;
    }

    /// Says how far a thread is, unless a revoked device may listen: then it is said where the topic moves to.
    pub(super) fn say_thread(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        thread: ThreadId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(own) = self.own else { return Ok(()) };
        let Some(topic) = self.newest(&own) else { return Ok(()) };
        if self.is_overheard(tx, &own, topic)? {
            return Ok(());
        }
        let Some(row) = tx.direct_thread(&thread)? else { return Ok(()) };
        let Some(said) = Self::own_thread(tx, &row)? else { return Ok(()) };
        let content = Content::OwnDevices(Box::new(OwnDevices::Thread(Box::new(said))));
        if store_only(self.publish(tx, now, topic, content, staged))?.is_some() {
            tx.set_thread_said(&thread, Some((&topic, row.state)))?;
        }
        Ok(())
    }

    /// A thread as this device knows it.
    pub(super) fn own_thread(tx: &Tx<'_>, row: &ThreadRow) -> Result<Option<OwnThread>, StoreError> {
        let place = match row.topic.map(|topic| tx.topic(topic)).transpose()?.flatten() {
            Some(topic) => topic
                .ticket
                .keys()
                .write_key()
                .map(|key| ThreadPlace { log: topic.ticket.log(), write: Hidden(*key.seed()) }),
            None => None,
        };
        let stage = match (row.state, row.share.clone(), place) {
            (ThreadState::Asked, Some(share), _) => Stage::Asked(share),
            (ThreadState::Requested, Some(share), _) => Stage::Requested(share),
            (ThreadState::Open, _, Some(place)) => Stage::Open(place),
            (ThreadState::Closed, _, place) => Stage::Closed(place),
            _ => return Ok(None),
        };
        let bundles = bundles_of(tx, &tx.devices_of_person(&row.peer)?)?;
        let ThreadRow { thread, peer, made, ref text, .. } = *row;
        Ok(Some(OwnThread { thread, stage, peer, made, text: text.clone(), bundles }))
    }

    /// The newest bundles of this person's devices, for others.
    pub(super) fn own_bundles(&self, tx: &Tx<'_>) -> Result<Vec<SignedBytes>, StoreError> {
        bundles_of(tx, &tx.sisters(&self.identity(), &self.author())?)
    }

    /// Takes bundles that somebody else passes on: each is signed by its device, and says itself whose that is.
    pub(super) fn learn_bundles(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        bundles: &[SignedBytes],
    ) -> Result<(), StoreError> {
        for bundle in bundles {
            if let Ok(operation) = bundle.verify()
                && DeviceBundle::of(&operation).is_some_and(|it| it.bundle().verify(now).is_ok())
            {
                Self::learn(tx, &operation, now, &mut self.own_news)?;
            }
        }
        Ok(())
    }

    /// Takes what another device of the person has said of a thread, in a topic of theirs if there.
    pub(super) fn meet_thread(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        heard: Option<TopicId>,
        said: &OwnThread,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.learn_bundles(tx, now, &said.bundles)?;
        let known = tx.direct_thread(&said.thread)?;
        let before = known.as_ref().map(|row| (row.state, row.log));
        self.take_thread(tx, now, known, said)?;
        let Some(row) = tx.direct_thread(&said.thread)? else { return Ok(()) };
        let state = match said.stage {
            Stage::Asked(_) => ThreadState::Asked,
            Stage::Requested(_) => ThreadState::Requested,
            Stage::Open(_) => ThreadState::Open,
            Stage::Closed(_) => ThreadState::Closed,
        };
        if let Some(topic) = heard.filter(|_| row.state == state) {
            tx.set_thread_said(&row.thread, Some((&topic, state)))?;
        }
        if before != Some((row.state, row.log)) {
            self.upkeep.bundles = true;
            self.tell_of_thread(tx, row.thread, staged)?;
        }
        Ok(())
    }

    fn take_thread(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        known: Option<ThreadRow>,
        said: &OwnThread,
    ) -> Result<(), StoreError> {
        let fresh = |state, share: Option<&Hidden>| ThreadRow {
            thread: said.thread,
            peer: said.peer,
            state,
            text: said.text.clone(),
            log: None,
            topic: None,
            made: said.made,
            share: share.cloned(),
        };
        match (&said.stage, known) {
            (Stage::Asked(share), None) => tx.put_thread(&fresh(ThreadState::Asked, Some(share))),
            (Stage::Requested(share), None) => {
                let (_, of_all) = tx.open_requests(&said.peer)?;
                match of_all < MAX_DIRECT_REQUESTS.1 {
                    true => tx.put_thread(&fresh(ThreadState::Requested, Some(share))),
                    false => Ok(()),
                }
            }
            (Stage::Open(place), known) => {
                // Of two places (the other person's devices have answered two of ours differently) the lesser one stands.
                let moves = known.as_ref().is_none_or(|row| {
                    let lesser = row.log.is_none_or(|log| place.log < log);
                    rank(row.state) < 1 || (row.state == ThreadState::Open && lesser)
                });
                if moves && self.is_free_for(tx, now, place)? {
                    let row = known.unwrap_or_else(|| fresh(ThreadState::Open, None));
                    self.open_thread(tx, now, row, &ticket(place))?;
                }
                Ok(())
            }
            (Stage::Closed(place), known) => {
                let row = known.unwrap_or_else(|| fresh(ThreadState::Closed, None));
                // What was said there is to be found where the thread lived.
                let row = match place {
                    Some(place) if row.log.is_none() && self.is_free_for(tx, now, place)? => {
                        self.open_thread(tx, now, row, &ticket(place))?;
                        tx.direct_thread(&said.thread)?
                    }
                    _ => Some(row),
                };
                let Some(row) = row else { return Ok(()) };
                tx.put_thread(&ThreadRow { state: ThreadState::Closed, share: None, ..row })
            }
            (Stage::Asked(_) | Stage::Requested(_), Some(_)) => Ok(()),
        }
    }

    /// Whether a thread that is open on another device of the person finds no room here.
    pub(super) fn lacks_room(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        said: &OwnThread,
    ) -> Result<bool, StoreError> {
        let Stage::Open(place) = &said.stage else { return Ok(false) };
        let known = tx.direct_thread(&said.thread)?;
        Ok(known.is_none_or(|row| rank(row.state) < rank(ThreadState::Open))
            && !self.topics.contains_key(&ticket(place).topic())
            && self.is_full(tx, now)?)
    }

    /// Whether a thread can live there: neither its log nor its topic is something else's, and there is room.
    fn is_free_for(&mut self, tx: &Tx<'_>, now: Millis, place: &ThreadPlace) -> Result<bool, StoreError> {
        let ticket = ticket(place);
        let id = ticket.topic();
        self.yield_log_quietly(tx, now, &place.log)?;
        if let Some(topic) = self.topics.get(&id) {
            return Ok(topic.keys.is_direct() && topic.keys.log() == place.log);
        }
        Ok(self.newest(&place.log).is_none()
            && tx.belongs(&place.log)?.is_none()
            && !self.is_full(tx, now)?)
    }

    /// Where the app hears of what comes to this device and its person: where it hears of its inbox, if it has one.
    pub(super) fn heard_of_in(&self, tx: &Tx<'_>) -> Result<Option<TopicId>, StoreError> {
        let inbox = tx.inboxes()?.last().map(|row| row.topic);
        let topic = inbox.or_else(|| self.own.and_then(|own| self.newest(&own)));
        Ok(topic.map(|topic| self.known_as(topic)))
    }

    fn tell_of_thread(
        &self,
        tx: &Tx<'_>,
        thread: ThreadId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        if let Some(topic) = self.heard_of_in(tx)? {
            staged.push(Output::Event(Event::Changed { topic, changes: vec![changed(thread)] }));
        }
        Ok(())
    }

    /// Where a thread lives that one of this person's devices has asked for; `None`: none of them has.
    pub(super) fn answered_ticket(
        &self,
        tx: &Tx<'_>,
        thread: &ThreadId,
        (asked, accepted): (&Hidden, &Hidden),
        accepter: &Author,
    ) -> Result<Option<Ticket>, StoreError> {
        // A device that was revoked meanwhile may have asked.
        let ours = tx.devices_of(&self.identity())?;
        let ours = ours.into_iter().chain([Author(self.identity().0), self.author()]);
        let requester = ours.into_iter().find(|device| thread_id(asked, device) == *thread);
        Ok(requester.map(|requester| thread_ticket(asked, accepted, &requester, accepter)))
    }

    /// Tells another person's device with which keys this one is answered, and which of this person's it is to trust no
    /// more; unless it knows.
    pub(super) fn introduce_to(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        to: Author,
    ) -> Result<(), CommandError> {
        self.tell_keys(tx, now, entropy, to)?;
        let told = tx.told_revocations(&to)?;
        let mut revocations = tx.revocations()?;
        revocations.retain(|it| it.identity == self.identity() && !told.contains(&it.device));
        revocations.arrange_by_key(|it| std::cmp::Reverse(it.revoked));
        let left = MAX_TOLD_REVOCATIONS.saturating_sub(told.len());
        for revocation in revocations.into_iter().take(left) {
            let content = Content::Membership(Box::new(Action::DeviceRevoke { revocation }));
            self.send_to_inbox(tx, now, entropy, to, content)?;
            tx.revocation_told(&to, &revocation.device)?;
        }
        Ok(())
    }

    /// Introduces this device to those that it has direct threads with.
    pub(super) fn introduce_to_peers(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
    ) -> Result<(), StoreError> {
        let mut devices = Vec::new();
        for row in tx.direct_threads()? {
            if matches!(row.state, ThreadState::Asked | ThreadState::Open) {
                devices.extend(self.reachable_devices(tx, &row.peer)?);
            }
        }
        devices.sort_unstable();
        devices.dedup();
        for device in devices {
            store_only(self.introduce_to(tx, now, entropy, device))?;
        }
        Ok(())
    }

    /// What an identity says of a device of its own, by inbox: it holds, whoever passes it on.
    pub(super) fn take_peer_revocation(
        tx: &Tx<'_>,
        now: Millis,
        revocation: &Revocation,
    ) -> Result<(), StoreError> {
        if revocation.verify().is_ok() {
            tx.put_peer_revocation(revocation)?;
            if tx.identity_of(&revocation.device)? == revocation.identity {
                tx.end_sessions_with(&revocation.device, now)?;
            }
        }
        Ok(())
    }
}

fn bundles_of(tx: &Tx<'_>, devices: &[Author]) -> Result<Vec<SignedBytes>, StoreError> {
    let mut bundles = Vec::new();
    for device in devices {
        bundles.extend(tx.bundle_operation(device)?);
    }
    bundles.truncate(MAX_DEVICES);
    Ok(bundles)
}
