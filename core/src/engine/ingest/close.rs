//! What stands in a topic after the place it closed at goes: the same as if it had come after the close was known.

use super::Taken;
use crate::identity::{Author, LogId, OperationId};
use crate::ops::VerifiedOperation;
use crate::projector::Change;
use crate::store::{StoreError, StoredPlace, TopicClose, Tx, WaitingForPredecessor};

/// Takes out what was stored or waits after the close, except what `covers` names. What also stands in a later topic
/// (carried over, and read there first) stands there from now on. This device's own operations stay in its log without
/// a place, and are given back: they have to be sent again.
pub fn close(
    tx: &Tx<'_>,
    at: &TopicClose,
    log: &LogId,
    device: &Author,
    covers: impl Fn(&Author, u32, &OperationId) -> bool,
) -> Result<(Vec<Change>, Vec<VerifiedOperation>), StoreError> {
    tx.remove_pending_after(at.topic, at.resets, at.seq)?;
    let (mut changes, mut own) = (Vec::new(), Vec::new());
    let mut later = tx.receipts_since(log, at.epoch)?;
    for (author, lowest) in tx.authors_after(at.topic, at.resets, at.seq)? {
        let is_after = |stored: &StoredPlace| {
            let place = stored.place;
            let here = place.epoch.checked_add(1) == Some(at.epoch) && place.resets == at.resets;
            here && place.seq > at.seq && !covers(&author, stored.seq_num, &stored.id)
        };
        let stored = tx.places(&author, log, lowest, u32::MAX)?;
        let Some(first) = stored.iter().position(is_after) else { continue };
        changes.extend(tx.rows_of(&author, log)?);
        let mut carried = Vec::new();
        let ended = tx.log_end(&author, log)?.is_some();
        for stored in stored.iter().skip(first) {
            let bytes = tx.operation_bytes(&stored.id)?;
            let after = is_after(stored);
            if author == *device && !ended {
                // Its log has no holes, whatever the server made of it, nor gaps where a body was erased.
                tx.take_place(&author, log, stored)?;
                let operation =
                    bytes.and_then(|(header, body)| VerifiedOperation::from_store(&header, &body).ok());
                own.extend(operation);
                continue;
            }
            let waiting = tx.take_out(&author, log, stored)?;
            // A log that a fork ended takes nothing: then there is nothing to be sent either.
            if author != *device
                && let Some(waiting) = waiting
            {
                match later.remove(&stored.id).filter(|_| after) {
                    Some(receipt) => carried.push(WaitingForPredecessor { receipt, ..waiting }),
                    None if after => {}
                    None => drop(tx.await_predecessor(&waiting.receipt, &waiting.operation())?),
                }
            }
        }
        tx.recount_head(&author, log, ended)?;
        tx.recount_holes(&author, log)?;
        tx.rebuild_log(&author, log)?;
        let mut taken = Taken::default();
        for waiting in carried {
            taken.take_waiting(tx, &waiting)?;
            taken.release(tx, &waiting.operation())?;
        }
        changes.extend(taken.changes);
        changes.extend(tx.rows_of(&author, log)?);
    }
    Ok((Change::merge(changes), own))
}

/// This device's own operations from the first one on that stands in an epoch which is over: they stay in its log without a
/// place, and are given back as by [`close`].
pub fn take_own_back(
    tx: &Tx<'_>,
    log: &LogId,
    device: &Author,
    is_over: impl Fn(u32) -> bool,
) -> Result<(Vec<Change>, Vec<VerifiedOperation>), StoreError> {
    if tx.log_end(device, log)?.is_some() {
        return Ok((Vec::new(), Vec::new()));
    }
    let stored = tx.places(device, log, 0, u32::MAX)?;
    let stands = |stored: &StoredPlace| stored.place.is_placed() && is_over(stored.place.epoch);
    let Some(first) = stored.iter().position(stands) else { return Ok((Vec::new(), Vec::new())) };
    let (mut changes, mut own) = (tx.rows_of(device, log)?, Vec::new());
    for stored in stored.iter().skip(first) {
        tx.take_place(device, log, stored)?;
        let bytes = tx.operation_bytes(&stored.id)?;
        own.extend(bytes.and_then(|(header, body)| VerifiedOperation::from_store(&header, &body).ok()));
    }
    tx.recount_head(device, log, false)?;
    tx.recount_holes(device, log)?;
    tx.rebuild_log(device, log)?;
    changes.extend(tx.rows_of(device, log)?);
    Ok((Change::merge(changes), own))
}
