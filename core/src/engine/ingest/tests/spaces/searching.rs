//! Search sees what a device shows of a space, whether its index has followed or not.

use super::*;
use crate::limits::MAX_SEARCH_WORDS;
use crate::store::Search;

#[test]
fn search_looks_for_so_many_words() {
    let mut world = World::peopled();
    let all: Vec<String> = (0..MAX_SEARCH_WORDS).map(|number| format!("word{number}")).collect();
    world.say(2, &all.join(" "));
    let device = Device::with(&world);
    let count = |words: &[&[String]]| {
        let search = Search { words: words.concat().join(" "), ..Search::default() };
        device.store.search(&search, 10).unwrap().len()
    };
    let absent = ["absent".to_owned()];
    assert_eq!(count(&[&all[1..], &absent]), 0, "the last that counts");
    assert_eq!(count(&[&all, &absent]), 1, "one too many is not looked for");
}

#[test]
fn search_finds_words_with_and_without_the_index() {
    let mut world = World::peopled();
    let one = world.say(2, "Red apples, and a pear");
    let two = world.say(0, "red wine");
    world.say(0, "redder than apples");
    let mut device = Device::with(&world);
    let find = |device: &Device, search: &Search| -> Vec<OperationId> {
        device.store.search(search, 10).unwrap().into_iter().map(|found| found.message.id).collect()
    };
    let for_words = |words: &str| Search { words: words.into(), ..Search::default() };
    let check = |device: &Device| {
        assert_eq!(find(device, &for_words("RED")), [two, one]);
        assert_eq!(find(device, &for_words("apples red!")), [one]);
        assert_eq!(find(device, &for_words("ed")), []);
        assert_eq!(find(device, &for_words("\"* - OR ")), [], "no word of `or`");
        assert_eq!(find(device, &for_words("...")), []);
        assert_eq!(find(device, &Search { author: Some(who(2)), ..for_words("red") }), [one]);
        assert_eq!(find(device, &Search { log: Some(space()), ..for_words("red") }), []);
        assert_eq!(find(device, &Search { log: Some(room()), ..for_words("red") }), [two, one]);
        let since = |ms| Search { since: Some(Millis(ms)), ..for_words("red") };
        let until = |ms| Search { until: Some(Millis(ms)), ..for_words("red") };
        assert_eq!(find(device, &since(50_002)), [two]);
        assert_eq!(find(device, &until(50_002)), [one]);
        let found = device.store.search(&for_words("pear"), 1).unwrap();
        assert_eq!(found[0].excerpt, "Red apples, and a pear");
    };
    check(&device);
    assert!(device.write(|tx| tx.index_texts(2).unwrap()), "one more");
    check(&device);
    assert!(!device.write(|tx| tx.index_texts(9).unwrap()));
    check(&device);
    // What changes afterwards is found as it is, before and after the index has followed.
    world.tell(2, room(), Content::MessageEdit { target: one, text: "green pears".into() });
    world.tell(0, room(), Content::MessageDelete { target: two });
    for written in world.written.iter().rev().take(2).collect::<Vec<_>>().into_iter().rev() {
        device.receive(written);
    }
    for _ in 0..2 {
        assert_eq!(find(&device, &for_words("red")), []);
        assert_eq!(find(&device, &for_words("green")), [one]);
        device.write(|tx| tx.index_texts(9).unwrap());
    }
    device.write(|tx| tx.rebuild().unwrap());
    for _ in 0..2 {
        assert_eq!(
            (find(&device, &for_words("red")), find(&device, &for_words("green"))),
            (vec![], vec![one])
        );
        while device.write(|tx| tx.index_texts(2).unwrap()) {}
    }
}
