//! A real sync server in this process.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use delta_sync::data::DataFolder;
use delta_sync::run::Server;
use rustls::pki_types::CertificateDer;
use tokio_rustls::TlsConnector;

use super::{Net, free_address};

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    options: delta_sync::Options,
}

/// Where a server listens, and the port that others are told.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub listen: SocketAddr,
    pub port: u16,
}

/// A place of its own, behind another port if one is given.
pub fn behind(port: Option<u16>) -> Place {
    let listen = free_address();
    Place { listen, port: port.unwrap_or(listen.port()) }
}

/// Starts a server for `localhost`, with TLS or without.
pub async fn start(net: &Net, tls: bool, place: Place) -> Server {
    start_in(net, tls, place, "server").await
}

/// Starts another with the key of the first, and with nothing else that is its.
pub async fn start_again(net: &Net, tls: bool, place: Place) -> Server {
    let [from, to] = ["server", "server-again"].map(|name| net.folder.path().join(name));
    std::fs::create_dir(&to).unwrap();
    std::fs::copy(from.join("identity.seed"), to.join("identity.seed")).unwrap();
    start_in(net, tls, place, "server-again").await
}

async fn start_in(net: &Net, tls: bool, place: Place, name: &str) -> Server {
    let pem = |name: &str, kind: &str, der: &[u8]| {
        let path = net.folder.path().join(name);
        let text = format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der));
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cert = pem("cert.pem", "CERTIFICATE", include_bytes!("../../../../client/tests/mock/tls/leaf.der"));
    let key = pem("key.pem", "PRIVATE KEY", include_bytes!("../../../../client/tests/mock/tls/leaf-key.der"));
    let data = net.folder.path().join(name);
    let scheme = if tls { "https" } else { "http" };
    let (listen, url) = (place.listen.to_string(), format!("{scheme}://localhost:{}", place.port));
    let mut args = vec!["delta-sync", "--allow-private", "--listen", &listen, "--url", &url];
    args.extend(["--data", data.to_str().unwrap()]);
    if tls {
        args.extend(["--tls-cert", &cert, "--tls-key", &key]);
    }
    let settings = Program::parse_from(args).options.settle().unwrap();
    let folder = DataFolder::open(&data, &mut delta_server_shell::PlatformEntropy).unwrap();
    Server::start(&settings, folder).await.unwrap()
}

/// The root that its certificate leads to (DER).
pub const ROOT: &[u8] = include_bytes!("../../../../client/tests/mock/tls/root.der");

/// Believes that root alone.
pub fn tls_client() -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(ROOT)).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
