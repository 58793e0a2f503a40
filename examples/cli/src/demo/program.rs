//! A server as a child process: watched while it runs, and never left behind.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::programs::END_WITH_INPUT;

/// Lines of a log that are shown when its program ended.
const LOG_LINES: usize = 10;

/// A program that nobody told to end has ended.
pub struct Ended {
    name: String,
    status: std::io::Result<ExitStatus>,
    log: PathBuf,
}

/// Where programs report that they ended.
pub type Watch = mpsc::UnboundedSender<Ended>;

/// What a server prints before its address once it listens.
const LISTENING: &str = "listening on http://";

/// Where a program listens, while it does. It chooses its port itself: one that is chosen for it may be another's by then.
pub type Address = Arc<watch::Sender<Option<SocketAddr>>>;

/// A running program; dropping it kills it.
pub struct Program {
    pid: Option<u32>,
    kill: oneshot::Sender<()>,
    keeper: JoinHandle<()>,
}

impl Ended {
    /// Which program, how it ended, and the end of its log.
    pub fn describe(&self) -> String {
        let Self { name, status, log } = self;
        let how = match status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let said = last_lines(log);
        let said =
            if said.is_empty() { "its log is empty".to_owned() } else { format!("its log ends:\n{said}") };
        format!("{name} ended unasked ({how}); {said}")
    }
}

impl Program {
    /// Starts it with its log in `log`, tells `address` where it listens, for as long as it does, and `watch` when it
    /// ends before it is killed.
    pub fn start(
        name: &str,
        mut command: Command,
        log: &Path,
        watch: Watch,
        address: Address,
    ) -> anyhow::Result<Self> {
        let file = std::fs::File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file).kill_on_drop(true);
        // When this program is killed, the pipe closes, and the child ends by itself.
        command.env(END_WITH_INPUT, "1");
        // Ctrl-C is for this program, which ends its children itself.
        command.process_group(0);
        let mut child = command.spawn().with_context(|| name.to_owned())?;
        let pid = child.id();
        let input: Option<ChildStdin> = child.stdin.take();
        let output = child.stdout.take();
        let (kill, killed) = oneshot::channel();
        let (name, log) = (name.to_owned(), log.to_path_buf());
        let keeper = tokio::spawn(async move {
            // Waiting for a child closes its input, so it is held here.
            let _input = input;
            let end = async {
                tokio::select! {
                    biased;
                    // Also when the sender is dropped.
                    _ = killed => drop(child.kill().await),
                    // Nobody listens any more when the demo ends at the same time.
                    status = child.wait() => drop(watch.send(Ended { name, status, log })),
                }
            };
            tokio::join!(end, listen(output, &address));
        });
        Ok(Self { pid, kill, keeper })
    }

    /// The process.
    pub const fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(self) -> anyhow::Result<()> {
        // It may have ended by itself.
        let _ = self.kill.send(());
        self.keeper.await.context("the keeper of a program")
    }
}

/// Reads what a program prints until it ends.
async fn listen(output: Option<ChildStdout>, address: &Address) {
    let Some(output) = output else { return };
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(listens) = line.strip_prefix(LISTENING).and_then(|rest| rest.parse().ok()) {
            address.send_replace(Some(listens));
        }
    }
    address.send_replace(None);
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(last_lines(file.path()), "");
        let lines: Vec<String> = (0..LOG_LINES + 1).map(|number| format!("line {number}")).collect();
        std::fs::write(file.path(), lines.join("\n")).unwrap();
        assert_eq!(last_lines(file.path()), lines[1..].join("\n"));
    }
}
