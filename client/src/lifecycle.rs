//! What a phone's system asks of an app: let go of everything, go on, and do a little in the background.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use delta_core::engine::{CommandError, TopicStatus};
use delta_core::identity::Millis;
use delta_core::store::OutboxCounts;
use delta_core::sync::session::Connection;
use delta_core::topic::TopicId;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::apart::apart;
use crate::client::Client;
use crate::driver::{Done, Message};
use crate::error::ClientError;
use crate::subscription::Subscription;

/// What [`Client::run_once`] keeps of its budget for looking how far it came and for closing the database, at most.
const RESERVE: Duration = Duration::from_millis(500);
/// The same as a part of the budget.
const RESERVE_PART: u32 = 5;

/// How long a background run waits for news of a topic before it looks by itself.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often a background run looks how far blobs are.
const LOOK_AT_BLOBS_EVERY: Duration = Duration::from_millis(200);

/// How long a background run waits for blobs none of which goes on.
const BLOBS_STALL: Duration = Duration::from_secs(10);

/// Between running and suspended.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    /// One change at a time.
    change: Mutex<()>,
    /// One background run at a time.
    run: Mutex<()>,
    /// Whether the app put the client to sleep and did not wake it since: a background run puts it back then.
    suspended: AtomicBool,
}

/// What a background run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunSummary {
    /// Whether every topic was read to its end, everything queued was acknowledged, and no blob is on its way.
    pub complete: bool,
    /// Topics of this device.
    pub topics: u64,
    /// Those of them that were read to the end of their log.
    pub caught_up: u64,
    /// Operations read from the logs, own ones included.
    pub received: u64,
    /// Own operations that still wait to be sent or acknowledged.
    pub waiting: u64,
    /// Blobs that are still to be sent or fetched.
    pub blobs: u64,
}

/// What a device holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Topics that are open.
    pub topics: u64,
    /// Operations stored.
    pub operations: u64,
    /// Own operations on their way, over all topics.
    pub outbox: OutboxCounts,
    /// Envelope bytes of the outbox.
    pub outbox_bytes: u64,
    /// Length of the database file and its write-ahead log.
    pub stored_bytes: u64,
}

/// Where one topic stands in a background run.
struct Watched {
    topic: TopicId,
    subscription: Subscription,
    before: u64,
    last: TopicStatus,
    caught_up: bool,
}

impl Client {
    /// Lets go of everything: what was accepted is stored, sockets are closed, the write-ahead log is in the database,
    /// and when this returns no database or lock file is open in this process for this client, and nothing wakes.
    /// Subscriptions stay and go on after [`Client::resume`]; other calls get [`ClientError::Suspended`]. Again is
    /// harmless. Runs to its end even if the future is dropped.
    ///
    /// # Errors
    /// A full disk, for instance, can keep the log from being moved into the database: it is suspended all the same,
    /// and nothing is lost.
    pub async fn suspend(&self) -> Result<(), ClientError> {
        let client = self.clone();
        apart(async move {
            client.shared.lifecycle.suspended.store(true, Ordering::SeqCst);
            client.release().await
        })
        .await
    }

    /// Goes on after [`Client::suspend`]: opens the database again and connects. Again is harmless.
    ///
    /// # Errors
    /// `database_locked` when another process has taken the database meanwhile: still suspended then, try again.
    pub async fn resume(&self) -> Result<(), ClientError> {
        let client = self.clone();
        apart(async move {
            client.acquire().await?;
            client.shared.lifecycle.suspended.store(false, Ordering::SeqCst);
            Ok(())
        })
        .await
    }

    /// A background fetch: reads every topic of this device to its end, sends what is queued, and goes on with the blobs
    /// that are being sent and fetched as far as the server has them, for at most `budget`. A suspended client is resumed for it and suspended again within the budget. `init_sync` must have been called
    /// since the client was opened.
    ///
    /// A [`Client::suspend`] meanwhile ends it early; so does the end of the budget. Neither is an error: the summary
    /// says how far it came.
    pub async fn run_once(&self, budget: Duration) -> Result<RunSummary, ClientError> {
        let (client, start) = (self.clone(), Instant::now());
        apart(async move { client.run_until(start, budget).await }).await
    }

