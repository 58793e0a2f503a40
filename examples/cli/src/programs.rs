//! `delta relay` and `delta sync`: the servers, in this process, with the options of their own programs.

use std::io::Read;

use delta_server_shell::program::chain;

use crate::output::Usage;

/// Set by `delta demo` for the servers it starts: they end when their standard input does, that is when the demo is
/// gone, also when it was killed and could not end them.
pub const END_WITH_INPUT: &str = "DELTA_DEMO_END_WITH_INPUT";

/// Runs a relay, or signs its record.
pub fn relay(cli: delta_relay::Cli) -> anyhow::Result<()> {
    end_with_input();
    delta_relay::run(cli).map_err(|error| match error {
        delta_relay::RunError::Options(error) => Usage(chain(&error)).into(),
        other => other.into(),
    })
}

/// Runs a sync server, or signs its record.
pub fn sync(cli: delta_sync::Cli) -> anyhow::Result<()> {
    end_with_input();
    delta_sync::run(cli).map_err(|error| match error {
        delta_sync::RunError::Options(error) => Usage(chain(&error)).into(),
        other => other.into(),
    })
}

/// Ends this process with its input, if the demo asks for it. At once, as a kill would: the demo's data has nobody left
/// to read it.
fn end_with_input() {
    if std::env::var_os(END_WITH_INPUT).is_none() {
        return;
    }
    std::thread::spawn(|| {
        let (mut input, mut buffer) = (std::io::stdin().lock(), [0; 64]);
        while input.read(&mut buffer).is_ok_and(|len| len > 0) {}
        std::process::exit(0);
    });
}
