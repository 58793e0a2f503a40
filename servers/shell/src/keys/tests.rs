use std::os::unix::fs::PermissionsExt;

use delta_core::entropy::SeededEntropy;
use delta_core::identity::NodeId;
use delta_core::onion::v3::{self, Hop, Opened as Layer, Terminal};
use delta_replay::Admission;

use super::*;

const DAY: u64 = 24 * HOUR_MS;
const START: u64 = 1_800_000_000_000;

/// A folder whose keys are opened again and again.
struct Node {
    folder: tempfile::TempDir,
    entropy: SeededEntropy,
    policy: KeyPolicy,
}

impl Node {
    fn new(hours: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let policy = KeyPolicy { capacity: 4, ..KeyPolicy::every_hours(hours) };
        Self { folder, entropy: SeededEntropy::new([1; 32]), policy }
    }

    fn node_folder(&mut self) -> NodeFolder {
        NodeFolder::open(self.folder.path(), &mut self.entropy).unwrap()
    }

    fn open(&mut self, now: u64) -> OnionKeys {
        let folder = self.node_folder();
        OnionKeys::open(&folder, self.policy, &mut self.entropy, Millis(now)).unwrap()
    }

    fn turn(&mut self, keys: &OnionKeys, now: u64) -> bool {
        keys.turn(Millis(now), &mut self.entropy, |_| true).unwrap()
    }

    fn replay_files(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| name.starts_with("replay-"));
        names.sort();
        names
    }

    fn keys_text(&self) -> String {
        fs::read_to_string(self.folder.path().join(KEYS_FILE)).unwrap()
    }
}

fn packet(key: OnionKey, seed: u8) -> Vec<u8> {
    let hop = Hop { node: NodeId([1; 32]), key, delay: 0 };
    v3::wrap(&[hop], Terminal::Deliver(b"content"), &mut SeededEntropy::new([seed; 32])).unwrap()
}

fn open_packet(keys: &OnionKeys, packet: &[u8]) -> Option<Layer> {
    v3::open(keys.set().secrets(), packet.to_vec()).ok()
}

/// What the node makes of a packet: `None` when no key opens it.
fn take(keys: &OnionKeys, packet: &[u8]) -> Option<Admission> {
    let opened = open_packet(keys, packet)?;
    Some(keys.set().seen(opened.kid()).unwrap().admit(&opened.replay_tag()).unwrap())
}

#[test]
fn the_next_key_is_published_ahead_and_takes_over_after_a_period() {
    let mut node = Node::new(24);
    let keys = node.open(START);
    assert_eq!(keys.set().published().len(), 1);
    assert!(node.turn(&keys, START));
    let [a, b] = <[_; 2]>::try_from(keys.set().published()).unwrap();
    assert_ne!((a.kid, a.public), (b.kid, b.public));
    assert!(!node.turn(&keys, START + DAY - 1), "a moment too early");
    assert!(node.turn(&keys, START + DAY));
    let [first, c] = <[_; 2]>::try_from(keys.set().published()).unwrap();
    assert_eq!(first, b);
    let kids: Vec<_> = keys.set().secrets().iter().map(OnionSecret::kid).collect();
    assert_eq!(kids, [b.kid, c.kid, a.kid]);
    // Packets for all three are opened; the next key's before it is the current one, too.
    for (seed, key) in [a, b, c].into_iter().enumerate() {
        assert_eq!(take(&keys, &packet(key, seed as u8)), Some(Admission::Fresh));
    }
}

