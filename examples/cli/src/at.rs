//! A device that a command works with: opened, brought up to date, waited for, closed.

use std::time::Duration;

use anyhow::{Context, bail};
use delta_client::Client;
use delta_core::topic::TopicId;
use serde_json::Value;

use crate::device::{Closed, DeviceOptions, until_live};
use crate::output::Output;
use crate::text::plain;

/// A device, and how long it waits.
pub struct At<'a> {
    /// The device.
    pub client: &'a Client,
    /// Whether it has a network.
    pub online: bool,
    /// Where remarks go.
    pub output: &'a Output,
    /// Seconds.
    pub timeout: u64,
}

/// Opens the device, brings the conversation up to date if there is a network, and does something there.
pub async fn in_topic(
    device: &DeviceOptions,
    timeout: u64,
    output: &Output,
    work: impl AsyncFnOnce(&At<'_>, TopicId) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (client, topic) = device.open(output).await?;
    let at = At { client: &client, online: device.has_network(), output, timeout };
    let done = async {
        at.catch_up(topic).await?;
        work(&at, topic).await
    };
    close(&client, done.await).await
}

/// Closes the device, whatever came of it.
pub async fn close<T>(client: &Client, done: anyhow::Result<T>) -> anyhow::Result<T> {
    let closed = client.close().await;
    let done = done?;
    closed?;
    Ok(done)
}

/// How often an outbox is looked at.
const LOOK: Duration = Duration::from_millis(20);

impl At<'_> {
    /// Reads what others left in this device's inbox, if it has one.
    pub async fn catch_up_inbox(&self) -> anyhow::Result<()> {
        let inboxes = self.client.read(|reader| reader.inboxes()).await?;
        if inboxes.is_empty() {
            return Ok(());
        }
        self.catch_up(self.client.open_inbox().await?).await
    }

    /// Reads what the person's other devices have said, if there are any.
    pub async fn catch_up_own(&self) -> anyhow::Result<()> {
        let own = self.client.read(|reader| Ok(reader.own_topic()?.map(|ticket| ticket.log()))).await?;
        match own {
            Some(log) => self.catch_up(self.client.topic_of(log).await?).await,
            None => Ok(()),
        }
    }

    /// Waits until what was said in others' inboxes is on its way.
    pub async fn hand_over(&self) -> anyhow::Result<()> {
        if !self.online {
            return Ok(());
        }
        let handed_over = async {
            while self.client.unsent().await? > 0 {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        };
        let in_time = tokio::time::timeout(Duration::from_secs(self.timeout), handed_over).await;
        in_time.unwrap_or_else(|_| {
            anyhow::bail!("not sent within {} s; it stays in this device's outbox", self.timeout)
        })
    }

    /// Waits until what the server has is here.
    pub async fn catch_up(&self, topic: TopicId) -> anyhow::Result<()> {
        if !self.online {
            return Ok(());
        }
        let mut updates = self.client.subscribe(topic).await?;
        let live = until_live(self.client, topic, &mut updates, self.output);
        let in_time = tokio::time::timeout(Duration::from_secs(self.timeout), live).await;
        in_time.with_context(|| format!("not caught up with the server within {} s", self.timeout))?
    }

    /// Waits until the server has what was published.
    pub async fn deliver(&self, topic: TopicId) -> anyhow::Result<()> {
        if !self.online {
            return Ok(());
        }
        let delivered = async {
            let mut closed = Closed::default();
            loop {
                let status = self.client.status(topic).await?;
                if status.queued + status.sent == 0 {
                    return Ok(());
                }
                closed.look(&status, LOOK)?;
                tokio::time::sleep(LOOK).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(self.timeout), delivered).await;
        in_time.unwrap_or_else(|_| {
            bail!("not confirmed within {} s; it stays in this device's outbox", self.timeout)
        })
    }
}

/// One result, for people or for programs. Other people's names are in some.
pub fn print(output: &Output, line: &str, value: Value) -> anyhow::Result<()> {
    if output.is_json() { output.value(&value) } else { output.line(&plain(line)) }
}
