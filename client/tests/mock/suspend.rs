//! Suspended, resumed, run once in the background: what a phone's system asks of an app.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use delta_client::{BlobSource, Client, Config};
use delta_core::limits::BLOB_CHUNK;
use delta_core::ops::{BlobId, Content};
use delta_core::store::{BlobState, Store, StoreOptions};
use delta_core::sync::session::Connection;
use tokio::net::TcpListener;

use crate::device::{Device, message, ticket};
use crate::net::Net;

/// Longer than any test takes.
const AMPLE: Duration = Duration::from_secs(60);

/// Whether another process gets an exclusive lock on a file (flock(1)).
fn is_free(path: &Path) -> bool {
    let status = Command::new("flock").args(["--nonblock", "--exclusive"]).arg(path).arg("true").status();
    status.unwrap().success()
}

/// The files of the database that this process has open (proc_pid_fd(5)).
fn open_files(database: &Path) -> usize {
    let name = database.to_str().unwrap();
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    entries
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|to| to.to_str().is_some_and(|to| to.starts_with(name)))
        .count()
}

fn beside(database: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[tokio::test]
async fn suspended_holds_no_lock_and_no_file_and_the_log_is_in_the_database() {
    let net = Net::start().await;
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    let first = a.say("one").await;
    a.until_acknowledged(first).await;
    let (database, lock) = (a.database(), beside(&a.database(), ".lock"));
    assert!(!is_free(&lock) && open_files(&database) > 0);
    a.client.suspend().await.unwrap();
    assert!(is_free(&lock));
    assert_eq!(open_files(&database), 0);
    let wal = std::fs::metadata(beside(&database, "-wal")).map_or(0, |file| file.len());
    assert_eq!(wal, 0, "what was committed is in the database file");
    // Whoever opens it now finds everything.
    let other = Store::open(&database, StoreOptions::default()).unwrap();
    assert_eq!(other.count_operations().unwrap(), 1);
    assert_eq!(a.client.resume().await.unwrap_err().code(), "database_locked");
    assert_eq!(a.client.status(a.topic).await.unwrap_err().code(), "suspended");
    other.close().unwrap();
    a.client.resume().await.unwrap();
    assert!(!is_free(&lock));
    let second = a.say("two").await;
    a.until_acknowledged(second).await;
    assert_eq!(a.texts().await, ["one", "two"]);
    a.client.suspend().await.unwrap();
    a.client.close().await.unwrap();
    assert_eq!(open_files(&database), 0);
    assert_eq!(a.client.resume().await.unwrap_err().code(), "closed");
}

#[tokio::test]
async fn what_is_published_before_a_suspend_leaves_after_the_resume_and_arrives_once() {
    let net = Net::start().await;
    let (mut a, mut b) = (Device::on(&net, 1, &ticket(1)).await, Device::on(&net, 2, &ticket(1)).await);
    a.until_live().await;
    b.until_live().await;
    let mut texts = Vec::new();
    for round in 0..5 {
        let text = format!("round {round}");
        a.say(&text).await;
        a.client.suspend().await.unwrap();
        a.client.resume().await.unwrap();
        texts.push(text);
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    b.until_texts(&texts).await;
    assert_eq!(net.head(&a.topic), 5);
}

#[tokio::test]
async fn while_suspended_the_server_hears_nothing_and_calls_are_refused() {
    let net = Net::start().await;
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    a.until_live().await;
    a.client.suspend().await.unwrap();
    let heard = || {
        let world = net.world();
        (world.requests.len(), world.packets)
    };
    let before = heard();
    for _ in 0..1000 {
        a.client.network_changed();
    }
    for error in [
        a.client.publish(a.topic, message("x")).await.unwrap_err(),
        a.client.status(a.topic).await.unwrap_err(),
        a.client.subscribe(a.topic).await.unwrap_err(),
        a.client.read(|reader| reader.count_operations()).await.unwrap_err(),
        a.client.statistics().await.unwrap_err(),
    ] {
        assert_eq!(error.code(), "suspended");
    }
    assert_eq!(a.client.next_wakeup_at().await.unwrap(), None);
    assert_eq!(heard(), before);
    a.client.resume().await.unwrap();
    while a.client.status(a.topic).await.unwrap().connection != Connection::Live {
        a.next().await;
    }
    assert_eq!(heard().0, before.0 + 1);
}

#[tokio::test]
async fn a_suspend_given_up_half_way_is_done_all_the_same() {
    let a = Device::offline(1, &ticket(1)).await;
    for _ in 0..20 {
        for change in [true, false] {
            let work = async { if change { a.client.suspend().await } else { a.client.resume().await } };
            let mut dropped = Box::pin(work);
            let _ =
                std::future::poll_fn(|cx| std::task::Poll::Ready(dropped.as_mut().poll(cx).is_ready())).await;
        }
    }
    a.client.resume().await.unwrap();
    a.client.publish(a.topic, message("whole")).await.unwrap();
    assert_eq!(a.texts().await, ["whole"]);
    let (one, two) = tokio::join!(a.client.suspend(), a.client.resume());
    one.unwrap();
    two.unwrap();
}

#[tokio::test]
async fn run_once_sends_and_fetches_and_goes_back_to_sleep() {
    let net = Net::start().await;
    let (mut a, b) = (Device::on(&net, 1, &ticket(1)).await, Device::on(&net, 2, &ticket(1)).await);
    let said = a.say("for b").await;
    a.until_acknowledged(said).await;
    b.client.suspend().await.unwrap();
    let summary = b.client.run_once(AMPLE).await.unwrap();
    assert!(summary.complete, "{summary:?}");
    assert_eq!((summary.topics, summary.caught_up, summary.waiting), (1, 1, 0));
    assert_eq!(b.client.status(b.topic).await.unwrap_err().code(), "suspended");
    assert!(is_free(&beside(&b.database(), ".lock")));
    b.client.resume().await.unwrap();
    assert_eq!(b.texts().await, ["for b"]);
    // Awake it does the same, and stays awake.
    b.client.publish(b.topic, message("for a")).await.unwrap();
    assert!(b.client.run_once(AMPLE).await.unwrap().complete);
    a.until_texts(&["for b", "for a"]).await;
    b.client.status(b.topic).await.unwrap();
}

/// A message with a blob that this device makes of these bytes.
async fn attached(device: &Device, bytes: &'static [u8]) -> (BlobId, Content) {
    let blob = device.client.attach(BlobSource::Bytes(bytes.into()), String::new(), None).await.unwrap();
    let attachments = device.client.attachments(vec![blob]).await.unwrap();
    (blob, Content::MessageSend { text: String::new(), reply: None, mentions: Vec::new(), attachments })
}

#[tokio::test]
async fn run_once_sends_and_fetches_blobs_to_their_end() {
    static BYTES: [u8; 3 * BLOB_CHUNK - 1] = [7; 3 * BLOB_CHUNK - 1];
    let net = Net::start().await;
    let (a, mut b) = (Device::offline(1, &ticket(1)).await, Device::on(&net, 2, &ticket(1)).await);
    let (blob, message) = attached(&a, &BYTES).await;
    a.client.publish(a.topic, message).await.unwrap();
    a.join(&net).await;
    b.until_texts(&[""]).await;
    b.client.fetch_blob(blob).await.unwrap();
    for device in [&a, &b] {
        let summary = device.client.run_once(AMPLE).await.unwrap();
        assert!(summary.complete && summary.blobs == 0, "{summary:?}");
        assert_eq!(device.client.blob_status(blob).await.unwrap().state, BlobState::Here);
    }
    assert!(b.client.blob_bytes(blob).await.unwrap() == BYTES);
}

#[tokio::test]
async fn run_once_does_not_wait_for_a_blob_that_the_server_does_not_have() {
    let net = Net::start().await;
    let (a, c) = (Device::on(&net, 1, &ticket(1)).await, Device::offline(3, &ticket(1)).await);
    let mut b = Device::on(&net, 2, &ticket(1)).await;
    let (blob, message) = attached(&c, b"never sent").await;
    a.client.publish(a.topic, message).await.unwrap();
    b.until_texts(&[""]).await;
    b.client.fetch_blob(blob).await.unwrap();
    let run = b.client.run_once(Duration::from_secs(3600));
    let summary = tokio::time::timeout(AMPLE, run).await.expect("it comes back by itself").unwrap();
    assert_eq!((summary.complete, summary.caught_up, summary.blobs), (false, 1, 1), "{summary:?}");
}

#[tokio::test]
async fn run_once_does_not_wait_for_a_blob_that_no_relay_takes() {
    let net = Net::start().await;
    let (address, taking) = mute().await;
    let a = Device::offline(1, &ticket(1)).await;
    let (hops, _) = net.said_to_be_at(address);
    a.client.init_sync(&hops, &net.sync_url()).await.unwrap();
    let (blob, _) = attached(&a, b"nobody takes it").await;
    let run = a.client.run_once(Duration::from_secs(3600));
    let summary = tokio::time::timeout(AMPLE, run).await.expect("it comes back by itself").unwrap();
    assert_eq!((summary.complete, summary.caught_up, summary.blobs), (false, 1, 1), "{summary:?}");
    assert_eq!(a.client.blob_status(blob).await.unwrap().state, BlobState::Sending);
    taking.abort();
}

/// A listener that takes connections and never says a word; the connections stay open with it.
async fn mute() -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let taking = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            taken.push(socket);
        }
    });
    (address, taking)
}

