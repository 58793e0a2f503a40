//! Searching public channels, asked of a real server from outside.

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Answer, Server, eventually, request};
use delta_core::entropy::SeededEntropy;
use delta_core::onion::control::{Action, Control, Metadata};
use delta_core::onion::deliver;
use delta_core::ops::{Body, Content, DeviceKey, Ticket, create};
use serde_json::{Value, json};

/// A public channel whose messages have one author each.
struct Channel {
    ticket: Ticket,
}

/// No two packets of a test are the same.
fn fresh() -> u64 {
    static PACKETS: AtomicU64 = AtomicU64::new(1);
    PACKETS.fetch_add(1, Ordering::Relaxed)
}

impl Channel {
    fn new(seed: u8) -> Self {
        Self { ticket: Ticket::generate_public(&mut SeededEntropy::new([seed; 32])).unwrap() }
    }

    fn path(&self, query: &str) -> String {
        format!("/topic/{}/search{query}", self.ticket.topic())
    }

    async fn control(&self, server: &Server, counter: u64, action: Action) {
        let keys = self.ticket.keys();
        let control = Control { counter, action };
        let content = deliver::encode_control(keys.write_key().unwrap(), &control).unwrap();
        let packet = server.packet(&content, fresh());
        assert_eq!(server.post("/deliver", "application/octet-stream", &packet).await.status, 202);
    }

    async fn describe(&self, server: &Server) {
        self.control(server, 1, Action::Metadata(Metadata { name: "Garden".to_owned(), description: None }))
            .await;
        eventually("the description", async || {
            server.get(&format!("/topic/{}/about", self.ticket.topic())).await.json()["counter"] == 1
        })
        .await;
    }

    /// Each text by an author of its own: the envelopes.
    async fn say(&self, server: &Server, texts: &[&str]) -> Vec<Vec<u8>> {
        let keys = self.ticket.keys();
        let envelopes: Vec<Vec<u8>> = texts
            .iter()
            .map(|text| {
                let body = Body::new(Content::MessageSend {
                    text: (*text).to_owned(),
                    reply: None,
                    mentions: Vec::new(),
                    attachments: Vec::new(),
                });
                let made = create(&author(text), self.ticket.log(), 0, None, &body).unwrap();
                keys.seal(made.header(), made.body_bytes()).unwrap()
            })
            .collect();
        let refs: Vec<&[u8]> = envelopes.iter().map(Vec::as_slice).collect();
        server.deliver(keys.write_key().unwrap(), &refs, fresh()).await;
        envelopes
    }

    async fn indexed(&self, server: &Server, head: u64) {
        eventually("the index", async || server.get(&self.path("")).await.json()["indexed"] == head).await;
    }

    async fn seqs(&self, server: &Server, query: &str) -> Vec<u64> {
        let answer = server.get(&self.path(query)).await;
        assert_eq!(answer.status, 200, "{query}");
        let page = answer.json();
        page["ops"].as_array().unwrap().iter().map(|op| op["seq"].as_u64().unwrap()).collect()
    }
}

fn author(text: &str) -> DeviceKey {
    DeviceKey::from_bytes(blake3::hash(text.as_bytes()).as_bytes())
}

fn operator(arguments: &[&str], data: &Path) -> String {
    let (command, rest) = arguments.split_first().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_delta-sync"));
    let output = program.args([command, "--data"]).arg(data).args(rest).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// No question about rates here.
const MANY: [&str; 2] = ["--limit", "searches_per_second_per_address=0"];

#[tokio::test]
async fn a_public_channel_is_searched_in_both_formats() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &MANY);
    let channel = Channel::new(1);
    channel.describe(&server).await;
    let envelopes = channel.say(&server, &["red apples", "Green apples", "plums"]).await;
    channel.indexed(&server, 3).await;
    assert_eq!(channel.seqs(&server, "").await, [1, 2, 3]);
    assert_eq!(channel.seqs(&server, "?q=APPLES").await, [1, 2]);
    assert_eq!(channel.seqs(&server, "?q=apples%20green").await, [2]);
    assert_eq!(channel.seqs(&server, "?q=apples&limit=1").await, [2], "the newest");
    assert_eq!(channel.seqs(&server, "?q=apples&limit=1&after=0").await, [1], "the oldest");
    assert_eq!(channel.seqs(&server, "?q=apples&before=2").await, [1]);
    assert_eq!(channel.seqs(&server, "?to_ms=1").await, [0u64; 0]);
    let by = author("plums").author();
    assert_eq!(channel.seqs(&server, &format!("?author={by}")).await, [3]);
    assert_eq!(channel.seqs(&server, &format!("?author={by}&q=apples")).await, [0u64; 0]);

    let page = server.get(&channel.path("?q=plums")).await.json();
    assert_eq!(page["generation"], server.head(&channel.ticket.topic()).await["generation"]);
    assert_eq!((&page["indexed"], &page["ops"][0]["author"]), (&json!(3), &json!(by.to_string())));
    assert_eq!(STANDARD.decode(page["ops"][0]["data"].as_str().unwrap()).unwrap(), envelopes[2]);
    let received = page["ops"][0]["received_ms"].as_u64().unwrap();
    let accept = [("Accept", "application/octet-stream")];
    let bytes = request(server.address, "GET", &channel.path("?q=plums"), &accept, &[]).await.unwrap().body;
    let expected = [
        &hex::decode(page["generation"].as_str().unwrap()).unwrap()[..],
        &[0, 0, 0, 0, 0, 0, 0, 3, 0, 1],
        &3u64.to_be_bytes(),
        &received.to_be_bytes(),
        &by.0,
        &(envelopes[2].len() as u32).to_be_bytes(),
        &envelopes[2],
    ];
    assert_eq!(bytes, expected.concat());
    for bad in ["?limit=0", "?limit=101", "?author=ab", "?after=x", "?q=a&q=b"] {
        assert_eq!(server.get(&channel.path(bad)).await.status, 400, "{bad}");
    }
    let long = format!("?q={}", "x".repeat(257));
    assert_eq!(server.get(&channel.path(&long)).await.status, 400);
    assert_eq!(server.metric("delta_sync_search_indexed_total").await, 3);
}

