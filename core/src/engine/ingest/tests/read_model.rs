//! The read model: its rules by example, and against a model that knows nothing of arrival.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::support::{Device, LOG, View, Writer, ticket};
use crate::identity::{Author, Millis, OperationId};
use crate::ops::{Content, VerifiedOperation};
use crate::projector::{Place, Position};
use crate::store::{MessageRow, ProfileRow, ReactionRow};
use crate::topic::Seq;

#[test]
fn an_edit_changes_the_row_and_keeps_history() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let message = writer.say("teh");
    let (first, second) = (writer.edit(message.id(), "the"), writer.edit(message.id(), "The"));
    device.receive_all([(1, &message), (2, &first), (3, &second)]);
    assert_eq!(device.texts(), ["The"]);
    assert_eq!(device.messages()[0].edit, Some(second.id()));
    let history = device.store.message_history(&message.id()).unwrap();
    assert_eq!(history.iter().map(|edit| edit.text.as_str()).collect::<Vec<_>>(), ["teh", "the", "The"]);
}

#[test]
fn what_is_said_about_a_message_before_it_comes_is_applied_when_it_comes() {
    let (mut device, mut writer, mut friend) = (Device::new(), Writer::new(1), Writer::new(2));
    let message = writer.say("a");
    let edit = writer.edit(message.id(), "b");
    let reaction = friend.react(message.id(), "👍", true);
    device.receive(1, &reaction);
    device.receive(3, &edit);
    assert_eq!(device.texts(), [""; 0]);
    device.receive(2, &message);
    assert_eq!(device.texts(), ["b"]);
    assert_eq!(device.store.reactions(&message.id()).unwrap()[0].author, friend.author());
}

#[test]
fn a_delete_leaves_a_tombstone_and_erases_every_stored_body() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let message = writer.write(Content::MessageSend {
        text: "secret".into(),
        reply: Some(OperationId([1; 32])),
        mentions: vec![Author([2; 32])],
        attachments: Vec::new(),
    });
    let edit = writer.edit(message.id(), "secret too");
    let delete = writer.delete(message.id());
    let late = writer.edit(message.id(), "said after the delete");
    device.receive_all([(1, &message), (2, &edit), (3, &delete), (4, &late)]);
    let row = device.messages().remove(0);
    assert_eq!((row.text.clone(), row.reply, row.sent_at, row.edit), (None, None, None, None));
    assert_eq!((row.mentions.len(), row.deleted_by), (0, Some(delete.id())));
    assert_eq!(device.store.message_history(&message.id()).unwrap(), []);
    for erased in [&message, &edit, &late] {
        let stored = device.store.operation(&erased.id()).unwrap().unwrap();
        assert_eq!((stored.header, stored.body), (erased.header().to_vec(), None));
        assert_eq!(device.store.operation_bytes(&erased.id()).unwrap(), None, "not delivered again");
    }
    // Coming again brings nothing back.
    device.receive(9, &message);
    device.receive(10, &late);
    assert_eq!(device.messages(), [row]);
}

#[test]
fn case_60_an_edit_or_delete_of_someone_elses_message_is_ignored() {
    let (mut writer, mut other) = (Writer::new(1), Writer::new(2));
    let message = writer.say("mine");
    let (edit, delete) = (other.edit(message.id(), "theirs"), other.delete(message.id()));
    for order in [[1, 2, 3], [3, 2, 1], [2, 1, 3], [3, 1, 2]] {
        let mut device = Device::new();
        for n in order {
            let (seq, op) = [(1, &message), (2, &edit), (3, &delete)][n - 1];
            device.receive(seq, op);
        }
        assert_eq!(device.texts(), ["mine"]);
        assert_eq!(device.messages()[0].edit, None);
        let held = device.store.operation(&edit.id()).unwrap().unwrap().body;
        assert!(held.is_some(), "kept, only not applied");
    }
}

