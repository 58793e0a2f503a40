//! What becomes of packets: the real program, from the first relay to the last node.

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use delta_core::onion::directory::NodeKind;
use support::{Net, Played, Relay, Server, answer, exchange, free_address, post, status, wrap};

/// One running relay and a last node that takes everything.
struct One {
    net: Net,
    relay: Relay,
    sink: Server,
    last: Played,
}

impl One {
    fn start() -> Self {
        Self::with_sink(Server::accepting())
    }

    fn with_sink(sink: Server) -> Self {
        let net = Net::new();
        let mut relay = net.relay("relay");
        let last = Played::new(1, NodeKind::Sync, sink.url());
        net.write(1, &[relay.record.clone(), last.record()]);
        relay.start(&net);
        Self { net, relay, sink, last }
    }

    fn packet(&self, seed: u32) -> Vec<u8> {
        wrap(&[self.relay.hop(0), self.last.hop()], b"content", seed)
    }
}

#[test]
fn packets_of_every_class_cross_three_relays_once_and_with_equal_lengths_on_every_link() {
    let net = Net::new();
    let sink = Server::accepting();
    let last = Played::new(1, NodeKind::Sync, sink.url());
    // The directory leads to each relay through a tap that records what passes.
    let mut relays: Vec<Relay> = Vec::new();
    let mut taps = Vec::new();
    for name in ["a", "b", "c"] {
        let address = free_address();
        let tap = Server::start(move |request, stream| {
            assert_eq!(status(&post(address, &request.body)), 202);
            answer(stream, "202 Accepted", "");
        });
        relays.push(net.relay_behind(name, address, Some(tap.url())));
        taps.push(tap);
    }
    let records: Vec<_> = relays.iter().map(|relay| relay.record.clone()).chain([last.record()]).collect();
    net.write(1, &records);
    for relay in &mut relays {
        relay.start(&net);
    }
    let mut hops: Vec<_> = relays.iter().map(|relay| relay.hop(0)).collect();
    hops.push(last.hop());

    let contents: Vec<Vec<u8>> = [10, 3468, 3469, 15_756, 60_000, 261_516, 1_052_044]
        .iter()
        .chain(&[100; 20])
        .enumerate()
        .map(|(index, len)| vec![index as u8; *len])
        .collect();
    let mut lengths = Vec::new();
    for (index, content) in contents.iter().enumerate() {
        let packet = wrap(&hops, content, index as u32);
        lengths.push(packet.len());
        assert_eq!(status(&post(taps[0].address, &packet)), 202);
    }
    let got: Vec<_> = contents.iter().map(|_| sink.next()).collect();
    let read: BTreeSet<Vec<u8>> = got.iter().map(|request| last.read(&request.body)).collect();
    assert_eq!(read, contents.iter().cloned().collect());
    assert!(got.iter().all(|request| request.head.starts_with("POST /deliver HTTP/1.1\r\n")));

    lengths.sort_unstable();
    for link in taps.iter().map(Server::rest).chain([got]) {
        let mut seen: Vec<_> = link.iter().map(|request| request.body.len()).collect();
        seen.sort_unstable();
        assert_eq!(seen, lengths);
        // Nothing else in a request tells two packets of a class apart (ours to the first relay is the test's).
        let heads: BTreeSet<_> =
            link.iter().map(|request| (request.body.len(), request.head.clone())).collect();
        let classes: BTreeSet<_> = lengths.iter().copied().collect();
        assert_eq!(heads.len(), classes.len(), "{heads:?}");
    }
    for relay in &relays {
        relay.wait_count("delivered", contents.len() as u64);
    }
    assert!(sink.rest().is_empty());
}

#[test]
fn case_02_and_03_a_replay_is_dropped_also_after_a_stop_and_after_kill_9() {
    let One { net, mut relay, sink, last } = One::start();
    let hops = [relay.hop(0), last.hop()];
    let packets = [1, 2, 3].map(|seed| wrap(&hops, b"content", seed));

    post(relay.address, &packets[0]);
    post(relay.address, &packets[0]);
    relay.wait_count("replayed", 1);
    relay.wait_count("delivered", 1);

    relay.terminate();
    assert!(relay.wait().success());
    relay.start(&net);
    post(relay.address, &packets[0]);
    post(relay.address, &packets[1]);
    relay.wait_count("replayed", 1);
    relay.wait_count("delivered", 1);

    relay.kill();
    relay.start(&net);
    post(relay.address, &packets[0]);
    post(relay.address, &packets[1]);
    post(relay.address, &packets[2]);
    relay.wait_count("replayed", 2);
    relay.wait_count("delivered", 1);

    let got: BTreeSet<_> = (0..3).map(|_| sink.next().body).collect();
    assert_eq!(got.len(), 3);
    assert!(sink.rest().is_empty());
}

