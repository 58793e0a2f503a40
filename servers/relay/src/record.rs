//! The answers of `/key` and `/records`: what the relay says about itself, and what it knows others say.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use delta_core::onion::directory::{NodeRecord, RecordObject};

use delta_server_shell::directory::Directories;

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
