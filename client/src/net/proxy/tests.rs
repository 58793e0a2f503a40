use tokio::io::{DuplexStream, duplex};

use super::*;

fn proxy(text: &str) -> Proxy {
    text.parse().unwrap()
}

/// A proxy that reads as many bytes as are expected, says the next answer, and so on; then it closes.
async fn play(mut stream: DuplexStream, turns: Vec<(Vec<u8>, Vec<u8>)>) -> usize {
    for (turn, (expected, answer)) in turns.into_iter().enumerate() {
        let mut said = vec![0; expected.len()];
        if stream.read_exact(&mut said).await.is_err() {
            return turn;
        }
        assert_eq!(said, expected, "turn {turn}");
        stream.write_all(&answer).await.unwrap();
    }
    drop(stream.shutdown().await);
    let mut more = Vec::new();
    stream.read_to_end(&mut more).await.unwrap();
    assert_eq!(more, b"");
    usize::MAX
}

async fn asked(text: &str, host: &str, turns: &[(&[u8], &[u8])]) -> Result<(), ProxyError> {
    let (ours, theirs) = duplex(64 * 1024);
    let turns = turns.iter().map(|(expected, answer)| (expected.to_vec(), answer.to_vec())).collect();
    let playing = tokio::spawn(play(theirs, turns));
    let mut stream: Stream = Box::new(ours);
    let result = ask(&proxy(text), host, 443, &mut stream).await;
    drop(stream);
    playing.await.unwrap();
    result
}

const OPEN: &str = "socks5://127.0.0.1:9050";
const LOCKED: &str = "socks5://ada:p%40ss@127.0.0.1:9050";
/// RFC 1928, section 6: succeeded, from 0.0.0.0:0.
const SUCCEEDED: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
/// VER 5, CMD connect, RSV, ATYP name, its length, the name, port 443.
const TO_A_NAME: &[u8] = b"\x05\x01\x00\x03\x09a.example\x01\xbb";

#[tokio::test]
async fn socks_passes_the_name_on_and_addresses_as_addresses() {
    asked(OPEN, "a.example", &[(&[5, 1, 0], &[5, 0]), (TO_A_NAME, SUCCEEDED)]).await.unwrap();
    let four: &[u8] = &[5, 1, 0, 1, 192, 0, 2, 7, 1, 0xbb];
    asked(OPEN, "192.0.2.7", &[(&[5, 1, 0], &[5, 0]), (four, SUCCEEDED)]).await.unwrap();
    let six: &[u8] = &[5, 1, 0, 4, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 1, 0xbb];
    asked(OPEN, "2001:db8::9", &[(&[5, 1, 0], &[5, 0]), (six, SUCCEEDED)]).await.unwrap();
}

#[tokio::test]
async fn a_password_is_given_in_the_way_of_rfc_1929() {
    let login: &[u8] = b"\x01\x03ada\x04p@ss";
    let turns =
        |status: &'static [u8]| [(&[5, 1, 2][..], &[5, 2][..]), (login, status), (TO_A_NAME, SUCCEEDED)];
    asked(LOCKED, "a.example", &turns(&[1, 0])).await.unwrap();
    let refused = asked(LOCKED, "a.example", &turns(&[1, 1])).await.unwrap_err();
    assert!(matches!(refused, ProxyError::Refused), "{refused}");
    // Without one where one is wanted, and with one where none is.
    for (text, greeting) in [(OPEN, &[5, 1, 0]), (LOCKED, &[5, 1, 2])] {
        let error = asked(text, "a.example", &[(greeting, &[5, 0xff])]).await.unwrap_err();
        assert!(matches!(error, ProxyError::Login), "{error}");
    }
    // It chooses what was not offered.
    for (text, greeting, chosen) in [(OPEN, &[5, 1, 0], 2), (LOCKED, &[5, 1, 2], 0)] {
        let error = asked(text, "a.example", &[(greeting, &[5, chosen])]).await.unwrap_err();
        assert!(matches!(error, ProxyError::Foreign("SOCKS 5")), "{error}");
    }
}

#[tokio::test]
async fn what_socks_says_has_its_name() {
    for (code, name) in [
        (1, "general SOCKS server failure"),
        (2, "connection not allowed by ruleset"),
        (3, "network unreachable"),
        (4, "host unreachable"),
        (5, "connection refused"),
        (6, "TTL expired"),
        (7, "command not supported"),
        (8, "address type not supported"),
        (9, "unassigned"),
    ] {
        let answer = [5, code, 0, 1];
        let turns: [(&[u8], &[u8]); 2] = [(&[5, 1, 0], &[5, 0]), (TO_A_NAME, &answer)];
        let error = asked(OPEN, "a.example", &turns).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the proxy says: {name} ({code})"));
    }
}

