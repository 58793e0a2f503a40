//! Sending: from outbox rows to packets on fresh routes, and what becomes of them.

use bytes::Bytes;

use super::event::Event;
use super::io::{Handover, Output};
use super::jobs::{PostContent, PostJob};
use super::packets::Ready;
use super::refusal::{Blocked, Unreadable};
use super::state::{Sent, SentKind, State, Topic};
use crate::entropy::Entropy;
use crate::identity::Millis;
use crate::store::{StoreError, Tx};
use crate::sync::outbox::{AttemptId, Plan, Retries};
use crate::topic::TopicId;

/// How long an outbox waits that found no route, milliseconds.
const BLOCKED_RETRY_MS: u64 = 30_000;
/// Why rows are parked, as the store keeps it.
const PARKED_GONE: &str = "topic-gone";
/// How long an outbox waits after the random source failed, milliseconds.
const ENTROPY_RETRY_MS: u64 = 1_000;
/// Packets of a device on their way to an entry relay at once. On a slow uplink more would only wait for each other,
/// and each holds up to a mebibyte of memory.
pub const MAX_HANDOVERS: usize = 64;

impl State {
    /// Sends what the window of a topic allows; requeues what was lost; delivers again what a reset lost.
    pub(super) fn deliver(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.redeliver(tx, now, entropy, id)?;
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        let live = topic.is_live();
        // A clock that was put back must not stop blind retries for longer than ever meant.
        let blind = now.plus(super::state::BLIND_RETRY_MS);
        topic.blind_until = if live { blind } else { topic.blind_until.min(blind) };
        let lost = topic.outbox.handle_timeout(now, entropy);
        tx.outbox_requeue(&lost.rows)?;
        for attempt in &lost.attempts {
            self.attempts.remove(attempt);
        }
        // While the log cannot be read nothing is known to be lost.
        for path in lost.paths.iter().filter(|_| live) {
            self.routes.report_delivery(path, false, now);
        }
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        if topic.unreadable == Some(Unreadable::Gone) {
            // Every time: a packet that failed meanwhile has put its rows back in the queue.
            tx.outbox_park_topic(id, PARKED_GONE)?;
            topic.rows_parked = true;
            let blocked = (!topic.outbox.is_empty()).then_some(Blocked::Gone);
            self.show_blocked(now, id, blocked, staged);
            return Ok(());
        }
        if topic.closed.is_some() && !topic.outbox.is_empty() && self.is_stuck(id) {
            self.show_blocked(now, id, Some(Blocked::Closed), staged);
            return Ok(());
        }
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        if std::mem::take(&mut topic.rows_parked) {
            tx.outbox_unpark_topic(id)?;
        }
        if topic.blocked.is_some() && topic.blocked_until.is_some_and(|until| until > now) {
            return Ok(());
        }
        let blind = topic.keys.is_foreign_inbox() || topic.blind_until <= now;
        let may_retry = !topic.look.holds_retries() && (live || blind);
        let mut retries = if may_retry { Retries::Looked } else { Retries::None };
        let mut blocked = None;
        let alone = self.sends_v2();
        while let Some(topic) = self.topics.get_mut(&id) {
            let Some(mut plan) = topic.outbox.plan(now, retries) else {
                // Where nobody can look, sending again is safe, if not as quiet.
                let waits = retries == Retries::Looked && topic.outbox.wants_look(now);
                if waits && !self.wish_look(now, entropy, id) {
                    retries = Retries::All;
                    continue;
                }
                break;
            };
            if alone {
                plan.rows.truncate(1);
            }
            if self.attempts.len() >= MAX_HANDOVERS {
                if !std::mem::replace(&mut topic.waits_for_handover, true) {
                    self.handover_queue.push_back(id);
                }
                break;
            }
            match self.send(tx, now, entropy, id, &plan)? {
                Ok(job) => staged.push(Output::Post(job)),
                Err(reason) => {
                    blocked = Some(reason);
                    break;
                }
            }
        }
        self.show_blocked(now, id, blocked, staged);
        Ok(())
    }

    /// A packet's POST has ended. Taken says nothing about arrival.
    pub(super) fn posted(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        attempt: AttemptId,
        handover: Handover,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(Sent { kind, path }) = self.attempts.remove(&attempt) else { return Ok(()) };
        if let SentKind::Signal(topic) = kind {
            staged.push(Output::Event(Event::SignalSent { topic, taken: handover == Handover::Taken }));
        }
        // Without any topic live it may be this device that is offline: no reason to leave a guard. A relay that says
        // it is busy is there.
        match (handover, path.first()) {
            (Handover::Taken, Some(entry)) => self.routes.report_entry(*entry, true, now),
            (Handover::Failed | Handover::Unreached, Some(entry))
                if self.topics.values().any(Topic::is_live) =>
            {
                self.routes.report_entry(*entry, false, now);
            }
            // It is there; nobody knows who behind it is not.
            (Handover::Undelivered, Some(entry)) => {
                self.routes.report_entry(*entry, true, now);
                self.routes.report_delivery(&path, false, now);
            }
            _ => {}
        }
        let (SentKind::Outbox(id) | SentKind::Signal(id)) = kind else { return Ok(()) };
        self.touched.insert(id);
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        let retry_after_ms = match handover {
            Handover::Taken => {
                topic.outbox.taken(attempt, now);
                return Ok(());
            }
            Handover::Busy { retry_after_ms } => retry_after_ms,
            Handover::Failed | Handover::Undelivered => 0,
            Handover::Unreached => {
                return tx.outbox_requeue(&topic.outbox.unreached(attempt, now, entropy));
            }
        };
        tx.outbox_requeue(&topic.outbox.refused(attempt, now, retry_after_ms, entropy))
    }

    /// Marks the plan's rows as sent and makes the packet's job.
    fn send(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        plan: &Plan,
    ) -> Result<Result<PostJob, Blocked>, StoreError> {
        let Some(topic) = self.topics.get(&id) else { return Ok(Err(Blocked::NoNetwork)) };
        let used = topic.outbox.used(plan);
        let mut envelopes = Vec::with_capacity(plan.rows.len());
        for row in &plan.rows {
            envelopes.extend(tx.outbox_envelope(*row)?.map(Bytes::from));
        }
        let content = PostContent::Operations(envelopes);
        let Ready { job, path, delays_ms } = match self.packet(now, entropy, id, content, &used) {
            Ok(ready) => ready,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Some(topic) = self.topics.get_mut(&id) {
            let due = topic.outbox.sent(plan, job.attempt, &path, now, delays_ms, entropy);
            tx.outbox_sent(&plan.rows, plan.tries + 1, now, due)?;
            self.first_sent |= plan.tries == 0;
        }
        Ok(Ok(job))
    }

    fn show_blocked(&mut self, now: Millis, id: TopicId, blocked: Option<Blocked>, staged: &mut Vec<Output>) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        topic.blocked_until = match blocked {
            None | Some(Blocked::NoNetwork | Blocked::ReadOnly | Blocked::Gone | Blocked::Version2) => None,
            Some(Blocked::NotInVersion2 | Blocked::Closed) => None,
            Some(Blocked::Entropy) => Some(now.plus(ENTROPY_RETRY_MS)),
            Some(Blocked::Route(_) | Blocked::MixedVersions { .. } | Blocked::StaleRecords { .. }) => {
                Some(now.plus(BLOCKED_RETRY_MS))
            }
        };
        if topic.blocked != blocked {
            topic.blocked.clone_from(&blocked);
            staged.push(Output::Event(Event::Delivery { topic: id, blocked }));
        }
    }
}
