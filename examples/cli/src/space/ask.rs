//! Asking to be added to a space, and who asks.

use delta_core::identity::LogId;
use delta_core::ops::Contact;
use serde_json::json;

use super::{At, AtSpace, close, print};
use crate::device::Base;
use crate::output::Output;
use crate::text::plain;

/// To whom it goes, and for which space.
#[derive(clap::Args)]
pub struct AskToJoin {
    #[command(flatten)]
    base: Base,
    /// The space's id, as a manager gave it.
    #[arg(long, value_name = "ID")]
    space: LogId,
    /// The contact of a manager's device (`delta dm contact`).
    #[arg(value_name = "CONTACT")]
    manager: Contact,
    /// What the manager is told, at most 2048 bytes.
    #[arg(long)]
    text: Option<String>,
    /// Seconds to wait for the server.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// Asks a manager's device to be added.
pub async fn ask(options: &AskToJoin, output: &Output) -> anyhow::Result<()> {
    let AskToJoin { base, space, manager, text, timeout } = options;
    let client = base.open(output).await?;
    let done = async {
        let id = client.request_join(*space, manager, text.clone()).await?;
        let at = At { client: &client, online: base.has_network(), output, timeout: *timeout };
        at.hand_over().await?;
        output.note("asked; `delta space show` shows the space here once a manager has added you");
        print(output, &format!("request {id}"), json!({ "request": id.to_string() }))
    };
    close(&client, done.await).await
}

impl AtSpace<'_> {
    /// Who asked this device to be added, and was not yet.
    pub(super) async fn requests(&self) -> anyhow::Result<()> {
        self.at.catch_up(self.topic).await?;
        let space = self.space;
        let me = self.at.client.author();
        let rows = self.at.client.read(move |reader| {
            let rows = reader.requests(&space)?.into_iter();
            let rows = rows.filter(|row| row.claim.is_none() && row.author != me);
            rows.map(|row| Ok((reader.identity_of(&row.author)?, row))).collect::<Result<Vec<_>, _>>()
        });
        let rows = rows.await?;
        if rows.is_empty() {
            self.at.output.note("nobody asks to be added");
        }
        rows.into_iter().try_for_each(|(member, row)| {
            let text = row.text.as_deref().map(plain).unwrap_or_default();
            let value =
                json!({ "request": row.id.to_string(), "member": member.to_string(), "text": row.text });
            print(self.at.output, &format!("{member}  {text}"), value)
        })
    }
}
