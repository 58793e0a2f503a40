//! The membership of one space: operations in, judgements out.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::graph::{Entry, Graph, Point, Statement, Verdict};
use super::line::Line;
use super::resolve::settle;
use super::rules::{Refusal, View};
use super::state::{Register, Standing, State};
use crate::identity::{Author, Identity, LogId, Millis, OperationId};
use crate::ops::{Action, Level, MAX_AUTH_HEADS, room_id, space_id};
use crate::projector::Place;
use crate::tree::{Arrange, Map, Set};

/// Settled points kept for the next look.
const SETTLED: usize = 64;

/// Judgements kept for the next look: most of what comes cites what the operation before it did.
const JUDGED: usize = 1024;

/// Judgements of who cites one operation, in the space or a room: they never change.
type Judged = BTreeMap<(Author, OperationId, Option<LogId>), Judgement>;
/// Points where several heads are settled, by these.
type Settled = Map<Vec<OperationId>, Result<Arc<State>, Refusal>>;

/// Everything known about the membership of one space.
#[derive(Debug)]
pub struct Membership {
    pub(super) space: LogId,
    pub(super) graph: Graph,
    /// What waits, by an operation it cites.
    waiting: BTreeMap<OperationId, Vec<Entry>>,
    /// Accepted operations that no accepted one cites.
    pub(super) ends: BTreeSet<OperationId>,
    suspended: BTreeSet<OperationId>,
    /// Accepted, and not asked for by [`Membership::take_accepted`] yet.
    fresh: Vec<OperationId>,
    /// Claims that accepted operations answer, and which do.
    answered: Set<(OperationId, OperationId)>,
    line: RefCell<Line>,
    settled: RefCell<Settled>,
    judged: RefCell<Judged>,
}

/// What an operation in a space's log or one of its rooms counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It counts.
    Counts {
        /// Its author was a manager.
        manager: bool,
        /// Whose device its author was.
        identity: Identity,
    },
    /// It is ignored everywhere.
    Ignored,
    /// It cites an operation that is not known, or not understood, here.
    Waits(OperationId),
}

/// A device that a space was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub device: Author,
    /// Whose.
    pub identity: Identity,
    /// It speaks for its identity no more.
    pub revoked: bool,
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// The operation.
    pub id: OperationId,
    /// Above that of everything it builds on.
    pub rank: u32,
    /// Who did it.
    pub who: Identity,
    /// Its kind.
    pub kind: &'static str,
    /// Whom it is about.
    pub subject: Option<Identity>,
    /// The device it is about.
    pub device: Option<Author>,
}

impl Membership {
    /// Nothing known yet.
    pub fn new(space: LogId) -> Self {
        Self {
            space,
            graph: Graph::default(),
            waiting: BTreeMap::new(),
            ends: BTreeSet::new(),
            suspended: BTreeSet::new(),
            fresh: Vec::new(),
            answered: Set::new(),
            line: RefCell::default(),
            settled: RefCell::default(),
            judged: RefCell::default(),
        }
    }

    /// Takes an operation. Gives what was judged by that: it, and what waited for it; nothing if it waits itself.
    pub fn insert(&mut self, entry: Entry) -> Vec<(OperationId, Verdict)> {
        let mut ready = vec![entry];
        let mut judged = Vec::new();
        while let Some(entry) = ready.pop() {
            if self.graph.nodes.contains_key(&entry.id) {
                continue;
            }
            if let Some(missing) = entry.heads.iter().find(|head| !self.is_judged(head)) {
                let waiting = self.waiting.entry(*missing).or_default();
                if waiting.iter().all(|other| other.id != entry.id) {
                    waiting.push(entry);
                }
                continue;
            }
            let id = entry.id;
            judged.push((id, self.judge_entry(entry)));
            ready.extend(self.waiting.remove(&id).unwrap_or_default());
        }
        judged
    }