#[tokio::test]
async fn run_once_is_back_within_its_deadline_when_nobody_ever_answers() {
    let net = Net::start().await;
    let (address, taking) = mute().await;
    let a = Device::offline(1, &ticket(1)).await;
    let (hops, sync_url) = net.said_to_be_at(address);
    a.client.init_sync(&hops, &sync_url).await.unwrap();
    a.client.publish(a.topic, message("waits")).await.unwrap();
    for asleep in [false, true] {
        if asleep {
            a.client.suspend().await.unwrap();
        }
        let budget = Duration::from_secs(2);
        // A loaded machine may be late, but not as late as a POST that is given up by itself (15 s).
        let summary = tokio::time::timeout(5 * budget, a.client.run_once(budget)).await;
        let summary = summary.expect("the deadline is a promise").unwrap();
        assert!(!summary.complete);
        assert_eq!((summary.caught_up, summary.waiting), (0, 1), "{summary:?}");
    }
    assert!(is_free(&beside(&a.database(), ".lock")));
    assert!(a.client.next_wakeup_at().await.unwrap().is_some(), "something waits to be sent");
    taking.abort();
}

#[tokio::test]
async fn a_suspend_ends_a_background_run_early() {
    let net = Net::start().await;
    let (address, taking) = mute().await;
    let a = Device::offline(1, &ticket(1)).await;
    let (hops, sync_url) = net.said_to_be_at(address);
    a.client.init_sync(&hops, &sync_url).await.unwrap();
    let (client, topic) = (a.client.clone(), a.topic);
    let running = tokio::spawn(async move { client.run_once(Duration::from_secs(3600)).await });
    // It begins while the client is awake: begun later, it would wake it. It gets that far without waiting for another thread.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    while a.client.status(topic).await.unwrap().connection != Connection::Connecting {
        tokio::task::yield_now().await;
    }
    a.client.suspend().await.unwrap();
    // Woken by the end of its subscriptions' news, not by its deadline.
    let summary = tokio::time::timeout(AMPLE, running).await.expect("it ends").unwrap().unwrap();
    assert!(!summary.complete, "{summary:?}");
    a.client.resume().await.unwrap();
    taking.abort();
}

