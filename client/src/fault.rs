//! Who is at fault when a call fails.

use delta_core::engine::{Blocked, CommandError};
use delta_core::push::PushError;

use crate::error::ClientError;

/// Who is at fault, and so where to look first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was passed in: correct the call or the configuration.
    Caller,
    /// Nobody: the call does not fit the state things are in.
    State,
    /// This device: its files, its disk, its operating system.
    Device,
    /// The platform's keystore.
    KeyStore,
    /// The network: try again later.
    Network,
    /// A server's answer.
    Server,
    /// This library.
    Bug,
}

impl ClientError {
    /// Who is at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Command(error) => of_command(error),
            Self::Store(_)
            | Self::ClockSkew { .. }
            | Self::SeenDamaged
            | Self::Threads(_)
            | Self::Entropy(_)
            | Self::File { .. } => Fault::Device,
            Self::KeyStore(_) => Fault::KeyStore,
            Self::Ticket(_)
            | Self::SyncUrl(_)
            | Self::Plaintext { .. }
            | Self::Directory(_)
            | Self::Pool { .. }
            | Self::PathLength { .. }
            | Self::Tls(_)
            | Self::Proxy(_)
            | Self::Export(_)
            | Self::Snapshot(_)
            | Self::Push(PushError::Envelope(_) | PushError::Operation(_)) => Fault::Caller,
            Self::Push(PushError::NoKey | PushError::NeedsDatabase)
            | Self::Unreadable(_)
            | Self::Pairing(_)
            | Self::Suspended
            | Self::Closed => Fault::State,
            Self::ServerUnreachable { .. } => Fault::Network,
            Self::ServerRecord { .. } => Fault::Server,
            Self::EnginePanicked | Self::QueryPanicked => Fault::Bug,
        }
    }
}

const fn of_command(error: &CommandError) -> Fault {
    match error {
        CommandError::UnknownTopic
        | CommandError::UnknownBlob
        | CommandError::BlobNotHere
        | CommandError::ReadOnly
        | CommandError::TopicGone
        | CommandError::TooManyTopics
        | CommandError::OutboxFull
        | CommandError::UnknownOperation
        | CommandError::TopicClosed
        | CommandError::NotASpace
        | CommandError::RoomOfSpace
        | CommandError::Refused(_)
        | CommandError::MayNotWrite
        | CommandError::Cooldown { .. }
        | CommandError::UpdateRequired
        | CommandError::LastManager
        | CommandError::OwnTopic
        | CommandError::OwnTopicStays
        | CommandError::PairingOver
        | CommandError::Certified
        | CommandError::NotRotator
        | CommandError::StaleRotation
        | CommandError::StaleKeys
        | CommandError::NoInbox
        | CommandError::NotReachable
        | CommandError::UnknownThread
        | CommandError::ThreadState
        | CommandError::NotOwnOperation
        | CommandError::NotCancellable
        | CommandError::NoNetwork
        | CommandError::NoKey
        | CommandError::Log(_) => Fault::State,
        CommandError::NotSent(_) => Fault::Network,
        CommandError::Store(_) | CommandError::Entropy(_) => Fault::Device,
        _ => Fault::Caller,
    }
}

/// A short name of what keeps operations queued, the same in all versions and languages.
pub trait Code {
    /// The name.
    fn code(&self) -> &'static str;
}

impl Code for Blocked {
    fn code(&self) -> &'static str {
        match self {
            Self::NoNetwork => "no_network",
            Self::Route(_) => "no_route",
            Self::ReadOnly => "read_only",
            Self::Gone => "topic_gone",
            Self::Version2 => "version_2",
            Self::NotInVersion2 => "not_in_version_2",
            Self::MixedVersions { .. } => "mixed_versions",
            Self::StaleRecords { .. } => "stale_records",
            Self::Closed => "topic_closed",
            Self::Entropy => "entropy",
        }
    }
}
