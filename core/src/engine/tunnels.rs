//! Reading through tunnels: which one a topic's connection takes, and what becomes of relays whose tunnels fail.

use super::io::{DirectReading, Network, ReadPath, Seal};
use super::state::State;
use crate::entropy::Entropy;
use crate::identity::{Millis, NodeId};
use crate::onion::PacketClass;
use crate::onion::directory::Directory;
use crate::onion::route::{RouteRequest, Tunnel, TunnelRequest};
use crate::sync::outbox::Path;
use crate::sync::session::{ConnId, Session};
use crate::topic::TopicId;

impl State {
    /// Whether the server is not to see who reads.
    pub(super) fn hides_reading(&self) -> bool {
        self.network.as_ref().is_some_and(|network| network.hide_reading)
    }

    /// The tunnel for a connection of the topic now; `None`: directly.
    pub(super) fn tunnel_for(&self, id: TopicId, now: Millis) -> Option<Tunnel> {
        let guards: Vec<NodeId> = self.routes.guards().nodes().collect();
        self.choose_tunnel(id, &guards, &[], now)
    }

    /// The tunnel for a topic's new connection. Guards are drawn before, so that they are not what carries it.
    pub(super) fn tunnel_to_connect(
        &mut self,
        id: TopicId,
        now: Millis,
        entropy: &mut dyn Entropy,
    ) -> Option<Tunnel> {
        let first = self.tunnel_for(id, now)?;
        if self.routes.guards().are_drawn(self.sends_v2()) {
            return Some(first);
        }
        self.draw_guards(now, entropy);
        self.tunnel_for(id, now)
    }

    /// Draws a route of the kind this device sends over, for the guards alone. Without a route there is no guard either,
    /// and nothing to keep away from.
    pub(super) fn draw_guards(&mut self, now: Millis, entropy: &mut dyn Entropy) {
        let v2 = self.sends_v2();
        let Some(Network { server, directory, relays, .. }) = self.network.as_ref() else { return };
        let request = RouteRequest { server, relays: *relays, class: PacketClass::C0, avoid: &[], now };
        let used: &[Path] = &[];
        let _ = match v2 {
            true => self.routes.pick_v2(directory, &request, used, entropy).map(drop),
            false => self.routes.pick(directory, &request, used, entropy).map(drop),
        };
    }

    /// The tunnels through which a server is asked for its record, before anything is configured.
    pub(super) fn tunnels_to(&self, directory: &Directory, server: NodeId, now: Millis) -> Vec<Tunnel> {
        let guards: Vec<NodeId> = self.routes.guards().nodes().collect();
        self.tunnels.to_unknown(directory, server, &guards, now)
    }

    /// A tunnel over a relay that no socket of this device uses.
    pub(super) fn fresh_tunnel(&self, id: TopicId, spare_guards: bool, now: Millis) -> Option<Tunnel> {
        let guards: Vec<NodeId> = self.routes.guards().nodes().collect();
        let mut used: Vec<NodeId> = self.fetching.iter().filter_map(|fetching| fetching.relay).collect();
        used.extend(self.topics.values().flat_map(|topic| {
            let tunnel = topic.tunnel.as_ref().filter(|_| topic.session.as_ref().is_some_and(has_conn));
            tunnel.map(|tunnel| tunnel.relay).into_iter().chain(topic.look.relay())
        }));
        used.extend(self.topics.get(&id).into_iter().flat_map(|topic| &topic.looked_through));
        if spare_guards {
            used.extend(&guards);
        }
        // One that has just failed comes last, but it comes: a server that keeps silent could pause them all.
        self.choose_tunnel(id, &guards, &used, now)
    }

    fn choose_tunnel(
        &self,
        topic: TopicId,
        guards: &[NodeId],
        never: &[NodeId],
        now: Millis,
    ) -> Option<Tunnel> {
        let network = self.network.as_ref().filter(|network| network.hide_reading)?;
        let request = TunnelRequest { server: &network.server, topic, guards, never, now };
        self.tunnels.choose(&network.directory, &request)
    }

    /// Who sees that this device reads the topic: on its connection, or on the next one.
    pub(super) fn read_path(&self, id: TopicId, now: Millis) -> Option<ReadPath> {
        let network = self.network.as_ref()?;
        let topic = self.topics.get(&id)?;
        let tunnel = match topic.session.as_ref().is_some_and(has_conn) {
            true => topic.tunnel.clone(),
            false => self.tunnel_for(id, now),
        };
        Some(match tunnel {
            Some(Tunnel { relay, .. }) => {
                let has_certificate = network.server.url.starts_with("https://");
                ReadPath::Tunnel { relay, seal: if has_certificate { Seal::Tls } else { Seal::Noise } }
            }
            None if network.hide_reading => ReadPath::Direct(DirectReading::NotOffered),
            None => ReadPath::Direct(DirectReading::SwitchedOff),
        })
    }

    /// The relay of a connection is passed over for a while. Gives how long to wait before the next attempt: while
    /// there is another relay, no longer than for any other reason.
    pub(super) fn tunnel_failed(&mut self, now: Millis, conn: ConnId, retry_after_ms: u64) -> u64 {
        let fetching = self.fetching.as_ref().filter(|fetching| fetching.conn == conn);
        let (id, relay) = match (fetching, self.conns.get(&conn)) {
            (Some(fetching), _) => (fetching.topic, fetching.relay),
            (None, Some(id)) => (*id, self.relay_of(*id, conn)),
            (None, None) => return retry_after_ms,
        };
        let Some(relay) = relay else { return retry_after_ms };
        self.tunnels.failed(relay, retry_after_ms, now);
        let other = self.tunnel_for(id, now).is_some_and(|next| !self.tunnels.is_paused(&next.relay, now));
        if other { 0 } else { retry_after_ms }
    }

    fn relay_of(&self, id: TopicId, conn: ConnId) -> Option<NodeId> {
        let topic = self.topics.get(&id)?;
        if topic.look.conn() == Some(conn) {
            return topic.look.relay();
        }
        let is_its = topic.session.as_ref().and_then(Session::conn) == Some(conn);
        topic.tunnel.as_ref().filter(|_| is_its).map(|tunnel| tunnel.relay)
    }
}

const fn has_conn(session: &Session) -> bool {
    session.conn().is_some()
}