    /// Whether an operation may be cited: it is known, and what it did is understood.
    pub fn is_judged(&self, id: &OperationId) -> bool {
        self.graph.nodes.get(id).is_some_and(|node| node.verdict != Verdict::Suspends)
    }

    fn judge_entry(&mut self, entry: Entry) -> Verdict {
        let id = entry.id;
        let (verdict, identity, point, changes) = match self.decide(&entry) {
            Ok((verdict, identity, point)) => {
                let view = View { graph: &self.graph, space: self.space, point: &point };
                let changes = match &entry.statement {
                    Statement::Action(action) => view.changes(id, identity, action),
                    Statement::Unknown | Statement::Malformed => Vec::new(),
                };
                (verdict, identity, point, changes)
            }
            Err(refusal) => {
                let nowhere = Point::Settled(Arc::default());
                (Verdict::Refused(refusal), entry.author.into(), nowhere, Vec::new())
            }
        };
        match verdict {
            Verdict::Accepted => {
                for head in &entry.heads {
                    self.ends.remove(head);
                }
                self.ends.insert(id);
                self.fresh.push(id);
                if let Statement::Action(Action::Add { claim: Some(claim), .. }) = &entry.statement {
                    self.answered.insert((*claim, id));
                }
            }
            Verdict::Suspends => drop(self.suspended.insert(id)),
            Verdict::Refused(_) => {}
        }
        self.graph.put(entry, identity, verdict, point, changes);
        if verdict == Verdict::Accepted {
            self.line.get_mut().take(&self.graph, id);
        }
        verdict
    }

    /// What becomes of an operation, for whom its author acts, and where.
    fn decide(&self, entry: &Entry) -> Result<(Verdict, Identity, Point), Refusal> {
        if entry.heads.is_empty() {
            return Ok((Verdict::Accepted, self.founder(entry)?, Point::Settled(Arc::default())));
        }
        let point = self.point(&entry.heads)?;
        let view = View { graph: &self.graph, space: self.space, point: &point };
        let (verdict, identity) = match &entry.statement {
            Statement::Malformed => return Err(Refusal::Malformed),
            Statement::Action(action) => (Verdict::Accepted, view.check(entry.author, action)?),
            // From whoever could do nothing it is nothing: else anybody who may write could stop the space.
            Statement::Unknown => {
                let identity = view.identity(entry.author).ok_or(Refusal::NotAllowed)?;
                if view.level(identity) != Some(Level::Manage) {
                    return Err(Refusal::NotAllowed);
                }
                (Verdict::Suspends, identity)
            }
        };
        Ok((verdict, identity, point))
    }

    /// Who made the space.
    fn founder(&self, entry: &Entry) -> Result<Identity, Refusal> {
        let Statement::Action(Action::SpaceCreate { nonce, certificate, .. }) = &entry.statement else {
            return Err(Refusal::Heads);
        };
        if entry.seq_num != 0 || space_id(entry.author, nonce) != self.space {
            return Err(Refusal::NotTheCreation);
        }
        match certificate {
            None => Ok(entry.author.into()),
            Some(certificate) => {
                certificate.verify(&entry.author).map_err(|_| Refusal::Certificate)?;
                Ok(certificate.identity)
            }
        }
    }

    /// The point of the graph that heads, all judged, name together.
    pub(super) fn point(&self, heads: &[OperationId]) -> Result<Point, Refusal> {
        let nodes = heads.iter().map(|head| self.graph.nodes.get(head).ok_or(Refusal::Heads));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let first = nodes.first().ok_or(Refusal::Heads)?;
        if nodes.iter().any(|node| node.verdict != Verdict::Accepted || node.root != first.root) {
            return Err(Refusal::Heads);
        }
        match self.graph.last_of(heads).as_slice() {
            [head] => Ok(Point::After(*head)),
            heads => self.settled(heads).map(Point::Settled),
        }
    }

