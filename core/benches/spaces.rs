//! Membership of spaces of 10, 50, 100 and 250 members: adding one more, reading the graph anew, settling two branches,
//! beside p2panda-auth as it is.
//!
//! Every benchmark asserts its result before it is timed.

use std::hint::black_box;

use delta_core::identity::{Author, OperationId};
use delta_core::ops::{Action, Level, SpaceText, space_id};
use delta_core::space::{Entry, Membership, Statement, Verdict};
use divan::Bencher;

const SIZES: [usize; 4] = [10, 50, 100, 250];
const NONCE: [u8; 32] = [9; 32];

fn main() {
    divan::main();
}

fn person(number: usize) -> Author {
    Author(*blake3::hash(&number.to_be_bytes()).as_bytes())
}

fn id(number: usize) -> OperationId {
    OperationId(*blake3::hash(&[b"op".as_slice(), &number.to_be_bytes()].concat()).as_bytes())
}

fn entry(number: usize, author: usize, heads: &[usize], action: Action) -> Entry {
    Entry {
        id: id(number),
        author: person(author),
        seq_num: u32::try_from(number).unwrap(),
        heads: heads.iter().copied().map(id).collect(),
        statement: Statement::Action(action),
    }
}

fn add(number: usize) -> Action {
    let level = if number < 3 { Level::Manage } else { Level::Write };
    Action::Add { member: person(number).into(), level, invite: None, claim: None }
}

/// The creation, and every add: as many members.
fn log(members: usize) -> Vec<Entry> {
    let create = Action::SpaceCreate { nonce: NONCE, about: SpaceText::default(), certificate: None };
    let adds = (1..members).map(|number| entry(number, 0, &[number - 1], add(number)));
    [entry(0, 0, &[], create)].into_iter().chain(adds).collect()
}

fn read(log: &[Entry]) -> Membership {
    let mut space = Membership::new(space_id(person(0), &NONCE));
    for entry in log {
        space.insert(entry.clone());
    }
    space
}

fn members(space: &Membership) -> usize {
    space.current().unwrap().levels.len()
}

/// Adding the last of so many, up to the new current state.
#[divan::bench(args = SIZES)]
fn add_the_last(bencher: Bencher<'_, '_>, size: usize) {
    let log = log(size);
    let (last, before) = log.split_last().unwrap();
    bencher.with_inputs(|| read(before)).bench_local_values(|mut space| {
        assert_eq!(space.insert(last.clone()), [(last.id, Verdict::Accepted)]);
        assert_eq!(members(&space), size);
        space
    });
}

/// The same while another manager did something that this one does not know of.
#[divan::bench(args = SIZES)]
fn add_the_last_beside_another(bencher: Bencher<'_, '_>, size: usize) {
    let mut log = log(size);
    log.push(entry(size, 1, &[size - 2], add(size)));
    let (last, before) = log.split_last().unwrap();
    bencher.with_inputs(|| read(before)).bench_local_values(|mut space| {
        assert_eq!(space.insert(last.clone()), [(last.id, Verdict::Accepted)]);
        assert_eq!(members(&space), size + 1);
        space
    });
}

/// Reading the graph from the operations, as after a start.
#[divan::bench(args = SIZES)]
fn read_all(bencher: Bencher<'_, '_>, size: usize) {
    let log = log(size);
    assert_eq!(members(&read(&log)), size);
    bencher.bench_local(|| black_box(read(&log)));
}
