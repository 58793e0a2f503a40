//! Options that change what a device sends: cover, delays at relays, where records come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use delta_client::{BlobSource, Config, RelayHops};
use delta_core::engine::STALE_AFTER_MS;
use delta_core::identity::Millis;
use delta_core::ops::Content;
use delta_core::store::BlobState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::device::{Device, ticket};
use crate::net::{Net, now};

/// Packets, and what each asked its first relay to wait, once there are so many.
async fn until_packets(net: &Net, device: &Device, wanted: usize, step_ms: u64) -> Vec<u64> {
    while net.world().packets < wanted {
        device.clock.forward(step_ms);
        device.client.status(device.topic).await.unwrap();
        tokio::task::yield_now().await;
    }
    net.world().delays.clone()
}

#[tokio::test]
async fn cover_is_sent_when_it_is_asked_for_and_says_nothing() {
    let net = Net::start().await;
    let mut a =
        Device::offline_with(1, &ticket(1), |config| config.cover = Some(Duration::from_secs(60))).await;
    a.join(&net).await;
    a.until_live().await;
    until_packets(&net, &a, 5, 1_000).await;
    assert_eq!(net.head(&a.topic), 0);
    // Beside it everything goes on.
    let id = a.say("between them").await;
    a.until_acknowledged_in_time(id).await;
    assert_eq!(net.head(&a.topic), 1);
}

#[tokio::test]
async fn without_cover_nothing_is_sent_that_was_not_said() {
    let net = Net::start().await;
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    a.until_live().await;
    for _ in 0..24 {
        a.clock.forward(60_000);
        a.client.status(a.topic).await.unwrap();
    }
    let id = a.say("the only one").await;
    a.until_acknowledged(id).await;
    let world = net.world();
    assert_eq!((world.packets, world.delays.as_slice()), (1, &[0][..]));
}

#[tokio::test]
async fn relays_are_asked_to_wait_as_long_as_the_configuration_says() {
    let net = Net::start().await;
    let delay = |config: &mut Config| config.relay_delay = Some(Duration::from_millis(200));
    let mut a = Device::offline_with(1, &ticket(1), delay).await;
    a.join(&net).await;
    a.until_live().await;
    let mut said = Vec::new();
    for number in 0..8 {
        said.push(a.say(&number.to_string()).await);
    }
    for id in said {
        a.until_acknowledged(id).await;
    }
    let delays = net.world().delays.clone();
    // In units of 10 ms, no two alike but by chance; that all are none happens once in more than 10^10 runs.
    assert!(delays.iter().any(|delay| *delay > 0), "{delays:?}");
    assert!(delays.iter().all(|delay| delay % 10 == 0 && *delay <= 60_000), "{delays:?}");
    assert_eq!(net.head(&a.topic), 8);
}

/// A host that serves one file.
async fn host(text: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/all/records.json", listener.local_addr().unwrap());
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0 {}
            assert!(head.starts_with(b"GET /all/records.json HTTP/1.1\r\n"));
            count.fetch_add(1, Ordering::SeqCst);
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, asked)
}

#[tokio::test]
async fn records_come_from_the_configured_place_and_from_relays_when_it_has_none() {
    let net = Net::start().await;
    let old = RelayHops::Pool(net.records(Millis(now().0 - STALE_AFTER_MS - 3_600_000)));
    let new = format!("[{}]", net.records(now()).join(","));
    for (text, sets) in [(new, 0), ("[]".to_owned(), 1)] {
        let (url, asked) = host(text).await;
        let mut a =
            Device::offline_with(1, &ticket(1), move |config| config.records_url = Some(url.clone())).await;
        a.client.init_sync(&old, &net.sync_url()).await.unwrap();
        let id = a.say("with today's keys").await;
        a.until_acknowledged(id).await;
        assert_eq!((asked.load(Ordering::SeqCst), net.world().record_sets), (1, sets));
        // Or it would deliver again what the wiped server lacks.
        a.client.close().await.unwrap();
        net.wipe();
    }
}

#[tokio::test]
async fn blobs_take_no_more_than_the_configuration_says_and_the_last_one_stays() {
    let net = Net::start().await;
    let mut a = Device::offline_with(1, &ticket(1), |config| config.blob_cache = Some(10)).await;
    a.join(&net).await;
    let mut blobs = Vec::new();
    for bytes in ["five.", "5more", "longer than what is allowed"] {
        let source = BlobSource::Bytes(bytes.into());
        let blob = a.client.attach(source, String::new(), None).await.unwrap();
        let attachments = a.client.attachments(vec![blob]).await.unwrap();
        let (text, reply, mentions) = (String::new(), None, Vec::new());
        let said = Content::MessageSend { text, reply, mentions, attachments };
        let said = a.client.publish(a.topic, said).await.unwrap();
        a.until_acknowledged(said).await;
        while a.client.blob_status(blob).await.unwrap().state == BlobState::Sending {
            a.next().await;
        }
        blobs.push(blob);
        let mut here = Vec::new();
        for blob in &blobs {
            here.push(a.client.blob_status(*blob).await.unwrap().state == BlobState::Here);
        }
        let expected: &[bool] = [&[true][..], &[true, true], &[false, false, true]][blobs.len() - 1];
        assert_eq!(here, expected);
    }
}
