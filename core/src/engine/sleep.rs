//! An engine that let go of its database: what an app that is put to sleep leaves behind.
//!
//! A phone's system ends an app that holds a file lock while it sleeps. So the database is closed whole, and what the
//! engine holds in memory beside it (the network it was told, who subscribed) waits in [`Asleep`].

use std::collections::VecDeque;

use super::Engine;
use super::refusal::Unreadable;
use super::state::State;
use crate::identity::Millis;
use crate::store::{Store, StoreError};

/// What an engine knows that its database does not. No file is open and no lock is held.
#[derive(Debug)]
pub struct Asleep {
    state: State,
    /// The log was moved into the database, which syncs it.
    synced: bool,
}

impl Engine {
    /// Moves the write-ahead log into the database, closes it and releases its lock. Its connections must be given up
    /// and its outputs drained before.
    ///
    /// The second value says why the log could not be moved, if it could not: nothing is lost then, the next open reads
    /// it, and the lock is released all the same.
    pub fn sleep(self) -> (Asleep, Result<(), StoreError>) {
        let Self { store, mut state, .. } = self;
        // What the last batch changed is committed: nothing of it is to be taken back.
        state.begin();
        let closed = store.close();
        (Asleep { state, synced: closed.is_ok() }, closed)
    }

    /// When something that waits to be sent is due, whether or not anything is connected. `None`: nothing waits.
    pub fn next_work(&self) -> Option<Millis> {
        self.state.next_work()
    }
}

impl Asleep {
    /// Goes on with the same database, opened again. Connections start over at once from the stored cursors: hand in
    /// [`super::Input::NetworkChanged`] next.
    pub fn wake(self, store: Store, now: Millis) -> Engine {
        let Self { state, synced } = self;
        let mut engine = Engine { store, state, outputs: VecDeque::new(), synced, stale: Some(now) };
        // If the store cannot be read now, the next batch tries again before anything else.
        if engine.refresh(now).is_ok() {
            engine.state.connect_all(now);
        }
        engine
    }

    /// As [`Engine::next_work`].
    pub fn next_work(&self) -> Option<Millis> {
        self.state.next_work()
    }
}

impl State {
    /// No pause of a connection of before the sleep counts any more.
    fn connect_all(&mut self, now: Millis) {
        for (id, topic) in &mut self.topics {
            if let Some(session) = topic.session.as_mut() {
                session.network_changed(now);
            }
            self.touched.insert(*id);
        }
    }

    fn next_work(&self) -> Option<Millis> {
        let topics = self.topics.values().filter(|topic| topic.unreadable != Some(Unreadable::Gone));
        topics.filter_map(|topic| topic.outbox.poll_timeout(true)).min()
    }
}
