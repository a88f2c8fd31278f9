//! A federation that has lost its quorum, and the one that takes over from it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use hashmesh_protocol::charter::{Charter, OldEnd, Succeeds};
use hashmesh_protocol::digest::NetworkId;
use serde_json::json;

use super::charter::charter_at;
use super::{Context, Done, complain};
use crate::api::form::{EndsAnswer, GovernanceAnswer, PublishAnswer, StatementForm, StatementsRequest};
use crate::client::Client;
use crate::config::Config;
use crate::documents::{Found, write_genesis};
use crate::folder::at;
use crate::governance::in_folder;
use crate::keys;
use crate::refounding;

/// Statements that are said again at a time.
const AT_ONCE: usize = 1000;

/// What a new federation takes over from the one that the running node is in: of each log what is settled. And its charter.
pub(super) async fn succeeds(context: &Context) -> anyhow::Result<(Succeeds, Charter)> {
    let mut client = Client::admin(&context.folder).await?;
    let old: GovernanceAnswer = client.get("/v1/governance").await?;
    let mut ends = Vec::new();
    for member in old.members.iter().chain(&old.departed) {
        let answer: EndsAnswer = client.get(&format!("/v1/ends/{}", member.id)).await?;
        for end in answer.ends {
            ends.push(OldEnd { member: member.id.parse()?, end: end.parse()? });
        }
    }
    ends.sort_by_key(|old| (old.member, old.end.epoch));
    let tip = charter_at(&mut client, "tip").await?;
    Ok((Succeeds { network: old.network.parse()?, charter: tip.id(), ends }, tip))
}

/// Go over to a federation that takes over from this one, which has lost its quorum.
///
/// Nothing decides this but you: the old federation cannot any more. The node must not run. What belongs to the old federation is set
/// aside, in a folder of its own, and stays verifiable; what this member's list was up to where the new charter says is then said again in
/// the new one (hashmesh run, hashmesh carry).
#[derive(Args, Debug)]
pub(super) struct Adopt {
    /// The first charter of the new federation, with all signatures and cards.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The id of the new federation, typed by a person who has compared it with the others: 64 hex digits.
    #[arg(long, value_name = "ID")]
    network: NetworkId,
}

impl Adopt {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        let folder = &context.folder;
        let path = folder.config();
        let member = Config::load(&path)?.speaker(&path)?;
        let new = Found::in_files(&self.files)?.genesis()?;
        let network = new.charter().network();
        ensure!(network == self.network, "these files are of network {network}, not of {}", self.network);
        let old = in_folder(folder)?;
        let before = old.governance.tip().network();
        let Some(succeeds) = &new.charter().body().succeeds else {
            bail!("this charter takes over from no federation")
        };
        ensure!(
            succeeds.network == before,
            "this charter takes over from network {}, and this node is in {before}",
            succeeds.network
        );
        let Some(card) = new.cards().get(&member) else { bail!("{member} is no founder of it") };
        if keys::load(folder)?.missing_on(card).is_some() {
            bail!("the card of {member} in these files has other keys than this folder");
        }
        let list = refounding::own_list(folder, &old, member, succeeds)?;
        let aside = refounding::adopt(folder, &old, &write_genesis(&new), &list)?;
        let form = json!({ "network": network, "aside": aside, "statements": list.len() });
        context.print(&form, || {
            format!(
                "{member} is in network {network} now\nwhat is the old federation's: {}\n{} statements are to be said again: hashmesh run, then \
                 hashmesh carry\n",
                aside.display(),
                list.len()
            )
        })?;
        Ok(Done::Whole)
    }
}

/// Say again in the new federation what this member's list was in the old one. Can be repeated: what is said already is not said twice.
pub(super) async fn carry(context: &Context) -> anyhow::Result<Done> {
    let path = refounding::carried(&context.folder);
    if !path.exists() {
        bail!("{} is missing: nothing is to be said again", path.display());
    }
    let text = fs::read_to_string(&path).map_err(|error| at(&path, error))?;
    let list = text.lines().map(serde_json::from_str).collect::<Result<Vec<StatementForm>, _>>();
    let list = list.with_context(|| path.display().to_string())?;
    let mut client = Client::admin(&context.folder).await?;
    let (mut said, mut refused) = (0, Vec::new());
    for statements in list.chunks(AT_ONCE) {
        let request = StatementsRequest { statements: statements.to_vec(), wait: None };
        let answer: PublishAnswer = client.post("/v1/statements", &request).await?;
        said += answer.added + answer.known;
        let errors = answer.results.iter().filter_map(|result| Some((result.item, result.error.clone()?)));
        refused.extend(errors.map(|(item, error)| (statements[item].clone(), error)));
    }
    let left: String = refused
        .iter()
        .map(|(statement, _)| serde_json::to_string(statement).map(|line| line + "\n"))
        .collect::<Result<_, _>>()?;
    if refused.is_empty() {
        fs::remove_file(&path).map_err(|error| at(&path, error))?;
    } else {
        crate::folder::replace(&path, left.as_bytes()).map_err(|error| at(&path, error))?;
        for (_, error) in &refused {
            complain(format_args!("hashmesh: {error}"));
        }
    }
    context.print(&json!({ "said": said, "refused": refused.len() }), || {
        format!("{said} statements said again, {} refused\n", refused.len())
    })?;
    Ok(if refused.is_empty() { Done::Whole } else { Done::Part })
}
