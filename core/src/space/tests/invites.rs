//! Invitations: their text, their claims, and who comes in by them.

use super::support::{Space, invitation, person, space, who};
use crate::codec::DecodeError;
use crate::entropy::SeededEntropy;
use crate::identity::OperationId;
use crate::ops::{Action, Hidden, Level, Ticket};
use crate::space::{Invite, InviteError, Refusal, Verdict, claim_mac, verify_claim};

fn with(invite: OperationId, number: u8, level: Level) -> Action {
    Action::Add { member: person(number), level, invite: Some(invite), claim: None }
}

#[test]
fn a_one_time_invitation_admits_one() {
    let mut space = Space::new();
    let invite = space.done(0, invitation(true));
    assert_eq!(
        space.tried(0, with(invite, 1, Level::Manage)),
        Verdict::Refused(Refusal::Invite),
        "other terms"
    );
    space.done(0, with(invite, 1, Level::Write));
    assert_eq!(space.tried(0, with(invite, 2, Level::Write)), Verdict::Refused(Refusal::Invite));
    let open = space.done(0, invitation(false));
    space.done(0, with(open, 2, Level::Write));
    space.done(0, with(open, 3, Level::Write));
    space.done(0, Action::InviteRevoke { invite: open });
    assert_eq!(space.tried(0, with(open, 4, Level::Write)), Verdict::Refused(Refusal::Invite), "revoked");
    assert_eq!(space.tried(0, Action::InviteRevoke { invite: open }), Verdict::Refused(Refusal::Invite));
    assert_eq!(space.levels().len(), 4);
}

#[test]
fn of_two_adds_by_one_invitation_the_lower_id_stands() {
    for (first, second) in [(1, 2), (2, 1)] {
        let mut space = Space::new();
        space.done(0, super::support::add(9, Level::Manage));
        let invite = space.done(0, invitation(true));
        let (a, _) = space.at(&[invite], 0, with(invite, first, Level::Write));
        let (b, _) = space.at(&[invite], 9, with(invite, second, Level::Write));
        let stands = if a < b { first } else { second };
        let levels = space.levels();
        assert!(levels.contains_key(&stands) && levels.len() == 3, "{levels:?}");
        // Whoever comes later knows that it was used.
        assert_eq!(space.tried(0, with(invite, 5, Level::Write)), Verdict::Refused(Refusal::Invite));
    }
}

#[test]
fn an_add_that_does_not_count_uses_up_no_invitation() {
    let mut space = Space::new();
    space.done(0, super::support::add(9, Level::Manage));
    let invite = space.done(0, invitation(true));
    space.at(&[invite], 9, with(invite, 1, Level::Write));
    space.at(&[invite], 0, Action::Remove { member: person(9) });
    assert!(!space.levels().contains_key(&1), "its author was removed at the same time");
    space.done(0, with(invite, 2, Level::Write));
    assert!(space.levels().contains_key(&2));
}

#[test]
fn a_claim_is_of_one_person_on_one_device_for_one_invitation() {
    let token = Hidden([7; 32]);
    let id = OperationId([5; 32]);
    let mac = claim_mac(&token, space(), id, person(1), who(2));
    assert!(verify_claim(&mac, &claim_mac(&token, space(), id, person(1), who(2))));
    // By an independent BLAKE3: blake3(bytes, key=blake3(token, derive_key_context="delta invite claim v1").digest()).
    let (log, id4) = (crate::identity::LogId([1; 32]), OperationId([2; 32]));
    let known = claim_mac(&token, log, id4, person(3), who(4));
    assert_eq!(hex::encode(known), "932938219a9849a0e59f078cec473e8013c6cfa2a141bedd982da90fe1c30c4d");
    let others = [
        claim_mac(&Hidden([8; 32]), space(), id, person(1), who(2)),
        claim_mac(&token, crate::identity::LogId([1; 32]), id, person(1), who(2)),
        claim_mac(&token, space(), OperationId([6; 32]), person(1), who(2)),
        claim_mac(&token, space(), id, person(2), who(2)),
        claim_mac(&token, space(), id, person(1), who(1)),
    ];
    assert!(others.iter().all(|other| !verify_claim(&mac, other)));
}

#[test]
fn an_invitations_text_is_read_back_and_nothing_else_is() {
    let ticket = Ticket::generate_private(&mut SeededEntropy::new([3; 32])).unwrap();
    let invite = Invite { ticket, id: OperationId([5; 32]), token: Hidden([7; 32]) };
    let text = invite.to_string();
    assert_eq!(text.len(), (166 * 8usize).div_ceil(5));
    let read = Invite::parse(&text).unwrap();
    assert_eq!(
        (read.id, read.token.clone(), read.ticket.to_string()),
        (invite.id, invite.token.clone(), invite.ticket.to_string())
    );
    assert!(!format!("{invite:?}").contains("070707"));
    assert_eq!(Invite::parse(&text.to_uppercase()).unwrap_err(), InviteError::Alphabet);
    let bytes = z32::decode(text.as_bytes()).unwrap();
    let parse = |bytes: &[u8]| Invite::parse(&z32::encode(bytes)).unwrap_err();
    assert_eq!(parse(&[&[2], &bytes[1..]].concat()), InviteError::Version { found: 2 });
    assert_eq!(parse(&bytes[..165]), DecodeError::Truncated("token").into());
    assert_eq!(parse(&[&bytes[..], &[0]].concat()), DecodeError::Trailing(1).into());
    assert_eq!(parse(&[]), DecodeError::Truncated("version").into());
}
