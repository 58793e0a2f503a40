//! The protocol, asked of a real server from outside.

mod common;

use common::{Server, next_json, write_key};
use delta_core::identity::EnvelopeHash;
use delta_core::limits::MAX_ENVELOPE;
use delta_core::onion::PacketClass;
use delta_core::onion::deliver;
use delta_core::sync::frame::Frame;
use delta_core::topic::{Seq, TopicId};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

const OCTETS: &str = "application/octet-stream";

#[tokio::test]
async fn case_39_a_hundred_duplicate_deliveries_are_one_entry_one_push_one_seq() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let key = write_key(1);
    let mut client = server.subscribe(&key.topic(), "").await;
    client.ready().await;
    for seed in 0..100 {
        server.deliver(&key, &[b"once"], seed).await;
    }
    server.deliver(&key, &[b"twice", b"once", b"twice"], 100).await;
    client.reach(2).await;
    server.metric_reaches("delta_sync_operations_duplicate_total", 101).await;
    assert_eq!(client.bytes(), [&b"once"[..], b"twice"]);
    assert_eq!(server.metric("delta_sync_operations_stored_total").await, 2);
    assert_eq!(server.head(&key.topic()).await["head"], 2);
}

/// Deliveries that wait for the disk together share a commit; each is answered only after its own.
#[tokio::test]
async fn deliveries_at_once_share_commits() {
    const TOGETHER: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--accept-v2"]);
    let topic = TopicId([9; 32]);
    let all = (0..TOGETHER).map(|n| {
        let (server, op) = (&server, vec![n as u8, 1, 2]);
        async move { server.deliver_json(&topic, &op).await.unwrap().status }
    });
    let statuses = futures_util::future::join_all(all).await;
    assert_eq!(statuses, [200; TOGETHER]);
    assert_eq!(server.metric("delta_sync_operations_stored_total").await, TOGETHER as u64);
    let commits = server.metric("delta_sync_commits_total").await;
    assert!((1..TOGETHER as u64).contains(&commits), "{commits}");
}

/// Past the limit no topic begins, in either way of writing; those that are there go on.
#[tokio::test]
async fn topics_have_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--accept-v2", "--limit", "topics=2"];
    let server = Server::start(dir.path(), &args);
    let deliver = async |server: &Server, topic: u8, op: &[u8]| {
        server.deliver_json(&TopicId([topic; 32]), op).await.unwrap().status
    };
    assert_eq!(deliver(&server, 1, b"one").await, 200);
    assert_eq!(deliver(&server, 2, b"one").await, 200, "at the limit");
    assert_eq!(deliver(&server, 3, b"one").await, 503, "past it");
    assert_eq!(deliver(&server, 1, b"two").await, 200);
    let key = write_key(1);
    server.deliver(&key, &[b"signed"], 1).await;
    server.metric_reaches("delta_sync_packets_dropped_total{reason=\"quota\"}", 1).await;
    server.kill();
    // Counted again after a restart.
    let server = Server::start(dir.path(), &args);
    assert_eq!(deliver(&server, 3, b"one").await, 503);
    assert_eq!(deliver(&server, 2, b"two").await, 200);
}

#[tokio::test]
async fn case_02_the_same_packet_twice_is_taken_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let key = write_key(1);
    let packet = server.packet(&deliver::encode_operation(&key, b"op").unwrap(), 1);
    for _ in 0..3 {
        assert_eq!(server.post("/deliver", OCTETS, &packet).await.status, 202);
    }
    server.metric_reaches("delta_sync_packets_dropped_total{reason=\"replay\"}", 2).await;
    server.head_reaches(&key.topic(), 1).await;
    // Also after the server was killed and started again.
    server.kill();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.post("/deliver", OCTETS, &packet).await.status, 202);
    server.metric_reaches("delta_sync_packets_dropped_total{reason=\"replay\"}", 1).await;
}

