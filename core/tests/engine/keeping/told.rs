//! What devices of members that cannot write say of their persons' devices: managers' devices deliver it, and nothing
//! but that.

use delta_core::ops::{DeviceTell, ToldOperation, VerifiedOperation, create};

use super::by_inbox::{heads, slip_in, slip_in_after, with_reader};
use super::*;

/// What the space knows of a device, as the first person's device sees it: whose it is, and whether it is revoked.
fn known(town: &Town, device: Author) -> Option<(Identity, bool)> {
    let rows = town.people[0].reader().space_devices(&town.space).unwrap();
    rows.into_iter().find(|row| row.device == device).map(|row| (row.identity, row.revoked))
}

fn identity(town: &Town, who: usize) -> IdentityKey {
    IdentityKey::from_seed(&[town.seed(who); 32])
}

fn revoke(town: &mut Town, by: usize, device: Author) {
    let revocation = Revocation::sign(&identity(town, by), device, town.people[by].device.now);
    let command = Command::Revoke { revocation: Box::new(revocation) };
    town.people[by].command(&mut town.net, command).unwrap();
    town.settle();
    town.settle();
}

/// An operation in the space's log, as its author would publish it there.
fn signed(town: &Town, by: [u8; 32], action: Action) -> VerifiedOperation {
    let body = Body { auth_heads: heads(town), ..Body::new(Content::Membership(Box::new(action))) };
    create(&DeviceKey::from_bytes(&by), town.space, 0, None, &body).unwrap()
}

fn tell(town: &Town, operations: &[&VerifiedOperation]) -> Content {
    let told = |it: &&VerifiedOperation| ToldOperation {
        header: it.header().to_vec(),
        body: it.body_bytes().to_vec(),
    };
    let operations = operations.iter().map(told).collect();
    Content::DeviceTell(Box::new(DeviceTell { space: town.space, operations }))
}

#[test]
fn a_readers_further_device_is_made_known_to_the_space_and_reads_on_when_the_keys_move() {
    let mut town = with_reader();
    let second = town.pair(1, 40);
    assert!(!town.ticket(second, town.space).can_write());
    assert_eq!(known(&town, town.author(second)), Some((town.author(1).into(), false)));
    assert_eq!(town.members(0).len(), 3);
    town.remove(0, 2);
    for _ in 0..3 {
        town.settle();
    }
    town.wait(KEEP_MAX_MS);
    town.agree(&[0, 1, second]);
    town.say(0, "to all who read").unwrap();
    town.settle();
    for device in [1, second] {
        assert_eq!(town.texts(device), ["to all who read"], "device {device}");
    }
    // What it said stands in its own log: once it may write it goes on from there.
    let member = town.author(1).into();
    town.act(0, Action::Promote { member, level: Level::Write }).unwrap();
    for _ in 0..3 {
        town.settle();
    }
    town.wait(KEEP_MAX_MS);
    town.say(second, "and I write").unwrap();
    town.settle();
    assert_eq!(town.texts(0), ["to all who read", "and I write"]);
    let told = |device: &Author| {
        let rows = town.people[0].reader().audit(&town.space, None, 100).unwrap();
        rows.iter().filter(|row| row.kind == "device.add" && row.device == Some(*device)).count()
    };
    assert_eq!(told(&town.author(second)), 1, "once");
}

#[test]
fn a_reader_revokes_a_device_and_the_keys_move_away_from_it() {
    let mut town = with_reader();
    let (lost, kept) = (town.pair(1, 40), town.pair(1, 41));
    let before = town.epochs(0);
    let device = town.author(lost);
    revoke(&mut town, 1, device);
    for _ in 0..3 {
        town.wait(KEEP_MAX_MS);
    }
    assert_eq!(known(&town, device), Some((town.author(1).into(), true)));
    assert_eq!(town.epochs(0), before.map(|epoch| epoch + 1));
    town.agree(&[0, 1, kept]);
    assert_eq!(town.epochs(lost), before);
    town.say(0, "without it").unwrap();
    town.settle();
    assert_eq!((town.texts(kept), town.texts(lost)), (vec!["without it".to_owned()], Vec::new()));
}

/// It reads where the space lived last before it reads what came before that: then it learns at once what stands there, and
/// what of it does not count.
#[test]
fn a_further_device_does_not_build_on_what_stands_behind_a_close() {
    let mut town = with_reader();
    let tickets = [town.space, town.room].map(|log| town.ticket(1, log));
    town.people[2].hold = true;
    revoke(&mut town, 2, DeviceKey::from_bytes(&[91; 32]).author());
    town.remove(0, 2);
    town.settle();
    let closed = tickets[0].topic();
    assert_ne!(town.ticket(1, town.space).topic(), closed);
    let stand = town.net.world(closed).log.len();
    town.release_to(2, town.space);
    assert_eq!(town.net.world(closed).log.len(), stand + 1, "it stands behind the close");
    let second = town.pair_with(1, 40, tickets);
    town.release(second);
    for _ in 0..3 {
        town.wait(KEEP_MAX_MS);
    }
    assert_eq!(known(&town, town.author(second)), Some((town.author(1).into(), false)));
    town.agree(&[0, 1, second]);
    let reader = town.people[second].reader();
    let said = reader.log_entries(&town.author(second), &town.space, 0, u32::MAX, 100).unwrap();
    let kind = |body: &Vec<u8>| Body::decode(body).unwrap().content;
    let tells = said.iter().filter_map(|it| it.body.as_ref()).map(kind);
    assert_eq!(tells.filter(|it| matches!(it, Content::Membership(_))).count(), 1, "it tells of itself once");
}

