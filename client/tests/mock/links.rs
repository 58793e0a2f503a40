//! What whoever watches the device's own link to its entry relays sees: equal lengths, whatever was said.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use delta_client::RelayHops;
use delta_core::onion::PacketClass;
use delta_core::onion::directory::NodeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::device::{Device, ticket};
use crate::net::{Net, now};

/// The bytes of each connection of a link, both ways.
#[derive(Default)]
struct Link {
    up: Vec<Arc<Mutex<Vec<u8>>>>,
    down: Vec<Arc<Mutex<Vec<u8>>>>,
}

/// A port that leads to `to`, and what passes.
async fn tap(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Link>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, link) = (listener.local_addr().unwrap(), Arc::<Mutex<Link>>::default());
    let seen = Arc::clone(&link);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(to).await.unwrap();
            let [up, down] = [(); 2].map(|()| Arc::<Mutex<Vec<u8>>>::default());
            {
                let mut link = seen.lock().unwrap();
                link.up.push(Arc::clone(&up));
                link.down.push(Arc::clone(&down));
            }
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(pass(near_in, far_out, up));
            tokio::spawn(pass(far_in, near_out, down));
        }
    });
    (address, link)
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    seen: Arc<Mutex<Vec<u8>>>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        seen.lock().unwrap().extend_from_slice(&buffer[..len]);
        to.write_all(&buffer[..len]).await?;
    }
}

/// The messages of a connection: head, and length of the body.
fn messages(mut bytes: &[u8]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        // What was cut off by a close is no message.
        let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else {
            break;
        };
        let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
        });
        let Some(rest) = bytes.get(head + length.unwrap()..) else { break };
        found.push((text, length.unwrap()));
        bytes = rest;
    }
    found
}

#[tokio::test]
async fn packets_of_one_class_are_alike_on_the_devices_own_link_whatever_they_hold() {
    let net = Net::start().await;
    let (_, addresses) = net.addresses();
    let (mut records, mut links) = (Vec::new(), Vec::new());
    for (index, address) in addresses.into_iter().enumerate() {
        let (tapped, link) = tap(address).await;
        links.push(link);
        let identity = net.world().relays[index].identity().clone();
        let (url, operator) = (format!("http://{tapped}"), format!("operator {index}"));
        records.push(identity.record(NodeKind::Relay, &url, &operator, now()).to_json());
    }
    let cover = |config: &mut delta_client::Config| config.cover = Some(Duration::from_secs(60));
    let mut a = Device::offline_with(1, &ticket(1), cover).await;
    a.client.init_sync(&RelayHops::Pool(records), &net.sync_url()).await.unwrap();
    a.until_live().await;
    // From one letter to what needs the next class; a reaction and a delete are as long as they are.
    let mut last = None;
    for len in [1, 10, 500, 2_000, 6_000] {
        let id = a.say(&"x".repeat(len)).await;
        a.until_acknowledged_in_time(id).await;
        last = Some(id);
    }
    let delete = delta_core::ops::Content::MessageDelete { target: last.unwrap() };
    let id = a.client.publish(a.topic, delete).await.unwrap();
    a.until_acknowledged_in_time(id).await;
    a.client.close().await.unwrap();
    // The last packets may have passed here and not have been counted by their relays yet.
    let sent = |link: &Link| link.up.iter().map(|up| messages(&up.lock().unwrap()).len()).sum::<usize>();
    while links.iter().map(|link| sent(&link.lock().unwrap())).sum::<usize>() != net.world().packets {
        tokio::task::yield_now().await;
    }

    let mut classes: BTreeMap<usize, usize> = BTreeMap::new();
    for link in &links {
        let link = link.lock().unwrap();
        let mut heads: BTreeMap<usize, String> = BTreeMap::new();
        for bytes in &link.up {
            for (head, length) in messages(&bytes.lock().unwrap()) {
                *classes.entry(length).or_default() += 1;
                // To one relay, packets of one class have the same head to the byte.
                assert_eq!(heads.entry(length).or_insert_with(|| head.clone()), &head);
            }
        }
        for bytes in &link.down {
            let bytes = bytes.lock().unwrap();
            let answers = messages(&bytes);
            assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
        }
    }
    let sizes: Vec<usize> = classes.keys().copied().collect();
    assert_eq!(sizes, [PacketClass::C0.size(), PacketClass::C1.size()], "{classes:?}");
    assert_eq!(classes.values().sum::<usize>(), net.world().packets);
}
