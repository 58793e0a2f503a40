//! Command line, environment and configuration file, in this order of precedence.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use delta_core::topic::TopicId;
use thiserror::Error;

use crate::limits::{LimitOption, Limits};
use crate::maintain::TopicAction;

/// Days a record stays valid.
pub const DEFAULT_VALID_DAYS: u64 = 7;

/// The command line of `delta-sync`, and of `delta sync`.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub options: Options,
}

/// Everything but serving.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Sign and print this server's directory record; makes the data folder when it is missing.
    Record(RecordOptions),
    /// Check the database: its structure, and every log for holes, wrong hashes and a broken chain.
    Check(DataOptions),
    /// Delete, block or unblock a topic; a running server follows within a second.
    Topic(TopicOptions),
    /// Write what the server keeps of a topic to a new file.
    Export(ExportOptions),
    /// Take exported topics in, and give the server new generations. The server must be stopped.
    Import(ImportOptions),
    /// Copy the data folder, also of a running server.
    Backup(BackupOptions),
}

/// Whose data.
#[derive(Clone, Debug, clap::Args)]
pub struct DataOptions {
    /// The server's data folder.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: PathBuf,
}

/// What to do to which topic.
#[derive(Clone, Debug, clap::Args)]
pub struct TopicOptions {
    /// The server's data folder.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// What to do.
    pub action: TopicAction,
    /// The topic, 64 hex digits.
    #[arg(value_parser = parse_topic)]
    pub topic: TopicId,
}

/// What to export.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportOptions {
    /// The server's data folder.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// The topic, 64 hex digits.
    #[arg(long, value_parser = parse_topic)]
    pub topic: TopicId,
    /// The file to make.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

/// What to import.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportOptions {
    /// The server's data folder; made when it is missing.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Exported topics.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Where to copy.
#[derive(Clone, Debug, clap::Args)]
pub struct BackupOptions {
    /// The server's data folder.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// The folder to make.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

fn parse_topic(text: &str) -> Result<TopicId, String> {
    text.to_ascii_lowercase().parse().map_err(|_| "a topic is 64 hex digits".to_owned())
}

/// How to sign a record.
#[derive(Clone, Debug, clap::Args)]
pub struct RecordOptions {
    /// Folder of the server's identity and keys; made (mode 0700) when it is missing.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Base URL others reach this server at, without a trailing slash. Kept in the data folder.
    #[arg(long, env = "DELTA_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Who runs the server. Kept in the data folder.
    #[arg(long, env = "DELTA_OPERATOR", value_name = "NAME")]
    pub operator: Option<String>,
    /// How long the record is valid.
    #[arg(long, value_name = "DAYS", default_value_t = DEFAULT_VALID_DAYS, value_parser = clap::value_parser!(u64).range(1..=90))]
    pub valid_days: u64,
    /// Permit http, any port and private addresses in the URL (tests and local networks).
    #[arg(long, env = "DELTA_ALLOW_PRIVATE", value_parser = clap::builder::FalseyValueParser::new())]
    pub allow_private: bool,
}

/// How to serve. Every option can also stand in the environment (`DELTA_LISTEN=…`) or in the configuration file
/// (`listen = …`).
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Folder of the server's identity, onion keys, replay set and database; made (mode 0700) when it is missing.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address that serves clients and relays, for instance 0.0.0.0:8080. Plain HTTP: TLS ends at a reverse proxy.
    #[arg(long, env = "DELTA_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Address that serves /metrics and /health to the operator. Keep it private.
    #[arg(long, env = "DELTA_ADMIN", value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Base URL others reach this server at; kept in the data folder, shown in /info.
    #[arg(long, env = "DELTA_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Who runs the server; kept in the data folder.
    #[arg(long, env = "DELTA_OPERATOR", value_name = "NAME")]
    pub operator: Option<String>,
    /// A limit as name=value, 0 for none; may be repeated. Names and values are in /info.
    #[arg(long, env = "DELTA_LIMIT", value_name = "NAME=VALUE", value_delimiter = ',')]
    pub limit: Vec<LimitOption>,
    /// Take unsigned operations as JSON from version 2 relays.
    #[arg(long, env = "DELTA_ACCEPT_V2", value_parser = clap::builder::FalseyValueParser::new())]
    pub accept_v2: bool,
    /// Take operations on the WebSocket, as the original protocol did. For tests only: it shows who publishes.
    #[arg(long, env = "DELTA_ACCEPT_DIRECT_PUBLISH", value_parser = clap::builder::FalseyValueParser::new())]
    pub accept_direct_publish: bool,
    /// Let only those read a topic with a read key who prove that they have it.
    #[arg(long, env = "DELTA_READ_PROOF", value_parser = clap::builder::FalseyValueParser::new())]
    pub read_proof: bool,
    /// Where to report abuse, an address or a URL; shown in /info.
    #[arg(long, env = "DELTA_CONTACT", value_name = "TEXT")]
    pub contact: Option<String>,
    /// Permit http, any port and private addresses in --url (tests and local networks).
    #[arg(long, env = "DELTA_ALLOW_PRIVATE", value_parser = clap::builder::FalseyValueParser::new())]
    pub allow_private: bool,
    /// File with further options, one `name = value` a line.
    #[arg(long, env = "DELTA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Complete options.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Data folder.
    pub data: PathBuf,
    /// Address of the service.
    pub listen: SocketAddr,
    /// Address of metrics.
    pub admin: Option<SocketAddr>,
    /// Own base URL.
    pub url: Option<String>,
    /// Own operator name.
    pub operator: Option<String>,
    /// All limits.
    pub limits: Limits,
    /// Whether unsigned JSON deliveries are taken.
    pub accept_v2: bool,
    /// Whether operations are taken on the WebSocket.
    pub accept_direct_publish: bool,
    /// Whether readers prove read keys.
    pub read_proof: bool,
    /// Where to report abuse.
    pub contact: Option<String>,
    /// Whether http and private addresses are permitted in the own URL.
    pub allow_private: bool,
}

