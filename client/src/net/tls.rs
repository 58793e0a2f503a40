//! One TLS configuration for WebSockets and HTTP alike: rustls on ring, the web's roots and the app's own.

mod provider;

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::version::TLS13;
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use thiserror::Error;

/// The TLS configuration cannot be built.
#[derive(Debug, Error)]
pub(crate) enum TlsError {
    #[error("root certificate number {index} of the configuration is not usable: {source}")]
    Root { index: usize, source: rustls::Error },
    #[error("the TLS library refuses its own defaults: {0}")]
    Protocols(rustls::Error),
}

/// TLS 1.3 and nothing older (docs/adr/0016, docs/wire.md): named here, since in a build with servers rustls has 1.2 as
/// well.
///
/// Trusts the web's roots and `extra_roots` (DER). The provider is named here and not installed for the process.
pub(crate) fn client_config(extra_roots: &[Vec<u8>]) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for (index, der) in extra_roots.iter().enumerate() {
        let certificate = CertificateDer::from(der.clone());
        roots.add(certificate).map_err(|source| TlsError::Root { index, source })?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider::provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Protocols)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A session ticket is a name: with it a guard or a server would know the device again after it has changed its
    // address.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What a server that a device cannot talk to lacks.
const NOT_OURS: &str = "the server does not speak TLS 1.3 with AES-GCM and X25519 or P-256";

/// The error of a handshake; that the other side speaks no TLS 1.3, or not with what devices have, where that is what it means.
///
/// A server of 1.2 says one of two alerts, depending on whether it knows how 1.3 is offered, or answers in 1.2.
pub(super) fn explained(error: io::Error) -> io::Error {
    let of_tls = error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>());
    match of_tls {
        Some(
            rustls::Error::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
            )
            | rustls::Error::PeerIncompatible(_),
        ) => io::Error::new(error.kind(), format!("{NOT_OURS}: {error}")),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use rustls::PeerIncompatible;

    use super::*;

    #[test]
    fn a_server_of_an_older_tls_is_told_from_one_that_is_not_believed() {
        use rustls::Error::{AlertReceived, InvalidCertificate, PeerIncompatible as Incompatible};
        let shown = |error| explained(io::Error::new(io::ErrorKind::InvalidData, error)).to_string();
        for older in [
            // RFC 8446, section 4.2.1: its server knows `supported_versions`; one that does not finds no cipher.
            AlertReceived(AlertDescription::ProtocolVersion),
            AlertReceived(AlertDescription::HandshakeFailure),
            Incompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
        ] {
            assert!(shown(older.clone()).starts_with(NOT_OURS), "{older}");
        }
        let expired = InvalidCertificate(rustls::CertificateError::Expired);
        assert_eq!(shown(expired.clone()), expired.to_string());
        let cut = explained(io::ErrorKind::UnexpectedEof.into());
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_root_that_is_no_certificate_is_refused_by_its_number() {
        let error = client_config(&[b"not a certificate".to_vec()]).unwrap_err();
        assert!(matches!(error, TlsError::Root { index: 0, .. }), "{error}");
        assert!(client_config(&[]).is_ok());
    }
}