#[tokio::test]
async fn case_41_a_publish_on_the_socket_is_closed_with_1008_and_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let topic = write_key(1).topic();
    for (message, code) in [
        (Message::text(r#"{"type":"op","data":"aGVsbG8="}"#), 1008),
        (Message::text(r#"{"type":"op"}"#), 1008),
        (Message::binary(vec![2, 0, 1]), 1008),
        (Message::binary(vec![6, 0]), 1008),
        (Message::binary(vec![1]), 1002),
        (Message::binary(Vec::new()), 1002),
        (Message::text("hello"), 1002),
        (Message::text(r#"{"type":"ready"}"#), 1002),
    ] {
        let mut client = server.subscribe(&topic, "").await;
        client.ready().await;
        client.send(message.clone()).await;
        assert_eq!(client.close_code().await, code, "{message:?}");
    }
    assert_eq!(server.head(&topic).await["head"], 0);
}

#[tokio::test]
async fn direct_publish_works_only_where_it_is_switched_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--accept-direct-publish"]);
    let topic = TopicId([5; 32]);
    let mut socket = server.subscribe_json(&topic, "since=0").await;
    assert_eq!(next_json(&mut socket).await["type"], "ready");
    socket.send(Message::text(r#"{"type":"op","data":"aGVsbG8="}"#)).await.unwrap();
    assert_eq!(next_json(&mut socket).await, json!({"type": "op", "seq": 1, "data": "aGVsbG8="}));
}

#[tokio::test]
async fn case_42_bad_write_signatures_are_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let (key, other) = (write_key(1), write_key(2));
    let good = deliver::encode_operation(&key, b"op").unwrap();
    let foreign = deliver::encode_operation(&other, b"op").unwrap();
    let splice = |range: std::ops::Range<usize>| {
        let mut content = good.clone();
        content[range.clone()].copy_from_slice(&foreign[range]);
        content
    };
    let mut other_op = good.clone();
    *other_op.last_mut().unwrap() ^= 1;
    let bad = [splice(36..68), splice(68..132), splice(4..36), other_op];
    for (seed, content) in bad.iter().enumerate() {
        let packet = server.packet(content, seed as u64);
        assert_eq!(server.post("/deliver", OCTETS, &packet).await.status, 202, "nobody is told");
    }
    server.metric_reaches("delta_sync_packets_dropped_total{reason=\"signature\"}", 4).await;
    for (seed, flags) in [4u8, 5, 127, 255].into_iter().enumerate() {
        let packet = server.packet(&deliver::encode_raw(&key, flags, b"op"), 10 + seed as u64);
        assert_eq!(server.post("/deliver", OCTETS, &packet).await.status, 202);
    }
    server.metric_reaches("delta_sync_packets_dropped_total{reason=\"flags\"}", 4).await;
    for topic in [key.topic(), other.topic()] {
        assert_eq!(server.head(&topic).await["head"], 0);
    }
}

#[tokio::test]
async fn case_07_packet_lengths_are_checked_before_anything_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let largest = PacketClass::LARGEST.size();
    for (len, status) in
        [(0, 400), (51, 400), (4095, 400), (4097, 400), (largest - 1, 400), (largest + 1, 413)]
    {
        assert_eq!(server.post("/deliver", OCTETS, &vec![3; len]).await.status, status, "{len}");
    }
    let huge = [("Content-Type", OCTETS), ("Content-Length", "2147483648")];
    assert_eq!(common::request(server.address, "POST", "/deliver", &huge, b"").await.unwrap().status, 413);
    let chunked = [("Content-Type", OCTETS), ("Transfer-Encoding", "chunked")];
    let answer = common::request(server.address, "POST", "/deliver", &chunked, b"0\r\n\r\n").await.unwrap();
    assert_eq!(answer.status, 411);
    for class in PacketClass::ALL {
        assert_eq!(
            server.post("/deliver", OCTETS, &vec![3; class.size()]).await.status,
            202,
            "garbage of a class"
        );
    }
    server.metric_reaches("delta_sync_packets_dropped_total{reason=\"seal\"}", 5).await;
}

#[tokio::test]
async fn case_71_an_operation_of_1_mib_is_stored_and_one_byte_more_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--accept-v2"]);
    let key = write_key(1);
    let op = vec![7; MAX_ENVELOPE];
    let mut client = server.subscribe(&key.topic(), "").await;
    client.ready().await;
    server.deliver(&key, &[&op], 1).await;
    client.reach(1).await;
    assert_eq!(client.bytes(), [&op[..]]);
    let too_large = vec![7; MAX_ENVELOPE + 1];
    let content = deliver::encode_raw(&key, 0, &too_large);
    assert_eq!(server.post("/deliver", OCTETS, &server.packet(&content, 2)).await.status, 202);
    server.metric_reaches("delta_sync_packets_dropped_total{reason=\"content\"}", 1).await;

    let topic = TopicId([5; 32]);
    assert_eq!(server.deliver_json(&topic, &op).await.unwrap().status, 200);
    assert_eq!(server.deliver_json(&topic, &too_large).await.unwrap().status, 413);
    assert_eq!(server.head(&topic).await["head"], 1);
}

#[tokio::test]
async fn case_72_an_unknown_topic_answers_like_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let topic = TopicId([9; 32]);
    let head = server.head(&topic).await;
    assert_eq!((&head["head"], &head["tail"]), (&json!(0), &json!(1)));
    assert_eq!(server.get(&format!("/topic/{topic}/ops")).await.json()["ops"], json!([]));
    assert_eq!(server.post(&format!("/topic/{topic}/has"), OCTETS, &[0; 32]).await.body, [0; 8]);
    let mut client = server.subscribe(&topic, "").await;
    let frames = client.ready().await;
    assert!(matches!(
        frames[..],
        [Frame::Hello { head: Seq(0), tail: Seq(1), max_op: 1_048_576, .. }, Frame::Ready(_)]
    ));
    assert_eq!(head["generation"], client.generation.to_string());
}

#[tokio::test]
async fn case_52_operations_accepted_during_replay_arrive_exactly_once() {
    const OPS: u64 = 3_000;
    let dir = tempfile::tempdir().unwrap();
    let server = std::sync::Arc::new(Server::start(dir.path(), &[]));
    let key = write_key(1);
    let publishing = tokio::spawn({
        let (server, key) = (std::sync::Arc::clone(&server), key.clone());
        async move {
            let mut sent = 0u64;
            while sent < OPS {
                let ops: Vec<Vec<u8>> = (0..30).map(|n| format!("{:>300}", sent + n).into_bytes()).collect();
                let ops: Vec<&[u8]> = ops.iter().map(Vec::as_slice).collect();
                server.deliver(&key, &ops, sent).await;
                sent += 30;
            }
        }
    });
    let mut readers = Vec::new();
    for index in 0..12u64 {
        server.head_reaches_at_least(&key.topic(), index * OPS / 12).await;
        let (server, topic) = (std::sync::Arc::clone(&server), key.topic());
        readers.push(tokio::spawn(async move {
            let mut client = server.subscribe(&topic, "").await;
            client.reach(OPS).await;
            client.ops.len() as u64
        }));
    }
    publishing.await.unwrap();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), OPS);
    }
}

