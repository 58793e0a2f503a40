//! How the nodes answer: connections taken, requests read, and what the scripts make of them.

use super::*;

/// The network's clock.
pub(super) async fn run(net: Arc<Net>) {
    loop {
        let timeout = {
            let mut world = net.world();
            world.pump();
            world.timeout()
        };
        let wait = timeout.map_or(u64::MAX / 4, |at| at.since(now()).max(1));
        tokio::select! {
            () = net.stirred.notified() => {}
            () = tokio::time::sleep(std::time::Duration::from_millis(wait)) => {}
        }
    }
}

pub(super) async fn accept(net: Arc<Net>, listener: TcpListener, node: Node) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let net = Arc::clone(&net);
        match node {
            Node::Relay(index) => {
                tokio::spawn(async move { relay(&net, stream, index).await });
            }
            Node::Server => {
                tokio::spawn(async move { server(&net, stream).await });
            }
            Node::Elsewhere => net.world().astray += 1,
        }
    }
}

/// A request's first line and body.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, Bytes)> {
    let head = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
    let length = text.to_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let end = head + length.unwrap_or(0usize);
    while buffer.len() < end {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = Bytes::copy_from_slice(&buffer[head..end]);
    buffer.drain(..end);
    Some((text.lines().next()?.to_owned(), body))
}

/// Writes an answer; `None` ends the connection.
async fn answer(net: &Net, stream: &mut TcpStream, answer: Answer, headers: &str, body: &str) -> Option<()> {
    let head = |status: u16, headers: &str| {
        format!("HTTP/1.1 {status} Mock\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
    };
    match answer {
        Answer::Status(status) => stream.write_all(head(status, headers).as_bytes()).await.ok(),
        Answer::Late(status, ms) => {
            tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
            stream.write_all(head(status, headers).as_bytes()).await.ok()
        }
        Answer::Redirect => {
            let location = format!("location: http://{}/hop\r\n", net.elsewhere);
            stream.write_all(head(308, &location).as_bytes()).await.ok()
        }
        Answer::Bytes(Garbage::Noise) => stream.write_all(&[0x80; 1_000]).await.ok(),
        Answer::Bytes(Garbage::EndlessHead) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await.ok()?;
            endless(net, stream, b"x-more: and more\r\n").await
        }
        Answer::Bytes(Garbage::EndlessBody) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n").await.ok()?;
            endless(net, stream, b"and more and more").await
        }
        Answer::Hang => std::future::pending().await,
        Answer::Cut => None,
    }
}

/// Writes until the other side has had enough.
async fn endless(net: &Net, stream: &mut TcpStream, part: &[u8]) -> Option<()> {
    let parts = part.repeat(512);
    while stream.write_all(&parts).await.is_ok() {}
    net.world().cut_off += 1;
    None
}

async fn relay(net: &Net, mut stream: TcpStream, index: usize) -> Option<()> {
    let mut start = [0; 8];
    while stream.peek(&mut start).await.ok()? < start.len() {}
    if &start == b"GET /tun" {
        return tunnel(net, stream).await;
    }
    let mut buffer = Vec::new();
    loop {
        let (line, packet) = request(&mut stream, &mut buffer).await?;
        if line == "GET /records HTTP/1.1" {
            let (signed, served, says) = {
                let mut world = net.world();
                world.record_sets += 1;
                (world.signed, world.served.clone(), world.says)
            };
            if let Some(says) = says {
                answer(net, &mut stream, says, "", "").await?;
                continue;
            }
            if let Some(set) = served {
                answer(net, &mut stream, Answer::Status(200), "", &set).await?;
                continue;
            }
            match signed {
                Some(signed) => {
                    let mut records = net.records(signed);
                    records.push(net.server_record(signed));
                    let set = format!("[{}]", records.join(","));
                    answer(net, &mut stream, Answer::Status(200), "", &set).await?;
                }
                None => answer(net, &mut stream, Answer::Status(503), "", "").await?,
            }
            continue;
        }
        assert_eq!(line, "POST /hop HTTP/1.1");
        let said = {
            let mut world = net.world();
            world.packets += 1;
            let delay = first_delay(&world.relays[index], &packet);
            world.delays.extend(delay);
            world.relays[index].handle_post(now(), &packet)
        };
        net.stirred.notify_one();
        answer(net, &mut stream, said, "", "").await?;
    }
}

/// What a packet asks its first relay to wait, milliseconds.
fn first_delay(relay: &RelayActor, packet: &Bytes) -> Option<u64> {
    use delta_core::onion::v3::{Peeled, open};
    let opened = open(&[relay.identity().onion_secret()], packet.to_vec()).ok()?;
    let Ok(Peeled::Forward { delay, .. }) = opened.parse() else { return None };
    u64::try_from(delay.as_millis()).ok()
}

