//! Many packets through three relays: all arrive, once, and memory does not grow with their number.
//!
//! `cargo xtask soak` runs it with 100,000 packets, `cargo test` with a few thousand (`DELTA_SOAK_PACKETS`).

#![allow(clippy::print_stdout, reason = "a soak says what it measured")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use delta_core::onion::directory::NodeKind;
use delta_core::onion::v3::Hop;
use support::{Net, PATIENCE, Played, Relay, wrap};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Packets of a short run.
const SHORT: usize = 3_000;
/// Packets whose memory counts as warming up, of all.
const WARM: usize = 4;
const CONNECTIONS: usize = 8;
/// Most packets on their way.
const WINDOW: usize = 128;
/// What a relay may grow by after warming up, KiB: the replay set takes 10 to 20 bytes a packet, the rest is the
/// allocator's.
const SLACK: usize = 8 * 1024;
const BYTES_PER_PACKET: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn packets_cross_three_relays_with_flat_memory() {
    let packets = std::env::var("DELTA_SOAK_PACKETS").map_or(SHORT, |count| count.parse().unwrap());
    let net = Net::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let last = Played::new(1, NodeKind::Sync, format!("http://{}", listener.local_addr().unwrap()));
    let mut relays: Vec<Relay> = ["a", "b", "c"].map(|name| net.relay(name)).into();
    let records = relays.iter().map(|relay| relay.record.clone()).chain([last.record()]);
    net.write(1, &records.collect::<Vec<_>>());
    let options = ["--batch-ms", "5", "--allow-private", "--limit", "requests_per_second_per_address=0"];
    for relay in &mut relays {
        relay.start_with(&net, &options);
    }
    let hops: Arc<Vec<Hop>> = Arc::new(relays.iter().map(|relay| relay.hop(0)).chain([last.hop()]).collect());
    let (got, window) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(WINDOW)));
    tokio::spawn(sink(listener, Arc::clone(&got), Arc::clone(&window)));

    let warm = packets / WARM;
    send(relays[0].address, &hops, 0..warm, &window).await;
    arrived(&got, warm).await;
    let before: Vec<_> = relays.iter().map(resident).collect();
    send(relays[0].address, &hops, warm..packets, &window).await;
    arrived(&got, packets).await;
    let after: Vec<_> = relays.iter().map(resident).collect();
    for ((relay, before), after) in relays.iter().zip(&before).zip(&after) {
        relay.wait_count("delivered", packets as u64);
        let allowed = before + SLACK + (packets - warm) * BYTES_PER_PACKET / 1024;
        assert!(*after <= allowed, "{before} KiB after {warm} packets, {after} KiB after {packets}");
    }
    assert_eq!(got.load(Ordering::Relaxed), packets);
    println!(
        "{packets} packets through three relays; resident KiB after {warm}: {before:?}, at the end: {after:?}"
    );
}

/// Sends the numbered packets over a few connections.
async fn send(
    to: SocketAddr,
    hops: &Arc<Vec<Hop>>,
    numbers: std::ops::Range<usize>,
    window: &Arc<Semaphore>,
) {
    let next = Arc::new(AtomicUsize::new(numbers.start));
    let one = |_| {
        let (hops, next, window, end) =
            (Arc::clone(hops), Arc::clone(&next), Arc::clone(window), numbers.end);
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(to).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut answer = vec![0; 1024];
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return;
                }
                let packet = wrap(&hops, b"content", number as u32);
                let head =
                    format!("POST /hop HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", packet.len());
                window.acquire().await.unwrap().forget();
                stream.write_all(&[head.as_bytes(), &packet].concat()).await.unwrap();
                let len = stream.read(&mut answer).await.unwrap();
                assert!(answer.starts_with(b"HTTP/1.1 202 "), "{}", String::from_utf8_lossy(&answer[..len]));
            }
        })
    };
    for sender in (0..CONNECTIONS).map(one).collect::<Vec<_>>() {
        sender.await.unwrap();
    }
}

/// Waits for packets as long as any come.
async fn arrived(got: &AtomicUsize, count: usize) {
    let mut seen = 0;
    while got.load(Ordering::Relaxed) < count {
        let waiting = async {
            while got.load(Ordering::Relaxed) == seen {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{seen} of {count} arrived"));
        seen = got.load(Ordering::Relaxed);
    }
}

/// Takes everything and counts it.
async fn sink(listener: TcpListener, got: Arc<AtomicUsize>, window: Arc<Semaphore>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (got, window) = (Arc::clone(&got), Arc::clone(&window));
        tokio::spawn(async move {
            let mut buffer = Vec::new();
            loop {
                while let Some(end) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                    let whole = end + 4 + 4096;
                    if buffer.len() < whole {
                        break;
                    }
                    buffer.drain(..whole);
                    got.fetch_add(1, Ordering::Relaxed);
                    window.add_permits(1);
                    let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
                if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    return;
                }
            }
        });
    }
}

/// A process's resident memory, KiB (Linux).
fn resident(relay: &Relay) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.process_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}
