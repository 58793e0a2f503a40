//! What the demo found out: measured, compared, searched.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use delta_client::ReadPath;
use delta_core::onion::PacketClass;
use serde_json::{Value, json};

use super::cluster::{Cluster, Node};
use super::conversation::Measured;
use super::devices::{Device, Holding};
use super::members::Members;
use super::search::{Found, Needles};
use crate::status::reading;

/// Everything the demo reports.
pub struct Report {
    lines: u64,
    published: [u64; 2],
    received: [u64; 2],
    lost: u64,
    doubled: u64,
    consistent: bool,
    measured: Measured,
    seconds: f64,
    wire_bytes: u64,
    socket_bytes: u64,
    hops: Vec<Hop>,
    /// Who sees that the devices read, and what carries it is called.
    reading: [(Option<ReadPath>, String); 2],
    memory: Vec<(String, Option<u64>)>,
    hostile: Option<HostileRelay>,
    /// Who joined and was removed.
    pub members: Members,
    /// What the server's data folder shows.
    server_disk: Found,
    /// What the devices' own databases show: the search must be able to find something.
    device_disks: Found,
}

/// What one node got to see.
struct Hop {
    name: String,
    bytes: u64,
    packets: Vec<(u64, u64)>,
    foreign_bodies: u64,
    found: Found,
}

/// What a hostile relay did, and what the devices did about it.
struct HostileRelay {
    name: String,
    packets: u64,
    dropped: u64,
    tampered: u64,
    replayed: u64,
    /// The relays each device leaves out by now.
    left_out: [Vec<String>; 2],
}

impl HostileRelay {
    async fn of(cluster: &Cluster, a: &Device, b: &Device) -> anyhow::Result<Option<Self>> {
        let hostile = cluster.nodes().iter().find_map(|node| Some((node, node.tap.hostile()?)));
        let Some((node, hostile)) = hostile else { return Ok(None) };
        let left_out = [a.client.avoided_relays().await?, b.client.avoided_relays().await?];
        let [of_a, of_b] = left_out;
        Ok(Some(Self {
            name: node.name.clone(),
            packets: hostile.packets(),
            dropped: hostile.dropped.load(Ordering::Relaxed),
            tampered: hostile.tampered.load(Ordering::Relaxed),
            replayed: hostile.replayed.load(Ordering::Relaxed),
            left_out: [cluster.names(&of_a)?, cluster.names(&of_b)?],
        }))
    }

    /// Whether every device leaves it out.
    fn is_excluded(&self) -> bool {
        self.left_out.iter().all(|names| names.contains(&self.name))
    }

    fn did(&self) -> String {
        let Self { packets, dropped, tampered, replayed, .. } = self;
        format!("{packets} packets: {dropped} dropped, {tampered} changed, {replayed} sent on twice")
    }

    fn outcome(&self) -> String {
        if self.is_excluded() {
            return format!("both devices leave {} out", self.name);
        }
        let [a, b] = self.left_out.each_ref().map(|names| match names.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        });
        format!("worked around by sending again over other routes (left out: A {a}; B {b})")
    }

    fn json(&self) -> Value {
        let Self { name, packets, dropped, tampered, replayed, left_out } = self;
        json!({
            "name": name, "packets": packets, "dropped": dropped, "tampered": tampered, "replayed": replayed,
            "left_out_by_device": left_out, "excluded": self.is_excluded(),
        })
    }
}

