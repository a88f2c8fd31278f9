//! Looking at charters, in files and at the running node.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use hashmesh_protocol::charter::{Charter, differences};
use hashmesh_protocol::digest::CharterId;
use hashmesh_protocol::names::MemberId;
use serde_json::json;

use super::super::table::table;
use super::super::{Context, Done};
use super::written;
use crate::api::form::{GovernanceAnswer, ProposalForm, RECENT, TextAnswer, TextRequest};
use crate::client::Client;
use crate::documents::Found;

/// A charter that the running node holds, by its id; the one in force is `tip`.
pub(in super::super) async fn charter_at(client: &mut Client, id: impl Display) -> anyhow::Result<Charter> {
    let answer: TextAnswer = client.get(&format!("/v1/charter/{id}")).await?;
    Ok(Found::in_text(&answer.text)?.charter()?.clone())
}

/// One of the running node's proposals, by its id or the beginning of it, with everything that a governance key needs to know.
pub(super) async fn proposal(client: &mut Client, held: &[ProposalForm], id: &str) -> anyhow::Result<String> {
    if id.is_empty() {
        bail!("the beginning of a proposal's id is needed; hashmesh charter pending shows all");
    }
    let alike: Vec<_> = held.iter().filter(|proposal| proposal.id.starts_with(id)).collect();
    let [proposal] = alike.as_slice() else { bail!("{} proposals have an id that begins with {id:?}", alike.len()) };
    let request = TextRequest { charter: Some(proposal.id.clone()), text: None };
    let answer: TextAnswer = client.post("/v1/proposal", &request).await?;
    Ok(answer.text)
}

/// Show what is proposed: what it changes, who has signed, what is missing.
#[derive(Args, Debug)]
pub(in super::super) struct Pending {
    /// One proposal, by its id or the beginning of it.
    id: Option<String>,
    /// Write it to a file, with everything that a governance key on another machine needs to know.
    #[arg(long, short, value_name = "FILE", requires = "id")]
    output: Option<PathBuf>,
}

impl Pending {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let mut client = Client::admin(&context.folder).await?;
        let answer: GovernanceAnswer = client.get("/v1/governance").await?;
        let wanted = |proposal: &&ProposalForm| match &self.id {
            Some(id) => proposal.id.starts_with(id.as_str()),
            None => proposal.follows,
        };
        let proposals: Vec<_> = answer.proposals.iter().filter(wanted).collect();
        if let (Some(id), []) = (&self.id, proposals.as_slice()) {
            bail!("no proposal has an id that begins with {id:?}; hashmesh charter pending shows all");
        }
        if let (Some(id), Some(output)) = (&self.id, &self.output) {
            let text = proposal(&mut client, &answer.proposals, id).await?;
            let then = "Sign it where the governance key is (hashmesh charter sign FILE), and hand the signature in (charter submit).";
            return written(context, output, &text, "proposal", then);
        }
        context.print(&proposals, || match proposals.as_slice() {
            [] => "nothing is proposed\n".to_owned(),
            proposals => proposals.iter().map(|proposal| pending(proposal)).collect::<Vec<_>>().join("\n"),
        })?;
        Ok(Done::Whole)
    }
}

fn pending(proposal: &ProposalForm) -> String {
    let lines: String = proposal.changes.iter().map(|change| format!("  {change}\n")).collect();
    let list = |names: &[String]| if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
    let mut waits = Vec::new();
    if proposal.votes.len() < proposal.needed {
        let missing = proposal.needed - proposal.votes.len();
        waits.push(format!("{missing} of {} votes are missing", proposal.needed));
    }
    if !proposal.no_consent.is_empty() {
        waits.push(format!("the new governance key of {} has not signed", list(&proposal.no_consent)));
    }
    if !proposal.cards_missing.is_empty() {
        waits.push(format!("the card of {} is not here, or does not fit", list(&proposal.cards_missing)));
    }
    if !proposal.follows {
        waits.push("it does not follow the charter in force".to_owned());
    }
    if !proposal.withdrawn.is_empty() {
        waits.push(format!("{} asks not to sign it", list(&proposal.withdrawn)));
    }
    let waits = if waits.is_empty() { "nothing: another one was adopted".to_owned() } else { waits.join("; ") };
    let note = if proposal.note.is_empty() { String::new() } else { format!("  \"{}\"\n", proposal.note) };
    format!(
        "{id}\n  version {}, attempt {}\n{note}{lines}  signed by: {}\n  waits for: {waits}\n",
        proposal.version,
        proposal.attempt,
        list(&proposal.votes),
        id = proposal.id,
    )
}