    fn settled(&self, heads: &[OperationId]) -> Result<Arc<State>, Refusal> {
        if let Some(known) = self.settled.borrow().get(heads) {
            return known.clone();
        }
        let state = settle(&self.graph, self.space, heads);
        let mut settled = self.settled.borrow_mut();
        if settled.len() >= SETTLED {
            settled.clear();
        }
        settled.insert(heads.to_vec(), state.clone());
        state
    }

    /// What an operation that cites `heads` counts for, in the space itself or in one of its rooms.
    pub fn judge(&self, author: Author, heads: &[OperationId], room: Option<LogId>) -> Judgement {
        if let Some(missing) = heads.iter().find(|head| !self.is_judged(head)) {
            return Judgement::Waits(*missing);
        }
        let [head] = heads else { return self.judge_at(author, heads, room) };
        let at = (author, *head, room);
        if let Some(judged) = self.judged.borrow().get(&at) {
            return *judged;
        }
        let judgement = self.judge_at(author, heads, room);
        let mut judged = self.judged.borrow_mut();
        if judged.len() >= JUDGED {
            judged.clear();
        }
        judged.insert(at, judgement);
        judgement
    }

    /// The same of heads that are all known.
    fn judge_at(&self, author: Author, heads: &[OperationId], room: Option<LogId>) -> Judgement {
        let Ok(point) = self.point(heads) else { return Judgement::Ignored };
        let view = View { graph: &self.graph, space: self.space, point: &point };
        let Some(identity) = view.identity(author) else { return Judgement::Ignored };
        let standing = standing(&view, identity);
        let open = room.is_none_or(|room| view.room_open(room));
        if standing.may_write() && open && !view.is_deleted() {
            Judgement::Counts { manager: standing.may_manage(), identity }
        } else {
            Judgement::Ignored
        }
    }

    /// The operations that make up what is current. Every device that knows the same operations, and where they stand,
    /// takes the same.
    fn current_heads(&self) -> Vec<OperationId> {
        self.line.borrow_mut().ends(&self.graph).iter().copied().collect()
    }

    /// Where an operation was first seen in the space's log. Whether that is news: what is current may be something else
    /// then.
    pub fn place(&mut self, id: OperationId, place: Place) -> bool {
        self.line.get_mut().place(id, place)
    }

    /// The space as it is now; `None` before its creation is known.
    pub fn current(&self) -> Option<Arc<State>> {
        match self.current_heads().as_slice() {
            [] => None,
            [head] => Some(self.graph.state_after(*head)),
            heads => self.settled(heads).ok(),
        }
    }

    /// What an operation made now cites: what is current, at most [`MAX_AUTH_HEADS`] of it, the author's own first.
    pub fn cite(&self, author: Author) -> Vec<OperationId> {
        let mut heads = self.current_heads();
        heads.arrange_by_key(|id| {
            let node = self.graph.nodes.get(id);
            let own = node.is_some_and(|node| node.author == author);
            (!own, std::cmp::Reverse(node.map(|node| node.rank)), *id)
        });
        heads.truncate(MAX_AUTH_HEADS);
        heads
    }

    /// How the person behind a device stands now, whatever the device itself would cite. A revoked device's person is
    /// nobody.
    pub fn standing(&self, device: Author) -> Standing {
        let Ok(point) = self.point(&self.current_heads()) else { return Standing::default() };
        let view = View { graph: &self.graph, space: self.space, point: &point };
        view.identity(device).map_or_else(Standing::default, |identity| standing(&view, identity))
    }

    /// Whose device a device is in a state of this space; `None` when that identity has revoked it.
    pub fn identity_in(&self, state: &State, device: Author) -> Option<Identity> {
        let identity = self.told_in(state, device).map_or_else(|| device.into(), |told| told.identity);
        (!state.is_revoked(identity, device)).then_some(identity)
    }

