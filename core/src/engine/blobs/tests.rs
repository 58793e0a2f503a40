//! Blobs when a batch fails.

use std::collections::VecDeque;

use super::*;
use crate::entropy::SeededEntropy;
use crate::ops::{self, Body, DeviceKey};
use crate::store::{Durability, Store};

const NOW: Millis = Millis(1000);

/// One that is fetched by this device: its manifest, and the only chunk in an operation.
fn blob_of_another_device() -> (Manifest, VerifiedOperation) {
    let carrier = Ticket::generate_private(&mut SeededEntropy::new([3; 32])).unwrap();
    let key = Hidden([7; 32]);
    let bytes = seal_chunk(&key, 0, 1, b"bytes").unwrap();
    let hash = *blake3::hash(&bytes).as_bytes();
    let manifest = Manifest {
        id: BlobId(hash),
        key,
        size: 5,
        mime: String::new(),
        name: None,
        ticket: carrier.read_only().bytes(),
        chunks: vec![hash],
    };
    let body = Body::new(Content::BlobChunk { index: 0, bytes });
    let writer = DeviceKey::from_bytes(&[9; 32]);
    (manifest, ops::create(&writer, carrier.log(), 0, None, &body).unwrap())
}

#[test]
fn a_blob_whose_arrival_could_not_be_stored_is_still_fetched() {
    let mut store = Store::in_memory().unwrap();
    let mut state = State::load(&mut store, DeviceKey::from_bytes(&[1; 32]), NOW).unwrap();
    let (manifest, chunk) = blob_of_another_device();
    let carrier = Ticket::from_bytes(&manifest.ticket.0).unwrap().topic();
    let mut tx = store.begin(Durability::Full).unwrap();
    let entry = tx.put_blob(&manifest, BlobRow::FETCHING, NOW).unwrap();
    state.blobs.look = true;
    state.tend_blobs(&mut tx, NOW, &mut Vec::new()).unwrap();
    tx.commit().unwrap();
    assert!(state.topics.get(&carrier).unwrap().subscribed);
    let mut tx = store.begin(Durability::Full).unwrap();
    state.take_chunk(&tx, carrier, &chunk).unwrap();
    state.tend_blobs(&mut tx, NOW, &mut Vec::new()).unwrap();
    assert_eq!(tx.blob_at(entry).unwrap().unwrap().state, BlobRow::HERE);
    assert!(!state.topics.contains_key(&carrier));
    // The disk is full.
    drop(tx);
    state.reload(&mut store, NOW, &mut VecDeque::new()).unwrap();
    assert_eq!(store.blob_at(entry).unwrap().unwrap().state, BlobRow::FETCHING);
    assert!(state.topics.get(&carrier).unwrap().subscribed, "it is read again");
}
