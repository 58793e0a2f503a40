//! Delta for apps: one object, typed errors, listeners; in Kotlin, Swift and Python through UniFFI.
//!
//! Only conversion happens here. [`Delta`] forwards to `delta_client::Client` on a runtime of its own, so that a call
//! runs to its end whatever the caller's executor does with the future. The generated bindings lie beside this crate
//! in `bindings/`; `cargo xtask bindings` makes them again.

mod blob;
mod delta;
mod direct;
mod document;
mod error;
mod event;
mod held;
mod identity;
mod ids;
mod keystore;
mod log;
mod message;
mod onion;
mod pairing;
mod push;
mod records;
mod runtime;
mod space;
mod subscription;
mod ticket;
mod value;

pub use blob::{BlobSource, BlobState, BlobStatus};
pub use delta::Delta;
pub use direct::{DirectThread, ThreadState};
pub use document::{Document, DocumentPart};
pub use error::{DeltaError, ListenerError};
pub use event::{Change, ChangedKind, Event};
pub use held::{Cancelled, OutboxRow, OutboxState, Statistics, StorageUse, TopicUse};
pub use identity::{
    generate_mnemonic, identity_address, import_mnemonic, mnemonic_identity, parse_address, stored_mnemonic,
};
pub use keystore::{Keystore, KeystoreError};
pub use log::{LogLevel, LogSink};
pub use message::{
    Attachment, Content, Found, Mention, Message, MessagePage, Profile, Reaction, ReceiptPlace, ReceivedPage,
    SearchWords, Unread, Version,
};
pub use onion::{OnionHop, OnionLayer, OnionSecret, OnionTarget, build_onion_packet, peel_onion_layer};
pub use pairing::{OwnDevice, PairingGuest, PairingHost, PairingRequest};
pub use push::{KeySnapshot, Preview, PreviewSaid, decrypt_push};
pub use records::{
    ClockSkew, Config, Connection, GapRow, Outbox, ParkedRows, Pending, RelayHops, RunSummary, TopicStatus,
    Trouble,
};
pub use space::{
    AuditLine, AuditPlace, Invitation, JoinRequest, Level, Member, Place, Room, RoomState, RoomText, Space,
    SpaceAction, SpaceDevice, SpaceText,
};
pub use subscription::{EventListener, Subscription};
pub use ticket::{TicketFacts, generate_ticket, read_only_ticket, ticket_facts};
pub use value::{Value, ValueKey};

uniffi::setup_scaffolding!("delta_ffi");
