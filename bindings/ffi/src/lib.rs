//! Delta for apps: one object, typed errors, listeners; in Kotlin, Swift and Python through UniFFI.
//!
//! Only conversion happens here. [`Delta`] forwards to `delta_client::Client` on a runtime of its own, so that a call
//! runs to its end whatever the caller's executor does with the future. The generated bindings lie beside this crate
//! in `bindings/`; `cargo xtask bindings` makes them again.

mod delta;
mod error;
mod event;
mod ids;
mod keystore;
mod log;
mod message;
mod onion;
mod records;
mod runtime;
mod subscription;
mod ticket;

pub use delta::Delta;
pub use error::{DeltaError, ListenerError};
pub use event::{Change, ChangedKind, Event};
pub use keystore::{Keystore, KeystoreError, generate_mnemonic, import_mnemonic};
pub use log::{LogLevel, LogSink};
pub use message::{Content, Message, MessagePage, Reaction};
pub use onion::{OnionHop, OnionLayer, OnionSecret, OnionTarget, build_onion_packet, peel_onion_layer};
pub use records::{
    Config, Connection, GapRow, Outbox, ParkedRows, Pending, RelayHops, RunSummary, Statistics, TopicStatus,
    Trouble,
};
pub use subscription::{EventListener, Subscription};
pub use ticket::{TicketFacts, generate_ticket, read_only_ticket, ticket_facts};

uniffi::setup_scaffolding!("delta_ffi");
