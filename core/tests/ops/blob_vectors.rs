//! Chunks and manifests of blobs, against values made without any code of this project (docs/vectors/blobs.py), and their
//! limits.

use delta_core::crypto::{open_chunk, seal_chunk};
use delta_core::limits::{BLOB_CHUNK, MAX_ATTACHMENTS, MAX_BLOB, MAX_BLOB_CHUNKS};
use delta_core::ops::{BlobId, Body, Content, EncodeError, Hidden, LimitError, Manifest, TicketBytes};
use serde_json::Value;

use crate::{array, bytes, rows};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/blobs.json")).unwrap()
}

fn manifest(row: &Value) -> Manifest {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Manifest {
        id: BlobId(array(&row["id"])),
        key: Hidden(array(&row["key"])),
        size: row["size"].as_u64().unwrap(),
        mime: text(&row["mime"]).unwrap(),
        name: text(&row["file"]),
        ticket: TicketBytes(array(&row["ticket"])),
        chunks: bytes(&row["chunks"]).as_chunks::<32>().0.to_vec(),
    }
}

/// As the vectors say it: byte i is 31 i + i >> 8, modulo 256.
fn content(size: u64) -> Vec<u8> {
    (0..size).map(|at| (31 * at + (at >> 8)) as u8).collect()
}

fn message(attachments: Vec<Manifest>) -> Content {
    Content::MessageSend { text: "look".into(), reply: None, mentions: Vec::new(), attachments }
}

#[test]
fn blobs_are_sealed_hashed_and_said_as_the_second_implementation_does() {
    let vectors = vectors();
    let blobs = rows(&vectors["blobs"], 4);
    for row in blobs {
        let manifest = manifest(row);
        let data = content(manifest.size);
        let count = manifest.chunks.len() as u32;
        let mut whole = blake3::Hasher::new();
        for number in 0..count {
            let at = number as usize * BLOB_CHUNK;
            let len = Manifest::chunk_len(manifest.size, number).unwrap();
            let chunk = seal_chunk(&manifest.key, number, count, &data[at..at + len]).unwrap();
            assert!(manifest.has(number, &chunk), "{}, chunk {number}", row["name"]);
            assert!(!manifest.has(number + 1, &chunk));
            whole.update(&chunk);
            if number + 1 == count {
                assert!(chunk.ends_with(&bytes(&row["last_chunk"])));
                assert_eq!(open_chunk(&manifest.key, number, count, chunk).unwrap(), data[at..]);
            }
        }
        assert_eq!(Manifest::chunk_len(manifest.size, count), None);
        assert_eq!(*whole.finalize().as_bytes(), manifest.id.0);
        let share = Body::new(Content::BlobShare(Box::new(manifest)));
        assert_eq!(share.encode().unwrap(), bytes(&row["share"]));
        assert_eq!(Body::decode(&bytes(&row["share"])).unwrap(), share);
    }
    let said = Body::new(message(blobs.iter().map(manifest).collect()));
    assert_eq!(said.encode().unwrap(), bytes(&vectors["message"]));
    assert_eq!(Body::decode(&bytes(&vectors["message"])).unwrap(), said);
    let chunk = Body::new(Content::BlobChunk { index: 0, bytes: bytes(&blobs[1]["last_chunk"]) });
    assert_eq!(chunk.encode().unwrap(), bytes(&vectors["chunk"]));
    assert_eq!(Body::decode(&bytes(&vectors["chunk"])).unwrap(), chunk);
}

#[test]
fn what_is_no_manifest_makes_its_message_malformed() {
    for row in rows(&vectors()["malformed"], 18) {
        let content = Body::decode(&bytes(&row["body"])).unwrap().content;
        assert!(matches!(content, Content::Malformed { kind: "message.send", .. }), "{}", row["name"]);
    }
}

#[test]
fn sizes_have_limits_at_them_and_past_them() {
    let vectors = vectors();
    let small = manifest(&rows(&vectors["blobs"], 4)[1]);
    let largest = Manifest { size: MAX_BLOB, chunks: vec![[1; 32]; MAX_BLOB_CHUNKS], ..small.clone() };
    let too_large = Manifest { size: MAX_BLOB + 1, ..largest.clone() };
    let body = Body::new(message(vec![largest; MAX_ATTACHMENTS])).encode().unwrap();
    assert!(matches!(Body::decode(&body).unwrap().content, Content::MessageSend { attachments, .. }
        if attachments.len() == MAX_ATTACHMENTS));
    let refused = |content| match Body::new(content).encode() {
        Err(EncodeError::Limit(limit)) => limit,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(message(vec![too_large])), LimitError::Blob { size: MAX_BLOB + 1 });
    let many = vec![small; MAX_ATTACHMENTS + 1];
    assert_eq!(refused(message(many)), LimitError::Attachments { count: MAX_ATTACHMENTS + 1 });
    let chunk = |index, len| Content::BlobChunk { index, bytes: vec![0; len] };
    let last = MAX_BLOB_CHUNKS as u32 - 1;
    let body = Body::new(chunk(last, BLOB_CHUNK + 16));
    assert_eq!(Body::decode(&body.encode().unwrap()).unwrap(), body);
    assert_eq!(refused(chunk(last + 1, 1)), LimitError::BlobChunks);
    assert_eq!(refused(chunk(0, BLOB_CHUNK + 17)), LimitError::BlobChunks);
}
