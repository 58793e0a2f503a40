//! Topics that a room left behind long ago: nothing is read of them any more, and nothing is missing.

use delta_core::engine::{KEEP_MAX_MS, RETIRE_AFTER_MS};
use delta_core::ops::EpochKeys;
use delta_core::store::Search;

use super::handing::{heads, slip_in};
use super::*;

const DAY_MS: u64 = 24 * 3_600_000;

impl Town {
    /// So much time passes in which nobody's app runs.
    fn sleep(&mut self, ms: u64) {
        for peer in &mut self.people {
            peer.lose_connections();
            peer.device.now = peer.device.now.plus(ms);
            peer.feed(vec![Input::Timeout]);
        }
        for _ in 0..3 {
            self.wait(KEEP_MAX_MS);
        }
    }
}

#[test]
fn what_was_said_in_a_retired_topic_stays_and_whoever_comes_or_asks_late_has_its_key() {
    let mut town = Town::new(4, true);
    let mut expected = Vec::new();
    for gone in (2..5).rev() {
        let text = format!("before {gone} went");
        town.say(1, &text).unwrap();
        expected.push(text);
        town.settle();
        town.remove(0, gone);
        town.settle();
        town.people.remove(gone);
    }
    assert_eq!(town.epochs(0), [3, 3]);
    let room = town.people[0].reader().topics_of_log(town.room).unwrap();
    let open = |town: &Town, who: usize| -> Vec<u32> {
        let rows = town.people[who].reader().topics().unwrap();
        let mut epochs: Vec<u32> =
            rows.iter().filter(|row| row.ticket.log() == town.room).map(|row| row.ticket.epoch()).collect();
        epochs.sort_unstable();
        epochs
    };
    town.sleep(RETIRE_AFTER_MS - DAY_MS);
    assert_eq!((open(&town, 0), open(&town, 1)), (vec![0, 1, 2, 3], vec![0, 1, 2, 3]));
    town.sleep(2 * DAY_MS);
    // The name that the app knows, what led here, and where the room lives.
    assert_eq!((open(&town, 0), open(&town, 1)), (vec![0, 2, 3], vec![0, 2, 3]));
    for who in [0, 1] {
        let reader = town.people[who].reader();
        assert_eq!(reader.topics_of_log(town.room).unwrap(), room, "places are counted as before");
        assert_eq!(reader.known_as(town.room).unwrap(), Some(room[0].1));
        let search = Search { words: "before 3".into(), log: Some(town.room), ..Search::default() };
        assert_eq!(reader.search(&search, 9).unwrap().len(), 1, "it stood in epoch 1");
        assert!(!town.people[who].is_connected(room[1].1));
    }
    // The room goes on.
    town.say(1, "all quiet").unwrap();
    town.settle();
    town.say(0, "indeed").unwrap();
    town.settle();
    expected.extend(["all quiet".to_owned(), "indeed".to_owned()]);
    assert_eq!((town.texts(0), town.texts(1)), (expected.clone(), expected.clone()));
    // Who comes now reads everything, epoch by epoch.
    town.join(9);
    for _ in 0..3 {
        town.wait(KEEP_MAX_MS);
    }
    assert_eq!(town.texts(2), expected);
    // Who asks for the key of the retired epoch is handed it.
    let (room, newcomer, heads, space) =
        (town.room, town.author(2), heads(&town), town.ticket(2, town.space));
    let handed = |town: &Town| {
        let handed = town.people[0].reader().handed_to(&room, &newcomer).unwrap();
        handed.iter().any(|handed| handed.epoch == 1)
    };
    assert!(!handed(&town));
    slip_in(&mut town, [9; 32], &space, &heads, EpochKeys::Ask { log: room, epoch: 1, failed: None });
    for _ in 0..3 {
        town.wait(KEEP_MAX_MS);
    }
    assert!(handed(&town));
    // And the room moves on as ever.
    town.remove(0, 2);
    town.settle();
    assert_eq!(town.epochs(1), [4, 4]);
    town.agree(&[0, 1]);
    town.say(1, "again").unwrap();
    town.settle();
    assert_eq!(town.texts(0).last().map(String::as_str), Some("again"));
    assert_eq!(open(&town, 0), [0, 2, 3, 4]);
}
