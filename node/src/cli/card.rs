//! Cards: looking at them, exchanging working keys, leaving.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use hashmesh_protocol::armor::{self, Document};
use hashmesh_protocol::card::{Application, Card, CardBody, CardDraft, End, MemberKeys};
use hashmesh_protocol::digest::{Digest, NetworkId};
use hashmesh_protocol::key::{PublicKey, SecretKey};
use hashmesh_protocol::names::MemberId;
use serde_json::json;

use super::charter::{agree, card_line, charter_at, governance_key, submit, submit_files, written};
use super::table::table;
use super::{Context, Done, write_out};
use crate::api::form::{EndsAnswer, GovernanceAnswer, StatusAnswer};
use crate::client::Client;
use crate::config::Config;
use crate::documents::Found;
use crate::folder::{read_text, replace, write_new};
use crate::keys;
use crate::making::Making;

/// Look at cards, exchange working keys.
#[derive(Debug, Subcommand)]
pub(super) enum CardCommand {
    /// Verify cards and show what they say.
    Show {
        /// Files; or members, whose cards the running node has. All members if absent.
        #[arg(value_name = "FILE|MEMBER")]
        cards: Vec<String>,
    },
    Rotate(Rotate),
    /// Make a first card for another federation, with the keys of this node: to found one that takes over from this one.
    First {
        /// The governance key; that beside the data folder if absent.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Where to write the card.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Sign a card that was made on another machine with the governance key.
    Sign {
        /// What card rotate or leave have written.
        draft: PathBuf,
        /// The governance key; that beside the data folder if absent.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Where to write the card; MEMBER-NUMBER.card if absent.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Sign without asking on the terminal.
        #[arg(long)]
        yes: bool,
    },
    /// Hand a card to another member's node from anywhere, as a member does whose own node is on no card any more.
    Introduce {
        /// The card, signed.
        card: PathBuf,
        /// Where that node listens for introductions, as in /dns/hashmesh.bolt.example/tcp/4601.
        #[arg(required = true)]
        addresses: Vec<String>,
    },
    /// Hand cards to the running node, which passes them on: any member's node does.
    Submit {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Even if this node's own log then ends before what was signed and is not settled: that is lost.
        #[arg(long)]
        cut: bool,
    },
}

impl CardCommand {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        match self {
            Self::Show { cards } => show(context, &cards).await,
            Self::Rotate(rotate) => rotate.run(context).await,
            Self::First { key, output } => first(context, key.as_ref(), &output).await,
            Self::Sign { draft, key, output, yes } => sign(context, &draft, key.as_ref(), output, yes),
            Self::Introduce { card, addresses } => introduce(context, &card, &addresses).await,
            Self::Submit { files, cut } => submit_files(context, &files, cut).await,
        }
    }
}

async fn show(context: &Context, names: &[String]) -> anyhow::Result<Done> {
    let (files, members): (Vec<_>, Vec<_>) = names.iter().partition(|name| Path::new(name.as_str()).is_file());
    let mut cards = Found::in_files(&files)?.cards;
    if files.is_empty() {
        let mut client = Client::admin(&context.folder).await?;
        let mut wanted = members.iter().map(|name| name.parse()).collect::<Result<Vec<MemberId>, _>>()?;
        if wanted.is_empty() {
            let answer: GovernanceAnswer = client.get("/v1/governance").await?;
            wanted = answer.members.iter().map(|member| member.id.parse()).collect::<Result<_, _>>()?;
        }
        for member in wanted {
            cards.extend(card_line(&mut client, member).await?.pop());
        }
    } else if let Some(name) = members.first() {
        bail!("{name} is no file; members are asked for apart from files");
    }
    if cards.is_empty() {
        bail!("no card in these files");
    }
    let forms: Vec<_> = cards.iter().map(card_form).collect();
    context.print(&forms, || {
        let rows = cards.iter().map(|card| {
            let body = card.body();
            let (name, place) = body.application.as_ref().map_or((String::new(), String::new()), |application| {
                (application.name.clone(), application.jurisdiction.to_string())
            });
            let leaving = if body.leaving { "leaving" } else { "" };
            let (number, epoch) = (body.counter.to_string(), body.epoch.to_string());
            vec![body.member.to_string(), name, place, number, epoch, leaving.to_owned(), card.id().to_string()]
        });
        table(&["MEMBER", "NAME", "JURISDICTION", "NUMBER", "EPOCH", "", "ID"], &rows.collect::<Vec<_>>())
    })?;
    Ok(Done::Whole)
}

