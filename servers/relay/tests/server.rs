//! Three relays in front of the real sync server: what is wrapped once is in the topic log once.

mod support;

use std::net::SocketAddr;

use clap::Parser;
use delta_core::onion::deliver;
use delta_core::onion::directory::RecordObject;
use delta_core::onion::v3::Hop;
use delta_core::topic::WriteKey;
use delta_sync::data::DataFolder;
use delta_sync::run::Server;
use support::{Net, free_address, get, post, status, until, wrap};

#[derive(Parser)]
struct SyncProgram {
    #[command(flatten)]
    options: delta_sync::Options,
}

async fn start_server(net: &Net, address: SocketAddr) -> Server {
    let data = net.folder.path().join("server");
    let args = [
        "delta-sync",
        "--allow-private",
        "--listen",
        &address.to_string(),
        "--url",
        &format!("http://{address}"),
    ];
    let args =
        args.map(str::to_owned).into_iter().chain(["--data".to_owned(), data.to_str().unwrap().to_owned()]);
    let settings = SyncProgram::parse_from(args).options.settle().unwrap();
    let folder = DataFolder::open(&data, &mut delta_server_shell::PlatformEntropy).unwrap();
    Server::start(&settings, folder).await.unwrap()
}

#[test]
fn operations_cross_three_relays_into_the_topic_log_once() {
    let net = Net::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let address = free_address();
    let server = runtime.block_on(start_server(&net, address));
    let info: serde_json::Value = serde_json::from_str(&get(address, "/info")).unwrap();
    let server_record = RecordObject::from_value(info["record"].clone()).unwrap();

    let mut relays: Vec<_> = ["a", "b", "c"].map(|name| net.relay(name)).into();
    let records = relays.iter().map(|relay| relay.record.clone()).chain([server_record.clone()]);
    net.write(1, &records.collect::<Vec<_>>());
    for relay in &mut relays {
        relay.start(&net);
    }
    let record = server_record.verify().unwrap();
    let last = Hop { node: record.id, key: record.keys[0], delay: 0 };
    let hops: Vec<_> = relays.iter().map(|relay| relay.hop(0)).chain([last]).collect();

    let key = WriteKey::from_seed([5; 32]);
    let topic = key.topic();
    let operations: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; 100 + 400 * usize::from(n)]).collect();
    let mut seeds = 0..;
    let mut send = |content: &[u8]| {
        let packet = wrap(&hops, content, seeds.next().unwrap());
        assert_eq!(status(&post(relays[0].address, &packet)), 202);
        packet
    };
    let mut packets = Vec::new();
    for operation in &operations[..20] {
        packets.push(send(&deliver::encode_operation(&key, operation).unwrap()));
    }
    // Shared packets, and some operations a second time in packets of their own.
    for group in operations[20..].chunks(5) {
        let group: Vec<_> = group.iter().map(Vec::as_slice).collect();
        packets.push(send(&deliver::encode_list(&key, &group).unwrap()));
    }
    for operation in &operations[..3] {
        send(&deliver::encode_operation(&key, operation).unwrap());
    }
    for packet in &packets {
        post(relays[0].address, packet);
    }
    relays[0].wait_count("replayed", packets.len() as u64);
    for relay in &relays {
        relay.wait_count("delivered", packets.len() as u64 + 3);
    }

    let head =
        |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["head"].as_u64().unwrap();
    until("every operation is in the log", || {
        (head(&get(address, &format!("/topic/{topic}/head"))) >= 40).then_some(())
    });
    let page: serde_json::Value =
        serde_json::from_str(&get(address, &format!("/topic/{topic}/ops?limit=1000"))).unwrap();
    let ops = page["ops"].as_array().unwrap();
    let mut seqs: Vec<_> = ops.iter().map(|op| op["seq"].as_u64().unwrap()).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
    let mut lengths: Vec<_> = ops.iter().map(|op| op["data"].as_str().unwrap().len()).collect();
    lengths.sort_unstable();
    let mut expected: Vec<_> = operations.iter().map(|operation| operation.len().div_ceil(3) * 4).collect();
    expected.sort_unstable();
    assert_eq!(lengths, expected);
    runtime.block_on(server.stop());
}