    /// When something queued is due to be sent (again); `None` when nothing waits. An instant that has passed means now.
    /// For the system's scheduler: while the client is suspended nothing happens by itself.
    pub async fn next_wakeup_at(&self) -> Result<Option<Millis>, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.send(Message::NextWork { reply });
        answer.await.map_err(|_| self.shared.inbox.why_stopped())
    }

    /// What the device holds.
    pub async fn statistics(&self) -> Result<Statistics, ClientError> {
        let path = self.shared.path.clone();
        self.read(move |reader| {
            let mut wal = path.as_os_str().to_owned();
            wal.push("-wal");
            let length = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |file| file.len());
            Ok(Statistics {
                topics: reader.topics()?.len() as u64,
                operations: reader.count_operations()?,
                outbox: reader.outbox_totals()?,
                outbox_bytes: reader.outbox_size()?.1,
                stored_bytes: length(&path) + length(wal.as_ref()),
            })
        })
        .await
    }

    async fn release(&self) -> Result<(), ClientError> {
        let _one = self.shared.lifecycle.change.lock().await;
        // First: a checkpoint is whole only when nobody reads.
        self.shared.readers.suspend().await;
        self.change(|done| Message::Suspend { done }).await
    }

    async fn acquire(&self) -> Result<(), ClientError> {
        let _one = self.shared.lifecycle.change.lock().await;
        self.change(|done| Message::Resume { done }).await
    }

    async fn change(&self, message: impl FnOnce(Done) -> Message) -> Result<(), ClientError> {
        let (done, changed) = oneshot::channel();
        self.shared.inbox.send(message(done));
        changed.await.unwrap_or_else(|_| Err(self.shared.inbox.why_stopped()))
    }

    async fn run_until(&self, start: Instant, budget: Duration) -> Result<RunSummary, ClientError> {
        let Ok(_one) = timeout_at(start + budget, self.shared.lifecycle.run.lock()).await else {
            return Ok(RunSummary::default());
        };
        if !self.has_network() {
            return Err(ClientError::Command(CommandError::NoNetwork));
        }
        let lifecycle = &self.shared.lifecycle;
        let deadline = start + budget - (budget / RESERVE_PART).min(RESERVE);
        if !lifecycle.suspended.load(Ordering::SeqCst) {
            self.network_changed();
            return self.catch_up(deadline).await;
        }
        self.acquire().await?;
        let summary = self.catch_up(deadline).await;
        // Unless the app came to the front meanwhile.
        if lifecycle.suspended.load(Ordering::SeqCst) {
            self.release().await?;
        }
        summary
    }

    async fn catch_up(&self, deadline: Instant) -> Result<RunSummary, ClientError> {
        let mut watched = Vec::new();
        let work = async {
            for row in self.read(|reader| reader.topics()).await? {
                let Some(subscription) = still_known(self.subscribe(row.topic).await)? else { continue };
                let Some(last) = still_known(self.status(row.topic).await)? else { continue };
                let before = position(&last);
                watched.push(Watched { topic: row.topic, subscription, before, last, caught_up: false });
            }
            for watched in &mut watched {
                while !watched.is_done() {
                    // News of a room that moved come under the name it had; a close is said by the status.
                    drop(timeout(LOOK_EVERY, watched.subscription.next()).await);
                    match still_known(self.status(watched.topic).await)? {
                        Some(status) => watched.look(status),
                        None => watched.give_up(),
                    }
                }
            }
            self.carry_blobs().await
        };
        let in_time = match timeout_at(deadline, work).await {
            Ok(Ok(())) => true,
            // Put to sleep by the app, or out of time: what was done counts.
            Ok(Err(ClientError::Suspended)) | Err(_) => false,
            Ok(Err(error)) => return Err(error),
        };
        let mut summary = RunSummary { topics: watched.len() as u64, ..RunSummary::default() };
        for mut watched in watched {
            if let Ok(status) = self.status(watched.topic).await {
                watched.look(status);
            }
            summary.caught_up += u64::from(watched.caught_up);
            summary.received += position(&watched.last).saturating_sub(watched.before);
            summary.waiting += (watched.last.queued + watched.last.sent) as u64;
        }
        if let Ok(blobs) = self.read(|reader| reader.blobs_under_way()).await {
            summary.blobs = blobs.len() as u64;
        }
        let all = summary.caught_up == summary.topics && summary.waiting == 0 && summary.blobs == 0;
        summary.complete = in_time && all;
        Ok(summary)
    }

    /// Waits while blobs go on: each in a topic of its own, of which apps hear nothing.
    async fn carry_blobs(&self) -> Result<(), ClientError> {
        let (mut before, mut since) = (Vec::new(), Instant::now());
        loop {
            let blobs = self.read(|reader| reader.blobs_under_way()).await?;
            let (mut is_any_busy, mut stand) = (false, Vec::new());
            for topic in blobs.into_iter().flatten() {
                let status = still_known(self.status(topic).await)?;
                is_any_busy |= status.as_ref().is_none_or(is_busy);
                stand.push((topic, status.as_ref().map(progress)));
            }
            if stand != before {
                (before, since) = (stand, Instant::now());
            }
            if !is_any_busy || since.elapsed() >= BLOBS_STALL {
                return Ok(());
            }
            sleep(LOOK_AT_BLOBS_EVERY).await;
        }
    }
}

