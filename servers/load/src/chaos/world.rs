//! What everybody in a chaos run shares: the present life of the server, the topics, the notebook.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use delta_core::entropy::{Entropy, SeededEntropy};
use delta_core::onion::v3::Hop;
use delta_core::topic::{TopicId, WriteKey};
use ed25519_dalek::VerifyingKey;
use tokio::sync::watch;

use super::history::{Era, History};

/// Topics with a write key: packets.
pub const SIGNED_TOPICS: usize = 3;
/// Topics of the original protocol: JSON deliveries, which are answered after the commit.
pub const OPEN_TOPICS: usize = 3;

/// The server between a start and an end.
#[derive(Clone, Debug)]
pub struct Life {
    /// Counts the starts.
    pub number: u32,
    /// Counts the wipes.
    pub era: Era,
    /// Where it serves.
    pub address: SocketAddr,
    /// What packets are wrapped for.
    pub hop: Hop,
    /// The key it signs with.
    pub key: VerifyingKey,
}

/// Shared by all.
#[derive(Debug)]
pub struct World {
    /// The present life; `None` between two.
    pub life: watch::Sender<Option<Life>>,
    /// Turns true when publishers and readers are to stop.
    pub stopping: watch::Sender<bool>,
    /// The write keys of the signed topics.
    pub keys: Vec<WriteKey>,
    /// The open topics.
    pub open: Vec<TopicId>,
    seed: u64,
    history: Mutex<History>,
    notes: Mutex<Notes>,
}

/// How often what happened, and what is wrong besides the history.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Counters by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// What is wrong.
    pub wrong: Vec<String>,
}

/// More than this many complaints say nothing new.
const MAX_WRONG: usize = 100;

impl World {
    /// Before the first life.
    pub fn new(seed: u64) -> Arc<Self> {
        let key = |index: usize| WriteKey::from_seed([index as u8 + 1; 32]);
        Arc::new(Self {
            life: watch::Sender::new(None),
            stopping: watch::Sender::new(false),
            keys: (0..SIGNED_TOPICS).map(key).collect(),
            open: (0..OPEN_TOPICS).map(|index| TopicId([index as u8 + 1; 32])).collect(),
            seed,
            history: Mutex::default(),
            notes: Mutex::default(),
        })
    }

    /// All topics.
    pub fn topics(&self) -> Vec<TopicId> {
        self.keys.iter().map(WriteKey::topic).chain(self.open.iter().copied()).collect()
    }

    /// A life after the one with this number (0: any), once there is one; `None` when the run is over.
    pub async fn life_after(&self, number: u32) -> Option<Life> {
        let (mut life, mut stopping) = (self.life.subscribe(), self.stopping.subscribe());
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => None,
            found = life.wait_for(|life| life.as_ref().is_some_and(|life| life.number > number)) => {
                found.ok().and_then(|life| life.clone())
            }
        }
    }

    /// Any life, also the present one; `None` when the run is over.
    pub async fn any_life(&self) -> Option<Life> {
        self.life_after(0).await
    }

    /// Whether the run is over.
    pub fn is_over(&self) -> bool {
        *self.stopping.borrow()
    }

    /// What was told.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The notebook.
    pub fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts something.
    pub fn count(&self, what: &'static str, times: usize) {
        *self.notes().counts.entry(what).or_default() += times as u64;
    }

    /// Something is wrong.
    pub fn wrong(&self, what: String) {
        let mut notes = self.notes();
        if notes.wrong.len() < MAX_WRONG {
            notes.wrong.push(what);
        }
    }

    /// A die of its own for every participant.
    pub fn dice(&self, name: &str) -> Dice {
        let mut seed = [0; 32];
        for (to, from) in seed.iter_mut().zip(self.seed.to_be_bytes().iter().chain(name.as_bytes())) {
            *to = *from;
        }
        Dice(SeededEntropy::new(seed))
    }
}

/// Seeded decisions.
#[derive(Debug)]
pub struct Dice(SeededEntropy);

impl Dice {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The seeded stream does not end within a run; if it did, always the same number is still a decision.
        self.0.below(bound).unwrap_or(0)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A time between two, milliseconds.
    pub fn pause(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(from_ms + self.below(to_ms - from_ms + 1))
    }

    /// 32 bytes.
    pub fn seed(&mut self) -> [u8; 32] {
        self.0.array().unwrap_or([0; 32])
    }

    /// One of some things.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(usize::try_from(self.below(from.len() as u64)).unwrap_or(0))
    }
}
