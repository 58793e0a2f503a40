//! Routes with a memory: which entry is kept, when another takes its place, what a retry avoids, what is stored.

use std::collections::{BTreeMap, BTreeSet};

use delta_core::codec::DecodeError;
use delta_core::identity::{Millis, NodeId};
use delta_core::onion::PacketClass;
use delta_core::onion::directory::{Directory, Node, NodeKind};
use delta_core::onion::route::{
    DOWN_MAX_MS, GUARD_LIFETIME_MAX_MS, GUARD_LIFETIME_MIN_MS, GUARD_PATIENCE, GUARDS, Guards, MAX_GUARDS,
    NEW_GUARDS_PER_DAY, REFUSALS_UNTIL_DOWN, Route, RouteError, RouteRequest, Routes,
};
use delta_core::onion::v3::OnionSecret;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use crate::support::{Broken, entropy};

const NOW: Millis = Millis(1_700_000_000_000);
const DAY: u64 = 24 * 60 * 60 * 1000;
const FRESH: &[Vec<NodeId>] = &[];

fn relay(number: u8, operator: &str) -> Node {
    Node {
        id: NodeId(SigningKey::from_bytes(&[number; 32]).verifying_key().to_bytes()),
        kind: NodeKind::Relay,
        operator: Some(operator.to_owned()),
        url: format!("https://relay{number}.example.org"),
        keys: vec![OnionSecret::generate(1, &mut entropy(number)).unwrap().public()],
        expires: u64::MAX,
        max_class: 4,
        seq: 1,
        tunnel: false,
    }
}

fn v2_only(node: Node) -> Node {
    Node { keys: Vec::new(), ..node }
}

fn server() -> Node {
    Node { kind: NodeKind::Sync, ..relay(200, "server's") }
}

fn directory(relays: impl IntoIterator<Item = Node>) -> Directory {
    Directory::from_nodes(1, u64::MAX, relays)
}

/// `count` relays, each of an operator of its own.
fn relays(count: u8) -> impl Iterator<Item = Node> {
    (1..=count).map(|number| relay(number, &number.to_string()))
}

fn request(server: &Node, now: Millis) -> RouteRequest<'_> {
    RouteRequest { server, relays: 3, class: PacketClass::C0, avoid: &[], now }
}

/// One device with its directory and server.
struct Device {
    routes: Routes,
    directory: Directory,
    server: Node,
    entropy: delta_core::entropy::SeededEntropy,
    now: Millis,
}

impl Device {
    fn new(relays: impl IntoIterator<Item = Node>, seed: u8) -> Self {
        let (directory, server) = (directory(relays), server());
        Self { routes: Routes::default(), directory, server, entropy: entropy(seed), now: NOW }
    }

    fn try_pick(&mut self, used: &[Vec<NodeId>]) -> Result<Route, RouteError> {
        self.routes.pick(&self.directory, &request(&self.server, self.now), used, &mut self.entropy)
    }

    fn pick(&mut self) -> Vec<NodeId> {
        self.try_pick(FRESH).unwrap().path()
    }

    fn entry(&mut self) -> NodeId {
        self.pick()[0]
    }

    fn knock_out(&mut self, entry: NodeId) {
        for _ in 0..REFUSALS_UNTIL_DOWN {
            self.routes.report_entry(entry, false, self.now);
        }
    }

    /// Knocks out every entry it comes up with, until one comes up twice.
    fn knock_out_all(&mut self) -> BTreeSet<NodeId> {
        let mut seen = BTreeSet::new();
        loop {
            let entry = self.entry();
            if !seen.insert(entry) {
                return seen;
            }
            self.knock_out(entry);
        }
    }
}

#[test]
fn the_entry_stays_and_the_rest_is_fresh() {
    let mut device = Device::new(relays(20), 1);
    let first = device.entry();
    let mut behind = BTreeSet::new();
    for _ in 0..200 {
        let path = device.pick();
        assert_eq!(path[0], first);
        behind.extend(path[1..].iter().copied());
    }
    assert_eq!(behind.len(), 19, "every other relay comes up behind it");
}

#[test]
fn the_entry_is_kept_across_restarts_and_stored_only_when_it_changes() {
    let mut device = Device::new(relays(9), 2);
    assert_eq!(device.routes.take_changes(), None);
    let entry = device.entry();
    let stored = device.routes.take_changes().expect("new guards are to be stored");
    device.pick();
    assert_eq!(device.routes.take_changes(), None);

    let guards = Guards::load(&stored).unwrap();
    assert_eq!(guards.nodes().count(), GUARDS);
    assert_eq!(&guards, device.routes.guards());
    assert_eq!(guards.to_bytes(), stored);
    device.routes = Routes::new(guards);
    device.entropy = entropy(77);
    assert_eq!(device.entry(), entry);
}

