//! What goes into the engine and what comes out of it: plain values.

mod command;

use std::sync::Arc;

use super::clock::ClockSkew;
use super::event::Event;
use super::freshness::Renewed;
use super::jobs::{OpenedBatch, PostJob};
use super::refusal::{Blocked, CommandError, Unreadable};
use super::seal::{SealJob, Sealed};
use super::sending::Sending;
use crate::identity::{Identity, LogId, NodeId, OperationId, ThreadId};
use crate::onion::directory::{Directory, Node, Seen};
use crate::onion::route::Tunnel;
use crate::ops::{BlobId, Ticket};
use crate::space::Invite;
use crate::store::Pruned;
use crate::sync::history::HistoryRequest;
use crate::sync::outbox::AttemptId;
use crate::sync::session::{ConnId, Connection, Cursor, SubscribeRequest};
use crate::topic::TopicId;
use bytes::Bytes;
use thiserror::Error;

pub use command::Command;

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
    /// What a blob is called that is being made; at last its id.
    Blob(BlobId),
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
