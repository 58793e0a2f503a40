//! Command line, environment and configuration file, in this order of precedence.

use std::path::PathBuf;

use delta_core::identity::NodeId;
use delta_server_shell::{NodeOptions, NodeSettings, OptionsError, RecordOptions};

/// Milliseconds packets are collected before they go out in random order.
const DEFAULT_BATCH_MS: u64 = 50;
/// Longest window, milliseconds: more helps nobody and holds memory.
pub const MAX_BATCH_MS: u64 = 10_000;
/// Bytes of packets in the relay at once.
const DEFAULT_MAX_BYTES: usize = 256 * 1024 * 1024;

/// The command line of `delta-relay`, and of `delta relay`.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do instead of relaying.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to relay.
    #[command(flatten)]
    pub options: Options,
}

/// Everything but relaying.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Sign and print this relay's directory record; makes the data folder when it is missing.
    Record(RecordOptions),
}

/// How to relay. Every option can also stand in the environment (`DELTA_LISTEN=…`) or in the configuration file
/// (`listen = …`).
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Where it lives and what it says of itself.
    #[command(flatten)]
    pub node: NodeOptions,
    /// Signed list of the nodes packets may be forwarded to; read again when it changes.
    #[arg(long, env = "DELTA_DIRECTORY", value_name = "FILE")]
    pub directory: Option<PathBuf>,
    /// The nodes' records (keys and URLs), signed by each; read again when it changes.
    #[arg(long, env = "DELTA_RECORDS", value_name = "FILE")]
    pub records: Option<PathBuf>,
    /// Keys trusted to sign the list (64 hex digits each).
    #[arg(long, env = "DELTA_TRUST", value_name = "KEY", value_delimiter = ',')]
    pub trust: Vec<NodeId>,
    /// How many of the trusted keys must have signed [default: all of them].
    #[arg(long, env = "DELTA_THRESHOLD", value_name = "N")]
    pub threshold: Option<usize>,
    /// Collect packets this long and send them on in random order; 0 sends each at once [default: 50].
    #[arg(long, env = "DELTA_BATCH_MS", value_name = "MS")]
    pub batch_ms: Option<u64>,
    /// Bytes of packets held at once; above it senders get 503 [default: 268435456].
    #[arg(long, env = "DELTA_MAX_BYTES", value_name = "BYTES")]
    pub max_bytes: Option<usize>,
}

/// Complete, checked options.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it lives and what it says of itself.
    pub node: NodeSettings,
    /// Signed list.
    pub directory: PathBuf,
    /// Records file.
    pub records: Option<PathBuf>,
    /// Keys trusted to sign the list.
    pub trust: Vec<NodeId>,
    /// How many of them must have signed.
    pub threshold: usize,
    /// Mixing window, milliseconds.
    pub batch_ms: u64,
    /// Packet bytes held at once.
    pub max_bytes: usize,
}

impl Options {
    /// Fills in the configuration file and the defaults, and checks everything.
    pub fn settle(mut self) -> Result<Settings, OptionsError> {
        let mut file = self.node.fill()?;
        file.option(&mut self.directory, "directory")?;
        file.option(&mut self.records, "records")?;
        file.list(&mut self.trust, "trust")?;
        file.option(&mut self.threshold, "threshold")?;
        file.option(&mut self.batch_ms, "batch-ms")?;
        file.option(&mut self.max_bytes, "max-bytes")?;
        file.finish()?;
        if self.trust.is_empty() {
            return Err(OptionsError::Missing("trust"));
        }
        let threshold = self.threshold.unwrap_or(self.trust.len());
        if threshold == 0 || threshold > self.trust.len() {
            let why = format!("must be 1 to {}, the number of trusted keys", self.trust.len());
            return Err(OptionsError::Invalid { name: "threshold", why });
        }
        let batch_ms = self.batch_ms.unwrap_or(DEFAULT_BATCH_MS);
        if batch_ms > MAX_BATCH_MS {
            let why = format!("at most {MAX_BATCH_MS}");
            return Err(OptionsError::Invalid { name: "batch-ms", why });
        }
        Ok(Settings {
            node: self.node.settle()?,
            directory: self.directory.ok_or(OptionsError::Missing("directory"))?,
            records: self.records,
            trust: self.trust,
            threshold,
            batch_ms,
            max_bytes: self.max_bytes.unwrap_or(DEFAULT_MAX_BYTES),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        cli: Cli,
    }

    fn options(args: &[&str]) -> Options {
        let args = std::iter::once("delta-relay").chain(args.iter().copied());
        Program::try_parse_from(args).map_err(|error| error.to_string()).unwrap().cli.options
    }

    fn config(dir: &tempfile::TempDir, text: &str) -> String {
        let path = dir.path().join("relay.conf");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let key = "ab".repeat(32);
        let file = config(
            &dir,
            &format!(
                "# a comment\ndata = \"/var/lib/delta\"\nlisten=127.0.0.1:1\n\ndirectory = list.json\n\
                 trust = {key}, {key}\nthreshold = 1\nallow_private = true\nbatch-ms = 20\n"
            ),
        );
        let settings = options(&["--config", &file, "--listen", "127.0.0.1:2"]).settle().unwrap();
        assert_eq!(settings.node.listen, "127.0.0.1:2".parse().unwrap());
        assert_eq!(settings.node.data, Path::new("/var/lib/delta"));
        assert_eq!(settings.trust.len(), 2);
        assert_eq!((settings.threshold, settings.batch_ms, settings.node.allow_private), (1, 20, true));
        assert_eq!(settings.max_bytes, DEFAULT_MAX_BYTES);
    }

    #[test]
    fn the_example_configuration_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let file = config(&dir, include_str!("../deploy/relay.conf"));
        let settings = options(&["--config", &file]).settle().unwrap();
        assert_eq!((settings.batch_ms, settings.node.allow_private), (DEFAULT_BATCH_MS, false));
        assert_eq!(settings.node.url.as_deref(), Some("https://relay.example"));
    }

    #[test]
    fn errors_name_the_option_and_the_line() {
        let dir = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("listen = nonsense", "--listen"),
            ("colour = red", "`colour`"),
            ("data = a\nnonsense", "line 2"),
            ("data = a\ndata = b", "line 2"),
            ("data = a", "--trust is missing"),
            ("trust = abcd", "--trust"),
        ] {
            let file = config(&dir, text);
            let error = options(&["--config", &file]).settle().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_threshold_lies_between_one_and_the_number_of_keys() {
        let key = "ab".repeat(32);
        for (threshold, good) in [("0", false), ("1", true), ("2", false)] {
            let args = ["--data", "d", "--listen", "127.0.0.1:0", "--directory", "l", "--trust", &key];
            let options = options(&[&args[..], &["--threshold", threshold]].concat());
            assert_eq!(options.settle().is_ok(), good, "{threshold}");
        }
    }

    #[test]
    fn the_window_has_a_limit() {
        let key = "ab".repeat(32);
        for (batch, good) in [("10000", true), ("10001", false)] {
            let args = ["--data", "d", "--listen", "127.0.0.1:0", "--directory", "l", "--trust", &key];
            let options = options(&[&args[..], &["--batch-ms", batch]].concat());
            assert_eq!(options.settle().is_ok(), good, "{batch}");
        }
    }
}
