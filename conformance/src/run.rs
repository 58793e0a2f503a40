//! Runs the checks against one server, several at a time, each within a bound of time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::checks::{self, Check};
use crate::failure::{Checked, Failure};
use crate::report::{Outcome, Report};
use crate::target::{Settings, Target};

/// Longest time one check may take; the slowest waits 30 s on purpose.
const BOUND: Duration = Duration::from_secs(120);

/// What to run, against what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server's base URL.
    pub url: String,
    /// What it was started with.
    pub settings: Settings,
    /// Only checks whose name contains this.
    pub filter: Option<String>,
    /// Checks that run at once.
    pub jobs: usize,
}

/// Runs the suite. Fails when the server does not say who it is: no check can run then.
pub async fn run(options: &Options) -> Checked<Report> {
    let target = Arc::new(Target::discover(&options.url, options.settings).await?);
    let permits = Arc::new(Semaphore::new(options.jobs.max(1)));
    let filter = options.filter.as_deref().unwrap_or_default();
    let mut running = Vec::new();
    for check in checks::all().into_iter().filter(|check| check.name.contains(filter)) {
        let (target, permits) = (Arc::clone(&target), Arc::clone(&permits));
        running.push((check, tokio::spawn(async move { one(check, target, &permits).await })));
    }
    let mut rows = Vec::new();
    for (check, task) in running {
        let outcome = task.await.unwrap_or_else(|error| {
            Outcome::Failed(Failure::new("the check itself", "an outcome", error.to_string()))
        });
        rows.push((check, outcome));
    }
    Ok(Report { server: described(&options.url, target.settings), rows })
}

async fn one(check: Check, target: Arc<Target>, permits: &Semaphore) -> Outcome {
    if let Some(why) = check.when.against(target.settings) {
        return Outcome::NotApplicable(why);
    }
    let _permit = permits.acquire().await;
    match tokio::time::timeout(BOUND, (check.run)(target)).await {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(failure)) => Outcome::Failed(failure),
        Err(_) => Outcome::Failed(Failure::new("the check", "an end", format!("none within {BOUND:?}"))),
    }
}

fn described(url: &str, settings: Settings) -> String {
    let Settings { accept_v2, accept_direct_publish, read_proof, ops_per_topic } = settings;
    let mut flags = Vec::new();
    if accept_v2 {
        flags.push("accept-v2".to_owned());
    }
    if accept_direct_publish {
        flags.push("accept-direct-publish".to_owned());
    }
    if read_proof {
        flags.push("read-proof".to_owned());
    }
    if let Some(count) = ops_per_topic {
        flags.push(format!("ops-per-topic {count}"));
    }
    let flags = if flags.is_empty() { "default settings".to_owned() } else { flags.join(", ") };
    format!("{url} ({flags})")
}
