//! Documents: what was written to each is read once by whoever goes on after what it has, whatever order it came in.

use super::support::{Device, LOG, Writer, ticket};
use crate::engine::ingest::Ingested;
use crate::identity::{LogId, OperationId};
use crate::limits::{MAX_DOCUMENT_PART, MAX_PARTS_BYTES};
use crate::ops::{Content, DocumentPart, VerifiedOperation};
use crate::projector::Aggregate;
use crate::topic::Seq;

fn make(writer: &mut Writer, path: &str) -> VerifiedOperation {
    writer.write(Content::DocumentCreate { path: path.into() })
}

fn part(writer: &mut Writer, document: OperationId, bytes: &[u8], snapshot: bool) -> VerifiedOperation {
    let part = DocumentPart { document, bytes: bytes.to_vec(), snapshot };
    writer.write(Content::DocumentPart(Box::new(part)))
}

fn change(writer: &mut Writer, document: OperationId, bytes: &[u8]) -> VerifiedOperation {
    part(writer, document, bytes, false)
}

impl Device {
    fn paths(&self, prefix: &str, after: Option<OperationId>, limit: usize) -> Vec<String> {
        let rows = self.store.documents(&LOG, prefix, after, limit).unwrap();
        rows.into_iter().map(|row| row.path).collect()
    }

    /// What was written to a document after a number, and the last number.
    fn parts(&self, document: OperationId, after: u64) -> (Vec<Vec<u8>>, u64) {
        let rows = self.store.document_parts(&LOG, document, after, 100).unwrap();
        let last = rows.last().map_or(after, |row| row.number);
        (rows.into_iter().map(|row| row.bytes).collect(), last)
    }
}

#[test]
fn a_document_has_what_anybody_wrote_to_it_in_the_order_it_was_read() {
    let (mut device, mut ada, mut ben) = (Device::new(), Writer::new(1), Writer::new(2));
    let made = make(&mut ada, "notes/today");
    let document = made.id();
    let first = change(&mut ada, document, b"first");
    let second = change(&mut ben, document, b"second");
    let whole = part(&mut ben, document, b"whole", true);
    // What is written to a document comes before the document itself.
    device.receive(1, &second);
    assert_eq!(device.paths("", None, 10), [""; 0]);
    let (parts, upto) = device.parts(document, 0);
    assert_eq!(parts, [b"second"]);
    device.receive(3, &made);
    device.receive(4, &first);
    assert_eq!(device.paths("", None, 10), ["notes/today"]);
    let (parts, upto) = device.parts(document, upto);
    assert_eq!(parts, [b"first"]);
    device.receive(2, &whole);
    let rows = device.store.document_parts(&LOG, document, upto, 10).unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.author, row.id, row.snapshot), (ben.author(), whole.id(), true));
    assert_eq!(device.parts(document, row.number).0, [b""; 0]);
    let rows = device.store.documents(&LOG, "", None, 10).unwrap();
    assert_eq!((rows[0].id, rows[0].author), (document, ada.author()));
    // Elsewhere there is no such document.
    assert_eq!(device.store.document_parts(&LogId([9; 32]), document, 0, 10).unwrap(), []);
    assert_eq!(device.store.documents(&LogId([9; 32]), "", None, 10).unwrap(), []);
}

#[test]
fn a_change_names_the_document() {
    let (mut device, mut ada) = (Device::new(), Writer::new(1));
    let made = make(&mut ada, "a");
    let said = change(&mut ada, made.id(), b"x");
    for (seq, op) in [(1, &made), (2, &said)] {
        let Ingested::Stored { changes } = device.receive(seq, op) else { panic!() };
        let [change] = &changes[..] else { panic!("one change") };
        assert_eq!((change.aggregate, &change.ids), (Aggregate::Document, &vec![made.id().0]));
    }
}

