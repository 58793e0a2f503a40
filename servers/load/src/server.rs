//! A `delta-sync` process on loopback.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, bail, ensure};
use delta_core::entropy::SeededEntropy;
use delta_core::onion::directory::{NodeRecord, RecordObject};
use delta_core::onion::v3::{Hop, Terminal, wrap};
use ed25519_dalek::VerifyingKey;
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::{http, process};

/// A write past the file size limit shall fail like one on a full disk, not end the process: the signal stays ignored
/// across `exec`.
const IGNORE_FILE_SIZE_SIGNAL: &str = "trap '' XFSZ; exec \"$0\" \"$@\"";

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
    /// Where it serves.
    pub address: SocketAddr,
    /// Where it shows its metrics.
    pub admin: SocketAddr,
    /// What packets are wrapped for.
    pub hop: Hop,
    /// The key it signs heads with.
    pub key: VerifyingKey,
}

#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Starts `program` on a data folder and waits until it serves. Its log goes to `log`.
    ///
    /// # Errors
    /// It does not start; the error holds the end of its log.
    pub async fn start(program: &Path, data: &Path, log: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let log_file = OpenOptions::new().create(true).append(true).open(log).context("the log file")?;
        let mut command = Command::new("sh");
        command.args(["-c", IGNORE_FILE_SIZE_SIGNAL]).arg(program);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--allow-private"]);
        command.args(["--url", "http://127.0.0.1:9999", "--data"]).arg(data).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file);
        let child = command.spawn().with_context(|| format!("{} does not start", program.display()))?;
        let mut process = Process(child);
        let out = process.0.stdout.take().context("standard output")?;
        // The lines come within a moment, or the process ends.
        let addresses = tokio::task::spawn_blocking(move || addresses(BufReader::new(out)));
        let Some((address, admin)) = addresses.await? else {
            bail!("the server ended with {}: {}", process.0.wait()?, tail(log));
        };
        let record = record(address).await.context("its record in /info")?;
        let key = *record.keys.first().context("an onion key in its record")?;
        let hop = Hop { node: record.id, key, delay: 0 };
        Ok(Self { process, address, admin, hop, key: VerifyingKey::from_bytes(&record.id.0)? })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(mut self) -> anyhow::Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        self.process.0.kill()?;
        self.process.0.wait()?;
        Ok(())
    }

    /// SIGTERM; gives the exit status once it has ended.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn terminate(self) -> anyhow::Result<ExitStatus> {
        rustix::process::kill_process(self.pid()?, Signal::TERM)?;
        let mut process = self.process;
        Ok(tokio::task::spawn_blocking(move || process.0.wait()).await??)
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// The system refuses.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.process.0.try_wait()?)
    }

    /// From now on no file may grow beyond `bytes`, as if the disk were full; `None` lifts that.
    ///
    /// # Errors
    /// The system refuses.
    pub fn limit_files(&self, bytes: Option<u64>) -> anyhow::Result<()> {
        let limit = Rlimit { current: bytes, maximum: None };
        rustix::process::prlimit(Some(self.pid()?), Resource::Fsize, limit)?;
        Ok(())
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        let id = i32::try_from(self.id())?;
        Pid::from_raw(id).context("a process id")
    }

    /// Seconds of processor time it has used.
    ///
    /// # Errors
    /// It has ended.
    pub fn processor_seconds(&self) -> anyhow::Result<f64> {
        process::processor_seconds(&self.id().to_string())
    }

    /// Bytes of memory it has resident.
    ///
    /// # Errors
    /// It has ended.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        process::resident_bytes(self.id())
    }

    /// One number from its metrics.
    ///
    /// # Errors
    /// It does not answer, or has no such metric.
    pub async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let answer = http::once(self.admin, &http::get("/metrics")).await?;
        let text = std::str::from_utf8(&answer.body)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no metric {name}"))?.parse()?)
    }
}

/// A packet whose only layer is `hop`. Every `seed` gives another one.
///
/// # Errors
/// The content fits no packet.
pub fn packet(hop: &Hop, content: &[u8], seed: [u8; 32]) -> anyhow::Result<Vec<u8>> {
    Ok(wrap(std::slice::from_ref(hop), Terminal::Deliver(content), &mut SeededEntropy::new(seed))?)
}

/// The `delta-sync` in this program's folder.
///
/// # Errors
/// There is none.
pub fn neighbour() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let program = own.with_file_name(format!("delta-sync{}", std::env::consts::EXE_SUFFIX));
    ensure!(program.is_file(), "there is no {}; build delta-sync or name a program", program.display());
    Ok(program)
}

async fn record(address: SocketAddr) -> anyhow::Result<NodeRecord> {
    let answer = http::once(address, &http::get("/info")).await?;
    let mut info: serde_json::Value = serde_json::from_slice(&answer.body)?;
    Ok(RecordObject::from_value(info["record"].take())?.verify()?)
}

fn addresses(out: impl BufRead) -> Option<(SocketAddr, SocketAddr)> {
    let mut lines = out.lines();
    let mut address = |prefix: &str| lines.next()?.ok()?.strip_prefix(prefix)?.parse().ok();
    Some((address("listening on http://")?, address("admin on http://")?))
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n")
}