#[test]
fn a_guard_is_kept_for_30_to_60_days() {
    let mut lifetimes = Vec::new();
    for seed in 0..40 {
        let mut device = Device::new(relays(9), seed);
        let first = device.entry();
        let mut day = 0;
        while device.entry() == first {
            day += 1;
            device.now = NOW.plus(day * DAY);
        }
        lifetimes.push(day * DAY);
    }
    let (shortest, longest) = (lifetimes.iter().min().unwrap(), lifetimes.iter().max().unwrap());
    assert!(*shortest >= GUARD_LIFETIME_MIN_MS && *longest <= GUARD_LIFETIME_MAX_MS + DAY, "{lifetimes:?}");
    assert!(longest - shortest > 15 * DAY, "drawn, not fixed: {lifetimes:?}");
}

#[test]
fn a_guard_that_is_down_gives_way_to_the_spare_and_comes_back() {
    let mut device = Device::new(relays(9), 3);
    let guards: Vec<NodeId> = {
        device.pick();
        device.routes.guards().nodes().collect()
    };
    device.routes.report_entry(guards[0], false, device.now);
    assert_eq!(device.entry(), guards[0], "one refusal is nothing");
    device.knock_out(guards[0]);
    assert_eq!(device.entry(), guards[1]);
    assert_eq!(device.routes.guards().nodes().count(), GUARDS, "nobody is drawn while the spare works");
    device.now = device.now.plus(DOWN_MAX_MS);
    assert_eq!(device.entry(), guards[0]);
    device.knock_out(guards[0]);
    device.routes.network_changed();
    assert_eq!(device.entry(), guards[0]);
}

#[test]
fn new_guards_are_drawn_slowly() {
    let mut device = Device::new(relays(40), 4);
    for (wait, drawn) in [(0, 1), (DAY - 1, 1), (1, 2), (DAY, 3)] {
        device.now = device.now.plus(wait);
        device.knock_out_all();
        assert_eq!(device.routes.guards().nodes().count(), GUARDS + drawn * NEW_GUARDS_PER_DAY);
    }
}

#[test]
fn guards_drawn_for_nothing_are_forgotten_when_an_older_one_delivers() {
    let mut device = Device::new(relays(40), 5);
    device.pick();
    let first: Vec<NodeId> = device.routes.guards().nodes().collect();
    device.knock_out_all();
    assert_eq!(device.routes.guards().nodes().count(), GUARDS + NEW_GUARDS_PER_DAY);
    device.routes.take_changes();
    device.routes.network_changed();
    let path = device.pick();
    assert_eq!(path[0], first[0]);
    device.routes.report_delivery(&path, true, device.now);
    assert_eq!(device.routes.guards().nodes().collect::<Vec<_>>(), first);
    assert!(device.routes.take_changes().is_some());
    device.routes.report_delivery(&path, true, device.now);
    assert_eq!(device.routes.take_changes(), None, "a working guard is not written again and again");
}

#[test]
fn a_guard_that_proved_itself_stays() {
    let mut device = Device::new(relays(40), 6);
    device.pick();
    for guard in device.routes.guards().nodes().collect::<Vec<_>>() {
        device.knock_out(guard);
    }
    let path = device.pick();
    device.routes.report_delivery(&path, true, device.now);
    device.routes.network_changed();
    let older = device.pick();
    assert_ne!(older[0], path[0]);
    device.routes.report_delivery(&older, true, device.now);
    assert!(device.routes.guards().nodes().any(|guard| guard == path[0]));
}

#[test]
fn without_a_usable_guard_the_packet_waits_for_the_next_draw() {
    let mut device = Device::new(relays(9), 7);
    let mut next = 20;
    for _ in 0..NEW_GUARDS_PER_DAY {
        device.pick();
        // All its guards leave the directory; two are to be drawn.
        device.directory = directory((next..next + 5).map(|number| relay(number, &number.to_string())));
        next += 5;
    }
    let stored = device.routes.guards().clone();
    assert_eq!(device.try_pick(FRESH), Err(RouteError::NoGuard { until: NOW.plus(DAY) }));
    assert_eq!(device.routes.guards(), &stored);
    device.now = NOW.plus(DAY);
    assert!(device.try_pick(FRESH).is_ok());
}

