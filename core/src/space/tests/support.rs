//! People by number, and a way to say what they do.

use std::collections::BTreeMap;

use crate::identity::{Author, Identity, LogId, OperationId};
use crate::ops::{Action, Hidden, InviteTerms, Level, RoomKeys, RoomText, SpaceText, space_id};
use crate::space::{Entry, Judgement, Membership, Statement, Verdict};

pub(super) const NONCE: [u8; 32] = [9; 32];

pub(super) fn who(number: u8) -> Author {
    Author([number; 32])
}

pub(super) fn person(number: u8) -> Identity {
    who(number).into()
}

pub(super) fn space() -> LogId {
    space_id(who(0), &NONCE)
}

pub(super) fn id(number: usize) -> OperationId {
    OperationId(*blake3::hash(&number.to_be_bytes()).as_bytes())
}

pub(super) fn entry(number: usize, author: u8, heads: &[OperationId], action: Action) -> Entry {
    Entry {
        id: id(number),
        author: who(author),
        seq_num: u32::try_from(number).unwrap(),
        heads: heads.to_vec(),
        statement: Statement::Action(action),
    }
}

pub(super) fn creation() -> Entry {
    entry(0, 0, &[], Action::SpaceCreate { nonce: NONCE, about: SpaceText::default(), certificate: None })
}

pub(super) fn add(number: u8, level: Level) -> Action {
    Action::Add { member: person(number), level, invite: None, claim: None }
}

pub(super) fn room(number: u8) -> Action {
    let keys = RoomKeys { write: Hidden([1; 32]), secret: Hidden([2; 32]) };
    Action::RoomCreate { nonce: [number; 32], about: RoomText::default(), keys }
}

pub(super) fn invitation(once: bool) -> Action {
    Action::InviteCreate(InviteTerms { token: Hidden([7; 32]), level: Level::Write, expires: None, once })
}

/// A space whose person 0 is its first manager, and a pen.
pub(super) struct Space {
    pub(super) members: Membership,
    pub(super) log: Vec<Entry>,
}

impl Space {
    pub(super) fn new() -> Self {
        let mut space = Self { members: Membership::new(space()), log: Vec::new() };
        space.put(creation());
        space
    }

    fn put(&mut self, entry: Entry) -> Option<Verdict> {
        self.log.push(entry.clone());
        let id = entry.id;
        self.members.insert(entry).into_iter().find(|(other, _)| *other == id).map(|(_, verdict)| verdict)
    }

    /// Says something at `heads`; gives its id and what became of it.
    pub(super) fn at(&mut self, heads: &[OperationId], author: u8, action: Action) -> (OperationId, Verdict) {
        let entry = entry(self.log.len(), author, heads, action);
        let id = entry.id;
        (id, self.put(entry).expect("judged at once"))
    }

    /// Says something knowing everything there is; it must be accepted.
    pub(super) fn done(&mut self, author: u8, action: Action) -> OperationId {
        let heads = self.members.cite(who(author));
        let (id, verdict) = self.at(&heads, author, action);
        assert_eq!(verdict, Verdict::Accepted);
        id
    }

    /// Says something knowing everything there is.
    pub(super) fn tried(&mut self, author: u8, action: Action) -> Verdict {
        let heads = self.members.cite(who(author));
        self.at(&heads, author, action).1
    }

    pub(super) fn levels(&self) -> BTreeMap<u8, Level> {
        let state = self.members.current().unwrap();
        state.levels.iter().map(|(who, level)| (who.0[0], *level)).collect()
    }

    pub(super) fn levels_len(&self) -> usize {
        self.members.current().unwrap().levels.len()
    }

    pub(super) fn judged(&self, author: u8) -> Judgement {
        self.members.judge(who(author), &self.members.cite(who(author)), None)
    }
}
