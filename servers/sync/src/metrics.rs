//! Counters and gauges, as Prometheus text. They count; they never name an address, topic, key or hash.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! metrics {
    ($($field:ident: $kind:literal $name:literal $label:literal $help:literal;)*) => {
        /// All of the server's counters.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(#[doc = $help] pub $field: Metric,)*
        }

        impl Metrics {
            /// The Prometheus text format.
            pub fn render(&self) -> String {
                let mut out = String::with_capacity(8192);
                let mut previous = "";
                $(
                    if previous != $name {
                        let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {}", $name, $help, $name, $kind);
                    }
                    previous = $name;
                    let _ = writeln!(out, "{}{} {}", $name, $label, self.$field.get());
                )*
                let _ = previous;
                out
            }

            /// Names with labels, and values.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((concat!($name, $label), self.$field.get()),)*]
            }
        }
    };
}

metrics! {
    packets: "counter" "delta_sync_packets_total" "" "Packets taken (answered 202).";
    drop_seal: "counter" "delta_sync_packets_dropped_total" "{reason=\"seal\"}" "Packets dropped after the 202, by reason.";
    drop_replay: "counter" "delta_sync_packets_dropped_total" "{reason=\"replay\"}" "Packets dropped after the 202, by reason.";
    drop_slot: "counter" "delta_sync_packets_dropped_total" "{reason=\"slot\"}" "Packets dropped after the 202, by reason.";
    drop_forward: "counter" "delta_sync_packets_dropped_total" "{reason=\"forward\"}" "Packets dropped after the 202, by reason.";
    drop_cover: "counter" "delta_sync_packets_dropped_total" "{reason=\"cover\"}" "Packets dropped after the 202, by reason.";
    drop_content: "counter" "delta_sync_packets_dropped_total" "{reason=\"content\"}" "Packets dropped after the 202, by reason.";
    drop_signature: "counter" "delta_sync_packets_dropped_total" "{reason=\"signature\"}" "Packets dropped after the 202, by reason.";
    drop_flags: "counter" "delta_sync_packets_dropped_total" "{reason=\"flags\"}" "Packets dropped after the 202, by reason.";
    drop_control: "counter" "delta_sync_packets_dropped_total" "{reason=\"control\"}" "Packets dropped after the 202, by reason.";
    drop_closed: "counter" "delta_sync_packets_dropped_total" "{reason=\"closed\"}" "Packets dropped after the 202, by reason.";
    drop_quota: "counter" "delta_sync_packets_dropped_total" "{reason=\"quota\"}" "Packets dropped after the 202, by reason.";
    drop_storage: "counter" "delta_sync_packets_dropped_total" "{reason=\"storage\"}" "Packets dropped after the 202, by reason.";
    refuse_length: "counter" "delta_sync_refused_total" "{reason=\"length\"}" "Requests refused, by reason.";
    refuse_load: "counter" "delta_sync_refused_total" "{reason=\"load\"}" "Requests refused, by reason.";
    refuse_rate: "counter" "delta_sync_refused_total" "{reason=\"rate\"}" "Requests refused, by reason.";
    refuse_version: "counter" "delta_sync_refused_total" "{reason=\"version\"}" "Requests refused, by reason.";
    refuse_malformed: "counter" "delta_sync_refused_total" "{reason=\"malformed\"}" "Requests refused, by reason.";
    refuse_publish: "counter" "delta_sync_refused_total" "{reason=\"publish\"}" "Requests refused, by reason.";
    refuse_closed: "counter" "delta_sync_refused_total" "{reason=\"closed\"}" "Requests refused, by reason.";
    refuse_proof: "counter" "delta_sync_refused_total" "{reason=\"proof\"}" "Requests refused, by reason.";
    refuse_slow: "counter" "delta_sync_refused_total" "{reason=\"slow\"}" "Requests refused, by reason.";
    signals: "counter" "delta_sync_signals_total" "" "Signals passed on.";
    controls: "counter" "delta_sync_controls_total" "" "Control messages applied.";
    searches: "counter" "delta_sync_searches_total" "" "Searches answered.";
    search_indexed: "counter" "delta_sync_search_indexed_total" "" "Operations of public channels taken into the index.";
    search_behind: "gauge" "delta_sync_search_behind" "" "Operations of public channels that are not in the index yet.";
    stored: "counter" "delta_sync_operations_stored_total" "" "Operations committed.";
    duplicates: "counter" "delta_sync_operations_duplicate_total" "" "Operations that were in their log already.";
    evicted: "counter" "delta_sync_evictions_total" "" "Times a topic's tail was moved.";
    commits: "counter" "delta_sync_commits_total" "" "Commits.";
    commit_failures: "counter" "delta_sync_commit_failures_total" "" "Commits that failed; their operations were refused.";
    commit_1: "counter" "delta_sync_commit_batches_total" "{deliveries=\"1\"}" "Commits by number of deliveries (up to).";
    commit_10: "counter" "delta_sync_commit_batches_total" "{deliveries=\"10\"}" "Commits by number of deliveries (up to).";
    commit_100: "counter" "delta_sync_commit_batches_total" "{deliveries=\"100\"}" "Commits by number of deliveries (up to).";
    commit_more: "counter" "delta_sync_commit_batches_total" "{deliveries=\"more\"}" "Commits by number of deliveries (up to).";
    log_restarts: "counter" "delta_sync_log_restarts_total" "" "Times writing waited for readers because the write-ahead log had grown large.";
    log_waits_in_vain: "counter" "delta_sync_log_waits_in_vain_total" "" "Times it waited, and somebody still read.";
    pushed: "counter" "delta_sync_operations_pushed_total" "" "Operations sent to subscribers, live.";
    replayed: "counter" "delta_sync_operations_replayed_total" "" "Operations sent to subscribers, from the disk.";
    resets: "counter" "delta_sync_resets_total" "" "Subscribers told to start over.";
    stalls: "counter" "delta_sync_stalls_total" "" "Times a subscriber took nothing for a second.";
    slow: "counter" "delta_sync_slow_closed_total" "" "Subscribers closed because they were too slow.";
    sockets: "gauge" "delta_sync_sockets" "" "Open WebSockets.";
    connections: "gauge" "delta_sync_connections" "" "Open connections, WebSockets included.";
    in_flight: "gauge" "delta_sync_in_flight_deliveries" "" "Deliveries being received, opened, or waiting for their commit.";
    packets_waiting: "gauge" "delta_sync_packets_waiting" "" "Packets that wait to be opened.";
    reads_waiting: "gauge" "delta_sync_reads_waiting" "" "Pages of replay and history that wait for a reading thread.";
    searches_waiting: "gauge" "delta_sync_searches_waiting" "" "Searches that wait or are being answered.";
    in_flight_bytes: "gauge" "delta_sync_in_flight_bytes" "" "Bytes on their way to the disk.";
    live_bytes: "gauge" "delta_sync_live_buffer_bytes" "" "Bytes in live buffers.";
    replay_tags: "gauge" "delta_sync_replay_tags" "" "Tags in the replay set.";
    database_bytes: "gauge" "delta_sync_database_bytes" "" "Size of the database and its log.";
    log_bytes: "gauge" "delta_sync_log_bytes" "" "Size of the write-ahead log alone.";
    disk_free_bytes: "gauge" "delta_sync_disk_free_bytes" "" "Room left on the database's disk.";
    disk_low: "gauge" "delta_sync_disk_low" "" "1 while deliveries are refused because the disk is low or failing.";
    uptime_seconds: "gauge" "delta_sync_uptime_seconds" "" "Time since the start.";
}

/// One number.
#[derive(Debug, Default)]
pub struct Metric(AtomicU64);

impl Metric {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Subtracts (gauges).
    pub fn sub(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Sets (gauges).
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metrics {
    /// Counts a commit of `deliveries`.
    pub fn committed(&self, deliveries: usize) {
        self.commits.inc();
        match deliveries {
            0..=1 => self.commit_1.inc(),
            2..=10 => self.commit_10.inc(),
            11..=100 => self.commit_100.inc(),
            _ => self.commit_more.inc(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_described_once_and_every_member_listed() {
        let metrics = Metrics::default();
        metrics.drop_replay.add(3);
        let text = metrics.render();
        assert_eq!(text.matches("# TYPE delta_sync_packets_dropped_total counter").count(), 1);
        assert!(text.contains("\ndelta_sync_packets_dropped_total{reason=\"replay\"} 3\n"));
    }
}
