//! Starts a `delta-sync` of its own for a run, with a fresh data folder on a free port, and stops it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

use crate::http::{Base, Body, Request};
use crate::target::Settings;

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// A server that runs as long as this value lives.
#[derive(Debug)]
pub struct Spawned {
    /// Its base URL.
    pub url: String,
    child: Child,
    data: tempfile::TempDir,
}

impl Spawned {
    /// Starts `program` with the flags of these settings and waits until it answers.
    pub async fn start(program: &Path, settings: Settings) -> anyhow::Result<Self> {
        let data = tempfile::tempdir().context("a temporary data folder")?;
        let port = free_port().context("a free port on the loopback interface")?;
        let address = format!("127.0.0.1:{port}");
        let log = std::fs::File::create(data.path().join("log")).context("a log file")?;
        let mut command = Command::new(program);
        command.arg("--data").arg(data.path().join("data")).args(["--listen", &address]);
        // Its record, and so its onion key, is in /info only when it knows its own URL.
        command.args(["--allow-private", "--url", &format!("http://{address}")]);
        command.args(flags(settings)).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.kill_on_drop(true).spawn();
        let child = child.with_context(|| format!("{} does not start", program.display()))?;
        let mut spawned = Self { url: format!("http://{address}"), child, data };
        spawned.wait().await?;
        Ok(spawned)
    }

    async fn wait(&mut self) -> anyhow::Result<()> {
        let base = Base::parse(&self.url).map_err(anyhow::Error::msg)?;
        let deadline = tokio::time::Instant::now() + START;
        loop {
            let health =
                Request { method: "GET", path: "/health".to_owned(), headers: Vec::new(), body: Body::None };
            if base.send(&health).await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", self.log());
            }
            if tokio::time::Instant::now() >= deadline {
                bail!("the server did not answer within {START:?}:\n{}", self.log());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether it still runs; a server that died during a run is a failure of its own.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server ended with {status} during the run:\n{}", self.log()),
        }
    }

    /// The last lines it printed.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.data.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Stops it and removes its data.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("the server cannot be stopped")
    }
}

/// The `delta-sync` in this program's folder.
pub fn neighbour() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let program = own.with_file_name(format!("delta-sync{}", std::env::consts::EXE_SUFFIX));
    anyhow::ensure!(
        program.is_file(),
        "there is no {}; build delta-sync or name a server",
        program.display()
    );
    Ok(program)
}

fn flags(settings: Settings) -> Vec<String> {
    let mut flags = Vec::new();
    if settings.accept_v2 {
        flags.push("--accept-v2".to_owned());
    }
    if settings.accept_direct_publish {
        flags.push("--accept-direct-publish".to_owned());
    }
    if settings.read_proof {
        flags.push("--read-proof".to_owned());
    }
    if let Some(count) = settings.ops_per_topic {
        flags.extend(["--limit".to_owned(), format!("ops_per_topic={count}")]);
    }
    flags
}

/// A port that was free a moment ago.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
