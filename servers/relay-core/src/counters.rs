//! What a relay tells about its traffic: how often something happened, never to whom.

use std::sync::atomic::{AtomicU64, Ordering};

/// Makes [`Event`] with one label per variant.
macro_rules! events {
    ($($(#[$doc:meta])* $name:ident => $label:literal,)*) => {
        /// Something that happened to a packet, as the metrics name it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Event {
            $($(#[$doc])* $name,)*
        }

        impl Event {
            /// Every event, in the order of the metrics page.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The label of the metric.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

events! {
    /// A body of a class size was answered with 202.
    Accepted => "accepted",
    /// A body of version 2 is opened while its sender waits.
    AcceptedV2 => "accepted_v2",
    /// No packet of ours: version, class, key id, ephemeral key or seal do not fit.
    NotForUs => "not_for_us",
    /// The replay tag is known.
    Replayed => "replayed",
    /// The replay set is full or could not be written.
    ReplayUnavailable => "replay_unavailable",
    /// The seal is good, the slot is not.
    BadSlot => "bad_slot",
    /// Cover traffic that ends here.
    Cover => "cover",
    /// A last layer: only a sync server reads those.
    DeliverAtRelay => "deliver_at_relay",
    /// The next node is not in the directory.
    UnknownNext => "unknown_next",
    /// The next node is this relay.
    OwnId => "own_id",
    /// The queue of the next node is full.
    QueueFull => "queue_full",
    /// The next node answered 2xx.
    Delivered => "delivered",
    /// The next node answered 3xx or 4xx.
    Refused => "refused",
    /// No address of the next node may be connected to.
    AddressRefused => "address_refused",
    /// A try failed and another one will follow.
    Retried => "retried",
    /// The last try failed.
    Exhausted => "exhausted",
    /// The relay stopped before the packet was forwarded.
    Stopped => "stopped",
    /// A request had a wrong length (400, 411 or 413).
    BadLength => "bad_length",
    /// A tunnel was opened.
    Tunnel => "tunnel",
    /// A request was turned away because of load (429 or 503).
    Busy => "busy",
}

/// One counter per [`Event`].
#[derive(Debug)]
pub struct Counters([AtomicU64; Event::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    /// Counts one event.
    pub fn count(&self, event: Event) {
        self.add(event, 1);
    }

    /// Counts `n` events of one kind.
    pub fn add(&self, event: Event, n: u64) {
        self.0[event as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// How often `event` happened.
    pub fn get(&self, event: Event) -> u64 {
        self.0[event as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_its_own_counter_and_label() {
        let counters = Counters::default();
        for (n, event) in Event::ALL.iter().enumerate() {
            counters.add(*event, n as u64);
        }
        for (n, event) in Event::ALL.iter().enumerate() {
            assert_eq!(counters.get(*event), n as u64);
        }
        let labels: std::collections::HashSet<_> = Event::ALL.iter().map(|event| event.label()).collect();
        assert_eq!(labels.len(), Event::ALL.len());
    }
}
