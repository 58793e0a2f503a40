//! The built `delta` program with real relays and a real sync server: messages between processes, kills, the demo.

mod demo;
mod kill;
mod messages;
mod support;
mod topics;