#[test]
fn case_04_a_replay_under_an_erased_key_is_dropped() {
    let mut node = Node::new(24);
    let keys = node.open(START);
    node.turn(&keys, START);
    let a = keys.set().published()[0];
    let recorded = packet(a, 1);
    assert_eq!(take(&keys, &recorded), Some(Admission::Fresh));
    node.turn(&keys, START + DAY);
    // Previous now: still opened, and still known.
    assert_eq!(take(&keys, &recorded), Some(Admission::Seen));
    let secret = node.keys_text();
    let secret = secret.split("\"previous\"").nth(1).unwrap().split('"').nth(5).unwrap().to_owned();
    assert_eq!(secret.len(), 64);
    node.turn(&keys, START + 2 * DAY - 1);
    assert_eq!(take(&keys, &recorded), Some(Admission::Seen), "24 hours are not over");
    node.turn(&keys, START + 2 * DAY);
    assert!(open_packet(&keys, &recorded).is_none());
    assert!(!node.replay_files().contains(&format!("replay-{}", a.kid)));
    assert!(!node.keys_text().contains(&secret));
    // Nor after a restart.
    drop(keys);
    assert!(open_packet(&node.open(START + 2 * DAY), &recorded).is_none());
}

#[test]
fn case_03_previous_current_and_next_remember_across_a_restart() {
    let mut node = Node::new(24);
    let keys = node.open(START);
    node.turn(&keys, START);
    let a = keys.set().published()[0];
    node.turn(&keys, START + DAY);
    let published = keys.set().published();
    let packets: Vec<_> = [a, published[0], published[1]].into_iter().zip(1..).collect();
    for (key, seed) in &packets {
        assert_eq!(take(&keys, &packet(*key, *seed)), Some(Admission::Fresh));
    }
    drop(keys);
    let keys = node.open(START + DAY + 5);
    assert_eq!(keys.set().published(), published);
    for (key, seed) in &packets {
        assert_eq!(take(&keys, &packet(*key, *seed)), Some(Admission::Seen));
    }
    assert!(!node.turn(&keys, START + 2 * DAY - 1));
    assert!(node.turn(&keys, START + 2 * DAY), "the period goes on across a restart");
}

#[test]
fn a_previous_key_is_accepted_for_a_period_but_48_hours_at_most() {
    for (hours, accepted) in [(24, 24), (30, 30), (48, 48), (24 * 30, 48)] {
        let mut node = Node::new(hours);
        let keys = node.open(START);
        node.turn(&keys, START);
        let old = keys.set().published()[0];
        let rotated = START + hours * HOUR_MS;
        assert!(node.turn(&keys, rotated));
        let knows = |keys: &OnionKeys| keys.set().seen(old.kid).is_some();
        node.turn(&keys, rotated + accepted * HOUR_MS - 1);
        assert!(knows(&keys), "{hours}");
        node.turn(&keys, rotated + accepted * HOUR_MS);
        assert!(!knows(&keys), "{hours}");
    }
}

#[test]
fn keys_do_not_rotate_before_the_next_one_is_known() {
    let mut node = Node::new(24);
    let keys = node.open(START);
    node.turn(&keys, START);
    let published = keys.set().published();
    let asked = std::cell::Cell::new(None);
    let not_yet = |key: &OnionKey| {
        asked.set(Some(*key));
        false
    };
    assert!(!keys.turn(Millis(START + 3 * DAY), &mut node.entropy, not_yet).unwrap());
    assert_eq!(asked.get(), Some(published[1]));
    assert_eq!(keys.set().published(), published);
    assert!(node.turn(&keys, START + 3 * DAY + 1));
    assert_eq!(keys.set().published()[0], published[1]);
    // From then on the period and the previous key's time are counted.
    assert!(!node.turn(&keys, START + 4 * DAY));
    assert_eq!(keys.set().secrets().len(), 3);
}

#[test]
fn without_rotation_there_is_one_key_for_good() {
    let mut node = Node::new(0);
    let keys = node.open(START);
    assert!(!node.turn(&keys, START + 1000 * DAY));
    assert_eq!(keys.set().secrets().len(), 1);
}

#[test]
fn a_clock_put_back_starts_the_period_over() {
    let mut node = Node::new(24);
    let keys = node.open(START);
    node.turn(&keys, START);
    assert!(!node.turn(&keys, START - 10 * DAY));
    assert!(!node.turn(&keys, START - 9 * DAY - 1));
    assert!(node.turn(&keys, START - 9 * DAY));
}