#[test]
fn a_guard_that_comes_back_into_the_directory_is_the_entry_again() {
    let mut device = Device::new(relays(9), 8);
    let first = device.entry();
    let all: Vec<Node> = relays(9).collect();
    device.directory = directory(all.iter().filter(|node| node.id != first).cloned());
    let spare = device.entry();
    assert_ne!(spare, first);
    device.directory = directory(all);
    assert_eq!(device.entry(), first);
}

#[test]
fn no_more_than_the_limit_of_guards_is_remembered() {
    let mut device = Device::new(relays(60), 9);
    for day in 0..10 {
        device.now = NOW.plus(day * DAY);
        device.knock_out_all();
        let guards: BTreeSet<NodeId> = device.routes.guards().nodes().collect();
        assert_eq!(guards.len(), MAX_GUARDS.min(GUARDS + NEW_GUARDS_PER_DAY * (day as usize + 1)));
    }
    assert!(Guards::load(&device.routes.guards().to_bytes()).is_ok());
}

#[test]
fn the_primary_and_the_spare_are_of_different_operators() {
    let crowd = (10..60).map(|number| relay(number, "crowd"));
    let mut first = BTreeMap::<bool, usize>::new();
    for seed in 0..200 {
        let mut device = Device::new(crowd.clone().chain(relays(3)), seed);
        let path = device.pick();
        let operators: BTreeSet<_> = device
            .routes
            .guards()
            .nodes()
            .map(|id| device.directory.node(&id).unwrap().operator.clone())
            .collect();
        assert_eq!(operators.len(), GUARDS);
        let of_crowd = device.directory.node(&path[0]).unwrap().operator.as_deref() == Some("crowd");
        *first.entry(of_crowd).or_default() += 1;
    }
    // 50 expected of four operators; 35 is more than five standard deviations.
    assert!(first[&true].abs_diff(50) < 35, "{first:?}");
}

#[test]
fn case_34_fewer_operators_than_relays_is_a_typed_error_and_costs_no_guard() {
    let mut device = Device::new(relays(2).chain([relay(3, "server's")]), 10);
    assert_eq!(device.try_pick(FRESH), Err(RouteError::TooFewRelays { have: 2, need: 3 }));
    assert_eq!(device.routes.take_changes(), None);
    device.directory = directory(relays(3));
    assert_eq!(device.try_pick(FRESH).unwrap().relays.len(), 3);
}

#[test]
fn unhealthy_relays_are_used_rather_than_none() {
    let mut device = Device::new(relays(3), 11);
    for _ in 0..30 {
        let path = device.pick();
        device.routes.report_delivery(&path, false, device.now);
    }
    assert_eq!(device.pick().len(), 3, "three relays of three operators, all of them unhealthy");
}

#[test]
fn health_excludes_and_never_prefers() {
    let mut device = Device::new(relays(8), 12);
    let entry = device.entry();
    let others: Vec<NodeId> = relays(8).map(|node| node.id).filter(|id| *id != entry).collect();
    let (praised, bad) = (others[0], others[1]);
    for _ in 0..100 {
        device.routes.report_delivery(&[entry, praised], true, device.now);
        device.routes.report_delivery(&[bad], false, device.now);
    }
    let mut exits = BTreeMap::<NodeId, usize>::new();
    for _ in 0..3000 {
        *exits.entry(*device.pick().last().unwrap()).or_default() += 1;
    }
    assert!(!exits.contains_key(&bad));
    // 500 expected of each of six; 110 is more than five standard deviations.
    assert!(exits.len() == 6 && exits.values().all(|count| count.abs_diff(500) < 110), "{exits:?}");
}

/// A relay that takes packets and loses them all, wherever it stands: found out within a few attempts, although
/// nobody can tell which relay of a route was to blame.
#[test]
fn case_36_what_one_relay_drops_arrives_over_another_route() {
    for (count, seed) in (4..=9).flat_map(|count| (0..30).map(move |seed| (count, seed))) {
        for hostile in relays(count).map(|node| node.id) {
            let mut device = Device::new(relays(count), seed);
            let mut attempts: Vec<Vec<NodeId>> = Vec::new();
            loop {
                let path = device.try_pick(&attempts).unwrap().path();
                let arrives = !path.contains(&hostile);
                device.routes.report_entry(path[0], true, device.now);
                device.routes.report_delivery(&path, arrives, device.now);
                device.now = device.now.plus(8_000);
                attempts.push(path);
                if arrives {
                    break;
                }
                // Restarts forget neither guards nor what they lost.
                device.routes = Routes::new(Guards::load(&device.routes.guards().to_bytes()).unwrap());
                assert!(attempts.len() <= 6, "{count} relays, seed {seed}: {attempts:?} avoid {hostile:?}?");
            }
            let entry_is_hostile = attempts[0][0] == hostile;
            if entry_is_hostile {
                assert!(attempts.len() > GUARD_PATIENCE, "a guard is not given up at once");
            } else if count >= 5 {
                assert!(attempts.len() <= 2, "two fresh relays are there: {attempts:?}");
            }
            for _ in 0..4 {
                let path = device.pick();
                device.routes.report_delivery(&path, !path.contains(&hostile), device.now);
            }
            if entry_is_hostile {
                assert_ne!(device.entry(), hostile, "other operations do not meet it first");
            }
        }
    }
}