    /// Every device of every member in a state of this space, and whose it is: who is to have the keys. The key of an
    /// identity is its first device, which cannot be revoked.
    pub fn devices_in(&self, state: &State) -> BTreeMap<Author, Identity> {
        let told = state.told(&self.graph).filter(|(_, identity)| state.levels.contains_key(identity));
        let mut devices = BTreeMap::new();
        devices.extend(told);
        for member in state.levels.keys() {
            devices.entry(Author(member.0)).or_insert(*member);
        }
        devices
    }

    /// What a state of this space knows of a device; `None`: it was never told of it.
    pub fn told_in(&self, state: &State, device: Author) -> Option<Told> {
        let identity = self.graph.certified(*state.registers.get(&Register::Device(device))?)?;
        Some(Told { device, identity, revoked: state.is_revoked(identity, device) })
    }

    /// How somebody stands in a state of this space.
    pub fn standing_in(&self, state: &State, who: Identity) -> Standing {
        let decided = |register: Register| state.registers.get(&register).and_then(|id| self.action(*id));
        Standing {
            level: state.levels.get(&who).copied(),
            muted: matches!(decided(Register::Mute(who)), Some(Action::Mute { .. })),
            banned: matches!(decided(Register::Ban(who)), Some(Action::Ban { .. })),
        }
    }

    /// Whether an action by `author` would count now.
    pub fn allows(&self, author: Author, action: &Action) -> Result<(), Refusal> {
        let point = self.point(&self.cite(author))?;
        View { graph: &self.graph, space: self.space, point: &point }.check(author, action).map(drop)
    }

    /// Whether an action by `author` counts where it cites these heads, which are all judged.
    ///
    /// # Errors
    /// Why it does not; or heads that nothing may cite.
    pub fn allows_at(&self, author: Author, heads: &[OperationId], action: &Action) -> Result<(), Refusal> {
        let point = self.point(heads)?;
        View { graph: &self.graph, space: self.space, point: &point }.check(author, action).map(drop)
    }

    /// Whether a device of the same identity said the same of a device as this operation did.
    pub fn is_said_by_others(&self, id: OperationId) -> bool {
        let Some(own) = self.graph.nodes.get(&id) else { return false };
        let Some(Action::DeviceRevoke { revocation: said }) = &own.action else { return false };
        self.graph.nodes.iter().any(|(other, node)| match &node.action {
            Some(Action::DeviceRevoke { revocation: it }) => {
                *other != id
                    && node.verdict == Verdict::Accepted
                    && (it.identity, it.device) == (said.identity, said.device)
            }
            _ => false,
        })
    }

    /// The action behind an id, if it stands in the graph.
    pub fn action(&self, id: OperationId) -> Option<&Action> {
        self.graph.action(id)
    }

    /// The device that signed an operation of the graph.
    pub fn author(&self, id: OperationId) -> Option<Author> {
        self.graph.nodes.get(&id).map(|node| node.author)
    }

    /// What was made of an operation; `None` while it waits or is not known.
    pub fn verdict(&self, id: OperationId) -> Option<Verdict> {
        self.graph.nodes.get(&id).map(|node| node.verdict)
    }

    /// The rooms of a state that are not deleted.
    pub fn rooms(&self, state: &State) -> Vec<LogId> {
        self.graph.rooms(state)
    }

