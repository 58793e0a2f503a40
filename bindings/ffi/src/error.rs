//! What calls fail with: the variant says who is at fault, `code` never changes, `reason` is for people.

use delta_client::{ClientError, Fault};

/// A call failed; nothing of it was done, but for `suspend` and `wipe` (docs/errors.md). `code` is stable in all versions and
/// languages (docs/errors.md lists every one), `reason` says what happened and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, uniffi::Error)]
pub enum DeltaError {
    /// What was passed in cannot be used: correct the call or the configuration.
    #[error("{reason} ({code})")]
    Argument {
        /// Stable name.
        code: String,
        /// For people.
        reason: String,
    },
    /// The call does not fit the state things are in: closed, suspended, not opened, read-only, full.
    #[error("{reason} ({code})")]
    State {
        /// Stable name.
        code: String,
        /// For people.
        reason: String,
    },
    /// This device: its files, its disk, its operating system.
    #[error("{reason} ({code})")]
    Device {
        /// Stable name.
        code: String,
        /// For people.
        reason: String,
    },
    /// The keystore refused or failed.
    #[error("{reason} ({code})")]
    Keystore {
        /// Stable name.
        code: String,
        /// For people.
        reason: String,
    },
    /// Nothing could be reached: try again later.
    #[error("{reason} ({code})")]
    Network {
        /// Stable name.
        code: String,
        /// For people.
        reason: String,
    },
    /// A server's answer cannot be trusted or used.
    #[error("{reason} ({code})")]
    Server {
        /// Stable name.
        code: String,
        /// For people.
        reason: String,
    },
    /// A bug in Delta. What was reported as published is safe; open the object again.
    #[error("{reason} ({code})")]
    Bug {
        /// Stable name.
        code: String,
        /// For people.
        reason: String,
    },
}

impl DeltaError {
    /// Something passed in cannot be used.
    pub(crate) fn argument(code: &str, reason: impl ToString) -> Self {
        Self::Argument { code: code.to_owned(), reason: reason.to_string() }
    }

    /// The work of a call panicked.
    pub(crate) fn panicked() -> Self {
        ClientError::EnginePanicked.into()
    }
}

impl From<ClientError> for DeltaError {
    fn from(error: ClientError) -> Self {
        let (code, reason) = (error.code().to_owned(), error.to_string());
        match error.fault() {
            Fault::Caller => Self::Argument { code, reason },
            Fault::State => Self::State { code, reason },
            Fault::Device => Self::Device { code, reason },
            Fault::KeyStore => Self::Keystore { code, reason },
            Fault::Network => Self::Network { code, reason },
            Fault::Server => Self::Server { code, reason },
            Fault::Bug => Self::Bug { code, reason },
        }
    }
}

/// What a listener's or log sink's method may throw. It is logged; deliveries go on.
#[derive(Debug, thiserror::Error, uniffi::Error)]
pub enum ListenerError {
    /// It failed.
    #[error("{reason}")]
    Failed {
        /// For people.
        reason: String,
    },
}

/// Whatever else a listener throws.
impl From<uniffi::UnexpectedUniFFICallbackError> for ListenerError {
    fn from(error: uniffi::UnexpectedUniFFICallbackError) -> Self {
        Self::Failed { reason: error.reason }
    }
}
