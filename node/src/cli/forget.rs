//! Deleting openings on this node alone.

use clap::Args;
use hashmesh_protocol::content_hash::ContentHash;

use super::table::table;
use super::{Context, Done, confirm};
use crate::api::form::{ForgetAnswer, ForgetRequest, ForgottenAnswer};
use crate::client::Client;

/// Delete a hash on this node alone, because the law that this platform answers to says so.
///
/// Nothing opens what any member has said about it any more, here: it is not matched, exported or handed to peers, and nothing of it is
/// in the store ten seconds later; statements about it that come later are treated likewise. What members have said stays in their
/// logs, every proof holds, and other nodes are not told; auditors are shown that something is not held. A member that wants its own
/// statement deleted everywhere says so: hashmesh erase.
#[derive(Args, Debug)]
pub(super) struct Forget {
    /// The hash.
    #[arg(required_unless_present_any = ["place", "list"], conflicts_with = "place", value_name = "KIND:HEX")]
    hash: Option<ContentHash>,
    /// The hash that the statement at this place is about.
    #[arg(long, value_name = "MEMBER/EPOCH/INDEX")]
    place: Option<String>,
    /// Why, for this platform's own records.
    #[arg(long, value_name = "TEXT", required_unless_present = "list")]
    reason: Option<String>,
    /// Show what is not held here: since when, why, and which statements; no hash.
    #[arg(long, conflicts_with_all = ["hash", "place", "reason"])]
    list: bool,
    /// Without asking on the terminal.
    #[arg(long)]
    yes: bool,
}

impl Forget {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let mut client = Client::admin(&context.folder).await?;
        if self.list {
            return list(context, &mut client).await;
        }
        confirm(self.yes, "This cannot be undone here.", "nothing was deleted")?;
        let hash = self.hash.map(|hash| hash.to_string());
        let request = ForgetRequest { hash, place: self.place, reason: self.reason.unwrap_or_default() };
        let answer: ForgetAnswer = client.post("/v1/forget", &request).await?;
        context.print(&answer, || match (answer.new, answer.statements) {
            (false, 0) => "it was not held here already\n".to_owned(),
            (_, count) => format!("not held here from now on; {count} statements are about it\n"),
        })?;
        Ok(Done::Whole)
    }
}

async fn list(context: &Context, client: &mut Client) -> anyhow::Result<Done> {
    let answer: ForgottenAnswer = client.get("/v1/forget").await?;
    context.print(&answer, || {
        let values = answer.values.iter().map(|value| vec![value.since.clone(), value.reason.clone()]);
        let places = answer.places.iter().map(|place| vec![place.place.clone(), place.since.clone()]);
        let values = table(&["SINCE", "REASON"], &values.collect::<Vec<_>>());
        format!("{values}\n{}", table(&["STATEMENT", "SINCE"], &places.collect::<Vec<_>>()))
    })?;
    Ok(Done::Whole)
}
