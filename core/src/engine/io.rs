//! What goes into the engine and what comes out of it: plain values.

use std::sync::Arc;

use super::clock::ClockSkew;
use super::event::Event;
use super::freshness::Renewed;
use super::jobs::{OpenedBatch, PostJob};
use super::refusal::{Blocked, CommandError, Unreadable};
use super::seal::{SealJob, Sealed};
use super::sending::Sending;
use crate::crypto::{DeviceSecrets, PreparedDirect, PreparedRotation};
use crate::identity::{
    Author, Certificate, Identity, LogId, Millis, NodeId, OperationId, Revocation, ThreadId,
};
use crate::onion::control::Action;
use crate::onion::directory::{Directory, Node, Seen};
use crate::onion::route::Tunnel;
use crate::ops::{self, Content, Hidden, Level, RoomText, SpaceText, Ticket, ValueKey};
use crate::projector::Position;
use crate::space::Invite;
use crate::store::{PruneAt, Pruned};
use crate::sync::history::HistoryRequest;
use crate::sync::outbox::AttemptId;
use crate::sync::proof::{Purpose, ReadKey};
use crate::sync::session::{ConnId, Connection, Cursor, SubscribeRequest};
use crate::topic::TopicId;
use bytes::Bytes;
use thiserror::Error;

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
    /// Keys that [`Output::Seal`] asked for are sealed.
    Sealed(Sealed),
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
    /// Open this device's inbox, with these secrets if it has none yet. It stays open, also across restarts.
    OpenInbox {
        /// From [`crate::crypto::GroupCrypto::generate`].
        secrets: Option<Box<DeviceSecrets>>,
    },
    /// Ask a manager's device to be added to a space.
    RequestJoin {
        /// The space's log id.
        space: LogId,
        /// The manager's device.
        to: Author,
        /// Where it is written to, when no bundle of it is known.
        inbox: Option<Hidden>,
        /// What to say.
        text: Option<String>,
    },
    /// Ask a device for a direct thread.
    RequestDirect {
        /// The device.
        to: Author,
        /// Where it is written to, when no bundle of it is known.
        inbox: Option<Hidden>,
        /// What to say.
        text: Option<String>,
    },
    /// Accept a direct thread that another device asked for.
    AcceptDirect {
        /// Which.
        thread: ThreadId,
    },
    /// Take no more part in a direct thread.
    CloseDirect {
        /// Which.
        thread: ThreadId,
    },
    /// Sign and send an operation of a direct thread.
    PublishDirect {
        /// Which thread.
        thread: ThreadId,
        /// What it says.
        content: Content,
        /// From [`super::prepare_message`].
        prepared: Arc<[PreparedDirect]>,
    },
    /// How much would be left for the next time if the app ended now.
    Unsent,
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
    /// Note how far a conversation has been read. It is the business of the person's devices alone.
    SetRead {
        /// The conversation.
        log: LogId,
        /// The last message read.
        upto: Position,
    },
    /// Set the value of a key, or delete it.
    PutValue {
        /// The topic, opened before with a ticket that may write.
        topic: TopicId,
        /// Where.
        at: ValueKey,
        /// What; `None` to delete.
        value: Option<Bytes>,
    },
    /// Whose device this is.
    WhoAmI,
    /// Open the topic that the person's devices share: this one, or the one there is; made where there is none.
    OwnTopic {
        /// From a welcome.
        ticket: Option<Ticket>,
    },
    /// As [`Command::OpenTopic`], of a ticket that another device of the person had: nobody is told, and an epoch that is
    /// over is opened beside a newer one.
    Meet {
        /// The ticket.
        ticket: Ticket,
    },
    /// Open the topic of a pairing ([`crate::pairing`]). Nobody else is told of it; after
    /// [`PAIRING_LIFETIME_MS`](crate::pairing::PAIRING_LIFETIME_MS) nothing is said in it any more, and it is removed.
    BeginPairing {
        /// The ticket.
        ticket: Ticket,
    },
    /// Remove the topic of a pairing before its time is over.
    EndPairing {
        /// Which.
        topic: TopicId,
    },
    /// Be a device of the person who certified it. The caller keeps the certificate.
    Certify {
        /// The person's word for this device.
        certificate: Certificate,
    },
    /// Hand a device of this person, which this one has paired, what was said in direct threads before.
    HandPast {
        /// The new device.
        to: Author,
    },
    /// Revoke another device of this person.
    Revoke {
        /// The person's word against it.
        revocation: Box<Revocation>,
    },
    /// Which relays are left out at present, because packets over them were lost or refused.
    AvoidedRelays,
    /// Through which tunnel to ask the configured server about a topic now.
    Tunnel {
        /// The topic.
        topic: TopicId,
    },
    /// Erase old messages of a topic from this device: one step of it.
    Prune {
        /// Which topic.
        topic: TopicId,
        /// Received before this instant, by the server's clock.
        before: Millis,
        /// Where the step before ended.
        at: Option<PruneAt>,
    },
    /// Remove a conversation from this device with everything of it; a space with its rooms.
    Wipe {
        /// Which topic.
        topic: TopicId,
    },
    /// Through which tunnels, best first, to ask a server for its record before it is configured.
    TunnelsTo {
        /// The relays that will be configured with it.
        directory: Arc<Directory>,
        /// The server's id, which the app pins.
        server: NodeId,
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
            | Self::OpenInbox { .. }
            | Self::RequestJoin { .. }
            | Self::RequestDirect { .. }
            | Self::AcceptDirect { .. }
            | Self::CloseDirect { .. }
            | Self::PublishDirect { .. }
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
            | Self::SetRead { .. }
            | Self::OwnTopic { .. }
            | Self::Meet { .. }
            | Self::BeginPairing { .. }
            | Self::EndPairing { .. }
            | Self::Certify { .. }
            | Self::Revoke { .. }
            | Self::HandPast { .. }
            | Self::PutValue { .. }
            | Self::SetReadKey { .. }
            | Self::Prune { .. }
            | Self::Wipe { .. } => true,
            Self::Subscribe { .. }
            | Self::Unsubscribe { .. }
            | Self::Signal { .. }
            | Self::Prove { .. }
            | Self::AvoidedRelays
            | Self::WhoAmI
            | Self::Unsent
            | Self::Status { .. }
            | Self::Tunnel { .. }
            | Self::TunnelsTo { .. } => false,
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
    /// What opens the topic.
    Ticket(Ticket),
    /// Whose device this is.
    Identity(Identity),
    /// A direct thread, and the topic it lives in once it is open.
    Thread {
        /// Which.
        thread: ThreadId,
        /// Where it lives.
        topic: Option<TopicId>,
    },
    /// Packets that are not handed over yet, and what is to go to inboxes and was in none that were.
    Unsent(usize),
    /// Through which tunnel; `None`: directly ([`TopicStatus::read_path`] says why).
    Tunnel(Option<Tunnel>),
    /// The tunnels to ask a server for its record through; none: no relay offers any.
    Tunnels(Vec<Tunnel>),
    /// The relays that are left out while there are enough others.
    AvoidedRelays(Vec<NodeId>),
    /// So many parked operations are back in the queue.
    Retried(u64),
    /// An operation was taken back.
    Cancelled(Cancelled),
    /// What a step of a pruning did.
    Pruned(Pruned),
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
    /// How far this device's clock is from the server's, where that is too far.
    pub clock_skew: Option<ClockSkew>,
    /// Who sees that this device reads; `None` while no network is configured.
    pub read_path: Option<ReadPath>,
    /// The conversation moved on to this epoch, of which the device has no key yet. Nothing can be published before it
    /// comes.
    pub awaiting_key: Option<u32>,
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
        /// Why the relay sees nothing but the server it leads to.
        seal: Seal,
    },
    /// The server sees this device's address.
    Direct(DirectReading),
}

/// What seals that which flows through a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// TLS, with the server's certificate.
    Tls,
    /// Noise, with the server's identity: it has no certificate (in a network for tests).
    Noise,
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
    /// Ask the configured server (`has`) which of these envelopes stand in a topic. The answer goes to
    /// [`super::Engine::triage`] like a message of `conn`; [`Input::Disconnected`] follows, also when there is none.
    Has {
        /// Name of the exchange.
        conn: ConnId,
        /// Base URL of the server.
        server: Arc<str>,
        /// Through which tunnel, on a connection of its own; `None`: directly.
        via: Option<Tunnel>,
        /// Which topic.
        topic: TopicId,
        /// The body: hashes of envelopes.
        body: Bytes,
    },
    /// Build a packet and POST it to its first relay.
    Post(PostJob),
    /// Seal keys for other devices ([`super::seal`], on any thread), and say [`Input::Sealed`].
    Seal(Box<SealJob>),
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