#[test]
fn a_full_set_stays_full_until_the_rotation() {
    let mut node = Node::new(24);
    let keys = node.open(START);
    node.turn(&keys, START);
    let [a, b] = <[_; 2]>::try_from(keys.set().published()).unwrap();
    for seed in 0..4 {
        assert!(!keys.set().is_full());
        assert_eq!(take(&keys, &packet(a, seed)), Some(Admission::Fresh));
    }
    assert!(keys.set().is_full());
    assert_eq!(take(&keys, &packet(a, 4)), Some(Admission::Full));
    node.turn(&keys, START + DAY - 1);
    assert!(keys.set().is_full());
    node.turn(&keys, START + DAY);
    assert!(!keys.set().is_full());
    assert_eq!(take(&keys, &packet(b, 5)), Some(Admission::Fresh));
    assert_eq!(take(&keys, &packet(a, 0)), Some(Admission::Seen), "nothing was evicted");
}

#[test]
fn a_key_whose_set_cannot_be_trusted_is_erased_and_its_id_not_used_again() {
    let mut node = Node::new(24);
    let keys = node.open(START);
    node.turn(&keys, START);
    let [a, b] = <[_; 2]>::try_from(keys.set().published()).unwrap();
    drop(keys);
    fs::write(replay_path(node.folder.path(), a.kid), b"garbage").unwrap();
    let keys = node.open(START + 1);
    assert_eq!(keys.set().published(), [b], "the next key is known already: it takes over");
    drop(keys);
    fs::remove_file(replay_path(node.folder.path(), b.kid)).unwrap();
    let keys = node.open(START + 2);
    let c = keys.set().published()[0];
    assert!(c.kid != a.kid && c.kid != b.kid);
    assert_eq!(node.replay_files(), [format!("replay-{}", c.kid)]);
}

#[test]
fn the_id_of_a_next_key_that_was_lost_is_not_used_again() {
    let mut node = Node::new(24);
    let keys = node.open(START);
    node.turn(&keys, START);
    let [a, b] = <[_; 2]>::try_from(keys.set().published()).unwrap();
    drop(keys);
    fs::write(replay_path(node.folder.path(), b.kid), b"garbage").unwrap();
    let keys = node.open(START + 1);
    assert_eq!(keys.set().published(), std::slice::from_ref(&a));
    assert!(node.turn(&keys, START + 1));
    let [current, next] = <[_; 2]>::try_from(keys.set().published()).unwrap();
    assert_eq!(current, a);
    assert!(next.kid != a.kid && next.kid != b.kid, "records name the lost key under {}", b.kid);
}

#[test]
fn the_keys_are_hidden_and_a_damaged_file_is_named_and_not_replaced() {
    let mut node = Node::new(24);
    drop(node.open(START));
    let path = node.folder.path().join(KEYS_FILE);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let folder = node.node_folder();
    let same = r#"{"current": {"kid": 1, "secret": "SS"}, "next": {"kid": 1, "secret": "SS"}}"#;
    for text in ["nonsense".to_owned(), same.replace("SS", &"ab".repeat(32))] {
        fs::write(&path, &text).unwrap();
        let policy = KeyPolicy::every_hours(0);
        let error = OnionKeys::open(&folder, policy, &mut node.entropy, Millis(0)).unwrap_err().to_string();
        assert!(error.contains(KEYS_FILE), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_record_can_be_made_before_the_server_ever_ran() {
    let mut node = Node::new(24);
    let folder = node.node_folder();
    let first = published(&folder, &mut node.entropy).unwrap();
    assert_eq!(published(&folder, &mut node.entropy).unwrap(), first);
    let keys = node.open(START);
    assert_eq!(keys.set().published(), first);
    node.turn(&keys, START);
    assert_eq!(published(&folder, &mut node.entropy).unwrap(), keys.set().published());
}

#[test]
fn ids_rise_wrap_and_are_never_zero_or_taken() {
    assert_eq!(fresh_kid(&[]), 1);
    assert_eq!(fresh_kid(&[3, 7, 5]), 8);
    assert_eq!(fresh_kid(&[u16::MAX]), 1);
    assert_eq!(fresh_kid(&[u16::MAX, 1, 2]), 3);
}
