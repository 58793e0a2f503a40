//! What a socket costs that only waits.

use std::path::Path;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Running, ready_subscriber};
use crate::workload::Workload;

/// File handles a process needs besides its sockets.
const OTHER_FILES: u64 = 200;

/// Bytes of memory that `sockets` idle subscribers, each of a topic of its own, add to the server.
///
/// # Errors
/// The system does not allow so many file handles, or the server does not.
pub async fn idle(program: &Path, sockets: usize) -> anyhow::Result<u64> {
    allow_files(sockets as u64 + OTHER_FILES)?;
    let running = Running::start(program).await?;
    let server = &running.server;
    let before = server.resident_bytes()?;
    let mut open = Vec::with_capacity(sockets);
    for topic in Workload::new(sockets, 1, 1).topics() {
        open.push(ready_subscriber(server, &topic).await?);
    }
    anyhow::ensure!(server.metric("delta_sync_sockets").await? == sockets as u64, "sockets are missing");
    Ok(server.resident_bytes()?.saturating_sub(before))
}

/// For this process and the servers it starts.
fn allow_files(count: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        let raised = Rlimit { current: Some(count), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised)
            .with_context(|| format!("{count} file handles are needed: raise `ulimit -n`"))?;
    }
    Ok(())
}