fn card_form(card: &Card) -> serde_json::Value {
    let body = card.body();
    let ended = body.ended.iter().map(|end| json!({ "epoch": end.epoch, "size": end.size, "root": end.root }));
    json!({
        "member": body.member, "id": card.id(), "counter": body.counter,
        "name": body.application.as_ref().map(|application| &application.name),
        "jurisdiction": body.application.as_ref().map(|application| application.jurisdiction),
        "governance": body.governance, "log": body.log, "witness": body.witness, "nodes": body.nodes,
        "epoch": body.epoch, "ended": ended.collect::<Vec<_>>(), "evidence": body.evidence, "leaving": body.leaving,
    })
}

/// Hands a card to the first of some nodes that takes it.
async fn introduce(context: &Context, card: &Path, addresses: &[String]) -> anyhow::Result<Done> {
    let found = Found::in_files(&[card])?;
    let [card] = found.cards.as_slice() else { bail!("one card is needed, {} are here", found.cards.len()) };
    let mut last = None;
    for address in addresses {
        match crate::net::introduce(address, card).await {
            Ok(line) => {
                context.print(&json!({ "address": address, "answer": line }), || format!("{line} by {address}\n"))?;
                return Ok(Done::Whole);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| anyhow::anyhow!("no address"), Into::into))
}

/// Makes a first card with the keys that are in use.
async fn first(context: &Context, key: Option<&PathBuf>, output: &PathBuf) -> anyhow::Result<Done> {
    let mut client = Client::admin(&context.folder).await?;
    let (member, _, last) = own_card(context, &mut client).await?;
    let governance: GovernanceAnswer = client.get("/v1/governance").await?;
    let entry = governance.members.into_iter().find(|entry| entry.id == member.as_str());
    let entry = entry.with_context(|| format!("{member} is not a member"))?;
    let held = keys::load(&context.folder)?;
    let of = |wanted: PublicKey| held.signing().find(|key| key.public() == wanted).cloned();
    let (Some(log), Some(witness)) = (of(last.body().log), of(last.body().witness)) else {
        bail!("the keys on the card of {member} are not in this folder");
    };
    let governance = keys::load_one(&governance_key(context, key))?;
    let keys = MemberKeys { governance, log, witness, node: held.node_on(Some(&last)).clone() };
    let application = Application { name: entry.name, jurisdiction: entry.jurisdiction.parse()? };
    let card = Card::first(member, application, &keys)?;
    let then = "The founders of the new federation put their cards together: hashmesh charter new --succeeds.";
    written(context, output, &armor::write(&[Document::Card(Box::new(card))]), "first card", then)
}

/// Exchange working keys of this member. Needs no vote.
///
/// The new keys are made here, beside the old ones (keys/*.next.key); the running node takes them up when the card with them is in
/// force. A new log key is a new log: the old one ends at what is settled. Without --key the card must be signed where the
/// governance key is (hashmesh card sign) and then handed in at any member's node (hashmesh card submit).
#[derive(Args, Debug)]
pub(super) struct Rotate {
    /// The key that signs this member's log.
    #[arg(long)]
    log: bool,
    /// The key that cosigns others' logs.
    #[arg(long)]
    witness: bool,
    /// The identity of this member's node. The old one stays on the card: once the node has taken the new one, which it does as soon as
    /// its peers know the card, take the old one off (--drop-node).
    #[arg(long)]
    node: bool,
    /// Take node keys off the card that this folder does not use any more.
    #[arg(long, conflicts_with = "node")]
    drop_node: bool,
    /// Files of evidence against this log, which the card cites (hashmesh audit export writes them).
    #[arg(long, value_name = "FILE", requires = "log")]
    evidence: Vec<PathBuf>,
    /// Even if what was signed and is not settled is lost with it.
    #[arg(long)]
    cut: bool,
    /// Sign with this governance key and hand the card in at once.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where to write the card to be signed; MEMBER-NUMBER.draft if absent.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Rotate {
    async fn run(self, context: &Context) -> anyhow::Result<Done> {
        if !(self.log || self.witness || self.node || self.drop_node) {
            bail!("say which key: --log, --witness, --node or --drop-node");
        }
        let mut client = Client::admin(&context.folder).await?;
        let (_, network, last) = own_card(context, &mut client).await?;
        let mut body = next(&mut client, &last, network).await?;
        promote_those_in_force(context, &last)?;
        let (mut making, mut new) = (Making::default(), Vec::new());
        if self.log {
            let lost = " if they are to be lost (those of a log that has signed two histories never are settled)";
            let end = own_end(&mut client, &last, self.cut, lost).await?;
            let key = keys::create_next(&context.folder, "log", &mut making)?;
            (body.epoch, body.log) = (last.body().epoch + 1, key.public());
            body.ended.push(end);
            body.evidence = cited(&self.evidence)?;
            new.push(key);
        }
        if self.witness {
            let key = keys::create_next(&context.folder, "witness", &mut making)?;
            body.witness = key.public();
            new.push(key);
        }
        if self.node {
            let key = keys::create_next(&context.folder, "node", &mut making)?;
            body.nodes.push(key.public());
            body.nodes.sort();
            body.nodes.dedup();
            new.push(key);
        }
        if self.drop_node {
            let used = keys::load(&context.folder)?.node_on(Some(&last)).public();
            body.nodes.retain(|node| *node == used);
        }
        // They stay whatever becomes of the card: it may be in force although no answer came back.
        making.finish();
        finish(context, &body, &new, self.key.as_ref(), self.output, self.cut).await
    }
}

/// Leave the federation. Needs no vote: from then on this member says nothing more.
///
/// What it said stays, and counts as each platform's policy wants. A charter later says that it has left; until then it counts among
/// those who must sign.
#[derive(Args, Debug)]
pub(super) struct Leave {
    /// Sign with this governance key and hand the card in at once.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where to write the card to be signed; MEMBER-NUMBER.draft if absent.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Even if what was signed and is not settled is lost with it.
    #[arg(long)]
    cut: bool,
    /// That this is meant: nobody comes back under the same id.
    #[arg(long)]
    for_good: bool,
}

impl Leave {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        if !self.for_good {
            bail!("who leaves does not come back under the same id; say --for-good");
        }
        let mut client = Client::admin(&context.folder).await?;
        let (_, network, last) = own_card(context, &mut client).await?;
        let end = own_end(&mut client, &last, self.cut, "").await?;
        let mut body = next(&mut client, &last, network).await?;
        body.leaving = true;
        body.ended.push(end);
        finish(context, &body, &[], self.key.as_ref(), self.output, self.cut).await
    }
}