#[tokio::test]
async fn the_original_json_protocol_replays_then_is_ready_then_live() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--accept-v2"]);
    let topic = TopicId([5; 32]);
    for (index, op) in [b"one", b"two"].into_iter().enumerate() {
        let answer = server.deliver_json(&topic, op).await.unwrap();
        assert_eq!((answer.status, answer.json()), (200, json!({ "seq": index + 1 })));
    }
    assert_eq!(server.deliver_json(&topic, b"one").await.unwrap().json(), json!({ "seq": 1 }));
    let mut socket = server.subscribe_json(&topic, "since=1").await;
    assert_eq!(next_json(&mut socket).await, json!({"type": "op", "seq": 2, "data": "dHdv"}));
    let ready = next_json(&mut socket).await;
    assert_eq!((&ready["type"], &ready["head"]), (&json!("ready"), &json!(2)));
    assert_eq!(ready["sig"].as_str().unwrap().len(), 128);
    server.deliver_json(&topic, b"three").await.unwrap();
    assert_eq!(next_json(&mut socket).await, json!({"type": "op", "seq": 3, "data": "dGhyZWU="}));
    // A cursor this log never gave out.
    let mut socket = server.subscribe_json(&topic, "since=77").await;
    let generation = server.head(&topic).await["generation"].clone();
    assert_eq!(next_json(&mut socket).await, json!({"type": "reset", "generation": generation, "head": 3}));
    assert_eq!(next_json(&mut socket).await["seq"], 1);
}

