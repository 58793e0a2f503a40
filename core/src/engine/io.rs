//! What goes into the engine and what comes out of it: plain values.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::freshness::Renewed;
use super::ingest::PublishError;
use super::jobs::{OpenedBatch, PostJob};
use super::sending::{Sending, SendingError};
use crate::crypto::{CryptoError, DeviceSecrets, OpenError, PreparedRotation, RotationError};
use crate::entropy::EntropyError;
use crate::identity::{Author, LogId, Millis, NodeId, OperationId};
use crate::onion::control::{Action, ControlError};
use crate::onion::directory::{Directory, Node, Seen};
use crate::onion::route::{RouteError, Tunnel};
use crate::ops::{
    self, Content, CreateError, Level, RoomText, SealError, Signal, SignalError, SpaceText, Ticket,
};
use crate::projector::{Change, Position};
use crate::space::{Invite, Refusal};
use crate::store::{Equivocation, StoreError};
use crate::sync::history::HistoryRequest;
use crate::sync::outbox::AttemptId;
use crate::sync::proof::{Purpose, ReadKey};
use crate::sync::session::{ConnId, Connection, Cursor, Fault, SubscribeRequest};
use crate::topic::{Seq, TopicId};

/// The caller's name for a command; its [`Output::Reply`] carries it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// What happened outside since the last batch.
#[derive(Debug)]
pub enum Input {
    /// The app wants something.
    Command {
        /// Named by the caller.
        id: CommandId,
        /// What it wants.
        command: Command,
    },
    /// An open job is done. Batches of one connection must come in the order in which the jobs were given out.
    Opened(OpenedBatch),
    /// A WebSocket is open.
    Connected {
        /// Which.
        conn: ConnId,
    },
    /// A WebSocket is gone or could not be opened; a fetch is over, with or without a page.
    Disconnected {
        /// Which.
        conn: ConnId,
        /// The server's Retry-After in milliseconds; 0 for none.
        retry_after_ms: u64,
    },
    /// The relay of a tunnel could not be reached or refused it, or the tunnel broke, or what came through it was not
    /// the server's: instead of [`Input::Disconnected`], also for a fetch.
    TunnelFailed {
        /// Which connection.
        conn: ConnId,
        /// The relay's Retry-After in milliseconds; 0 for none.
        retry_after_ms: u64,
    },
    /// The server refused a WebSocket for good reasons: instead of [`Input::Disconnected`].
    Refused {
        /// Which.
        conn: ConnId,
        /// Why.
        unreadable: Unreadable,
    },
    /// A packet's POST to its entry relay has ended.
    Posted {
        /// Which packet.
        attempt: AttemptId,
        /// How.
        handover: Handover,
    },
    /// The device's network changed: waiting ends now.
    NetworkChanged,
    /// The renewal of records that [`Output::RenewRecords`] asked for is over. What came of it has been configured
    /// before.
    RecordsRenewed {
        /// Whether new records are in use.
        ok: bool,
    },
    /// The instant of [`super::Engine::next_wakeup`] has come.
    Timeout,
}

/// What became of a packet's POST to its entry relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// The relay took it. That is not delivered yet: only the echo says that.
    Taken,
    /// The relay has too much to do.
    Busy {
        /// Its Retry-After in milliseconds; 0 for none.
        retry_after_ms: u64,
    },
    /// The relay is there, and says that a node behind it did not take the packet (version 2 alone).
    Undelivered,
    /// It could not be connected to: nothing of the packet has left this device.
    Unreached,
    /// No answer, or any other. The packet may be on its way all the same.
    Failed,
}

