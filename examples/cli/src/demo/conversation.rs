//! The text, line by line: one device says a line, the other answers it with the next.
//!
//! A part of the text goes back and forth alone, which is how latency is measured; the rest in many exchanges at
//! once, which is how throughput is. Half-way the network is broken and repaired.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use delta_core::identity::OperationId;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use indicatif::ProgressBar;

use super::devices::{Arrivals, Device};
use crate::platform::instant;

/// Exchanges at once in the busy part.
pub const BUSY: usize = 64;
/// Lines of an exchange.
const EXCHANGE: usize = 16;
/// Lines that go back and forth alone: a tenth of the text, at most this many.
const QUIET_LINES: usize = 200;
/// Without any progress for this long the demo has failed.
const STUCK: Duration = Duration::from_secs(90);
/// Pause between two looks at an outbox.
const LOOK: Duration = Duration::from_millis(20);

/// A line on its way.
struct Sent {
    /// Which exchange it belongs to, and who said it (0 or 1).
    exchange: usize,
    from: usize,
    at: Instant,
}

/// What was measured.
#[derive(Default)]
pub struct Measured {
    /// publish → the other device's event, of lines that went alone.
    pub quiet: Vec<Duration>,
    /// The same of lines in the busy part, outage not included.
    pub busy: Vec<Duration>,
    /// The same of lines that were on their way when the network broke.
    pub outage: Vec<Duration>,
    /// How long the busy part took, outage not included.
    pub busy_time: Duration,
    /// From the kill until everything that was on its way had arrived.
    pub outage_time: Duration,
    /// Lines said by each device.
    pub published: [u64; 2],
    /// How often a device was told again of a line the other said.
    pub repeated: u64,
}

/// The conversation's course.
pub struct Conversation<'a> {
    devices: [&'a mut Device; 2],
    arrivals: [Arrivals; 2],
    exchanges: Vec<VecDeque<String>>,
    sent: HashMap<OperationId, Sent>,
    /// The lines said by each device.
    said: [Vec<OperationId>; 2],
    publishing: FuturesUnordered<Publishing>,
    progress: &'a ProgressBar,
    measured: Measured,
}

type Publishing = std::pin::Pin<Box<dyn Future<Output = anyhow::Result<(OperationId, Sent)>> + Send>>;

impl<'a> Conversation<'a> {
    /// Between two connected devices.
    pub fn new(a: &'a mut Device, b: &'a mut Device, progress: &'a ProgressBar) -> Self {
        Self {
            devices: [a, b],
            arrivals: Default::default(),
            exchanges: Vec::new(),
            sent: HashMap::new(),
            said: Default::default(),
            publishing: FuturesUnordered::new(),
            progress,
            measured: Measured::default(),
        }
    }

    /// How many of the lines go alone.
    pub fn quiet_lines(all: usize) -> usize {
        (all / 10).min(QUIET_LINES)
    }

    /// One line at a time.
    pub async fn quiet(&mut self, lines: &[String]) -> anyhow::Result<()> {
        self.exchanges = vec![lines.iter().cloned().collect()];
        self.start(0);
        let took = self.run().await?;
        self.measured.quiet = took;
        Ok(())
    }

    /// Many exchanges at once.
    pub async fn busy(&mut self, lines: &[String]) -> anyhow::Result<()> {
        let begun = instant();
        self.begin(lines);
        let took = self.run().await?;
        self.measured.busy.extend(took);
        self.measured.busy_time += begun.elapsed();
        Ok(())
    }

    /// Many exchanges at once, and `breaking` among them.
    pub async fn broken(
        &mut self,
        lines: &[String],
        breaking: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let begun = instant();
        self.begin(lines);
        let (took, ()) = tokio::try_join!(self.run(), breaking)?;
        self.measured.outage.extend(took);
        self.measured.outage_time = begun.elapsed();
        Ok(())
    }

