//! A reader that lags so far behind that what it has not read is evicted under it.

mod common;

use common::{Client, MaybeTlsStream, Server, next_json_or_code, small_stream};
use delta_core::sync::frame::Frame;
use delta_core::topic::{Seq, TopicId};

/// Operations a topic keeps, and as many again that push them out.
const KEPT: u64 = 12;
const LARGE: usize = 1024 * 1024;
const TOPIC: TopicId = TopicId([5; 32]);

/// A server with a full topic, and readers of both kinds that stand still in the middle of its replay; then everything
/// they were to be sent is evicted.
async fn lagging(data: &std::path::Path) -> (Server, Client, common::Socket) {
    let server = Server::start(data, &["--accept-v2", "--limit", "ops_per_topic=12"]);
    let deliver = async |numbers: std::ops::RangeInclusive<u64>| {
        for number in numbers {
            let op = vec![number as u8; LARGE];
            assert_eq!(server.deliver_json(&TOPIC, &op).await.unwrap().status, 200);
        }
    };
    deliver(1..=KEPT).await;
    let binary = server.subscribe_over(small_stream(server.address).await, &TOPIC).await;
    let url = format!("ws://{}/topic/{TOPIC}?since=0", server.address);
    let stream = MaybeTlsStream::Plain(small_stream(server.address).await);
    let (json, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    server.metric_reaches("delta_sync_stalls_total", 2).await;
    deliver(KEPT + 1..=2 * KEPT).await;
    common::eventually("tail", async || server.head(&TOPIC).await["tail"] == KEPT + 1).await;
    (server, binary, json)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_evicted_under_a_reader_is_a_gap_where_it_stands_and_the_rest_follows() {
    let dir = tempfile::tempdir().unwrap();
    let (server, mut binary, mut json) = lagging(dir.path()).await;
    let mut fresh = server.subscribe(&TOPIC, "").await;
    // On a loaded machine a reader may be so slow with what is live that it is let go: it comes again, as others do.
    let told = async {
        let mut gaps = Vec::new();
        while binary.cursor < Seq(2 * KEPT) {
            // The client checks that each frame follows the last, and every head against the chain.
            match binary.next_or_code().await {
                Ok(Frame::Gap { from, to, .. }) => gaps.push((from, to)),
                Ok(_) => {}
                Err(code) => {
                    assert_eq!(code, 1013);
                    binary = server.subscribe(&TOPIC, &binary.query()).await.resume(&binary);
                }
            }
        }
        gaps
    };
    let read = async {
        let (mut seq, mut gaps) = (0, Vec::new());
        while seq < 2 * KEPT {
            let message = match next_json_or_code(&mut json).await {
                Ok(message) => message,
                Err(code) => {
                    assert_eq!(code, 1013);
                    json = server.subscribe_json(&TOPIC, &format!("since={seq}")).await;
                    continue;
                }
            };
            let number = |name: &str| message[name].as_u64().unwrap();
            match message["type"].as_str().unwrap() {
                "op" => {
                    assert_eq!(number("seq"), seq + 1, "missed or doubled");
                    seq += 1;
                }
                "gap" => {
                    assert_eq!(number("from"), seq + 1);
                    seq = number("to");
                    gaps.push((Seq(number("from")), Seq(seq)));
                }
                "ready" => {}
                other => panic!("{other}"),
            }
        }
        gaps
    };
    let (told, read, _) = tokio::join!(told, read, fresh.reach(2 * KEPT));
    for gaps in [told, read] {
        let [(from, to)] = gaps[..] else { panic!("one gap, not {gaps:?}") };
        assert!(Seq(1) < from && from < Seq(KEPT), "in the middle of the replay: {from:?}");
        assert_eq!(to, Seq(KEPT));
    }
    assert_eq!(binary.chain, fresh.chain);
}