/// Carries bytes between a client and the server.
async fn tunnel(net: &Net, stream: TcpStream) -> Option<()> {
    {
        let mut world = net.world();
        if let Some(left) = world.cut_tunnels.checked_sub(1) {
            world.cut_tunnels = left;
            return None;
        }
        world.tunnels += 1;
    }
    let mut far = TcpStream::connect(net.server).await.ok()?;
    let mut near = tokio_tungstenite::accept_async(stream).await.ok()?;
    let mut buffer = vec![0; 16 * 1024];
    let mut passed = 0;
    loop {
        tokio::select! {
            message = near.next() => match message?.ok()? {
                Message::Binary(bytes) => {
                    net.world().carried.extend_from_slice(&bytes);
                    far.write_all(&bytes).await.ok()?;
                }
                Message::Ping(_) | Message::Pong(_) => {}
                _ => return None,
            },
            read = far.read(&mut buffer) => match read.ok()? {
                0 => return near.close(None).await.ok(),
                len => {
                    {
                        let mut world = net.world();
                        world.carried.extend_from_slice(&buffer[..len]);
                        let bit = world.flip.and_then(|bit| bit.checked_sub(8 * passed));
                        if let Some(byte) = bit.and_then(|bit| buffer[..len].get_mut(bit / 8)) {
                            *byte ^= 1 << (world.flip.take().unwrap() % 8);
                        }
                    }
                    passed += len;
                    near.send(Message::binary(buffer[..len].to_vec())).await.ok()?;
                }
            },
        }
    }
}

async fn server(net: &Net, mut stream: TcpStream) -> Option<()> {
    if !net.world().server.is_up() {
        return None;
    }
    let mut first = [0];
    if stream.peek(&mut first).await.ok()? == 0 {
        return None;
    }
    if Responder::is_wanted(first[0]) {
        return unsealed(net, stream).await;
    }
    net.world().plain += 1;
    let mut start = [0; 8];
    while stream.peek(&mut start).await.ok()? < start.len() {}
    if &start == b"POST /to" {
        return has(net, stream).await;
    }
    if &start != b"GET /top" {
        let mut buffer = Vec::new();
        let (line, _) = request(&mut stream, &mut buffer).await?;
        assert_eq!(line, "GET /info HTTP/1.1");
        let says = {
            let mut world = net.world();
            world.infos += 1;
            world.says
        };
        if let Some(says) = says {
            return answer(net, &mut stream, says, "", "").await;
        }
        let url = format!("http://{}", net.server);
        let record = {
            let world = net.world();
            world.server.identity().record(NodeKind::Sync, &url, "server", world.began).to_json()
        };
        let info = format!("{{\"record\":{record},\"protocol\":[1,2]}}");
        return answer(net, &mut stream, Answer::Status(200), "", &info).await;
    }
    subscribe(net, stream).await
}

/// What comes in Noise goes on to the same port without.
async fn unsealed(net: &Net, stream: TcpStream) -> Option<()> {
    let answering = {
        let mut world = net.world();
        world.sealed += 1;
        let identity = world.key_of_server.clone().unwrap_or_else(|| world.server.identity().signing_key());
        Responder::new(&identity).begin(&mut world.entropy).unwrap()
    };
    let mut sealed = answering.accept(stream).await.ok()?;
    let mut plain = TcpStream::connect(net.server).await.ok()?;
    tokio::io::copy_bidirectional(&mut sealed, &mut plain).await.ok().map(drop)
}

#[allow(clippy::result_large_err, reason = "tungstenite's callback")]
async fn subscribe(net: &Net, mut stream: TcpStream) -> Option<()> {
    let mut head = vec![0; 8192];
    let path = loop {
        let len = stream.peek(&mut head).await.ok()?;
        let text = String::from_utf8_lossy(&head[..len]).into_owned();
        if text.contains("\r\n\r\n") {
            break text.split(' ').nth(1)?.to_owned();
        }
    };
    if path.ends_with("/nonce") {
        let _ = request(&mut stream, &mut Vec::new()).await?;
        let nonce = format!("{{\"nonce\":\"{}\"}}", hex::encode(NONCE));
        return answer(net, &mut stream, Answer::Status(200), "", &nonce).await;
    }
    if !may_read(net, &path) {
        let _ = request(&mut stream, &mut Vec::new()).await?;
        return answer(net, &mut stream, Answer::Status(401), "", "").await;
    }
    if path.contains("/ops?") {
        return history(net, stream, &path).await;
    }
    let (topic, cursor) = parse(&path);
    let (conn, said, mut outputs) = {
        let mut world = net.world();
        world.requests.push(path);
        let conn = world.next_conn;
        world.next_conn += 1;
        let (sender, outputs) = mpsc::unbounded_channel();
        world.sockets.insert(conn, sender);
        (conn, world.server.handle_subscribe(now(), conn, topic, &cursor), outputs)
    };
    if said != Answer::Status(101) {
        let header = format!("retry-after: {}\r\n", net.world().retry_after_s);
        answer(net, &mut stream, said, &header, "").await?;
        // The request is still unread: closing now would reset the connection before the answer arrives.
        let _ = stream.read(&mut head).await;
        return None;
    }
    let upgrade = |request: &Request, mut response: Response| {
        let protocol = request.headers().get("sec-websocket-protocol").unwrap().clone();
        assert_eq!(protocol, "delta.sync.2");
        response.headers_mut().insert("sec-websocket-protocol", protocol);
        Ok(response)
    };
    let socket = tokio_tungstenite::accept_hdr_async(stream, upgrade).await.ok()?;
    net.stirred.notify_one();
    let ended = serve(socket, &mut outputs).await;
    let mut world = net.world();
    world.sockets.remove(&conn);
    world.server.handle_closed(conn);
    ended
}

