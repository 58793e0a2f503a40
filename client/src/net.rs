//! Sockets and HTTP: the only place of the crate that touches the network.

mod post;
mod socket;
mod tls;

pub(crate) use post::Http;
use socket::retry_after;
pub(crate) use socket::{Closed, Sink, SocketContext, run};
pub(crate) use tls::client_config;
