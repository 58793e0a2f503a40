//! What a server takes and what it refuses as deliver content.

use delta_core::codec::DecodeError;
use delta_core::limits::{
    MAX_BATCH, MAX_CONTROL, MAX_DESCRIPTION, MAX_DISPLAY_NAME, MAX_ENVELOPE, MAX_SIGNAL,
};
use delta_core::onion::control::{Action, Control, ControlError, Metadata};
use delta_core::onion::deliver::{self, DeliverError, FLAG_CONTROL, FLAG_LIST, FLAG_OPERATION, FLAG_SIGNAL};
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
fn unknown_flags_are_refused() {
    for flags in [4, 255] {
        let content = deliver::encode_raw(&key(), flags, b"op");
        assert_eq!(deliver::verify(&content), Err(DeliverError::UnknownFlags(flags)));
    }
}

#[test]
fn a_signal_has_1_to_4096_bytes_and_holds_no_operation() {
    for len in [1, MAX_SIGNAL] {
        let signal = vec![7; len];
        let content = deliver::encode_signal(&key(), &signal).unwrap();
        let delivery = deliver::verify(&content).unwrap();
        assert_eq!((delivery.flags, delivery.signal().unwrap()), (FLAG_SIGNAL, &signal[..]));
        assert_eq!(delivery.operations(), Err(DeliverError::Unsupported(FLAG_SIGNAL)));
        assert_eq!(delivery.control(), Err(DeliverError::Unsupported(FLAG_SIGNAL)));
    }
    for len in [0, MAX_SIGNAL + 1] {
        let signal = vec![7; len];
        assert_eq!(deliver::encode_signal(&key(), &signal), Err(DeliverError::Signal(len)));
        let content = deliver::encode_raw(&key(), FLAG_SIGNAL, &signal);
        assert_eq!(deliver::verify(&content), Err(DeliverError::Signal(len)));
    }
}

/// The bytes were written by hand from RFC 8949.
#[test]
fn control_messages_are_the_documented_cbor() {
    let named = |name: &str, description: Option<&str>| {
        let description = description.map(str::to_owned);
        Action::Metadata(Metadata { name: name.to_owned(), description })
    };
    let all_nines = format!("a300190100016872656164 5f6b6579025820{}", "09".repeat(32)).replace(' ', "");
    for (counter, action, hex) in [
        (1, Action::Delete, "a20001016664656c657465"),
        (2, Action::ReadKey(None), "a300020168726561645f6b657902f6"),
        (256, Action::ReadKey(Some([9; 32])), &all_nines),
        (23, named("ab", None), "a3001701686d6574616461746102a100626162"),
        (24, named("a", Some("b")), "a300181801686d6574616461746102a2006161016162"),
    ] {
        let control = Control { counter, action };
        assert_eq!(hex::encode(control.encode().unwrap()), hex);
        let content = deliver::encode_control(&key(), &control).unwrap();
        let delivery = deliver::verify(&content).unwrap();
        assert_eq!(delivery.control().unwrap(), control);
        assert_eq!(delivery.operations(), Err(DeliverError::Unsupported(FLAG_CONTROL)));
        assert_eq!(delivery.signal(), Err(DeliverError::Unsupported(FLAG_CONTROL)));
    }
}

#[test]
fn malformed_control_messages_are_refused() {
    for (hex, error) in [
        ("", ControlError::Cbor),
        ("a20001016664656c65746500", ControlError::Cbor), // a byte left over
        ("a2000101", ControlError::Cbor),
        ("a2180101016664656c657465", ControlError::Cbor), // a key in more bytes than it needs
        ("80", ControlError::Field("message")),
        ("a1016664656c657465", ControlError::Field("counter")),
        ("a20000016664656c657465", ControlError::Field("counter")),
        ("a2001b8000000000000000016664656c657465", ControlError::Field("counter")),
        ("a10001", ControlError::Field("action")),
        ("a200010163626164", ControlError::Action),
        ("a200010168726561645f6b6579", ControlError::Field("read key")),
        ("a300010168726561645f6b6579024100", ControlError::Field("read key")),
        ("a2000101686d65746164617461", ControlError::Field("metadata")),
        ("a3000101686d6574616461746102a10060", ControlError::Field("name")),
        ("a3000101686d6574616461746102a100610a", ControlError::Field("name")),
        ("a3000101686d6574616461746102a2006161010 1", ControlError::Field("description")),
    ] {
        let payload = hex::decode(hex.replace(' ', "")).unwrap();
        let content = deliver::encode_raw(&key(), FLAG_CONTROL, &payload);
        assert_eq!(deliver::verify(&content), Err(DeliverError::Control(error)), "{hex}");
    }
}

/// What a later version adds under further keys does not make a message unreadable.
#[test]
fn unknown_keys_of_a_control_message_are_ignored() {
    let payload = hex::decode("a30001016664656c65746518630 1".replace(' ', "")).unwrap();
    assert_eq!(Control::decode(&payload).unwrap(), Control { counter: 1, action: Action::Delete });
}

#[test]
fn names_and_descriptions_of_public_topics_have_limits() {
    let encode = |name: String, description: String| {
        let metadata = Metadata { name, description: Some(description) };
        let control = Control { counter: 1, action: Action::Metadata(metadata) };
        control.encode().and_then(|bytes| Control::decode(&bytes))
    };
    assert!(encode("ü".repeat(MAX_DISPLAY_NAME), "x".repeat(MAX_DESCRIPTION)).is_ok());
    let long = "x".repeat(MAX_DISPLAY_NAME + 1);
    assert_eq!(encode(long, "x".to_owned()), Err(ControlError::Field("name")));
    let long = "x".repeat(MAX_DESCRIPTION + 1);
    assert_eq!(encode("x".to_owned(), long), Err(ControlError::Field("description")));
    let payload = vec![0xa2; MAX_CONTROL + 1];
    assert_eq!(Control::decode(&payload), Err(ControlError::TooLarge(MAX_CONTROL + 1)));
    assert_eq!(Control::decode(&payload[1..]), Err(ControlError::Cbor));
    for counter in [0, u64::MAX >> 1, 1 << 63] {
        let encoded = Control { counter, action: Action::Delete }.encode();
        assert_eq!(encoded.is_ok(), counter == u64::MAX >> 1, "{counter}");
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
