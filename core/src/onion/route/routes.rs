//! Choosing routes with a memory: a kept entry, fresh relays behind it, and what deliveries told.

use super::draw::{Candidate, Pool};
use super::guard::{Choice, Guards};
use super::health::Health;
use super::{Route, RouteError, RouteRequest, RouteV2, Version};
use crate::entropy::Entropy;
use crate::identity::{Millis, NodeId};
use crate::onion::directory::{Directory, Node};

/// Draws the routes of one device.
///
/// Ask [`pick`](Self::pick) for every packet, report what became of it, and store
/// [`take_changes`](Self::take_changes) before the packet leaves.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    guards: Guards,
    health: Health,
    changed: bool,
}

impl Routes {
    /// Goes on with stored guards ([`Guards::load`]).
    pub fn new(guards: Guards) -> Self {
        let mut health = Health::default();
        for guard in guards.v3.guards.iter().chain(&guards.v2.guards) {
            health.restore(guard.node, guard.score);
        }
        Self { guards, health, changed: false }
    }

    /// A route for one packet: the guard, relays drawn afresh, the server.
    ///
    /// `used` lists the relays of the operation's earlier attempts, the latest last ([`Route::path`]). For a retry an
    /// exit, then middles are preferred that it has not used yet, then the least recently used ones. Unhealthy relays
    /// (and `request.avoid`) are left out while there are enough others. The route is never shorter than asked for.
    pub fn pick(
        &mut self,
        directory: &Directory,
        request: &RouteRequest<'_>,
        used: &[impl AsRef<[NodeId]>],
        entropy: &mut dyn Entropy,
    ) -> Result<Route, RouteError> {
        let relays = self.draw(directory, request, Version::V3, used, entropy)?;
        Ok(Route { relays, server: request.server.clone() })
    }

    /// A route of version 2, for a server without onion keys: over relays without onion keys alone, with guards of
    /// its own. The packet's class does not matter there.
    pub fn pick_v2(
        &mut self,
        directory: &Directory,
        request: &RouteRequest<'_>,
        used: &[impl AsRef<[NodeId]>],
        entropy: &mut dyn Entropy,
    ) -> Result<RouteV2, RouteError> {
        let relays = self.draw(directory, request, Version::V2, used, entropy)?;
        Ok(RouteV2 { relays })
    }

    /// The entry relay took a packet (any 2xx), or refused it or could not be reached: its doing alone. Taken says
    /// nothing about arrival. Do not report a loss for a packet that was refused.
    pub fn report_entry(&mut self, entry: NodeId, ok: bool, now: Millis) {
        if ok {
            self.health.took(entry, now);
        } else {
            self.health.refused(entry, now);
        }
    }

    /// A packet over these relays arrived (its echo was read), or did not in time: nobody knows whose fault it is,
    /// so every relay bears a little of it.
    pub fn report_delivery(&mut self, path: &[NodeId], ok: bool, now: Millis) {
        for relay in path {
            if ok {
                self.health.delivered(*relay, now);
            } else {
                self.health.lost(*relay, now);
            }
            let score = self.health.score(relay);
            self.changed |= self.guards.v3.note(relay, score);
            self.changed |= self.guards.v2.note(relay, score);
        }
        if let Some(entry) = path.first().filter(|_| ok) {
            self.changed |= self.guards.v3.confirm(entry);
            self.changed |= self.guards.v2.confirm(entry);
        }
    }

    /// The network under this device changed: what could not be reached over the old one is tried again.
    pub fn network_changed(&mut self) {
        self.health.network_changed();
    }

    /// The relays that are left out at present while there are enough others.
    pub fn avoided(&self, now: Millis) -> Vec<NodeId> {
        self.health.excluded(now).collect()
    }

    /// The guards to store, when they changed since the last call.
    pub fn take_changes(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.changed).then(|| self.guards.to_bytes())
    }

    /// The guards as they are.
    pub const fn guards(&self) -> &Guards {
        &self.guards
    }

    fn draw(
        &mut self,
        directory: &Directory,
        request: &RouteRequest<'_>,
        version: Version,
        used: &[impl AsRef<[NodeId]>],
        entropy: &mut dyn Entropy,
    ) -> Result<Vec<Node>, RouteError> {
        self.health.settle(request.now);
        let pool = Pool::new(directory, request, version, &self.health, used)?;
        let guards = match version {
            Version::V3 => &mut self.guards.v3,
            Version::V2 => &mut self.guards.v2,
        };
        let listed = |id: &NodeId| directory.node(id).is_some_and(|node| version.is_relay(node, request.now));
        let tried = |id: &NodeId| used.iter().filter(|relays| relays.as_ref().first() == Some(id)).count();
        let (choice, changed) = guards.choose(&pool, listed, &self.health, tried, request.now, entropy)?;
        self.changed |= changed;
        let guard = match choice {
            Choice::Guard(guard) => guard,
            Choice::Wait(until) => return Err(RouteError::NoGuard { until }),
        };
        // The exit first: it has the first choice among relays the operation has not used.
        let mut taken: Vec<&Candidate<'_>> = vec![guard];
        while taken.len() < request.relays {
            match pool.draw_next(&taken, entropy)? {
                Some(next) => taken.push(next),
                None => return Err(RouteError::TooFewRelays { have: taken.len(), need: request.relays }),
            }
        }
        // Drawn as guard, exit, middles; travelled as guard, middles, exit.
        if let Some((_, behind)) = taken.split_first_mut() {
            behind.rotate_left(1.min(behind.len()));
        }
        Ok(taken.into_iter().map(|candidate| candidate.node.clone()).collect())
    }
}
