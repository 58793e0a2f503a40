//! The client against the simulation's actors behind real sockets, which misbehave as scripted.

mod accountability;
mod device;
mod exchange;
mod history;
mod lifecycle;
mod net;
mod records;
mod relays;
mod server;
mod signals;
mod storage;
mod suspend;
mod tls;