#[test]
fn case_03_a_replay_set_that_cannot_be_trusted_ends_its_key() {
    let One { net, mut relay, sink, last } = One::start();
    let packet = wrap(&[relay.hop(0), last.hop()], b"content", 1);
    post(relay.address, &packet);
    relay.wait_count("delivered", 1);
    relay.terminate();
    assert!(relay.wait().success());
    let kid = relay.record.verify().unwrap().keys[0].kid;
    std::fs::remove_file(relay.data.join(format!("replay-{kid}"))).unwrap();
    relay.start(&net);
    post(relay.address, &packet);
    relay.wait_count("not_for_us", 1);
    assert_eq!(sink.rest().len(), 1);
}

#[test]
fn case_07_lengths_that_no_packet_has_are_refused_before_their_body_is_read() {
    let one = One::start();
    // Only the head is sent: an answer means that nobody waited for the body.
    let head = |headers: &str| {
        let request = format!("POST /hop HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n");
        status(&exchange(one.relay.address, request.as_bytes()))
    };
    for length in [51, 52, 4095, 4097, 16_383, 16_385, 65_535, 262_145, 1_052_671] {
        assert_eq!(head(&format!("content-length: {length}")), 400, "{length}");
    }
    for length in [1_052_673_u64, 1 << 31, 1 << 40] {
        assert_eq!(head(&format!("content-length: {length}")), 413, "{length}");
    }
    assert_eq!(head("content-length: 0"), 400);
    assert_eq!(head("transfer-encoding: chunked"), 411);
    assert_eq!(head("connection: close"), 411);
    one.relay.wait_count("bad_length", 15);
    assert_eq!(one.relay.count("accepted"), 0);
}

#[test]
fn case_35_good_tampered_replayed_foreign_and_misdirected_packets_get_the_same_answer() {
    let one = One::start();
    let good = one.packet(1);
    let stranger = Played::new(9, NodeKind::Relay, String::new());
    let mut tampered = one.packet(2);
    tampered[2000] ^= 1;
    // Case 8: a class that contradicts the length. Case 9: other versions.
    let mut class = one.packet(3);
    class[1] = 4;
    let versions = [0, 1, 2, 4, 255].map(|version| {
        let mut packet = one.packet(4);
        packet[0] = version;
        packet
    });
    let unknown_next = wrap(&[one.relay.hop(0), stranger.hop()], b"x", 5);
    let own_id = wrap(&[one.relay.hop(0), one.relay.hop(0), one.last.hop()], b"x", 6);
    let deliver_here = wrap(&[one.relay.hop(0)], b"x", 7);
    let foreign = wrap(&[stranger.hop(), one.last.hop()], b"x", 8);
    // Case 26: the beginning of a sealed-sender envelope.
    let mut sealed = one.packet(9);
    sealed[0] = 1;

    let expected = post(one.relay.address, &good);
    assert_eq!(status(&expected), 202);
    let others = [good, tampered, class, unknown_next, own_id, deliver_here, foreign, sealed];
    for (index, packet) in others.iter().chain(&versions).enumerate() {
        assert_eq!(post(one.relay.address, packet), expected, "{index}");
    }
    one.relay.wait_count("replayed", 1);
    one.relay.wait_count("not_for_us", 9);
    one.relay.wait_count("unknown_next", 1);
    one.relay.wait_count("own_id", 1);
    one.relay.wait_count("deliver_at_relay", 1);
    one.relay.wait_count("delivered", 1);
    assert_eq!(one.sink.rest().len(), 1);
}