/// The nonce of every proof.
const NONCE: [u8; 32] = [5; 32];

/// Whether the query proves the read key, where one is set.
fn may_read(net: &Net, path: &str) -> bool {
    let world = net.world();
    let Some(key) = world.read_vk else { return true };
    let (topic, query) = path.strip_prefix("/topic/").unwrap().split_at(64);
    let field = |name: &str| {
        let (_, rest) = query.split_once(&format!("{name}="))?;
        hex::decode(rest.split('&').next()?).ok()
    };
    let (nonce, proof) = (field("nonce"), field("proof").and_then(|proof| proof.try_into().ok()));
    let server = world.server.identity().id();
    nonce.is_some_and(|nonce| nonce == NONCE)
        && proof
            .is_some_and(|proof| Purpose::Read.verify(&key, &server, &topic.parse().unwrap(), &NONCE, &proof))
}

/// A page of history.
async fn history(net: &Net, mut stream: TcpStream, path: &str) -> Option<()> {
    let (line, _) = request(&mut stream, &mut Vec::new()).await?;
    assert_eq!(line, format!("GET {path} HTTP/1.1"));
    let (of, query) = path.strip_prefix("/topic/")?.split_once("/ops?")?;
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
    let query: HashMap<&str, u64> = pairs.filter_map(|(k, v)| Some((k, v.parse().ok()?))).collect();
    let wanted = HistoryRequest {
        topic: of.parse().unwrap(),
        after: Seq(query["after"]),
        limit: query["limit"].try_into().unwrap(),
    };
    let page = {
        let mut world = net.world();
        world.pages += 1;
        world.server.handle_history(&wanted)
    };
    match page {
        Ok(page) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", page.len());
            stream.write_all(&[head.as_bytes(), &page].concat()).await.ok()
        }
        Err(said) => answer(net, &mut stream, said, "retry-after: 1\r\n", "").await,
    }
}

/// Which seqs these envelopes have, 0 for those that are not there.
async fn has(net: &Net, mut stream: TcpStream) -> Option<()> {
    let (line, hashes) = request(&mut stream, &mut Vec::new()).await?;
    let topic = line.strip_prefix("POST /topic/")?.strip_suffix("/has HTTP/1.1")?.parse().unwrap();
    let seqs: Vec<u8> = {
        let world = net.world();
        let (hashes, _) = hashes.as_chunks::<32>();
        let seq = |hash: &[u8; 32]| world.server.find(&topic, &EnvelopeHash(*hash)).unwrap_or(Seq(0));
        hashes.iter().flat_map(|hash| seq(hash).0.to_be_bytes()).collect()
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", seqs.len());
    stream.write_all(&[head.as_bytes(), &seqs].concat()).await.ok()
}

/// Sends what the server says until one side ends the connection.
async fn serve(
    mut socket: WebSocketStream<TcpStream>,
    outputs: &mut mpsc::UnboundedReceiver<ServerOutput>,
) -> Option<()> {
    loop {
        tokio::select! {
            output = outputs.recv() => match output? {
                ServerOutput::Frame { message, .. } => socket.send(Message::Binary(message)).await.ok()?,
                ServerOutput::Close { code, .. } => {
                    let frame = CloseFrame { code: code.into(), reason: "scripted".into() };
                    socket.send(Message::Close(Some(frame))).await.ok()?;
                    while socket.next().await?.is_ok() {}
                    return None;
                }
                ServerOutput::Cut { .. } => return None,
            },
            message = socket.next() => { message?.ok()?; }
        }
    }
}

fn parse(path: &str) -> (TopicId, Cursor) {
    let (path, query) = path.split_once('?').unwrap();
    let topic = path.strip_prefix("/topic/").unwrap().parse().unwrap();
    let query: HashMap<&str, &str> = query.split('&').map(|pair| pair.split_once('=').unwrap()).collect();
    let cursor = Cursor {
        since: Seq(query["since"].parse().unwrap()),
        generation: query.get("generation").map(|text| text.parse().unwrap()),
        chain: query.get("chain").map(|text| hex::decode(text).unwrap().try_into().unwrap()),
    };
    (topic, cursor)
}