#[tokio::test]
async fn airplane_mode_ends_with_the_first_connection_after_it() {
    let net = Net::start().await;
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    a.until_live().await;
    net.kill_server();
    a.until_next(|event| {
        matches!(event, delta_client::Event::Connection { connection: Connection::Offline, .. })
    })
    .await;
    let said = a.say("in the air").await;
    net.start_server();
    a.client.network_changed();
    a.until_acknowledged(said).await;
}

#[tokio::test]
async fn a_thousand_network_changes_do_not_storm() {
    let net = Net::start().await;
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    a.until_live().await;
    let before = net.world().requests.len();
    for _ in 0..1000 {
        a.client.network_changed();
        a.client.status(a.topic).await.unwrap();
    }
    let said = a.say("still here").await;
    a.until_acknowledged(said).await;
    // One at once, one that waited; more only if this took many seconds.
    let connections = net.world().requests.len() - before;
    assert!(connections <= 8, "{connections} connections for a thousand hints");
}

#[tokio::test]
async fn a_database_that_vanished_meanwhile_is_an_error_and_not_a_new_one() {
    let a = Device::offline(1, &ticket(1)).await;
    a.client.suspend().await.unwrap();
    let (here, away) = (a.database(), a.database().with_extension("away"));
    std::fs::rename(&here, &away).unwrap();
    assert_eq!(a.client.resume().await.unwrap_err().code(), "io");
    assert!(!here.exists());
    std::fs::rename(&away, &here).unwrap();
    a.client.resume().await.unwrap();
    a.client.publish(a.topic, message("again")).await.unwrap();
    a.client.close().await.unwrap();
    Client::open(Config::new(here, [1; 32])).await.unwrap().close().await.unwrap();
}
