//! The other side: holds a client program, in whatever language, to the protocol.
//!
//! The program is called with a server's URL (`http://host:port#<node id>`) and
//!
//! ```text
//! --ticket TICKET | --topic HEX     what to follow
//! --frames binary|json              which frames to ask for
//! --json                            one JSON object a line on standard output
//! --until-ready | --count N         when to stop
//! ```
//!
//! and prints for each operation `{"event": "operation", "seq", "received_ms", "hash", "size", …}` (with a ticket also what is
//! in it, or `refused`), for each verified `ready` `{"event": "ready", "head", "generation", "chain", "verified": true}`. It ends with an
//! error, and without having called anything verified, when the server lies. `examples/python/tail.py` is such a program.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::conversation::Conversation;
use crate::failure::{Checked, Failure, ensure, equal, equal_lists};
use crate::frame::Item;
use crate::http::Base;
use crate::liar::{Liar, Lie};
use crate::socket::{MODES, Mode};
use crate::target::{Settings, Target};
use crate::topic::Topic;
use crate::view::View;

/// Longest time a client may take for what it is asked.
const BOUND: Duration = Duration::from_secs(90);

/// The client under test: a program and its first arguments.
#[derive(Clone, Debug)]
pub struct Client {
    /// The words of its command line.
    pub command: Vec<String>,
    /// Print what the client prints.
    pub show: fn(&str),
}

/// One thing a client is held to, and how that ended.
pub type Outcome = (String, Checked);

/// Runs every scenario against a server that runs.
pub async fn run(url: &str, client: &Client) -> Checked<Vec<Outcome>> {
    let target = Target::discover(url, Settings::default()).await?;
    let mut outcomes = Vec::new();
    for mode in MODES {
        let frames = mode.name();
        let follows = follows_a_conversation(&target, url, client, mode, Conversation::private()?).await;
        outcomes.push((format!("follows a private topic in {frames} frames"), follows));
        let follows = follows_a_conversation(&target, url, client, mode, Conversation::public()?).await;
        outcomes.push((format!("follows a public topic in {frames} frames"), follows));
        let reads = reads_without_a_ticket(&target, url, client, mode).await;
        outcomes.push((format!("lists a topic without its ticket in {frames} frames"), reads));
    }
    outcomes.push(("refuses a server with another id".to_owned(), refuses_another_id(url, client).await));
    for (what, lie) in LIES {
        let refuses = refuses_a_lie(&target, client, lie).await;
        outcomes.push((format!("notices that {what}"), refuses));
    }
    Ok(outcomes)
}

/// Lies about the log, in binary frames: each breaks order, chain or signature.
const LIES: [(&str, Lie); 4] = [
    ("an operation was changed", Lie { frame: change_an_operation, ..Lie::NONE }),
    ("an operation is missing", Lie { frame: leave_out_the_first, ..Lie::NONE }),
    ("the server's signature is wrong", Lie { frame: change_the_signature, ..Lie::NONE }),
    ("a frame ends early", Lie { frame: cut_the_frame, ..Lie::NONE }),
];

fn change_an_operation(mut frame: Vec<u8>) -> Vec<Vec<u8>> {
    if let (Some(2), Some(last)) = (frame.first().copied(), frame.last_mut()) {
        *last ^= 1;
    }
    vec![frame]
}

fn leave_out_the_first(frame: Vec<u8>) -> Vec<Vec<u8>> {
    if frame.first() == Some(&2) { Vec::new() } else { vec![frame] }
}

fn change_the_signature(mut frame: Vec<u8>) -> Vec<Vec<u8>> {
    if let (Some(3), Some(last)) = (frame.first().copied(), frame.last_mut()) {
        *last ^= 1;
    }
    vec![frame]
}

fn cut_the_frame(mut frame: Vec<u8>) -> Vec<Vec<u8>> {
    if frame.first() == Some(&3) {
        frame.pop();
    }
    vec![frame]
}

