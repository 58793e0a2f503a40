//! What the engine keeps in memory of one topic.

use super::super::accountability::Observed;
use super::super::look::Look;
use super::super::receive::Redelivery;
use super::super::refetch::Refetch;
use super::super::refusal::{Blocked, Unreadable};
use super::super::rotation::Closed;
use super::super::signals::Signals;
use crate::identity::{EnvelopeHash, Millis, NodeId};
use crate::onion::route::Tunnel;
use crate::ops::TopicKeys;
use crate::sync::outbox::Outbox;
use crate::sync::session::{Connection, Cursor, Session};
use crate::topic::TopicId;

/// How long rows that were sent before wait for the topic's log when it cannot be read, milliseconds.
pub(in super::super) const BLIND_RETRY_MS: u64 = 30_000;

#[derive(Debug)]
pub(in super::super) struct Topic {
    pub(in super::super) keys: TopicKeys,
    pub(in super::super) subscribed: bool,
    pub(in super::super) cursor: Option<Cursor>,
    pub(in super::super) session: Option<Session>,
    /// The tunnel of its connection; `None`: it reads directly.
    pub(in super::super) tunnel: Option<Tunnel>,
    pub(in super::super) look: Look,
    /// Relays through which the look at hand was tried.
    pub(in super::super) looked_through: Vec<NodeId>,
    /// What a look with `has` asks for.
    pub(in super::super) asked: Vec<EnvelopeHash>,
    /// Where it stood before the first of the resets that are not settled yet.
    pub(in super::super) before_reset: Option<Cursor>,
    pub(in super::super) outbox: Outbox,
    pub(in super::super) redelivery: Redelivery,
    pub(in super::super) refetch: Refetch,
    pub(in super::super) observed: Observed,
    pub(in super::super) signals: Signals,
    /// How it closed: the log goes on in another topic.
    pub(in super::super) closed: Option<Closed>,
    /// This device has said in it, since the start, whose it is.
    pub(in super::super) introduced: bool,
    /// The topic by which the app knows the conversation.
    pub(in super::super) known_as: TopicId,
    /// A rotation of this device has no place yet.
    pub(in super::super) rotates: bool,
    /// Rotations stand in it that did not close it (yet).
    pub(in super::super) contested: bool,
    /// Since when a rotation that counts waits for word of who made one before it.
    pub(in super::super) undecided_since: Option<Millis>,
    /// Why the server does not let this device read.
    pub(in super::super) unreadable: Option<Unreadable>,
    /// The store holds its outbox rows as parked.
    pub(in super::super) rows_parked: bool,
    /// When operations that wait for a predecessor do so no longer.
    pub(in super::super) overdue_at: Option<Millis>,
    pub(in super::super) blocked: Option<Blocked>,
    /// While the log cannot be read, rows that were sent before wait until this instant.
    pub(in super::super) blind_until: Millis,
    /// Not before this instant is a blocked outbox looked at again.
    pub(in super::super) blocked_until: Option<Millis>,
    /// Envelopes that turned out invalid on this connection.
    pub(in super::super) rejected: u32,
    /// It is in [`super::State::handover_queue`].
    pub(in super::super) waits_for_handover: bool,
    /// Wanted, but without a socket of its own ([`super::super::slots::Slots`]).
    pub(in super::super) parked: bool,
    pub(in super::super) shown: Connection,
    /// The `ready` of the connection in use is stored, and with it everything before it.
    pub(in super::super) caught_up: bool,
    /// All that the server had was read since the start.
    pub(in super::super) was_live: bool,
    pub(in super::super) wakeup: Option<Millis>,
}

impl Topic {
    pub(in super::super) fn new(keys: TopicKeys, cursor: Option<Cursor>, now: Millis) -> Self {
        let known_as = keys.topic();
        Self {
            keys,
            subscribed: false,
            cursor,
            session: None,
            tunnel: None,
            look: Look::default(),
            looked_through: Vec::new(),
            asked: Vec::new(),
            before_reset: None,
            outbox: Outbox::default(),
            redelivery: Redelivery::default(),
            refetch: Refetch::default(),
            observed: Observed::default(),
            signals: Signals::default(),
            closed: None,
            introduced: false,
            known_as,
            rotates: false,
            contested: false,
            undecided_since: None,
            unreadable: None,
            rows_parked: false,
            overdue_at: None,
            blocked: None,
            blind_until: now.plus(BLIND_RETRY_MS),
            blocked_until: None,
            waits_for_handover: false,
            parked: false,
            rejected: 0,
            shown: Connection::Offline,
            caught_up: false,
            was_live: false,
            wakeup: None,
        }
    }

    /// A topic of the same conversation as another one here.
    pub(in super::super) fn beside(like: &Self, keys: TopicKeys, now: Millis) -> Self {
        let (subscribed, known_as) = (like.subscribed, like.known_as);
        Self { subscribed, known_as, ..Self::new(keys, None, now) }
    }

    /// Where the session stands, as far as the database followed: what the app hears of is durable.
    pub(in super::super) fn connection(&self) -> Connection {
        match self.session.as_ref().map(Session::connection) {
            None => Connection::Offline,
            Some(_) if self.parked => Connection::Parked,
            Some(Connection::Live) if !self.caught_up => Connection::Replaying,
            Some(connection) => connection,
        }
    }

    /// Whether this device can close it: it is open, writable and there, and no own rotation is on its way.
    pub(in super::super) fn may_move(&self) -> bool {
        let is_gone = self.unreadable == Some(Unreadable::Gone);
        self.closed.is_none() && !self.rotates && !is_gone && self.keys.write_key().is_some()
    }

    /// The topic's log is at hand up to now.
    pub(in super::super) fn is_live(&self) -> bool {
        let live = self.session.as_ref().map(Session::connection) == Some(Connection::Live);
        live && self.caught_up
    }
}
