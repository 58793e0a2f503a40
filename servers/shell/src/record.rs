//! What a node says about itself: its directory record.

use delta_core::identity::Millis;
use delta_core::onion::PacketClass;
use delta_core::onion::directory::{NodeKind, NodeRecord, RecordError, RecordObject, UrlError, check_url};
use delta_core::onion::v3::OnionKey;
use thiserror::Error;

use crate::file::FileError;
use crate::folder::NodeFolder;

/// Days a record stays valid.
pub const VALID_DAYS: u64 = 7;
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// No record can be signed.
#[derive(Debug, Error)]
pub enum SignError {
    /// Nobody said where the node is reached.
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
    /// The node is to speak version 2 only, and its records have said more.
    #[error(
        "this node's records had onion keys, and who has seen one refuses a record without: make a new data folder"
    )]
    LosesKeys,
    /// The data folder.
    #[error(transparent)]
    Data(#[from] FileError),
}

/// What goes into a record besides identity and keys.
#[derive(Clone, Debug)]
pub struct RecordTerms {
    /// What the node does.
    pub kind: NodeKind,
    /// Base URL; `None` keeps the last one.
    pub url: Option<String>,
    /// Who runs the node; `None` keeps the last one.
    pub operator: Option<String>,
    /// Whether tunnels are offered.
    pub tunnel: bool,
    /// How long the record holds.
    pub valid_days: u64,
    /// Permit http and private addresses.
    pub allow_private: bool,
    /// Name no onion keys.
    pub v2_only: bool,
}

impl RecordTerms {
    /// Whether a URL that was given may stand in a record.
    pub fn check(&self) -> Result<(), SignError> {
        self.url.as_deref().map_or(Ok(()), |url| check(url, self.allow_private))
    }
}

fn check(url: &str, allow_private: bool) -> Result<(), SignError> {
    check_url(url, allow_private).map_err(|source| SignError::Url { url: url.to_owned(), source })
}

/// Signs a new record of `keys` (unless none are to be named), with a higher sequence number than any before.
pub fn sign(
    folder: &NodeFolder,
    keys: Vec<OnionKey>,
    terms: &RecordTerms,
    now: Millis,
) -> Result<RecordObject, SignError> {
    let mut info = folder.node_info()?;
    // A kept URL was checked when it was given.
    terms.check()?;
    let url = terms.url.clone().or(info.url).ok_or(SignError::NoUrl)?;
    let keys = if terms.v2_only { Vec::new() } else { keys };
    if keys.is_empty() && info.onion {
        return Err(SignError::LosesKeys);
    }
    info.onion = !keys.is_empty();
    let seconds = now.0 / 1000;
    info.url = Some(url.clone());
    info.operator = terms.operator.clone().or(info.operator);
    info.seq = seconds.max(info.seq.saturating_add(1));
    let record = NodeRecord {
        kind: terms.kind,
        id: folder.node_id(),
        url: Some(url),
        keys,
        expires: seconds + terms.valid_days * DAY_SECONDS,
        max_class: Some(PacketClass::LARGEST as u8),
        operator: info.operator.clone(),
        tunnel: terms.tunnel,
    };
    let object = RecordObject::sign(folder.identity(), &record, info.seq)?;
    folder.store_node_info(&info)?;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use delta_core::entropy::SeededEntropy;
    use delta_core::onion::v3::OnionSecret;

    use super::*;

    fn terms(url: Option<&str>) -> RecordTerms {
        let url = url.map(str::to_owned);
        RecordTerms {
            kind: NodeKind::Relay,
            url,
            operator: None,
            tunnel: true,
            valid_days: 7,
            allow_private: false,
            v2_only: false,
        }
    }

    fn keys() -> Vec<OnionKey> {
        vec![OnionSecret::from_bytes(3, [3; 32]).public()]
    }

    #[test]
    fn a_record_verifies_rises_and_keeps_its_url() {
        let dir = tempfile::tempdir().unwrap();
        let folder = NodeFolder::open(dir.path(), &mut SeededEntropy::new([1; 32])).unwrap();
        let now = Millis(1_800_000_000_000);
        assert!(matches!(sign(&folder, keys(), &terms(None), now), Err(SignError::NoUrl)));
        let named = RecordTerms { operator: Some("acme".to_owned()), ..terms(Some("https://relay.example")) };
        let first = sign(&folder, keys(), &named, now).unwrap();
        let record = first.verify().unwrap();
        assert_eq!((record.kind, record.id), (NodeKind::Relay, folder.node_id()));
        assert_eq!(record.url.as_deref(), Some("https://relay.example"));
        assert_eq!(record.operator.as_deref(), Some("acme"));
        assert_eq!(record.expires, 1_800_000_000 + 7 * 86_400);
        assert_eq!((first.seq, record.keys, record.tunnel), (1_800_000_000, keys(), true));
        // In the same second, and with a clock that went back.
        let second = sign(&folder, keys(), &terms(None), now).unwrap();
        let third = sign(&folder, keys(), &terms(None), Millis(0)).unwrap();
        assert_eq!((second.seq, third.seq), (1_800_000_001, 1_800_000_002));
        assert_eq!(second.verify().unwrap().operator.as_deref(), Some("acme"));
    }

    #[test]
    fn a_record_of_version_2_has_no_keys_and_a_node_that_had_some_keeps_them() {
        let dir = tempfile::tempdir().unwrap();
        let folder = NodeFolder::open(dir.path(), &mut SeededEntropy::new([1; 32])).unwrap();
        let full = terms(Some("https://relay.example"));
        let original = RecordTerms { v2_only: true, ..full.clone() };
        let sign = |terms: &RecordTerms| sign(&folder, keys(), terms, Millis(0));
        assert_eq!(sign(&original).unwrap().verify().unwrap().keys, []);
        assert_eq!(sign(&original).unwrap().verify().unwrap().keys, []);
        assert_eq!(sign(&full).unwrap().verify().unwrap().keys, keys());
        // Case 33, from the other side: nobody would take it.
        let seq = folder.node_info().unwrap().seq;
        assert!(matches!(sign(&original), Err(SignError::LosesKeys)));
        assert_eq!(folder.node_info().unwrap().seq, seq);
    }

    #[test]
    fn case_27_forbidden_urls_are_not_signed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = NodeFolder::open(dir.path(), &mut SeededEntropy::new([1; 32])).unwrap();
        let long = format!("https://{}.example", "a".repeat(300));
        for url in [
            "http://relay.example",
            "ftp://relay.example",
            "https://user@relay.example",
            "https://relay.example:80",
            "https://relay.example#x",
            "https://relay.example/",
            "https://10.0.0.1",
            &long,
        ] {
            let result = sign(&folder, keys(), &terms(Some(url)), Millis(0));
            assert!(matches!(result, Err(SignError::Url { .. })), "{url}");
        }
        assert_eq!(folder.node_info().unwrap().url, None);
    }
}
