//! What spaces decide about rows: which operations count, which wait to be judged, and the rows of the spaces
//! themselves. The judging is [`crate::space`]'s; the graph of a space is read from its operations when it is first
//! needed, and kept until the transaction after which it can be trusted no more.

use rusqlite::params;

use super::epoch_keys::is_for_managers;
use super::error::StoreError;
use super::forks::ForkProof;
use super::operations::Entry as RowEntry;
use super::read_model::StoredFact;
use super::tx::Tx;
use crate::identity::{Author, Identity, LogId, OperationId};
use crate::ops::{Action, Body, Content, FAMILIES, Ticket, peek, space_id};
use crate::projector::{Aggregate, Change, Fact, Place, Said};
use crate::space::{Entry, Judgement, Membership, Statement, Verdict};
use crate::topic::WriteKey;
use crate::tree::{Map, Set};

/// What a log is to a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Belongs {
    /// Which space judges it.
    pub space: LogId,
    /// Whether it is a room; otherwise it is the space's own log.
    pub room: bool,
}

/// What is known of spaces beside their rows.
#[derive(Debug, Default)]
pub(super) struct Spaces {
    logs: Map<LogId, Option<Belongs>>,
    graphs: Map<LogId, Membership>,
    /// Their rows are to be written.
    dirty: Set<LogId>,
    /// What changed by operations that came before.
    changes: Vec<Change>,
    /// What the engine has not looked at since it changed.
    news: Set<LogId>,
}

impl Spaces {
    /// Forgets what an undone transaction may have put in.
    pub(super) fn forget(&mut self, changes: Vec<Change>, news: Set<LogId>) {
        *self = Self { changes, news, ..Self::default() };
    }

    pub(super) fn told(&self) -> (Vec<Change>, Set<LogId>) {
        (self.changes.clone(), self.news.clone())
    }
}

/// What becomes of an operation before the projector sees it.
pub(super) enum Judged {
    /// The projector has it: whether its author was a manager, and whose device it was.
    Counts { manager: bool, identity: Identity },
    /// It was about the space itself; done.
    Taken(Option<Change>),
    /// Ignored everywhere.
    Ignored,
    /// Kept until what it cites is there.
    Waits,
}

/// What an operation is in a space's graph; `None`: nothing.
fn statement(content: &Content) -> Option<Statement> {
    match content {
        Content::Membership(action) => Some(Statement::Action((**action).clone())),
        Content::Unknown { kind } if FAMILIES.iter().any(|family| kind.starts_with(family)) => {
            Some(Statement::Unknown)
        }
        Content::Malformed { kind, .. } if Action::KINDS.contains(kind) => Some(Statement::Malformed),
        _ => None,
    }
}

fn graph_entry(id: OperationId, author: Author, seq_num: u32, body: &Body) -> Option<Entry> {
    let statement = statement(&body.content)?;
    Some(Entry { id, author, seq_num, heads: body.auth_heads.clone(), statement })
}

/// Puts an operation into a graph, with the place where it was first seen.
fn take(graph: &mut Membership, entry: Entry, first: Option<Place>) {
    if let Some(first) = first.filter(|first| first.is_placed()) {
        graph.place(entry.id, first);
    }
    graph.insert(entry);
}

/// The second branch of a fork, as it stands in a space's graph. Of two creations the first is the space's: whoever founded
/// it and manages it no more would begin it anew.
fn second(author: &Author, space: &LogId, proof: &ForkProof) -> Option<Entry> {
    let (id, header) = &proof.second;
    let (peek, body) = (peek(header).ok()?, Body::decode(proof.second_body.as_ref()?).ok()?);
    if founds(*author, *space, peek.seq_num, &body) {
        return None;
    }
    graph_entry(*id, *author, peek.seq_num, &body)
}

/// Whether an operation makes the log it stands in a space.
fn founds(author: Author, log: LogId, seq_num: u32, body: &Body) -> bool {
    let Content::Membership(action) = &body.content else { return false };
    let Action::SpaceCreate { nonce, .. } = &**action else { return false };
    seq_num == 0 && body.auth_heads.is_empty() && space_id(author, nonce) == log
}