impl Report {
    /// Compares the devices and asks the server, while everything still runs.
    pub async fn gather(
        lines: &[String],
        a: &Device,
        b: &Device,
        measured: Measured,
        cluster: &Cluster,
        begun: Instant,
    ) -> anyhow::Result<Self> {
        let seconds = begun.elapsed().as_secs_f64();
        let holdings = [a.holding().await?, b.holding().await?];
        let head = server_head(cluster, a).await?;
        let published = measured.published;
        let received = [from_other(&holdings[0], b), from_other(&holdings[1], a)];
        let lost = holdings.iter().map(|holding| missing(holding, lines)).max().unwrap_or(0);
        let at_server = head.saturating_sub(lines.len() as u64);
        let doubled = at_server + holdings.iter().map(doubles).sum::<u64>();
        let hops: Vec<Hop> = cluster.nodes().iter().map(Hop::of).collect();
        let reading = [reads(a, cluster).await?, reads(b, cluster).await?];
        let mut memory = vec![("demo with both devices".to_owned(), resident(std::process::id()))];
        memory.extend(cluster.nodes().iter().map(|node| (node.name.clone(), node.pid().and_then(resident))));
        Ok(Self {
            lines: lines.len() as u64,
            published,
            received,
            lost,
            doubled,
            consistent: holdings[0] == holdings[1],
            measured,
            seconds,
            wire_bytes: hops.iter().map(|hop| hop.bytes).sum(),
            socket_bytes: hops.first().map_or(0, |server| server.bytes.saturating_sub(server.packet_bytes())),
            hops,
            reading,
            memory,
            hostile: HostileRelay::of(cluster, a, b).await?,
            members: Members::default(),
            server_disk: Found::default(),
            device_disks: Found::default(),
        })
    }

    /// What the nodes got to see since must be as clean. (The figures are those of the conversation.)
    pub fn look_again(&mut self, cluster: &Cluster) {
        for (hop, node) in self.hops.iter_mut().zip(cluster.nodes()) {
            let Hop { found, foreign_bodies, .. } = Hop::of(node);
            (hop.found, hop.foreign_bodies) = (found, foreign_bodies);
        }
    }

    /// Searches what is on disk, once nothing writes to it any more.
    pub fn with_disks(
        mut self,
        cluster: &Cluster,
        needles: &Needles,
        databases: &[PathBuf],
    ) -> anyhow::Result<Self> {
        self.server_disk = needles.search(&cluster.server().data)?;
        for path in databases {
            self.device_disks.add(&needles.search(path)?);
        }
        Ok(self)
    }

