//! TLS of a server's own: certificate and key from files, taken anew when they change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::program::chain;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// A handshake that takes longer is cut.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);

/// Certificate and key cannot be used. The operator is at fault.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM block of its kind.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// They do not fit together, or are of a kind that is not supported.
    #[error("--tls-cert and --tls-key cannot be used together")]
    Pair(#[from] rustls::Error),
}

/// A certificate chain and its key, and the files they come from.
#[derive(Debug)]
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    pub fn open(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let config = RwLock::new(read(cert, key)?);
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), config })
    }

    /// Does the handshake of a connection.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        let shaking = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream));
        shaking.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Looks at the files for ever. New ones that cannot be used are refused, loudly; connections go on.
    pub async fn watch(self: Arc<Self>) {
        let mut seen = self.stamps();
        let mut refused = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.stamps();
            // Both files are replaced, one after the other: only what has stood still for a while is read.
            if now != seen {
                tokio::time::sleep(LOOK).await;
                let now = self.stamps();
                match self.reload() {
                    Ok(()) => {
                        seen = now;
                        tracing::info!("the certificate was read again");
                    }
                    // Tried again, and said once.
                    Err(error) if refused != Some(now) => {
                        refused = Some(now);
                        tracing::error!("{}; the certificate read before stays in use", chain(&error));
                    }
                    Err(_) => {}
                }
            }
        }
    }

    /// Reads the files again.
    fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.cert, &self.key)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    fn stamps(&self) -> [Option<SystemTime>; 2] {
        [&self.cert, &self.key].map(|path| fs::metadata(path).and_then(|data| data.modified()).ok())
    }
}

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let error = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Read { path, source }
    };
    let certs = CertificateDer::pem_file_iter(cert).map_err(error(cert))?;
    let certs = certs.collect::<Result<Vec<_>, _>>().map_err(error(cert))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(error(key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certs, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn pem(kind: &str, der: &[u8]) -> String {
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
    }

    #[test]
    fn a_new_certificate_is_taken_and_one_that_cannot_be_used_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let leaf = pem("CERTIFICATE", include_bytes!("../../../client/tests/mock/tls/leaf.der"));
        fs::write(&cert, &leaf).unwrap();
        let secret = include_bytes!("../../../client/tests/mock/tls/leaf-key.der");
        fs::write(&key, pem("PRIVATE KEY", secret)).unwrap();
        let tls = Tls::open(&cert, &key).unwrap();
        let current = || Arc::clone(&tls.config.read().unwrap());
        let first = current();
        for bad in ["", "nonsense", &pem("CERTIFICATE", b"nonsense")] {
            fs::write(&cert, bad).unwrap();
            assert!(tls.reload().is_err(), "{bad}");
            assert!(Arc::ptr_eq(&first, &current()), "{bad}");
        }
        // A key of somebody else.
        let root = pem("CERTIFICATE", include_bytes!("../../../client/tests/mock/tls/root.der"));
        fs::write(&cert, root).unwrap();
        assert!(tls.reload().is_err());
        assert!(Arc::ptr_eq(&first, &current()));
        fs::write(&cert, leaf).unwrap();
        tls.reload().unwrap();
        assert!(!Arc::ptr_eq(&first, &current()));
    }
}