/// The options are wrong; the operator is at fault.
#[derive(Debug, Error)]
pub enum OptionsError {
    /// An option without a default is given nowhere.
    #[error("--{0} is missing: give it on the command line, in the environment (DELTA_{upper}) or in the configuration file", upper = .0.to_uppercase())]
    Missing(&'static str),
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of the configuration file is wrong.
    #[error("{}, line {line}: {why}", path.display())]
    ConfigLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl Options {
    /// Fills in the configuration file and the defaults.
    ///
    /// # Errors
    /// Something is missing, or the file is wrong.
    pub fn settle(mut self) -> Result<Settings, OptionsError> {
        let mut limits = Limits::default();
        if let Some(path) = self.config.take() {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| OptionsError::Config { path: path.clone(), source })?;
            self.fill(&path, &text, &mut limits)?;
        }
        self.limit.iter().for_each(|limit| limits.set(limit));
        Ok(Settings {
            data: self.data.ok_or(OptionsError::Missing("data"))?,
            listen: self.listen.ok_or(OptionsError::Missing("listen"))?,
            admin: self.admin,
            url: self.url,
            operator: self.operator,
            limits,
            accept_v2: self.accept_v2,
            accept_direct_publish: self.accept_direct_publish,
            read_proof: self.read_proof,
            contact: self.contact,
            allow_private: self.allow_private,
        })
    }

    /// Takes from the file what neither the command line nor the environment said: lines of `name = value`, where
    /// a value may stand in double quotes, `#` starts a comment line, and only `limit` may occur more than once.
    fn fill(&mut self, path: &Path, text: &str, limits: &mut Limits) -> Result<(), OptionsError> {
        let given = self.clone();
        let mut seen = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |why: String| OptionsError::ConfigLine { path: path.to_owned(), line: index + 1, why };
            let (name, value) =
                line.split_once('=').ok_or_else(|| bad("expected `name = value`".to_owned()))?;
            let name = name.trim().trim_start_matches("--").replace('_', "-");
            let value = value.trim();
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            if name != "limit" && seen.contains(&name) {
                return Err(bad(format!("`{name}` stands here a second time")));
            }
            self.take(&given, &name, value, limits).map_err(bad)?;
            seen.push(name);
        }
        Ok(())
    }

    fn take(&mut self, given: &Self, name: &str, value: &str, limits: &mut Limits) -> Result<(), String> {
        match name {
            "data" => set(&mut self.data, &given.data, value),
            "listen" => set(&mut self.listen, &given.listen, value),
            "admin" => set(&mut self.admin, &given.admin, value),
            "url" => set(&mut self.url, &given.url, value),
            "operator" => set(&mut self.operator, &given.operator, value),
            "contact" => set(&mut self.contact, &given.contact, value),
            "read-proof" => switch(&mut self.read_proof, value),
            "accept-v2" => switch(&mut self.accept_v2, value),
            "accept-direct-publish" => switch(&mut self.accept_direct_publish, value),
            "allow-private" => switch(&mut self.allow_private, value),
            "limit" => {
                limits.set(&parse(value)?);
                Ok(())
            }
            _ => Err(format!("there is no option `{name}`")),
        }
    }
}

fn set<T: FromStr<Err: std::fmt::Display>>(
    option: &mut Option<T>,
    given: &Option<T>,
    text: &str,
) -> Result<(), String> {
    let value = parse(text)?;
    if given.is_none() {
        *option = Some(value);
    }
    Ok(())
}

/// A switch that is on in the environment or on the command line stays on.
fn switch(option: &mut bool, text: &str) -> Result<(), String> {
    *option |= parse::<bool>(text)?;
    Ok(())
}

fn parse<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
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
        let args = std::iter::once("delta-sync").chain(args.iter().copied());
        Program::try_parse_from(args).map_err(|error| error.to_string()).unwrap().cli.options
    }

    fn config(dir: &tempfile::TempDir, text: &str) -> String {
        let path = dir.path().join("sync.conf");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let file = config(
            &dir,
            "# a comment\ndata = \"/var/lib/delta\"\nlisten=127.0.0.1:1\n\naccept_v2 = true\n\
             limit = ops_per_topic=5\nlimit = max_age_days=9\n",
        );
        let args =
            ["--config", &file, "--listen", "127.0.0.1:2", "--limit", "ops_per_topic=7,bytes_per_topic=1"];
        let settings = options(&args).settle().unwrap();
        assert_eq!(settings.listen, "127.0.0.1:2".parse().unwrap());
        assert_eq!(settings.data, Path::new("/var/lib/delta"));
        assert!(settings.accept_v2 && !settings.accept_direct_publish);
        let limits = settings.limits;
        assert_eq!((limits.ops_per_topic, limits.max_age_days, limits.bytes_per_topic), (7, 9, 1));
        assert_eq!(limits.connections_per_address, 1024);
    }

    #[test]
    fn errors_name_the_option_and_the_line() {
        let dir = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("listen = nonsense", "line 1"),
            ("colour = red", "`colour`"),
            ("data = a\nnonsense", "line 2"),
            ("data = a\ndata = b", "second time"),
            ("limit = colour=1", "no limit of that name"),
            ("data = a", "--listen is missing"),
        ] {
            let file = config(&dir, text);
            let error = options(&["--config", &file]).settle().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