/// What an app can want.
#[derive(Clone, Debug)]
pub enum Command {
    /// Open a topic from its ticket; again is harmless.
    OpenTopic {
        /// The ticket.
        ticket: Ticket,
    },
    /// Receive a topic.
    Subscribe {
        /// The topic, opened before.
        topic: TopicId,
    },
    /// Stop receiving it.
    Unsubscribe {
        /// The topic.
        topic: TopicId,
    },
    /// Sign, store and send an operation.
    Publish {
        /// The topic, opened before with a ticket that may write.
        topic: TopicId,
        /// What it says.
        content: Content,
    },
    /// As [`Command::Publish`], at most once for a key: again (also after a restart) it gives the first operation, whatever
    /// the topic and content are now.
    PublishOnce {
        /// The topic, opened before with a ticket that may write.
        topic: TopicId,
        /// What it says.
        content: Content,
        /// Chosen by the app, 1 to [`crate::limits::MAX_IDEMPOTENCY_KEY`] bytes.
        key: Bytes,
    },
    /// Send a signal: now, or when the last one is long enough ago; then the latest one goes.
    Signal {
        /// The topic, opened before with a ticket that may write.
        topic: TopicId,
        /// What to say, 1 to [`crate::limits::MAX_SIGNAL_BODY`] bytes.
        bytes: Bytes,
    },
    /// Send a control message of a public topic.
    Control {
        /// The topic, opened before with a ticket that may write.
        topic: TopicId,
        /// What it asks for.
        action: Action,
    },
    /// Keep the key that readers of a topic must prove where a server asks for it.
    SetReadKey {
        /// The topic, opened before.
        topic: TopicId,
        /// The key; `None` to forget it.
        key: Option<ReadKey>,
    },
    /// Prove a key of a topic to the configured server.
    Prove {
        /// The topic, opened before.
        topic: TopicId,
        /// Which key, for what.
        purpose: Purpose,
        /// The server's nonce.
        nonce: [u8; 32],
    },
    /// Send over this network from now on.
    Configure(Network),
    /// Put the parked operations of a topic back in the queue, and let those that wait for another attempt go now.
    Retry {
        /// The topic.
        topic: TopicId,
    },
    /// Take an own operation back: one that never left this device is removed when it is the newest of its log; any
    /// other message is deleted by a further operation.
    Cancel {
        /// The topic.
        topic: TopicId,
        /// The operation.
        operation: OperationId,
    },
    /// Name the devices that may close the topics of a conversation. They replace those named before.
    SetRotators {
        /// The topic, opened before.
        topic: TopicId,
        /// The devices.
        devices: Vec<Author>,
    },
    /// Keep fresh X25519 secrets of this device, and publish their key bundle.
    PublishBundle {
        /// The topic, opened before with a ticket that may write.
        topic: TopicId,
        /// The secrets.
        secrets: Box<DeviceSecrets>,
    },
    /// Publish a rotation that was prepared outside, because preparing it draws randomness.
    Rotate {
        /// The topic to close.
        topic: TopicId,
        /// From [`crate::crypto::prepare_rotation`].
        prepared: Box<PreparedRotation>,
    },
    /// Where a topic stands.
    Status {
        /// The topic.
        topic: TopicId,
    },
    /// Make a space; this device is its first manager.
    CreateSpace {
        /// What it says about itself.
        about: SpaceText,
    },
    /// Make a room in a space.
    CreateRoom {
        /// The space's log id.
        space: LogId,
        /// What it says about itself.
        about: RoomText,
    },
    /// Make an invitation to a space.
    CreateInvite {
        /// The space's log id.
        space: LogId,
        /// The level whoever comes with it gets.
        level: Level,
        /// When it expires, by this device's clock.
        expires: Option<Millis>,
        /// Whether it admits one person only.
        once: bool,
    },
    /// Open the space of an invitation, and claim it.
    AcceptInvite {
        /// The invitation.
        invite: Box<Invite>,
    },
    /// Change a space, its rooms or its members.
    Act {
        /// The space's log id.
        space: LogId,
        /// What to do.
        action: Box<ops::Action>,
    },
    /// Note how far a conversation has been read. It is this device's business alone.
    SetRead {
        /// The conversation.
        log: LogId,
        /// The last message read.
        upto: Position,
    },
    /// Which relays are left out at present, because packets over them were lost or refused.
    AvoidedRelays,
    /// Through which tunnel to ask the configured server about a topic now.
    Tunnel {
        /// The topic.
        topic: TopicId,
    },
}