/// Shows a charter of some files, or the one in force.
pub(super) async fn show(context: &Context, files: &[PathBuf]) -> anyhow::Result<Done> {
    let found = if files.is_empty() {
        let mut client = Client::admin(&context.folder).await?;
        let answer: TextAnswer = client.get("/v1/charter/tip").await?;
        Found::in_text(&answer.text)?
    } else {
        Found::in_files(files)?
    };
    let charter = match found.proposals.as_slice() {
        [proposal] if found.charters.is_empty() => proposal.proposed(),
        _ => found.charter()?,
    };
    let body = charter.body();
    // Whose signatures count on a later version the version before says; the node has judged that.
    let mut signed: Vec<MemberId> = Vec::new();
    for approval in found.approvals.iter().filter(|approval| approval.charter == charter.id()) {
        if body.version == 0 {
            charter.verify_approval(approval)?;
        }
        signed.push(approval.member);
    }
    signed.sort();
    signed.dedup();
    let missing: Vec<_> = body.members.iter().map(|member| member.id).filter(|id| !signed.contains(id)).collect();
    let members = body.members.iter().map(|member| {
        json!({
            "id": member.id, "name": member.name, "jurisdiction": member.jurisdiction,
            "governance": member.governance, "card": member.card,
        })
    });
    let departed =
        body.departed.iter().map(|gone| json!({ "id": gone.id, "name": gone.name, "kind": gone.kind.name() }));
    let labels = body.labels.iter().map(|label| {
        json!({
            "code": label.code, "name": label.name, "description": label.description,
            "retention_days": label.retention_days,
        })
    });
    let form = json!({
        "id": charter.id(), "network": charter.network(), "version": body.version, "federation": body.federation,
        "note": body.note, "succeeds": body.succeeds.as_ref().map(|old| json!({
            "network": old.network, "charter": old.charter,
            "ends": old.ends.iter().map(|old| json!({
                "log": format!("{}/{}", old.member, old.end.epoch), "size": old.end.size, "root": old.end.root,
            })).collect::<Vec<_>>(),
        })),
        "members": members.collect::<Vec<_>>(), "departed": departed.collect::<Vec<_>>(),
        "labels": labels.collect::<Vec<_>>(),
        "witnesses": body.witnesses.members, "witness_quorum": body.witnesses.quorum,
        "threshold": [body.threshold.numerator, body.threshold.denominator],
        "limits": body.parameters.entries().into_iter().collect::<BTreeMap<_, _>>(),
        "signed": signed, "missing": missing,
    });
    context.print(&form, || {
        let names = |ids: &[MemberId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let missing = match (body.version, missing.as_slice()) {
            (0, []) => "missing:   nobody\n".to_owned(),
            (0, missing) => format!("missing:   {}\n", names(missing)),
            _ => String::new(),
        };
        format!("{}\nsigned by: {}\n{missing}", describe(charter), names(&signed))
    })?;
    Ok(Done::Whole)
}

/// A charter for people.
pub(super) fn describe(charter: &Charter) -> String {
    let body = charter.body();
    let members: Vec<_> = body
        .members
        .iter()
        .map(|m| vec![m.id.to_string(), m.name.clone(), m.jurisdiction.to_string(), m.governance.to_string()])
        .collect();
    let departed: Vec<_> = body
        .departed
        .iter()
        .map(|gone| vec![gone.id.to_string(), gone.name.clone(), gone.kind.name().to_owned()])
        .collect();
    let departed = match departed.as_slice() {
        [] => String::new(),
        departed => format!("{}\n", table(&["FORMER MEMBER", "NAME", "HOW"], departed)),
    };
    let labels: Vec<_> = body
        .labels
        .iter()
        .map(|label| {
            let kept = label.retention_days.map_or("for ever".to_owned(), |days| format!("{days} days"));
            vec![label.code.to_string(), label.name.clone(), kept, label.description.clone()]
        })
        .collect();
    let limits: Vec<_> =
        body.parameters.entries().into_iter().map(|(name, value)| vec![name.to_owned(), value.to_string()]).collect();
    let note = if body.note.is_empty() { String::new() } else { format!("\"{}\"\n", body.note) };
    let note = match &body.succeeds {
        Some(old) => {
            let ends =
                old.ends.iter().map(|old| format!("  {}/{} up to {}\n", old.member, old.end.epoch, old.end.size));
            let ends: String = ends.collect();
            format!("{note}takes over from network {}, charter {}\n{ends}", old.network, old.charter)
        }
        None => note,
    };
    format!(
        "charter {id}\nfederation {federation}, version {version}\n{note}\n{members}\n{departed}{labels}\n\
         witnesses: {witnesses}; {quorum} of the others settle a checkpoint\n\
         next version: {threshold} of {count} members must sign\n\n{limits}",
        id = charter.id(),
        federation = body.federation,
        version = body.version,
        members = table(&["MEMBER", "NAME", "JURISDICTION", "GOVERNANCE KEY"], &members),
        labels = table(&["CODE", "LABEL", "IN FORCE", "MEANING"], &labels),
        witnesses = body.witnesses.members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        quorum = body.witnesses.quorum,
        threshold = charter.threshold(),
        count = body.members.len(),
        limits = table(&["LIMIT", "VALUE (times in ms)"], &limits),
    )
}

/// Shows the charters that were in force.
pub(super) async fn log(context: &Context) -> anyhow::Result<Done> {
    let mut client = Client::admin(&context.folder).await?;
    let answer: GovernanceAnswer = client.get("/v1/governance").await?;
    context.print(&answer.versions, || {
        let version = |version: &crate::api::form::VersionForm| {
            let changes: String = version.changes.iter().map(|change| format!("  {change}\n")).collect();
            let note = if version.note.is_empty() { String::new() } else { format!("  \"{}\"\n", version.note) };
            format!("{} {}\n{note}{changes}  signed by: {}\n", version.version, version.id, version.signed.join(", "))
        };
        let provisional = if answer.provisional {
            "The last one has no successor yet: a better one with the same parent would still take its place.\n"
        } else {
            ""
        };
        answer.versions.iter().map(version).collect::<Vec<_>>().join("\n") + provisional
    })?;
    Ok(Done::Whole)
}

/// Show what one charter says differently from another.
#[derive(Args, Debug)]
pub(in super::super) struct Diff {
    /// A charter or proposal: a file, or the id of one that the running node holds.
    from: String,
    /// The other one. Absent: the first is compared with what it follows.
    to: Option<String>,
}

impl Diff {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let (from, to) = match &self.to {
            Some(to) => (find(context, &self.from).await?.1, find(context, to).await?.1),
            None => match find(context, &self.from).await? {
                (Some(parent), charter) => (parent, charter),
                (None, charter) => {
                    let Some(parent) = charter.body().previous else { bail!("version 0 follows nothing") };
                    (find(context, &parent.to_string()).await?.1, charter)
                }
            },
        };
        let changes: Vec<_> = differences(&from, &to).iter().map(ToString::to_string).collect();
        let form = json!({ "from": from.id(), "to": to.id(), "changes": changes });
        context.print(&form, || match changes.as_slice() {
            [] => "no difference\n".to_owned(),
            changes => changes.iter().map(|change| format!("{change}\n")).collect(),
        })?;
        Ok(Done::Whole)
    }
}