#[test]
fn case_28_a_name_that_resolves_to_loopback_is_not_connected_to() {
    let net = Net::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let last = Played::new(1, NodeKind::Sync, format!("https://localhost:{port}"));
    let mut relay = net.relay_behind("relay", free_address(), Some("https://relay.example".to_owned()));
    net.write(1, &[relay.record.clone(), last.record()]);
    relay.start_with(&net, &["--batch-ms", "0"]);
    post(relay.address, &wrap(&[relay.hop(0), last.hop()], b"x", 1));
    relay.wait_count("address_refused", 1);
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn case_30_a_redirect_is_final_and_not_followed() {
    let elsewhere = Server::accepting();
    let location = format!("location: {}/deliver\r\n", elsewhere.url());
    let one =
        One::with_sink(Server::start(move |_, stream| answer(stream, "308 Permanent Redirect", &location)));
    post(one.relay.address, &one.packet(1));
    one.relay.wait_count("refused", 1);
    assert_eq!(one.sink.rest().len(), 1);
    assert!(elsewhere.rest().is_empty());
}

#[test]
fn case_31_nodes_that_never_answer_do_not_hold_up_others() {
    let net = Net::new();
    let (silent, endless, sink) = (
        Server::start(|_, _| {}),
        Server::start(|_, stream| {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n");
            while stream.write_all(&[0; 4096]).is_ok() {}
        }),
        Server::accepting(),
    );
    let played: Vec<_> = [(1, &silent), (2, &endless), (3, &sink)]
        .map(|(seed, server)| Played::new(seed, NodeKind::Sync, server.url()))
        .into();
    let mut relay = net.relay("relay");
    let records: Vec<_> =
        std::iter::once(relay.record.clone()).chain(played.iter().map(Played::record)).collect();
    net.write(1, &records);
    relay.start(&net);
    for seed in 0..100 {
        for (last, part) in played.iter().zip(0..) {
            post(relay.address, &wrap(&[relay.hop(0), last.hop()], b"x", 3 * seed + part));
        }
    }
    // The endless body is cut after its status was read: those packets count as delivered, too.
    relay.wait_count("delivered", 200);
    for _ in 0..100 {
        sink.next();
    }
}

#[test]
fn a_busy_node_is_tried_again() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let one = One::with_sink(Server::start(move |_, stream| {
        let busy = first.swap(false, std::sync::atomic::Ordering::Relaxed);
        answer(stream, if busy { "503 Service Unavailable" } else { "202 Accepted" }, "");
    }));
    post(one.relay.address, &one.packet(1));
    one.relay.wait_count("delivered", 1);
    assert_eq!(one.relay.count("retried"), 1);
    let tries = one.sink.rest();
    assert_eq!(tries.len(), 2);
    assert_eq!(tries[0].body, tries[1].body);
}

#[test]
fn a_stop_forwards_what_was_accepted_and_exits_with_success() {
    let One { net: _net, mut relay, sink, last } = One::start();
    // Held for a second at the relay: still there when the stop comes.
    post(relay.address, &wrap(&[relay.hop(100), last.hop()], b"late", 1));
    relay.terminate();
    assert!(relay.wait().success());
    assert_eq!(last.read(&sink.next().body), b"late");
}

#[test]
fn above_its_memory_a_relay_answers_503_and_recovers() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let sink = Server::start(move |_, stream| {
        let _ = wait.lock().unwrap().recv();
        answer(stream, "202 Accepted", "");
    });
    let net = Net::new();
    let mut relay = net.relay("relay");
    let last = Played::new(1, NodeKind::Sync, sink.url());
    net.write(1, &[relay.record.clone(), last.record()]);
    // Room for one packet of the class; a next node may hold a quarter of it.
    relay.start_with(&net, &["--batch-ms", "0", "--allow-private", "--max-bytes", "16384"]);
    let packet = |seed| wrap(&[relay.hop(0), last.hop()], b"x", seed);
    assert_eq!(status(&post(relay.address, &packet(1))), 202);
    sink.next();
    // A packet of 16 KiB does not fit beside the waiting one.
    let large = wrap(&[relay.hop(0), last.hop()], &[1; 10_000], 2);
    let refused = post(relay.address, &large);
    assert_eq!(status(&refused), 503);
    assert!(refused.contains("retry-after: 1"), "{refused}");
    // A second small one does, but the node's queue is full: dropped, not told.
    assert_eq!(status(&post(relay.address, &packet(3))), 202);
    relay.wait_count("queue_full", 1);
    release.send(()).unwrap();
    relay.wait_count("delivered", 1);
    assert_eq!(status(&post(relay.address, &large)), 202);
}

#[test]
fn other_paths_and_methods_are_refused() {
    let one = One::start();
    let ask = |address: SocketAddr, line: &str| {
        status(&exchange(
            address,
            format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        ))
    };
    for (line, code) in [
        ("GET /health", 200),
        ("GET /key", 200),
        ("GET /records", 200),
        ("GET /hop", 405),
        ("POST /key", 405),
        ("GET /metrics", 404),
        ("GET /", 200),
        ("POST /", 405),
        ("POST /tunnel", 405),
        ("GET /tunnel", 400),
        ("GET /deliver", 404),
        ("POST /hop/", 404),
    ] {
        assert_eq!(ask(one.relay.address, line), code, "{line}");
    }
    assert_eq!(ask(one.relay.admin, "GET /metrics"), 200);
    assert_eq!(ask(one.relay.admin, "GET /health"), 200);
    assert_eq!(ask(one.relay.admin, "POST /hop"), 404);
}
