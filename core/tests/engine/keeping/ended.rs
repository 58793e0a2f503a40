//! Topics in which a conversation has ended: they are read again now and then, and what stands behind their end has its
//! place elsewhere.

use super::*;

#[test]
fn a_topic_that_ended_is_read_again_on_one_day_of_seven() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let store = || Store::open(&path, StoreOptions::default()).unwrap();
    let mut town = Town::with(store(), 1, true);
    town.remove(0, 1);
    town.settle();
    let room = town.people[0].reader().topics_of_log(town.room).unwrap();
    let &[(0, ended), (1, _)] = &room[..] else { panic!("{room:?}") };
    let mut days = Vec::new();
    for _ in 0..14 {
        let now = town.people[0].device.now.plus(24 * 3_600_000);
        town.people[0].device.now = now;
        town.restart(store);
        town.follow(0);
        town.settle();
        town.wait(60_000);
        let times = town.people[0].connects.iter().filter(|topic| **topic == ended).count();
        days.extend(std::iter::repeat_n(now.0 / (24 * 3_600_000) % 7, times));
        assert!(!town.people[0].is_connected(ended));
    }
    assert_eq!(days, [u64::from(ended.0[0]) % 7; 2]);
}

#[test]
fn what_was_carried_into_the_next_epoch_stays_there_when_its_first_place_is_read_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let store = || Store::open(&path, StoreOptions::default()).unwrap();
    let mut town = Town::with(store(), 2, true);
    let ended = town.ticket(1, town.room).topic();
    // The room moves, and one who has not heard of it yet writes where it was.
    town.remove(0, 2);
    let mut first: Vec<&mut Peer> = town.people.iter_mut().take(1).collect();
    run(&mut town.net, &mut first);
    assert_eq!(town.epochs(0), [1, 1]);
    town.say(0, "in the new place").unwrap();
    let before = town.net.world(ended).log.len();
    town.say(1, "in the old place").unwrap();
    assert_eq!(town.net.world(ended).log.len(), before + 1, "behind the close");
    town.settle();
    let expected = ["in the new place", "in the old place"];
    assert_eq!(
        (town.texts(0), town.texts(1)),
        (expected.map(str::to_owned).into(), expected.map(str::to_owned).into())
    );
    // A week in which the old place is read again.
    for _ in 0..7 {
        let now = town.people[0].device.now.plus(24 * 3_600_000);
        let old = std::mem::replace(&mut town.people[0], Peer::tunnelled(99, Store::in_memory().unwrap()));
        old.device.engine.close().unwrap();
        let mut again = Peer::tunnelled(1, store());
        again.device.now = now;
        town.people[0] = again;
        town.follow(0);
        town.settle();
    }
    assert_eq!(town.texts(0), expected);
}

/// Its author had not read it back before the topic closed, and carried it over. Who comes reads the newest epoch first.
#[test]
fn a_rotation_that_was_carried_into_a_later_epoch_closes_where_it_stood_all_the_same() {
    let mut town = Town::new(3, true);
    for who in [3, 2] {
        town.remove(0, who);
        town.settle();
    }
    assert_eq!(town.epochs(0), [2, 2]);
    let newest = town.ticket(0, town.room);
    let reader = town.people[0].reader();
    let mut carried = 0;
    for said in reader.log_entries(&town.author(0), &town.room, 0, u32::MAX, 100).unwrap() {
        let (header, body) = reader.operation_bytes(&said.id).unwrap().unwrap();
        let is_last = |rotation: &Rotation| rotation.epoch == 2;
        if matches!(Body::decode(&body).unwrap().content, Content::RoomRotate(it) if is_last(&it)) {
            let envelope = newest.keys().seal(&header, &body).unwrap();
            town.net.world(newest.topic()).log.push(envelope);
            carried += 1;
        }
    }
    assert_eq!(carried, 1);
    drop(reader);
    town.join(7);
    let who = town.people.len() - 1;
    for _ in 0..3 {
        town.settle();
    }
    town.agree(&[0, 1, who]);
    let topics = town.people[who].reader().topics_of_log(town.room).unwrap();
    let read: Vec<(u32, bool)> =
        topics.iter().map(|(epoch, topic)| (*epoch, town.people[who].is_connected(*topic))).collect();
    assert_eq!(read, [(0, false), (1, false), (2, true)], "what closed is not read any more");
}
