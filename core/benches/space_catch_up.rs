//! Catch-up of a new member: 100,000 encrypted messages in a room of a space with 250 members, each judged at the
//! membership it cites, opened, verified, durable and projected, against the bare Ed25519 strict verification of the same
//! cores. Then how long the index for search takes to follow.
//!
//! `cargo bench -p delta-core --all-features --bench space_catch_up [-- MESSAGES]`. Before a time is printed every message is shown, in
//! its order, with its text, but for those of a muted member, of which none is; and a search finds the oldest.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark reads the clock and prints")]

mod support;

use std::time::Instant;

use delta_core::engine::Command;
use delta_core::identity::{Identity, LogId, OperationId};
use delta_core::ops::{
    self, Action, Body, Content, DeviceKey, Hidden, Level, RoomKeys, RoomText, SpaceText, Ticket, room_id,
    space_id,
};
use delta_core::store::Search;
use delta_core::topic::WriteKey;

use support::{Device, check, cores, frames, peak_kib, processor_seconds, text, verify_bound};

const MEMBERS: usize = 250;
/// Of the members those who write in the room, one after another.
const WRITERS: usize = 10;
/// One message in so many is one of the muted member's.
const MUTED_EVERY: usize = 100;
/// Somebody else comes after each so many messages: what is cited changes.
const CHANGE_EVERY: usize = 1_000;
const NONCE: [u8; 32] = [9; 32];
/// Messages brought into the index in one transaction, as in the client.
const INDEX_AT_ONCE: usize = 500;
/// The index may follow so much later than `ready`, seconds.
const LAG_TARGET: f64 = 2.0;

/// Person 0 manages the space, 1 to [`WRITERS`] write in the room, the next one is muted, the one after that reads here.
fn key(person: usize) -> DeviceKey {
    DeviceKey::from_bytes(blake3::hash(&person.to_be_bytes()).as_bytes())
}

const MUTED: usize = WRITERS + 1;
const READER: usize = WRITERS + 2;

const fn is_muted(index: usize) -> bool {
    index % MUTED_EVERY == MUTED_EVERY - 1
}

/// Somebody's log.
struct Author {
    key: DeviceKey,
    next: u32,
    last: Option<OperationId>,
}

impl Author {
    fn new(person: usize) -> Self {
        Self { key: key(person), next: 0, last: None }
    }

    /// Signs and seals.
    fn say(&mut self, ticket: &Ticket, head: Option<OperationId>, content: Content) -> Vec<u8> {
        let mut body = Body::new(content);
        body.auth_heads.extend(head);
        let keys = ticket.keys();
        let op = ops::create(&self.key, keys.log(), self.next, self.last, &body).unwrap();
        (self.next, self.last) = (self.next + 1, Some(op.id()));
        keys.seal(op.header(), op.body_bytes()).unwrap()
    }
}

/// The space's log; and what there was to be cited after each change that came late.
fn space_log(space: &Ticket, room: LogId, changes: usize) -> (Vec<Vec<u8>>, Vec<OperationId>) {
    let mut creator = Author::new(0);
    let mut log = Vec::new();
    let mut act = |creator: &mut Author, action| {
        let head = creator.last;
        log.push(creator.say(space, head, Content::Membership(Box::new(action))));
    };
    let add = |person: usize, level| {
        let member = Identity(key(person).author().0);
        Action::Add { member, level, invite: None, claim: None }
    };
    let about = SpaceText { name: "bench".into(), history: true, ..SpaceText::default() };
    act(&mut creator, Action::SpaceCreate { nonce: NONCE, about, certificate: None });
    for person in 1..MEMBERS - changes {
        act(&mut creator, add(person, Level::Write));
    }
    let keys = RoomKeys { write: Hidden(room.0), secret: Hidden([9; 32]) };
    let about = RoomText { name: "bench".into(), ..RoomText::default() };
    act(&mut creator, Action::RoomCreate { nonce: NONCE, about, keys });
    let muted = Identity(key(MUTED).author().0);
    act(&mut creator, Action::Mute { member: muted, until: None });
    let mut heads: Vec<_> = creator.last.into_iter().collect();
    for person in MEMBERS - changes..MEMBERS {
        act(&mut creator, add(person, Level::Read));
        heads.extend(creator.last);
    }
    (log, heads)
}

