//! What the server says about itself: its directory record.

use delta_core::identity::Millis;
use delta_core::onion::PacketClass;
use delta_core::onion::directory::{NodeKind, NodeRecord, RecordError, RecordObject, UrlError, check_url};
use thiserror::Error;

use crate::data::{DataError, DataFolder};

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// No record can be signed.
#[derive(Debug, Error)]
pub enum SignError {
    /// Nobody said where the server is reached.
    #[error("no URL is known: give --url")]
    NoUrl,
    /// The URL breaks a rule.
    #[error("--url {url}")]
    Url {
        /// What was given.
        url: String,
        /// The rule.
        source: UrlError,
    },
    /// A value does not fit into a record.
    #[error("the record cannot be signed (is --operator 1 to 64 printable characters?)")]
    Record(#[from] RecordError),
    /// The data folder.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// What goes into a record besides identity and keys.
#[derive(Clone, Debug)]
pub struct RecordTerms {
    /// Base URL; `None` keeps the last one.
    pub url: Option<String>,
    /// Who runs the server; `None` keeps the last one.
    pub operator: Option<String>,
    /// How long the record holds.
    pub valid_days: u64,
    /// Permit http and private addresses.
    pub allow_private: bool,
}

/// Signs a new record, with a higher sequence number than any before.
///
/// # Errors
/// The operator gave a URL or name that does not fit; or the data folder cannot be used.
pub fn sign(folder: &DataFolder, terms: &RecordTerms, now: Millis) -> Result<RecordObject, SignError> {
    let mut info = folder.node_info()?;
    let url = terms.url.clone().or(info.url).ok_or(SignError::NoUrl)?;
    check_url(&url, terms.allow_private).map_err(|source| SignError::Url { url: url.clone(), source })?;
    let seconds = now.0 / 1000;
    info.url = Some(url.clone());
    info.operator = terms.operator.clone().or(info.operator);
    info.seq = seconds.max(info.seq.saturating_add(1));
    let record = NodeRecord {
        kind: NodeKind::Sync,
        id: folder.node_id(),
        url: Some(url),
        keys: folder.public_keys()?,
        expires: seconds + terms.valid_days * DAY_SECONDS,
        max_class: Some(PacketClass::LARGEST as u8),
        operator: info.operator.clone(),
    };
    let object = RecordObject::sign(folder.identity(), &record, info.seq)?;
    folder.store_node_info(&info)?;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use delta_core::entropy::SeededEntropy;

    use super::*;

    #[test]
    fn a_record_verifies_names_the_server_and_keeps_its_url() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path(), &mut SeededEntropy::new([1; 32])).unwrap();
        let now = Millis(1_800_000_000_000);
        let terms = |url: Option<&str>| RecordTerms {
            url: url.map(str::to_owned),
            operator: url.map(|_| "acme".to_owned()),
            valid_days: 7,
            allow_private: false,
        };
        assert!(matches!(sign(&folder, &terms(None), now), Err(SignError::NoUrl)));
        assert!(matches!(sign(&folder, &terms(Some("http://10.0.0.1")), now), Err(SignError::Url { .. })));
        let first = sign(&folder, &terms(Some("https://sync.example")), now).unwrap();
        let record = first.verify().unwrap();
        assert_eq!((record.kind, record.id), (NodeKind::Sync, folder.node_id()));
        assert_eq!((record.expires, first.seq), (1_800_000_000 + 7 * 86_400, 1_800_000_000));
        let second = sign(&folder, &terms(None), now).unwrap();
        assert_eq!(second.seq, 1_800_000_001);
        assert_eq!(second.verify().unwrap().operator.as_deref(), Some("acme"));
    }
}