#[tokio::test]
async fn the_rest_of_an_answer_of_any_form_is_read_and_no_byte_more() {
    let name = [&[5, 0, 0, 3, 255][..], &[b'x'; 257]].concat();
    let six = [&[5, 0, 0, 4][..], &[0; 18]].concat();
    for answer in [SUCCEEDED, &six, &name] {
        let (ours, mut theirs) = duplex(1024);
        theirs.write_all(&[5, 0]).await.unwrap();
        theirs.write_all(answer).await.unwrap();
        theirs.write_all(b"hello").await.unwrap();
        let mut stream: Stream = Box::new(ours);
        ask(&proxy(OPEN), "a.example", 443, &mut stream).await.unwrap();
        let mut next = [0; 5];
        stream.read_exact(&mut next).await.unwrap();
        assert_eq!(&next, b"hello");
    }
    let turns: [(&[u8], &[u8]); 2] = [(&[5, 1, 0], &[5, 0]), (TO_A_NAME, &[5, 0, 0, 2, 0, 0])];
    let error = asked(OPEN, "a.example", &turns).await.unwrap_err();
    assert!(matches!(error, ProxyError::Foreign("SOCKS 5")), "{error}");
}

#[tokio::test]
async fn an_answer_cut_anywhere_is_an_end_and_one_of_something_else_is_none() {
    let whole = [&[5, 2, 1, 0][..], SUCCEEDED].concat();
    for len in 0..whole.len() {
        let (ours, mut theirs) = duplex(1024);
        theirs.write_all(&whole[..len]).await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut stream: Stream = Box::new(ours);
        let error = ask(&proxy(LOCKED), "a.example", 443, &mut stream).await.unwrap_err();
        assert!(matches!(error, ProxyError::Closed), "{len}: {error}");
    }
    let error = asked(OPEN, "a.example", &[(&[5, 1, 0], b"HT")]).await.unwrap_err();
    assert!(matches!(error, ProxyError::Foreign("SOCKS 5")), "{error}");
    let http = "http://127.0.0.1:3128";
    let error = asked(http, "a.example", &[(CONNECT_HEAD, b"HTTP/1.1 200 OK\r\n")]).await.unwrap_err();
    assert!(matches!(error, ProxyError::Closed), "{error}");
}

#[tokio::test]
async fn names_are_at_most_255_bytes_long_in_socks() {
    let name = "a".repeat(255);
    let request = [&[5, 1, 0, 3, 255][..], name.as_bytes(), &[1, 0xbb]].concat();
    asked(OPEN, &name, &[(&[5, 1, 0], &[5, 0]), (&request, SUCCEEDED)]).await.unwrap();
    let error = asked(OPEN, &"a".repeat(256), &[(&[5, 1, 0], &[5, 0])]).await.unwrap_err();
    assert!(matches!(error, ProxyError::Name), "{error}");
}

const CONNECT_HEAD: &[u8] = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

#[tokio::test]
async fn connect_names_the_place_and_says_who_asks() {
    let http = "http://127.0.0.1:3128";
    asked(http, "a.example", &[(CONNECT_HEAD, OK)]).await.unwrap();
    let six = b"CONNECT [2001:db8::9]:443 HTTP/1.1\r\nHost: [2001:db8::9]:443\r\n\r\n";
    asked(http, "2001:db8::9", &[(six, OK)]).await.unwrap();
    // RFC 7617, section 2: its example.
    let head = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\
        Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
    asked("http://Aladdin:open%20sesame@127.0.0.1:3128", "a.example", &[(head, OK)]).await.unwrap();
}

#[tokio::test]
async fn any_answer_of_200_to_299_is_a_connection_and_nothing_else_is() {
    let http = "http://127.0.0.1:3128";
    for head in ["HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n", "HTTP/1.1 299\r\n\r\n"] {
        asked(http, "a.example", &[(CONNECT_HEAD, head.as_bytes())]).await.unwrap();
    }
    for (status, text) in
        [(407, "407 Login"), (403, "403 "), (502, "502"), (302, "302 Found"), (100, "100 Go")]
    {
        let head = format!("HTTP/1.1 {text}\r\n\r\n");
        let error = asked(http, "a.example", &[(CONNECT_HEAD, head.as_bytes())]).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the proxy answers {status}"));
    }
    for head in [
        "HTTP/2 200\r\n\r\n",
        "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "HTTP/1.1 2000\r\n\r\n",
        "\r\n\r\n",
    ] {
        let error = asked(http, "a.example", &[(CONNECT_HEAD, head.as_bytes())]).await.unwrap_err();
        assert!(matches!(error, ProxyError::Foreign("HTTP/1")), "{head:?}: {error}");
    }
}