/// The same answer, to the byte, but for the generation that every topic has.
fn without_generation(answer: &Answer) -> (u16, Value) {
    let mut value = answer.json();
    value.as_object_mut().unwrap().remove("generation");
    (answer.status, value)
}

#[tokio::test]
async fn case_72_a_private_topic_and_an_unknown_one_answer_a_search_alike() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &MANY);
    let (private, unknown, public) = (Channel::new(1), Channel::new(2), Channel::new(3));
    private.say(&server, &["apples"]).await;
    server.head_reaches(&private.ticket.topic(), 1).await;
    // Once this one is indexed, so would be the other.
    public.describe(&server).await;
    public.say(&server, &["apples"]).await;
    public.indexed(&server, 1).await;
    for query in ["", "?q=apples", "?after=0"] {
        let answers = [server.get(&private.path(query)).await, server.get(&unknown.path(query)).await];
        assert_eq!(without_generation(&answers[0]), without_generation(&answers[1]));
        assert_eq!(without_generation(&answers[0]), (200, json!({ "indexed": 0, "ops": [] })));
    }
    // A control message that comes too late makes no channel of it.
    private.control(&server, 1, Action::ReadKey(None)).await;
    server.metric_reaches("delta_sync_packets_dropped_total{reason=\"control\"}", 1).await;
    assert_eq!(private.seqs(&server, "").await, [0u64; 0]);
}

#[tokio::test]
async fn searches_of_one_address_are_limited_and_a_deleted_channel_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--limit", "searches_per_second_per_address=1"]);
    let channel = Channel::new(1);
    channel.describe(&server).await;
    let path = channel.path("");
    eventually("429", async || {
        let answer = server.get(&path).await;
        assert!(answer.status != 429 || answer.header("Retry-After").is_some());
        answer.status == 429
    })
    .await;
    channel.control(&server, 2, Action::Delete).await;
    eventually("410", async || server.get(&path).await.status == 410).await;
}

#[tokio::test]
async fn a_channel_with_a_read_key_is_searched_with_a_proof_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--read-proof"]);
    let channel = Channel::new(1);
    channel.describe(&server).await;
    let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    channel.control(&server, 2, Action::ReadKey(Some(key.verifying_key().to_bytes()))).await;
    let path = channel.path("");
    eventually("401", async || server.get(&path).await.status == 401).await;
}

/// Killed while the index follows, restored from a backup, taken in by another server, without its oldest part: it
/// finds what is in the log.
#[tokio::test]
async fn case_65_an_index_survives_kills_backups_imports_and_evictions() {
    let dir = tempfile::tempdir().unwrap();
    let [data, copy, new] = ["data", "copy", "new"].map(|name| dir.path().join(name));
    let server = Server::start(&data, &MANY);
    let channel = Channel::new(1);
    channel.describe(&server).await;
    let texts: Vec<String> = (1..=600).map(|n| format!("number {n}")).collect();
    let mut head = 0;
    let mut server = server;
    for part in texts.chunks(200) {
        channel.say(&server, &part.iter().map(String::as_str).collect::<Vec<_>>()).await;
        head += 200;
        server.head_reaches(&channel.ticket.topic(), head).await;
        server.kill();
        server = Server::start(&data, &MANY);
    }
    channel.indexed(&server, 600).await;
    for n in [1, 250, 600] {
        assert_eq!(channel.seqs(&server, &format!("?q=number+{n}")).await, [n]);
    }
    assert_eq!(operator(&["check"], &data), "1 topics, 600 operations, 0 problems\n");
    operator(&["backup", "--to", copy.to_str().unwrap()], &data);
    let export = dir.path().join("topic.export");
    let id = channel.ticket.topic().to_string();
    operator(&["export", "--topic", &id, "--to", export.to_str().unwrap()], &data);
    assert!(server.terminate().success());

    // A folder without a replay set gets another onion key at its first start.
    assert!(Server::start(&copy, &MANY).terminate().success());
    let server = Server::start(&copy, &[MANY[0], "searches_per_second_per_address=0,ops_per_topic=100"]);
    channel.indexed(&server, 600).await;
    channel.say(&server, &["number 601"]).await;
    eventually("eviction", async || channel.seqs(&server, "?after=0&limit=1").await == [502]).await;
    assert_eq!(channel.seqs(&server, "?q=250").await, [0u64; 0]);
    assert!(server.terminate().success());
    assert_eq!(operator(&["check"], &copy), "1 topics, 601 operations, 0 problems\n");

    // An index that is of another log, because the folder had one already.
    std::fs::create_dir(&new).unwrap();
    std::fs::copy(data.join("search.db"), new.join("search.db")).unwrap();
    operator(&["import", export.to_str().unwrap()], &new);
    let server = Server::start(&new, &MANY);
    channel.indexed(&server, 600).await;
    assert_eq!(channel.seqs(&server, "?q=number+250").await, [250]);
}
