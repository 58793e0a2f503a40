//! Rotations of managers that act at the same time: the one that lost is carried over, beside the next one.

use super::*;

#[test]
fn a_rotation_that_lost_and_is_carried_over_does_not_hide_where_the_next_one_stands() {
    let mut town = Town::new(3, true);
    town.promote(1);
    town.people[1].hold = true;
    town.remove(1, 3);
    town.remove(0, 2);
    town.settle();
    assert_eq!(town.epochs(0)[1], 1, "the first one's rotation of the room stands");
    // The room has moved for the second one, whose own rotation lost, and who moves the new topic on: both are sent.
    town.wait(2 * KEEP_MAX_MS);
    assert_eq!(town.epochs(1)[1], 1);
    town.release(1);
    for _ in 0..4 {
        town.wait(KEEP_MAX_MS);
    }
    town.agree(&[0, 1]);
    town.say(1, "just us").unwrap();
    town.settle();
    assert_eq!((town.texts(0), town.texts(1)), (vec!["just us".to_owned()], vec!["just us".to_owned()]));
}
