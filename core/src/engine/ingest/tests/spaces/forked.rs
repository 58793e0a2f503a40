//! Forks in a space's own log: both branches of what is done there stand, on every device and at once; of two creations
//! the first alone.

use super::*;

/// What `person` does in the space once more, from `ends` on (`None`: from the beginning), as the log's last.
fn branch(
    world: &mut World,
    person: usize,
    ends: Option<(u32, OperationId)>,
    heads: Vec<OperationId>,
    action: Action,
) -> VerifiedOperation {
    let at = (person, space());
    let known = world.ends.remove(&at);
    world.ends.extend(ends.map(|ends| (at, ends)));
    let op = world.write(person, space(), heads, Content::Membership(Box::new(action)));
    world.ends.extend(known.map(|known| (at, known)));
    op
}

#[test]
fn case_53_both_branches_of_a_managers_log_count_as_soon_as_they_are_read() {
    let mut world = World::peopled();
    world.act(1, add(4, Level::Read));
    let (ends, heads) = (world.ends[&(1, space())], world.graph.cite(who(1)));
    world.act(1, Action::Mute { member: who(2).into(), until: None });
    branch(&mut world, 1, Some(ends), heads, Action::Remove { member: who(3).into() });
    let view = everywhere(&world);
    let standing = |person: usize| view.members.iter().find(|row| row.member == who(person).into());
    assert!(standing(2).unwrap().standing.muted, "the first one counts");
    assert_eq!(standing(3).and_then(|row| row.standing.level), None, "and the second one, too");
    assert_eq!(standing(4).unwrap().standing.level, Some(Level::Read));
    let kinds: Vec<_> = view.audit.iter().map(|row| row.kind.as_str()).collect();
    assert!(kinds.contains(&"member.mute") && kinds.contains(&"member.remove"), "{kinds:?}");
}

#[test]
fn case_53_a_former_founder_does_not_found_the_space_again() {
    let mut world = World::peopled();
    world.act(0, Action::Transfer { member: who(2).into() });
    let before = everywhere(&world);
    let first = world.written[0].1.id();
    // Until its id is below the first one's.
    let again = (0..1_000).find_map(|number: u32| {
        let about = SpaceText { name: number.to_string(), ..SpaceText::default() };
        let create = Action::SpaceCreate { nonce: NONCE, about, certificate: None };
        let op = branch(&mut world, 0, None, Vec::new(), create);
        if op.id() < first {
            return Some(op);
        }
        world.written.pop();
        *world.places.get_mut(&space()).unwrap() -= 1;
        None
    });
    let again = again.unwrap().id();
    let after = everywhere(&world);
    assert_eq!((&after.members, &after.space), (&before.members, &before.space));
    // Nor does anything count that somebody builds on it.
    world.act_at(1, vec![again], add(4, Level::Manage));
    assert_eq!(everywhere(&world).members, before.members);
}
