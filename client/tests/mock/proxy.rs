//! Devices behind proxies: everything goes through them, and when they do not let it through, nothing goes at all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use delta_client::{Proxy, RelayHops};
use delta_core::onion::directory::NodeKind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::device::{Device, ticket};
use crate::net::{Net, now};

/// What a proxy speaks, and the login it wants.
#[derive(Clone, Copy)]
enum Speaks {
    Socks(Option<(&'static str, &'static str)>),
    /// The header's value.
    Http(Option<&'static str>),
}

/// A proxy that knows names nobody else does.
struct Forwarder {
    address: SocketAddr,
    /// The names it was asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Forwarder {
    async fn start(speaks: Speaks, names: HashMap<String, SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (names, noted) = (Arc::new(names), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(forward(stream, speaks, Arc::clone(&names), Arc::clone(&noted)));
            }
        });
        Self { address, asked }
    }

    /// How often it was asked for names that begin like this.
    fn asked(&self, start: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|name| name.starts_with(start)).count()
    }
}

async fn forward(
    mut stream: TcpStream,
    speaks: Speaks,
    names: Arc<HashMap<String, SocketAddr>>,
    asked: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let place = match speaks {
        Speaks::Socks(login) => socks(&mut stream, login).await?,
        Speaks::Http(login) => connect(&mut stream, login).await?,
    };
    asked.lock().unwrap().push(place.clone());
    let address = names.get(&place)?;
    let mut inside = TcpStream::connect(address).await.ok()?;
    let success: &[u8] = match speaks {
        Speaks::Socks(_) => b"\x05\x00\x00\x03\x05proxy\x00\x00",
        Speaks::Http(_) => b"HTTP/1.1 200 Connection established\r\nVia: a proxy\r\n\r\n",
    };
    stream.write_all(success).await.ok()?;
    copy_bidirectional(&mut stream, &mut inside).await.ok()?;
    None
}

async fn socks(stream: &mut TcpStream, login: Option<(&str, &str)>) -> Option<String> {
    let way = if login.is_some() { 2 } else { 0 };
    assert_eq!([byte(stream).await?, byte(stream).await?, byte(stream).await?], [5, 1, way]);
    stream.write_all(&[5, way]).await.ok()?;
    if let Some((user, password)) = login {
        assert_eq!(byte(stream).await?, 1);
        let right = counted(stream).await? == user && counted(stream).await? == password;
        stream.write_all(&[1, u8::from(!right)]).await.ok()?;
        if !right {
            return None;
        }
    }
    let head = [byte(stream).await?, byte(stream).await?, byte(stream).await?, byte(stream).await?];
    assert_eq!(head, [5, 1, 0, 3], "a name that is not passed on");
    let name = counted(stream).await?;
    let port = stream.read_u16().await.ok()?;
    Some(format!("{name}:{port}"))
}

async fn connect(stream: &mut TcpStream, login: Option<&str>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(byte(stream).await?);
    }
    let head = String::from_utf8(head).unwrap();
    let said = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
    if said != login {
        stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.ok()?;
        return None;
    }
    Some(head.strip_prefix("CONNECT ").expect("nothing but CONNECT").split(' ').next()?.to_owned())
}

async fn byte(stream: &mut (impl AsyncRead + Unpin)) -> Option<u8> {
    stream.read_u8().await.ok()
}

async fn counted(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = vec![0; usize::from(byte(stream).await?)];
    stream.read_exact(&mut bytes).await.ok()?;
    String::from_utf8(bytes).ok()
}

/// The network under names that only a proxy knows: RFC 2606 says that no resolver ever does.
fn named(net: &Net) -> (RelayHops, String, HashMap<String, SocketAddr>) {
    let (server, relays) = net.addresses();
    let world = net.world();
    let mut names = HashMap::from([("sync.invalid:9000".to_owned(), server)]);
    let mut records = Vec::new();
    for (index, address) in relays.into_iter().enumerate() {
        names.insert(format!("relay-{index}.invalid:9000"), address);
        let (url, operator) = (format!("http://relay-{index}.invalid:9000"), format!("operator {index}"));
        let identity = world.relays[index].identity();
        records.push(match world.offers_tunnels {
            true => identity.tunnel_record(&url, &operator, now()).to_json(),
            false => identity.record(NodeKind::Relay, &url, &operator, now()).to_json(),
        });
    }
    let identity = world.server.identity();
    let url = "http://sync.invalid:9000";
    records.push(identity.record(NodeKind::Sync, url, "server", now()).to_json());
    (RelayHops::Pool(records), format!("{url}#{}", identity.id()), names)
}

async fn behind(key: u8, text: &str) -> Device {
    let proxy: Proxy = text.parse().unwrap();
    Device::offline_with(key, &ticket(1), move |config| config.proxy = Some(proxy.clone())).await
}

/// `text` has `{}` where the proxy's address belongs.
async fn talk_behind(speaks: Speaks, text: &str, tunnels: bool) {
    let net = Net::start().await;
    net.world().offers_tunnels = tunnels;
    let (hops, sync_url, names) = named(&net);
    let proxy = Forwarder::start(speaks, names).await;
    let text = text.replace("{}", &proxy.address.to_string());
    let (mut a, mut b) = (behind(1, &text).await, behind(2, &text).await);
    for device in [&a, &b] {
        assert!(device.client.init_sync(&hops, &sync_url).await.unwrap().is_empty());
    }
    let id = a.say("from behind it").await;
    a.until_acknowledged(id).await;
    b.until_texts(&["from behind it"]).await;
    assert!(proxy.asked("relay-") > 0);
    let world = net.world();
    if tunnels {
        assert!(world.tunnels > 0 && proxy.asked("sync.") == 0);
    } else {
        assert!(world.plain > 0 && proxy.asked("sync.") >= 2);
    }
}

