//! What the app asks of the engine.

use std::sync::Arc;

use bytes::Bytes;

use super::Network;
use crate::crypto::{DeviceSecrets, PreparedDirect, PreparedRotation};
use crate::identity::{Author, Certificate, LogId, Millis, NodeId, OperationId, Revocation, ThreadId};
use crate::onion::control::Action;
use crate::onion::directory::Directory;
use crate::ops::{self, BlobId, Content, Hidden, Level, RoomText, SpaceText, Ticket, ValueKey};
use crate::projector::Position;
use crate::space::Invite;
use crate::store::PruneAt;
use crate::sync::proof::{Purpose, ReadKey};
use crate::topic::TopicId;

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
        /// From [`crate::engine::prepare_message`].
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
    /// Begin to make a blob. What it is called until it is whole is answered.
    MakeBlob {
        /// Its size, bytes, at most [`crate::limits::MAX_BLOB`].
        size: u64,
        /// Its MIME type, at most [`crate::limits::MAX_MIME`] bytes.
        mime: String,
        /// The name of its file, at most [`crate::limits::MAX_FILE_NAME`] bytes.
        name: Option<String>,
    },
    /// Keep the next chunk of a blob that is made.
    PutChunk {
        /// What it is called.
        blob: BlobId,
        /// Which chunk, from 0.
        number: u32,
        /// [`crate::limits::BLOB_CHUNK`] bytes, in the last chunk what is left.
        bytes: Bytes,
    },
    /// Give a blob its id, and begin to send it.
    FinishBlob {
        /// What it is called until then.
        blob: BlobId,
    },
    /// Fetch a blob that a message names, unless it is here.
    FetchBlob {
        /// Which.
        blob: BlobId,
    },
    /// Remove a blob from this device; one that is made, sent or fetched is given up.
    DropBlob {
        /// Which.
        blob: BlobId,
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
    pub(in super::super) const fn is_durable(&self) -> bool {
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
            | Self::FinishBlob { .. }
            | Self::FetchBlob { .. }
            | Self::DropBlob { .. }
            | Self::SetReadKey { .. }
            | Self::Prune { .. }
            | Self::Wipe { .. } => true,
            Self::Subscribe { .. }
            | Self::Unsubscribe { .. }
            | Self::Signal { .. }
            | Self::Prove { .. }
            | Self::MakeBlob { .. }
            | Self::PutChunk { .. }
            | Self::AvoidedRelays
            | Self::WhoAmI
            | Self::Unsent
            | Self::Status { .. }
            | Self::Tunnel { .. }
            | Self::TunnelsTo { .. } => false,
        }
    }
}
