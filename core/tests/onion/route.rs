//! Which routes are drawn, and when there is none.

use std::collections::{BTreeSet, HashMap};

use delta_core::identity::{Millis, NodeId};
use delta_core::onion::PacketClass;
use delta_core::onion::directory::{Directory, Node, NodeKind};
use delta_core::onion::route::{DEFAULT_RELAYS, MAX_RELAYS, RouteError, RouteRequest, pick};
use delta_core::onion::v3::{self, OnionSecret, Terminal};
use proptest::prelude::*;

use crate::support::{Broken, entropy};

const NOW: Millis = Millis(1_700_000_000_000);

fn relay(number: u8, operator: &str) -> Node {
    Node {
        id: NodeId([number; 32]),
        kind: NodeKind::Relay,
        operator: Some(operator.to_owned()).filter(|name| !name.is_empty()),
        url: format!("https://relay{number}.example.org"),
        keys: vec![OnionSecret::generate(1, &mut entropy(number)).unwrap().public()],
        expires: 1_700_000_001,
        max_class: 4,
        seq: 1,
        tunnel: false,
    }
}

fn server() -> Node {
    Node { kind: NodeKind::Sync, url: "https://sync.example.org".into(), ..relay(200, "server's") }
}

fn directory(relays: impl IntoIterator<Item = Node>) -> Directory {
    Directory::from_nodes(1, 1_800_000_000, relays)
}

fn request(server: &Node) -> RouteRequest<'_> {
    RouteRequest { server, relays: DEFAULT_RELAYS, class: PacketClass::C0, avoid: &[], now: NOW }
}

fn ids(relays: &[Node]) -> BTreeSet<NodeId> {
    relays.iter().map(|relay| relay.id).collect()
}

#[test]
fn a_route_ends_at_the_server_and_starts_at_its_first_relay() {
    let server = server();
    let relays = ["a", "b", "c"].into_iter().zip(1..).map(|(operator, number)| relay(number, operator));
    let route = pick(&directory(relays), &request(&server), &mut entropy(1)).unwrap();
    let hops = route.hops();
    assert_eq!(hops.len(), 4);
    assert_eq!(hops[3].node, server.id);
    assert_eq!(route.entry_url(), Some(format!("{}/hop", route.relays[0].url)));
    assert!(v3::wrap(&hops, Terminal::Drop, &mut entropy(1)).is_ok());
}

#[test]
fn case_34_fewer_operators_than_relays_is_a_typed_error() {
    let server = server();
    let too_few = |relays: &[(u8, &str)]| {
        let nodes = relays.iter().map(|(number, operator)| relay(*number, operator));
        pick(&directory(nodes), &request(&server), &mut entropy(1)).map(|_| ())
    };
    let error = |have| Err(RouteError::TooFewRelays { have, need: 3 });
    assert_eq!(too_few(&[]), error(0));
    assert_eq!(too_few(&[(1, "a"), (2, "b"), (3, "b"), (4, "b")]), error(2));
    assert_eq!(too_few(&[(1, "a"), (2, "b"), (3, "server's")]), error(2));
    assert_eq!(too_few(&[(1, "a"), (2, "b"), (200, "c")]), error(2), "the server's own id");
    assert_eq!(too_few(&[(1, "a"), (2, ""), (3, ""), (4, "")]), error(2), "unnamed operators are one");
    assert_eq!(too_few(&[(1, "a"), (2, "b"), (3, "")]), Ok(()));
}

#[test]
fn unusable_relays_are_not_taken() {
    let server = server();
    let good = || (1..=3).map(|number| relay(number, &number.to_string()));
    let unusable = [
        Node { expires: NOW.0 / 1000, ..relay(9, "9") },
        Node { keys: Vec::new(), ..relay(10, "10") },
        Node { kind: NodeKind::Sync, ..relay(11, "11") },
        Node { max_class: 1, ..relay(12, "12") },
    ];
    let directory = directory(good().chain(unusable));
    let request = RouteRequest { class: PacketClass::C2, ..request(&server) };
    for seed in 0..50 {
        let route = pick(&directory, &request, &mut entropy(seed)).unwrap();
        assert_eq!(ids(&route.relays), ids(&good().collect::<Vec<_>>()));
    }
}