/// A charter, and what it follows if that is known with it.
async fn find(context: &Context, name: &str) -> anyhow::Result<(Option<Charter>, Charter)> {
    if name.parse::<CharterId>().is_ok() {
        let mut client = Client::admin(&context.folder).await?;
        return Ok((None, charter_at(&mut client, name).await?));
    }
    let found = Found::in_files(&[name])?;
    match found.proposals.as_slice() {
        [proposal] if found.charters.is_empty() => Ok((Some(proposal.parent().clone()), proposal.proposed().clone())),
        _ => Ok((None, found.charter()?.clone())),
    }
}

/// Shows who uses its governance key.
pub(super) async fn health(context: &Context) -> anyhow::Result<Done> {
    let mut client = Client::admin(&context.folder).await?;
    let answer: GovernanceAnswer = client.get("/v1/governance").await?;
    let form = json!({
        "version": answer.version, "threshold": answer.threshold, "margin": answer.margin,
        "voted": answer.members.iter().map(|member| (&member.id, member.voted)).collect::<BTreeMap<_, _>>(),
        "double_votes": answer.double_votes, "conflict": answer.conflict,
        "disputed": answer.members.iter().filter(|member| !member.rivals.is_empty()).map(|m| (&m.id, &m.rivals)).collect::<BTreeMap<_, _>>(),
    });
    context.print(&form, || {
        let rows = answer.members.iter().map(|member| {
            let voted = member.voted.map_or("never".to_owned(), |version| format!("version {version}"));
            let standing = member.standing.clone().unwrap_or_else(|| "its card is not here".to_owned());
            let rivals = match member.rivals.as_slice() {
                [] => String::new(),
                rivals => format!("a charter must name one of its cards {}", rivals.join(" and ")),
            };
            vec![member.id.clone(), standing, voted, rivals]
        });
        let margin = match answer.margin {
            Some(0) => "just enough".to_owned(),
            Some(margin) => format!("{margin} more than needed"),
            None => "fewer than needed: nobody knows whether the next version can still be signed".to_owned(),
        };
        let conflict = answer.conflict.as_ref().map_or(String::new(), |conflict| {
            format!(
                "charter_conflict from version {} on: {} here, {} elsewhere (hashmesh charter choose)\n",
                conflict.version, conflict.ours, conflict.theirs
            )
        });
        let double = answer.double_votes.iter().map(|member| format!("{member} has voted twice\n")).collect::<String>();
        format!(
            "{}version {}; {} of {} must sign the next one\nsigned one of the last {RECENT}: {margin}\n{double}{conflict}",
            table(&["MEMBER", "STANDING", "LAST SIGNED", ""], &rows.collect::<Vec<_>>()),
            answer.version,
            answer.threshold,
            answer.members.len(),
        )
    })?;
    Ok(Done::Whole)
}
