//! What an operator sees: records, directory files, errors, logs.

mod support;

use delta_core::onion::directory::{NodeKind, RecordObject};
use delta_core::onion::v3::Hop;
use support::{Net, Played, Relay, Server, get, post, program, until, wrap};

#[test]
fn key_and_records_verify_and_a_running_relay_signs_anew() {
    let net = Net::new();
    let mut relay = net.relay("relay");
    let last = Played::new(1, NodeKind::Sync, "http://127.0.0.1:9999".to_owned());
    net.write(1, &[relay.record.clone(), last.record()]);
    relay.start(&net);
    let own = RecordObject::parse(&get(relay.address, "/key")).unwrap();
    let (before, now) = (relay.record.verify().unwrap(), own.verify().unwrap());
    assert_eq!((now.id, &now.url), (before.id, &before.url));
    // The key it had, and the next one ahead.
    assert_eq!((now.keys.len(), now.keys[0]), (2, before.keys[0]));
    assert!(own.seq > relay.record.seq);
    let all: Vec<serde_json::Value> = serde_json::from_str(&get(relay.address, "/records")).unwrap();
    let all: Vec<_> = all.into_iter().map(|value| RecordObject::from_value(value).unwrap()).collect();
    assert_eq!(all, [own, last.record()]);
    for record in &all {
        record.verify().unwrap();
    }
}

#[test]
fn keygen_makes_an_identity_says_which_and_never_replaces_one() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("relay");
    let keygen = || program().arg("keygen").arg("--data").arg(&data).output().unwrap();
    let made = keygen();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = String::from_utf8(made.stdout).unwrap();
    let (node, place) = said.trim_end().split_once('\n').unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join("identity.seed"))), (0o700, 0o600));
    assert_eq!(place, format!("data {}", data.canonicalize().unwrap().display()));
    let seed = std::fs::read(data.join("identity.seed")).unwrap();
    assert!(!said.contains(std::str::from_utf8(&seed).unwrap().trim()), "the secret is not printed");

    let again = keygen();
    assert_eq!((again.status.code(), again.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8(again.stderr).unwrap().contains("identity.seed is there already"));
    assert_eq!(std::fs::read(data.join("identity.seed")).unwrap(), seed);

    let record = program().args(["record", "--url", "https://relay.example", "--data"]).arg(&data).output();
    let record = String::from_utf8(record.unwrap().stdout).unwrap();
    let record = RecordObject::parse(record.trim()).unwrap().verify().unwrap();
    assert_eq!((format!("node {}", record.id).as_str(), record.keys.len()), (node, 1));
}

/// Makes a stopped relay believe that its current key has been in use since 1970.
fn age_keys(relay: &Relay) {
    let path = relay.data.join("onion-keys.json");
    let mut keys: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    keys["since"] = 1.into();
    std::fs::write(&path, keys.to_string()).unwrap();
}

#[test]
fn case_04_keys_rotate_once_the_records_name_the_next_and_the_previous_is_erased() {
    let net = Net::new();
    let sink = Server::accepting();
    let last = Played::new(1, NodeKind::Sync, sink.url());
    let mut relay = net.relay("relay");
    net.write(1, &[relay.record.clone(), last.record()]);
    relay.start(&net);
    let key = |relay: &Relay| RecordObject::parse(&get(relay.address, "/key")).unwrap();
    let node = relay.id();
    let packet = |key, seed| wrap(&[Hop { node, key, delay: 0 }, last.hop()], b"x", seed);
    let first = key(&relay);
    let [a, b] = <[_; 2]>::try_from(first.verify().unwrap().keys).unwrap();
    let recorded = packet(a, 1);
    post(relay.address, &recorded);
    sink.next();
    let restart = |relay: &mut Relay| {
        relay.terminate();
        assert!(relay.wait().success());
        age_keys(relay);
        relay.start(&net);
    };

    // Due, but nobody who reads the records has heard of the next key.
    restart(&mut relay);
    assert_eq!(key(&relay).verify().unwrap().keys, [a, b]);
    net.write(2, &[key(&relay), last.record()]);
    restart(&mut relay);
    let [current, c] = <[_; 2]>::try_from(key(&relay).verify().unwrap().keys).unwrap();
    assert_eq!(current, b);
    for (kid, seed) in [(a, 2), (b, 3), (c, 4)] {
        post(relay.address, &packet(kid, seed));
        sink.next();
    }
    post(relay.address, &recorded);
    relay.wait_count("replayed", 1);

    // The next one is not in the records, so the current one stays; the previous has had its time.
    restart(&mut relay);
    assert_eq!(key(&relay).verify().unwrap().keys, [b, c]);
    assert!(!relay.data.join(format!("replay-{}", a.kid)).exists());
    post(relay.address, &recorded);
    relay.wait_count("not_for_us", 1);
    assert!(sink.rest().is_empty());
}

