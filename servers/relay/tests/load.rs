//! Load and TLS: limits by address, slow senders, trusted proxies, certificates.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use delta_core::onion::directory::NodeKind;
use support::{Net, PATIENCE, Played, Relay, Server, exchange, get, post, status, until, wrap};

const ROOT: &[u8] = include_bytes!("../../../client/tests/mock/tls/root.der");
const LEAF: &[u8] = include_bytes!("../../../client/tests/mock/tls/leaf.der");
const LEAF_KEY: &[u8] = include_bytes!("../../../client/tests/mock/tls/leaf-key.der");

fn start(options: &[&str]) -> (Net, Relay, Server, Played) {
    let net = Net::new();
    let sink = Server::accepting();
    let last = Played::new(1, NodeKind::Sync, sink.url());
    let mut relay = net.relay("relay");
    net.write(1, &[relay.record.clone(), last.record()]);
    relay.start_with(&net, &[&["--batch-ms", "0", "--allow-private"], options].concat());
    (net, relay, sink, last)
}

/// Asks for /health, for somebody.
fn ask(address: SocketAddr, forwarded_for: &str) -> String {
    let head = format!(
        "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-forwarded-for: {forwarded_for}\r\n\r\n"
    );
    exchange(address, head.as_bytes())
}

#[test]
fn an_address_that_asks_too_often_gets_429_and_only_a_trusted_proxy_speaks_for_others() {
    // The burst is one second's worth. However slow this machine is, it asks more often than three times in some second.
    let limit = ["--limit", "requests_per_second_per_address=3"];
    let (_net, relay, ..) = start(&limit);
    let refused = |relay: &Relay, forwarded_for: &str| {
        until("a 429", || Some(ask(relay.address, forwarded_for)).filter(|answer| status(answer) == 429))
    };
    assert!((0..3).all(|n| status(&ask(relay.address, &format!("192.0.2.{n}"))) == 200));
    let answer = refused(&relay, "192.0.2.9");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    drop(relay);

    let (_net, relay, ..) = start(&[&limit[..], &["--trusted-proxy", "127.0.0.1"]].concat());
    assert!((0..20).all(|n| status(&ask(relay.address, &format!("198.51.100.7, 192.0.2.{n}"))) == 200));
    let mut n = 0;
    until("a 429, for what the client writes itself is not believed", || {
        n += 1;
        (status(&ask(relay.address, &format!("192.0.2.{}, 198.51.100.7", n % 256))) == 429).then_some(())
    });
}

#[test]
fn connections_of_one_address_are_limited() {
    let (_net, relay, ..) = start(&["--limit", "connections_per_address=2"]);
    let mut held: Vec<_> = (0..2).map(|_| TcpStream::connect(relay.address).unwrap()).collect();
    for stream in &mut held {
        // Answered: so it was let in before the next one comes.
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
    }
    let refused = ask(relay.address, "");
    assert_eq!(status(&refused), 429);
    assert!(refused.contains("Retry-After"), "{refused}");
    drop(held);
    until("the places are free", || (status(&ask(relay.address, "")) == 200).then_some(()));
}

