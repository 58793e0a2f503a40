//! The engine's thread while the client is suspended: no file, no lock, no socket, no timer. It waits for a message and
//! does nothing else.

use std::path::Path;
use std::sync::mpsc::Receiver;

use delta_core::engine::{Asleep, Engine, Input};
use delta_core::store::{Store, StoreError, StoreKey, StoreOptions};
use delta_core::topic::TopicId;
use tokio::sync::oneshot;

use super::idle::Idle;
use super::inbox::Message;
use super::lanes::Lanes;
use super::{Driver, Listeners};
use crate::error::ClientError;
use crate::platform::{Clock, instant};
use crate::readers::{READERS, Readers};

/// Who waits for a change between running and suspended.
pub(crate) type Done = oneshot::Sender<Result<(), ClientError>>;

/// How the sleep ended.
enum Woken {
    /// The engine goes on; nobody listens to these topics any more.
    Running(Box<Engine>, Vec<TopicId>, Done),
    /// The client is closed, or nobody holds it any more.
    Closed(Option<oneshot::Sender<()>>),
}

impl Driver {
    /// Sleeps until the client is resumed; `None` when it is closed instead.
    pub(super) fn sleep(mut self, done: Done) -> Option<Self> {
        self.forget_received();
        let (asleep, released) = self.engine.sleep();
        if let Err(error) = &released {
            tracing::warn!(%error, "the write-ahead log stays beside the database; nothing is lost");
        }
        drop(done.send(released.map_err(ClientError::from)));
        let bed = Bed {
            messages: &self.messages,
            path: &self.path,
            store_key: self.store_key.as_ref(),
            clock: &self.clock,
            readers: &self.readers,
        };
        match bed.until_woken(asleep, &mut self.listeners) {
            Woken::Running(engine, unheard, done) => {
                self.engine = *engine;
                self.outbound.reopen();
                self.inputs.push(Input::NetworkChanged);
                for topic in unheard {
                    self.command(super::Command::Unsubscribe { topic }, super::Waiter::Nobody);
                }
                drop(done.send(Ok(())));
                Some(self)
            }
            Woken::Closed(closed) => {
                drop(std::mem::take(&mut self.listeners));
                if let Some(done) = closed {
                    let _ = done.send(());
                }
                None
            }
        }
    }

    /// What was received and is not stored comes again. The rooms it held are free.
    fn forget_received(&mut self) {
        self.incoming.clear();
        self.received.clear();
        self.lanes = Lanes::new();
        self.due_since = None;
        self.paused_until = None;
        self.failures = 0;
        self.idle = Idle::new(instant());
    }
}

/// What is left to the thread while the engine is away.
struct Bed<'a> {
    messages: &'a Receiver<Message>,
    path: &'a Path,
    store_key: Option<&'a StoreKey>,
    clock: &'a Clock,
    readers: &'a Readers,
}

impl Bed<'_> {
    fn until_woken(&self, asleep: Asleep, listeners: &mut Listeners) -> Woken {
        let mut unheard = Vec::new();
        let mut asleep = Some(asleep);
        loop {
            let Ok(message) = self.messages.recv() else { return Woken::Closed(None) };
            match message {
                Message::Command { reply, .. } | Message::Listen { reply, .. } => {
                    drop(reply.send(Err(ClientError::Suspended)));
                }
                Message::Unlisten { topic, listener } => {
                    if listeners.remove(topic, &listener) {
                        unheard.push(topic);
                    }
                }
                Message::NextWork { reply } => drop(reply.send(asleep.as_ref().and_then(Asleep::next_work))),
                Message::Suspend { done } => drop(done.send(Ok(()))),
                Message::Resume { done } => match self.open() {
                    Err(error) => drop(done.send(Err(error.into()))),
                    Ok(store) => {
                        let Some(engine) = asleep.take().map(|asleep| asleep.wake(store, self.clock.now()))
                        else {
                            return Woken::Closed(None);
                        };
                        match (0..READERS).map(|_| engine.reader()).collect() {
                            Ok(readers) => {
                                self.readers.reopen(readers);
                                return Woken::Running(Box::new(engine), unheard, done);
                            }
                            Err(error) => {
                                asleep = Some(engine.sleep().0);
                                drop(done.send(Err(error.into())));
                            }
                        }
                    }
                },
                Message::Close { done } => return Woken::Closed(Some(done)),
                // Of tasks that were given up: what they brought comes again.
                Message::Connected { .. }
                | Message::Frame { .. }
                | Message::Opened { .. }
                | Message::Ended(_)
                | Message::Refused { .. }
                | Message::Posted { .. }
                | Message::Sealed(_)
                | Message::RecordsRenewed { .. }
                | Message::NetworkChanged => {}
                Message::WorkerPanicked => panic!("a worker panicked"),
            }
        }
    }

    /// The database must still be there: nothing is made anew under a client that used it.
    fn open(&self) -> Result<Store, StoreError> {
        let mut store = Store::open(self.path, StoreOptions { create: false, ..StoreOptions::default() })?;
        if let Some(key) = self.store_key {
            store.unlock(key)?;
        }
        Ok(store)
    }
}