#[test]
fn a_reaction_is_one_per_message_author_and_emoji() {
    let (mut device, mut writer, mut friend) = (Device::new(), Writer::new(1), Writer::new(2));
    let message = writer.say("a");
    let ops = [
        friend.react(message.id(), "👍", true),
        friend.react(message.id(), "👍", true),
        friend.react(message.id(), "🎉", true),
        friend.react(message.id(), "🎉", false),
        friend.react(message.id(), "❤", false),
    ];
    let own = writer.react(message.id(), "👍", true);
    device.receive_all([(1, &message), (2, &own)].into_iter().chain((3..).zip(&ops)));
    let rows = device.store.reactions(&message.id()).unwrap();
    let mut expected = [writer.author(), friend.author()];
    expected.sort();
    assert_eq!(rows.iter().map(|row| row.author).collect::<Vec<_>>(), expected);
    assert!(rows.iter().all(|row| row.emoji == "👍"));
}

#[test]
fn a_profile_is_replaced_whole() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let profile = |name: &str, bio: Option<&str>| Content::ProfileSet {
        name: name.into(),
        bio: bio.map(Into::into),
        avatar: None,
        availability: Some("away".into()),
        public: bio.is_some(),
    };
    let first = writer.write(profile("Ada", Some("counts")));
    let second = writer.write(profile("Ada L.", None));
    device.receive_all([(1, &first), (2, &second)]);
    let row = device.store.profile(&writer.author(), &LOG).unwrap().unwrap();
    assert_eq!((row.name.as_str(), row.bio, row.public, row.id), ("Ada L.", None, false, second.id()));
}

#[test]
fn case_55_clocks_decide_nothing() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let ops: Vec<_> = [u64::MAX, 0, 1 << 63]
        .into_iter()
        .map(|clock| {
            let op = writer.say(&clock.to_string());
            let body = crate::ops::Body { sent_at: Some(Millis(clock)), ..op.body().clone() };
            let key = crate::ops::DeviceKey::from_bytes(&[3; 32]);
            (key, body)
        })
        .collect();
    let mut last = None;
    for (n, (key, body)) in ops.iter().enumerate() {
        let op = crate::ops::create(key, LOG, n as u32, last, body).unwrap();
        last = Some(op.id());
        device.receive(n as u64 + 1, &op);
    }
    assert_eq!(device.texts(), [u64::MAX.to_string(), "0".into(), (1u64 << 63).to_string()]);
}

#[test]
fn pages_of_messages_join_without_hole_or_overlap() {
    use crate::store::Page;
    let (mut device, mut writer, mut other) = (Device::new(), Writer::new(1), Writer::new(2));
    let ops: Vec<_> = (0..25)
        .map(|n| if n % 3 == 0 { other.say(&n.to_string()) } else { writer.say(&n.to_string()) })
        .collect();
    device.receive_all((1..).zip(&ops));
    let all = device.messages();
    assert_eq!(all.len(), 25);
    let mut back = device.store.messages(&LOG, Page::Newest, 7).unwrap();
    assert_eq!(back, all[18..]);
    while let Some(first) = back.first().map(|row| row.position) {
        let page = device.store.messages(&LOG, Page::Before(first), 7).unwrap();
        if page.is_empty() {
            break;
        }
        back.splice(0..0, page);
    }
    assert_eq!(back, all);
    let after = device.store.messages(&LOG, Page::After(all[4].position), 3).unwrap();
    assert_eq!(after, all[5..8]);
    assert_eq!(device.store.message(&ops[4].id()).unwrap().as_ref(), Some(&all[4]));
}

