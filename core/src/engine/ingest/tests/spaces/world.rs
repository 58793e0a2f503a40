//! A space whose members write, and a device that reads it.

use super::*;

pub(super) const NONCE: [u8; 32] = [9; 32];
pub(super) const ROOM: [u8; 32] = [3; 32];
pub(super) const PEOPLE: usize = 5;
/// Whose database it is.
pub(super) const OWNER: Author = Author([0xee; 32]);

pub(super) fn key(person: usize) -> DeviceKey {
    DeviceKey::from_bytes(&[u8::try_from(person).unwrap() + 1; 32])
}

pub(super) fn who(person: usize) -> Author {
    key(person).author()
}

pub(super) fn space() -> LogId {
    space_id(who(0), &NONCE)
}

pub(super) fn room() -> LogId {
    room_id(space(), &ROOM)
}

pub(super) fn ticket(log: LogId) -> Ticket {
    Ticket::private(log, 0, WriteKey::from_seed(log.0), [9; 32])
}

/// What everybody wrote, and the graph as somebody who knows everything has it.
pub(super) struct World {
    pub(super) ends: BTreeMap<(usize, LogId), (u32, OperationId)>,
    /// In the order of their places, which count from 1 in each log.
    pub(super) written: Vec<(u64, VerifiedOperation)>,
    pub(super) graph: Membership,
    pub(super) places: BTreeMap<LogId, u64>,
    /// By everybody's clock.
    pub(super) clock: u64,
}

impl World {
    /// A space by person 0, and no more.
    pub(super) fn new() -> Self {
        let graph = Membership::new(space());
        let (ends, places) = (BTreeMap::new(), BTreeMap::new());
        let mut world = Self { ends, written: Vec::new(), graph, places, clock: 1_000 };
        let about = SpaceText { name: "Garden".into(), ..SpaceText::default() };
        world.act_at(0, Vec::new(), Action::SpaceCreate { nonce: NONCE, about, certificate: None });
        world
    }

    /// The usual: a manager, a writer, a reader; person 4 is a stranger. And a room.
    pub(super) fn peopled() -> Self {
        let mut world = Self::new();
        for (person, level) in [(1, Level::Manage), (2, Level::Write), (3, Level::Read)] {
            world.act(0, add(person, level));
        }
        world.act(0, make_room());
        world
    }

    pub(super) fn write(
        &mut self,
        person: usize,
        log: LogId,
        heads: Vec<OperationId>,
        content: Content,
    ) -> VerifiedOperation {
        let (seq_num, backlink) = match self.ends.get(&(person, log)) {
            Some((seq_num, id)) => (seq_num + 1, Some(*id)),
            None => (0, None),
        };
        let mut body = Body::new(content).sent_at(Millis(self.clock));
        body.auth_heads = heads;
        let op = ops::create(&key(person), log, seq_num, backlink, &body).unwrap();
        self.ends.insert((person, log), (seq_num, op.id()));
        let place = self.places.entry(log).or_default();
        *place += 1;
        self.written.push((*place, op.clone()));
        op
    }

    pub(super) fn act_at(&mut self, person: usize, heads: Vec<OperationId>, action: Action) -> OperationId {
        let op = self.write(person, space(), heads.clone(), Content::Membership(Box::new(action.clone())));
        let (id, author, seq_num) = (op.id(), op.author(), op.seq_num());
        self.graph.insert(Entry { id, author, seq_num, heads, statement: Statement::Action(action) });
        id
    }

    pub(super) fn act(&mut self, person: usize, action: Action) -> OperationId {
        let heads = self.graph.cite(who(person));
        self.act_at(person, heads, action)
    }

    pub(super) fn say_at(&mut self, person: usize, heads: Vec<OperationId>, text: &str) -> OperationId {
        let content = Content::MessageSend {
            text: text.into(),
            reply: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
        };
        self.write(person, room(), heads, content).id()
    }

    pub(super) fn say(&mut self, person: usize, text: &str) -> OperationId {
        let heads = self.graph.cite(who(person));
        self.say_at(person, heads, text)
    }

    pub(super) fn tell(&mut self, person: usize, log: LogId, content: Content) -> OperationId {
        let heads = self.graph.cite(who(person));
        self.write(person, log, heads, content).id()
    }
}

pub(super) fn add(person: usize, level: Level) -> Action {
    Action::Add { member: who(person).into(), level, invite: None, claim: None }
}

