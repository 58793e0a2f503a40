//! The checks: each has a name, the sentence of the protocol it holds the server to, and topics of its own.

mod binary;
mod control;
mod delivery;
mod history;
mod http;
mod json;
mod live;
mod packets;
mod pressure;
mod publish;
mod resets;
mod retention;
mod search;
mod v2;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::failure::Checked;
use crate::target::{Settings, Target};

/// A running check.
pub type Running = Pin<Box<dyn Future<Output = Checked> + Send>>;

/// One demand of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its name; a case of the adversarial catalogue has its number in front.
    pub name: &'static str,
    /// The section of `docs/wire.md`.
    pub section: &'static str,
    /// What the protocol demands.
    pub demands: &'static str,
    /// The servers it applies to.
    pub when: When,
    /// Holds a server to it.
    pub run: fn(Arc<Target>) -> Running,
}

/// The servers a check applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// All.
    Always,
    /// Those that take version 2.
    V2,
    /// Those that do not.
    NoV2,
    /// Those that take operations on the socket.
    DirectPublish,
    /// Those that do not.
    NoDirectPublish,
    /// Those that ask for proofs of read keys.
    ReadProof,
    /// Those that do not.
    NoReadProof,
    /// Those that keep all operations of a topic.
    Everlasting,
    /// Those that keep a given number of operations of a topic.
    Evicting,
}

impl When {
    /// Why the check does not apply to a server with these settings; `None` when it does.
    pub fn against(self, settings: Settings) -> Option<&'static str> {
        let (applies, why) = match self {
            Self::Always => (true, ""),
            Self::V2 => (settings.accept_v2, "the server does not accept version 2"),
            Self::NoV2 => (!settings.accept_v2, "the server accepts version 2"),
            Self::DirectPublish => (settings.accept_direct_publish, "direct publishing is off"),
            Self::NoDirectPublish => (!settings.accept_direct_publish, "direct publishing is on"),
            Self::ReadProof => (settings.read_proof, "the server does not ask for proofs"),
            Self::NoReadProof => (!settings.read_proof, "the server asks for proofs"),
            Self::Everlasting => (settings.ops_per_topic.is_none(), "the server evicts operations"),
            Self::Evicting => (settings.ops_per_topic.is_some(), "the server evicts nothing"),
        };
        if applies { None } else { Some(why) }
    }
}

/// The whole suite; the checks that wait longest come first.
pub fn all() -> Vec<Check> {
    [
        live::CHECKS,
        pressure::CHECKS,
        http::CHECKS,
        history::CHECKS,
        packets::CHECKS,
        delivery::CHECKS,
        binary::CHECKS,
        json::CHECKS,
        resets::CHECKS,
        publish::CHECKS,
        control::CHECKS,
        search::CHECKS,
        v2::CHECKS,
        retention::CHECKS,
    ]
    .concat()
}

/// A [`Check`] of the function of the same name.
macro_rules! check {
    ($name:ident, $section:literal, $when:ident, $demands:literal $(,)?) => {
        $crate::checks::Check {
            name: stringify!($name),
            section: $section,
            demands: $demands,
            when: $crate::checks::When::$when,
            run: |target| Box::pin(async move { $name(&target).await }),
        }
    };
}
use check;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_check_says_what_is_demanded() {
        let mut names: Vec<&str> = all().iter().map(|check| check.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for check in all() {
            assert!(check.demands.ends_with('.'), "{}", check.name);
            assert!(
                check.section.chars().all(|sign| sign.is_ascii_digit() || ".,– ".contains(sign)),
                "{}",
                check.name
            );
        }
    }

    #[test]
    fn every_check_applies_to_some_server_that_is_tested() {
        let servers = [
            Settings::default(),
            Settings { accept_v2: true, accept_direct_publish: true, read_proof: true, ops_per_topic: None },
            Settings { ops_per_topic: Some(20), ..Settings::default() },
        ];
        for check in all() {
            assert!(servers.iter().any(|server| check.when.against(*server).is_none()), "{}", check.name);
        }
    }
}
