//! What a device does by itself so that others can reach it: its key bundle is renewed, said wherever it was said before,
//! and what has expired is forgotten.

use super::io::{Output, Reply};
use super::refusal::CommandError;
use super::spaces::random;
use super::state::{State, Topic};
use crate::crypto::{DeviceSecrets, GroupCrypto, PREKEY_GRACE_MS, PREKEY_LIFETIME_MS, TwoParty};
use crate::entropy::Entropy;
use crate::identity::{Author, LogId, Millis};
use crate::limits::MAX_INBOXES;
use crate::ops::{Content, KeyBundle, Ticket, inbox_log};
use crate::store::{InboxRow, Store, StoreError, Tx};
use crate::topic::{TopicId, WriteKey};
use crate::tree::Set;

/// How often a device looks whether its keys are to be renewed, milliseconds: daily.
pub const KEY_CHECK_MS: u64 = 24 * 3_600_000;
/// How long an inbox is read, milliseconds: as long as the bundle is good that names it, and what was sealed to that.
pub const INBOX_LIFETIME_MS: u64 = PREKEY_LIFETIME_MS + PREKEY_GRACE_MS;

/// What is to be done by itself.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// When to look at this device's keys.
    pub(super) check_at: Option<Millis>,
    /// There may be a log in which the bundle is to be said.
    pub(super) bundles: bool,
    /// There may be a claim, or a leaving, that can be sent now.
    pub(super) claims: bool,
    /// When to say again what was said by inbox and nobody has answered.
    pub(super) repeat_at: Option<Millis>,
    /// Something may be kept that had no room.
    pub(super) held: bool,
    /// Spaces where this device's leaving may wait in a topic that it may not write in.
    pub(super) leaves: Set<LogId>,
    /// When to look for topics that ended long enough ago.
    pub(super) retire_at: Millis,
}

impl State {
    /// At start: this device's inboxes are read without being asked for, and its keys looked at.
    pub(super) fn load_inboxes(&mut self, store: &Store, now: Millis) -> Result<(), StoreError> {
        let mut known_as = None;
        for row in store.inboxes()? {
            let Some(topic) = self.topics.get_mut(&row.topic) else { continue };
            topic.keys = topic.keys.own_inbox(&self.device);
            topic.subscribed = true;
            topic.known_as = *known_as.get_or_insert(row.topic);
        }
        let has_keys = store.device_secrets()?.is_some();
        let mut leaves = Set::new();
        for row in store.spaces()? {
            let asked = store.leave_requests(&row.space)?;
            if !asked.iter().any(|(_, author)| *author == self.author()) {
                leaves.insert(row.space);
            }
        }
        self.upkeep = Upkeep {
            check_at: has_keys.then_some(now),
            bundles: has_keys,
            claims: has_keys,
            repeat_at: has_keys.then_some(now),
            held: true,
            leaves,
            retire_at: now,
        };
        Ok(())
    }

    /// Does what is due.
    pub(super) fn keep_up(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.keep_retired(tx, now)?;
        if self.upkeep.check_at.is_some_and(|at| at <= now) {
            self.check_keys(tx, now, entropy, staged)?;
        }
        if self.upkeep.repeat_at.is_some_and(|at| at <= now) {
            self.repeat_unanswered(tx, now, entropy)?;
        }
        if std::mem::take(&mut self.upkeep.bundles) {
            self.say_bundles(tx, now, entropy, staged)?;
        }
        if std::mem::take(&mut self.upkeep.claims) {
            self.send_claims(tx, now, entropy)?;
            self.ask_for_leaves(tx, now, entropy)?;
        }
        Ok(())
    }

    fn check_keys(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.upkeep.check_at = None;
        let Some(secrets) = Self::fresh_secrets(tx, now)? else { return Ok(()) };
        self.upkeep.check_at = Some(now.plus(KEY_CHECK_MS));
        if secrets.wants_rotation(now) {
            let again = self.renew_secrets(now, entropy, None, Some(secrets), staged);
            self.upkeep.check_at = again.or(self.upkeep.check_at);
        }
        self.close_old_inboxes(tx, now, staged)?;
        tx.forget_ended_sessions(Millis(now.0.saturating_sub(INBOX_LIFETIME_MS)))?;
        self.end_stuck_sessions(tx, now, entropy)
    }

