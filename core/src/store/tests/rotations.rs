//! How many rotations of one author are judged in a topic.

use crate::identity::{Author, Millis, OperationId};
use crate::limits::MAX_ROTATIONS_OF_AUTHOR;
use crate::projector::Place;
use crate::store::pending::Receipt;
use crate::store::{Durability, Store, TopicClose, Tx};
use crate::topic::{Generation, Seq, TopicId};

const TOPIC: TopicId = TopicId([1; 32]);
const ADA: Author = Author([2; 32]);
const BEN: Author = Author([3; 32]);
const GENERATION: Generation = Generation([4; 16]);
const LIMIT: u64 = MAX_ROTATIONS_OF_AUTHOR as u64;

/// A rotation is named by its place.
fn rotation(resets: u32, seq: u64, author: Author) -> OperationId {
    let mut id = author.0;
    id[..8].copy_from_slice(&seq.to_be_bytes());
    id[8] = resets as u8;
    OperationId(id)
}

fn place_in(tx: &Tx<'_>, topic: TopicId, resets: u32, seq: u64, author: Author) {
    let place = Place { epoch: 0, resets, seq: Seq(seq) };
    let receipt = Receipt { topic, generation: GENERATION, place, received: Millis(1) };
    tx.place_rotation(&receipt, &rotation(resets, seq, author), &author, b"body").unwrap();
}

fn place(tx: &Tx<'_>, seq: u64, author: Author) {
    place_in(tx, TOPIC, 0, seq, author);
}

fn standing(tx: &Tx<'_>, topic: TopicId, author: Author) -> Vec<(u32, u64)> {
    let rotations = tx.rotations(topic).unwrap();
    let of_author = rotations.into_iter().filter(|it| it.rotator == author);
    of_author.map(|it| (it.resets, it.seq.0)).collect()
}

fn dropped(tx: &Tx<'_>, topic: TopicId) -> u64 {
    let dropped = tx.dropped(topic).unwrap();
    dropped.iter().find(|(reason, _)| reason == "rotations-full").map_or(0, |(_, count)| *count)
}

fn first(count: u64) -> Vec<(u32, u64)> {
    (1..=count).map(|seq| (0, seq)).collect()
}

#[test]
fn of_an_author_so_many_rotations_of_a_topic_are_judged_and_no_more() {
    let mut store = Store::in_memory().unwrap();
    let tx = &store.begin(Durability::Normal).unwrap();
    for seq in 1..=LIMIT {
        place(tx, seq, ADA);
    }
    assert_eq!((standing(tx, TOPIC, ADA), dropped(tx, TOPIC)), (first(LIMIT), 0), "at the limit all stand");
    // Read again they are no further ones.
    place(tx, 1, ADA);
    assert_eq!((standing(tx, TOPIC, ADA), dropped(tx, TOPIC)), (first(LIMIT), 0));
    place(tx, LIMIT + 1, ADA);
    assert_eq!((standing(tx, TOPIC, ADA), dropped(tx, TOPIC)), (first(LIMIT), 1), "one past it does not");
    // Neither others nor other topics pay for it.
    let other = TopicId([9; 32]);
    place(tx, LIMIT + 2, BEN);
    place_in(tx, other, 1, 7, ADA);
    assert_eq!(standing(tx, TOPIC, BEN), [(0, LIMIT + 2)]);
    assert_eq!((standing(tx, other, ADA), dropped(tx, other)), (vec![(1, 7)], 0));
}

#[test]
fn which_rotations_are_judged_does_not_depend_on_the_order_in_which_they_are_read() {
    let past = LIMIT + 5;
    let orders: [Vec<u64>; 3] =
        [(1..=past).collect(), (1..=past).rev().collect(), (0..past).map(|n| 1 + n * 5 % past).collect()];
    for order in orders {
        let mut store = Store::in_memory().unwrap();
        let tx = &store.begin(Durability::Normal).unwrap();
        for seq in &order {
            place(tx, *seq, ADA);
        }
        assert_eq!((standing(tx, TOPIC, ADA), dropped(tx, TOPIC)), (first(LIMIT), 5), "{order:?}");
        // A later copy of the log comes after the earlier one.
        place_in(tx, TOPIC, 1, 1, ADA);
        assert_eq!(standing(tx, TOPIC, ADA), first(LIMIT));
    }
}

#[test]
fn what_closed_a_topic_stays_when_others_are_read_at_places_before_it() {
    let mut store = Store::in_memory().unwrap();
    let tx = &store.begin(Durability::Normal).unwrap();
    let (seq, successor) = (Seq(1000), TopicId([5; 32]));
    place(tx, seq.0, ADA);
    let operation = rotation(0, seq.0, ADA);
    tx.put_topic_close(&TopicClose {
        topic: TOPIC,
        operation,
        generation: GENERATION,
        resets: 0,
        seq,
        successor,
        epoch: 1,
    })
    .unwrap();
    for seq in 1..=LIMIT {
        place(tx, seq, ADA);
    }
    assert!(tx.rotations(TOPIC).unwrap().iter().any(|it| it.operation == operation));
}
