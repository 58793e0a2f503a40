//! Sessions whose next block has not come for long: they end, and the other device is asked to begin another.

use super::direct::BLOCK_WAIT_MS;
use super::state::State;
use super::upkeep::store_only;
use crate::entropy::Entropy;
use crate::identity::{Author, Millis};
use crate::limits::{MAX_DEVICES, MAX_SESSIONS};
use crate::ops::{Content, SessionId};
use crate::store::{StoreError, StuckSession, ThreadRow, Tx};
use crate::tree::Map;

impl State {
    /// Ends sessions that are stuck, of those with one device as many as are kept with it: whoever sends blocks of
    /// sessions that never were is not answered each of them. The rest is looked at the next time.
    pub(super) fn end_stuck_sessions(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
    ) -> Result<(), StoreError> {
        let mut told = Map::<Author, usize>::new();
        let mut unknown = Vec::new();
        // Those that this device has a state of come first.
        for stuck in tx.stuck_sessions(Millis(now.0.saturating_sub(BLOCK_WAIT_MS)))? {
            let Some(thread) = tx.thread_of_topic(&stuck.topic)? else { continue };
            match self.holders_of(tx, &thread, stuck.session)? {
                with if with.is_empty() => unknown.push((stuck, thread)),
                with => self.end_stuck(tx, now, entropy, (stuck, &with), &mut told)?,
            }
        }
        for (stuck, thread) in unknown {
            let mut with = tx.devices_of_person(&thread.peer)?;
            with.truncate(MAX_DEVICES);
            with.extend(tx.sisters(&self.identity(), &self.author())?.into_iter().take(MAX_DEVICES));
            self.end_stuck(tx, now, entropy, (stuck, &with), &mut told)?;
        }
        Ok(())
    }

    /// The devices of a thread with which this one has the session.
    fn holders_of(
        &self,
        tx: &Tx<'_>,
        thread: &ThreadRow,
        session: SessionId,
    ) -> Result<Vec<Author>, StoreError> {
        let mut with = Vec::new();
        for device in self.devices_of_thread(tx, &thread.peer)? {
            if tx.session(&device, session)?.is_some() {
                with.push(device);
            }
        }
        Ok(with)
    }

    fn end_stuck(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        (StuckSession { topic, session }, with): (StuckSession, &[Author]),
        told: &mut Map<Author, usize>,
    ) -> Result<(), StoreError> {
        if with.iter().any(|device| told.get(device).is_some_and(|count| *count >= MAX_SESSIONS)) {
            return Ok(());
        }
        for device in with {
            *told.entry(*device).or_default() += 1;
            tx.end_session(device, session, now)?;
            let renew = Content::DirectRenew { session };
            store_only(self.send_to_inbox(tx, now, entropy, *device, renew))?;
        }
        for _ in 0..tx.drop_waiting(topic, session)? {
            tx.count_dropped(topic, "direct-lost")?;
        }
        Ok(())
    }
}