impl Command {
    /// Whether what it does must survive a power cut before it is answered.
    pub(super) const fn is_durable(&self) -> bool {
        match self {
            Self::Configure(_)
            | Self::OpenTopic { .. }
            | Self::Publish { .. }
            | Self::SetRotators { .. }
            | Self::PublishBundle { .. }
            | Self::Rotate { .. }
            | Self::PublishOnce { .. }
            | Self::Control { .. }
            | Self::Retry { .. }
            | Self::Cancel { .. }
            | Self::CreateSpace { .. }
            | Self::CreateRoom { .. }
            | Self::CreateInvite { .. }
            | Self::AcceptInvite { .. }
            | Self::Act { .. }
            | Self::SetReadKey { .. } => true,
            Self::Subscribe { .. }
            | Self::Unsubscribe { .. }
            | Self::Signal { .. }
            | Self::Prove { .. }
            | Self::AvoidedRelays
            | Self::SetRead { .. }
            | Self::Status { .. }
            | Self::Tunnel { .. } => false,
        }
    }
}

/// Over which relays and to which server a device sends, and which server it reads.
#[derive(Clone, Debug)]
pub struct Network {
    /// The relays.
    pub directory: Arc<Directory>,
    /// The sync server, verified against its pin.
    pub server: Node,
    /// Relays per route, 1–5.
    pub relays: usize,
    /// Read through tunnels where relays offer them, so that the server does not see who reads.
    pub hide_reading: bool,
    /// Look through another tunnel before sending again what was lost ([`super::look`]): it costs a lost packet up to
    /// a minute.
    pub look_before_retry: bool,
    /// What has now been seen of directories, to be kept: nobody can hand out an older one later.
    pub seen: SeenDirectory,
    /// How to send over it.
    pub sending: Sending,
}

/// What was seen of the directories of one kind, kept under [`SeenDirectory::setting`].
#[derive(Clone, Debug, Default)]
pub struct SeenDirectory {
    /// Whose directories: list versions of different signers have nothing to do with each other.
    pub scope: String,
    /// What was seen.
    pub seen: Seen,
    /// The records in use, when this device collected them itself: the next start begins with them.
    pub renewed: Option<Box<Renewed>>,
}

impl SeenDirectory {
    /// Under which name the store keeps it.
    pub fn setting(scope: &str) -> String {
        format!("directory-seen:{scope}")
    }
}

/// An answer to a command.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Done.
    Done,
    /// The topic is open.
    Topic(TopicId),
    /// The operation is durable on this device and will be sent.
    Published(OperationId),
    /// The control message with this counter was handed out. Nobody answers for it: `about` says what the server took.
    Control(u64),
    /// The proof, with the public half of the key.
    Proof {
        /// The key that was proven.
        key: [u8; 32],
        /// The signature.
        proof: [u8; 64],
    },
    /// Where a topic stands.
    Status(TopicStatus),
    /// A space or room is open on this device.
    Space {
        /// Its log id.
        space: LogId,
        /// Where it lives now.
        topic: TopicId,
    },
    /// The invitation was made.
    Invite(Box<Invite>),
    /// Through which tunnel; `None`: directly ([`TopicStatus::read_path`] says why).
    Tunnel(Option<Tunnel>),
    /// The relays that are left out while there are enough others.
    AvoidedRelays(Vec<NodeId>),
    /// So many parked operations are back in the queue.
    Retried(u64),
    /// An operation was taken back.
    Cancelled(Cancelled),
}

/// How an operation was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It is gone without a trace: it had never left this device.
    Removed,
    /// It is deleted by this further operation: it may have left this device, or others stand on it.
    Deleted(OperationId),
}

