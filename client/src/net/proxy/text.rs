//! A proxy as a text names it.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use thiserror::Error;

/// Longest user name and longest password, bytes (RFC 1929, section 2).
pub const MAX_CREDENTIAL: usize = 255;
/// Longest name of a proxy's host, bytes.
pub const MAX_HOST: usize = 255;

/// A proxy, from `socks5://[user:password@]host:port` or `http://[user:password@]host:port`.
///
/// In user names and passwords `%` and two hex digits stand for a byte; each has 1 to [`MAX_CREDENTIAL`] bytes, none of
/// them a control character. Shown, also by `Debug`, it has neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(super) kind: Kind,
    /// A name or an address, an IPv6 address without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) credentials: Option<Credentials>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Socks5,
    /// Also what is not encrypted goes through CONNECT.
    Http,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: Vec<u8>,
    pub(super) password: Vec<u8>,
}

/// A text names no proxy. It is not repeated here: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProxyTextError {
    /// Neither `socks5` nor `http`.
    #[error("the proxy is neither socks5://… nor http://…")]
    Scheme,
    /// No host and port, a host longer than [`MAX_HOST`] bytes, or more after them.
    #[error("the proxy has to be named as socks5://[user:password@]host:port, or the same with http://")]
    Place,
    /// Not a user name and a password of 1 to [`MAX_CREDENTIAL`] bytes without control characters.
    #[error("the proxy's user name and password have 1 to {MAX_CREDENTIAL} bytes each")]
    Credentials,
}

impl FromStr for Proxy {
    type Err = ProxyTextError;

    fn from_str(text: &str) -> Result<Self, ProxyTextError> {
        let uri: Uri = text.parse().map_err(|_| ProxyTextError::Place)?;
        let kind = match uri.scheme_str() {
            Some("socks5") => Kind::Socks5,
            Some("http") => Kind::Http,
            _ => return Err(ProxyTextError::Scheme),
        };
        let authority = uri.authority().ok_or(ProxyTextError::Place)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        // A password with an unescaped / ? or # in it would name another host than was meant.
        let ends = uri.path() == "/" && uri.query().is_none() && !text.contains('#');
        let port = authority.port_u16().filter(|port| *port > 0 && ends).ok_or(ProxyTextError::Place)?;
        if host.is_empty() || host.len() > MAX_HOST {
            return Err(ProxyTextError::Place);
        }
        let credentials = match authority.as_str().rsplit_once('@') {
            Some((pair, _)) => Some(credentials(pair).ok_or(ProxyTextError::Credentials)?),
            None => None,
        };
        Ok(Self { kind, host: host.to_owned(), port, credentials })
    }
}

fn credentials(pair: &str) -> Option<Credentials> {
    let (user, password) = pair.split_once(':')?;
    let (user, password) = (unescaped(user)?, unescaped(password)?);
    // To HTTP, the first colon ends the name (RFC 7617, section 2).
    (!user.contains(&b':')).then_some(Credentials { user, password })
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        };
        if byte.is_ascii_control() {
            return None;
        }
        bytes.push(byte);
    }
    (1..=MAX_CREDENTIAL).contains(&bytes.len()).then_some(bytes)
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::Socks5 => "socks5",
            Kind::Http => "http",
        };
        let Self { host, port, .. } = self;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
