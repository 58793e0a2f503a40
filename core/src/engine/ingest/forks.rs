//! Forks: two operations of one author, log and seq_num.
//!
//! Every operation claims an id for its own seq_num and, by its backlink, one for the seq_num before it. Two
//! different claims for one seq_num are a fork, and the log ends at the later of the places the two claims were
//! first seen at: everything placed before stays, everything from there on goes. Both depend on places alone, never
//! on the order of arrival. Operations without a place count as last; between two of them the hash decides.

use super::Around;
use crate::identity::{Author, LogId, OperationId};
use crate::projector::{Change, Place};
use crate::store::{ForkProof, NewOperation, StoreError, StoredPlace, Tx};
use crate::tree::{Arrange, IntoTree, Set};

/// Two branches of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fork {
    first: Claim,
    second: Claim,
}

/// That an operation has an id at a seq_num.
#[derive(Clone, Copy, Debug)]
struct Claim {
    seq_num: u32,
    id: OperationId,
    /// Where the claim was first seen.
    place: Place,
    /// The operation that makes it: itself, or the one whose backlink it is.
    witness: OperationId,
}

impl Fork {
    /// Where the second branch appears: the log's end.
    pub(super) fn end(&self) -> Place {
        self.second.place
    }
}

/// The earliest fork that `op` at `place` shows together with what is known around it.
pub(super) fn find(around: &Around, op: &NewOperation<'_>, place: Place) -> Option<Fork> {
    let mut claims = claims(op.seq_num, op.id, op.backlink, place);
    for stored in &around.stored {
        claims.extend(self::claims(stored.seq_num, stored.id, stored.backlink, stored.first));
    }
    for waiting in &around.waiting {
        claims.extend(self::claims(waiting.seq_num, waiting.id, waiting.backlink, waiting.receipt.place));
    }
    let below = op.seq_num.checked_sub(1);
    let forks =
        [below, Some(op.seq_num)].into_iter().flatten().filter_map(|seq_num| fork_at(&claims, seq_num));
    forks.min_by_key(|fork| (fork.end(), fork.second.seq_num))
}

fn claims(seq_num: u32, id: OperationId, backlink: Option<OperationId>, place: Place) -> Vec<Claim> {
    let own = Claim { seq_num, id, place, witness: id };
    let before = backlink.zip(seq_num.checked_sub(1));
    let before = before.map(|(below, seq_num)| Claim { seq_num, id: below, place, witness: id });
    [own].into_iter().chain(before).collect()
}

fn fork_at(claims: &[Claim], seq_num: u32) -> Option<Fork> {
    let mut here: Vec<Claim> = claims.iter().filter(|claim| claim.seq_num == seq_num).copied().collect();
    here.arrange_by_key(|claim| (claim.place, claim.id));
    let first = *here.first()?;
    let second = *here.iter().find(|claim| claim.id != first.id)?;
    Some(Fork { first, second })
}

/// Ends the log at the fork; what is stored from there on is taken out.
pub(super) fn end(
    tx: &Tx<'_>,
    fork: &Fork,
    op: &NewOperation<'_>,
    around: &Around,
) -> Result<Vec<Change>, StoreError> {
    let (first, _) = witness(tx, op, around, fork.first.witness)?;
    let (second, second_body) = witness(tx, op, around, fork.second.witness)?;
    let proof = ForkProof {
        seq_num: fork.second.seq_num,
        ends: fork.end(),
        first: (fork.first.witness, first),
        second: (fork.second.witness, second),
        second_body,
    };
    end_with(tx, &op.author, &op.log, &proof)
}

fn end_with(tx: &Tx<'_>, author: &Author, log: &LogId, proof: &ForkProof) -> Result<Vec<Change>, StoreError> {
    let instead = tx.fork_proof(author, log)?.is_some();
    tx.put_fork_proof(author, log, proof)?;
    tx.remove_pending_from(author, log, proof.ends)?;
    let removed = tx.stored_from(author, log, proof.ends)?;
    let Some(lowest) = removed.first().map(|stored| stored.seq_num) else {
        tx.note_fork(author, log, proof, instead)?;
        return Ok(Vec::new());
    };
    let mut changes = tx.rows_of(author, log)?;
    for stored in &removed {
        tx.take_out(author, log, stored)?;
        // What stood above it may have been held back by it alone.
        tx.mark_moved(author, log, stored.seq_num);
    }
    reseat(tx, author, log, lowest, &removed)?;
    tx.recount_head(author, log, true)?;
    tx.recount_holes(author, log)?;
    tx.rebuild_log(author, log)?;
    changes.extend(tx.rows_of(author, log)?);
    Ok(changes)
}

/// What stood on a removed operation waits again, unless it may stand as an anchor: the same as if it had come
/// after the fork was known.
fn reseat(
    tx: &Tx<'_>,
    author: &Author,
    log: &LogId,
    lowest: u32,
    removed: &[StoredPlace],
) -> Result<(), StoreError> {
    let mut gone: Set<u32> = removed.iter().map(|stored| stored.seq_num).into_set();
    for stored in tx.places(author, log, lowest, u32::MAX)? {
        if !stored.seq_num.checked_sub(1).is_some_and(|below| gone.contains(&below)) {
            continue;
        }
        let anchor = match tx.topic_at(log, stored.place.epoch)? {
            Some(topic) => tx.may_lack(log, topic, stored.place)?,
            None => false,
        };
        if !anchor {
            gone.insert(stored.seq_num);
            tx.mark_moved(author, log, stored.seq_num);
            if let Some(waiting) = tx.take_out(author, log, &stored)? {
                tx.await_predecessor(&waiting.receipt, &waiting.operation())?;
            }
        }
    }
    Ok(())
}

/// Header and body of an operation that is at hand: the one being taken, one that waits, or a stored one.
fn witness(
    tx: &Tx<'_>,
    op: &NewOperation<'_>,
    around: &Around,
    id: OperationId,
) -> Result<(Vec<u8>, Option<Vec<u8>>), StoreError> {
    if id == op.id {
        return Ok((op.header.to_vec(), Some(op.body.to_vec())));
    }
    if let Some(waiting) = around.waiting.iter().find(|waiting| waiting.id == id) {
        return Ok((waiting.header.clone(), Some(waiting.body.clone())));
    }
    Ok(tx.operation(&id)?.map(|stored| (stored.header, stored.body)).unwrap_or_default())
}