/// Where one topic stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStatus {
    /// Its connection.
    pub connection: Connection,
    /// The stored position.
    pub cursor: Option<Cursor>,
    /// Operations that wait to be sent.
    pub queued: usize,
    /// Operations sent and not yet read back.
    pub sent: usize,
    /// Why nothing is sent, if nothing can be.
    pub blocked: Option<Blocked>,
    /// Why the server does not let this device read, if it does not.
    pub unreadable: Option<Unreadable>,
    /// Who sees that this device reads; `None` while no network is configured.
    pub read_path: Option<ReadPath>,
    /// Smoothed round trip of deliveries, milliseconds.
    pub round_trip_ms: Option<u64>,
}

/// Who sees that this device reads a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPath {
    /// The server sees the address of a relay.
    Tunnel {
        /// Which relay.
        relay: NodeId,
        /// Whether the relay sees nothing but the server it leads to. `false`: the server has no certificate (in a
        /// network for tests), so the relay can read which topic it is.
        sealed: bool,
    },
    /// The server sees this device's address.
    Direct(DirectReading),
}

/// Why a topic is read without a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DirectReading {
    /// The app wants it so.
    #[error("reading through tunnels is switched off")]
    SwitchedOff,
    /// No relay of the directory can carry it.
    #[error("no relay of another operator than the server's offers tunnels")]
    NotOffered,
}

/// Why a server does not let this device read a topic. Tried again from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// The server asks readers for a proof, and there is no read key here.
    #[error("the server asks for a proof of the topic's read key, which this device does not have")]
    NoReadKey,
    /// The server did not take the proof: the topic has another read key.
    #[error("the server does not take the proof of the topic's read key: it has another one")]
    WrongReadKey,
    /// The topic was deleted, or blocked by the server's operator.
    #[error("the topic was deleted, or is blocked by the server's operator")]
    Gone,
}

/// Why queued operations are not sent. They stay queued; a shorter or direct route is never taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Blocked {
    /// No network is configured yet.
    #[error("no relays and sync server are configured: call init_sync")]
    NoNetwork,
    /// There is no route now.
    #[error(transparent)]
    Route(RouteError),
    /// The ticket allows reading only.
    #[error("the ticket of this topic allows reading only")]
    ReadOnly,
    /// The topic was deleted or blocked: its rows are parked until the server takes it again.
    #[error("the topic was deleted, or is blocked by the server's operator: nothing of it is sent")]
    Gone,
    /// The server takes only packets of version 2, which this app did not agree to.
    #[error(
        "the server takes only packets of version 2, which show position and size to every relay and the topic to the \
         last: allow them with accept_v2, or use a server that speaks version 3"
    )]
    Version2,
    /// Signals, control messages and shared packets do not exist in version 2.
    #[error("the server takes only packets of version 2, which carry single operations and nothing else")]
    NotInVersion2,
    /// The other relays speak another version than the server.
    #[error(
        "{need} usable relays of distinct operators that speak the server's version of packets are needed, the \
         directory has {have}; the others speak another version, and a route never mixes them"
    )]
    MixedVersions {
        /// Distinct operators with a usable relay of the server's version.
        have: usize,
        /// Relays asked for.
        need: usize,
    },
    /// The records are so old that relays have erased the keys in them. New ones are asked for.
    #[error(
        "the relays' records are from {as_of} (Unix epoch), and could not be renewed: their keys are no longer used"
    )]
    StaleRecords {
        /// When they were collected.
        as_of: Millis,
    },
    /// The topic closed: the conversation goes on in another one, of which this device has no key, or may not write.
    #[error("the conversation moved on to a topic in which this device cannot write")]
    Closed,
    /// The random source failed; tried again soon.
    #[error("the platform's random source failed")]
    Entropy,
}

impl From<RouteError> for Blocked {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::Entropy(_) => Self::Entropy,
            other => Self::Route(other),
        }
    }
}