#[tokio::test]
async fn unsigned_deliveries_are_refused_unless_switched_on_and_for_signed_topics() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.deliver_json(&TopicId([5; 32]), b"op").await.unwrap().status, 403);
    let key = write_key(1);
    server.deliver(&key, &[b"signed"], 1).await;
    server.head_reaches(&key.topic(), 1).await;
    assert!(server.terminate().success());

    let server = Server::start(dir.path(), &["--accept-v2"]);
    assert_eq!(server.deliver_json(&key.topic(), b"op").await.unwrap().status, 403);
    assert_eq!(server.deliver_json(&TopicId([5; 32]), b"op").await.unwrap().status, 200);
    for body in ["", "{}", "[]", r#"{"topic_hex":"05","op_base64":"aGk="}"#] {
        assert_eq!(server.post("/deliver", "application/json", body.as_bytes()).await.status, 400, "{body}");
    }
    let topic = "Ab".repeat(32);
    for (op, status) in [("aGk=", 200), ("aGk", 400), ("", 400), ("a-_=", 400), (" aGk=", 400)] {
        let body = json!({ "topic_hex": topic, "op_base64": op }).to_string();
        let answer = server.post("/deliver", "application/json; charset=utf-8", body.as_bytes()).await;
        assert_eq!(answer.status, status, "{op:?}");
    }
}

