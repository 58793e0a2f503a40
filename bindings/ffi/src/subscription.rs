//! Subscriptions: news pushed to a listener, or fetched.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use delta_core::topic::TopicId;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, JoinHandle};

use crate::error::{DeltaError, ListenerError};
use crate::event::Event;
use crate::runtime::Caller;

/// Events fetched from the client and not taken by the app yet; what comes meanwhile waits, merged and bounded, there.
const MAX_FETCHED: usize = 256;

/// Hears of a topic. Called on one thread for all listeners of an object: it should be quick, and may call Delta. What
/// it throws is logged and stops nothing.
#[uniffi::export(foreign)]
pub trait EventListener: Send + Sync {
    /// Something happened.
    fn on_event(&self, event: Event) -> Result<(), ListenerError>;
}

/// A live subscription. It ends with [`Subscription::cancel`], when nobody holds it any more, or when the object is
/// closed.
#[derive(Debug, uniffi::Object)]
pub struct Subscription {
    topic: TopicId,
    runtime: Handle,
    task: AbortHandle,
    /// `None` with a listener.
    queue: Option<Arc<Queue>>,
}

#[uniffi::export]
impl Subscription {
    /// The topic.
    pub fn topic(&self) -> TopicId {
        self.topic
    }

    /// Ends it. An event that is just being handed over may still arrive. Again is harmless.
    pub fn cancel(&self) {
        self.task.abort();
        if let Some(queue) = &self.queue {
            queue.end();
        }
    }

    /// The next events, at most `max`, oldest first. Waits for the first until `deadline` (from now); an empty list
    /// means that nothing happened. For a subscription without a listener. A call that is cancelled loses no event.
    pub async fn next_events(&self, max: u32, deadline: Duration) -> Result<Vec<Event>, DeltaError> {
        let Some(queue) = &self.queue else {
            return Err(DeltaError::argument("listened", "this subscription's events go to its listener"));
        };
        let waiting = Arc::clone(queue);
        let ready = async move { waiting.until(|| waiting.is_ready()).await };
        wait(&self.runtime, deadline, ready).await;
        Ok(queue.take(max as usize))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Subscription {
    /// Hands events to the listener, one after the other.
    pub(crate) fn pushed(
        runtime: &Handle,
        subscription: delta_client::Subscription,
        listener: Arc<dyn EventListener>,
        caller: Caller,
    ) -> Self {
        let topic = subscription.topic();
        let task = begun(runtime, push(subscription, listener, caller)).abort_handle();
        Self { topic, runtime: runtime.clone(), task, queue: None }
    }

    /// Keeps events until they are asked for.
    pub(crate) fn fetched(
        runtime: &Handle,
        subscription: delta_client::Subscription,
        queues: &Queues,
    ) -> Self {
        let topic = subscription.topic();
        let queue = queues.add();
        let task = begun(runtime, fetch(subscription, Arc::clone(&queue))).abort_handle();
        Self { topic, runtime: runtime.clone(), task, queue: Some(queue) }
    }
}

async fn push(
    mut subscription: delta_client::Subscription,
    listener: Arc<dyn EventListener>,
    caller: Caller,
) {
    let topic = subscription.topic();
    loop {
        let update = subscription.next().await;
        let last = update.is_none();
        let event = update.map_or(Event::Closed { topic }, |update| Event::of(topic, update));
        let (listener, (done, heard)) = (Arc::clone(&listener), oneshot::channel::<()>());
        caller.call(move || {
            if let Err(error) = listener.on_event(event) {
                tracing::warn!(%error, "a listener failed");
            }
            drop(done);
        });
        if last {
            return;
        }
        drop(heard.await);
    }
}

async fn fetch(mut subscription: delta_client::Subscription, queue: Arc<Queue>) {
    let topic = subscription.topic();
    while let Some(update) = subscription.next().await {
        queue.push(Event::of(topic, update));
        queue.until(|| queue.has_room()).await;
    }
    queue.push(Event::Closed { topic });
    queue.end();
}

/// The queues of all subscriptions without a listener, for [`Delta::next_events`](crate::Delta::next_events).
#[derive(Debug, Default)]
pub(crate) struct Queues {
    queues: Mutex<Vec<Weak<Queue>>>,
    stirred: Arc<Notify>,
}

impl Queues {
    fn add(&self) -> Arc<Queue> {
        let state = Mutex::default();
        let queue = Arc::new(Queue { state, stirred: Notify::new(), any: Arc::clone(&self.stirred) });
        let mut queues = self.lock();
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        queue
    }

    pub(crate) fn take(&self, max: usize) -> Vec<Event> {
        let queues: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        let mut events = Vec::new();
        for queue in queues {
            events.extend(queue.take(max - events.len()));
        }
        events
    }

    /// Waits until one of the queues holds something.
    pub(crate) async fn until_ready(&self) {
        loop {
            let stirred = self.stirred.notified();
            let ready =
                self.lock().iter().filter_map(Weak::upgrade).any(|queue| !queue.lock().events.is_empty());
            if ready {
                return;
            }
            stirred.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Events of one subscription that wait for the app.
#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    stirred: Notify,
    any: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    ended: bool,
}

impl Queue {
    fn push(&self, event: Event) {
        self.lock().events.push_back(event);
        self.stir();
    }

    /// Nothing comes any more.
    fn end(&self) {
        self.lock().ended = true;
        self.stir();
    }

    fn take(&self, max: usize) -> Vec<Event> {
        let events = {
            let mut state = self.lock();
            let count = max.min(state.events.len());
            state.events.drain(..count).collect()
        };
        self.stir();
        events
    }

    fn is_ready(&self) -> bool {
        let state = self.lock();
        state.ended || !state.events.is_empty()
    }

    fn has_room(&self) -> bool {
        self.lock().events.len() < MAX_FETCHED
    }

    async fn until(&self, so: impl Fn() -> bool) {
        loop {
            let stirred = self.stirred.notified();
            if so() {
                return;
            }
            stirred.await;
        }
    }

    fn stir(&self) {
        self.stirred.notify_waiters();
        self.any.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits on the runtime, which has the timers; nothing is taken there, so that a call that is cancelled loses nothing.
pub(crate) async fn wait(
    runtime: &Handle,
    deadline: Duration,
    ready: impl Future<Output = ()> + Send + 'static,
) {
    /// Nobody waits any more.
    struct Abort(AbortHandle);
    impl Drop for Abort {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let waiting = begun(runtime, async move { drop(tokio::time::timeout(deadline, ready).await) });
    let _abort = Abort(waiting.abort_handle());
    drop(waiting.await);
}

/// All tasks are of one type, as the client's are: of its own, each would cost an app some kilobytes of code.
fn begun(runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(work);
    runtime.spawn(work)
}
