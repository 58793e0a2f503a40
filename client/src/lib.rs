//! The tokio driver of Delta's core: WebSockets, HTTP, timers and the clock.
//!
//! [`Client`] owns a thread for the engine, a small pool for pure work and tasks for sockets on the caller's
//! runtime. Nothing here decides anything about operations, order or delivery: that is `delta-core`'s engine; this
//! crate feeds it inputs and does what its outputs say.
//!
//! ```no_run
//! # async fn example(hops: delta_client::RelayHops, ticket: delta_core::ops::Ticket) -> Result<(), delta_client::ClientError> {
//! use delta_client::{Client, Config, Update};
//! use delta_core::ops::Content;
//!
//! let client = Client::open(Config::new("device.db", [7; 32])).await?;
//! client.init_sync(&hops, "https://sync.example#<the server's key>").await?;
//! let topic = client.open_topic(&ticket).await?;
//! let mut updates = client.subscribe(topic).await?;
//! client.publish(topic, Content::MessageSend { text: "hello".into(), reply: None, mentions: vec![], attachments: Vec::new() }).await?;
//! while let Some(Update::Event(event)) = updates.next().await {
//!     println!("{event:?}");
//! }
//! client.close().await
//! # }
//! ```

mod access;
mod apart;
mod blobs;
mod client;
mod config;
mod devices;
mod documents;
mod driver;
mod error;
mod export;
mod fault;
mod inbox;
mod keystore;
mod lifecycle;
mod net;
mod network;
mod outbox;
mod platform;
mod push;
mod readers;
mod renew;
mod rotation;
mod spaces;
mod storage;
mod subscription;
mod values;

pub use access::About;
pub use blobs::BlobSource;
pub use client::Client;
pub use config::{Config, RelayHops};
pub use delta_core::engine::{
    Blocked, Cancelled, ClockSkew, CommandError, DirectReading, Event, ReadPath, Seal, TopicStatus,
    Unreadable,
};
pub use devices::{OwnDevice, PairingFailure, PairingGuest, PairingHandover, PairingHost, PairingRequest};
pub use error::{ClientError, ServerRecordError};
pub use export::{export_database, import};
pub use fault::{Code, Fault};
pub use keystore::{
    DATABASE_ITEM, DEVICE_ITEM, DeviceSource, IDENTITY_ITEM, KeyStore, KeyStoreError, store_identity,
    stored_identity,
};
pub use lifecycle::{RunSummary, Statistics};
pub use net::{MAX_CREDENTIAL, MAX_HOST, Proxy, ProxyTextError};
pub use platform::{PlatformEntropy, SystemClock, WallClock};
pub use push::{PUSH_ITEM, open_snapshot};
pub use readers::Query;
pub use rotation::{Remaining, Rotated};
pub use subscription::{MAX_MERGED_CHANGES, MAX_WAITING_EVENTS, Subscription, Update};