#[tokio::test]
async fn history_has_and_head_answer_anyone() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let key = write_key(1);
    let topic = key.topic();
    let ops: Vec<Vec<u8>> = (1..=5u8).map(|n| vec![n; 3]).collect();
    server.deliver(&key, &ops.iter().map(Vec::as_slice).collect::<Vec<_>>(), 1).await;
    server.head_reaches(&topic, 5).await;
    let seqs = async |query: &str| {
        let page = server.get(&format!("/topic/{topic}/ops?{query}")).await.json();
        page["ops"].as_array().unwrap().iter().map(|op| op["seq"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(seqs("").await, [1, 2, 3, 4, 5]);
    assert_eq!(seqs("limit=2").await, [1, 2]);
    assert_eq!(seqs("after=2&limit=2").await, [3, 4]);
    assert_eq!(seqs("before=4&limit=2").await, [2, 3]);
    assert_eq!(seqs("after=1&before=4").await, [2, 3]);
    assert_eq!(seqs("from_ms=1&to_ms=2").await, [0u64; 0]);
    for bad in ["limit=0", "limit=1001", "after=x", "before=", "limit=1&limit=2"] {
        assert_eq!(server.get(&format!("/topic/{topic}/ops?{bad}")).await.status, 400, "{bad}");
    }
    let binary = [("Accept", OCTETS)];
    let path = format!("/topic/{topic}/ops?after=4");
    let page = common::request(server.address, "GET", &path, &binary, &[]).await.unwrap().body;
    assert_eq!(page.len(), 16 + 8 + 8 + 2 + 20 + 3);
    assert_eq!(page[16..34], [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
    assert_eq!((&page[34..42], &page[54..]), (&[0, 0, 0, 0, 0, 0, 0, 5][..], &[5, 5, 5][..]));

    let hashes = [EnvelopeHash::of(&ops[3]).0, [0; 32], EnvelopeHash::of(&ops[0]).0].concat();
    let has = format!("/topic/{topic}/has");
    let answer = server.post(&has, OCTETS, &hashes).await.body;
    assert_eq!(answer, [4u64, 0, 1].map(u64::to_be_bytes).concat());
    for len in [0, 31, 33, 257 * 32] {
        assert_eq!(server.post(&has, OCTETS, &vec![0; len]).await.status, 400, "{len}");
    }
    assert_eq!(server.post(&has, OCTETS, &vec![0; 256 * 32]).await.body.len(), 256 * 8);
    for bad in ["/topic/abc/head", "/topic/abc/ops", "/topic/abc", &format!("/topic/{topic}?since=-1")] {
        assert_eq!(server.get(bad).await.status, 400, "{bad}");
    }
    assert_eq!(server.get(&format!("/topic/{topic}")).await.status, 426);
}

#[tokio::test]
async fn info_shows_the_record_and_limits_and_metrics_stay_on_the_admin_address() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--limit", "ops_per_topic=9"]);
    let info = server.get("/info").await.json();
    let record = delta_core::onion::directory::RecordObject::from_value(info["record"].clone()).unwrap();
    assert_eq!(record.verify().unwrap().id, server.record.id);
    assert_eq!(info["protocol"], json!([1, 2]));
    assert_eq!(
        (&info["limits"]["ops_per_topic"], &info["retention"]["ops_per_topic"]),
        (&json!(9), &json!(9))
    );
    assert_eq!(server.get("/health").await.status, 200);
    assert_eq!(server.get("/metrics").await.status, 404);
    assert_eq!(common::request(server.admin, "GET", "/health", &[], &[]).await.unwrap().status, 200);
}

#[tokio::test]
async fn case_50_evicted_operations_are_a_gap_and_keep_their_seq() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--limit", "ops_per_topic=3"]);
    let key = write_key(1);
    let topic = key.topic();
    let mut old = server.subscribe(&topic, "").await;
    old.ready().await;
    for n in 1..=10u8 {
        server.deliver(&key, &[&[n]], n.into()).await;
        server.head_reaches(&topic, n.into()).await;
    }
    common::eventually("tail", async || server.head(&topic).await["tail"] == 8).await;
    old.reach(10).await;
    assert_eq!(old.ops.len(), 10, "a live subscriber has them all");
    let mut fresh = server.subscribe(&topic, "").await;
    let frames = fresh.ready().await;
    assert!(matches!(frames[1], Frame::Gap { from: Seq(1), to: Seq(7), .. }));
    assert_eq!((fresh.ops.len(), fresh.chain), (3, old.chain));
    // Delivered again: it keeps its old seq and is not pushed.
    server.deliver(&key, &[&[2]], 99).await;
    server.metric_reaches("delta_sync_operations_duplicate_total", 1).await;
    let has = server.post(&format!("/topic/{topic}/has"), OCTETS, &EnvelopeHash::of(&[2]).0).await;
    assert_eq!(has.body, 2u64.to_be_bytes());
    let mut socket = server.subscribe_json(&topic, "since=5").await;
    let gap = next_json(&mut socket).await;
    assert_eq!((&gap["type"], &gap["from"], &gap["to"]), (&json!("gap"), &json!(6), &json!(7)));
}

#[tokio::test]
async fn a_signed_head_follows_every_256_live_operations() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let key = write_key(1);
    let mut client = server.subscribe(&key.topic(), "").await;
    client.ready().await;
    for batch in 0..8u64 {
        let ops: Vec<Vec<u8>> = (0..64u64).map(|n| (batch * 64 + n).to_be_bytes().to_vec()).collect();
        server.deliver(&key, &ops.iter().map(Vec::as_slice).collect::<Vec<_>>(), batch).await;
    }
    client.reach(512).await;
    while client.heads < 2 {
        client.next().await;
    }
}

#[tokio::test]
async fn sigterm_closes_sockets_with_1012_and_exits_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--accept-v2"]);
    let topic = TopicId([5; 32]);
    let mut client = server.subscribe(&topic, "").await;
    client.ready().await;
    assert_eq!(server.deliver_json(&topic, b"op").await.unwrap().status, 200);
    client.reach(1).await;
    let told = tokio::task::spawn_blocking(move || server.terminate());
    assert_eq!(client.close_code().await, 1012);
    assert!(told.await.unwrap().success());
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.head(&topic).await["head"], 1);
}

#[tokio::test]
async fn pings_are_answered_and_a_clients_close_ends_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.subscribe(&TopicId([5; 32]), "").await;
    client.ready().await;
    client.send(Message::Ping(vec![1, 2].into())).await;
    assert_eq!(client.message().await, Message::Pong(vec![1, 2].into()));
    client.socket.close(None).await.unwrap();
    while let Some(Ok(_)) = client.socket.next().await {}
    common::eventually("sockets", async || server.metric("delta_sync_sockets").await == 0).await;
}