/// Its author built on something that counts for nobody, found that out, and said it again.
#[test]
fn what_waits_for_ever_keeps_nothing_that_comes_after_it_from_the_space() {
    let mut town = with_reader();
    let (key, now) = ([88; 32], town.people[0].device.now);
    let device = DeviceKey::from_bytes(&key).author();
    let certificate = Certificate::sign(&identity(&town, 1), device, now);
    let add = |town: &Town, seq_num, backlink, auth_heads| {
        let action = Content::Membership(Box::new(Action::DeviceAdd { certificate }));
        let body = Body { auth_heads, ..Body::new(action) };
        create(&DeviceKey::from_bytes(&key), town.space, seq_num, backlink, &body).unwrap()
    };
    let stands = |town: &Town, id| town.people[0].reader().operation(&id).unwrap().is_some();
    let lost = add(&town, 0, None, vec![OperationId([9; 32])]);
    let (knew, content) = (heads(&town), tell(&town, &[&lost]));
    let first = slip_in_after(&mut town, key, 0, knew.clone(), content, None);
    town.settle();
    assert_eq!((known(&town, device), stands(&town, lost.id())), (None, false), "it says nothing alone");
    let good = add(&town, 1, Some(lost.id()), knew.clone());
    let content = tell(&town, &[&lost, &good]);
    slip_in_after(&mut town, key, 0, knew, content, Some(first));
    let space = town.ticket(0, town.space).topic();
    let before = town.net.world(space).log.len();
    for _ in 0..3 {
        town.wait(KEEP_MAX_MS);
    }
    assert_eq!(known(&town, device), Some((town.author(1).into(), false)));
    let delivered = |town: &mut Town| town.net.world(space).log.len() - before;
    assert_eq!(delivered(&mut town), 2, "each once");
}

#[test]
fn what_cannot_be_delivered_at_first_is_told_again() {
    let mut town = with_reader();
    town.people[0].idle = true;
    town.people[0].lose_connections();
    let mut away = town.people.remove(0);
    let second = town.pair(0, 40);
    away.device.now = town.people[0].device.now;
    away.idle = false;
    town.people.insert(0, away);
    for _ in 0..3 {
        town.settle();
    }
    assert_eq!(known(&town, town.author(second + 1)), Some((town.author(1).into(), false)));
}

#[test]
fn nobody_is_made_somebodys_device_by_what_that_person_did_not_sign() {
    let mut town = with_reader();
    let (stranger, reader) = ([77; 32], identity(&town, 1));
    let device = DeviceKey::from_bytes(&stranger).author();
    let now = town.people[0].device.now;
    // By somebody who is no member; by the reader for another device; with a signature that does not hold.
    let of_nobody = Certificate::sign(&IdentityKey::from_seed(&[78; 32]), device, now);
    let of_another = Certificate::sign(&reader, DeviceKey::from_bytes(&[79; 32]).author(), now);
    let mut forged = of_nobody.to_bytes();
    forged[..32].copy_from_slice(&reader.identity().0);
    let forged = Certificate::from_bytes(&forged).unwrap();
    for (certificate, number) in [of_nobody, of_another, forged].into_iter().zip(5..) {
        let add = signed(&town, stranger, Action::DeviceAdd { certificate });
        let (heads, content) = (heads(&town), tell(&town, &[&add]));
        let after = (number, add.id());
        slip_in_after(&mut town, stranger, 0, heads, content, Some(after));
        for _ in 0..2 {
            town.settle();
        }
        assert_eq!(known(&town, device), None);
        assert!(town.people[0].reader().operation(&add.id()).unwrap().is_none(), "nor was it delivered");
    }
    // What a member signs is delivered when it is about its person's devices, and nothing else of it is.
    let leave = signed(&town, [town.seed(1); 32], Action::Leave);
    let (known_heads, content) = (heads(&town), tell(&town, &[&leave]));
    slip_in(&mut town, stranger, 0, known_heads, content);
    town.settle();
    assert_eq!(town.members(0).len(), 3);
    assert!(town.people[0].reader().operation(&leave.id()).unwrap().is_none());
}

#[test]
fn a_revoked_device_that_is_told_of_again_stays_revoked() {
    let mut town = with_reader();
    let (key, reader, now) = ([88; 32], identity(&town, 1), town.people[0].device.now);
    let device = DeviceKey::from_bytes(&key).author();
    let certificate = Certificate::sign(&reader, device, now);
    let before = heads(&town);
    revoke(&mut town, 1, device);
    assert_eq!(known(&town, device).map(|(_, revoked)| revoked), None, "it was never told of");
    let knew = [before, heads(&town)];
    for (round, auth_heads) in knew.into_iter().enumerate() {
        let action = Content::Membership(Box::new(Action::DeviceAdd { certificate }));
        let body = Body { auth_heads: auth_heads.clone(), ..Body::new(action) };
        let add = create(&DeviceKey::from_bytes(&key), town.space, 0, None, &body).unwrap();
        let content = tell(&town, &[&add]);
        let after = (5 + u32::try_from(round).unwrap(), add.id());
        slip_in_after(&mut town, key, 0, auth_heads, content, Some(after));
        town.settle();
        assert!(town.people[0].reader().operation(&add.id()).unwrap().is_none());
    }
    town.wait(KEEP_MAX_MS);
    assert!(known(&town, device).is_none_or(|(_, revoked)| revoked));
}
