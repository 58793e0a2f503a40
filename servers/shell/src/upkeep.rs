//! What a running node does to itself: keys that rotate, and a record that says so, signed anew every day.

use std::sync::Arc;
use std::time::Duration;

use delta_core::identity::Millis;
use delta_core::onion::directory::RecordObject;
use delta_core::onion::v3::OnionKey;

use crate::folder::NodeFolder;
use crate::keys::OnionKeys;
use crate::platform::{self, PlatformEntropy};
use crate::program::chain;
use crate::record::{self, RecordTerms, SignError};

/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_secs(60);
/// How often the record is signed again.
const SIGN_MS: u64 = 24 * 60 * 60 * 1000;

/// Keys and record of one node.
#[derive(Clone, Debug)]
pub struct Upkeep {
    /// Where they are kept.
    pub folder: Arc<NodeFolder>,
    /// The keys.
    pub keys: Arc<OnionKeys>,
    /// What the record says besides.
    pub terms: RecordTerms,
}

impl Upkeep {
    /// Brings the keys up to date and signs a record, so that a wrong URL ends the start; `None` when no URL is known.
    /// `is_known` as in [`run`](Self::run).
    pub fn start(
        &self,
        now: Millis,
        is_known: impl FnOnce(&OnionKey) -> bool,
    ) -> Result<Option<RecordObject>, SignError> {
        self.keys.turn(now, &mut PlatformEntropy, is_known)?;
        if self.terms.url.is_none() && self.folder.node_info()?.url.is_none() {
            return Ok(None);
        }
        self.sign(now).map(Some)
    }

    fn sign(&self, now: Millis) -> Result<RecordObject, SignError> {
        record::sign(&self.folder, self.keys.set().published(), &self.terms, now)
    }

    /// Goes on for ever. `is_known` says whether the next key has reached those who will need it; `publish` takes a
    /// new record.
    pub async fn run(
        self,
        is_known: impl Fn(&OnionKey) -> bool + Clone + Send + 'static,
        publish: impl Fn(RecordObject),
    ) {
        let mut signed = platform::now();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = platform::now();
            let (this, is_known) = (self.clone(), is_known.clone());
            // Files are made durable: not on a thread that serves.
            let turning = tokio::task::spawn_blocking(move || {
                this.turn(now, signed, is_known).map(|due| due.then(|| this.sign(now)))
            });
            // A clock that was wrong by years and is put right does not keep the next one away for as long.
            signed = signed.min(now);
            match turning.await {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(Ok(record)))) => {
                    signed = now;
                    publish(record);
                }
                Ok(Ok(Some(Err(SignError::NoUrl)))) => signed = now,
                Ok(Ok(Some(Err(error))) | Err(error)) => {
                    tracing::error!("onion keys or record could not be renewed: {}", chain(&error));
                }
                Err(_) => return,
            }
        }
    }

    /// Turns the keys, and says whether a new record is due.
    fn turn(
        &self,
        now: Millis,
        signed: Millis,
        is_known: impl FnOnce(&OnionKey) -> bool,
    ) -> Result<bool, SignError> {
        let changed = self.keys.turn(now, &mut PlatformEntropy, is_known)?;
        Ok(changed || now.since(signed) >= SIGN_MS)
    }
}
