//! Records that travel as a TXT record of a pkarr packet.

use delta_core::onion::directory::{MAX_BEP44_VALUE, MAX_PKARR_TEXT, PkarrTooLong, ResolvedRecord};
use proptest::prelude::*;

use super::*;

const MICROS: u64 = 1_000_000;

fn resolved(number: u16, record: &NodeRecord, seq: u64) -> ResolvedRecord {
    ResolvedRecord::from_txt(id(number), seq * MICROS + 999_999, record.to_txt().unwrap()).unwrap()
}

/// A record whose text has exactly `len` bytes, made long by its URL and then its operator.
fn of_length(len: usize) -> NodeRecord {
    let mut record = NodeRecord { url: Some(String::new()), operator: Some("o".into()), ..record(1) };
    let missing = len - record.to_string().len();
    record.url = Some("u".repeat(missing));
    record
}

#[test]
fn the_longest_record_for_the_dht_and_one_byte_more() {
    let longest = of_length(MAX_PKARR_TEXT);
    let strings = longest.to_txt().unwrap();
    assert!(strings.iter().all(|string| string.len() <= 255));
    // RFC 1035: header 12; name of the labels `_delta-relay` and 52 characters of key; type, class, TTL, length 10.
    let message = |text: usize| 12 + (1 + 12 + 1 + 52 + 1) + 10 + text + text.div_ceil(255);
    assert_eq!(message(strings.concat().len()), MAX_BEP44_VALUE);
    assert_eq!(resolved(1, &longest, 5).record(), &longest);

    let longer = of_length(MAX_PKARR_TEXT + 1);
    assert_eq!(longer.to_txt(), Err(PkarrTooLong(MAX_PKARR_TEXT + 1)));
}

#[test]
fn any_split_into_strings_is_the_same_record() {
    let text = record(1).to_string();
    for size in [1, 7, 255, text.len()] {
        let found = ResolvedRecord::from_txt(id(1), MICROS, text.as_bytes().chunks(size)).unwrap();
        assert_eq!((found.record(), found.seq()), (&record(1), 1));
    }
}

#[test]
fn case_32_a_record_of_another_key_is_refused() {
    let strings = record(1).to_txt().unwrap();
    assert_eq!(ResolvedRecord::from_txt(id(2), MICROS, strings), Err(RecordError::ForeignKey));
}

#[test]
fn what_is_no_record_is_refused() {
    let from = |bytes: &[u8]| ResolvedRecord::from_txt(id(1), MICROS, [bytes]).unwrap_err();
    assert_eq!(from(b""), RecordError::Field("="));
    assert_eq!(from(b"v=delta1\xff"), RecordError::Object);
    assert_eq!(from(&[b'x'; MAX_BEP44_VALUE]), RecordError::Field("="));
    assert_eq!(from(&[b'x'; MAX_BEP44_VALUE + 1]), RecordError::TooLong(MAX_BEP44_VALUE + 1));
}

#[test]
fn a_listed_node_is_reached_by_its_newest_record_wherever_that_came_from() {
    let moved = NodeRecord { url: Some("https://moved.example.org".into()), ..record(1) };
    let load = |in_file: Option<u64>, in_dht: u64| {
        let records = array(in_file.map(|seq| signed(1, &record(1), seq)));
        let found = [resolved(1, &moved, in_dht)];
        let list = list(&body(vec![entry(1)]));
        Directory::load_resolved(&list, &records, &found, &trust(), now(), &LoadRules::default()).unwrap()
    };
    for (in_file, in_dht, moves) in
        [(None, 1, true), (Some(5), 6, true), (Some(5), 5, false), (Some(5), 4, false)]
    {
        let (directory, skipped) = load(in_file, in_dht);
        assert_eq!(skipped, []);
        let node = directory.node(&id(1)).unwrap();
        assert_eq!(node.url == "https://moved.example.org", moves, "{in_file:?} {in_dht}");
        assert_eq!(node.operator.as_deref(), Some("operator 1"));
    }
}

#[test]
fn nodes_no_list_names_count_as_one_operator() {
    let claims = |number| NodeRecord { operator: Some(format!("claimed {number}")), ..record(number) };
    let found = [resolved(8, &claims(8), 3), resolved(9, &claims(9), 3)];
    let list = list(&body(vec![entry(1)]));
    let records = array([signed(1, &record(1), 1)]);
    let rules = LoadRules::default();
    let (directory, skipped) =
        Directory::load_resolved(&list, &records, &found, &trust(), now(), &rules).unwrap();
    assert_eq!(skipped, []);
    assert_eq!(directory.nodes().len(), 3);
    assert!(directory.nodes()[1..].iter().all(|node| node.operator.is_none()));
}

#[test]
fn cases_32_and_33_the_dht_takes_nobody_back() {
    let seen = Seen { version: 0, records: [(id(1), SeenRecord { seq: 5, onion: true })].into() };
    let rules = LoadRules { seen, ..LoadRules::default() };
    let list = list(&body(vec![entry(1)]));
    let skip = |found: ResolvedRecord| {
        let (directory, skipped) =
            Directory::load_resolved(&list, "[]", &[found], &trust(), now(), &rules).unwrap();
        assert!(directory.nodes().is_empty());
        assert_eq!(skipped.len(), 1, "{skipped:?}");
        skipped[0].reason
    };
    assert_eq!(skip(resolved(1, &record(1), 4)), SkipReason::Older { got: 4, seen: 5 });
    let without_keys = NodeRecord { keys: Vec::new(), ..record(1) };
    assert_eq!(skip(resolved(1, &without_keys, 6)), SkipReason::Downgraded);
    let expired = NodeRecord { expires: NOW, ..record(1) };
    assert_eq!(skip(resolved(1, &expired, 6)), SkipReason::Expired { expires: NOW });
    let forbidden = NodeRecord { url: Some("https://127.0.0.1".into()), ..record(1) };
    assert!(matches!(skip(resolved(1, &forbidden, 6)), SkipReason::Url(UrlError::Private(_))));
}

#[test]
fn a_directory_never_grows_past_its_limit_by_what_was_resolved() {
    let found: Vec<_> =
        (1..=MAX_DIRECTORY_NODES as u16 + 1).map(|number| resolved(number, &record(number), 1)).collect();
    let list = list(&body(vec![]));
    let load = |found: &[ResolvedRecord]| {
        Directory::load_resolved(&list, "[]", found, &trust(), now(), &LoadRules::default()).unwrap().0
    };
    assert_eq!(load(&found[1..]).nodes().len(), MAX_DIRECTORY_NODES);
    assert_eq!(load(&found).nodes().len(), MAX_DIRECTORY_NODES);
}

proptest! {
    /// Whatever a value holds, `;` and `%` included, travels unchanged.
    #[test]
    fn values_are_escaped(operator in "[^\\p{C}]{1,16}", path in "[a-z;%=,.]{0,200}") {
        let record = NodeRecord { operator: Some(operator), url: Some(format!("https://x.example/{path}")), ..record(1) };
        prop_assume!(record.to_string().len() <= MAX_PKARR_TEXT);
        let found = resolved(1, &record, 9);
        prop_assert_eq!(found.record(), &record);
    }
}
