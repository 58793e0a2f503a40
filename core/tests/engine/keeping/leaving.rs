//! Leavings that wait in a topic their author may not write in any more: asked for by inbox, they are forgotten.

use std::sync::Arc;

use delta_core::engine::{Command, Network};
use delta_core::ops::{Action, Level};
use delta_core::topic::TopicId;

use super::Town;
use crate::support::World;

/// A network in which everything can be read, and nothing sent.
fn without_relays() -> Network {
    let network = World::new(TopicId([0; 32])).tunnel_network(3);
    let relays: Vec<_> = network.directory.relays().cloned().collect();
    let is_left = |node: &&delta_core::onion::directory::Node| node.operator.as_deref() != Some("operator 2");
    let relays: Vec<_> = relays.iter().filter(is_left).cloned().collect();
    let directory = delta_core::onion::directory::Directory::from_nodes(1, u64::MAX, relays);
    Network { directory: Arc::new(directory), ..network }
}

fn demote(town: &mut Town) {
    let member = town.author(1).into();
    town.act(0, Action::Demote { member, level: Level::Read }).unwrap();
    for _ in 0..3 {
        town.settle();
    }
    assert!(!town.ticket(1, town.space).can_write());
}

/// The second person is removed, and let in again to write.
fn comes_again(town: &mut Town) {
    let member = town.author(1).into();
    town.act(0, Action::Remove { member }).unwrap();
    town.settle();
    town.act(0, Action::Add { member, level: Level::Write, invite: None, claim: None }).unwrap();
    for _ in 0..4 {
        town.wait(70_000);
    }
    assert!(town.ticket(1, town.space).can_write());
    town.agree(&[0, 1, 2]);
}

/// It is there, and says and hears everything.
fn stays(town: &mut Town) {
    for who in [0, 1, 2] {
        assert!(town.members(who).contains(&town.author(1).into()), "as {who} sees it");
    }
    town.say(1, "here again").unwrap();
    town.settle();
    // What it says about the space counts with all others, whatever stood before.
    town.promote(1);
    town.act(1, Action::Mute { member: town.author(2).into(), until: None }).unwrap();
    for _ in 0..10 {
        town.wait(60_000);
    }
    for who in [0, 1, 2] {
        assert_eq!(town.texts(who), ["here again"]);
        let rows = town.people[who].reader().members(&town.space).unwrap();
        let muted: Vec<_> = rows.iter().filter(|row| row.standing.muted).map(|row| row.member).collect();
        assert_eq!(muted, [town.author(2).into()], "as {who} sees it");
    }
    let totals = town.people[1].reader().outbox_totals().unwrap();
    assert_eq!(totals, Default::default());
}

#[test]
fn a_leaving_that_was_asked_for_is_not_said_when_its_author_comes_again() {
    let mut town = Town::new(2, true);
    town.people[1].hold = true;
    town.act(1, Action::Leave).unwrap();
    demote(&mut town);
    // What it sent where it could still write never arrives.
    drop(town.people[1].held.remove(0));
    assert!(!town.people[1].held.is_empty(), "it asks");
    comes_again(&mut town);
    town.release(1);
    for _ in 0..3 {
        town.settle();
    }
    stays(&mut town);
}

#[test]
fn a_leaving_that_no_packet_ever_held_leaves_no_trace_once_it_was_asked_for() {
    let mut town = Town::new(2, true);
    town.people[1].command(&mut town.net, Command::Configure(without_relays())).unwrap();
    let log_end = |town: &Town| {
        let ends = town.people[1].reader().log_heads(&town.space).unwrap();
        ends.into_iter().find(|end| end.author == town.author(1)).map(|end| end.seq_num)
    };
    let before = log_end(&town);
    town.act(1, Action::Leave).unwrap();
    assert!(log_end(&town) > before);
    demote(&mut town);
    assert_eq!(log_end(&town), before);
    assert!(town.members(1).contains(&town.author(1).into()), "as everybody else sees it");
    let network = World::new(TopicId([0; 32])).tunnel_network(3);
    town.people[1].hold = true;
    town.people[1].command(&mut town.net, Command::Configure(network)).unwrap();
    comes_again(&mut town);
    town.release(1);
    for _ in 0..3 {
        town.settle();
    }
    stays(&mut town);
}
