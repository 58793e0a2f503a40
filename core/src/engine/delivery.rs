//! Sending: from outbox rows to packets on fresh routes, and what becomes of them.

use bytes::Bytes;
use zeroize::Zeroizing;

use super::io::{Blocked, Event, Handover, Output, Unreadable};
use super::jobs::{PostContent, PostJob};
use super::state::{Sent, State, Topic};
use crate::entropy::Entropy;
use crate::identity::Millis;
use crate::limits::MAX_CONTROL;
use crate::onion::route::RouteRequest;
use crate::onion::{PacketClass, deliver};
use crate::store::{StoreError, Tx};
use crate::sync::outbox::{AttemptId, Path, Plan};
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
        if live {
            topic.blind_until = now.plus(super::state::BLIND_RETRY_MS);
        }
        let lost = topic.outbox.handle_timeout(now, entropy);
        tx.outbox_requeue(&lost.rows)?;
        for attempt in &lost.attempts {
            self.attempts.remove(attempt);
        }
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        // While the log cannot be read nothing is known to be lost.
        for path in lost.paths.iter().filter(|_| live) {
            self.routes.report_delivery(path, false, now);
        }
        if topic.unreadable == Some(Unreadable::Gone) {
            // Every time: a packet that failed meanwhile has put its rows back in the queue.
            tx.outbox_park_topic(id, PARKED_GONE)?;
            topic.rows_parked = true;
            let blocked = (!topic.outbox.is_empty()).then_some(Blocked::Gone);
            self.show_blocked(now, id, blocked, staged);
            return Ok(());
        }
        if std::mem::take(&mut topic.rows_parked) {
            tx.outbox_unpark_topic(id)?;
        }
        if topic.blocked.is_some() && topic.blocked_until.is_some_and(|until| until > now) {
            return Ok(());
        }
        let may_retry = live || topic.blind_until <= now;
        let mut blocked = None;
        while let Some(topic) = self.topics.get_mut(&id)
            && let Some(plan) = topic.outbox.plan(now, may_retry)
        {
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
        let Some(Sent { topic: id, entry, is_signal }) = self.attempts.remove(&attempt) else {
            return Ok(());
        };
        self.touched.insert(id);
        if is_signal {
            staged.push(Output::Event(Event::SignalSent { topic: id, taken: handover == Handover::Taken }));
        }
        // Without any topic live it may be this device that is offline: no reason to leave a guard. A relay that says
        // it is busy is there.
        match handover {
            Handover::Taken => self.routes.report_entry(entry, true, now),
            Handover::Failed if self.topics.values().any(Topic::is_live) => {
                self.routes.report_entry(entry, false, now);
            }
            Handover::Failed | Handover::Busy { .. } => {}
        }
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        let retry_after_ms = match handover {
            Handover::Taken => {
                topic.outbox.taken(attempt, now);
                return Ok(());
            }
            Handover::Busy { retry_after_ms } => retry_after_ms,
            Handover::Failed => 0,
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
        let (job, path) = match self.packet(now, entropy, id, PostContent::Operations(envelopes), &used) {
            Ok(made) => made,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Some(topic) = self.topics.get_mut(&id) {
            let due = topic.outbox.sent(plan, job.attempt, &path, now, 0, entropy);
            tx.outbox_sent(&plan.rows, plan.tries + 1, now, due)?;
            self.first_sent |= plan.tries == 0;
        }
        Ok(Ok(job))
    }

    /// A packet over a fresh route, and the route.
    pub(super) fn packet(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        content: PostContent,
        used: &[Path],
    ) -> Result<(PostJob, Path), Blocked> {
        let Some(network) = &self.network else { return Err(Blocked::NoNetwork) };
        let Some(topic) = self.topics.get(&id) else { return Err(Blocked::NoNetwork) };
        let Some(key) = topic.keys.write_key().cloned() else { return Err(Blocked::ReadOnly) };
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed).map_err(|_| Blocked::Entropy)?;
        let (server, relays) = (&network.server, network.relays);
        let request = RouteRequest { server, relays, class: class_of(&content), avoid: &[], now };
        let route = self.routes.pick(&network.directory, &request, used, entropy).map_err(Blocked::from)?;
        let Some(first) = route.relays.first() else { return Err(Blocked::NoNetwork) };
        let (entry, url, hops) = (first.id, first.packet_url(), route.hops().into());
        let path = route.relays.iter().map(|relay| relay.id).collect();
        let attempt = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        let is_signal = matches!(content, PostContent::Signal(_));
        self.attempts.insert(attempt, Sent { topic: id, entry, is_signal });
        Ok((PostJob { attempt, entry, url, hops, key, content, seed }, path))
    }

    fn show_blocked(&mut self, now: Millis, id: TopicId, blocked: Option<Blocked>, staged: &mut Vec<Output>) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        topic.blocked_until = match blocked {
            None | Some(Blocked::NoNetwork | Blocked::ReadOnly | Blocked::Gone) => None,
            Some(Blocked::Entropy) => Some(now.plus(ENTROPY_RETRY_MS)),
            Some(Blocked::Route(_)) => Some(now.plus(BLOCKED_RETRY_MS)),
        };
        if topic.blocked != blocked {
            topic.blocked.clone_from(&blocked);
            staged.push(Output::Event(Event::Delivery { topic: id, blocked }));
        }
    }
}

/// The class of the packet that carries this.
fn class_of(content: &PostContent) -> PacketClass {
    let payload = match content {
        PostContent::Operations(envelopes) => {
            let items: usize =
                envelopes.iter().map(|envelope| deliver::LIST_ITEM_OVERHEAD + envelope.len()).sum();
            if envelopes.len() == 1 { items - deliver::LIST_ITEM_OVERHEAD } else { items }
        }
        PostContent::Signal(envelope) => envelope.len(),
        PostContent::Control(_) => MAX_CONTROL,
    };
    PacketClass::for_content(deliver::OVERHEAD + payload).unwrap_or(PacketClass::LARGEST)
}
