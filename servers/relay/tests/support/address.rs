//! Addresses for servers whose record must name them before they start.

use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::net::TcpSocket;

/// An address on this machine at which nobody else listens while this process runs, whatever other processes do. Its
/// port stays bound here, so the system gives it to nobody; a server that asks for this very port gets it all the
/// same, because both sockets may share it (`SO_REUSEADDR`) as long as only one of them listens.
pub fn free_address() -> SocketAddr {
    static HELD: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    HELD.lock().unwrap().push(socket);
    address
}
