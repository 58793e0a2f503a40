//! A listener of one topic: a bounded queue that the engine's thread fills and never waits for.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use delta_core::engine::{EngineError, Event};
use delta_core::projector::Change;
use delta_core::topic::TopicId;
use futures_util::Stream;
use tokio::time::Sleep;

use crate::driver::Inbox;
use crate::platform::instant;

/// Events that wait for a listener; beyond it the oldest are dropped and counted.
pub const MAX_WAITING_EVENTS: usize = 1024;
/// Rows named by one merged event; beyond it the listener is told that it lags and queries its pages again.
pub const MAX_MERGED_CHANGES: usize = 4096;

/// What a listener is told.
#[derive(Clone, Debug)]
pub enum Update {
    /// News of the topic. What it names is already durable.
    Event(Event),
    /// The listener was too slow and `dropped` events are lost to it: query again what is shown.
    Lagged {
        /// How many events.
        dropped: u64,
    },
    /// The device's database takes no changes (its disk is full, say), or does again (`None`). Nothing that was
    /// acknowledged or reported is lost; receiving and sending go on once the cause is gone.
    Storage(Option<EngineError>),
}

/// A live subscription; dropping it ends it. An async stream of [`Update`]s that ends when the client is closed.
///
/// Change events are coalesced: the first comes at once, those of the following 50 ms (see
/// [`Config::coalesce`](crate::Config)) as one. All other events come one by one.
#[derive(Debug)]
pub struct Subscription {
    topic: TopicId,
    listener: Arc<Listener>,
    driver: Inbox,
    sleep: Pin<Box<Sleep>>,
}

impl Subscription {
    pub(crate) fn new(topic: TopicId, listener: Arc<Listener>, driver: Inbox) -> Self {
        Self { topic, listener, driver, sleep: Box::pin(tokio::time::sleep(Duration::ZERO)) }
    }

    /// The topic.
    pub const fn topic(&self) -> TopicId {
        self.topic
    }

    /// The next update; `None` once the client is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Update> {
        std::future::poll_fn(|cx| self.poll_update(cx)).await
    }

    /// An update that is already there.
    pub fn try_next(&mut self) -> Option<Update> {
        match self.listener.take(instant(), None) {
            Taken::Update(update) => Some(update),
            Taken::Later(_) | Taken::Nothing | Taken::End => None,
        }
    }

    fn poll_update(&mut self, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        loop {
            match self.listener.take(instant(), Some(cx.waker())) {
                Taken::Update(update) => return Poll::Ready(Some(update)),
                Taken::End => return Poll::Ready(None),
                Taken::Nothing => return Poll::Pending,
                Taken::Later(at) => {
                    self.sleep.as_mut().reset(at.into());
                    ready!(self.sleep.as_mut().poll(cx));
                }
            }
        }
    }
}

impl Stream for Subscription {
    type Item = Update;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        self.poll_update(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.driver.unlisten(self.topic, &self.listener);
    }
}

/// The queue between the engine's thread and one [`Subscription`].
#[derive(Debug)]
pub(crate) struct Listener {
    topic: TopicId,
    /// How long changes are merged after one was passed on.
    window: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Event>,
    /// Changes that wait for the window to end.
    merged: Vec<Change>,
    merged_ids: usize,
    /// Until when changes are merged.
    merge_until: Option<Instant>,
    dropped: u64,
    /// News of the database that nobody has taken yet.
    storage: Option<Option<EngineError>>,
    closed: bool,
    waker: Option<Waker>,
}

enum Taken {
    Update(Update),
    /// Something will be there at this instant.
    Later(Instant),
    Nothing,
    End,
}

impl Listener {
    pub(crate) fn new(topic: TopicId, window: Duration) -> Arc<Self> {
        Arc::new(Self { topic, window, state: Mutex::default() })
    }

    pub(crate) const fn topic(&self) -> TopicId {
        self.topic
    }

    /// Adds an event. Never waits.
    pub(crate) fn push(&self, event: Event, now: Instant) {
        let waker = {
            let mut state = self.lock();
            match event {
                Event::Changed { changes, .. } if state.merges_at(now) => state.merge(changes),
                event => {
                    if matches!(event, Event::Changed { .. }) {
                        state.merge_until = Some(now + self.window);
                    }
                    state.enqueue(event);
                }
            }
            state.waker.take()
        };
        wake(waker);
    }

    /// Tells how the database is; only the newest counts.
    pub(crate) fn storage(&self, failing: Option<EngineError>) {
        let waker = {
            let mut state = self.lock();
            state.storage = Some(failing);
            state.waker.take()
        };
        wake(waker);
    }

    /// Ends the subscription once what waits has been taken.
    pub(crate) fn close(&self) {
        let waker = {
            let mut state = self.lock();
            state.closed = true;
            state.waker.take()
        };
        wake(waker);
    }

