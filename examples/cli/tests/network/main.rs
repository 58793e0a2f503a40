//! The built `delta` program with real relays and a real sync server: messages between processes, kills, the demo.

#[path = "../../../../servers/relay/tests/support/address.rs"]
mod address;
mod blobs;
#[cfg(target_os = "linux")]
mod chat;
#[cfg(target_os = "linux")]
mod chat_ends;
mod demo;
mod devices;
mod dm;
mod documents;
mod kill;
mod messages;
mod outbox;
#[cfg(target_os = "linux")]
mod pty;
mod rotation;
mod spaces;
mod support;
mod topics;
mod v2;
