//! Which relay carries a topic's stream.

use std::collections::{BTreeMap, BTreeSet};

use delta_core::identity::{Millis, NodeId};
use delta_core::onion::directory::{Directory, Node, NodeKind};
use delta_core::onion::route::{TUNNEL_PAUSE_MAX_MS, TUNNEL_PAUSE_MIN_MS, Tunnel, TunnelRequest, Tunnels};
use delta_core::topic::TopicId;

const NOW: Millis = Millis(1_000_000);

fn node(index: u8, operator: &str) -> Node {
    Node {
        id: NodeId([index; 32]),
        kind: NodeKind::Relay,
        operator: Some(operator.to_owned()),
        url: format!("https://relay{index}.example"),
        keys: Vec::new(),
        expires: u64::MAX,
        max_class: 4,
        seq: 1,
        tunnel: true,
    }
}

fn server() -> Node {
    Node { kind: NodeKind::Sync, tunnel: false, ..node(200, "server") }
}

/// Relays 1 to `count`, each with an operator of its own.
fn relays(count: u8) -> Vec<Node> {
    (1..=count).map(|index| node(index, &format!("operator {index}"))).collect()
}

fn directory(nodes: Vec<Node>) -> Directory {
    Directory::from_nodes(1, u64::MAX, nodes)
}

fn topic(index: u16) -> TopicId {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&index.to_be_bytes());
    TopicId(id)
}

fn request<'a>(server: &'a Node, of: u16) -> TunnelRequest<'a> {
    TunnelRequest { server, topic: topic(of), guards: &[], never: &[], now: NOW }
}

fn relay_of(tunnel: Option<Tunnel>) -> u8 {
    tunnel.expect("a relay offers one").relay.0[0]
}

#[test]
fn the_url_names_the_server_and_nothing_else() {
    let (server, directory) = (server(), directory(relays(1)));
    let tunnel = Tunnels::new([1; 32]).choose(&directory, &request(&server, 1)).unwrap();
    assert_eq!(&*tunnel.url, format!("https://relay1.example/tunnel?to={}", "c8".repeat(32)));
}

#[test]
fn a_server_that_is_not_known_yet_is_asked_through_any_relay_guards_last_and_failed_ones_after_them() {
    let mut tunnels = Tunnels::new([1; 32]);
    let (server, guards) = (server().id, [NodeId([2; 32])]);
    let not_offering = Node { tunnel: false, ..node(9, "operator 9") };
    // Who runs the server is not known: relays that name nobody are taken, the server itself is not.
    let unnamed = Node { operator: None, ..node(8, "") };
    let others = [unnamed, not_offering, Node { id: server, ..node(200, "server") }];
    let directory = directory(relays(4).into_iter().chain(others).collect());
    let order = |tunnels: &Tunnels| -> Vec<u8> {
        let tunnels = tunnels.to_unknown(&directory, server, &guards, NOW);
        assert!(tunnels.iter().all(|tunnel| tunnel.server == server));
        tunnels.iter().map(|tunnel| tunnel.relay.0[0]).collect()
    };
    let first = order(&tunnels);
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!((sorted, first.last()), (vec![1, 2, 3, 4, 8], Some(&2)));
    tunnels.failed(NodeId([first[0]; 32]), 0, NOW);
    let mut expected = first.clone();
    expected.rotate_left(1);
    assert_eq!(order(&tunnels), expected);
}

#[test]
fn no_relay_of_the_servers_operator_and_none_that_does_not_offer() {
    let server = server();
    let tunnels = Tunnels::new([1; 32]);
    let same_operator = node(1, "server");
    let not_offering = Node { tunnel: false, ..node(2, "operator 2") };
    let both_unnamed = Node { operator: None, ..node(3, "") };
    let unnamed_server = Node { operator: None, ..server.clone() };
    let only = |node: &Node, server: &Node| {
        tunnels.choose(&directory(vec![node.clone()]), &request(server, 1)).is_some()
    };
    assert!(!only(&same_operator, &server));
    assert!(!only(&not_offering, &server));
    assert!(!only(&both_unnamed, &unnamed_server), "nodes nobody vouches for count as one operator");
    assert!(only(&both_unnamed, &server));
    assert!(only(&node(4, "operator 4"), &server));
}

#[test]
fn a_topic_keeps_its_relay_and_topics_spread_over_all_of_them() {
    let (server, directory) = (server(), directory(relays(5)));
    let tunnels = Tunnels::new([1; 32]);
    let mut used = BTreeMap::<u8, u32>::new();
    for of in 0..1000 {
        let relay = relay_of(tunnels.choose(&directory, &request(&server, of)));
        let again = Tunnels::new([1; 32]).choose(&directory, &request(&server, of));
        assert_eq!(relay_of(again), relay, "also after a restart");
        *used.entry(relay).or_default() += 1;
    }
    // Evenly drawn, each relay has 200 of 1000 topics; the deviation is about 13.
    assert!(used.len() == 5 && used.values().all(|times| (130..270).contains(times)), "{used:?}");
    let other = Tunnels::new([2; 32]);
    let differs = |of: &u16| {
        let [a, b] = [&tunnels, &other].map(|one| relay_of(one.choose(&directory, &request(&server, *of))));
        a != b
    };
    assert!((0..1000).filter(differs).count() > 600, "another device has another order");
}