    /// Opens this device's inbox, with the secrets given if it has none yet. Again is harmless.
    pub(super) fn open_inbox(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        secrets: Option<&DeviceSecrets>,
    ) -> Result<Reply, CommandError> {
        match (tx.device_secrets()?, secrets) {
            (Some(_), _) => {}
            (None, Some(secrets)) => self.keep_secrets(tx, now, secrets)?,
            (None, None) => return Err(CommandError::NoKey),
        }
        let first = tx.inboxes()?.first().map(|row| row.topic);
        let inbox = match first {
            Some(inbox) => inbox,
            None => self.add_inbox(tx, now, entropy)?,
        };
        self.upkeep.bundles = true;
        self.keeping.hurry_all(now);
        Ok(Reply::Topic(self.known_as(inbox)))
    }

    /// Takes fresh secrets, and opens a fresh inbox with them; both are said wherever the old ones were.
    pub(super) fn renew_keys(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        secrets: &DeviceSecrets,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        // Others may have come in between: those stay.
        if store_only(self.keep_secrets(tx, now, secrets))?.is_some() && !tx.inboxes()?.is_empty() {
            store_only(self.add_inbox(tx, now, entropy))?;
            self.close_old_inboxes(tx, now, staged)?;
        }
        self.upkeep.bundles = true;
        Ok(())
    }

    /// This device's X25519 secrets, without those that open nothing any more.
    pub(super) fn fresh_secrets(tx: &Tx<'_>, now: Millis) -> Result<Option<DeviceSecrets>, StoreError> {
        let Some(secrets) = tx.device_secrets()? else { return Ok(None) };
        let Some(kept) = secrets.forget_expired(now) else { return Ok(Some(secrets)) };
        if let Ok(bytes) = kept.to_bytes() {
            tx.put_device_secrets(&bytes)?;
        }
        Ok(Some(kept))
    }

    /// Keeps secrets that were made from those at hand.
    pub(super) fn keep_secrets(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        secrets: &DeviceSecrets,
    ) -> Result<(), CommandError> {
        if tx.device_secrets()?.is_some_and(|stored| !secrets.continues(&stored)) {
            return Err(CommandError::StaleKeys);
        }
        tx.put_device_secrets(&secrets.to_bytes()?)?;
        self.upkeep.check_at = Some(now.plus(KEY_CHECK_MS));
        Ok(())
    }

    fn add_inbox(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
    ) -> Result<TopicId, CommandError> {
        if self.is_full(tx, now)? {
            return Err(CommandError::TooManyTopics);
        }
        let ticket = Ticket::inbox(WriteKey::from_seed(*random(entropy)?));
        let id = ticket.topic();
        let others = tx.inboxes()?;
        // The newest stays the newest, also under a clock that went back.
        let made = others.last().map_or(now, |newest| now.max(newest.made.plus(1)));
        tx.put_topic(&ticket, now)?;
        tx.put_inbox(&InboxRow { topic: id, made, until: now.plus(INBOX_LIFETIME_MS) })?;
        // Who was told the keys is told of the inbox, too.
        tx.outdate_bundle_logs()?;
        let mut topic = Topic::new(ticket.keys().own_inbox(&self.device), None, now);
        topic.subscribed = true;
        topic.known_as = others.first().map_or(id, |first| self.known_as(first.topic));
        self.insert_topic(id, topic);
        self.touched.insert(id);
        Ok(id)
    }

    /// Inboxes that nobody writes to any more are not read any more. The two newest stay whatever the clock says.
    fn close_old_inboxes(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let inboxes = tx.inboxes()?;
        let older = inboxes.len().saturating_sub(2);
        let surplus = inboxes.len().saturating_sub(MAX_INBOXES);
        for (index, row) in inboxes.iter().take(older).enumerate() {
            if index < surplus || row.until <= now {
                self.drop_topic(tx, now, row.topic, staged)?;
            }
        }
        Ok(())
    }

