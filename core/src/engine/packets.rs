//! Packets: which content goes over which route, of which version, with which delays.

use bytes::Bytes;
use zeroize::Zeroizing;

use super::io::{Network, Output};
use super::jobs::{Onion, PostContent, PostJob};
use super::refusal::Blocked;
use super::state::{Sent, SentKind, State};
use crate::entropy::{Entropy, EntropyError};
use crate::identity::{Millis, NodeId};
use crate::limits::MAX_CONTROL;
use crate::onion::directory::{Directory, Node};
use crate::onion::route::{RouteError, RouteRequest};
use crate::onion::{PacketClass, deliver};
use crate::sync::outbox::{AttemptId, Path};
use crate::topic::{TopicId, WriteKey};

use super::delivery::MAX_HANDOVERS;

/// A packet that is ready to be built and sent.
pub(super) struct Ready {
    pub(super) job: PostJob,
    pub(super) path: Path,
    /// What its relays are asked to wait, all together, milliseconds.
    pub(super) delays_ms: u64,
}

/// Where a packet goes, and its layers.
struct Routed {
    entry: NodeId,
    url: String,
    path: Path,
    onion: Onion,
    delays_ms: u64,
}

impl State {
    /// Whether the server takes packets of version 2 only: each then holds one operation.
    pub(super) fn sends_v2(&self) -> bool {
        self.network.as_ref().is_some_and(|network| network.server.keys.is_empty())
    }

    /// A packet for a topic over a fresh route.
    pub(super) fn packet(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        content: PostContent,
        used: &[Path],
    ) -> Result<Ready, Blocked> {
        let network = self.network.clone().ok_or(Blocked::NoNetwork)?;
        let topic = self.topics.get(&id).ok_or(Blocked::NoNetwork)?;
        let key = topic.keys.write_key().cloned().ok_or(Blocked::ReadOnly)?;
        let kind = match content {
            PostContent::Signal(_) => SentKind::Signal(id),
            PostContent::Operations(_) | PostContent::Control(_) => SentKind::Outbox(id),
        };
        let routed = if network.server.keys.is_empty() {
            let PostContent::Operations(envelopes) = content else { return Err(Blocked::NotInVersion2) };
            self.route_v2(now, entropy, &network, id, envelopes, used)?
        } else {
            self.route_v3(now, entropy, &network, Some((key, content)), used)?
        };
        self.ready(routed, kind, entropy)
    }

    /// Sends a packet that carries nothing, when the time for one has come. Where there is no route there is none.
    pub(super) fn settle_cover(&mut self, now: Millis, entropy: &mut dyn Entropy, staged: &mut Vec<Output>) {
        let Some(network) = self.network.clone().filter(|_| !self.topics.is_empty()) else { return };
        let due = self.cover.take(network.sending.cover_every_ms, now, entropy);
        if !due || self.sends_v2() || self.attempts.len() >= MAX_HANDOVERS {
            return;
        }
        let routed = self.route_v3(now, entropy, &network, None, &[]);
        if let Ok(ready) = routed.and_then(|routed| self.ready(routed, SentKind::Cover, entropy)) {
            staged.push(Output::Post(ready.job));
        }
    }

    /// Layers of version 3 around a topic's content, or around nothing.
    fn route_v3(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        network: &Network,
        content: Option<(WriteKey, PostContent)>,
        used: &[Path],
    ) -> Result<Routed, Blocked> {
        if let Some(as_of) = self.freshness.stale(now) {
            return Err(Blocked::StaleRecords { as_of });
        }
        let class = content.as_ref().map_or(PacketClass::C0, |(_, content)| class_of(content));
        let (server, relays) = (&network.server, network.relays);
        let request = RouteRequest { server, relays, class, avoid: &[], now };
        let route = self.routes.pick(&network.directory, &request, used, entropy);
        let route = route.map_err(|error| blocked(error, &network.directory, |node| node.keys.is_empty()))?;
        let (delays, delays_ms) = network.sending.delays(relays, entropy).map_err(no_entropy)?;
        let mut hops = route.hops();
        for (hop, delay) in hops.iter_mut().zip(delays) {
            hop.delay = delay;
        }
        let entry = route.relays.first().ok_or(Blocked::NoNetwork)?;
        Ok(Routed {
            entry: entry.id,
            url: entry.packet_url(),
            path: route.path().into(),
            onion: Onion::V3 { hops: hops.into(), content },
            delays_ms,
        })
    }

    /// Layers of version 2 around one operation, for a server that takes nothing else and an app that agrees to it.
    fn route_v2(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        network: &Network,
        topic: TopicId,
        envelopes: Vec<Bytes>,
        used: &[Path],
    ) -> Result<Routed, Blocked> {
        if !network.sending.accept_v2 {
            return Err(Blocked::Version2);
        }
        let [envelope] = <[Bytes; 1]>::try_from(envelopes).map_err(|_| Blocked::NotInVersion2)?;
        let (server, relays) = (&network.server, network.relays);
        let request = RouteRequest { server, relays, class: PacketClass::LARGEST, avoid: &[], now };
        let route = self.routes.pick_v2(&network.directory, &request, used, entropy);
        let route =
            route.map_err(|error| blocked(error, &network.directory, |node| !node.keys.is_empty()))?;
        let entry = route.relays.first().ok_or(Blocked::NoNetwork)?;
        Ok(Routed {
            entry: entry.id,
            url: entry.packet_url(),
            path: route.path().into(),
            onion: Onion::V2 { hops: route.hops().into(), topic, envelope },
            delays_ms: 0,
        })
    }

    fn ready(&mut self, routed: Routed, kind: SentKind, entropy: &mut dyn Entropy) -> Result<Ready, Blocked> {
        let Routed { entry, url, path, onion, delays_ms } = routed;
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed).map_err(no_entropy)?;
        let attempt = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        self.attempts.insert(attempt, Sent { kind, path: path.clone() });
        Ok(Ready { job: PostJob { attempt, entry, url, onion, seed }, path, delays_ms })
    }
}

const fn no_entropy(_: EntropyError) -> Blocked {
    Blocked::Entropy
}

/// Why there is no route. Relays of the other version are no reason to mix, but worth telling.
fn blocked(error: RouteError, directory: &Directory, is_other: impl Fn(&Node) -> bool) -> Blocked {
    match error {
        RouteError::TooFewRelays { have, need } if directory.relays().any(is_other) => {
            Blocked::MixedVersions { have, need }
        }
        other => other.into(),
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
