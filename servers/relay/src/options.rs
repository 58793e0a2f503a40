//! Command line, environment and configuration file, in this order of precedence.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use delta_core::identity::NodeId;
use thiserror::Error;

/// Days a record stays valid.
const DEFAULT_VALID_DAYS: u64 = 7;
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

/// How to sign a record.
#[derive(Clone, Debug, clap::Args)]
pub struct RecordOptions {
    /// Folder of the relay's identity and keys; made (mode 0700) when it is missing.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Base URL others reach this relay at, without a trailing slash. Kept in the data folder: needed once.
    #[arg(long, env = "DELTA_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Who runs the relay. Kept in the data folder.
    #[arg(long, env = "DELTA_OPERATOR", value_name = "NAME")]
    pub operator: Option<String>,
    /// How long the record is valid.
    #[arg(long, value_name = "DAYS", default_value_t = DEFAULT_VALID_DAYS, value_parser = clap::value_parser!(u64).range(1..=90))]
    pub valid_days: u64,
    /// Permit http, any port and private addresses in the URL (tests and local networks).
    #[arg(long, env = "DELTA_ALLOW_PRIVATE", value_parser = clap::builder::FalseyValueParser::new())]
    pub allow_private: bool,
}

/// How to relay. Every option can also stand in the environment (`DELTA_LISTEN=…`) or in the configuration file
/// (`listen = …`).
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Folder of the relay's identity, onion keys and replay set; made (mode 0700) when it is missing.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address that takes packets, for instance 0.0.0.0:8443. Plain HTTP: TLS ends at a reverse proxy.
    #[arg(long, env = "DELTA_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Address that serves /metrics and /health to the operator. Keep it private.
    #[arg(long, env = "DELTA_ADMIN", value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
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
    /// Base URL others reach this relay at; needed for /key unless `record` kept one before.
    #[arg(long, env = "DELTA_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Who runs the relay.
    #[arg(long, env = "DELTA_OPERATOR", value_name = "NAME")]
    pub operator: Option<String>,
    /// Collect packets this long and send them on in random order; 0 sends each at once [default: 50].
    #[arg(long, env = "DELTA_BATCH_MS", value_name = "MS")]
    pub batch_ms: Option<u64>,
    /// Bytes of packets held at once; above it senders get 503 [default: 268435456].
    #[arg(long, env = "DELTA_MAX_BYTES", value_name = "BYTES")]
    pub max_bytes: Option<usize>,
    /// Permit http, any port and private addresses for next nodes (tests and local networks).
    #[arg(long, env = "DELTA_ALLOW_PRIVATE", value_parser = clap::builder::FalseyValueParser::new())]
    pub allow_private: bool,
    /// File with further options, one `name = value` a line.
    #[arg(long, env = "DELTA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Complete, checked options.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Data folder.
    pub data: PathBuf,
    /// Address that takes packets.
    pub listen: SocketAddr,
    /// Address of metrics.
    pub admin: Option<SocketAddr>,
    /// Signed list.
    pub directory: PathBuf,
    /// Records file.
    pub records: Option<PathBuf>,
    /// Keys trusted to sign the list.
    pub trust: Vec<NodeId>,
    /// How many of them must have signed.
    pub threshold: usize,
    /// Own base URL.
    pub url: Option<String>,
    /// Own operator name.
    pub operator: Option<String>,
    /// Mixing window, milliseconds.
    pub batch_ms: u64,
    /// Packet bytes held at once.
    pub max_bytes: usize,
    /// Whether private addresses and http are permitted.
    pub allow_private: bool,
}