/// The rows a device must show, from the set of operations with their places alone.
fn expected(ops: &[(u64, VerifiedOperation)], authors: &[Author]) -> View {
    let mut logs = BTreeMap::<Author, BTreeMap<u32, (u64, &VerifiedOperation)>>::new();
    for (seq, op) in ops {
        logs.entry(op.author()).or_default().insert(op.seq_num(), (*seq, op));
    }
    let mut view = View {
        messages: Vec::new(),
        operations: Vec::new(),
        erased: Vec::new(),
        histories: Vec::new(),
        reactions: Vec::new(),
        profiles: Vec::new(),
        heads: Vec::new(),
        holes: vec![Vec::new(); authors.len()],
        ends: vec![None; authors.len()],
    };
    let mut rows = Vec::new();
    for (author, log) in &logs {
        let mut before = 0;
        let mut next = 0;
        for (seq_num, (seq, op)) in log {
            if *seq_num > next {
                let index = authors.iter().position(|each| each == author).unwrap();
                view.holes[index].push((next, seq_num - 1));
            }
            next = seq_num + 1;
            let position = before.max(*seq);
            before = position;
            view.operations.push(op.id());
            if let Content::MessageSend { .. } = op.body().content {
                rows.push((position, *author, *seq_num, *seq, *op));
            }
        }
        view.heads.push(log.values().last().unwrap().1.id());
    }
    rows.sort_by_key(|(position, author, seq_num, ..)| (*position, *author, *seq_num));
    for (position, author, seq_num, seq, op) in rows {
        let position = Position { place: at(position), author, seq_num };
        expect_message(&mut view, position, seq, op, &logs);
    }
    for author in authors {
        let set = logs.get(author).into_iter().flat_map(|log| log.values().rev());
        view.profiles.extend(set.filter_map(|(_, op)| profile_row(op)).take(1));
    }
    view.erased.sort_by_key(|id| view.operations.iter().position(|each| each == id));
    view
}

type Logs<'a> = BTreeMap<Author, BTreeMap<u32, (u64, &'a VerifiedOperation)>>;

fn expect_message(view: &mut View, position: Position, seq: u64, op: &VerifiedOperation, logs: &Logs<'_>) {
    let Content::MessageSend { text, reply, mentions, .. } = &op.body().content else { return };
    let own = || logs[&position.author].values().map(|(_, op)| *op);
    let edits: Vec<_> = own()
        .filter_map(|edit| match &edit.body().content {
            Content::MessageEdit { target, text } if *target == op.id() => Some((edit, text)),
            _ => None,
        })
        .collect();
    let delete = own().find(|delete| delete.body().content == Content::MessageDelete { target: op.id() });
    let shown = if delete.is_none() { edits.last() } else { None };
    view.messages.push(MessageRow {
        id: op.id(),
        log: LOG,
        position,
        text: delete.is_none().then(|| shown.map_or(text, |(_, text)| text).clone()),
        reply: reply.filter(|_| delete.is_none()),
        mentions: if delete.is_none() { mentions.clone() } else { Vec::new() },
        attachments: Vec::new(),
        edit: shown.map(|(edit, _)| edit.id()),
        edited_at: shown.and_then(|(edit, _)| edit.body().sent_at),
        deleted_by: delete.map(|delete| delete.id()),
        sent_at: op.body().sent_at.filter(|_| delete.is_none()),
        received_at: Some(Millis(50_000 + seq)),
    });
    let texts = [op.id()].into_iter().chain(edits.iter().map(|(edit, _)| edit.id()));
    match delete {
        None => view.histories.push(texts.collect()),
        Some(_) => {
            view.erased.extend(texts);
            view.histories.push(Vec::new());
        }
    }
    let mut decided = BTreeMap::new();
    for (author, log) in logs {
        for (_, reaction) in log.values() {
            match &reaction.body().content {
                Content::ReactionAdd { target, emoji } if *target == op.id() => {
                    decided.insert((emoji.clone(), *author), Some(reaction.id()));
                }
                Content::ReactionRemove { target, emoji } if *target == op.id() => {
                    decided.insert((emoji.clone(), *author), None);
                }
                _ => {}
            }
        }
    }
    let stands = decided.into_iter().filter_map(|((emoji, author), id)| Some((emoji, author, id?)));
    view.reactions.extend(stands.map(|(emoji, author, id)| ReactionRow {
        message: op.id(),
        emoji,
        author,
        identity: author.into(),
        id,
    }));
}

fn profile_row(op: &VerifiedOperation) -> Option<ProfileRow> {
    let Content::ProfileSet { name, bio, avatar, availability, public } = op.body().content.clone() else {
        return None;
    };
    Some(ProfileRow { author: op.author(), log: LOG, id: op.id(), name, bio, avatar, availability, public })
}