#[test]
fn v2_routes_have_relays_and_guards_of_their_own() {
    let both = relays(5).chain((11..=15).map(|number| v2_only(relay(number, &number.to_string()))));
    let mut device = Device::new(both, 13);
    let v2_server = v2_only(server());
    let is_v2 = |node: &Node| node.keys.is_empty();
    for _ in 0..50 {
        let v3 = device.try_pick(FRESH).unwrap();
        assert!(!v3.relays.iter().any(is_v2));
        let request = request(&v2_server, device.now);
        let v2 = device.routes.pick_v2(&device.directory, &request, FRESH, &mut device.entropy).unwrap();
        assert!(v2.relays.iter().all(is_v2));
        assert_eq!(v2.hops().len(), 3);
        assert_eq!(v2.entry_url().unwrap(), format!("{}/hop", v2.relays[0].url));
    }
    // Whoever keeps away from guards keeps away from both kinds.
    let guards: Vec<NodeId> = device.routes.guards().nodes().collect();
    let known = |id: &&NodeId| device.directory.node(id).is_some_and(is_v2);
    assert_eq!((guards.len(), guards.iter().filter(known).count()), (2 * GUARDS, GUARDS));
    // Neither kind stands in for the other, be it as relay or as server.
    let no_v3 = directory((11..=15).map(|number| v2_only(relay(number, &number.to_string()))));
    let server = server();
    let picked = Routes::default().pick(&no_v3, &request(&server, NOW), FRESH, &mut entropy(1));
    assert_eq!(picked, Err(RouteError::TooFewRelays { have: 0, need: 3 }));
    let picked =
        Routes::default().pick_v2(&directory(relays(5)), &request(&v2_server, NOW), FRESH, &mut entropy(1));
    assert_eq!(picked, Err(RouteError::TooFewRelays { have: 0, need: 3 }));
    let picked = Routes::default().pick(&device.directory, &request(&v2_server, NOW), FRESH, &mut entropy(1));
    assert_eq!(picked, Err(RouteError::Server));
    let picked = Routes::default().pick_v2(&device.directory, &request(&server, NOW), FRESH, &mut entropy(1));
    assert_eq!(picked, Err(RouteError::Server));
}

#[test]
fn a_broken_random_source_gives_no_route_and_no_guard() {
    let server = server();
    let mut routes = Routes::default();
    let picked = routes.pick(&directory(relays(5)), &request(&server, NOW), FRESH, &mut Broken);
    assert!(matches!(picked, Err(RouteError::Entropy(_))));
    assert_eq!(routes.guards(), &Guards::default());
}

#[test]
fn a_clock_that_was_wrong_does_not_pin_guards_or_draws() {
    let mut device = Device::new(relays(40), 14);
    device.now = Millis(u64::MAX / 2);
    device.knock_out_all();
    device.now = NOW;
    let first = device.entry();
    device.now = NOW.plus(DAY);
    assert!(device.knock_out_all().len() > GUARDS, "draws of the future count as today's");
    device.now = NOW.plus(GUARD_LIFETIME_MAX_MS);
    device.routes.network_changed();
    assert_ne!(device.entry(), first);
}