    /// What is not as it must be.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |good: bool, what: &str| {
            if !good {
                wrong.push(what.to_owned());
            }
        };
        check(self.lost == 0, "lines are lost");
        check(self.doubled == 0, "lines are doubled");
        check(self.measured.repeated == 0, "a device was told twice of a line");
        check(self.consistent, "the devices' logs or rows differ");
        check(self.published.iter().sum::<u64>() == self.lines, "not every line was published");
        check(self.received == [self.published[1], self.published[0]], "not every line was received");
        check(self.reads_hidden(), "a device reads directly, although relays offer tunnels");
        for hop in &self.hops {
            check(hop.found.is_clean(), &format!("{} saw an author, a kind or a text", hop.name));
            check(hop.foreign_bodies == 0, &format!("{} saw a packet of no constant size", hop.name));
        }
        for relay in self.hops.iter().skip(1) {
            check(relay.found.topics == 0, &format!("{} saw the topic", relay.name));
        }
        check(self.server_disk.is_clean(), "the server's disk shows an author, a kind or a text");
        if let Some(HostileRelay { dropped, tampered, replayed, .. }) = self.hostile {
            let busy = dropped > 0 && tampered > 0 && replayed > 0;
            check(busy, "the hostile relay got too few packets to show anything");
        }
        let found_at_all =
            self.device_disks.authors > 0 && self.device_disks.texts > 0 && self.device_disks.kinds > 0;
        check(found_at_all, "the search does not even find what the devices store");
        wrong.extend(self.members.wrong().into_iter().map(str::to_owned));
        wrong
    }

    /// One object; `published`, `received`, `lost`, `doubled`, `p50_ms`, `p99_ms`, `ops_per_s` and `consistent` are
    /// what scripts rely on.
    pub fn json(&self) -> Value {
        let Self { measured, .. } = self;
        let hops: Vec<Value> = self.hops.iter().map(Hop::json).collect();
        let memory: HashMap<&str, Option<u64>> =
            self.memory.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
        json!({
            "published": self.published.iter().sum::<u64>(),
            "received": self.received.iter().sum::<u64>(),
            "lost": self.lost,
            "doubled": self.doubled,
            "repeated": measured.repeated,
            "p50_ms": percentile(&measured.quiet, 50),
            "p99_ms": percentile(&measured.quiet, 99),
            "ops_per_s": self.ops_per_s(),
            "consistent": self.consistent,
            "ok": self.wrong().is_empty(),
            "published_by_device": self.published,
            "received_by_device": self.received,
            "busy_p50_ms": percentile(&measured.busy, 50),
            "busy_p99_ms": percentile(&measured.busy, 99),
            "outage_s": measured.outage_time.as_secs_f64(),
            "outage_p50_ms": percentile(&measured.outage, 50),
            "outage_max_ms": percentile(&measured.outage, 100),
            "wire_bytes_per_op": self.wire_bytes as f64 / self.lines as f64,
            "socket_bytes_per_op": self.socket_bytes as f64 / self.lines as f64,
            "rss_bytes": memory,
            "hidden_reading": self.reads_hidden(),
            "reading": self.reading.iter().map(|(path, _)| path.as_ref().map(reading)).collect::<Vec<_>>(),
            "hops": hops,
            "hostile": self.hostile.as_ref().map(HostileRelay::json),
            "members": self.members.json(),
            "server_disk_clean": self.server_disk.is_clean(),
            "seconds": self.seconds,
        })
    }

    /// Whether the server sees neither device's address.
    fn reads_hidden(&self) -> bool {
        self.reading.iter().all(|(path, _)| matches!(path, Some(ReadPath::Tunnel { .. })))
    }

    /// Lines of the busy part, outage not included.
    fn ops_per_s(&self) -> f64 {
        self.measured.busy.len() as f64 / self.measured.busy_time.as_secs_f64().max(f64::EPSILON)
    }

    /// For people.
    pub fn table(&self) -> String {
        let Self { measured, .. } = self;
        let mut out = String::new();
        let mut row = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name:<34} {value}");
        };
        row("", format!("{:>10} {:>10}", "device A", "device B"));
        row("published", format!("{:>10} {:>10}", self.published[0], self.published[1]));
        row("received from the other", format!("{:>10} {:>10}", self.received[0], self.received[1]));
        row("lost", format!("{:>10}", self.lost));
        row("doubled", format!("{:>10}", self.doubled));
        row("reported twice", format!("{:>10}", measured.repeated));
        row(
            "logs and rows of both devices",
            format!("{:>10}", if self.consistent { "equal" } else { "DIFFERENT" }),
        );
        let both = |times: &[Duration]| {
            format!("{:>7.1} ms {:>7.1} ms", percentile(times, 50), percentile(times, 99))
        };
        row("publish → received, p50 and p99", both(&measured.quiet));
        row("  with 64 exchanges at once", both(&measured.busy));
        row("  during the outage, longest", format!("{:>7.1} ms", percentile(&measured.outage, 100)));
        row("outage, kill to all arrived", format!("{:>7.1} s", measured.outage_time.as_secs_f64()));
        row("operations per second", format!("{:>10.0}", self.ops_per_s()));
        let per_op = |bytes: u64| format!("{:>10.0}", bytes as f64 / self.lines as f64);
        row("bytes per operation, all links", per_op(self.wire_bytes));
        row("  of it to both devices", per_op(self.socket_bytes));
        for (name, bytes) in &self.memory {
            let memory = bytes.map_or("unknown".to_owned(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6));
            row(&format!("memory, {name}"), format!("{memory:>10}"));
        }
        for hop in &self.hops {
            row(&format!("{} saw", hop.name), hop.saw());
        }
        if let Some(hostile) = &self.hostile {
            row(&format!("{} was hostile", hostile.name), hostile.did());
            row("  so", hostile.outcome());
        }
        for (device, (path, carrier)) in ["A", "B"].into_iter().zip(&self.reading) {
            let how = match path {
                Some(ReadPath::Tunnel { .. }) => {
                    format!("through {carrier}, which sees no topic; the server sees {carrier}")
                }
                Some(ReadPath::Direct(why)) => format!("directly: {why}"),
                None => "not at all".to_owned(),
            };
            row(&format!("device {device} reads"), how);
        }
        for (name, value) in self.members.table() {
            row(name, value);
        }
        row("the server's disk shows", describe(&self.server_disk, "topics, no sender"));
        out.trim_end().to_owned()
    }
}

