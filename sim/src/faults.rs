//! What can go wrong in a run, how often, and how often it did.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::rng::Rng;

/// Makes [`Fault`] with one name per variant.
macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident => $label:literal,)*) => {
        /// A kind of trouble.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// Every kind, in the order of the summary.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name on the command line.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

faults! {
    /// A POST or its answer is lost.
    Loss => "loss",
    /// A POST or a frame arrives seconds late; POSTs overtake each other.
    Delay => "delay",
    /// A POST arrives twice.
    Duplicate => "duplicate",
    /// A WebSocket is cut; each end notices in its own time.
    Cut => "cut",
    /// Two nodes cannot reach each other for a while.
    Partition => "partition",
    /// A device is killed between two transactions and opens its database again.
    DeviceCrash => "device-crash",
    /// A device loses power: what its disk was not told to keep is gone.
    PowerLoss => "power-loss",
    /// A relay is killed; its keys and replay set survive.
    RelayCrash => "relay-crash",
    /// The sync server is killed; what it committed survives.
    ServerCrash => "server-crash",
    /// The sync server comes back empty, with new generations.
    ServerWipe => "server-wipe",
    /// The sync server comes back with an old copy of its log, under the same generations.
    ServerRollback => "server-rollback",
    /// The sync server drops its oldest operations, which every device has read.
    Eviction => "eviction",
    /// The sync server withholds, repeats, swaps or invents frames, closes or hangs.
    BadServer => "bad-server",
    /// A relay swallows packets, refuses them, or leaves the sender waiting.
    BadRelay => "bad-relay",
    /// A device's random source fails.
    Entropy => "entropy",
    /// A device has room for a few waiting operations only, and reads what did not fit again.
    Overflow => "overflow",
    /// A device's disk is full for a while: commits fail and are rolled back.
    DiskFull => "disk-full",
    /// A device's clock is set ahead or back.
    Clock => "clock",
    /// A device is suspended: nothing runs, then everything at once.
    Sleep => "sleep",
    /// The sync server asks to be left alone for a while, before or after it accepts a subscriber.
    Busy => "busy",
    /// The sync server hides an operation from the device that sent it, which finds out by a look.
    Withhold => "withhold",
    /// Devices send cover and ask relays to hold their packets.
    Private => "private",
}

/// A name that is no fault's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no fault is called `{name}`; there are: {}", Fault::names())]
pub struct UnknownFault {
    name: String,
}

impl Fault {
    /// The kinds that leave the server's log whole and its words true: what a server lost or put back, people who came
    /// later cannot be given by who has left.
    pub const IN_TOWN: &[Self] = &[
        Self::Loss,
        Self::Delay,
        Self::Duplicate,
        Self::Cut,
        Self::Partition,
        Self::DeviceCrash,
        Self::PowerLoss,
        Self::RelayCrash,
        Self::ServerCrash,
        Self::BadServer,
        Self::BadRelay,
        Self::Entropy,
        Self::DiskFull,
        Self::Clock,
        Self::Sleep,
        Self::Busy,
        Self::Withhold,
    ];

    fn names() -> String {
        Self::ALL.iter().map(|fault| fault.label()).collect::<Vec<_>>().join(", ")
    }
}

impl FromStr for Fault {
    type Err = UnknownFault;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|fault| fault.label() == text)
            .ok_or_else(|| UnknownFault { name: text.to_owned() })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// How often each kind strikes in this run, and how often it did.
///
/// A run has about half of the kinds, each with its own strength ("swarm testing": some bugs show only while other
/// trouble is absent).
#[derive(Clone, Debug)]
pub struct Faults {
    strength: BTreeMap<Fault, u64>,
    struck: BTreeMap<Fault, u64>,
    healed: bool,
}

impl Faults {
    /// Draws the strengths, among `allowed` kinds only.
    pub fn draw(rng: &mut Rng, allowed: &[Fault]) -> Self {
        let strength = Fault::ALL
            .iter()
            .filter_map(|fault| {
                let (on, strength) = (rng.chance(550), rng.skewed(10, 1000));
                (on && allowed.contains(fault)).then_some((*fault, strength))
            })
            .collect();
        Self { strength, struck: BTreeMap::new(), healed: false }
    }

    /// Whether this kind strikes now, in `per_mille` of a thousand cases at full strength. Counts it: only for what
    /// then happens in any case.
    pub fn strikes(&mut self, fault: Fault, per_mille: u64, rng: &mut Rng) -> bool {
        let strikes = self.may_strike(fault, per_mille, rng);
        if strikes {
            self.count(fault, 1);
        }
        strikes
    }

    /// The same for what may come to nothing: whoever sees the effect counts it.
    pub fn may_strike(&self, fault: Fault, per_mille: u64, rng: &mut Rng) -> bool {
        let strength = self.strength(fault);
        strength > 0 && rng.below(1_000_000) < strength * per_mille
    }

    /// How strong a kind is; 0 when it does not strike in this run.
    pub fn strength(&self, fault: Fault) -> u64 {
        if self.healed { 0 } else { self.strength.get(&fault).copied().unwrap_or(0) }
    }

    /// Counts effects that were seen elsewhere.
    pub fn count(&mut self, fault: Fault, times: u64) {
        if times > 0 {
            *self.struck.entry(fault).or_default() += times;
        }
    }

    /// Whether this kind struck at all.
    pub fn struck(&self, fault: Fault) -> bool {
        self.struck.contains_key(&fault)
    }

    /// From now on nothing goes wrong.
    pub const fn heal(&mut self) {
        self.healed = true;
    }

    /// From now on things go wrong again.
    pub const fn resume(&mut self) {
        self.healed = false;
    }
}

/// "loss 12, cut 3": what struck, how often.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.struck.is_empty() {
            return f.write_str("none");
        }
        for (place, (fault, count)) in self.struck.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{fault} {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back() {
        for fault in Fault::ALL {
            assert_eq!(fault.label().parse(), Ok(*fault));
        }
        assert!("locusts".parse::<Fault>().is_err());
    }

    #[test]
    fn a_kind_that_is_not_allowed_never_strikes_and_nothing_does_after_healing() {
        let mut rng = Rng::new(1, "faults");
        let mut faults = Faults::draw(&mut rng, &[]);
        assert!((0..1000).all(|_| !faults.strikes(Fault::Loss, 1000, &mut rng)));
        faults.strength.insert(Fault::Loss, 1000);
        assert!(faults.strikes(Fault::Loss, 1000, &mut rng));
        assert_eq!(faults.to_string(), "loss 1");
        faults.heal();
        assert!(!faults.strikes(Fault::Loss, 1000, &mut rng));
    }
}
