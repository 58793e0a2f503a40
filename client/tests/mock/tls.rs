//! The same network behind TLS: what a released app uses. The certificates in `tls/` are for `localhost`, made with
//! OpenSSL for these tests alone.

use std::net::SocketAddr;
use std::sync::Arc;

use delta_client::{Client, Config, Event, RelayHops, Update};
use delta_core::onion::directory::NodeKind;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::device::{message, ticket};
use crate::net::{Net, now};

const ROOT: &[u8] = include_bytes!("tls/root.der");
const LEAF: &[u8] = include_bytes!("tls/leaf.der");
const LEAF_KEY: &[u8] = include_bytes!("tls/leaf-key.der");

type Versions = &'static [&'static SupportedProtocolVersion];

/// What the servers of a network speak.
const BOTH: Versions = &[&TLS12, &TLS13];
const OLDER: Versions = &[&TLS12];

/// Ends TLS of these versions in front of a plain address.
async fn front(plain: SocketAddr, versions: Versions) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(LEAF)],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(LEAF_KEY)),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let mut inside = TcpStream::connect(plain).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    format!("https://localhost:{port}")
}

/// The relays' and the server's records with https URLs, and the sync URL.
async fn fronted(net: &Net, versions: Versions) -> (RelayHops, String) {
    let (server, relays) = net.addresses();
    let mut records = Vec::new();
    for (index, address) in relays.into_iter().enumerate() {
        let url = front(address, versions).await;
        let operator = format!("operator {index}");
        let identity = net.world().relays[index].identity().clone();
        records.push(identity.record(NodeKind::Relay, &url, &operator, now()).to_json());
    }
    let url = front(server, versions).await;
    let identity = net.world().server.identity().clone();
    records.push(identity.record(NodeKind::Sync, &url, "server", now()).to_json());
    (RelayHops::Pool(records), format!("{url}#{}", identity.id()))
}

#[tokio::test]
async fn with_tls_and_a_root_of_its_own_a_device_needs_no_flag() {
    let net = Net::start().await;
    let (hops, sync_url) = fronted(&net, BOTH).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path().join("device.db"), [1; 32]);
    config.extra_roots = vec![ROOT.to_vec()];
    let client = Client::open(config).await.unwrap();
    let topic = client.open_topic(&ticket(1)).await.unwrap();
    let mut updates = client.subscribe(topic).await.unwrap();
    assert!(client.init_sync(&hops, &sync_url).await.unwrap().is_empty());
    let published = client.publish(topic, message("over TLS")).await.unwrap();
    loop {
        match updates.next().await.unwrap() {
            Update::Event(Event::Acknowledged { operation, .. }) if operation == published => break,
            _ => {}
        }
    }
    assert_eq!(net.head(&topic), 1);
    client.close().await.unwrap();
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_not_believed() {
    let net = Net::start().await;
    let (hops, sync_url) = fronted(&net, BOTH).await;
    let RelayHops::Pool(mut records) = hops else { unreachable!() };
    // Without the server's record the client has to ask the server for it.
    records.pop();
    let dir = tempfile::tempdir().unwrap();
    let client = Client::open(Config::new(dir.path().join("device.db"), [1; 32])).await.unwrap();
    let error = client.init_sync(&RelayHops::Pool(records), &sync_url).await.unwrap_err();
    assert_eq!(error.code(), "server_unreachable");
    assert!(error.to_string().contains("certificate"), "{error}");
    client.close().await.unwrap();
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_1_3_is_not_reached_and_named_for_it() {
    let net = Net::start().await;
    let (hops, sync_url) = fronted(&net, OLDER).await;
    let RelayHops::Pool(mut records) = hops else { unreachable!() };
    records.pop();
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path().join("device.db"), [1; 32]);
    config.extra_roots = vec![ROOT.to_vec()];
    let client = Client::open(config).await.unwrap();
    let error = client.init_sync(&RelayHops::Pool(records), &sync_url).await.unwrap_err();
    assert_eq!(error.code(), "server_unreachable");
    assert!(error.to_string().contains("does not speak TLS 1.3"), "{error}");
    client.close().await.unwrap();
}