/// The next card of a member, if nothing changes; under the governance key that the charter has for it by now.
async fn next(client: &mut Client, last: &Card, network: NetworkId) -> anyhow::Result<CardBody> {
    let tip = charter_at(client, "tip").await?;
    let mut body = last.successor(network);
    let entry = tip.member(body.member).with_context(|| format!("{} is not a member", body.member))?;
    body.governance = entry.governance;
    Ok(body)
}

/// This member, the federation, and its card in force.
async fn own_card(context: &Context, client: &mut Client) -> anyhow::Result<(MemberId, NetworkId, Card)> {
    let path = context.folder.config();
    let member = Config::load(&path)?.speaker(&path)?;
    let status: StatusAnswer = client.get("/v1/status").await?;
    let line = card_line(client, member).await?;
    let last = line.into_iter().last().with_context(|| format!("no card of {member} is in force"))?;
    Ok((member, status.federation.network.parse()?, last))
}

/// Where the log that is being written would end now. What is not settled is lost with it, which `cut` must allow; `when` says in the
/// refusal when that is right.
async fn own_end(client: &mut Client, last: &Card, cut: bool, when: &str) -> anyhow::Result<End> {
    let (member, epoch) = (last.body().member, last.body().epoch);
    let ends: EndsAnswer = client.get(&format!("/v1/ends/{member}")).await?;
    let end = ends.ends.iter().find(|end| end.epoch == epoch);
    let end = end.with_context(|| format!("log {epoch} of {member} is not here"))?;
    if end.held > end.size && !cut {
        let unsettled = end.held - end.size;
        bail!("{unsettled} statements are not settled yet; try again in a moment, or with --cut{when}");
    }
    Ok(end.parse()?)
}

