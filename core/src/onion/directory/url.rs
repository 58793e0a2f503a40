//! Which URLs a node may have.
//!
//! The rules are narrower than the URL standard on purpose: one spelling per place, and nothing that two parsers
//! could read differently (RFC 3986; the numeric hosts of the WHATWG URL standard, section 3.5).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use super::address::is_public;
use crate::identity::NodeId;
use crate::limits::MAX_URL;

/// A node's URL breaks a rule. Whoever wrote the record or list is at fault; the node is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// More than [`MAX_URL`] characters.
    #[error("the URL has {0} characters, the limit is {MAX_URL}")]
    TooLong(usize),
    /// Not https, or http where that is not allowed.
    #[error("the URL does not begin with https://")]
    Scheme,
    /// The URL has a user name or password.
    #[error("the URL holds a user name or password")]
    UserInfo,
    /// The URL has a query or fragment.
    #[error("the URL has a query or fragment")]
    QueryOrFragment,
    /// No host, or one that is neither a lower-case name nor an address in its usual form.
    #[error("the URL's host is neither a lower-case name nor an address in its usual form")]
    Host,
    /// The host is an address that is not public.
    #[error("the URL's address {0} is not public")]
    Private(IpAddr),
    /// A port other than 443 below 1024, or no number.
    #[error("the URL's port is neither 443 nor from 1024 to 65535")]
    Port,
    /// A trailing slash, an empty, `.` or `..` segment, or a character other than letters, digits and `-._~`.
    #[error("the URL's path ends in a slash or holds more than plain segments")]
    Path,
}

/// Checks a node's base URL. `allow_private` (development) also takes http and addresses that are not public.
///
/// A name is not resolved here: whoever connects checks every address it resolves to with
/// [`is_public`](super::is_public).
pub fn check_url(url: &str, allow_private: bool) -> Result<(), UrlError> {
    if url.len() > MAX_URL {
        return Err(UrlError::TooLong(url.len()));
    }
    let (rest, default_port) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (rest, 443),
        (None, Some(rest)) if allow_private => (rest, 80),
        _ => return Err(UrlError::Scheme),
    };
    if rest.contains(['?', '#']) {
        return Err(UrlError::QueryOrFragment);
    }
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    let (host, port) = split_port(authority)?;
    let address = check_host(host)?;
    let port = port.map_or(Some(default_port), port_number).ok_or(UrlError::Port)?;
    if port != 443 && port < 1024 {
        return Err(UrlError::Port);
    }
    if let Some(address) = address
        && !allow_private
        && !is_public(address)
    {
        return Err(UrlError::Private(address));
    }
    if path.split('/').skip(1).all(is_segment) { Ok(()) } else { Err(UrlError::Path) }
}

/// Host and port text. An IPv6 address keeps its brackets.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    let host_end = if authority.starts_with('[') {
        authority.find(']').map(|bracket| bracket + 1).ok_or(UrlError::Host)?
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at_checked(host_end).ok_or(UrlError::Host)?;
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(UrlError::Host),
    }
}

fn port_number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain)
}

/// The address when the host is one.
fn check_host(host: &str) -> Result<Option<IpAddr>, UrlError> {
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().map_err(|_| UrlError::Host)?;
        return if address.to_string() == inner { Ok(Some(address.into())) } else { Err(UrlError::Host) };
    }
    let last = host.rsplit('.').next().unwrap_or(host);
    // What ends in a number is an address to a browser's parser, in forms as odd as 0x7f.1.
    if last.starts_with(|first: char| first.is_ascii_digit()) {
        return host.parse::<Ipv4Addr>().map(|address| Some(address.into())).map_err(|_| UrlError::Host);
    }
    if host.len() <= 253 && host.split('.').all(is_label) { Ok(None) } else { Err(UrlError::Host) }
}

fn is_label(label: &str) -> bool {
    let plain = label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
}

fn is_segment(segment: &str) -> bool {
    let plain = segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    plain && !matches!(segment, "" | "." | "..")
}

/// Where a sync server is and who it must be: `<base>#<ed25519 hex>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncUrl {
    /// The base URL.
    pub base: String,
    /// The identity its record must be signed by.
    pub node: NodeId,
}

impl SyncUrl {
    /// Parses and checks a sync URL.
    pub fn parse(text: &str, allow_private: bool) -> Result<Self, SyncUrlError> {
        let (base, key) = text.split_once('#').ok_or(SyncUrlError::Key)?;
        check_url(base, allow_private)?;
        Ok(Self { base: base.to_owned(), node: key.parse().map_err(|_| SyncUrlError::Key)? })
    }
}

/// A sync URL is refused. Whoever configured it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SyncUrlError {
    /// The part before `#` is no allowed URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The part after `#` is not 64 lower-case hex digits.
    #[error("the sync URL must end in # and the server's key as 64 lower-case hex digits")]
    Key,
}