/// A command that could not be done. Nothing of it was stored.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The topic was never opened.
    #[error("the topic is not open on this device: open it from its ticket first")]
    UnknownTopic,
    /// The ticket allows reading only.
    #[error("the ticket of this topic allows reading only")]
    ReadOnly,
    /// The server no longer takes anything for the topic.
    #[error("the topic was deleted, or is blocked by the server's operator: nothing can be published in it")]
    TopicGone,
    /// The device has as many topics as it may have.
    #[error("this device already has {} topics, the most there may be", crate::limits::MAX_TOPICS)]
    TooManyTopics,
    /// Another ticket for a topic that is open: it names another conversation, epoch or secret.
    #[error("the ticket contradicts the one this topic was opened with: one of the two is forged or damaged")]
    TicketConflict,
    /// A ticket for another topic that claims the conversation of one that is open.
    #[error("the ticket claims a conversation that is already open in another topic")]
    LogTaken,
    /// The conversation moved on to a topic of which this device has no key.
    #[error(
        "the conversation moved on to a topic of which this device has no key: wait for it, or ask a manager"
    )]
    TopicClosed,
    /// This device was not named as one that may.
    #[error("this device may not rotate the keys of this conversation")]
    NotRotator,
    /// Something happened since the rotation was prepared.
    #[error("the rotation was prepared from an older state: prepare it again")]
    StaleRotation,
    /// The conversation's keys cannot be rotated.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// Key material is damaged, or cannot be made now.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The signal is too long, or empty.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// It cannot be sent now, and what cannot be sent now is not kept.
    #[error("it cannot be sent now: {0}")]
    NotSent(Blocked),
    /// Only public topics are controlled.
    #[error(
        "only public topics take control messages: whoever may write to a private one could end it for all"
    )]
    NotPublic,
    /// The control message breaks a limit.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The device has no such key of the topic.
    #[error("this device does not have the key to prove")]
    NoKey,
    /// No server is configured.
    #[error("no relays and sync server are configured: call init_sync")]
    NoNetwork,
    /// The operation is not stored here, or belongs to another topic.
    #[error("there is no such operation in this topic on this device")]
    UnknownOperation,
    /// Somebody else wrote it.
    #[error("only what this device wrote can be taken back by it")]
    NotOwnOperation,
    /// It may have left this device, or others stand on it, and it is no message; or it is a delete, or deleted.
    #[error(
        "the operation cannot be taken back any more: only messages can be deleted; undo it by what says the opposite"
    )]
    NotCancellable,
    /// The conversation is no space.
    #[error("this conversation is no space, or is not known as one on this device yet")]
    NotASpace,
    /// The space would not count it.
    #[error("the space does not allow this: {0}")]
    Refused(Refusal),
    /// The device's person may not write there.
    #[error(
        "this device may not write here: it is no member, may only read, is muted, or the room is closed"
    )]
    MayNotWrite,
    /// A manager of the space did what this version does not understand.
    #[error("a newer version of the app is needed to take part in this space")]
    UpdateRequired,
    /// Nobody could manage the space any more.
    #[error("the last manager cannot leave the others: make somebody else a manager first (transfer)")]
    LastManager,
    /// The key that is to make a publish happen once is empty or too long.
    #[error("the key of a publish has {len} bytes, 1 to {} are allowed", crate::limits::MAX_IDEMPOTENCY_KEY)]
    IdempotencyKey {
        /// Its length.
        len: usize,
    },
    /// The outbox is full.
    #[error("the outbox is full: wait until the network took some of it")]
    OutboxFull,
    /// The device's log cannot grow any more.
    #[error(transparent)]
    Log(PublishError),
    /// The content breaks a limit.
    #[error("the content cannot become an operation: {0}")]
    Content(#[from] CreateError),
    /// The envelope could not be sealed.
    #[error("the operation cannot be sealed: {0}")]
    Seal(#[from] SealError),
    /// The sync server's id is not an Ed25519 key.
    #[error("the sync server's id is not an Ed25519 key: check the part of its URL after `#`")]
    ServerKey,
    /// The path length is not 1–5.
    #[error("a route has 1 to 5 relays")]
    PathLength,
    /// Cover or delays outside their bounds.
    #[error(transparent)]
    Sending(#[from] SendingError),
    /// The random source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The database failed; the whole batch was rolled back.
    #[error(transparent)]
    Store(Arc<StoreError>),
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<PublishError> for CommandError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Store(error) => error.into(),
            other => Self::Log(other),
        }
    }
}