#[test]
fn documents_are_paged_by_path_then_id() {
    let (mut device, mut ada) = (Device::new(), Writer::new(1));
    let names = ["a", "a/1", "a/2", "b", "a/2", "ä", "a/2/x", "a0"];
    let ops: Vec<_> = names.iter().map(|name| make(&mut ada, name)).collect();
    device.receive_all((1..).zip(&ops));
    assert_eq!(device.paths("", None, 100), ["a", "a/1", "a/2", "a/2", "a/2/x", "a0", "b", "ä"]);
    assert_eq!(device.paths("a/", None, 100), ["a/1", "a/2", "a/2", "a/2/x"]);
    assert_eq!(device.paths("a/", None, 2), ["a/1", "a/2"]);
    let lower = ops[2].id().min(ops[4].id());
    assert_eq!(device.paths("a/", Some(lower), 100), ["a/2", "a/2/x"], "the other one of the same path");
    assert_eq!(device.paths("a/", Some(ops[0].id()), 1), ["a/1"], "after what lies before the prefix");
    assert_eq!(device.paths("c", None, 100), [""; 0]);
}

#[test]
fn a_page_of_parts_ends_with_the_one_that_fills_it() {
    let (mut device, mut ada) = (Device::new(), Writer::new(1));
    let document = OperationId([1; 32]);
    let full = MAX_PARTS_BYTES / MAX_DOCUMENT_PART;
    let count = full + 3;
    let ops: Vec<_> = (0..count).map(|_| change(&mut ada, document, &vec![7; MAX_DOCUMENT_PART])).collect();
    device.receive_all((1..).zip(&ops));
    let rows = device.store.document_parts(&LOG, document, 0, 100).unwrap();
    assert_eq!(rows.len(), full + 1);
    let after = rows.last().unwrap().number;
    assert_eq!(device.store.document_parts(&LOG, document, after, 100).unwrap().len(), count - full - 1);
    assert_eq!(device.store.document_parts(&LOG, document, 0, 2).unwrap().len(), 2);
    assert_eq!(device.store.document_parts(&LOG, document, u64::MAX, 2).unwrap(), []);
}

#[test]
fn a_log_that_ends_takes_what_it_wrote_along_and_numbers_go_on() {
    let (mut device, mut ada, mut ben) = (Device::new(), Writer::new(1), Writer::new(2));
    let made = make(&mut ben, "a");
    let (start, mut branch) = (ada.say("start"), ada.branch());
    let (gone, other) = (change(&mut ada, made.id(), b"gone"), make(&mut ada, "b"));
    device.receive_all([(1, &made), (2, &start), (9, &gone), (10, &other)]);
    assert_eq!(device.paths("", None, 10), ["a", "b"]);
    let (parts, upto) = device.parts(made.id(), 0);
    assert_eq!(parts, [b"gone"]);
    // The second branch appears before it: the log ends there.
    device.receive(5, &branch.say("second branch"));
    assert_eq!(device.paths("", None, 10), ["a"]);
    assert_eq!(device.parts(made.id(), 0).0, [b""; 0]);
    device.receive(11, &change(&mut ben, made.id(), b"later"));
    assert_eq!(device.parts(made.id(), upto).0, [b"later"], "whoever reads on misses nothing");
}

#[test]
fn all_of_it_is_there_after_a_rebuild_also_for_whoever_reads_on() {
    let (mut device, mut ada, mut ben) = (Device::new(), Writer::new(1), Writer::new(2));
    let made = make(&mut ada, "a");
    let said = [b"one", b"two"].map(|bytes| change(&mut ben, made.id(), bytes));
    device.write(|tx| tx.add_gap(ticket(0).topic(), 0, Seq(1), Seq(1)).unwrap());
    device.receive_all([(2, &said[0]), (3, &made), (4, &said[1])]);
    let upto = device.parts(made.id(), 0).1;
    device.write(|tx| tx.rebuild().unwrap());
    assert_eq!(device.paths("", None, 10), ["a"]);
    assert_eq!(device.parts(made.id(), upto).0, [b"one", b"two"], "again: merging twice changes nothing");
}
