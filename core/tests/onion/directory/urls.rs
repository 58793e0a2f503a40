//! Which URLs are taken.

use delta_core::limits::MAX_URL;
use delta_core::onion::directory::{SyncUrl, SyncUrlError, UrlError, check_url};

use super::id;

#[test]
fn case_27_forbidden_urls_are_refused() {
    let allowed = [
        "https://relay.example.org",
        "https://relay.example.org:443",
        "https://relay.example.org:8443",
        "https://relay.example.org:65535",
        "https://a-1.b2.example/path/to_node~1.x",
        "https://8.8.8.8:1024",
        "https://[2606:4700::1111]",
        "https://[2606:4700::1111]:4433/x",
    ];
    for url in allowed {
        assert_eq!(check_url(url, false), Ok(()), "{url}");
    }
    let refused = [
        ("http://relay.example.org:8080", UrlError::Scheme),
        ("HTTPS://relay.example.org", UrlError::Scheme),
        ("ftp://relay.example.org", UrlError::Scheme),
        ("relay.example.org", UrlError::Scheme),
        ("//relay.example.org", UrlError::Scheme),
        ("", UrlError::Scheme),
        ("https://user@relay.example.org", UrlError::UserInfo),
        ("https://user:secret@relay.example.org", UrlError::UserInfo),
        ("https://relay.example.org?x", UrlError::QueryOrFragment),
        ("https://relay.example.org/a#b", UrlError::QueryOrFragment),
        ("https://relay.example.org:80", UrlError::Port),
        ("https://relay.example.org:1023", UrlError::Port),
        ("https://relay.example.org:0", UrlError::Port),
        ("https://relay.example.org:", UrlError::Port),
        ("https://relay.example.org:08443", UrlError::Port),
        ("https://relay.example.org:+8443", UrlError::Port),
        ("https://relay.example.org:65536", UrlError::Port),
        ("https://relay.example.org/", UrlError::Path),
        ("https://relay.example.org/a/", UrlError::Path),
        ("https://relay.example.org//a", UrlError::Path),
        ("https://relay.example.org/a/../b", UrlError::Path),
        ("https://relay.example.org/.", UrlError::Path),
        ("https://relay.example.org/a%2fb", UrlError::Path),
        ("https://relay.example.org/a b", UrlError::Path),
        ("https://relay.example.org/a\\b", UrlError::Path),
        ("https://relay.example.org\\@evil.example", UrlError::UserInfo),
        ("https://", UrlError::Host),
        ("https://:8443", UrlError::Host),
        ("https://Relay.example.org", UrlError::Host),
        ("https://relay..example.org", UrlError::Host),
        ("https://relay.example.org.", UrlError::Host),
        ("https://-relay.example.org", UrlError::Host),
        ("https://relay_1.example.org", UrlError::Host),
        ("https://rel\u{e4}y.example.org", UrlError::Host),
        ("https://relay.example.org\n", UrlError::Host),
        ("https://127.1", UrlError::Host),
        ("https://0x7f.0.0.1", UrlError::Host),
        ("https://2130706433", UrlError::Host),
        ("https://0x7f000001", UrlError::Host),
        ("https://08.8.8.8", UrlError::Host),
        ("https://[2606:4700:0::1111]", UrlError::Host),
        ("https://[2606:4700::1111", UrlError::Host),
        ("https://[2606:4700::1111]x", UrlError::Host),
        ("https://[fe80::1%25eth0]", UrlError::Host),
    ];
    for (url, error) in refused {
        assert_eq!(check_url(url, false), Err(error), "{url}");
    }
    for url in ["http://127.0.0.1:8080", "http://localhost:4000/x", "https://10.0.0.1", "https://[::1]:4433"]
    {
        assert_eq!(check_url(url, true), Ok(()), "{url}");
    }
    assert_eq!(check_url("http://127.0.0.1", true), Err(UrlError::Port));
    for host in ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]", "0.0.0.0"]
    {
        let refused = check_url(&format!("https://{host}"), false);
        assert!(matches!(refused, Err(UrlError::Private(_))), "{host}: {refused:?}");
    }
}

#[test]
fn the_longest_url_and_one_character_more() {
    let base = "https://relay.example.org/";
    let longest = format!("{base}{}", "a".repeat(MAX_URL - base.len()));
    assert_eq!(check_url(&longest, false), Ok(()));
    assert_eq!(check_url(&format!("{longest}a"), false), Err(UrlError::TooLong(MAX_URL + 1)));
}

#[test]
fn a_sync_url_names_the_servers_key() {
    let text = format!("https://sync.example.org#{}", id(1));
    let parsed = SyncUrl::parse(&text, false).unwrap();
    assert_eq!((parsed.base.as_str(), parsed.node), ("https://sync.example.org", id(1)));
    assert_eq!(SyncUrl::parse("https://sync.example.org", false), Err(SyncUrlError::Key));
    assert_eq!(SyncUrl::parse("https://sync.example.org#ab", false), Err(SyncUrlError::Key));
    assert_eq!(SyncUrl::parse(&text.to_uppercase(), false), Err(UrlError::Scheme.into()));
    let slash = text.replace('#', "/#");
    assert_eq!(SyncUrl::parse(&slash, false), Err(UrlError::Path.into()));
}
