//! What a server takes and what it refuses as deliver content.

use delta_core::codec::DecodeError;
use delta_core::limits::{MAX_BATCH, MAX_ENVELOPE};
use delta_core::onion::deliver::{self, DeliverError, FLAG_LIST, FLAG_OPERATION};
use delta_core::topic::WriteKey;

fn key() -> WriteKey {
    WriteKey::from_seed([5; 32])
}

#[test]
fn one_operation_goes_through() {
    let content = deliver::encode_operation(&key(), b"op").unwrap();
    assert_eq!(content.len(), deliver::OVERHEAD + 2);
    let delivery = deliver::verify(&content).unwrap();
    assert_eq!((delivery.topic, delivery.write_vk), (key().topic(), key().verifying_key()));
    assert_eq!((delivery.flags, delivery.payload), (FLAG_OPERATION, &b"op"[..]));
    assert_eq!(delivery.operations().unwrap(), [b"op"]);
}

#[test]
fn authentication_alone_takes_every_known_flag_and_still_checks_the_signature() {
    for flags in [FLAG_OPERATION, FLAG_LIST, deliver::FLAG_SIGNAL, deliver::FLAG_CONTROL] {
        let mut content = deliver::encode_raw(&key(), flags, b"");
        assert_eq!(deliver::authenticate(&content).unwrap().flags, flags);
        content.push(0);
        assert_eq!(deliver::authenticate(&content), Err(DeliverError::Signature), "{flags}");
    }
    let unknown = deliver::encode_raw(&key(), 4, b"op");
    assert_eq!(deliver::authenticate(&unknown), Err(DeliverError::UnknownFlags(4)));
}

#[test]
fn a_list_keeps_its_order() {
    let operations = [&b"first"[..], b"2", b"third"];
    let content = deliver::encode_list(&key(), &operations).unwrap();
    assert_eq!(content.len(), deliver::OVERHEAD + 11 + 3 * deliver::LIST_ITEM_OVERHEAD);
    assert_eq!(deliver::verify(&content).unwrap().operations().unwrap(), operations);
}

#[test]
fn the_largest_operation_and_one_byte_more() {
    let largest = vec![7; MAX_ENVELOPE];
    let content = deliver::encode_operation(&key(), &largest).unwrap();
    assert_eq!(deliver::verify(&content).unwrap().payload, largest);
    let above = vec![7; MAX_ENVELOPE + 1];
    let error = DeliverError::TooLarge(MAX_ENVELOPE + 1);
    assert_eq!(deliver::encode_operation(&key(), &above), Err(error));
    assert_eq!(deliver::encode_list(&key(), &[b"ok", &above]), Err(error));
    assert_eq!(deliver::verify(&deliver::encode_raw(&key(), FLAG_OPERATION, &above)), Err(error));
}

#[test]
fn the_longest_list_and_one_operation_more() {
    let longest = vec![&b"op"[..]; MAX_BATCH];
    let content = deliver::encode_list(&key(), &longest).unwrap();
    assert_eq!(deliver::verify(&content).unwrap().operations().unwrap().len(), MAX_BATCH);
    let above = vec![&b"op"[..]; MAX_BATCH + 1];
    assert_eq!(deliver::encode_list(&key(), &above), Err(DeliverError::Count(MAX_BATCH + 1)));
    let payload = [0, 0, 0, 2, b'o', b'p'].repeat(MAX_BATCH + 1);
    let content = deliver::encode_raw(&key(), FLAG_LIST, &payload);
    assert_eq!(deliver::verify(&content), Err(DeliverError::Count(MAX_BATCH + 1)));
}