#[test]
fn slow_senders_hold_their_own_share_of_the_memory_and_quick_ones_pass() {
    let (_net, relay, sink, last) = start(&["--limit", "upload_bytes_per_address=65536"]);
    let slow = |size: usize| {
        let mut stream = TcpStream::connect(relay.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("POST /hop HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), &[3; 100]].concat()).unwrap();
        stream
    };
    // Whichever came second gets 503; all are kept, so that one of them holds the share.
    let mut held = vec![slow(65_536)];
    let refused = until("a slow sender is turned away", || {
        let mut stream = slow(65_536);
        stream.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        let mut answer = [0; 1024];
        let len = stream.read(&mut answer);
        held.push(stream);
        len.ok().map(|len| String::from_utf8_lossy(&answer[..len]).into_owned())
    });
    assert_eq!(status(&refused), 503, "{refused}");
    let packet = wrap(&[relay.hop(0), last.hop()], b"x", 1);
    assert_eq!(status(&post(relay.address, &packet)), 202);
    sink.next();
}

#[test]
fn a_full_replay_set_is_503_until_the_key_rotates_and_keeps_what_it_knows() {
    let (_net, relay, sink, last) = start(&["--limit", "replay_tags=2"]);
    let packet = |seed| wrap(&[relay.hop(0), last.hop()], b"x", seed);
    for seed in [1, 2] {
        assert_eq!(status(&post(relay.address, &packet(seed))), 202);
        sink.next();
    }
    // Known, tampered and new packets alike.
    for seed in [1, 3] {
        let refused = post(relay.address, &packet(seed));
        assert_eq!(status(&refused), 503);
        assert!(refused.contains("retry-after: 1"), "{refused}");
    }
    assert!(get(relay.admin, "/metrics").contains("\ndelta_relay_replay_tags 2\n"));
    assert!(sink.rest().is_empty());
}

#[test]
fn the_front_page_says_what_it_is_and_where_to_report_abuse() {
    let (_net, relay, ..) = start(&["--contact", "abuse@relay.example"]);
    let page = get(relay.address, "/");
    assert!(page.contains("Delta relay") && page.contains("abuse@relay.example"), "{page}");
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

/// The answer to a request over TLS, with the test's root as the only one.
fn over_tls(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from(ROOT)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut session =
        rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut socket = TcpStream::connect(address)?;
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    stream.write_all(request)?;
    let mut text = Vec::new();
    // The other side may end the connection without saying goodbye first.
    let _ = stream.read_to_end(&mut text);
    Ok(String::from_utf8(text).unwrap())
}

#[test]
fn with_a_certificate_the_relay_speaks_tls_itself() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] =
        ["cert.pem", "key.pem"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    std::fs::write(&cert, pem("CERTIFICATE", LEAF)).unwrap();
    std::fs::write(&key, pem("PRIVATE KEY", LEAF_KEY)).unwrap();
    let (_net, relay, sink, last) = start(&["--tls-cert", &cert, "--tls-key", &key]);
    let packet = wrap(&[relay.hop(0), last.hop()], b"x", 1);
    let head = format!(
        "POST /hop HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        packet.len()
    );
    let answer = over_tls(relay.address, &[head.as_bytes(), &packet].concat()).unwrap();
    assert_eq!(status(&answer), 202, "{answer}");
    assert_eq!(last.read(&sink.next().body), b"x");
    // Plain HTTP is no TLS.
    assert!(
        !exchange(relay.address, b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .contains("200 OK")
    );
}

#[test]
fn a_certificate_that_cannot_be_used_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let net = Net::new();
    let relay = net.relay("relay");
    net.write(1, std::slice::from_ref(&relay.record));
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("cert.pem"), pem("CERTIFICATE", LEAF)).unwrap();
    std::fs::write(path("key.pem"), pem("PRIVATE KEY", LEAF_KEY)).unwrap();
    for (cert, key, expected) in [
        (Some("cert.pem"), None, "--tls-key is missing"),
        (None, Some("key.pem"), "--tls-cert is missing"),
        (Some("missing.pem"), Some("key.pem"), "cannot read"),
        (Some("key.pem"), Some("key.pem"), "--tls-cert and --tls-key cannot be used"),
        (Some("cert.pem"), Some("cert.pem"), "cannot read"),
    ] {
        let mut program = support::program();
        program.args(["--allow-private", "--listen", "127.0.0.1:0", "--trust", &net.trust()]);
        program.arg("--data").arg(&relay.data).arg("--directory").arg(net.list());
        for (option, name) in [("--tls-cert", cert), ("--tls-key", key)] {
            program.args(
                name.map(|name| [option.to_owned(), path(name).to_str().unwrap().to_owned()])
                    .into_iter()
                    .flatten(),
            );
        }
        let output = program.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(expected), "{expected}: {text}");
    }
}