impl Tx<'_> {
    /// Which space judges a log; `None`: nobody does.
    pub fn belongs(&self, log: &LogId) -> Result<Option<Belongs>, StoreError> {
        if let Some(known) = self.spaces.borrow().logs.get(log) {
            return Ok(*known);
        }
        let found = self.space_of(log)?;
        self.spaces.borrow_mut().logs.insert(*log, found);
        Ok(found)
    }

    /// The graph of a space.
    pub(super) fn graph<T>(
        &self,
        space: LogId,
        work: impl FnOnce(&mut Membership) -> T,
    ) -> Result<T, StoreError> {
        if !self.spaces.borrow().graphs.contains_key(&space) {
            let graph = self.read_graph(space)?;
            self.spaces.borrow_mut().graphs.insert(space, graph);
        }
        let mut spaces = self.spaces.borrow_mut();
        Ok(work(spaces.graphs.entry(space).or_insert_with(|| Membership::new(space))))
    }

    fn read_graph(&self, space: LogId) -> Result<Membership, StoreError> {
        let (mut graph, mut places) = (Membership::new(space), Map::new());
        for author in self.authors_of(&space)? {
            for stored in self.places(&author, &space, 0, u32::MAX)? {
                places.insert(stored.id, stored.first);
            }
            for op in self.log_entries(&author, &space, 0, u32::MAX, usize::MAX)? {
                let Some(Ok(body)) = op.body.as_deref().map(Body::decode) else { continue };
                if let Some(entry) = graph_entry(op.id, author, op.seq_num, &body) {
                    take(&mut graph, entry, places.get(&op.id).copied());
                }
            }
            if let Some(proof) = self.fork_proof(&author, &space)?
                && let Some(entry) = second(&author, &space, &proof)
            {
                take(&mut graph, entry, Some(proof.ends));
            }
        }
        Ok(graph)
    }

    /// A log of which nothing stored goes has another branch. In a space's own log both stand in the graph. `instead`: of
    /// that of another fork, which began later.
    pub(crate) fn note_fork(
        &self,
        author: &Author,
        log: &LogId,
        proof: &ForkProof,
        instead: bool,
    ) -> Result<(), StoreError> {
        if self.belongs(log)?.is_none_or(|belongs| belongs.room) {
            return Ok(());
        }
        if instead {
            return self.judge_space_again(*log);
        }
        let Some(entry) = second(author, log, proof) else { return Ok(()) };
        self.graph(*log, |graph| take(graph, entry, Some(proof.ends)))?;
        self.follow(*log)
    }

    /// An operation was first seen somewhere else than before: in a space's own log, what is current goes by that.
    pub(crate) fn note_first(&self, log: &LogId, id: OperationId, first: Place) -> Result<(), StoreError> {
        if self.belongs(log)?.is_none_or(|belongs| belongs.room) {
            return Ok(());
        }
        if self.graph(*log, |graph| graph.place(id, first) && graph.verdict(id).is_some())? {
            self.spaces.borrow_mut().dirty.insert(*log);
        }
        Ok(())
    }

    /// Everybody who wrote in a log.
    fn authors_of(&self, log: &LogId) -> Result<Vec<Author>, StoreError> {
        self.write_heads()?;
        Ok(self.log_heads(log)?.into_iter().map(|head| head.author).collect())
    }

    /// Judges an operation where a space has a say.
    pub(super) fn judge(&self, entry: RowEntry, fact: &Fact<'_>) -> Result<Judged, StoreError> {
        let Fact { id, author, log, seq_num, .. } = *fact;
        let anywhere = || Ok(Judged::Counts { manager: false, identity: author.into() });
        let Said::Body(body) = fact.said else {
            // What it cited is erased, too. It was judged before; whose device its author is does not change.
            let identity = self.told(&log, author)?.unwrap_or_else(|| author.into());
            return Ok(Judged::Counts { manager: false, identity });
        };
        if let Some(asked) = self.put_request(fact, body)? {
            self.spaces.borrow_mut().news.extend(asked.space);
            let shown = asked.space.filter(|_| asked.is_shown);
            return Ok(Judged::Taken(
                shown.map(|space| Change::new(space, Aggregate::Member, vec![author.0])),
            ));
        }
        let Some(Belongs { space, room }) = self.belongs(&log)? else {
            if founds(author, log, seq_num, body) {
                self.found(log)?;
                return Ok(Judged::Taken(None));
            }
            // What cites a space's operations is judged by that space, once it is known which.
            return match body.auth_heads.first() {
                Some(head) => self.wait(log, *head, entry, log),
                None => anywhere(),
            };
        };
        if !room && let Some(entry) = graph_entry(id, author, seq_num, body) {
            let first = self.place_of(&id)?.map(|stored| stored.first);
            self.graph(space, |graph| take(graph, entry, first))?;
            self.follow(space)?;
            return Ok(Judged::Taken(None));
        }
        // Only managers move a room to its next topic, and hand on its keys, also of one that takes no messages.
        let needs_manager = is_for_managers(&body.content);
        let room = (room && !needs_manager).then_some(log);
        let judgement = self.graph(space, |graph| graph.judge(author, &body.auth_heads, room))?;
        match judgement {
            Judgement::Counts { manager, identity } if manager || !needs_manager => {
                if let Content::EpochKeys(keys) = &body.content {
                    self.take_epoch_keys(space, fact, keys)?;
                }
                Ok(Judged::Counts { manager, identity })
            }
            Judgement::Counts { .. } | Judgement::Ignored => {
                if let Content::EpochKeys(keys) = &body.content
                    && !needs_manager
                    && self.graph(space, |graph| graph.standing(author).level.is_some())?
                {
                    // A member who is muted reads on.
                    self.take_epoch_keys(space, fact, keys)?;
                }
                Ok(Judged::Ignored)
            }
            Judgement::Waits(head) => self.wait(space, head, entry, log),
        }
    }

    /// Whose device a device is, as the space of a log was told.
    fn told(&self, log: &LogId, device: Author) -> Result<Option<Identity>, StoreError> {
        let Some(Belongs { space, .. }) = self.belongs(log)? else { return Ok(None) };
        self.graph(space, |graph| {
            let state = graph.current()?;
            graph.told_in(&state, device).map(|told| told.identity)
        })
    }

    fn wait(
        &self,
        space: LogId,
        head: OperationId,
        entry: RowEntry,
        log: LogId,
    ) -> Result<Judged, StoreError> {
        self.run(
            "INSERT INTO unjudged (space, head, entry, log) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            params![space.0, head.0, entry.0, log.0],
        )?;
        Ok(Judged::Waits)
    }

    /// A log turns out to be a space: all that is stored of it is judged.
    fn found(&self, space: LogId) -> Result<(), StoreError> {
        self.put_space_log(space, Belongs { space, room: false })?;
        self.judge_log_again(&space)?;
        self.follow(space)
    }

    fn put_space_log(&self, log: LogId, belongs: Belongs) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO space_log (log, space, room) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![log.0, belongs.space.0, belongs.room],
        )?;
        self.spaces.borrow_mut().logs.insert(log, Some(belongs));
        Ok(())
    }

    /// Projects a log anew, and tells the app what was or is shown of it.
    fn judge_log_again(&self, log: &LogId) -> Result<(), StoreError> {
        let authors = self.authors_of(log)?;
        let mut changes = Vec::new();
        for author in &authors {
            changes.extend(self.rows_of(author, log)?);
        }
        self.project_logs(&authors, log)?;
        for author in &authors {
            changes.extend(self.rows_of(author, log)?);
        }
        self.spaces.borrow_mut().changes.extend(Change::merge(changes));
        Ok(())
    }

    /// The devices of these people that wrote in a log.
    pub(super) fn writers_of(&self, log: &LogId, people: &Set<Identity>) -> Result<Vec<Author>, StoreError> {
        let mut of_people = Vec::new();
        if people.is_empty() {
            return Ok(of_people);
        }
        for author in self.authors_of(log)? {
            if people.contains(&self.told(log, author)?.unwrap_or_else(|| author.into())) {
                of_people.push(author);
            }
        }
        Ok(of_people)
    }

    /// A space's graph grew: its new rooms are judged by it, and so is what waited for that.
    fn follow(&self, space: LogId) -> Result<(), StoreError> {
        self.note_rooms(space, true)?;
        let heads = self.all("SELECT DISTINCT head FROM unjudged WHERE space = ?1", [space.0], |row| {
            row.get(0).map(OperationId)
        })?;
        for head in heads {
            if !self.graph(space, |graph| graph.is_judged(&head))? {
                continue;
            }
            let entries = self.all(
                "DELETE FROM unjudged WHERE space = ?1 AND head = ?2 RETURNING entry",
                [space.0, head.0],
                |row| row.get(0).map(RowEntry),
            )?;
            for entry in entries {
                let change = self.project_entry(entry)?;
                self.spaces.borrow_mut().changes.extend(change);
            }
        }
        let mut spaces = self.spaces.borrow_mut();
        spaces.dirty.insert(space);
        Ok(())
    }

    fn note_rooms(&self, space: LogId, again: bool) -> Result<(), StoreError> {
        for room in self.graph(space, |graph| graph.all_rooms().collect::<Vec<_>>())? {
            if self.belongs(&room)?.is_none() {
                self.put_space_log(room, Belongs { space, room: true })?;
                if again {
                    self.judge_log_again(&room)?;
                }
            }
        }
        Ok(())
    }

    /// Before everything is projected anew: which logs are spaces and rooms.
    pub(super) fn find_spaces(&self) -> Result<(), StoreError> {
        for table in
            ["space_log", "space", "member", "space_device", "room", "invite", "audit", "request", "unjudged"]
        {
            self.run(&format!("DELETE FROM {table}"), [])?;
        }
        let (changes, news) = self.spaces.borrow().told();
        self.spaces.borrow_mut().forget(changes, news);
        let first = self.all(
            "SELECT author, log, body FROM operations WHERE seq_num = 0 AND body IS NOT NULL",
            [],
            |row| Ok((Author(row.get(0)?), LogId(row.get(1)?), row.get::<_, Vec<u8>>(2)?)),
        )?;
        for (author, log, body) in first {
            if Body::decode(&body).is_ok_and(|body| founds(author, log, 0, &body)) {
                self.put_space_log(log, Belongs { space: log, room: false })?;
                self.note_rooms(log, false)?;
                self.spaces.borrow_mut().dirty.insert(log);
            }
        }
        Ok(())
    }

    /// A fork took operations out of a space's log: everything the space judges is judged again.
    pub(super) fn judge_space_again(&self, space: LogId) -> Result<(), StoreError> {
        {
            let mut spaces = self.spaces.borrow_mut();
            spaces.graphs.remove(&space);
            spaces.dirty.insert(space);
        }
        self.run("DELETE FROM audit WHERE space = ?1", [space.0])?;
        let logs =
            self.all("SELECT log FROM space_log WHERE space = ?1", [space.0], |row| row.get(0).map(LogId))?;
        for log in logs {
            self.judge_log_again(&log)?;
        }
        self.follow(space)
    }

    /// Writes the rows of spaces that changed; gives what an app would query again.
    pub fn settle_spaces(&self) -> Result<Vec<Change>, StoreError> {
        self.write_spaces()?;
        Ok(std::mem::take(&mut self.spaces.borrow_mut().changes))
    }

    /// The same, and the changes are kept for who asks next.
    pub(super) fn write_spaces(&self) -> Result<(), StoreError> {
        loop {
            let Some(space) = self.spaces.borrow_mut().dirty.pop_first() else { return Ok(()) };
            let changes = self.write_space(space)?;
            let mut spaces = self.spaces.borrow_mut();
            spaces.changes.extend(changes);
            spaces.news.insert(space);
        }
    }

    /// The engine is to look at a space.
    pub(crate) fn note_space_news(&self, space: LogId) {
        self.spaces.borrow_mut().news.insert(space);
    }

    /// Spaces that changed since this was asked last.
    pub fn take_space_news(&self) -> Set<LogId> {
        std::mem::take(&mut self.spaces.borrow_mut().news)
    }

    /// These conversations are gone: graphs are read anew, and nothing is told of them.
    pub(super) fn forget_spaces(&self, logs: &[LogId]) {
        let mut spaces = self.spaces.borrow_mut();
        let (mut changes, mut news) = spaces.told();
        changes.retain(|change| !logs.contains(&change.log));
        news.retain(|space| !logs.contains(space));
        let dirty = spaces.dirty.iter().copied().filter(|space| !logs.contains(space)).collect();
        spaces.forget(changes, news);
        spaces.dirty = dirty;
    }

    /// Looks at the graph of a space.
    pub fn look_at_space<T>(
        &self,
        space: LogId,
        look: impl FnOnce(&Membership) -> T,
    ) -> Result<T, StoreError> {
        self.graph(space, |graph| look(graph))
    }

    /// What opens the rooms of a space that are not deleted.
    pub fn room_tickets(&self, space: LogId) -> Result<Vec<Ticket>, StoreError> {
        self.graph(space, |graph| {
            let Some(state) = graph.current() else { return Vec::new() };
            let ticket = |room: LogId| {
                let id = *state.registers.get(&crate::space::Register::Room(room))?;
                let Action::RoomCreate { keys, .. } = graph.action(id)? else { return None };
                Some(Ticket::private(room, 0, WriteKey::from_seed(keys.write.0), keys.secret.0))
            };
            graph.rooms(&state).into_iter().filter_map(ticket).collect()
        })
    }

    /// What became of a membership operation.
    pub fn verdict(&self, space: LogId, id: OperationId) -> Result<Option<Verdict>, StoreError> {
        self.graph(space, |graph| graph.verdict(id))
    }

    fn project_entry(&self, entry: RowEntry) -> Result<Option<Change>, StoreError> {
        let fact = self.one(
            "SELECT entry, author, log, seq_num, hash, pos, received_ms, erased, body FROM operations
             WHERE entry = ?1",
            [entry.0],
            StoredFact::read,
        )?;
        fact.map_or(Ok(None), |fact| self.project_stored(&fact))
    }
}