    /// This device's bundle, with its newest inbox.
    pub(super) fn own_bundle(&self, tx: &Tx<'_>, secrets: &DeviceSecrets) -> Result<KeyBundle, CommandError> {
        let bundle = TwoParty.bundle(secrets)?;
        let newest = tx.inboxes()?.last().and_then(|row| self.topics.get(&row.topic));
        let inbox = newest.and_then(|topic| topic.keys.write_key()).map(|key| *key.seed());
        Ok(KeyBundle { inbox, ..bundle })
    }

    /// Says the bundle where an older one was said, in inboxes and in logs that are no space's: spaces and the
    /// topic of the person's devices are looked after elsewhere.
    fn say_bundles(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(secrets) = tx.device_secrets()? else { return Ok(()) };
        let expires = secrets.expires();
        let Ok(bundle) = self.own_bundle(tx, &secrets) else { return Ok(()) };
        for log in tx.stale_bundle_logs(expires)? {
            let Ok(topic) = self.topic_of(log) else { continue };
            if tx.belongs(&log)?.is_some() || self.own == Some(log) {
                continue;
            }
            let content = Content::DeviceBundle(bundle);
            if store_only(self.publish(tx, now, topic, content, staged))?.is_some() {
                tx.put_bundle_log(&log, expires)?;
            }
        }
        self.introduce_to_peers(tx, now, entropy)
    }

    /// Tells a device, in its inbox, with which keys this one is answered, unless it knows.
    pub(super) fn tell_keys(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        to: Author,
    ) -> Result<(), CommandError> {
        let log = inbox_log(&self.author(), &to);
        let secrets = tx.device_secrets()?.ok_or(CommandError::NoInbox)?;
        if tx.bundle_log(&log)? == Some(secrets.expires()) {
            return Ok(());
        }
        let bundle = self.own_bundle(tx, &secrets)?;
        self.send_to_inbox(tx, now, entropy, to, Content::DeviceBundle(bundle))?;
        Ok(tx.put_bundle_log(&log, secrets.expires())?)
    }
}

/// The batch fails for the database alone. `None`: it could not be done now.
pub(super) fn store_only<T>(result: Result<T, CommandError>) -> Result<Option<T>, StoreError> {
    match result {
        Ok(done) => Ok(Some(done)),
        // It was just made, so nobody else holds it.
        Err(CommandError::Store(error)) => std::sync::Arc::try_unwrap(error).map_or(Ok(None), Err),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;
    use crate::ops::DeviceKey;
    use crate::store::Durability;

    fn topics(tx: &Tx<'_>) -> Vec<TopicId> {
        tx.inboxes().unwrap().into_iter().map(|row| row.topic).collect()
    }

    #[test]
    fn so_many_inboxes_are_read_the_newest_and_no_more() {
        let mut store = Store::in_memory().unwrap();
        let mut state = State::load(&mut store, DeviceKey::from_bytes(&[1; 32]), Millis(1)).unwrap();
        let tx = store.begin(Durability::Full).unwrap();
        let (mut entropy, mut made) = (SeededEntropy::new([1; 32]), Vec::new());
        let mut renew = |state: &mut State, at: u64| {
            made.push(state.add_inbox(&tx, Millis(at), &mut entropy).unwrap());
            state.close_old_inboxes(&tx, Millis(at), &mut Vec::new()).unwrap();
            made.clone()
        };
        for at in 1..MAX_INBOXES as u64 {
            renew(&mut state, at);
        }
        let made = [renew(&mut state, 10), renew(&mut state, 11)];
        assert_eq!(made[0].len(), MAX_INBOXES);
        assert_eq!(topics(&tx), made[1][1..], "at the limit all are read, one past it the oldest is not");
        assert!(!state.topics.contains_key(&made[1][0]));
        // When their time is over the two newest stay all the same.
        state.close_old_inboxes(&tx, Millis(12 + INBOX_LIFETIME_MS), &mut Vec::new()).unwrap();
        assert_eq!(topics(&tx), made[1][MAX_INBOXES - 1..]);
    }
}
