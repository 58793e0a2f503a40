//! Node records as text and as signed objects.

use delta_core::identity::Millis;
use delta_core::onion::directory::{
    MAX_RECORD_BYTES, Node, NodeKind, NodeRecord, RecordError, RecordObject, SkipReason,
};
use delta_core::onion::v3::OnionKey;

use super::{RECORD_EXPIRES, id, key, now, onion_key, record, signed_text};

/// The format of the directory's description, field by field.
#[test]
fn a_record_prints_as_described_and_parses_in_any_order() {
    let key = OnionKey { kid: 41, public: [0x42; 32] };
    let base64url = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI";
    let record = NodeRecord {
        operator: Some("50% off; limited".into()),
        tunnel: true,
        keys: vec![key],
        expires: 1_800_000_000,
        ..record(1)
    };
    let text = format!(
        "v=delta1;t=relay;n=https://relay1.example.org;a={};k=41.{base64url};x=1800000000;c=4;o=50%25 off%3B limited;f=tunnel",
        id(1)
    );
    assert_eq!(record.to_string(), text);
    assert_eq!(text.parse(), Ok(record.clone()));
    let mut fields: Vec<&str> = text.split(';').collect();
    fields.reverse();
    fields.push("later=1");
    fields.push("empty=");
    assert_eq!(fields.join(";").parse(), Ok(record));
    let minimal = format!("v=delta1;t=sync;a={};x=5", id(1)).parse::<NodeRecord>().unwrap();
    assert_eq!((minimal.kind, minimal.url, minimal.keys), (NodeKind::Sync, None, vec![]));
}

#[test]
fn features_are_names_and_unknown_ones_are_ignored() {
    let offers = |features: &str| {
        let text = format!("v=delta1;t=relay;a={};x=5;f={features}", id(1));
        text.parse::<NodeRecord>().map(|record| record.tunnel)
    };
    assert_eq!(offers("tunnel"), Ok(true));
    assert_eq!(offers("later-2,tunnel"), Ok(true));
    assert_eq!(offers("tunnels,xtunnel"), Ok(false));
    assert_eq!(offers(&"a".repeat(64)), Ok(false));
    assert_eq!(offers(&"a".repeat(65)), Err(RecordError::Field("f")));
}

#[test]
fn records_with_a_bad_field_are_refused() {
    let key = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI";
    let other = "Q0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0M";
    let good = format!("v=delta1;t=relay;n=https://h.example;a={};k=1.{key},2.{other};x=9;c=4;o=me", id(1));
    assert!(good.parse::<NodeRecord>().is_ok());
    let cases = [
        ("v=delta1", "v=delta2", "v"),
        ("v=delta1;", "", "v"),
        ("v=delta1", "v=delta1;v=delta1", "v"),
        ("t=relay", "t=Relay", "t"),
        ("t=relay", "t=relay;t=sync", "t"),
        ("t=relay;", "", "t"),
        ("a=", "a=0", "a"),
        ("x=9", "x=-9", "x"),
        ("x=9", "x=+9", "x"),
        ("x=9", "x=09", "x"),
        ("x=9", "x=18446744073709551616", "x"),
        ("x=9;", "", "x"),
        ("c=4", "c=256", "c"),
        ("c=4", "c=", "c"),
        ("o=me", "o=", "o"),
        ("o=me", "o=me;f=", "f"),
        ("o=me", "o=me;f=Tunnel", "f"),
        ("o=me", "o=me;f=tunnel;f=tunnel", "f"),
        ("o=me", "o=%41", "o"),
        ("o=me", "o=%2", "o"),
        ("n=https", "n=%zzhttps", "n"),
        ("k=1.", "k=65536.", "k"),
        ("k=1.", "k=01.", "k"),
        ("k=1.", "k=2.", "k"),
        ("k=1.", "k=1.=", "k"),
        ("k=1.", "k=.", "k"),
        ("k=1.", "k=", "k"),
        (other, key, "k"),
        (&other[40..], "Q0N", "k"),
        (&format!(",2.{other}"), &format!(",2.{other},3.{}", "RERE".repeat(10) + "REQ"), "k"),
        (&format!(",2.{other}"), ",", "k"),
        // Zero, an onion key of small order; and one with the top bit set.
        (key, &("A".repeat(43)), "k"),
        (key, &("_".repeat(42) + "8"), "k"),
        (";c=4", ";c", "="),
        (";c=4", ";", "="),
    ];
    for (from, to, field) in cases {
        let bad = good.replacen(from, to, 1);
        assert_eq!(bad.parse::<NodeRecord>(), Err(RecordError::Field(field)), "{bad}");
    }
}

#[test]
fn the_longest_record_and_one_byte_more() {
    let text = record(1).to_string() + ";pad=";
    let at = text.clone() + &"x".repeat(MAX_RECORD_BYTES - text.len());
    assert_eq!(at.parse(), Ok(record(1)));
    let above = at + "x";
    assert_eq!(above.parse::<NodeRecord>(), Err(RecordError::TooLong(MAX_RECORD_BYTES + 1)));
}

#[test]
fn a_record_object_travels_as_json() {
    let object = RecordObject::sign(&key(1), &record(1), 12).unwrap();
    assert_eq!(RecordObject::parse(&object.to_json()), Ok(object.clone()));
    assert_eq!(object.verify(), Ok(record(1)));
    // Exactly "delta:record:v1" | seq u64 | record is signed.
    assert_eq!(signed_text(1, &record(1).to_string(), 12), object);
    for bad in ["", "[]", "{}", r#"{"record":"","seq":-1,"sig":""}"#, r#"{"record":"","seq":1,"sig":"00"}"#] {
        assert_eq!(RecordObject::parse(bad), Err(RecordError::Object), "{bad}");
    }
    let upper = object.to_json().replace(&hex::encode(object.sig), &hex::encode_upper(object.sig));
    assert_eq!(RecordObject::parse(&upper), Err(RecordError::Object));
}

#[test]
fn a_record_nobody_could_read_is_not_signed() {
    let unreadable = [
        (NodeRecord { operator: Some(String::new()), ..record(1) }, RecordError::Field("o")),
        (
            NodeRecord { keys: vec![OnionKey { kid: 1, public: [0; 32] }], ..record(1) },
            RecordError::Field("k"),
        ),
        (NodeRecord { keys: vec![onion_key(1, 1); 2], ..record(1) }, RecordError::Field("k")),
    ];
    for (record, error) in unreadable {
        assert_eq!(RecordObject::sign(&key(1), &record, 1), Err(error));
    }
    let long = NodeRecord { url: Some("x".repeat(2000)), ..record(1) };
    assert!(matches!(RecordObject::sign(&key(1), &long, 1), Err(RecordError::TooLong(_))));
}

/// A server that only `/info` speaks of: its own word on its operator counts for nothing.
#[test]
fn a_node_can_be_made_from_its_record_alone() {
    let server = NodeRecord { kind: NodeKind::Sync, operator: Some("me".into()), ..record(1) };
    let object = RecordObject::sign(&key(1), &server, 3).unwrap();
    let node = Node::from_record(&object, None, false, now()).unwrap();
    assert_eq!((node.id, node.operator), (id(1), None));
    let late = Millis(RECORD_EXPIRES * 1000);
    let expired = SkipReason::Expired { expires: RECORD_EXPIRES };
    assert_eq!(Node::from_record(&object, None, false, late), Err(expired));
    let forged = RecordObject { seq: 4, ..object };
    assert_eq!(Node::from_record(&forged, None, false, now()), Err(RecordError::Signature.into()));
}
