//! `delta relay` and `delta sync`: the servers, in this process, with the options of their own programs.

use crate::output::Usage;

/// Runs a relay, or signs its record.
pub fn relay(cli: delta_relay::Cli) -> anyhow::Result<()> {
    log_to_stderr();
    delta_relay::run(cli).map_err(|error| match error {
        delta_relay::RunError::Options(error) => Usage(delta_relay::directory::chain(&error)).into(),
        other => other.into(),
    })
}

/// As the servers' own programs log: `RUST_LOG` decides what, information and worse by default.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// Runs a sync server, or signs its record.
pub fn sync(cli: delta_sync::Cli) -> anyhow::Result<()> {
    log_to_stderr();
    delta_sync::run(cli).map_err(|error| match error {
        delta_sync::RunError::Options(error) => Usage(error.to_string()).into(),
        other => other.into(),
    })
}
