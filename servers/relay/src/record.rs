//! What a relay says about itself, and what it knows others say about themselves.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use delta_core::identity::Millis;
use delta_core::onion::PacketClass;
use delta_core::onion::directory::{NodeKind, NodeRecord, RecordError, RecordObject, UrlError, check_url};
use thiserror::Error;

use crate::data::{DataError, DataFolder};
use crate::directory::Directories;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// No record can be signed.
#[derive(Debug, Error)]
pub enum SignError {
    /// Nobody said where the relay is reached.
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
    /// Who runs the relay; `None` keeps the last one.
    pub operator: Option<String>,
    /// How long the record holds.
    pub valid_days: u64,
    /// Permit http and private addresses.
    pub allow_private: bool,
}

/// Whether a URL may stand in a record.
pub fn check(url: &str, allow_private: bool) -> Result<(), SignError> {
    check_url(url, allow_private).map_err(|source| SignError::Url { url: url.to_owned(), source })
}

/// Signs a new record, with a higher sequence number than any before.
pub fn sign(folder: &DataFolder, terms: &RecordTerms, now: Millis) -> Result<RecordObject, SignError> {
    let mut info = folder.node_info()?;
    let url = terms.url.clone().or(info.url).ok_or(SignError::NoUrl)?;
    check(&url, terms.allow_private)?;
    let seconds = now.0 / 1000;
    info.url = Some(url.clone());
    info.operator = terms.operator.clone().or(info.operator);
    info.seq = seconds.max(info.seq.saturating_add(1));
    let record = NodeRecord {
        kind: NodeKind::Relay,
        id: folder.node_id(),
        url: Some(url),
        keys: folder.keys()?.published(),
        expires: seconds + terms.valid_days * DAY_SECONDS,
        max_class: Some(PacketClass::C4 as u8),
        operator: info.operator.clone(),
    };
    let object = RecordObject::sign(folder.identity(), &record, info.seq)?;
    folder.store_node_info(&info)?;
    Ok(object)
}

/// The answers of `/key` and `/records`.
#[derive(Debug)]
pub struct Records {
    directories: Arc<Directories>,
    own: RwLock<Option<RecordObject>>,
    pages: RwLock<(Option<Bytes>, Bytes)>,
}

impl Records {
    /// Without an own record yet.
    pub fn new(directories: Arc<Directories>) -> Self {
        let this = Self { directories, own: RwLock::default(), pages: RwLock::default() };
        this.rebuild();
        this
    }

    /// A new own record.
    pub fn set_own(&self, record: RecordObject) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = Some(record);
        self.rebuild();
    }

    /// Takes over a changed directory.
    pub fn rebuild(&self) {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner).clone();
        let me = own.as_ref().and_then(|own| own.record.parse::<NodeRecord>().ok()).map(|record| record.id);
        let view = self.directories.view();
        let others =
            view.records().iter().filter(|(id, _)| Some(*id) != me).map(|(_, record)| record.to_value());
        let all: Vec<_> = own.iter().map(RecordObject::to_value).chain(others).collect();
        let page = Bytes::from(serde_json::Value::from(all).to_string());
        let pages = (own.map(|own| Bytes::from(own.to_json())), page);
        *self.pages.write().unwrap_or_else(PoisonError::into_inner) = pages;
    }

    /// The own record object as JSON.
    pub fn own(&self) -> Option<Bytes> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Every record object in use as a JSON array.
    pub fn all(&self) -> Bytes {
        self.pages.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

#[cfg(test)]
mod tests {
    use delta_core::entropy::SeededEntropy;

    use super::*;

    fn terms(url: Option<&str>) -> RecordTerms {
        RecordTerms { url: url.map(str::to_owned), operator: None, valid_days: 7, allow_private: false }
    }

    #[test]
    fn a_record_verifies_rises_and_keeps_its_url() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path(), &mut SeededEntropy::new([1; 32])).unwrap();
        let now = Millis(1_800_000_000_000);
        assert!(matches!(sign(&folder, &terms(None), now), Err(SignError::NoUrl)));
        let named = RecordTerms { operator: Some("acme".to_owned()), ..terms(Some("https://relay.example")) };
        let first = sign(&folder, &named, now).unwrap();
        let record = first.verify().unwrap();
        assert_eq!(record.id, folder.node_id());
        assert_eq!(record.url.as_deref(), Some("https://relay.example"));
        assert_eq!(record.operator.as_deref(), Some("acme"));
        assert_eq!(record.expires, 1_800_000_000 + 7 * 86_400);
        assert_eq!((first.seq, record.keys), (1_800_000_000, folder.keys().unwrap().published()));
        // In the same second, and with a clock that went back.
        let second = sign(&folder, &terms(None), now).unwrap();
        let third = sign(&folder, &terms(None), Millis(0)).unwrap();
        assert_eq!((second.seq, third.seq), (1_800_000_001, 1_800_000_002));
        assert_eq!(second.verify().unwrap().operator.as_deref(), Some("acme"));
    }

    #[test]
    fn case_27_forbidden_urls_are_not_signed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path(), &mut SeededEntropy::new([1; 32])).unwrap();
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
            let result = sign(&folder, &terms(Some(url)), Millis(0));
            assert!(matches!(result, Err(SignError::Url { .. })), "{url}");
        }
        assert_eq!(folder.node_info().unwrap().url, None);
    }
}
