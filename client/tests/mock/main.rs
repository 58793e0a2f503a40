//! The client against the simulation's actors behind real sockets, which misbehave as scripted.

mod accountability;
mod blobs;
mod device;
mod exchange;
mod hidden;
mod history;
mod hostile;
mod lifecycle;
mod links;
mod net;
mod options;
mod pairing;
mod proxy;
mod records;
mod relays;
mod sealed;
mod search;
mod server;
mod signals;
mod storage;
mod suspend;
mod tls;
