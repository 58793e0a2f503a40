//! How the engine's memory is made from the store: at its start, and again after a rollback.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::super::blobs::Blobs;
use super::super::commands::server_key;
use super::super::direct::Unblocked;
use super::super::event::Event;
use super::super::freshness::Freshness;
use super::super::hints::Hints;
use super::super::io::Output;
use super::super::keeping::Keeping;
use super::super::own::OwnNews;
use super::super::pairings::Pairings;
use super::super::refusal::Unreadable;
use super::super::sending::Cover;
use super::super::slots::Slots;
use super::super::topics::{self, ByLog};
use super::super::upkeep::Upkeep;
use super::{Before, GUARDS_SETTING, State, Topic};
use crate::identity::Millis;
use crate::onion::route::{Guards, Routes, Tunnels};
use crate::ops::{AuthorKeys, DeviceKey};
use crate::store::{OutboxEntry, Store, StoreError};
use crate::sync::outbox::{OutboxRow, RETRY_MAX_MS};
use crate::sync::session::FAULT_PAUSE_MS;
use crate::topic::TopicId;
use crate::tree::{IntoTree, Map, Set};

/// From which secret of the device the topics' orders of relays are drawn.
const TUNNEL_CONTEXT: &str = "delta tunnel order v1";

impl State {
    pub(in super::super) fn load(
        store: &mut Store,
        device: DeviceKey,
        now: Millis,
    ) -> Result<Self, StoreError> {
        let tunnels = Tunnels::new(device.derive(TUNNEL_CONTEXT));
        let mut state = Self {
            device,
            network: None,
            server_key: None,
            topics: BTreeMap::new(),
            by_log: ByLog::default(),
            waiting: Set::new(),
            undecided: BTreeSet::new(),
            keeping: Keeping::default(),
            attempts: HashMap::new(),
            routes: Routes::default(),
            tunnels,
            outbox_rows: 0,
            outbox_bytes: 0,
            conns: Map::new(),
            authors: AuthorKeys::default(),
            fetching: None,
            wakeups: BTreeSet::new(),
            handover_queue: VecDeque::new(),
            hints: Hints::default(),
            cover: Cover::default(),
            freshness: Freshness::default(),
            slots: Slots::default(),
            own: None,
            own_news: OwnNews::default(),
            pairings: Pairings::default(),
            blobs: Blobs::default(),
            upkeep: Upkeep::default(),
            unblocked: Unblocked::default(),
            before: Before::default(),
            first_sent: false,
            clock_skew: None,
            wiped: false,
            touched: BTreeSet::new(),
            next_conn: 1,
            next_attempt: 1,
        };
        state.load_topics(store, now)?;
        Ok(state)
    }

    /// After a rollback: memory is made from the store again, connections start over.
    pub(in super::super) fn reload(
        &mut self,
        store: &mut Store,
        now: Millis,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), StoreError> {
        let old = (std::mem::take(&mut self.topics), std::mem::take(&mut self.by_log));
        if let Err(error) = self.load_topics(store, now) {
            (self.topics, self.by_log) = old;
            return Err(error);
        }
        let old = old.0;
        let fetching = self.fetching.take().map(|fetching| fetching.conn);
        let conns = self.conns.keys().copied().chain(fetching);
        outputs.extend(conns.map(|conn| Output::Disconnect { conn }));
        self.conns.clear();
        self.attempts.clear();
        self.touched.clear();
        self.wakeups.clear();
        self.handover_queue.clear();
        self.slots.clear();
        let Before { subscribed, network } = std::mem::take(&mut self.before);
        let mut wanted: Map<TopicId, bool> = old.iter().map(|(id, topic)| (*id, topic.subscribed)).into_map();
        wanted.extend(subscribed.into_iter().rev());
        let same_server = network.is_none();
        if let Some(network) = network {
            self.server_key = network.as_ref().and_then(|network| server_key(network).ok());
            self.network = network;
        }
        for (id, topic) in &mut self.topics {
            // Of a topic that the batch let go, and of a blob's, the store alone says whether it is read.
            let wanted = wanted.get(id).filter(|_| !self.blobs.carry(id));
            topic.subscribed = wanted.copied().unwrap_or(topic.subscribed);
            // Another server's sessions are of no use.
            if let Some(session) = old.get(id).and_then(|old| old.session.as_ref()).filter(|_| same_server) {
                let mut session = session.clone();
                session.restart();
                topic.session = Some(session);
            }
            if old.get(id).is_some_and(|old| old.shown != topic.shown) {
                outputs.push_back(Output::Event(Event::Connection { topic: *id, connection: topic.shown }));
            }
        }
        if self.network.is_some() {
            let at = now.plus(FAULT_PAUSE_MS);
            let ids: Vec<TopicId> = self.topics.keys().copied().collect();
            for id in ids {
                self.schedule(id, Some(at));
            }
        }
        Ok(())
    }

    fn load_topics(&mut self, store: &mut Store, now: Millis) -> Result<(), StoreError> {
        (self.outbox_rows, self.outbox_bytes) = (0, 0);
        // Guards that cannot be read are drawn anew: nothing else depends on them.
        let guards = store.setting(GUARDS_SETTING)?.unwrap_or_default();
        self.routes = Routes::new(Guards::load(&guards).unwrap_or_default());
        let rows = store.open_topics()?;
        let names = topics::names(&rows);
        for row in rows {
            let mut topic = Topic::new(row.ticket.keys(), row.cursor, now);
            topic.known_as = names.get(&row.ticket.log()).copied().unwrap_or(row.topic);
            self.load_topic(row.topic, topic, row.astray);
        }
        for (id, log, epoch) in store.retired_topics()? {
            self.by_log.retire(id, log, epoch);
        }
        store.set_device(self.device.author());
        self.load_closes(store, now)?;
        for id in store.topics_to_refetch()? {
            if let Some(topic) = self.topics.get_mut(&id) {
                topic.refetch.wish(now);
            }
        }
        self.keeping.reload(store, now)?;
        self.load_inboxes(store, now)?;
        self.unblocked.clear();
        for entry in store.outbox_entries()? {
            let Some(topic) = self.topics.get_mut(&entry.topic) else { continue };
            if entry.parked && topic.closed.is_none() {
                // What the server said last; it is asked again.
                (topic.unreadable, topic.rows_parked) = (Some(Unreadable::Gone), true);
            }
            // A clock that went back must not stop a row for good.
            let not_before = entry.not_before.min(now.plus(RETRY_MAX_MS));
            let OutboxEntry { id, hash, len, tries, .. } = entry;
            topic.outbox.insert(OutboxRow { id, hash, len, tries, not_before });
            self.outbox_rows += 1;
            self.outbox_bytes += u64::from(len);
        }
        self.own_news = OwnNews::default();
        self.pairings = Pairings::load(store, now)?;
        self.load_blobs(store)?;
        self.load_own(store, now)
    }
}
