//! One TLS configuration for WebSockets and HTTP alike: rustls on ring, the web's roots and the app's own.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, KeyProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// The TLS configuration cannot be built.
#[derive(Debug, Error)]
pub(crate) enum TlsError {
    #[error("root certificate number {index} of the configuration is not usable: {source}")]
    Root { index: usize, source: rustls::Error },
    #[error("the TLS library refuses its own defaults: {0}")]
    Protocols(rustls::Error),
}

/// Trusts the web's roots and `extra_roots` (DER). The provider is named here and not installed for the process.
pub(crate) fn client_config(extra_roots: &[Vec<u8>]) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for (index, der) in extra_roots.iter().enumerate() {
        let certificate = CertificateDer::from(der.clone());
        roots.add(certificate).map_err(|source| TlsError::Root { index, source })?;
    }
    let provider = Arc::new(CryptoProvider { key_provider: &NoKeys, ..ring::default_provider() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Protocols)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A session ticket is a name: with it a guard or a server, and before TLS 1.3 whoever watches the line, would know
    // the device again after it has changed its address.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A device has no certificate. ring's own keys would bring what signs with RSA and ECDSA (docs/adr/0016).
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("a device has no certificate".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_is_no_certificate_is_refused_by_its_number() {
        let error = client_config(&[b"not a certificate".to_vec()]).unwrap_err();
        assert!(matches!(error, TlsError::Root { index: 0, .. }), "{error}");
        assert!(client_config(&[]).is_ok());
    }
}
