//! Everything a call can fail with: who is at fault, what to do next, and a code that never changes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use delta_core::EntropyError;
use delta_core::engine::ingest::PublishError;
use delta_core::engine::{CommandError, EngineError, Unreadable};
use delta_core::export::ExportError;
use delta_core::onion::directory::{DirectoryError, RecordError, SkipReason, SyncUrlError};
use delta_core::onion::route::MAX_RELAYS;
use delta_core::ops::TicketError;
use delta_core::push::{PushError, SnapshotError};
use delta_core::store::StoreError;
use thiserror::Error;

use crate::devices::PairingFailure;
use crate::keystore::KeyStoreError;
use crate::net::ProxyTextError;

/// A call failed. Nothing of it was done unless the variant says otherwise.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The database cannot be opened, read or written; the source names the file and the cause.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// A command was refused.
    #[error(transparent)]
    Command(CommandError),
    /// The keystore does not give, or take, the device's key.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
    /// The random source failed; try again later.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// An export cannot be read: another passphrase, a damaged file, or none at all.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A key snapshot cannot be made or read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A pushed envelope gives no preview.
    #[error(transparent)]
    Push(#[from] PushError),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is no ticket. Whoever gave it is at fault.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The sync URL is malformed or not allowed. The app's configuration is at fault.
    #[error("the sync URL is not usable: {0}")]
    SyncUrl(#[from] SyncUrlError),
    /// The sync URL is http and [`Config::allow_plaintext`](crate::Config::allow_plaintext) is off.
    #[error("{url} is not encrypted: use https, or set allow_plaintext during development")]
    Plaintext {
        /// The URL.
        url: String,
    },
    /// The directory or pool is refused as a whole.
    #[error("the relays are not usable: {0}")]
    Directory(#[from] DirectoryError),
    /// An entry of a pool is not a record object. The app's configuration is at fault.
    #[error("entry {index} of the relay pool is not a record object: {source}")]
    Pool {
        /// Its place in the pool, from 0.
        index: usize,
        /// What is wrong with it.
        source: RecordError,
    },
    /// A route has 1 to 5 relays. The app's configuration is at fault.
    #[error("a route has 1 to {MAX_RELAYS} relays, not {relays}")]
    PathLength {
        /// What was asked for.
        relays: usize,
    },
    /// The server could not be asked, or gave no usable answer. Check the network and the URL, then try again.
    #[error("the sync server at {url} cannot be asked: {reason}")]
    ServerUnreachable {
        /// Its base URL.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The server does not let this device read the topic.
    #[error(transparent)]
    Unreadable(Unreadable),
    /// What the server says of itself cannot be trusted or used. The server, or somebody in its place, is at fault.
    #[error("the record of the sync server at {url} is not usable: {reason}")]
    ServerRecord {
        /// Its base URL.
        url: String,
        /// Why not.
        reason: ServerRecordError,
    },
    /// The record that the server shows of itself has expired by this device's clock: the clock is wrong, or the server
    /// has not signed anew for days.
    #[error(
        "the record of the sync server at {url} expired {} minutes ago by this device's clock: set the clock; if it is right, \
         the server's operator has to look", .ahead_ms / 60_000
    )]
    ClockSkew {
        /// Its base URL.
        url: String,
        /// How far the clock is ahead at least, milliseconds.
        ahead_ms: u64,
    },
    /// What this device has seen of directories is damaged: an old one could no longer be told from a new one. The
    /// database's file is at fault; restore it, or begin with a new one.
    #[error("what was seen of directories before cannot be read: the database is damaged")]
    SeenDamaged,
    /// A root certificate of the configuration is not usable, or the TLS library cannot start.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// A text names no proxy. The app's configuration is at fault.
    #[error(transparent)]
    Proxy(#[from] ProxyTextError),
    /// The operating system gave no thread.
    #[error("no thread can be started: {0}")]
    Threads(io::Error),
    /// Two devices do not become one person's.
    #[error(transparent)]
    Pairing(#[from] PairingFailure),
    /// The client is suspended: no file is open. Call [`Client::resume`](crate::Client::resume) first.
    #[error("the client is suspended: resume it first")]
    Suspended,
    /// The client was closed. Open a new one.
    #[error("the client is closed: open it again")]
    Closed,
    /// The engine's thread hit a bug and stopped; what was reported as published is safe. Open the client again.
    #[error("the engine stopped because of a bug; nothing published is lost: open the client again")]
    EnginePanicked,
    /// A query hit a bug.
    #[error("the query stopped because of a bug")]
    QueryPanicked,
}

/// Why a server's record is not used.
#[derive(Debug, Error)]
pub enum ServerRecordError {
    /// `/info` is not the JSON it should be.
    #[error("its /info has no record object")]
    Info,
    /// Not a record, or not signed by the key it names.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Signed by another key than the sync URL pins.
    #[error("it is signed by {found}, not by the key in the sync URL")]
    Pin {
        /// The key that signed it.
        found: delta_core::NodeId,
    },
    /// Expired, or with a URL that is not allowed.
    #[error(transparent)]
    Skipped(SkipReason),
    /// A relay's record.
    #[error("it is the record of a relay")]
    Relay,
    /// A record without an onion key cannot receive packets.
    #[error("it has no onion key")]
    NoOnionKey,
}

impl ClientError {
    /// A short name of the error that stays the same in all versions and languages.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => store_code(error),
            Self::Command(error) => command_code(error),
            Self::KeyStore(KeyStoreError::Denied) => "keystore_denied",
            Self::KeyStore(KeyStoreError::Failed(_)) => "keystore_failed",
            Self::KeyStore(KeyStoreError::Damaged(_)) => "keystore_damaged",
            Self::Entropy(_) => "entropy",
            Self::Export(ExportError::NotAnExport) => "export_not_one",
            Self::Export(ExportError::Version { .. }) => "export_newer",
            Self::Export(ExportError::Cost { .. }) => "export_cost",
            Self::Export(ExportError::Passphrase) => "export_passphrase",
            Self::Export(ExportError::Damaged) => "export_damaged",
            Self::Export(ExportError::Entropy(_)) => "entropy",
            Self::Snapshot(SnapshotError::NotOne) => "snapshot_not_one",
            Self::Snapshot(SnapshotError::Version { .. }) => "snapshot_newer",
            Self::Snapshot(SnapshotError::Damaged | SnapshotError::TooLarge) => "snapshot_damaged",
            Self::Snapshot(SnapshotError::Entropy(_)) => "entropy",
            Self::Push(PushError::NoKey) => "push_no_key",
            Self::Push(PushError::NeedsDatabase) => "push_needs_app",
            Self::Push(PushError::Envelope(_) | PushError::Operation(_)) => "push_damaged",
            Self::File { .. } => "io",
            Self::Ticket(_) => "ticket",
            Self::SyncUrl(_) => "sync_url",
            Self::Plaintext { .. } => "plaintext",
            Self::Directory(_) => "directory",
            Self::Pool { .. } => "pool",
            Self::PathLength { .. } => "path_length",
            Self::ServerUnreachable { .. } => "server_unreachable",
            Self::ServerRecord { .. } => "server_record",
            Self::Unreadable(Unreadable::NoReadKey) => "no_read_key",
            Self::Unreadable(Unreadable::WrongReadKey) => "wrong_read_key",
            Self::Unreadable(Unreadable::Gone) => "topic_gone",
            Self::ClockSkew { .. } => "clock_skew",
            Self::SeenDamaged => "database_corrupt",
            Self::Tls(_) => "tls",
            Self::Proxy(_) => "proxy",
            Self::Threads(_) => "threads",
            Self::Pairing(PairingFailure::Expired) => "pairing_expired",
            Self::Pairing(PairingFailure::Taken) => "pairing_taken",
            Self::Pairing(PairingFailure::Refused) => "pairing_refused",
            Self::Pairing(PairingFailure::Welcome(_)) => "pairing_welcome",
            Self::Pairing(PairingFailure::NotTheIdentity) => "not_the_identity",
            Self::Suspended => "suspended",
            Self::Closed => "closed",
            Self::EnginePanicked => "engine_panicked",
            Self::QueryPanicked => "query_panicked",
        }
    }
}

fn store_code(error: &StoreError) -> &'static str {
    match error {
        StoreError::Locked { .. } => "database_locked",
        StoreError::NewerSchema { .. } => "database_newer",
        StoreError::NotADatabase { .. } => "database_not_one",
        StoreError::ForeignDatabase { .. } => "database_foreign",
        StoreError::Corrupt { .. } => "database_corrupt",
        StoreError::WalMissing { .. } => "database_wal_missing",
        StoreError::KeyMissing { .. } | StoreError::WrongKey { .. } => "database_sealed",
        StoreError::OtherDevice { .. } => "database_other_device",
        StoreError::DiskFull { .. } => "disk_full",
        StoreError::Limit(_) => "limit",
        StoreError::Io { .. } => "io",
        _ => "database",
    }
}

