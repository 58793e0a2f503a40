//! Command line, environment and configuration file, in this order of precedence.

use std::path::PathBuf;

use delta_core::topic::TopicId;
use delta_server_shell::directory::DirectorySettings;
use delta_server_shell::keys::KeyPolicy;
use delta_server_shell::limit::Network;
use delta_server_shell::{DirectoryOptions, NodeOptions, NodeSettings, OptionsError, RecordOptions};

use crate::limits::{LimitOption, Limits};
use crate::maintain::TopicAction;

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
    /// Make a data folder from a backup, with new generations: clients deliver again what it lacks.
    Restore(RestoreOptions),
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

/// What to restore.
#[derive(Clone, Debug, clap::Args)]
pub struct RestoreOptions {
    /// The data folder to make.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// The backup.
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
}

fn parse_topic(text: &str) -> Result<TopicId, String> {
    text.to_ascii_lowercase().parse().map_err(|_| "a topic is 64 hex digits".to_owned())
}

/// How to serve. Every option can also stand in the environment (`DELTA_LISTEN=…`) or in the configuration file
/// (`listen = …`).
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Where it lives and what it says of itself.
    #[command(flatten)]
    pub node: NodeOptions,
    /// The directory it is in, if it is in one: its onion key rotates once the records name the next one.
    #[command(flatten)]
    pub directory: DirectoryOptions,
    /// A limit as name=value, 0 for none; may be repeated. Names and values are in /info.
    #[arg(long, env = "DELTA_LIMIT", value_name = "NAME=VALUE", value_delimiter = ',')]
    pub limit: Vec<LimitOption>,
    /// Relays that carry many readers here and deliver for many: addresses, or networks as address/bits. What every
    /// other address may use does not bound them; the limits of the whole server do.
    #[arg(long, env = "DELTA_TRUSTED_RELAYS", value_name = "ADDR", value_delimiter = ',')]
    pub trusted_relays: Vec<Network>,
    /// Take unsigned operations as JSON from version 2 relays.
    #[arg(long, env = "DELTA_ACCEPT_V2", value_parser = clap::builder::FalseyValueParser::new())]
    pub accept_v2: bool,
    /// Take operations on the WebSocket, as the original protocol did. For tests only: it shows who publishes.
    #[arg(long, env = "DELTA_ACCEPT_DIRECT_PUBLISH", value_parser = clap::builder::FalseyValueParser::new())]
    pub accept_direct_publish: bool,
    /// Let only those read a topic with a read key who prove that they have it.
    #[arg(long, env = "DELTA_READ_PROOF", value_parser = clap::builder::FalseyValueParser::new())]
    pub read_proof: bool,
}

/// Complete options.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it lives and what it says of itself.
    pub node: NodeSettings,
    /// The directory it is in.
    pub directory: Option<DirectorySettings>,
    /// How onion keys are kept.
    pub keys: KeyPolicy,
    /// All limits.
    pub limits: Limits,
    /// Addresses that no limit by address holds for.
    pub trusted_relays: Vec<Network>,
    /// Whether unsigned JSON deliveries are taken.
    pub accept_v2: bool,
    /// Whether operations are taken on the WebSocket.
    pub accept_direct_publish: bool,
    /// Whether readers prove read keys.
    pub read_proof: bool,
}

impl Options {
    /// Fills in the configuration file and the defaults.
    ///
    /// # Errors
    /// Something is missing, or the file is wrong.
    pub fn settle(mut self) -> Result<Settings, OptionsError> {
        let mut file = self.node.fill()?;
        self.directory.fill(&mut file)?;
        file.list(&mut self.trusted_relays, "trusted-relays")?;
        file.switch(&mut self.accept_v2, "accept-v2")?;
        file.switch(&mut self.accept_direct_publish, "accept-direct-publish")?;
        file.switch(&mut self.read_proof, "read-proof")?;
        let mut limits = Limits::default();
        file.values("limit")?.iter().for_each(|limit| limits.set(limit));
        self.limit.iter().for_each(|limit| limits.set(limit));
        file.finish()?;
        Ok(Settings {
            keys: self.directory.keys(self.node.v2_only)?,
            directory: self.directory.settle(self.node.allow_private)?,
            node: self.node.settle(self.accept_v2)?,
            limits,
            trusted_relays: self.trusted_relays,
            accept_v2: self.accept_v2,
            accept_direct_publish: self.accept_direct_publish,
            read_proof: self.read_proof,
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
        assert_eq!(settings.node.listen, "127.0.0.1:2".parse().unwrap());
        assert_eq!(settings.node.data, Path::new("/var/lib/delta"));
        assert!(settings.accept_v2 && !settings.accept_direct_publish);
        let limits = settings.limits;
        assert_eq!((limits.ops_per_topic, limits.max_age_days, limits.bytes_per_topic), (7, 9, 1));
        assert_eq!(limits.connections_per_address, 1024);
    }

    #[test]
    fn the_example_configuration_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let file = config(&dir, include_str!("../deploy/sync.conf"));
        let settings = options(&["--config", &file]).settle().unwrap();
        assert!(settings.node.url.is_some() && !settings.accept_v2);
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
