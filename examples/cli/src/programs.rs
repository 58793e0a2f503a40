//! `delta relay` and `delta sync`: the servers, in this process, with the options of their own programs.

use delta_server_shell::program::{self, chain};

use crate::output::Usage;

/// Runs a relay, or signs its record.
pub fn relay(cli: delta_relay::Cli) -> anyhow::Result<()> {
    program::log();
    delta_relay::run(cli).map_err(|error| match error {
        delta_relay::RunError::Options(error) => Usage(chain(&error)).into(),
        other => other.into(),
    })
}

/// Runs a sync server, or signs its record.
pub fn sync(cli: delta_sync::Cli) -> anyhow::Result<()> {
    program::log();
    delta_sync::run(cli).map_err(|error| match error {
        delta_sync::RunError::Options(error) => Usage(chain(&error)).into(),
        other => other.into(),
    })
}
