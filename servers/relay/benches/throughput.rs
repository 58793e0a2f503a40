//! How many class 0 packets a relay forwards per second of one core, through keep-alive HTTP on both sides, against
//! the bare rate of opening packets.
//!
//! The relay is the real program; its rate is packets by the processor time it used, so load generator and next
//! node on the same machine do not count. Nothing is printed unless every packet arrived.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark reads the clock and prints")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use delta_core::onion::directory::NodeKind;
use delta_core::onion::v3::{self, OnionSecret};
use support::{Net, Played, Relay, wrap};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const PACKETS: usize = 30_000;
const CONNECTIONS: usize = 32;
/// Most packets on their way: enough to keep every thread busy, too few to be turned away.
const WINDOW: usize = 256;

fn main() {
    // `cargo test --benches` and `--list` only check that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    for relays in [1, 3] {
        in_line(relays).await;
    }
}

/// Sends all packets through so many relays, one after the other.
async fn in_line(count: usize) {
    let net = Net::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let last = Played::new(1, NodeKind::Sync, format!("http://{}", listener.local_addr().unwrap()));
    let mut relays: Vec<_> = (0..count).map(|index| net.relay(&format!("relay {index}"))).collect();
    let records = relays.iter().map(|relay| relay.record.clone()).chain([last.record()]);
    net.write(1, &records.collect::<Vec<_>>());
    let unlimited = ["--batch-ms", "0", "--allow-private", "--limit", "requests_per_second_per_address=0"];
    for relay in &mut relays {
        relay.start_with(&net, &unlimited);
    }

    let hops: Vec<_> = relays.iter().map(|relay| relay.hop(0)).chain([last.hop()]).collect();
    let packets: Vec<Vec<u8>> = (0..PACKETS as u32).map(|seed| wrap(&hops, b"content", seed)).collect();
    let bare = peel_rate(&relays[0].data, &packets);

    let (got, window) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(WINDOW)));
    tokio::spawn(sink(listener, Arc::clone(&got), Arc::clone(&window)));
    let used = |relay: &Relay| processor_time(&relay.process_id().to_string());
    let before: Vec<_> = relays.iter().map(used).collect();
    let start = Instant::now();
    let (packets, first) = (Arc::new(packets), relays[0].address);
    let client = |index| tokio::spawn(load(first, Arc::clone(&packets), index, Arc::clone(&window)));
    let clients = (0..CONNECTIONS).map(client);
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    while got.load(Ordering::Relaxed) < PACKETS {
        assert!(start.elapsed() < Duration::from_secs(120), "packets were lost");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let wall = start.elapsed().as_secs_f64();
    let rates = relays.iter().zip(before).map(|(relay, before)| PACKETS as f64 / (used(relay) - before));
    let slowest = rates.fold(f64::INFINITY, f64::min);
    for relay in &relays {
        // The sink may have the last packet before the relay has counted the answer to it.
        relay.wait_count("delivered", PACKETS as u64);
    }
    println!("open one packet, one core              {bare:>8.0} /s");
    println!("{count} in line: the slowest, per core-second {slowest:>8.0} /s");
    println!("{count} in line, load and sink beside them    {:>8.0} /s", PACKETS as f64 / wall);
    println!(
        "ratio {:.2} (target >= 0.6): relay throughput, {count} in line / opening packets",
        slowest / bare
    );
}

/// Opening and parsing alone, on one thread.
fn peel_rate(data: &std::path::Path, packets: &[Vec<u8>]) -> f64 {
    let keys: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data.join("onion-keys.json")).unwrap()).unwrap();
    let mut secret = [0; 32];
    hex::decode_to_slice(keys["current"]["secret"].as_str().unwrap(), &mut secret).unwrap();
    let keys = [OnionSecret::from_bytes(keys["current"]["kid"].as_u64().unwrap() as u16, secret)];
    let copies = packets.to_vec();
    let before = processor_time("thread-self");
    for packet in copies {
        std::hint::black_box(v3::open(&keys, packet).unwrap().parse().unwrap());
    }
    packets.len() as f64 / (processor_time("thread-self") - before)
}

/// Every `CONNECTIONS`-th packet over one connection.
async fn load(to: SocketAddr, packets: Arc<Vec<Vec<u8>>>, first: usize, window: Arc<Semaphore>) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = vec![0; 1024];
    for packet in packets.iter().skip(first).step_by(CONNECTIONS) {
        let head = format!("POST /hop HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", packet.len());
        let request = [head.as_bytes(), packet].concat();
        window.acquire().await.unwrap().forget();
        stream.write_all(&request).await.unwrap();
        let len = stream.read(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 202 "), "{}", String::from_utf8_lossy(&answer[..len]));
    }
}

async fn sink(listener: TcpListener, got: Arc<AtomicUsize>, window: Arc<Semaphore>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (got, window) = (Arc::clone(&got), Arc::clone(&window));
        tokio::spawn(async move {
            let mut stream = BufStream::new(stream);
            let (mut line, mut body) = (String::new(), vec![0; 4096]);
            loop {
                line.clear();
                while !line.ends_with("\r\n\r\n") {
                    if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                stream.read_exact(&mut body).await.unwrap();
                got.fetch_add(1, Ordering::Relaxed);
                window.add_permits(1);
                stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                stream.flush().await.unwrap();
            }
        });
    }
}

/// Seconds of processor time a process or thread has used (Linux: fields 14 and 15 of /proc/<id>/stat, in 1/100 s).
fn processor_time(id: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = |index: usize| fields.split(' ').nth(index).unwrap().parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
