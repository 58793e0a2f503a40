//! Who may say nothing for a while: muted, in an archived room, or too soon.

use super::*;

#[test]
fn a_muted_managers_device_leaves_the_keys_to_the_others() {
    let mut town = Town::new(2, true);
    town.promote(1);
    let member = town.author(1).into();
    town.act(0, Action::Mute { member, until: None }).unwrap();
    town.settle();
    // Who could do it is not there.
    town.people[0].idle = true;
    town.act(2, Action::Leave).unwrap();
    let before = town.people[1].seals;
    for _ in 0..3 {
        town.wait(KEEP_MAX_MS);
    }
    assert_eq!(town.epochs(1), [0, 0]);
    assert_eq!(town.people[1].seals, before, "what nobody would count is not sealed");
}

#[test]
fn a_mute_ends_when_it_is_due_by_an_operation_of_one_manager() {
    let mut town = Town::new(2, true);
    town.promote(1);
    let member = town.author(2).into();
    let until = Millis(town.people[0].device.now.0 + 300_000);
    town.act(0, Action::Mute { member, until: Some(until) }).unwrap();
    town.settle();
    assert!(matches!(town.say(2, "psst"), Err(CommandError::MayNotWrite)));
    town.wait(200_000);
    assert!(matches!(town.say(2, "psst"), Err(CommandError::MayNotWrite)));
    town.wait(200_000);
    town.say(2, "at last").unwrap();
    let audit = town.people[1].reader().audit(&town.space, None, 100).unwrap();
    let kinds: Vec<_> =
        audit.iter().map(|row| row.kind.as_str()).filter(|kind| kind.contains("mute")).collect();
    assert_eq!(kinds, ["member.unmute", "member.mute"]);
}

#[test]
fn a_room_in_the_archive_takes_no_messages_and_moves_all_the_same() {
    let mut town = Town::new(2, true);
    let room = town.room;
    town.act(0, Action::RoomArchive { room }).unwrap();
    town.settle();
    assert_eq!(town.people[1].reader().room(&room).unwrap().unwrap().state, RoomState::Archived);
    assert!(matches!(town.say(1, "late"), Err(CommandError::MayNotWrite)));
    town.remove(0, 2);
    town.settle();
    assert_eq!(town.epochs(1), [1, 1]);
    town.act(0, Action::RoomUnarchive { room }).unwrap();
    town.settle();
    town.say(1, "open again").unwrap();
    town.settle();
    assert_eq!(town.texts(0), ["open again"]);
}

#[test]
fn a_rooms_cooldown_is_kept_by_whoever_sends_and_says_how_long_it_lasts() {
    let mut town = Town::new(1, true);
    let (room, about) =
        (town.room, RoomText { name: "Square".into(), cooldown: Some(30), ..RoomText::default() });
    town.act(0, Action::RoomUpdate { room, about }).unwrap();
    town.settle();
    town.say(1, "one").unwrap();
    town.people[1].device.now = town.people[1].device.now.plus(29_999);
    let refused = town.say(1, "two").unwrap_err();
    assert!(matches!(refused, CommandError::Cooldown { left_ms: 1 }), "{refused}");
    town.people[1].device.now = town.people[1].device.now.plus(30_000);
    town.say(1, "two").unwrap();
    town.say(0, "managers wait for nothing").unwrap();
    town.say(0, "at all").unwrap();
}