fn at(seq: u64) -> Place {
    Place { epoch: 0, resets: 0, seq: Seq(seq) }
}

/// (author, what, about which message, which emoji or text)
type Act = (usize, u8, prop::sample::Index, u8);

fn perform(acts: &[Act]) -> (Vec<Author>, Vec<VerifiedOperation>) {
    let mut writers: Vec<Writer> = (1..=3).map(Writer::new).collect();
    let mut messages: Vec<OperationId> = Vec::new();
    let mut ops = Vec::new();
    for (who, what, target, n) in acts {
        let target = messages.get(target.index(messages.len().max(1))).copied();
        let writer = &mut writers[*who];
        let emoji = ["👍", "🎉"][usize::from(n % 2)];
        let op = match (what, target) {
            (0 | 1, Some(target)) => writer.edit(target, &format!("edit {n}")),
            (2, Some(target)) => writer.delete(target),
            (3 | 4, Some(target)) => writer.react(target, emoji, *what == 3),
            (5, _) => writer.write(Content::ProfileSet {
                name: format!("name {n}"),
                bio: (n % 2 == 0).then(|| "bio".into()),
                avatar: None,
                availability: None,
                public: n % 3 == 0,
            }),
            (_, reply) => writer.write(Content::MessageSend {
                text: format!("text {n}"),
                reply: reply.filter(|_| n % 2 == 0),
                mentions: if n % 3 == 0 { vec![Author([*n; 32])] } else { Vec::new() },
                attachments: Vec::new(),
            }),
        };
        if let Content::MessageSend { .. } = op.body().content {
            messages.push(op.id());
        }
        ops.push(op);
    }
    (writers.iter().map(Writer::author).collect(), ops)
}

/// Acts, their places (in order, or shuffled), their arrival, and which never come.
#[allow(clippy::type_complexity, reason = "a strategy's tuple")]
fn scenario() -> impl Strategy<Value = (Vec<Act>, Vec<u64>, Vec<usize>, Vec<bool>)> {
    let act = (0..3usize, 0..9u8, any::<prop::sample::Index>(), any::<u8>());
    prop::collection::vec(act, 1..20).prop_flat_map(|acts| {
        let n = acts.len();
        let in_order: Vec<u64> = (2..n as u64 + 2).collect();
        let places = prop_oneof![Just(in_order.clone()), Just(in_order).prop_shuffle()];
        let arrival = Just((0..n).collect::<Vec<_>>()).prop_shuffle();
        let missing = prop_oneof![Just(vec![false; n]), prop::collection::vec(prop::bool::weighted(0.2), n)];
        (Just(acts), places, arrival, missing)
    })
}

proptest! {
    #[test]
    fn rows_do_not_depend_on_the_order_of_arrival_and_can_be_built_again(
        (acts, places, arrival, missing) in scenario(),
        batches in prop::collection::vec(1..6usize, 20),
    ) {
        let (authors, ops) = perform(&acts);
        let held: Vec<(u64, VerifiedOperation)> = places.into_iter().zip(ops).collect();
        let mut device = Device::new();
        // Something may have been evicted, so what misses its predecessor stands as an anchor.
        device.write(|tx| tx.add_gap(ticket(0).topic(), 0, Seq(1), Seq(1)).unwrap());
        let mut left: Vec<usize> = arrival.into_iter().filter(|n| !missing[*n]).collect();
        for size in batches {
            let batch: Vec<usize> = left.drain(..size.min(left.len())).collect();
            device.receive_all(batch.iter().map(|n| (held[*n].0, &held[*n].1)));
        }
        device.receive_all(left.iter().map(|n| (held[*n].0, &held[*n].1)));
        let came: Vec<_> = held.into_iter().zip(&missing).filter(|(_, missing)| !**missing).map(|(op, _)| op).collect();
        let view = device.view(&authors);
        prop_assert_eq!(&view, &expected(&came, &authors));
        device.write(|tx| tx.rebuild().unwrap());
        prop_assert_eq!(device.view(&authors), view);
    }
}