/// What the driver is to do. Everything here is already durable.
#[derive(Debug)]
pub enum Output {
    /// Open a WebSocket.
    Connect {
        /// Name of the connection.
        conn: ConnId,
        /// Base URL of the server.
        server: Arc<str>,
        /// Through which tunnel; `None`: directly.
        via: Option<Tunnel>,
        /// What to ask for.
        request: SubscribeRequest,
    },
    /// The network changed: connections kept for later use lead through the old one.
    ForgetConnections,
    /// Close a WebSocket or give up a fetch; nothing of it is wanted any more.
    Disconnect {
        /// Name of the connection.
        conn: ConnId,
    },
    /// GET a page of history, in its binary form, from the configured server. The page goes to
    /// [`super::Engine::triage`] like a message of `conn`; [`Input::Disconnected`] follows, also when there is none.
    Fetch {
        /// Name of the exchange.
        conn: ConnId,
        /// Base URL of the server.
        server: Arc<str>,
        /// Through which tunnel, on a connection of its own; `None`: directly.
        via: Option<Tunnel>,
        /// What to ask for.
        request: HistoryRequest,
    },
    /// Build a packet and POST it to its first relay.
    Post(PostJob),
    /// GET the whole set of records from the first of these that gives it, configure the network with it, and say
    /// [`Input::RecordsRenewed`], also when none does.
    RenewRecords {
        /// URLs, none when no relay is known.
        sources: Vec<String>,
    },
    /// The answer to a command.
    Reply {
        /// The command.
        id: CommandId,
        /// The answer.
        result: Result<Reply, CommandError>,
    },
    /// News for the app.
    Event(Event),
}