#[test]
fn a_server_that_takes_no_such_packet_is_an_error() {
    let directory = directory((1..=5).map(|number| relay(number, &number.to_string())));
    let unusable = [
        Node { expires: 0, ..server() },
        Node { keys: Vec::new(), ..server() },
        Node { max_class: 0, ..server() },
    ];
    for server in unusable {
        let request = RouteRequest { class: PacketClass::C1, ..request(&server) };
        assert_eq!(pick(&directory, &request, &mut entropy(1)), Err(RouteError::Server));
    }
}

#[test]
fn one_to_five_relays() {
    let server = server();
    let directory = directory((1..=9).map(|number| relay(number, &number.to_string())));
    for relays in 0..=MAX_RELAYS + 1 {
        let request = RouteRequest { relays, ..request(&server) };
        let picked = pick(&directory, &request, &mut entropy(1));
        match relays {
            1..=5 => assert_eq!(picked.unwrap().relays.len(), relays),
            _ => assert_eq!(picked, Err(RouteError::RelayCount(relays))),
        }
    }
}

#[test]
fn an_expired_directory_and_a_broken_random_source_give_no_route() {
    let server = server();
    let relays = || (1..=9).map(|number| relay(number, &number.to_string()));
    let expired = Directory::from_nodes(1, NOW.0 / 1000, relays());
    assert_eq!(pick(&expired, &request(&server), &mut entropy(1)), Err(RouteError::DirectoryExpired));
    let broken = pick(&directory(relays()), &request(&server), &mut Broken);
    assert!(matches!(broken, Err(RouteError::Entropy(_))));
}

#[test]
fn operators_are_drawn_evenly_however_many_relays_they_run() {
    let server = server();
    let crowd = (10..110).map(|number| relay(number, "crowd"));
    let others = (1..=4).map(|number| relay(number, &number.to_string()));
    let directory = directory(crowd.chain(others));
    let mut first: HashMap<Option<String>, usize> = HashMap::new();
    let mut source = entropy(1);
    for _ in 0..5000 {
        let route = pick(&directory, &request(&server), &mut source).unwrap();
        *first.entry(route.relays[0].operator.clone()).or_default() += 1;
    }
    assert_eq!(first.len(), 5);
    // 1000 expected of each; 150 is more than five standard deviations.
    assert!(first.values().all(|count| count.abs_diff(1000) < 150), "{first:?}");
}

proptest! {
    #[test]
    fn relays_are_of_distinct_operators_and_just_failed_ones_are_avoided(
        operators in prop::collection::vec(0..8u8, 0..40),
        avoided in prop::collection::vec(any::<bool>(), 40),
        relays in 1..=5usize,
        seed: u8,
    ) {
        let server = Node { operator: Some("0".into()), ..server() };
        let nodes: Vec<Node> =
            operators.iter().zip(1..).map(|(operator, number)| relay(number, &operator.to_string())).collect();
        let avoid: Vec<NodeId> =
            nodes.iter().zip(avoided).filter(|(_, avoided)| *avoided).map(|(node, _)| node.id).collect();
        let distinct = |nodes: &mut dyn Iterator<Item = &Node>| {
            nodes.map(|node| node.operator.clone()).filter(|name| *name != server.operator).collect::<BTreeSet<_>>()
        };
        let have = distinct(&mut nodes.iter()).len();
        let fresh = distinct(&mut nodes.iter().filter(|node| !avoid.contains(&node.id))).len();
        let request = RouteRequest { relays, avoid: &avoid, ..request(&server) };
        match pick(&directory(nodes.clone()), &request, &mut entropy(seed)) {
            Err(error) => {
                prop_assert_eq!(error, RouteError::TooFewRelays { have, need: relays });
                prop_assert!(have < relays);
            }
            Ok(route) => {
                prop_assert_eq!(route.relays.len(), relays);
                prop_assert_eq!(distinct(&mut route.relays.iter()).len(), relays);
                let failed = route.relays.iter().filter(|relay| avoid.contains(&relay.id)).count();
                prop_assert_eq!(failed, relays.saturating_sub(fresh));
            }
        }
    }
}