#[test]
fn an_operator_gains_nothing_by_running_many() {
    let server = server();
    let many = (1..=50).map(|index| node(index, "many"));
    let directory = directory(many.chain([node(60, "one")]).collect());
    let tunnels = Tunnels::new([1; 32]);
    let one = (0..1000).filter(|of| relay_of(tunnels.choose(&directory, &request(&server, *of))) == 60);
    assert!((400..600).contains(&one.count()));
}

#[test]
fn guards_and_their_operators_come_last() {
    let server = server();
    let guards = [NodeId([1; 32]), NodeId([2; 32])];
    let mut nodes = relays(4);
    nodes[2].operator = Some("operator 1".to_owned());
    let tunnels = Tunnels::new([1; 32]);
    let chosen = |nodes: &[Node]| -> BTreeSet<u8> {
        let directory = directory(nodes.to_vec());
        let request = |of| TunnelRequest { guards: &guards, ..request(&server, of) };
        (0..100).map(|of| relay_of(tunnels.choose(&directory, &request(of)))).collect()
    };
    assert_eq!(chosen(&nodes), [4].into(), "neither a guard nor of a guard's operator");
    nodes.pop();
    assert_eq!(chosen(&nodes), [3].into(), "of a guard's operator");
    nodes.pop();
    assert_eq!(chosen(&nodes), [1, 2].into(), "a guard, rather than nothing");
}

#[test]
fn a_relay_that_fails_makes_room_and_comes_back() {
    let (server, directory) = (server(), directory(relays(3)));
    let mut tunnels = Tunnels::new([1; 32]);
    let at = |tunnels: &Tunnels, now| {
        relay_of(tunnels.choose(&directory, &TunnelRequest { now, ..request(&server, 1) }))
    };
    let first = at(&tunnels, NOW);
    tunnels.failed(NodeId([first; 32]), 0, NOW);
    let second = at(&tunnels, NOW);
    assert_ne!(second, first);
    let over = NOW.plus(TUNNEL_PAUSE_MIN_MS);
    assert_eq!(at(&tunnels, Millis(over.0 - 1)), second);
    assert_eq!(at(&tunnels, over), first);
    // Again, for twice as long; a network change ends it.
    tunnels.failed(NodeId([first; 32]), 0, over);
    assert_eq!(at(&tunnels, over.plus(2 * TUNNEL_PAUSE_MIN_MS - 1)), second);
    tunnels.network_changed();
    assert_eq!(at(&tunnels, over), first);
    // All tunnels through it break together: one failure.
    (0..64).for_each(|_| tunnels.failed(NodeId([first; 32]), 0, NOW));
    assert_eq!(at(&tunnels, over), first);
    tunnels.network_changed();
    // As long as it asks for, within an hour; what worked is forgiven.
    tunnels.failed(NodeId([first; 32]), u64::MAX, over);
    assert_eq!(at(&tunnels, over.plus(TUNNEL_PAUSE_MAX_MS - 1)), second);
    assert_eq!(at(&tunnels, over.plus(TUNNEL_PAUSE_MAX_MS)), first);
    tunnels.worked(&NodeId([first; 32]));
    assert_eq!(at(&tunnels, over), first);
}

#[test]
fn when_all_fail_the_one_that_is_due_first_is_tried_and_nothing_is_read_directly() {
    let (server, mut nodes) = (server(), relays(3));
    let mut tunnels = Tunnels::new([1; 32]);
    for (index, late) in [(1, 5), (2, 0), (3, 9)] {
        tunnels.failed(NodeId([index; 32]), 0, NOW.plus(late));
    }
    let of = request(&server, 1);
    let now = NOW.plus(10);
    assert_eq!(relay_of(tunnels.choose(&directory(nodes.clone()), &TunnelRequest { now, ..of })), 2);
    // Records that have expired are no reason either.
    nodes.iter_mut().for_each(|node| node.expires = 1);
    assert!(tunnels.choose(&directory(nodes.clone()), &of).is_some());
    nodes[2].expires = u64::MAX;
    tunnels.network_changed();
    assert_eq!(relay_of(tunnels.choose(&directory(nodes), &of)), 3, "a current one goes first");
}

#[test]
fn what_is_out_of_the_question_is_never_taken() {
    let (server, directory) = (server(), directory(relays(2)));
    let tunnels = Tunnels::new([1; 32]);
    let never = [NodeId([1; 32]), NodeId([2; 32])];
    let chosen =
        |never: &[NodeId]| tunnels.choose(&directory, &TunnelRequest { never, ..request(&server, 1) });
    assert_eq!(relay_of(chosen(&never[..1])), 2);
    assert_eq!(chosen(&never), None);
}