#[test]
fn stored_guards_that_are_broken_are_an_error() {
    let mut device = Device::new(relays(40), 15);
    device.knock_out_all();
    let stored = device.routes.guards().to_bytes();
    assert_eq!(Guards::load(&[]), Ok(Guards::default()));
    for len in 1..stored.len() {
        assert!(matches!(Guards::load(&stored[..len]), Err(DecodeError::Truncated(_))), "{len}");
    }
    let mut longer = stored.clone();
    longer.push(0);
    assert_eq!(Guards::load(&longer), Err(DecodeError::Trailing(1)));
    for version in [0, 2, 255] {
        let mut other = stored.clone();
        other[0] = version;
        assert_eq!(Guards::load(&other), Err(DecodeError::Invalid("version")));
    }
    let guard = |number: u8| [&[number; 32][..], &[0; 8 + 1 + 2 + 2 + 8]].concat();
    let set = |count: u8| {
        [&[1, 1, count][..], &(0..count).flat_map(guard).collect::<Vec<_>>(), &[0, 0, 0, 0]].concat()
    };
    assert_eq!(Guards::load(&set(MAX_GUARDS as u8)).unwrap().nodes().count(), MAX_GUARDS);
    assert_eq!(Guards::load(&set(MAX_GUARDS as u8 + 1)), Err(DecodeError::TooLarge("guards")));
    let draws = |count: u8| [&[1, 1, 0, count][..], &vec![0; 8 * usize::from(count)], &[0, 0, 0]].concat();
    assert!(Guards::load(&draws(NEW_GUARDS_PER_DAY as u8)).is_ok());
    assert_eq!(Guards::load(&draws(NEW_GUARDS_PER_DAY as u8 + 1)), Err(DecodeError::TooLarge("draws")));
    let doubled = [&[1, 1, 2][..], &guard(1), &guard(1), &[0, 0, 0, 0]].concat();
    assert_eq!(Guards::load(&doubled), Err(DecodeError::Invalid("guard")));
    assert_eq!(Guards::load(&[1, 2, 0, 0, 0, 0, 0]), Err(DecodeError::Invalid("filled")));
}

proptest! {
    #[test]
    fn a_retry_prefers_an_exit_then_middles_the_operation_has_not_used_then_the_least_recently_used(
        count in 3..9u8,
        length in 1..=5usize,
        attempts in 1..8usize,
        seed: u8,
    ) {
        let length = length.min(usize::from(count));
        let mut device = Device::new(relays(count), seed);
        let mut used: Vec<Vec<NodeId>> = Vec::new();
        for _ in 0..attempts {
            let request = RouteRequest { relays: length, ..request(&device.server, NOW) };
            let route = device.routes.pick(&device.directory, &request, &used, &mut device.entropy).unwrap();
            let path = route.path();
            prop_assert_eq!(path.len(), length);
            prop_assert_eq!(path.iter().collect::<BTreeSet<_>>().len(), length);
            // 0: never used; otherwise the latest attempt that used it.
            let last_used = |id: &NodeId| used.iter().rposition(|relays| relays.contains(id)).map_or(0, |at| at + 1);
            let mut order: Vec<NodeId> = path[1..].to_vec();
            order.rotate_right(1.min(length - 1));
            let mut free: Vec<NodeId> = relays(count).map(|node| node.id).filter(|id| *id != path[0]).collect();
            for taken in order {
                let best = free.iter().map(&last_used).min();
                prop_assert_eq!(Some(last_used(&taken)), best, "exit first, then the middles");
                free.retain(|id| *id != taken);
            }
            used.push(path);
        }
        // The entry changes only after its share of attempts.
        for tries in used.chunks(GUARD_PATIENCE) {
            prop_assert!(tries.iter().all(|path| path[0] == tries[0][0]));
        }
    }

    #[test]
    fn every_route_is_complete_of_distinct_operators_and_never_the_servers(
        operators in prop::collection::vec(0..8u8, 0..40),
        reports in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<bool>()), 0..60),
        length in 1..=5usize,
        seed: u8,
    ) {
        let nodes: Vec<Node> =
            operators.iter().zip(1..).map(|(operator, number)| relay(number, &operator.to_string())).collect();
        let mut device = Device::new(nodes.clone(), seed);
        device.server.operator = Some("0".into());
        let have = operators.iter().filter(|operator| **operator != 0).collect::<BTreeSet<_>>().len();
        for (node, entry, ok) in &reports {
            if let Some(node) = nodes.get(node.index(nodes.len().max(1))) {
                match entry {
                    true => device.routes.report_entry(node.id, *ok, NOW),
                    false => device.routes.report_delivery(&[node.id], *ok, NOW),
                }
            }
        }
        let request = RouteRequest { relays: length, ..request(&device.server, NOW) };
        match device.routes.pick(&device.directory, &request, FRESH, &mut device.entropy) {
            Err(error) => {
                prop_assert_eq!(error, RouteError::TooFewRelays { have, need: length });
                prop_assert!(have < length);
            }
            Ok(route) => {
                let chosen: BTreeSet<_> = route.relays.iter().map(|relay| relay.operator.clone()).collect();
                prop_assert_eq!(route.relays.len(), length);
                prop_assert_eq!(chosen.len(), length);
                prop_assert!(!chosen.contains(&device.server.operator));
                prop_assert_eq!(route.server, device.server);
            }
        }
    }

    #[test]
    fn any_bytes_are_guards_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(guards) = Guards::load(&bytes) {
            prop_assert!(bytes.is_empty() || guards.to_bytes() == bytes);
        }
    }
}
