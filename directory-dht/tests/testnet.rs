//! Publishing and resolving through a DHT of a few nodes on this machine.

use delta_core::entropy::SeededEntropy;
use delta_core::identity::NodeId;
use delta_core::onion::directory::{MAX_PKARR_TEXT, NodeKind, NodeRecord, PkarrTooLong, RecordError};
use delta_core::onion::v3::OnionSecret;
use delta_directory_dht::{Dht, DhtError, ResolveError};
use ed25519_dalek::SigningKey;
use pkarr::dns::Name;
use pkarr::mainline::Testnet;
use pkarr::{Keypair, SignedPacket};

const SEQ: u64 = 1_700_000_000;

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn id(number: u8) -> NodeId {
    NodeId(key(number).verifying_key().to_bytes())
}

fn record(number: u8) -> NodeRecord {
    let onion = |kid: u16| {
        OnionSecret::generate(kid, &mut SeededEntropy::new([number + kid as u8; 32])).unwrap().public()
    };
    NodeRecord {
        kind: NodeKind::Relay,
        id: id(number),
        url: Some(format!("https://relay{number}.example.org")),
        keys: vec![onion(7), onion(8)],
        expires: SEQ + 604_800,
        max_class: Some(4),
        operator: Some("50 % of a;b".into()),
        tunnel: false,
    }
}

/// As long as fits, and by `more` bytes longer.
fn longest(number: u8, more: usize) -> NodeRecord {
    let mut record = record(number);
    let missing = MAX_PKARR_TEXT + more - record.to_string().len();
    record.url = record.url.map(|url| url + &"u".repeat(missing));
    record
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_published_record_is_found_and_a_newer_one_replaces_it() {
    let testnet = Testnet::new_async(5).await.unwrap();
    let node = Dht::through(&testnet.bootstrap).unwrap();
    let device = Dht::through(&testnet.bootstrap).unwrap();

    node.publish(&key(1), &record(1), SEQ).await.unwrap();
    let found = device.resolve(id(1)).await.unwrap();
    assert_eq!((found.record(), found.seq()), (&record(1), SEQ));

    let moved = NodeRecord { url: Some("https://moved.example.org".into()), ..record(1) };
    node.publish(&key(1), &moved, SEQ + 1).await.unwrap();
    let found = device.resolve(id(1)).await.unwrap();
    assert_eq!((found.record(), found.seq()), (&moved, SEQ + 1));

    node.publish(&key(2), &longest(2, 0), SEQ).await.unwrap();
    let mut all = device.resolve_all([id(1), id(2), id(3)]).await;
    all.sort_by_key(|(node, _)| [id(1), id(2), id(3)].iter().position(|other| other == node));
    assert_eq!(all[0].1.as_ref().unwrap().record(), &moved);
    assert_eq!(all[1].1.as_ref().unwrap().record(), &longest(2, 0), "the longest record fits");
    assert_eq!(all[2].1, Err(ResolveError::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_back_is_not_published() {
    let testnet = Testnet::new_async(3).await.unwrap();
    let node = Dht::through(&testnet.bootstrap).unwrap();
    let too_long = node.publish(&key(1), &longest(1, 1), SEQ).await;
    assert_eq!(too_long, Err(DhtError::TooLong(PkarrTooLong(MAX_PKARR_TEXT + 1))));
    let foreign = node.publish(&key(2), &record(1), SEQ).await;
    assert_eq!(foreign, Err(DhtError::Record(RecordError::ForeignKey)));
    let unreadable = NodeRecord { operator: Some(String::new()), ..record(1) };
    assert_eq!(node.publish(&key(1), &unreadable, SEQ).await, Err(DhtError::Record(RecordError::Field("o"))));
    assert_eq!(node.publish(&key(1), &record(1), u64::MAX).await, Err(DhtError::Seq(u64::MAX)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_32_packets_without_exactly_one_own_record_are_refused() {
    let testnet = Testnet::new_async(5).await.unwrap();
    let device = Dht::through(&testnet.bootstrap).unwrap();
    let somebody =
        pkarr::Client::builder().no_default_network().bootstrap(&testnet.bootstrap).build().unwrap();
    let name = || Name::new("_delta-relay").unwrap();
    let cases: [(u8, Vec<String>, ResolveError); 4] = [
        (11, vec![], ResolveError::Records(0)),
        (12, vec![record(12).to_string(), record(12).to_string()], ResolveError::Records(2)),
        (13, vec![record(1).to_string()], ResolveError::Record(RecordError::ForeignKey)),
        (14, vec!["v=delta1".into()], ResolveError::Record(RecordError::Field("t"))),
    ];
    for (number, texts, error) in cases {
        let mut builder = SignedPacket::builder()
            .txt(Name::new("_other").unwrap(), "x=y".try_into().unwrap(), 60)
            .timestamp((SEQ * 1_000_000).into());
        for text in &texts {
            // One answer per text, each with a TTL of its own so that none is a duplicate.
            builder = builder.txt(name(), text.as_str().try_into().unwrap(), 60 + u32::from(number));
        }
        let packet = builder.sign(&Keypair::from_secret_key(&[number; 32])).unwrap();
        somebody.publish(&packet, None).await.unwrap();
        assert_eq!(device.resolve(id(number)).await, Err(error), "{number}");
    }
    let no_key = NodeId([2; 32]);
    assert_eq!(device.resolve(no_key).await, Err(ResolveError::Key));
}
