//! A room moves to its next epoch: the keys sealed for every remaining device, the operation made and sealed.
//!
//! `cargo bench -p delta-core --bench rotation [-- DEVICES]`. Before a time is printed every device has opened its part and
//! got the same ticket. What bounds it is X25519: four for each device (docs/adr/0009), which stand beside it.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark reads the clock and prints")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use delta_core::crypto::{
    DeviceBundle, DeviceSecrets, GroupCrypto, IncomingRotation, PreparedRotation, Recipient, Rotator,
    TwoParty, open_rotation, prepare_rotation,
};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{LogId, Millis};
use delta_core::ops::{self, Body, Content, DeviceKey, LogEnd, Ticket};
use delta_core::topic::WriteKey;

const LOG: LogId = LogId([4; 32]);
const NOW: Millis = Millis(1_700_000_000_000);
/// Rounds: the fastest counts, the one disturbed least.
const ROUNDS: usize = 10;
/// A rotation for 250 members takes at most so long.
const TARGET: Duration = Duration::from_millis(250);
/// X25519 for each device: three of X3DH, and the public half of the ephemeral key.
const CURVE_EACH: usize = 4;

struct Member {
    key: DeviceKey,
    secrets: DeviceSecrets,
    bundle: DeviceBundle,
}

fn member(number: usize) -> Member {
    let seed = *blake3::hash(&number.to_be_bytes()).as_bytes();
    let key = DeviceKey::from_bytes(&seed);
    let secrets = TwoParty.generate(NOW, &mut SeededEntropy::new(seed)).unwrap();
    let body = Body::new(Content::DeviceBundle(TwoParty.bundle(&secrets).unwrap()));
    let bundle = DeviceBundle::of(&ops::create(&key, LOG, 0, None, &body).unwrap()).unwrap();
    Member { key, secrets, bundle }
}

/// What the engine does of it: the parts, the operation, its envelope.
fn rotate(from: &Member, to: &[Member], at: &Ticket, ends: &[LogEnd]) -> (PreparedRotation, Vec<u8>) {
    let recipients: Vec<Recipient<'_>> =
        to.iter().map(|member| Recipient { bundle: &member.bundle, may_write: true }).collect();
    let rotator = Rotator { device: from.key.author(), secrets: &from.secrets };
    let mut entropy = SeededEntropy::new([7; 32]);
    let prepared =
        prepare_rotation(&TwoParty, rotator, at, &recipients, ends.to_vec(), NOW, &mut entropy).unwrap();
    let body = Body::new(Content::RoomRotate(Box::new(prepared.rotation.clone())));
    let operation = ops::create(&from.key, LOG, 0, None, &body).unwrap();
    let envelope = at.keys().seal(operation.header(), operation.body_bytes()).unwrap();
    (prepared, envelope)
}

fn fastest(mut work: impl FnMut()) -> Duration {
    let once = |_| {
        let started = Instant::now();
        work();
        started.elapsed()
    };
    (0..ROUNDS).map(once).min().unwrap_or_default()
}

fn main() {
    let devices: usize = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(250);
    let from = member(0);
    let to: Vec<Member> = (1..devices).map(member).collect();
    let at = Ticket::private(LOG, 0, WriteKey::from_seed([5; 32]), [6; 32]);
    let end = |member: &Member| LogEnd {
        author: member.key.author(),
        seq_num: 9,
        id: delta_core::identity::OperationId([3; 32]),
    };
    let mut ends: Vec<LogEnd> = to.iter().map(end).collect();
    ends.sort_unstable_by_key(|end| end.author);

    let (prepared, envelope) = rotate(&from, &to, &at, &ends);
    assert!(prepared.left_out.is_empty(), "{:?}", prepared.left_out);
    let opened = at.keys().open(&envelope).unwrap();
    let Content::RoomRotate(rotation) = Body::decode(&opened.body).unwrap().content else {
        panic!("a rotation")
    };
    for member in &to {
        let device = member.key.author();
        let incoming = IncomingRotation {
            rotation: &rotation,
            rotator: from.key.author(),
            log: LOG,
            epoch: 0,
            now: NOW,
        };
        let ticket = open_rotation(&TwoParty, &member.secrets, incoming, &device, |_| false).unwrap();
        assert_eq!(ticket.to_string(), prepared.ticket.to_string(), "everybody gets the same");
    }

    let time = fastest(|| drop(black_box(rotate(&from, &to, &at, &ends))));
    let point = x25519_dalek::PublicKey::from([9; 32]);
    let secret = x25519_dalek::StaticSecret::from([8; 32]);
    let curve = fastest(|| {
        for _ in 0..CURVE_EACH * to.len() {
            black_box(black_box(&secret).diffie_hellman(&point));
        }
    });
    println!("rotation for {devices} devices: {time:?}, an operation of {} bytes", envelope.len());
    println!(
        "ratio {:.2} (target <= 1): rotation for {devices} / 250 ms",
        time.as_secs_f64() / TARGET.as_secs_f64()
    );
    let beside = time.as_secs_f64() / curve.as_secs_f64();
    println!("{beside:.2} times as long as {CURVE_EACH} X25519 for each device");
}