    /// Every room that was ever made here: it belongs to this space whatever became of it.
    pub fn all_rooms(&self) -> impl Iterator<Item = LogId> + '_ {
        let accepted = self.graph.nodes.values().filter(|node| node.verdict == Verdict::Accepted);
        accepted.filter_map(|node| match &node.action {
            Some(Action::RoomCreate { nonce, .. }) => Some(room_id(self.space, nonce)),
            _ => None,
        })
    }

    /// Whether new members may read what was written before them.
    pub fn has_history(&self, state: &State) -> bool {
        let about = state.registers.get(&Register::About).and_then(|id| self.action(*id));
        matches!(about, Some(Action::SpaceCreate { about, .. } | Action::SpaceUpdate { about }) if about.history)
    }

    /// How long a member waits between two messages in a room, seconds.
    pub fn cooldown(&self, room: LogId) -> Option<u64> {
        let state = self.current()?;
        match self.action(*state.registers.get(&Register::RoomText(room))?)? {
            Action::RoomCreate { about, .. } | Action::RoomUpdate { about, .. } => about.cooldown,
            _ => None,
        }
    }

    /// Who is muted until an instant: whom, by whom, until when.
    pub fn mutes(&self) -> Vec<(Identity, Identity, Millis)> {
        let Some(state) = self.current() else { return Vec::new() };
        let mutes = state.registers.iter().filter_map(|(register, id)| {
            let (Register::Mute(who), node) = (register, self.graph.nodes.get(id)?) else { return None };
            match node.action {
                Some(Action::Mute { until: Some(until), .. }) => Some((*who, node.identity, until)),
                _ => None,
            }
        });
        mutes.collect()
    }

    /// Whether a newer version is needed to follow the space: a manager did what this one does not understand. Of one who
    /// manages it no more nothing is left of that: what took the right away was done without knowing of it.
    pub fn is_suspended(&self) -> bool {
        let mut authors = self.suspended.iter().filter_map(|id| self.author(*id)).collect::<BTreeSet<_>>();
        authors.retain(|author| self.standing(*author).may_manage());
        !authors.is_empty()
    }

    /// Whether an action takes the right to manage from somebody because of whom the space is suspended.
    pub fn ends_suspension(&self, action: &Action) -> bool {
        let subject = match action {
            Action::Remove { member } | Action::Ban { member, .. } => *member,
            Action::Demote { member, level } if *level < Level::Manage => *member,
            Action::DeviceRevoke { revocation } => {
                return self.suspended.iter().any(|id| self.author(*id) == Some(revocation.device));
            }
            _ => return false,
        };
        self.suspended.iter().any(|id| self.graph.nodes.get(id).is_some_and(|node| node.identity == subject))
    }

    /// Whether somebody was added for a claim already, whatever became of them: a claim is answered once.
    pub fn is_answered(&self, claim: OperationId) -> bool {
        let mut line = self.line.borrow_mut();
        self.answered.iter().any(|(answered, by)| *answered == claim && line.counts(&self.graph, by))
    }

    /// Whether somebody was let in, or out, by what these heads do not know of: what was claimed with them is over.
    pub fn came_or_went_since(&self, who: Identity, heads: &[OperationId]) -> bool {
        // What does not count let nobody in, or out.
        let ends = self.current_heads();
        let about = |node: &super::graph::Node| match &node.action {
            _ if node.verdict != Verdict::Accepted => false,
            Some(Action::Add { member, .. } | Action::Remove { member } | Action::Ban { member, .. }) => {
                *member == who
            }
            Some(Action::Leave) => node.identity == who,
            _ => false,
        };
        self.graph.since(heads, &ends).iter().any(|id| self.graph.nodes.get(id).is_some_and(about))
    }

    /// What was accepted since this was asked last.
    pub fn take_accepted(&mut self) -> Vec<OperationId> {
        std::mem::take(&mut self.fresh)
    }

    /// One line of the audit log, for an accepted operation.
    pub fn audit(&self, id: OperationId) -> Option<Audited> {
        let node = self.graph.nodes.get(&id).filter(|node| node.verdict == Verdict::Accepted)?;
        let action = node.action.as_ref()?;
        let (rank, who, kind) = (node.rank, node.identity, action.kind());
        Some(Audited { id, rank, who, kind, subject: action.subject(), device: action.device() })
    }

    /// How many operations are judged, and how many wait.
    pub fn counts(&self) -> (usize, usize) {
        (self.graph.nodes.len(), self.waiting.values().map(Vec::len).sum())
    }
}

fn standing(view: &View<'_>, who: Identity) -> Standing {
    Standing { level: view.level(who), muted: view.is_muted(who), banned: view.is_banned(who) }
}
