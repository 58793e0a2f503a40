//! What a run is: a seed, a size, and which kinds of trouble it may have.

use crate::faults::Fault;
use crate::rng::Rng;

/// Everything that decides a run. The same value gives the same run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Decides whatever is left open here.
    pub seed: u64,
    /// Things done to the world: commands and large faults together.
    pub steps: u64,
    /// Devices; `None`: drawn, 2–5.
    pub devices: Option<usize>,
    /// Topics; `None`: drawn, 1–3.
    pub topics: Option<usize>,
    /// Relays; `None`: drawn, 3–6.
    pub relays: Option<usize>,
    /// The kinds of trouble allowed; a run draws about half of them.
    pub allowed: Vec<Fault>,
    /// People who come to a space, do something there and leave, instead of topics that are there from the beginning.
    pub town: bool,
}

impl Config {
    /// A run of a seed with every kind of trouble allowed.
    pub fn new(seed: u64, steps: u64) -> Self {
        Self {
            seed,
            steps,
            devices: None,
            topics: None,
            relays: None,
            allowed: Fault::ALL.to_vec(),
            town: false,
        }
    }

    /// A run of a seed about people who share a space, with every kind of trouble that there may be.
    pub fn town(seed: u64, steps: u64) -> Self {
        Self { town: true, allowed: Fault::IN_TOWN.to_vec(), ..Self::new(seed, steps) }
    }

    const fn kinds(&self) -> &'static [Fault] {
        if self.town { Fault::IN_TOWN } else { Fault::ALL }
    }

    /// The command line that repeats this run exactly.
    pub fn command_line(&self) -> String {
        let mut line = format!("cargo xtask sim --seed {} --steps {}", self.seed, self.steps);
        if self.town {
            line += " --town";
        }
        let sizes = [("devices", self.devices), ("topics", self.topics), ("relays", self.relays)];
        for (name, value) in sizes {
            if let Some(value) = value {
                line += &format!(" --{name} {value}");
            }
        }
        if self.allowed.is_empty() {
            line += " --faults none";
        } else if self.allowed.len() < self.kinds().len() {
            let names: Vec<_> = self.allowed.iter().map(|fault| fault.label()).collect();
            line += &format!(" --faults {}", names.join(","));
        }
        line
    }

    /// The sizes of the run.
    pub(crate) fn sizes(&self, rng: &mut Rng) -> Sizes {
        // Drawn in any case, so that giving one on the command line does not change the others.
        let (devices, topics, relays) = (rng.between(2, 5), rng.between(1, 3), rng.between(3, 6));
        Sizes {
            devices: self.devices.unwrap_or(devices as usize),
            topics: self.topics.unwrap_or(topics as usize),
            relays: self.relays.unwrap_or(relays as usize),
        }
    }
}

/// How many of each there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub devices: usize,
    pub topics: usize,
    pub relays: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_what_was_set() {
        let mut config = Config::new(7, 100);
        assert_eq!(config.command_line(), "cargo xtask sim --seed 7 --steps 100");
        assert_eq!(Config::town(7, 100).command_line(), "cargo xtask sim --seed 7 --steps 100 --town");
        config.devices = Some(2);
        config.allowed = vec![Fault::Loss, Fault::ServerWipe];
        assert_eq!(
            config.command_line(),
            "cargo xtask sim --seed 7 --steps 100 --devices 2 --faults loss,server-wipe"
        );
    }
}
