//! Whatever is done and in whatever order it arrives, the rows are the same.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// One deed: who, what, to whom, and which earlier moment its author's knowledge is from (none: everything).
type Deed = (usize, u8, usize, Option<Index>);

fn perform(deeds: &[Deed]) -> World {
    let mut world = World::peopled();
    let mut said = vec![world.say(2, "first")];
    let mut moments = vec![world.graph.cite(who(0))];
    for (number, (person, kind, other, knows)) in deeds.iter().enumerate() {
        let (person, member) = (*person, who(*other).into());
        let heads = match knows {
            Some(index) => index.get(&moments).clone(),
            None => world.graph.cite(who(person)),
        };
        let target = said[other % said.len()];
        match kind {
            0..=2 => said.push(world.say_at(person, heads, &format!("text {number}"))),
            3 => drop(world.write(person, room(), heads, Content::MessageDelete { target })),
            4 => {
                let text = format!("edit {number}");
                world.write(person, room(), heads, Content::MessageEdit { target, text });
            }
            5 => {
                let emoji = "👍".into();
                world.write(person, room(), heads, Content::ReactionAdd { target, emoji });
            }
            6 => drop(world.act_at(person, heads, add(*other, Level::Write))),
            7 => drop(world.act_at(person, heads, Action::Remove { member })),
            8 => drop(world.act_at(person, heads, Action::Promote { member, level: Level::Manage })),
            9 => drop(world.act_at(person, heads, Action::Demote { member, level: Level::Read })),
            10 => drop(world.act_at(person, heads, Action::Mute { member, until: None })),
            11 => drop(world.act_at(person, heads, Action::Unmute { member })),
            12 => drop(world.act_at(person, heads, Action::Ban { member, reason: None })),
            13 => drop(world.act_at(person, heads, Action::RoomArchive { room: room() })),
            14 => drop(world.act_at(person, heads, Action::RoomUnarchive { room: room() })),
            _ => {
                let inbox = inbox_log(&who(person), &OWNER);
                drop(world.write(person, inbox, vec![], Content::JoinRequest { text: None, space: space() }));
            }
        }
        moments.push(world.graph.cite(who(person)));
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn case_62_any_arrival_order_and_a_rebuild_give_the_same_rows(
        deeds in prop::collection::vec(
            (0..PEOPLE, 0..16u8, 0..PEOPLE, prop::option::of(any::<Index>())), 1..24),
        order in Just((0..64usize).collect::<Vec<_>>()).prop_shuffle(),
        cuts in prop::collection::vec(any::<bool>(), 64),
    ) {
        let world = perform(&deeds);
        let view = Device::with(&world).view();
        prop_assert_eq!(view.unjudged, 0);

        // What is shown is what the graph says of each operation.
        let mut shown = Vec::new();
        for (_, op) in &world.written {
            let Content::MessageSend { .. } = op.body().content else { continue };
            let judged = world.graph.judge(op.author(), &op.body().auth_heads, Some(room()));
            if matches!(judged, Judgement::Counts { .. }) {
                shown.push(op.id());
            }
        }
        shown.sort_unstable();
        let mut rows: Vec<_> = view.messages.iter().map(|row| row.id).collect();
        rows.sort_unstable();
        prop_assert_eq!(rows, shown);

        // In another order, in batches.
        let mut device = Device::new();
        let shuffled: Vec<_> = order.iter().filter_map(|place| world.written.get(*place)).collect();
        let mut batches = vec![Vec::new()];
        for (written, cut) in shuffled.into_iter().zip(cuts) {
            if cut {
                batches.push(Vec::new());
            }
            batches.last_mut().unwrap().push(written);
        }
        for batch in batches {
            device.write(|tx| {
                for (place, op) in batch {
                    ingest(tx, &context(*place, op), op).unwrap();
                }
            });
        }
        prop_assert_eq!(&device.view(), &view);
        device.write(|tx| tx.rebuild().unwrap());
        prop_assert_eq!(&device.view(), &view);
    }
}