fn room_log(room: &Ticket, heads: Vec<OperationId>, count: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut writers: Vec<_> = (1..=WRITERS).map(Author::new).collect();
    let mut muted = Author::new(MUTED);
    (0..count).map(move |index| {
        let head = heads[(index / CHANGE_EVERY).min(heads.len() - 1)];
        let author = if is_muted(index) { &mut muted } else { &mut writers[index % WRITERS] };
        let content = Content::MessageSend {
            text: text(index),
            reply: None,
            mentions: vec![],
            attachments: Vec::new(),
        };
        author.say(room, Some(head), content)
    })
}

fn main() {
    let count: usize = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(100_000);
    let space = space_id(key(0).author(), &NONCE);
    let room = room_id(space, &NONCE);
    let ticket = |log: LogId| Ticket::private(log, 0, WriteKey::from_seed(log.0), [9; 32]);
    let (space_ticket, room_ticket) = (ticket(space), ticket(room));
    let changes = (count / CHANGE_EVERY).min(100);
    let (log, heads) = space_log(&space_ticket, room, changes);
    let space_frames = frames(&space_ticket, log.len(), log.into_iter());
    let room_frames = frames(&room_ticket, count, room_log(&room_ticket, heads, count));

    let bound = verify_bound();
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::open(&dir.path().join("device.db"), key(READER));
    device.command(Command::OpenTopic { ticket: space_ticket.clone() });
    let conn = device.connect(space_ticket.topic());
    device.catch_up(conn, space_frames);
    let members = device.engine.reader().unwrap().members(&space).unwrap().len();
    assert_eq!(members, MEMBERS, "the space is known");
    // The room is open: its keys stand in the space's log.
    let conn = device.connect(room_ticket.topic());
    let (started, before) = (Instant::now(), processor_seconds());
    let events = device.catch_up(conn, room_frames);
    let (seconds, used) = (started.elapsed().as_secs_f64(), processor_seconds() - before);
    let peak = peak_kib();
    let bound = bound.mean(&verify_bound());
    let (started, before) = (Instant::now(), processor_seconds());
    let mut longest = 0f64;
    loop {
        let step = Instant::now();
        let more = device.engine.index_texts(INDEX_AT_ONCE).unwrap();
        longest = longest.max(step.elapsed().as_secs_f64());
        if !more {
            break;
        }
    }
    let (lag, indexing) = (started.elapsed().as_secs_f64(), processor_seconds() - before);

    let reader = device.engine.reader().unwrap();
    check(&reader, room, (0..count).rev().filter(|index| !is_muted(*index)).map(text));
    assert_eq!(reader.unindexed().unwrap(), 0);
    let oldest = Search { words: text(0), log: Some(room), ..Search::default() };
    assert_eq!(reader.search(&oldest, 10).unwrap().len(), 1, "the index has the oldest");
    let (rate, operation, cores) = (count as f64 / seconds, used / count as f64, cores());
    println!(
        "catch-up in a room of {members} members: {count} messages in {seconds:.2} s = {rate:.0}/s on {cores} cores, \
         {events} change events"
    );
    println!("strict verification of the same cores: {:.0}/s", bound.rate());
    println!(
        "index: {lag:.2} s after the last message, {indexing:.2} s of a processor, {:.1} ms the longest step",
        longest * 1e3
    );
    println!(
        "ratio {:.2} (target >= 0.5): catch-up in a space's room / strict verification",
        rate / bound.rate()
    );
    println!(
        "ratio {:.2} (target >= 0.5): catch-up in a space's room, in processor time",
        bound.processor / operation
    );
    println!("ratio {:.2} (target <= 1): index after the last of {count} messages / 2 s", lag / LAG_TARGET);
    println!("peak resident memory: {peak} KiB");
}