/// The options are wrong; the operator is at fault.
#[derive(Debug, Error)]
pub enum OptionsError {
    /// An option without a default is given nowhere.
    #[error("--{0} is missing: give it on the command line, as {env} in the environment or in the configuration file", env = env_name(.0))]
    Missing(&'static str),
    /// A value does not parse or is out of range.
    #[error("--{name}: {why}")]
    Invalid {
        /// The option.
        name: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of the configuration file is not `name = value`.
    #[error("{}, line {line}: expected `name = value`", path.display())]
    ConfigLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The configuration file names an option that does not exist.
    #[error("{}: there is no option `{name}`", path.display())]
    ConfigName {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

fn env_name(option: &str) -> String {
    format!("DELTA_{}", option.replace('-', "_").to_uppercase())
}

impl Options {
    /// Fills in the configuration file and the defaults, and checks everything.
    pub fn settle(mut self) -> Result<Settings, OptionsError> {
        if let Some(path) = self.config.take() {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| OptionsError::Config { path: path.clone(), source })?;
            self.fill(&path, parse_config(&path, &text)?)?;
        }
        let missing = OptionsError::Missing;
        if self.trust.is_empty() {
            return Err(missing("trust"));
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
            data: self.data.ok_or(missing("data"))?,
            listen: self.listen.ok_or(missing("listen"))?,
            admin: self.admin,
            directory: self.directory.ok_or(missing("directory"))?,
            records: self.records,
            trust: self.trust,
            threshold,
            url: self.url,
            operator: self.operator,
            batch_ms,
            max_bytes: self.max_bytes.unwrap_or(DEFAULT_MAX_BYTES),
            allow_private: self.allow_private,
        })
    }

    /// Takes from the file what neither the command line nor the environment said.
    fn fill(&mut self, path: &Path, mut file: BTreeMap<String, String>) -> Result<(), OptionsError> {
        take(&mut self.data, &mut file, "data")?;
        take(&mut self.listen, &mut file, "listen")?;
        take(&mut self.admin, &mut file, "admin")?;
        take(&mut self.directory, &mut file, "directory")?;
        take(&mut self.records, &mut file, "records")?;
        take(&mut self.threshold, &mut file, "threshold")?;
        take(&mut self.url, &mut file, "url")?;
        take(&mut self.operator, &mut file, "operator")?;
        take(&mut self.batch_ms, &mut file, "batch-ms")?;
        take(&mut self.max_bytes, &mut file, "max-bytes")?;
        let mut allow_private = self.allow_private.then_some(true);
        take(&mut allow_private, &mut file, "allow-private")?;
        self.allow_private = allow_private.unwrap_or(false);
        let trust = file.remove("trust");
        if let (true, Some(keys)) = (self.trust.is_empty(), trust) {
            self.trust = keys.split(',').map(|key| parse("trust", key.trim())).collect::<Result<_, _>>()?;
        }
        match file.into_keys().next() {
            Some(name) => Err(OptionsError::ConfigName { path: path.to_owned(), name }),
            None => Ok(()),
        }
    }
}

fn take<T: std::str::FromStr<Err: std::fmt::Display>>(
    option: &mut Option<T>,
    file: &mut BTreeMap<String, String>,
    name: &'static str,
) -> Result<(), OptionsError> {
    if let (value, None) = (file.remove(name), &option) {
        *option = value.map(|value| parse(name, &value)).transpose()?;
    }
    Ok(())
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    name: &'static str,
    text: &str,
) -> Result<T, OptionsError> {
    text.parse().map_err(|error: T::Err| OptionsError::Invalid { name, why: error.to_string() })
}

/// Lines of `name = value`; a value may stand in double quotes; `#` starts a comment line.
fn parse_config(path: &Path, text: &str) -> Result<BTreeMap<String, String>, OptionsError> {
    let mut values = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = || OptionsError::ConfigLine { path: path.to_owned(), line: index + 1 };
        let (name, value) = line.split_once('=').ok_or_else(bad)?;
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        let name = name.trim().trim_start_matches("--").replace('_', "-");
        if value.is_empty() || values.insert(name, value.to_owned()).is_some() {
            return Err(bad());
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(settings.listen, "127.0.0.1:2".parse().unwrap());
        assert_eq!(settings.data, Path::new("/var/lib/delta"));
        assert_eq!(settings.trust.len(), 2);
        assert_eq!((settings.threshold, settings.batch_ms, settings.allow_private), (1, 20, true));
        assert_eq!(settings.max_bytes, DEFAULT_MAX_BYTES);
    }

    #[test]
    fn the_example_configuration_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let file = config(&dir, include_str!("../deploy/relay.conf"));
        let settings = options(&["--config", &file]).settle().unwrap();
        assert_eq!((settings.batch_ms, settings.allow_private), (DEFAULT_BATCH_MS, false));
        assert_eq!(settings.url.as_deref(), Some("https://relay.example"));
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