    fn take(&self, now: Instant, waker: Option<&Waker>) -> Taken {
        let mut state = self.lock();
        if state.dropped > 0 {
            let dropped = std::mem::take(&mut state.dropped);
            return Taken::Update(Update::Lagged { dropped });
        }
        if let Some(failing) = state.storage.take() {
            return Taken::Update(Update::Storage(failing));
        }
        if let Some(event) = state.waiting.pop_front() {
            return Taken::Update(Update::Event(event));
        }
        let due = state.closed || state.merge_until.is_none_or(|until| until <= now);
        if !state.merged.is_empty() && due {
            state.merge_until = Some(now + self.window);
            let changes = Change::merge(std::mem::take(&mut state.merged));
            state.merged_ids = 0;
            return Taken::Update(Update::Event(Event::Changed { topic: self.topic, changes }));
        }
        if state.closed {
            return Taken::End;
        }
        if let Some(waker) = waker {
            state.waker = Some(waker.clone());
        }
        match state.merge_until {
            Some(until) if !state.merged.is_empty() => Taken::Later(until),
            _ => Taken::Nothing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a change that comes now waits for others.
    fn merges_at(&self, now: Instant) -> bool {
        !self.merged.is_empty() || self.merge_until.is_some_and(|until| now < until)
    }

    fn enqueue(&mut self, event: Event) {
        if self.waiting.len() == MAX_WAITING_EVENTS {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        self.waiting.push_back(event);
    }

    fn merge(&mut self, changes: Vec<Change>) {
        self.merged_ids += changes.iter().map(|change| change.ids.len()).sum::<usize>();
        self.merged.extend(changes);
        if self.merged_ids > MAX_MERGED_CHANGES {
            self.merged = Vec::new();
            self.merged_ids = 0;
            self.dropped += 1;
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use delta_core::identity::{LogId, OperationId};
    use delta_core::projector::Aggregate;
    use delta_core::store::StoreError;
    use delta_core::topic::Seq;

    use super::*;

    const TOPIC: TopicId = TopicId([1; 32]);
    const WINDOW: Duration = Duration::from_millis(50);

    fn changed(ids: impl IntoIterator<Item = u32>) -> Event {
        let id = |number: u32| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            id
        };
        let ids = ids.into_iter().map(id).collect();
        Event::Changed { topic: TOPIC, changes: vec![Change::new(LogId([2; 32]), Aggregate::Message, ids)] }
    }

    fn acknowledged(seq: u64) -> Event {
        Event::Acknowledged { topic: TOPIC, operation: OperationId([3; 32]), seq: Seq(seq) }
    }

    fn ids(taken: Taken) -> Vec<usize> {
        match taken {
            Taken::Update(Update::Event(Event::Changed { changes, .. })) => {
                changes.iter().map(|change| change.ids.len()).collect()
            }
            _ => panic!("no change"),
        }
    }

    #[test]
    fn how_the_database_is_comes_first_and_only_the_newest_counts() {
        let listener = Listener::new(TOPIC, WINDOW);
        let now = instant();
        listener.push(acknowledged(1), now);
        let full = EngineError::from(StoreError::DiskFull { path: "device.db".into() });
        listener.storage(Some(full.clone()));
        assert!(matches!(listener.take(now, None), Taken::Update(Update::Storage(Some(_)))));
        assert!(matches!(listener.take(now, None), Taken::Update(Update::Event(_))));
        listener.storage(Some(full));
        listener.storage(None);
        assert!(matches!(listener.take(now, None), Taken::Update(Update::Storage(None))));
        assert!(matches!(listener.take(now, None), Taken::Nothing));
    }

    #[test]
    fn the_first_change_comes_at_once_and_those_of_the_window_as_one() {
        let (listener, start) = (Listener::new(TOPIC, WINDOW), instant());
        listener.push(changed([1]), start);
        assert_eq!(ids(listener.take(start, None)), [1]);
        let during = start + WINDOW / 2;
        listener.push(changed([2]), during);
        listener.push(changed([3, 2]), during);
        listener.push(acknowledged(1), during);
        let at_once = listener.take(during, None);
        assert!(matches!(at_once, Taken::Update(Update::Event(Event::Acknowledged { .. }))));
        assert!(matches!(listener.take(during, None), Taken::Later(at) if at == start + WINDOW));
        assert_eq!(ids(listener.take(start + WINDOW, None)), [2]);
        assert!(matches!(listener.take(start + WINDOW, None), Taken::Nothing));
    }

    #[test]
    fn a_change_after_the_window_does_not_overtake_what_was_merged() {
        let (listener, start) = (Listener::new(TOPIC, WINDOW), instant());
        listener.push(changed([1]), start);
        assert_eq!(ids(listener.take(start, None)), [1]);
        listener.push(changed([2]), start + WINDOW / 2);
        listener.push(changed([3]), start + WINDOW * 2);
        assert_eq!(ids(listener.take(start + WINDOW * 2, None)), [2]);
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_says_how_many() {
        let (listener, now) = (Listener::new(TOPIC, WINDOW), instant());
        for seq in 1..=MAX_WAITING_EVENTS as u64 {
            listener.push(acknowledged(seq), now);
        }
        let state = listener.lock().dropped;
        assert_eq!(state, 0);
        listener.push(acknowledged(0), now);
        assert!(matches!(listener.take(now, None), Taken::Update(Update::Lagged { dropped: 1 })));
        let next = listener.take(now, None);
        assert!(matches!(next, Taken::Update(Update::Event(Event::Acknowledged { seq: Seq(2), .. }))));
    }

    #[test]
    fn merged_changes_have_a_limit() {
        let (listener, now) = (Listener::new(TOPIC, WINDOW), instant());
        listener.push(changed([0]), now);
        assert_eq!(ids(listener.take(now, None)), [1]);
        listener.push(changed(0..MAX_MERGED_CHANGES as u32), now);
        assert!(matches!(listener.take(now, None), Taken::Later(_)));
        listener.push(changed([0]), now);
        assert!(matches!(listener.take(now, None), Taken::Update(Update::Lagged { dropped: 1 })));
        assert!(matches!(listener.take(now + WINDOW, None), Taken::Nothing));
    }

    #[test]
    fn a_closed_listener_gives_what_waits_and_ends() {
        let (listener, now) = (Listener::new(TOPIC, WINDOW), instant());
        listener.push(changed([1]), now);
        listener.push(changed([2]), now);
        listener.close();
        assert_eq!(ids(listener.take(now, None)), [1]);
        assert_eq!(ids(listener.take(now, None)), [1]);
        assert!(matches!(listener.take(now, None), Taken::End));
    }
}