#[tokio::test]
async fn messages_go_through_socks_and_names_are_looked_up_by_it() {
    talk_behind(Speaks::Socks(None), "socks5://{}", false).await;
}

#[tokio::test]
async fn messages_go_through_socks_with_a_password() {
    talk_behind(Speaks::Socks(Some(("ada", "p@ss"))), "socks5://ada:p%40ss@{}", false).await;
}

#[tokio::test]
async fn messages_go_through_connect_and_so_does_what_is_not_encrypted() {
    talk_behind(Speaks::Http(None), "http://{}", false).await;
}

#[tokio::test]
async fn messages_go_through_connect_with_a_password() {
    // RFC 7617, section 2.
    let login = Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    talk_behind(Speaks::Http(login), "http://Aladdin:open%20sesame@{}", false).await;
}

#[tokio::test]
async fn tunnels_begin_behind_the_proxy() {
    talk_behind(Speaks::Socks(None), "socks5://{}", true).await;
    talk_behind(Speaks::Http(None), "http://{}", true).await;
}

/// Says its answers one by one, each after something was said to it, then closes; slow ones come byte by byte.
async fn scripted(answers: &'static [&'static [u8]], pause: Option<Duration>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut said = [0; 1024];
                for answer in answers {
                    let _ = stream.read(&mut said).await;
                    let Some(pause) = pause else {
                        let _ = stream.write_all(answer).await;
                        continue;
                    };
                    for byte in answer.iter() {
                        tokio::time::sleep(pause).await;
                        let _ = stream.write_all(&[*byte]).await;
                    }
                }
            });
        }
    });
    address
}

/// What a device says that cannot get through, with a network that it could reach directly.
async fn fails_behind(text: &str) -> String {
    let net = Net::start().await;
    let mut a = behind(1, text).await;
    let error = a.client.init_sync(&net.hops(), &net.sync_url()).await.unwrap_err();
    assert_eq!(error.code(), "server_unreachable");
    // Nor does a packet, or a reader, find another way.
    let RelayHops::Pool(mut records) = net.hops() else { unreachable!() };
    records.push(net.server_record(net.began()));
    a.client.init_sync(&RelayHops::Pool(records), &net.sync_url()).await.unwrap();
    a.say("to nobody").await;
    for _ in 0..20 {
        a.clock.forward(1_000);
        a.client.status(a.topic).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    a.client.close().await.unwrap();
    let world = net.world();
    let seen =
        (world.infos, world.packets, world.requests.len(), world.plain, world.tunnels, world.record_sets);
    assert_eq!(seen, (0, 0, 0, 0, 0, 0));
    error.to_string()
}

const REFUSED: &[&[u8]] = &[&[5, 0], &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0]];
const ENDLESS: &[&[u8]] = &[&[b'x'; 16 * 1024]];

#[tokio::test]
async fn a_proxy_that_does_not_let_through_is_not_gone_round_and_is_named() {
    for (scheme, answers, wanted) in [
        ("socks5://", REFUSED, "the proxy says: connection not allowed by ruleset (2)"),
        ("socks5://", &[&[5, 0xff]], "the proxy takes no one without another login"),
        ("socks5://ada:x@", &[&[5, 2], &[1, 1]], "the proxy refuses the user name or password"),
        ("socks5://", &[&[]], "the proxy closed the connection before it had answered"),
        (
            "socks5://",
            &[b"HTTP/1.1 400 Bad Request\r\n\r\n"],
            "the proxy answers something else than SOCKS 5",
        ),
        ("http://", &[b"HTTP/1.1 403 Forbidden\r\n\r\n"], "the proxy answers 403"),
        ("http://", &[b"HTTP/1.1 407 Who\r\n\r\n"], "the proxy answers 407"),
        ("http://", &[b"HTTP/1.1 200"], "the proxy closed the connection before it had answered"),
        ("http://", ENDLESS, "the proxy's answer is longer than 8192 bytes"),
    ] {
        let address = scripted(answers, None).await;
        let error = fails_behind(&format!("{scheme}{address}")).await;
        assert!(error.contains(wanted), "{error}");
    }
    let error = fails_behind("socks5://127.0.0.1:1").await;
    assert!(error.contains("the proxy cannot be reached"), "{error}");
}

#[tokio::test]
async fn a_proxy_that_answers_byte_by_byte_has_as_much_time_as_one_that_says_nothing() {
    let pause = Some(Duration::from_millis(300));
    let (socks, http) =
        (scripted(&[&[5, 0], &[5; 300]], Some(Duration::from_secs(5))).await, scripted(ENDLESS, pause).await);
    let (socks, http) = (format!("socks5://{socks}"), format!("http://{http}"));
    let began = tokio::time::Instant::now();
    let (socks, http) = tokio::join!(fails_behind(&socks), fails_behind(&http));
    for error in [socks, http] {
        assert!(error.contains("the proxy gave no connection within 8 s"), "{error}");
    }
    assert!(began.elapsed() >= Duration::from_secs(8));
}