fn command_code(error: &CommandError) -> &'static str {
    match error {
        CommandError::UnknownTopic => "unknown_topic",
        CommandError::ReadOnly => "read_only",
        CommandError::TooManyTopics => "too_many_topics",
        CommandError::TicketConflict => "ticket_conflict",
        CommandError::LogTaken => "log_taken",
        CommandError::NotASpace => "not_a_space",
        CommandError::RoomOfSpace => "room_of_space",
        CommandError::Refused(_) => "not_allowed",
        CommandError::MayNotWrite => "may_not_write",
        CommandError::Cooldown { .. } => "cooldown",
        CommandError::UpdateRequired => "update_required",
        CommandError::LastManager => "last_manager",
        CommandError::UnknownBlob => "unknown_blob",
        CommandError::BlobChunk => "blob_size",
        CommandError::BlobNotHere => "blob_not_here",
        CommandError::OwnTopic => "own_topic",
        CommandError::OwnTopicStays => "own_topic_stays",
        CommandError::PairingOver => "pairing_expired",
        CommandError::Certified => "certified",
        CommandError::Certificate(_) => "certificate",
        CommandError::NotOwnDevice => "not_own_device",
        CommandError::OutboxFull => "outbox_full",
        CommandError::UnknownOperation => "unknown_operation",
        CommandError::NotOwnOperation => "not_own_operation",
        CommandError::NotCancellable => "not_cancellable",
        CommandError::TopicClosed => "topic_closed",
        CommandError::NotRotator => "not_rotator",
        CommandError::StaleRotation => "stale_rotation",
        CommandError::Crypto(_) | CommandError::Direct(_) | CommandError::Inbox(_) => "crypto",
        CommandError::NoInbox => "no_inbox",
        CommandError::NotReachable => "not_reachable",
        CommandError::InboxOnly => "inbox_only",
        CommandError::UnknownThread => "unknown_thread",
        CommandError::ThreadState => "thread_state",
        CommandError::StaleKeys => "stale_keys",
        CommandError::Rotation(_) => "rotation",
        CommandError::IdempotencyKey { .. } => "idempotency_key",
        CommandError::Signal(_) => "signal",
        CommandError::NotSent(_) => "not_sent",
        CommandError::NotPublic => "not_public",
        CommandError::Control(_) => "control",
        CommandError::NoKey => "no_key",
        CommandError::NoNetwork => "no_network",
        CommandError::TopicGone => "topic_gone",
        CommandError::Content(_) => "content",
        CommandError::Seal(_) => "too_large",
        CommandError::PathLength => "path_length",
        CommandError::Sending(_) => "sending",
        CommandError::ServerKey => "bad_server_key",
        CommandError::Entropy(_) => "entropy",
        CommandError::Store(error) => store_code(error),
        CommandError::Log(PublishError::LogEnded) => "log_forked",
        CommandError::Log(PublishError::LogFull) => "log_full",
        CommandError::Log(_) => "log",
    }
}

impl From<StoreError> for ClientError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<EngineError> for ClientError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => Self::Store(error),
        }
    }
}

impl From<CommandError> for ClientError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Store(error) => Self::Store(error),
            error => Self::Command(error),
        }
    }
}
