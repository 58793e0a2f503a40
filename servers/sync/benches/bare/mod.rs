//! The work that no server of this protocol can do without, each part alone on one thread: microseconds of processor
//! time.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{Millis, NodeId};
use delta_core::onion::deliver;
use delta_core::onion::v3::{self, Hop, OnionSecret, Terminal, wrap};
use delta_core::topic::{TopicId, WriteKey};
use delta_load::http::{Connection, post};
use delta_load::process::processor_seconds;
use delta_load::workload::OP_BYTES;
use delta_sync::store::Sql;
use delta_topic_log::{GenerationSecret, TopicLogs, Write};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

const PACKETS: usize = 5_000;
const REQUESTS: usize = 20_000;
const ROWS: usize = 50_000;
/// Operations of one commit where rows are inserted.
const COMMIT: usize = 500;

/// Microseconds of each part.
pub struct Bare {
    open: f64,
    open_shared: f64,
    verify: f64,
    request: f64,
    insert: f64,
}

pub fn measure() -> Result<Bare> {
    Ok(Bare {
        open: open(OP_BYTES)?,
        open_shared: open(60_000)?,
        verify: verify()?,
        request: request()?,
        insert: insert()?,
    })
}

impl Bare {
    /// Single-operation deliveries of one core in a second.
    pub fn single(&self) -> f64 {
        1e6 / (self.open + self.verify + self.request + self.insert)
    }

    /// Operations of one core in a second when `count` share a packet.
    pub fn shared(&self, count: usize) -> f64 {
        1e6 / ((self.open_shared + self.verify + self.request) / count as f64 + self.insert)
    }

    pub fn print(&self) {
        let Self { open, open_shared, verify, request, insert } = self;
        println!(
            "bare: open 4 KiB {open:.1} us, 64 KiB {open_shared:.1} us, strict verification {verify:.1} us,"
        );
        println!(
            "      answer a POST of 4 KiB {request:.1} us, insert and {COMMIT}th part of a commit {insert:.1} us"
        );
    }
}

/// Microseconds of this thread for each of `count` rounds.
fn each(count: usize, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let before = processor_seconds("thread-self")?;
    work()?;
    Ok((processor_seconds("thread-self")? - before) * 1e6 / count as f64)
}

fn open(content: usize) -> Result<f64> {
    let secret = OnionSecret::from_bytes(1, [7; 32]);
    let hop = Hop { node: NodeId([8; 32]), key: secret.public(), delay: 0 };
    let (content, keys) = (vec![9; content], [secret]);
    let packet = wrap(&[hop], Terminal::Deliver(&content), &mut SeededEntropy::new([1; 32]))?;
    each(PACKETS, || {
        for _ in 0..PACKETS {
            black_box(v3::open(&keys, packet.clone())?.parse()?);
        }
        Ok(())
    })
}

fn verify() -> Result<f64> {
    let content = deliver::encode_operation(&WriteKey::from_seed([1; 32]), &[9; OP_BYTES])?;
    each(PACKETS, || {
        for _ in 0..PACKETS {
            black_box(deliver::verify(black_box(&content))?);
        }
        Ok(())
    })
}

/// Hyper alone: one thread that reads the body and answers 202; the client has a thread of its own.
fn request() -> Result<f64> {
    let (address, wait) = std::sync::mpsc::channel();
    let client = std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut connection = Connection::open(wait.recv()?).await?;
            let request = post("/deliver", "application/octet-stream", &[9; 4096]);
            for _ in 0..REQUESTS {
                anyhow::ensure!(connection.send(&request).await?.status == 202, "not taken");
            }
            Ok(())
        })
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let took = each(REQUESTS, || {
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            address.send(listener.local_addr()?).context("the client is gone")?;
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answer = service_fn(async |request: Request<Incoming>| {
                let body = request.into_body().collect().await.map(|body| body.to_bytes());
                let mut response = Response::new(Empty::<Bytes>::new());
                let taken = body.is_ok_and(|body| body.len() == 4096);
                *response.status_mut() = if taken { StatusCode::ACCEPTED } else { StatusCode::BAD_REQUEST };
                Ok::<_, Infallible>(response)
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            tokio::time::timeout(Duration::from_secs(60), connection).await??;
            Ok(())
        })
    })?;
    client.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
    Ok(took)
}

fn insert() -> Result<f64> {
    let dir = tempfile::tempdir()?;
    let storage = Sql::writer(&dir.path().join("topics.db"), 0)?;
    let mut logs = TopicLogs::new(storage, GenerationSecret::from_bytes([1; 32]));
    let mut op = vec![9; OP_BYTES];
    let mut placed = Vec::new();
    each(ROWS, || {
        for row in 0..ROWS {
            op[..8].copy_from_slice(&(row as u64).to_be_bytes());
            logs.append(Millis(1), &TopicId([5; 32]), &[&op], Write::Signed, &mut placed)?;
            if row % COMMIT == COMMIT - 1 {
                logs.commit()?;
            }
        }
        anyhow::ensure!(placed.iter().filter(|place| place.fresh).count() == ROWS, "rows are missing");
        Ok(logs.commit()?)
    })
}