#[test]
fn the_directory_is_read_again_when_it_changes_and_a_bad_one_is_refused() {
    let net = Net::new();
    let sink = Server::accepting();
    let last = Played::new(1, NodeKind::Sync, sink.url());
    let mut relay = net.relay("relay");
    net.write(2, &[relay.record.clone()]);
    relay.start(&net);
    let packet = |seed| wrap(&[relay.hop(0), last.hop()], b"x", seed);
    post(relay.address, &packet(1));
    relay.wait_count("unknown_next", 1);

    net.write(3, &[relay.record.clone(), last.record()]);
    let knows =
        |n: usize| move |page: String| page.contains(&format!("delta_relay_known_nodes {n}\n")).then_some(());
    until("the new node is known", || knows(2)(get(relay.admin, "/metrics")));
    post(relay.address, &packet(2));
    sink.next();

    // An older version, then nonsense.
    let refused = |n: usize| {
        until("the file is refused", || {
            get(relay.admin, "/metrics")
                .contains(&format!("delta_relay_directory_refused_total {n}\n"))
                .then_some(())
        });
    };
    net.write(1, &[]);
    refused(1);
    std::fs::write(net.list(), "nonsense").unwrap();
    refused(2);
    post(relay.address, &packet(3));
    sink.next();
    let log = relay.log.lock().unwrap();
    assert_eq!(log.matches("stays in use").count(), 2, "{log}");
}

#[test]
fn an_older_list_is_refused_across_restarts() {
    let net = Net::new();
    let mut relay = net.relay("relay");
    net.write(7, &[relay.record.clone()]);
    relay.start(&net);
    relay.terminate();
    assert!(relay.wait().success());
    net.write(6, &[relay.record.clone()]);
    let output = program()
        .args(["--listen", "127.0.0.1:0", "--allow-private", "--trust", &net.trust(), "--data"])
        .arg(&relay.data)
        .arg("--directory")
        .arg(net.list())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("version 6, version 7 was seen before"), "{text}");
}

#[test]
fn a_relay_that_cannot_run_says_why() {
    let net = Net::new();
    let mut relay = net.relay("relay");
    net.write(1, &[relay.record.clone()]);
    relay.start(&net);
    let run = |data: &str, list: &str, listen: &str| {
        let data = net.folder.path().join(data);
        let list = net.folder.path().join(list);
        let output = program()
            .args(["--allow-private", "--listen", listen, "--trust", &net.trust(), "--data"])
            .arg(data)
            .arg("--directory")
            .arg(list)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    for (text, expected) in [
        (run("relay", "list.json", "127.0.0.1:0"), "another server runs on"),
        (run("other", "list.json", &relay.address.to_string()), "cannot listen on"),
        (run("other", "missing.json", "127.0.0.1:0"), "cannot read"),
        (run("other", "records.json", "127.0.0.1:0"), "is refused"),
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn without_a_url_there_is_no_key_page_and_the_rest_works() {
    let net = Net::new();
    let mut relay = net.relay("relay");
    net.write(1, &[relay.record.clone()]);
    std::fs::remove_file(relay.data.join("node.json")).unwrap();
    relay.start(&net);
    assert!(get(relay.address, "/key").contains("--url"));
    assert_eq!(get(relay.address, "/health"), "ok\n");
}

#[test]
fn case_73_logs_and_metrics_name_no_peer_and_no_packet() {
    let net = Net::new();
    let sink = Server::accepting();
    let last = Played::new(1, NodeKind::Sync, sink.url());
    let mut relay = net.relay("relay");
    net.write(1, &[relay.record.clone(), last.record()]);
    relay.start(&net);
    for seed in 0..200 {
        post(relay.address, &wrap(&[relay.hop(0), last.hop()], b"x", seed % 190));
    }
    relay.wait_count("delivered", 190);
    relay.wait_count("replayed", 10);
    let page = get(relay.admin, "/metrics");
    relay.terminate();
    assert!(relay.wait().success());
    let log = relay.log.lock().unwrap();
    for text in [&*log, &page] {
        for secret in [last.id().to_string(), sink.address.to_string(), "4096".to_owned()] {
            assert!(!text.contains(&secret), "{secret}: {text}");
        }
    }
    // What it was started with, and nothing per packet.
    assert!(log.lines().count() < 10, "{log}");
}
