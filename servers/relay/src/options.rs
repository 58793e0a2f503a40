//! Command line, environment and configuration file, in this order of precedence.

use delta_core::identity::NodeId;
use delta_server_shell::directory::DirectorySettings;
use delta_server_shell::keys::KeyPolicy;
use delta_server_shell::limit::bound;
use delta_server_shell::{
    DirectoryOptions, KeygenOptions, NodeOptions, NodeSettings, OptionsError, RecordOptions,
};

use crate::limits::{LimitOption, Limits};

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
    /// Make a data folder with this relay's identity and first onion key; print the node id and where it is.
    Keygen(KeygenOptions),
    /// Sign and print this relay's directory record; makes the data folder when it is missing.
    Record(RelayRecordOptions),
}

/// How to sign a relay's record.
#[derive(Clone, Debug, clap::Args)]
pub struct RelayRecordOptions {
    /// What every node's record says.
    #[command(flatten)]
    pub node: RecordOptions,
    /// Do not offer tunnels in the record.
    #[arg(long, env = "DELTA_NO_TUNNEL", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_tunnel: bool,
}

/// How to relay. Every option can also stand in the environment (`DELTA_LISTEN=…`) or in the configuration file
/// (`listen = …`).
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Where it lives and what it says of itself.
    #[command(flatten)]
    pub node: NodeOptions,
    /// Whom packets may be forwarded to.
    #[command(flatten)]
    pub directory: DirectoryOptions,
    /// Collect packets this long and send them on in random order; 0 sends each at once [default: 50].
    #[arg(long, env = "DELTA_BATCH_MS", value_name = "MS")]
    pub batch_ms: Option<u64>,
    /// Bytes of packets held at once; above it senders get 503 [default: 268435456].
    #[arg(long, env = "DELTA_MAX_BYTES", value_name = "BYTES")]
    pub max_bytes: Option<usize>,
    /// A limit as name=value, 0 for none; may be repeated.
    #[arg(long, env = "DELTA_LIMIT", value_name = "NAME=VALUE", value_delimiter = ',')]
    pub limit: Vec<LimitOption>,
    /// Serve no tunnels to sync servers.
    #[arg(long, env = "DELTA_NO_TUNNEL", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_tunnel: bool,
    /// Also take packets of version 2, the original format. It hides less: see docs/wire.md, section 5.
    #[arg(long, env = "DELTA_ACCEPT_V2", value_parser = clap::builder::FalseyValueParser::new())]
    pub accept_v2: bool,
    /// The sync server version 2 operations are posted to [default: the directory's only one].
    #[arg(long, env = "DELTA_V2_SERVER", value_name = "NODE")]
    pub v2_server: Option<NodeId>,
    /// The DHT.
    #[cfg(feature = "dht")]
    #[command(flatten)]
    pub dht: crate::dht::DhtOptions,
}

/// Complete, checked options.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it lives and what it says of itself.
    pub node: NodeSettings,
    /// Whom packets may be forwarded to.
    pub directory: DirectorySettings,
    /// How onion keys are kept.
    pub keys: KeyPolicy,
    /// Mixing window, milliseconds.
    pub batch_ms: u64,
    /// Packet bytes held at once.
    pub max_bytes: usize,
    /// All limits.
    pub limits: Limits,
    /// Whether tunnels are served.
    pub tunnel: bool,
    /// Whether version 2 is taken.
    pub accept_v2: bool,
    /// Where its operations go.
    pub v2_server: Option<NodeId>,
    /// The DHT.
    #[cfg(feature = "dht")]
    pub dht: crate::dht::DhtOptions,
}

impl Options {
    /// Fills in the configuration file and the defaults, and checks everything.
    pub fn settle(mut self) -> Result<Settings, OptionsError> {
        let mut file = self.node.fill()?;
        self.directory.fill(&mut file)?;
        file.option(&mut self.batch_ms, "batch-ms")?;
        file.option(&mut self.max_bytes, "max-bytes")?;
        file.switch(&mut self.no_tunnel, "no-tunnel")?;
        file.switch(&mut self.accept_v2, "accept-v2")?;
        file.option(&mut self.v2_server, "v2-server")?;
        #[cfg(feature = "dht")]
        self.dht.fill(&mut file)?;
        let mut limits = Limits::default();
        file.values("limit")?.iter().for_each(|limit| limits.set(limit));
        self.limit.iter().for_each(|limit| limits.set(limit));
        file.finish()?;
        let capacity = usize::try_from(bound(limits.replay_tags)).unwrap_or(usize::MAX);
        let keys = KeyPolicy { capacity, ..self.directory.keys(self.node.v2_only)? };
        let directory = self.directory.settle(self.node.allow_private)?;
        let batch_ms = self.batch_ms.unwrap_or(DEFAULT_BATCH_MS);
        if batch_ms > MAX_BATCH_MS {
            let why = format!("at most {MAX_BATCH_MS}");
            return Err(OptionsError::Invalid { name: "batch-ms", why });
        }
        Ok(Settings {
            node: self.node.settle(self.accept_v2)?,
            directory: directory.ok_or(OptionsError::Missing("directory"))?,
            keys,
            batch_ms,
            max_bytes: self.max_bytes.unwrap_or(DEFAULT_MAX_BYTES),
            limits,
            tunnel: !self.no_tunnel,
            accept_v2: self.accept_v2,
            v2_server: self.v2_server,
            #[cfg(feature = "dht")]
            dht: self.dht,
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
        let trust = &settings.directory.trust;
        assert_eq!((trust.keys.len(), trust.threshold, trust.allow_private), (2, 1, true));
        assert_eq!((settings.batch_ms, settings.node.allow_private), (20, true));
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
            ("data = a", "--listen is missing"),
            ("directory = l", "--trust is missing"),
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