/// A client that is given half of a conversation to catch up with and the rest live.
async fn follows_a_conversation(
    target: &Target,
    url: &str,
    client: &Client,
    mode: Mode,
    talk: Conversation,
) -> Checked {
    let topic = topic_of(&talk)?;
    let (old, new) = talk.envelopes.split_at(talk.envelopes.len() / 2);
    target.seed(&topic, old).await?;
    let server = pinned(target, url);
    // Readers need no write key: the read-only ticket must do.
    let ticket = talk.ticket.read_only().to_string();
    let count = talk.envelopes.len().to_string();
    let mut running = Running::start(client, &server, &["--ticket", &ticket, "--count", &count], mode)?;

    let mut lines = running.until_ready().await?;
    for (seq, envelope) in (old.len() as u64 + 1..).zip(new) {
        target.deliver_op(&topic, envelope).await?;
        target.wait_head(&topic, seq).await?;
    }
    lines.extend(running.all_lines().await?);
    running.ended_well().await?;

    let ready = expected_ready(target, &topic, old).await?;
    let mut expected: Vec<Value> = talk.lines[..old.len()].to_vec();
    expected.push(ready);
    expected.extend_from_slice(&talk.lines[old.len()..]);
    compare(target, &topic, mode, &lines, &expected).await
}

async fn reads_without_a_ticket(target: &Target, url: &str, client: &Client, mode: Mode) -> Checked {
    let talk = Conversation::private()?;
    let topic = topic_of(&talk)?;
    target.seed(&topic, &talk.envelopes).await?;
    let server = pinned(target, url);
    let mut running = Running::start(client, &server, &["--topic", &topic.hex, "--until-ready"], mode)?;
    let lines = running.all_lines().await?;
    running.ended_well().await?;
    let mut expected = talk.closed_lines();
    expected.push(expected_ready(target, &topic, &talk.envelopes).await?);
    compare(target, &topic, mode, &lines, &expected).await
}

async fn refuses_another_id(url: &str, client: &Client) -> Checked {
    let server = format!("{url}#{}", hex::encode([7; 32]));
    let topic = Topic::fresh().hex;
    let mut running = Running::start(client, &server, &["--topic", &topic, "--until-ready"], Mode::Binary)?;
    running.ended_badly().await
}

async fn refuses_a_lie(target: &Target, client: &Client, lie: Lie) -> Checked {
    let talk = Conversation::private()?;
    let topic = topic_of(&talk)?;
    target.seed(&topic, &talk.envelopes).await?;
    let failure = |error: std::io::Error| Failure::new("the lying proxy", "a port", error.to_string());
    let base: Base = target.base.clone();
    let liar = Liar::start(base, lie).await.map_err(failure)?;
    let server = pinned(target, &liar.url);
    let mut running =
        Running::start(client, &server, &["--topic", &topic.hex, "--until-ready"], Mode::Binary)?;
    running.ended_badly().await
}

fn topic_of(talk: &Conversation) -> Checked<Topic> {
    let keys = talk.ticket.keys();
    let key = keys.write_key().cloned();
    let key = key.ok_or_else(|| Failure::new("a fresh ticket", "one that may write", "read only"))?;
    Ok(Topic { key, id: keys.topic().0, hex: hex::encode(keys.topic().0) })
}

fn pinned(target: &Target, url: &str) -> String {
    format!("{url}#{}", hex::encode(target.node.to_bytes()))
}

/// The `ready` line of a log that holds `envelopes`, computed here.
async fn expected_ready(target: &Target, topic: &Topic, envelopes: &[Vec<u8>]) -> Checked<Value> {
    let generation = target.head(topic).await?.generation;
    let mut view = View::start(topic.id, generation);
    for (seq, op) in (1..).zip(envelopes) {
        view.extend(&[Item { seq, received_ms: None, op: op.clone() }])?;
    }
    let (generation, chain) = (hex::encode(generation), hex::encode(view.chain));
    let mut ready = json!({ "event": "ready", "head": view.seq, "verified": true });
    ready["generation"] = json!(generation);
    ready["chain"] = json!(chain);
    Ok(ready)
}

