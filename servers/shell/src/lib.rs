//! What every Delta server does around its own work: options from flags, environment and file; the data folder with
//! identity and onion keys; its directory record, and those of others; connections under address rules; logging,
//! start and stop.
//!
//! The relay (`delta-relay`) and the sync server (`delta-sync`) build on it. Nothing here knows what a packet or a
//! topic is.

pub mod bucket;
pub mod config;
pub mod connect;
pub mod directory;
pub mod fetch;
pub mod file;
pub mod folder;
pub mod held;
pub mod keys;
pub mod limit;
pub mod limits;
pub mod options;
pub mod platform;
pub mod program;
pub mod record;
pub mod serve;
pub mod tls;
pub mod upkeep;
pub mod websocket;

pub use config::{ConfigFile, OptionsError};
pub use file::FileError;
pub use folder::{NodeFolder, NodeInfo};
pub use keys::{KeySet, OnionKeys};
pub use options::{DirectoryOptions, KeygenOptions, NodeOptions, NodeSettings, RecordOptions};
pub use platform::PlatformEntropy;
pub use program::StartError;
pub use record::{RecordTerms, SignError};
pub use upkeep::Upkeep;