#[test]
fn one_bad_item_refuses_the_whole_list() {
    let cases: [(&[u8], DeliverError); 5] = [
        (&[], DeliverError::Count(0)),
        (&[0, 0, 0, 1, 9, 0, 0, 0, 0], DeliverError::Empty),
        (&[0, 0, 0, 1, 9, 0, 0, 0, 2, 9], DecodeError::Truncated("operation").into()),
        (&[0, 0, 0, 1, 9, 0, 0], DecodeError::Truncated("operation length").into()),
        (&[0xff; 8], DecodeError::Truncated("operation").into()),
    ];
    for (payload, error) in cases {
        assert_eq!(deliver::verify(&deliver::encode_raw(&key(), FLAG_LIST, payload)), Err(error));
    }
    assert_eq!(deliver::encode_list(&key(), &[]), Err(DeliverError::Count(0)));
    assert_eq!(deliver::encode_list(&key(), &[b"ok", b""]), Err(DeliverError::Empty));
}

#[test]
fn an_empty_operation_is_refused() {
    assert_eq!(deliver::encode_operation(&key(), b""), Err(DeliverError::Empty));
    assert_eq!(deliver::verify(&deliver::encode_raw(&key(), FLAG_OPERATION, b"")), Err(DeliverError::Empty));
}

#[test]
fn flags_that_are_not_taken_yet_differ_from_unknown_ones() {
    for (flags, error) in [
        (2, DeliverError::Unsupported(2)),
        (3, DeliverError::Unsupported(3)),
        (4, DeliverError::UnknownFlags(4)),
        (255, DeliverError::UnknownFlags(255)),
    ] {
        assert_eq!(deliver::verify(&deliver::encode_raw(&key(), flags, b"op")), Err(error));
    }
}

#[test]
fn case_12_reserved_bytes_of_the_content_must_be_zero() {
    let good = deliver::encode_operation(&key(), b"op").unwrap();
    for (at, field) in [(0, "form"), (2, "reserved"), (3, "reserved")] {
        let mut bad = good.clone();
        bad[at] ^= 0x80;
        assert_eq!(deliver::verify(&bad), Err(DecodeError::Invalid(field).into()));
    }
    for len in 0..deliver::OVERHEAD {
        let error = deliver::verify(&good[..len]).unwrap_err();
        assert!(matches!(error, DeliverError::Malformed(DecodeError::Truncated(_))), "{len}: {error}");
    }
}

#[test]
fn case_42_foreign_or_broken_write_signatures_are_refused() {
    let good = deliver::encode_operation(&key(), b"op").unwrap();
    let other = deliver::encode_operation(&WriteKey::from_seed([6; 32]), b"op").unwrap();
    let swap = |range: std::ops::Range<usize>| {
        let mut mixed = good.clone();
        mixed[range.clone()].copy_from_slice(&other[range]);
        deliver::verify(&mixed).map(|_| ()).unwrap_err()
    };
    assert_eq!(swap(4..36), DeliverError::ForeignKey, "another topic's id");
    assert_eq!(swap(36..68), DeliverError::ForeignKey, "another topic's write key");
    assert_eq!(swap(4..68), DeliverError::Signature, "another topic under this signature");
    assert_eq!(swap(68..132), DeliverError::Signature, "another topic's signature");
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(deliver::verify(&changed), Err(DeliverError::Signature), "another operation");
    let mut flagged = deliver::encode_list(&key(), &[b"op"]).unwrap();
    flagged[1] = FLAG_OPERATION;
    assert_eq!(deliver::verify(&flagged), Err(DeliverError::Signature), "other flags");
}

#[test]
fn every_flipped_bit_before_the_payload_is_noticed() {
    let good = deliver::encode_operation(&key(), b"op").unwrap();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(deliver::verify(&bad).is_err(), "byte {at} bit {bit}");
        }
    }
}

/// A write key that is the identity point would make every signature over every message verify leniently.
#[test]
fn a_weak_write_key_signs_nothing() {
    let mut weak = deliver::encode_raw(&key(), FLAG_OPERATION, b"op");
    let mut identity = [0; 32];
    identity[0] = 1;
    weak[4..36].copy_from_slice(&blake3::derive_key("delta topic id v1", &identity));
    weak[36..68].copy_from_slice(&identity);
    weak[68..132].fill(0);
    weak[68] = 1; // R = identity, s = 0
    assert_eq!(deliver::verify(&weak), Err(DeliverError::Signature));
}