/// Compares what a client printed with what it must print, times of receipt included.
async fn compare(target: &Target, topic: &Topic, mode: Mode, lines: &[Value], expected: &[Value]) -> Checked {
    let log = target.log(topic).await?;
    let mut expected = expected.to_vec();
    for line in expected.iter_mut().filter(|line| line["event"] == "operation") {
        let item = log.iter().find(|item| Some(item.seq) == line["seq"].as_u64());
        let received = item.and_then(|item| item.received_ms).filter(|_| mode == Mode::Binary);
        line["received_ms"] = json!(received);
    }
    let lines: Vec<Value> = lines.iter().map(without_reason).collect();
    equal_lists("what the client printed", &lines, &expected)
}

/// Why a client refuses an envelope is its own wording.
fn without_reason(line: &Value) -> Value {
    let mut line = line.clone();
    if line["refused"].is_string() {
        line["refused"] = json!(true);
    }
    line
}

/// A client that runs.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    show: fn(&str),
    verified: bool,
}

impl Running {
    fn start(client: &Client, server: &str, arguments: &[&str], mode: Mode) -> Checked<Self> {
        let frames = if mode == Mode::Binary { "binary" } else { "json" };
        let (program, first) = client
            .command
            .split_first()
            .ok_or_else(|| Failure::new("the client", "a command line", "nothing"))?;
        let mut command = Command::new(program);
        command.args(first).arg(server).args(arguments).args(["--frames", frames, "--json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let failure = |error: String| Failure::new(format!("starting {program}"), "a process", error);
        let mut child = command.spawn().map_err(|error| failure(error.to_string()))?;
        let stdout = child.stdout.take().ok_or_else(|| failure("no standard output".to_owned()))?;
        Ok(Self { child, lines: BufReader::new(stdout).lines(), show: client.show, verified: false })
    }

    async fn line(&mut self) -> Checked<Option<Value>> {
        let failure = |got: String| Failure::new("the client's output", "a JSON object a line", got);
        let line = tokio::time::timeout(BOUND, self.lines.next_line()).await;
        let line = line.map_err(|_| failure(format!("nothing within {BOUND:?}")))?;
        let Some(line) = line.map_err(|error| failure(error.to_string()))? else { return Ok(None) };
        (self.show)(&line);
        let value: Value =
            serde_json::from_str(&line).map_err(|error| failure(format!("{error} in {line}")))?;
        self.verified |= value["verified"] == true;
        Ok(Some(value))
    }

    async fn until_ready(&mut self) -> Checked<Vec<Value>> {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await? {
            let ready = line["event"] == "ready";
            lines.push(line);
            if ready {
                return Ok(lines);
            }
        }
        Err(Failure::new("the client's output", "a ready", format!("it ended after {}", self.errors().await)))
    }

    async fn all_lines(&mut self) -> Checked<Vec<Value>> {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await? {
            lines.push(line);
        }
        Ok(lines)
    }

    async fn errors(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            let _ = tokio::time::timeout(BOUND, stderr.read_to_string(&mut text)).await;
        }
        text
    }

    async fn status(&mut self) -> Checked<(bool, String)> {
        let errors = self.errors().await;
        let failure = |got: String| Failure::new("the client", "an end", got);
        let status = tokio::time::timeout(BOUND, self.child.wait()).await;
        let status = status.map_err(|_| failure(format!("none within {BOUND:?}")))?;
        let status = status.map_err(|error| failure(error.to_string()))?;
        Ok((status.success(), format!("{status}: {errors}")))
    }

    async fn ended_well(&mut self) -> Checked {
        let (success, shown) = self.status().await?;
        ensure(success, "the client's end", "exit code 0", shown)
    }

    /// It says what is wrong, ends with an error, and has called nothing verified.
    async fn ended_badly(&mut self) -> Checked {
        self.all_lines().await?;
        let (success, shown) = self.status().await?;
        ensure(!success && shown.contains("error"), "the client's end", "an error, and exit code 1", shown)?;
        equal("whether it called anything verified", &self.verified, &false)
    }
}
