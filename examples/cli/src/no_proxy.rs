//! Commands that connect directly: where a proxy is set they do nothing, for whoever set it wants no way beside it.

use crate::output::Usage;

/// The proxy that is not used.
#[derive(clap::Args)]
pub struct NoProxy {
    /// Not used here, and so refused.
    #[arg(long, env = "DELTA_PROXY", hide = true, hide_env_values = true)]
    proxy: Option<String>,
}

impl NoProxy {
    /// Fails where one is set. `what`: what would be asked for directly.
    pub fn refuse(&self, what: &str) -> Result<(), Usage> {
        match self.proxy {
            Some(_) => Err(Usage(format!("{what} directly, not through --proxy (DELTA_PROXY)"))),
            None => Ok(()),
        }
    }
}
