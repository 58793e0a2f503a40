//! Sockets and HTTP: the only place of the crate that touches the network.

mod dial;
mod http;
mod pool;
mod proxy;
mod socket;
mod tls;
mod tunnel;

pub(crate) use http::{GetError, Http};
pub use proxy::{MAX_CREDENTIAL, MAX_HOST, Proxy, ProxyTextError};
pub(crate) use socket::{Closed, Sink, SocketContext, run};
pub(crate) use tls::client_config;
