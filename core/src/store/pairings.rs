//! Which conversations are pairings: two devices meet in them for a short time, and nobody else is to have them.

use super::db::Db;
use super::error::StoreError;
use super::tx::Tx;
use crate::identity::{Author, LogId, Millis};
use crate::topic::TopicId;

/// Under which name they are kept: log id[32] and the instant each is over, u64.
const SETTING: &str = "pairings";
const LEN: usize = 32 + 8;

/// A pairing of this device that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenPairing {
    /// The conversation in which the two devices meet.
    pub log: LogId,
    /// From when on nothing is said in it any more.
    pub until: Millis,
}

impl Db {
    /// The pairings of this device that are not over.
    pub fn pairings(&self) -> Result<Vec<OpenPairing>, StoreError> {
        let bytes = self.setting(SETTING)?.unwrap_or_default();
        let (rows, _) = bytes.as_chunks::<LEN>();
        let row = |row: &[u8; LEN]| {
            let (log, until) = row.split_first_chunk::<32>()?;
            let until = Millis(u64::from_be_bytes(until.try_into().ok()?));
            Some(OpenPairing { log: LogId(*log), until })
        };
        Ok(rows.iter().filter_map(row).collect())
    }
}

impl Tx<'_> {
    /// Keeps which there are.
    pub(crate) fn set_pairings(&self, pairings: &[OpenPairing]) -> Result<(), StoreError> {
        let bytes: Vec<u8> =
            pairings.iter().flat_map(|it| it.log.0.into_iter().chain(it.until.0.to_be_bytes())).collect();
        self.set_setting(SETTING, &bytes)
    }

    /// Removes a conversation that this device says nothing more in, also where its own log ends: a pairing's, a blob's.
    pub(crate) fn wipe_wholly(&self, own: &Author, log: LogId) -> Result<Vec<TopicId>, StoreError> {
        let topics = self.wipe_logs(own, &[log])?;
        for table in ["operations", "heads", "log_hole"] {
            self.run(&format!("DELETE FROM {table} WHERE log = ?1"), [log.0])?;
        }
        self.forget_log(&log);
        Ok(topics)
    }
}
