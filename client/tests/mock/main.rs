//! The client against the simulation's actors behind real sockets, which misbehave as scripted.

mod device;
mod exchange;
mod lifecycle;
mod net;
mod relays;
mod server;
mod tls;