    /// Waits at most `patience` until both devices have read back everything they sent; gives what was measured.
    pub async fn end(mut self, patience: Duration) -> anyhow::Result<Measured> {
        let drained = async {
            for device in &self.devices {
                while !device.is_drained().await? {
                    tokio::time::sleep(LOOK).await;
                }
            }
            anyhow::Ok(())
        };
        let in_time = tokio::time::timeout(patience, drained).await;
        in_time.unwrap_or_else(|_| bail!("a device does not read back what it sent"))?;
        for (device, arrivals) in self.devices.iter_mut().zip(&mut self.arrivals) {
            while let Some(update) = device.updates.try_next() {
                arrivals.take(update, instant())?;
            }
        }
        let [of_a, of_b] = &self.said;
        self.measured.repeated =
            self.arrivals[0].repeats(of_b.iter()) + self.arrivals[1].repeats(of_a.iter());
        Ok(self.measured)
    }

    fn begin(&mut self, lines: &[String]) {
        let length = EXCHANGE.min(lines.len().div_ceil(BUSY)).max(1);
        self.exchanges = lines.chunks(length).map(|chunk| chunk.iter().cloned().collect()).collect();
        for exchange in 0..self.exchanges.len().min(BUSY) {
            self.start(exchange);
        }
    }

    /// The devices take turns at beginning.
    fn start(&mut self, exchange: usize) {
        self.say(exchange, exchange % 2, None);
    }

    /// Publishes the next line of an exchange; when it has none left, the next exchange that has not begun.
    fn say(&mut self, exchange: usize, from: usize, reply: Option<OperationId>) {
        let Some(text) = self.exchanges.get_mut(exchange).and_then(VecDeque::pop_front) else {
            if let Some(next) = exchange.checked_add(BUSY).filter(|next| *next < self.exchanges.len()) {
                self.start(next);
            }
            return;
        };
        let (client, topic) = (self.devices[from].client.clone(), self.devices[from].topic);
        self.measured.published[from] += 1;
        self.publishing.push(Box::pin(async move {
            let at = instant();
            let id = Device::say(client, topic, text, reply).await?;
            Ok((id, Sent { exchange, from, at }))
        }));
    }

    /// Until every line of every exchange has arrived; gives how long each took.
    async fn run(&mut self) -> anyhow::Result<Vec<Duration>> {
        let mut took = Vec::new();
        while !(self.publishing.is_empty() && self.sent.is_empty()) {
            let [a, b] = &mut self.devices;
            let next = async {
                tokio::select! {
                    Some(published) = self.publishing.next() => {
                        let (id, sent) = published?;
                        anyhow::Ok(Next::Published(id, sent))
                    }
                    update = a.updates.next() => Ok(Next::Told(0, update)),
                    update = b.updates.next() => Ok(Next::Told(1, update)),
                }
            };
            let next = tokio::time::timeout(STUCK, next).await;
            let Ok(next) = next else {
                bail!("nothing has arrived for {} s; {} lines are missing", STUCK.as_secs(), self.sent.len());
            };
            match next? {
                Next::Published(id, sent) => {
                    // It may have arrived before the caller was told that it is published.
                    self.said[sent.from].push(id);
                    let early = self.arrivals[1 - sent.from].when(&id);
                    self.sent.insert(id, sent);
                    if let Some(at) = early {
                        took.extend(self.arrived(id, at));
                    }
                }
                Next::Told(device, update) => {
                    let now = instant();
                    let update = update.context("the client was closed")?;
                    for id in self.arrivals[device].take(update, now)? {
                        if self.sent.get(&id).is_some_and(|sent| sent.from != device) {
                            took.extend(self.arrived(id, now));
                        }
                    }
                }
            }
        }
        ensure!(self.exchanges.iter().all(VecDeque::is_empty), "not every line was said");
        Ok(took)
    }

    /// A line has reached the other device, which answers.
    fn arrived(&mut self, id: OperationId, at: Instant) -> Option<Duration> {
        let Sent { exchange, from, at: begun } = self.sent.remove(&id)?;
        self.progress.inc(1);
        self.say(exchange, 1 - from, Some(id));
        Some(at.saturating_duration_since(begun))
    }
}

enum Next {
    Published(OperationId, Sent),
    Told(usize, Option<delta_client::Update>),
}