pub(super) fn make_room() -> Action {
    let keys = RoomKeys { write: Hidden(room().0), secret: Hidden([9; 32]) };
    let about = RoomText { name: "Shed".into(), ..RoomText::default() };
    Action::RoomCreate { nonce: ROOM, about, keys }
}

/// A device that reads the space's topic and the room's.
pub(super) struct Device {
    pub(super) store: Store,
}

impl Device {
    pub(super) fn new() -> Self {
        let mut device = Self { store: Store::in_memory().unwrap() };
        device.store.set_device(OWNER);
        device.write(|tx| {
            for log in [space(), room()] {
                tx.put_topic(&ticket(log), Millis(0)).unwrap();
            }
        });
        device
    }

    pub(super) fn write<T>(&mut self, work: impl FnOnce(&Tx<'_>) -> T) -> T {
        let tx = self.store.begin(Durability::Normal).unwrap();
        let out = work(&tx);
        tx.commit().unwrap();
        out
    }

    pub(super) fn receive(&mut self, (place, op): &(u64, VerifiedOperation)) -> Ingested {
        let context = context(*place, op);
        self.write(|tx| ingest(tx, &context, op).unwrap())
    }

    pub(super) fn receive_and_settle(&mut self, (place, op): &(u64, VerifiedOperation)) -> Vec<Change> {
        let context = context(*place, op);
        self.write(|tx| {
            ingest(tx, &context, op).unwrap();
            tx.settle_spaces().unwrap()
        })
    }

    /// Where something is to be read again in the room's topic.
    pub(super) fn refetches(&self) -> Vec<u64> {
        let ranges = self.store.refetches(ticket(room()).topic()).unwrap();
        ranges.iter().flat_map(|(_, range)| range.from.0..=range.to.0).collect()
    }

    pub(super) fn with(world: &World) -> Self {
        let mut device = Self::new();
        for written in &world.written {
            device.receive(written);
        }
        device
    }

    pub(super) fn messages(&self) -> Vec<MessageRow> {
        self.store.messages(&room(), Page::Newest, 10_000).unwrap()
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.messages().into_iter().map(|row| row.text.unwrap_or_else(|| "†".into())).collect()
    }

    pub(super) fn view(&self) -> View {
        let (db, space) = (&self.store, space());
        let messages = self.messages();
        let reactions = messages.iter().flat_map(|row| db.reactions(&row.id).unwrap()).collect();
        let sorted = |mut rows: Vec<MemberRow>| {
            rows.sort_by_key(|row| row.member);
            rows
        };
        View {
            reactions,
            messages,
            space: db.space(&space).unwrap(),
            rooms: db.rooms(&space).unwrap(),
            members: sorted(db.members(&space).unwrap()),
            invites: db.invites(&space).unwrap(),
            audit: db.audit(&space, None, 10_000).unwrap(),
            requests: db.requests(&space).unwrap(),
            unjudged: db.unjudged(&room()).unwrap() + db.unjudged(&space).unwrap(),
        }
    }
}

pub(super) fn context(place: u64, op: &VerifiedOperation) -> Context {
    Context {
        topic: ticket(op.log()).topic(),
        log: op.log(),
        epoch: 0,
        generation: Generation([0; 16]),
        resets: 0,
        seq: Seq(place),
        received: Millis(50_000 + place),
        now: Millis(60_000),
    }
}

/// Everything a device shows of the space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) messages: Vec<MessageRow>,
    pub(super) reactions: Vec<ReactionRow>,
    pub(super) space: Option<SpaceRow>,
    pub(super) rooms: Vec<RoomRow>,
    pub(super) members: Vec<MemberRow>,
    pub(super) invites: Vec<InviteRow>,
    pub(super) audit: Vec<AuditRow>,
    pub(super) requests: Vec<RequestRow>,
    pub(super) unjudged: u64,
}

/// The same on a device that has read it as it came, on one that reads it backwards, and on both of them made anew.
pub(super) fn everywhere(world: &World) -> View {
    let (mut one, mut other) = (Device::with(world), Device::new());
    for written in world.written.iter().rev() {
        other.receive(written);
    }
    let view = one.view();
    assert_eq!(other.view(), view);
    for device in [&mut one, &mut other] {
        device.write(|tx| tx.rebuild().unwrap());
        assert_eq!(device.view(), view);
    }
    view
}