#[tokio::test]
async fn a_head_has_8_kib_and_no_byte_more() {
    for (more, fits) in [(0, true), (1, false)] {
        let (start, end) = ("HTTP/1.1 200 OK\r\nX: ", "\r\n\r\n");
        let head = format!("{start}{}{end}", "x".repeat(8192 - start.len() - end.len() + more));
        let answered = asked("http://127.0.0.1:1", "a.example", &[(CONNECT_HEAD, head.as_bytes())]).await;
        assert_eq!(answered.is_ok(), fits);
        assert!(fits || matches!(answered, Err(ProxyError::TooLong)));
    }
}

#[tokio::test]
async fn nobody_there_is_said_to_be_the_proxy() {
    let error = dial(&proxy("socks5://127.0.0.1:1"), "127.0.0.1", 443).await.err().unwrap();
    assert!(error.to_string().starts_with("the proxy cannot be reached: "), "{error}");
}

#[test]
fn a_text_names_a_proxy_and_is_never_shown_with_its_password() {
    let parts = |text: &str| {
        let Proxy { host, port, credentials, .. } = proxy(text);
        let pair = credentials.map(|Credentials { user, password }| (user, password));
        (host, port, pair)
    };
    assert_eq!(parts("socks5://127.0.0.1:9050"), ("127.0.0.1".into(), 9050, None));
    assert_eq!(parts("http://proxy.example:3128/"), ("proxy.example".into(), 3128, None));
    let pair = Some((b"a@".to_vec(), "b:/ü".as_bytes().to_vec()));
    assert_eq!(parts("socks5://a%40:b:%2F%c3%BC@[::1]:1"), ("::1".into(), 1, pair));
    let shown = |text: &str| (format!("{:?}", proxy(text)), proxy(text).to_string());
    for (text, wanted) in [
        ("socks5://ada:secret@[::1]:1080", "socks5://[::1]:1080"),
        ("http://ada:secret@proxy.example:3128", "http://proxy.example:3128"),
    ] {
        assert_eq!(shown(text), (wanted.to_owned(), wanted.to_owned()));
        assert_eq!(proxy(wanted).to_string(), wanted);
    }
}

#[test]
fn what_names_no_proxy_is_refused() {
    use ProxyTextError::{Credentials, Place, Scheme};
    let (longest, longer) = ("a".repeat(255), "a".repeat(256));
    for (text, error) in [
        ("", Place),
        ("socks5://", Place),
        ("127.0.0.1:9050", Scheme),
        ("https://a.example:443", Scheme),
        ("socks4://a.example:1080", Scheme),
        ("socks5://a.example", Place),
        ("socks5://a.example:0", Place),
        ("socks5://a.example:65536", Place),
        ("socks5://:1080", Place),
        ("socks5://[]:1080", Place),
        ("socks5://a.example:1080/x", Place),
        ("socks5://a.example:1080?x", Place),
        ("socks5://a.example:1080#x", Place),
        // Characters that had to be escaped, and would make user and password a host and its port.
        ("http://ada:12/x@a.example:3128", Place),
        ("http://ada:12#x@a.example:3128", Place),
        ("http://ada:12?x@a.example:3128", Place),
        ("socks5://ada@a.example:1080", Credentials),
        ("socks5://ada:@a.example:1080", Credentials),
        ("socks5://:secret@a.example:1080", Credentials),
        ("http://a%3Ab:secret@a.example:3128", Credentials),
        ("http://ada:x%0d%0aX-Y:z@a.example:3128", Credentials),
        ("http://ada:%4@a.example:3128", Credentials),
        ("http://ada:%zz@a.example:3128", Credentials),
        (&format!("socks5://{longer}:x@a.example:1080"), Credentials),
        (&format!("socks5://x:{longer}@a.example:1080"), Credentials),
        (&format!("socks5://{longer}:1080"), Place),
    ] {
        assert_eq!(text.parse::<Proxy>(), Err(error), "{text}");
    }
    for text in [format!("socks5://{longest}:{longest}@a.example:1080"), format!("socks5://{longest}:1080")] {
        assert!(text.parse::<Proxy>().is_ok());
    }
}