/// Keys of an earlier rotation that are in force by now take their place.
fn promote_those_in_force(context: &Context, last: &Card) -> anyhow::Result<()> {
    let (next, body) = (keys::load(&context.folder)?.next, last.body());
    let is = |key: &Option<SecretKey>, known: &dyn Fn(&SecretKey) -> bool| key.as_ref().is_some_and(known);
    for (role, in_force) in [
        ("log", is(&next.log, &|key| key.public() == body.log)),
        ("witness", is(&next.witness, &|key| key.public() == body.witness)),
        ("node", is(&next.node, &|key| body.nodes.contains(&key.public()))),
    ] {
        if in_force {
            keys::promote(&context.folder, role)?;
        }
    }
    Ok(())
}

fn cited(files: &[PathBuf]) -> anyhow::Result<Vec<Digest>> {
    let mut cited = Vec::new();
    for file in files {
        let text = read_text(file, armor::MAX_EVIDENCE_FILE as u64)?;
        let bytes = armor::read_evidence(&text).with_context(|| file.display().to_string())?;
        cited.push(Digest::of(&[&bytes]));
    }
    cited.sort();
    cited.dedup();
    Ok(cited)
}

/// Signs and hands in, or writes what is to be signed elsewhere.
async fn finish(
    context: &Context,
    body: &CardBody,
    new: &[SecretKey],
    key: Option<&PathBuf>,
    output: Option<PathBuf>,
    cut: bool,
) -> anyhow::Result<Done> {
    let draft = CardDraft::sign(body, new)?;
    if let Some(path) = key {
        let card = draft.complete(&keys::load_one(path)?)?;
        keep(context, &card)?;
        return submit(context, armor::write(&[Document::Card(Box::new(card))]), cut).await;
    }
    let output = output.unwrap_or_else(|| PathBuf::from(format!("{}-{}.draft", body.member, body.counter)));
    let text = armor::write(&[Document::Draft(Box::new(draft))]);
    let then =
        "Sign it where the governance key is (hashmesh card sign FILE), and hand the card in (hashmesh card submit).";
    written(context, &output, &text, "card to be signed", then)
}

/// The member's card in its folder is the newest one.
fn keep(context: &Context, card: &Card) -> anyhow::Result<()> {
    let path = context.folder.root().join(format!("{}.card", card.body().member));
    replace(&path, armor::write(&[Document::Card(Box::new(card.clone()))]).as_bytes())
        .with_context(|| path.display().to_string())
}

/// What somebody signs with a card, line by line.
fn says(body: &CardBody) -> String {
    let mut text = format!("card {} of {}\n", body.counter, body.member);
    if body.leaving {
        text += "  LEAVES the federation for good\n";
    }
    for end in &body.ended {
        text += &format!("  log {} ends after {} leaves, root {}\n", end.epoch, end.size, end.root);
    }
    text += &format!("  log {} is signed with {}\n  cosigns with {}\n", body.epoch, body.log, body.witness);
    text + &body.nodes.iter().map(|node| format!("  node {node}\n")).collect::<String>()
}

fn sign(
    context: &Context,
    draft: &Path,
    key: Option<&PathBuf>,
    output: Option<PathBuf>,
    yes: bool,
) -> anyhow::Result<Done> {
    let found = Found::in_files(&[draft])?;
    let [draft] = found.drafts.as_slice() else {
        bail!("one card to be signed is needed, {} are here", found.drafts.len())
    };
    let card = draft.complete(&keys::load_one(&governance_key(context, key))?)?;
    if !context.json {
        write_out(&says(card.body()))?;
    }
    agree(yes)?;
    let (member, number) = (card.body().member, card.body().counter);
    let output = output.unwrap_or_else(|| PathBuf::from(format!("{member}-{number}.card")));
    write_new(&output, 0o644, armor::write(&[Document::Card(Box::new(card.clone()))]).as_bytes())?;
    context.print(&card_form(&card), || {
        format!(
            "card {number} of {member}: {}\nHand it in at any member's node: hashmesh card submit FILE\n",
            output.display()
        )
    })?;
    Ok(Done::Whole)
}