/// News for the app. Everything named here is already durable.
#[derive(Clone, Debug)]
pub enum Event {
    /// The read model changed.
    Changed {
        /// Where.
        topic: TopicId,
        /// What.
        changes: Vec<Change>,
    },
    /// An own operation stands in the topic log.
    Acknowledged {
        /// Where.
        topic: TopicId,
        /// The operation.
        operation: OperationId,
        /// Its place.
        seq: Seq,
    },
    /// The connection of a topic changed.
    Connection {
        /// Which topic.
        topic: TopicId,
        /// Now.
        connection: Connection,
    },
    /// The server has another log than before; operations it lacks are going to be delivered again.
    Reset {
        /// Which topic.
        topic: TopicId,
    },
    /// The server no longer has these operations.
    Gap {
        /// Which topic.
        topic: TopicId,
        /// First missing seq.
        from: Seq,
        /// Last missing seq.
        to: Seq,
    },
    /// The server broke the protocol; the connection was given up and will be tried again.
    ServerFault {
        /// Which topic.
        topic: TopicId,
        /// How.
        fault: Fault,
    },
    /// Somebody was shown another history by the server than this device, or says so. Kept in the database
    /// ([`crate::store::Db::equivocations`]).
    ServerEquivocates {
        /// Which topic.
        topic: TopicId,
        /// Both heads, and who says it.
        equivocation: Box<Equivocation>,
    },
    /// An operation of this device stands in the topic log, as another view of it shows, and was not sent to this
    /// device although it is connected: the server, or the relay that carries the topic, keeps it back. It counts as
    /// acknowledged, and the topic is read anew. (`server_withholds`)
    ServerWithholds {
        /// Which topic.
        topic: TopicId,
        /// Where it stands.
        seq: Seq,
    },
    /// The server told this device that its log is another one, and shows the old one to others. Nothing is delivered
    /// again. (`server_equivocates`)
    FalseReset {
        /// Which topic.
        topic: TopicId,
        /// Where this device stood in the log that is still there.
        old: Cursor,
        /// Where it stands in the one it was told of.
        new: Cursor,
    },
    /// An author signed two operations for one place in a log. What was positioned before the second stays.
    Forked {
        /// Which topic.
        topic: TopicId,
        /// Who.
        author: Author,
        /// In which log.
        log: LogId,
    },
    /// The topic closed: what stands in it from now on is ignored.
    Closed {
        /// Which topic.
        topic: TopicId,
        /// Who closed it.
        rotator: Author,
        /// Where the conversation goes on.
        successor: TopicId,
    },
    /// The conversation goes on in another topic, opened by itself; it keeps its name for the app.
    Moved {
        /// The topic as the app knows it.
        topic: TopicId,
        /// Where it lives now.
        successor: TopicId,
    },
    /// The conversation goes on in a topic of which this device has no key (yet): it was removed, or the key is late.
    AwaitingKey {
        /// Which topic.
        topic: TopicId,
        /// Where the conversation goes on.
        successor: TopicId,
        /// Why there is no key.
        why: OpenError,
    },
    /// A rotation of this device came after the one that closed the topic: whatever it was for is to be done again.
    RotationLost {
        /// Which topic.
        topic: TopicId,
        /// The rotation.
        operation: OperationId,
    },
    /// Somebody sent a signal. It is stored nowhere.
    Signal {
        /// Which topic.
        topic: TopicId,
        /// Who, when by their clock, and what.
        signal: Signal,
    },
    /// A signal of this device left, or did not; it is not tried again.
    SignalSent {
        /// Which topic.
        topic: TopicId,
        /// Whether its entry relay took it.
        taken: bool,
    },
    /// The server does not let this device read the topic, or does again.
    Readable {
        /// Which topic.
        topic: TopicId,
        /// Why not, if not.
        unreadable: Option<Unreadable>,
    },
    /// Sending stopped or can go on.
    Delivery {
        /// Which topic.
        topic: TopicId,
        /// Why not, if not.
        blocked: Option<Blocked>,
    },
}

impl Event {
    /// The topic it is about.
    pub fn topic(&self) -> TopicId {
        match self {
            Self::Changed { topic, .. }
            | Self::Acknowledged { topic, .. }
            | Self::Connection { topic, .. }
            | Self::Reset { topic }
            | Self::Gap { topic, .. }
            | Self::ServerFault { topic, .. }
            | Self::ServerEquivocates { topic, .. }
            | Self::ServerWithholds { topic, .. }
            | Self::FalseReset { topic, .. }
            | Self::Forked { topic, .. }
            | Self::Closed { topic, .. }
            | Self::Moved { topic, .. }
            | Self::AwaitingKey { topic, .. }
            | Self::RotationLost { topic, .. }
            | Self::Signal { topic, .. }
            | Self::SignalSent { topic, .. }
            | Self::Readable { topic, .. }
            | Self::Delivery { topic, .. } => *topic,
        }
    }

    pub(super) fn topic_mut(&mut self) -> &mut TopicId {
        match self {
            Self::Changed { topic, .. }
            | Self::Acknowledged { topic, .. }
            | Self::Connection { topic, .. }
            | Self::Reset { topic }
            | Self::Gap { topic, .. }
            | Self::ServerFault { topic, .. }
            | Self::ServerEquivocates { topic, .. }
            | Self::ServerWithholds { topic, .. }
            | Self::FalseReset { topic, .. }
            | Self::Forked { topic, .. }
            | Self::Closed { topic, .. }
            | Self::Moved { topic, .. }
            | Self::AwaitingKey { topic, .. }
            | Self::RotationLost { topic, .. }
            | Self::Signal { topic, .. }
            | Self::SignalSent { topic, .. }
            | Self::Readable { topic, .. }
            | Self::Delivery { topic, .. } => topic,
        }
    }
}