impl Watched {
    fn look(&mut self, status: TopicStatus) {
        self.caught_up |= status.connection == Connection::Live;
        self.last = status;
    }

    fn give_up(&mut self) {
        self.caught_up = true;
        (self.last.queued, self.last.sent) = (0, 0);
    }

    /// Read to the end, and nothing waits that could be sent.
    fn is_done(&self) -> bool {
        self.last.unreadable.is_some()
            || ((self.caught_up || self.last.connection == Connection::Live) && !can_send(&self.last))
    }
}

/// Whether something waits that could be sent.
const fn can_send(status: &TopicStatus) -> bool {
    status.queued + status.sent > 0 && status.blocked.is_none()
}

/// Whether a blob's topic is not read to its end, or chunks wait in it. One that stays when it is neither has no further
/// chunk at the server, or nothing to write with. One without a socket has its turn later.
fn is_busy(status: &TopicStatus) -> bool {
    let reads = !matches!(status.connection, Connection::Live | Connection::Parked);
    status.unreadable.is_none() && (reads || can_send(status))
}

/// What changes of a blob's topic while the blob goes on: an attempt to connect or to send is none yet.
fn progress(status: &TopicStatus) -> (bool, u64, usize) {
    (status.connection == Connection::Live, position(status), status.queued + status.sent)
}

/// Nothing for a topic that is gone by now: another device's inbox, once it has what was for it.
fn still_known<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Err(ClientError::Command(CommandError::UnknownTopic)) => Ok(None),
        answer => answer.map(Some),
    }
}

/// How far a topic's log was read.
fn position(status: &TopicStatus) -> u64 {
    status.cursor.map_or(0, |cursor| cursor.seq.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use delta_core::engine::Unreadable;

    #[test]
    fn a_blob_is_waited_for_while_its_topic_is_read_or_written() {
        let status = |connection, queued| TopicStatus {
            connection,
            cursor: None,
            queued,
            sent: 0,
            blocked: None,
            unreadable: None,
            clock_skew: None,
            read_path: None,
            awaiting_key: None,
            round_trip_ms: None,
        };
        for connection in [Connection::Offline, Connection::Connecting, Connection::Replaying] {
            assert!(is_busy(&status(connection, 0)), "{connection:?}");
        }
        for connection in [Connection::Live, Connection::Parked] {
            assert!(!is_busy(&status(connection, 0)), "{connection:?}");
            assert!(is_busy(&status(connection, 1)), "{connection:?}");
        }
        let unreadable = Some(Unreadable::Gone);
        assert!(!is_busy(&TopicStatus { unreadable, ..status(Connection::Offline, 1) }));
    }
}
