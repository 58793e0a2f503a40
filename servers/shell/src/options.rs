//! The options every server has.

use std::net::SocketAddr;
use std::path::PathBuf;

use delta_core::onion::directory::{NodeKind, RecordObject};

use crate::config::{ConfigFile, OptionsError};
use crate::folder::NodeFolder;
use crate::keys;
use crate::platform::{self, PlatformEntropy};
use crate::record::{self, RecordTerms, SignError, VALID_DAYS};

/// How to sign a record.
#[derive(Clone, Debug, clap::Args)]
pub struct RecordOptions {
    /// Folder of the node's identity and keys; made (mode 0700) when it is missing.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Base URL others reach this node at, without a trailing slash. Kept in the data folder: needed once.
    #[arg(long, env = "DELTA_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Who runs the node. Kept in the data folder.
    #[arg(long, env = "DELTA_OPERATOR", value_name = "NAME")]
    pub operator: Option<String>,
    /// How long the record is valid.
    #[arg(long, value_name = "DAYS", default_value_t = VALID_DAYS, value_parser = clap::value_parser!(u64).range(1..=90))]
    pub valid_days: u64,
    /// Permit http, any port and private addresses in the URL (tests and local networks).
    #[arg(long, env = "DELTA_ALLOW_PRIVATE", value_parser = clap::builder::FalseyValueParser::new())]
    pub allow_private: bool,
}

impl RecordOptions {
    /// Signs a record of the folder's node.
    pub fn sign(self, kind: NodeKind) -> Result<RecordObject, SignError> {
        let Self { data, url, operator, valid_days, allow_private } = self;
        let terms = RecordTerms { kind, url, operator, valid_days, allow_private };
        // Before a folder is made for nothing.
        terms.check()?;
        let folder = NodeFolder::open(&data, &mut PlatformEntropy)?;
        let keys = keys::published(&folder, &mut PlatformEntropy)?;
        record::sign(&folder, keys, &terms, platform::now())
    }
}

/// Where a server lives and what it says of itself. Every option can also stand in the environment (`DELTA_LISTEN=…`)
/// or in the configuration file (`listen = …`).
#[derive(Clone, Debug, Default, clap::Args)]
pub struct NodeOptions {
    /// Folder of the node's identity, onion keys and replay set; made (mode 0700) when it is missing.
    #[arg(long, env = "DELTA_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address to serve on, for instance 0.0.0.0:8443. Plain HTTP: TLS ends at a reverse proxy.
    #[arg(long, env = "DELTA_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Address that serves /metrics and /health to the operator. Keep it private.
    #[arg(long, env = "DELTA_ADMIN", value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Base URL others reach this node at; kept in the data folder. Without one there is no directory record.
    #[arg(long, env = "DELTA_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Who runs the node; kept in the data folder.
    #[arg(long, env = "DELTA_OPERATOR", value_name = "NAME")]
    pub operator: Option<String>,
    /// Where to report abuse, an address or a URL; shown to everyone.
    #[arg(long, env = "DELTA_CONTACT", value_name = "TEXT")]
    pub contact: Option<String>,
    /// Permit http, any port and private addresses (tests and local networks).
    #[arg(long, env = "DELTA_ALLOW_PRIVATE", value_parser = clap::builder::FalseyValueParser::new())]
    pub allow_private: bool,
    /// File with further options, one `name = value` a line.
    #[arg(long, env = "DELTA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The same, complete.
#[derive(Clone, Debug)]
pub struct NodeSettings {
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
    /// Where to report abuse.
    pub contact: Option<String>,
    /// Whether http and private addresses are permitted.
    pub allow_private: bool,
}

impl NodeOptions {
    /// Reads the configuration file and takes these options from it; the caller takes its own and then
    /// [`finish`](ConfigFile::finish)es the file.
    pub fn fill(&mut self) -> Result<ConfigFile, OptionsError> {
        let mut file = ConfigFile::read(self.config.as_deref())?;
        file.option(&mut self.data, "data")?;
        file.option(&mut self.listen, "listen")?;
        file.option(&mut self.admin, "admin")?;
        file.option(&mut self.url, "url")?;
        file.option(&mut self.operator, "operator")?;
        file.option(&mut self.contact, "contact")?;
        file.switch(&mut self.allow_private, "allow-private")?;
        Ok(file)
    }

    /// What must be there is there.
    pub fn settle(self) -> Result<NodeSettings, OptionsError> {
        Ok(NodeSettings {
            data: self.data.ok_or(OptionsError::Missing("data"))?,
            listen: self.listen.ok_or(OptionsError::Missing("listen"))?,
            admin: self.admin,
            url: self.url,
            operator: self.operator,
            contact: self.contact,
            allow_private: self.allow_private,
        })
    }
}

impl NodeSettings {
    /// What goes into the record of a running node.
    pub fn record_terms(&self, kind: NodeKind) -> RecordTerms {
        RecordTerms {
            kind,
            url: self.url.clone(),
            operator: self.operator.clone(),
            valid_days: VALID_DAYS,
            allow_private: self.allow_private,
        }
    }
}