impl Hop {
    fn of(node: &Node) -> Self {
        let seen = node.tap.seen();
        let bodies = seen.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        let is_packet =
            |length: u64| usize::try_from(length).is_ok_and(|length| PacketClass::from_len(length).is_some());
        let (packets, foreign): (Vec<_>, Vec<_>) = bodies
            .iter()
            .map(|(length, count)| (*length, *count))
            .partition(|(length, _)| is_packet(*length));
        Self {
            name: node.name.clone(),
            bytes: seen.bytes.load(Ordering::Relaxed),
            packets,
            foreign_bodies: foreign.iter().map(|(_, count)| count).sum(),
            found: *seen.found.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn packet_bytes(&self) -> u64 {
        self.packets.iter().map(|(length, count)| length * count).sum()
    }

    fn saw(&self) -> String {
        let sizes: Vec<String> =
            self.packets.iter().map(|(length, count)| format!("{count} × {length}")).collect();
        let packets =
            if sizes.is_empty() { "nothing".to_owned() } else { format!("{} bytes", sizes.join(", ")) };
        let topics = if self.found.topics > 0 { "the topic, no sender" } else { "nothing else" };
        format!("{packets}; {}", describe(&self.found, topics))
    }

    fn json(&self) -> Value {
        let packets: HashMap<String, u64> =
            self.packets.iter().map(|(length, count)| (length.to_string(), *count)).collect();
        let Found { authors, kinds, texts, topics } = self.found;
        json!({
            "name": self.name, "bytes": self.bytes, "packets": packets,
            "authors": authors, "kinds": kinds, "texts": texts, "topics": topics,
        })
    }
}

/// How a device reads, and the name of the relay that carries it.
async fn reads(device: &Device, cluster: &Cluster) -> anyhow::Result<(Option<ReadPath>, String)> {
    let path = device.client.status(device.topic).await?.read_path;
    let relay = match path {
        Some(ReadPath::Tunnel { relay, .. }) => Some(relay),
        _ => None,
    };
    let carrier = cluster.nodes().iter().find(|node| relay.is_some_and(|relay| node.is(&relay)));
    Ok((path, carrier.map_or_else(String::new, |node| node.name.clone())))
}

fn describe(found: &Found, clean: &str) -> String {
    if found.is_clean() {
        return clean.to_owned();
    }
    format!("{} AUTHORS, {} KINDS, {} TEXTS", found.authors, found.kinds, found.texts)
}

/// Operations in the server's log of the topic.
async fn server_head(cluster: &Cluster, device: &Device) -> anyhow::Result<u64> {
    let head = cluster.server().get(&format!("/topic/{}/head", device.topic)).await?;
    let head: Value = serde_json::from_str(&head).context("the server's head")?;
    head.get("head").and_then(Value::as_u64).context("the server's head")
}

fn from_other(holding: &Holding, other: &Device) -> u64 {
    let author = other.client.author();
    holding.messages.iter().filter(|message| message.author == author).count() as u64
}

/// Lines that a device does not show.
fn missing(holding: &Holding, lines: &[String]) -> u64 {
    let shown: HashSet<&str> =
        holding.messages.iter().filter_map(|message| message.text.as_deref()).collect();
    lines.iter().filter(|line| !shown.contains(line.as_str())).count() as u64
}

/// Texts that a device shows more than once.
fn doubles(holding: &Holding) -> u64 {
    let shown: HashSet<Option<&str>> =
        holding.messages.iter().map(|message| message.text.as_deref()).collect();
    (holding.messages.len() - shown.len()) as u64
}

/// Milliseconds that `percent` of the times do not exceed.
fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// Resident memory of a process, where the system tells.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), 100.0);
        assert_eq!(percentile(&times, 99), 198.0);
        assert_eq!(percentile(&times, 100), 200.0);
        assert_eq!(percentile(&times[..1], 50), 200.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }
}
