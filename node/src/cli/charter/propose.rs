//! Drawing up the next charter.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use hashmesh_protocol::armor::{self, Document};
use hashmesh_protocol::card::Card;
use hashmesh_protocol::charter::{Charter, CharterBody, Departed, Departure, Member, Ratio, Witnesses, differences};
use hashmesh_protocol::digest::CardId;
use hashmesh_protocol::key::PublicKey;
use hashmesh_protocol::names::{Jurisdiction, MemberId};
use serde_json::json;

use super::super::founding::{read_labels, set_limits};
use super::super::{Context, Done, write_out};
use super::sign::vote_at_once;
use super::view::charter_at;
use crate::api::form::{EndForm, EndsAnswer, TextAnswer, TextRequest};
use crate::client::Client;
use crate::config::node_key;
use crate::documents::Found;
use crate::folder::write_new;
use crate::keys;

/// Draw up the next charter, by what is to change.
///
/// Writes a proposal, to be signed by the members (hashmesh charter sign) and handed in (hashmesh charter submit). With --key it is
/// signed and handed in at once. One version changes little: one member in ten may join, one in three may go; a change of the
/// threshold stands alone.
#[derive(Args, Debug)]
pub(in super::super) struct Propose {
    /// Admit the member whose first card this is. It must sign the charter too.
    #[arg(long, value_name = "CARD")]
    admit: Vec<PathBuf>,
    /// Expel a member. Its logs end at what is settled.
    #[arg(long, value_name = "MEMBER", requires = "reason")]
    expel: Vec<MemberId>,
    /// Close a member whose keys are stolen or lost: what it said up to what is settled was its own.
    #[arg(long, value_name = "MEMBER", requires = "reason")]
    resolve: Vec<MemberId>,
    /// Say that a member has left, which its card says (hashmesh leave).
    #[arg(long, value_name = "MEMBER")]
    release: Vec<MemberId>,
    /// Why, in one line, for everybody to read.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// More than this share of the members must sign a charter, as in 2/3.
    #[arg(long, value_name = "N/D", value_parser = ratio)]
    threshold: Option<Ratio>,
    /// The vocabulary from now on: a TOML file as for charter new. Labels that are there keep code and name.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Limits that are to change: a TOML file as for charter new.
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    /// Replace a member's governance key, which is lost or stolen. The new key must sign too.
    #[arg(long, value_name = "MEMBER=KEY", value_parser = assigned::<MemberId>)]
    new_key: Vec<(MemberId, String)>,
    /// Say which of a member's cards holds, of two with one number.
    #[arg(long, value_name = "MEMBER=ID", value_parser = assigned::<MemberId>)]
    card: Vec<(MemberId, String)>,
    /// A member answers to the law elsewhere.
    #[arg(long, value_name = "MEMBER=XX", value_parser = assigned::<MemberId>)]
    jurisdiction: Vec<(MemberId, String)>,
    /// The witnesses from now on, all of them; else whoever joins is one, and whoever goes is none any more.
    #[arg(long, value_name = "MEMBER", num_args = 1..)]
    witnesses: Vec<MemberId>,
    /// How many cosignatures settle a checkpoint; if absent, and the witnesses change, more than two thirds of the others'.
    #[arg(long, value_name = "K")]
    quorum: Option<u16>,
    /// Above 0 only where a proposal of the attempt before it hangs.
    #[arg(long, default_value_t = 0)]
    attempt: u16,
    /// Where to write the proposal; VERSION-ATTEMPT.proposal if absent.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Sign it with this governance key and hand it in at once.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Sign without asking on the terminal.
    #[arg(long, requires = "key")]
    yes: bool,
}

fn ratio(text: &str) -> Result<Ratio, String> {
    let parts = text.split_once('/').and_then(|(n, d)| Some((n.parse().ok()?, d.parse().ok()?)));
    let (numerator, denominator) = parts.ok_or("a share is written as in 2/3")?;
    Ok(Ratio { numerator, denominator })
}

fn assigned<T: std::str::FromStr>(text: &str) -> Result<(T, String), String>
where
    T::Err: std::fmt::Display,
{
    let (name, value) = text.split_once('=').ok_or("written as in MEMBER=VALUE")?;
    Ok((name.parse().map_err(|error: T::Err| error.to_string())?, value.to_owned()))
}

impl Propose {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let mut client = Client::admin(&context.folder).await?;
        let tip = charter_at(&mut client, "tip").await?;
        let mut body = tip.successor();
        let mut cards = Vec::new();
        self.change_members(&mut client, &tip, &mut body, &mut cards).await?;
        self.change_rules(&mut body)?;
        self.change_witnesses(&tip, &mut body);
        body.attempt = self.attempt;
        body.note = self.reason.clone().unwrap_or_default();
        let charter = Charter::new(body)?;
        let changes = differences(&tip, &charter);
        if changes.is_empty() && self.reason.is_none() {
            bail!(
                "nothing would change; hashmesh charter propose --help says what can. With --reason alone it is a sign of life"
            );
        }
        let documents: Vec<Document> = std::iter::once(Document::Charter(Box::new(charter.clone())))
            .chain(cards.into_iter().map(Box::new).map(Document::Card))
            .collect();
        let request = TextRequest { charter: None, text: Some(armor::write(&documents)) };
        let answer: TextAnswer = client.post("/v1/proposal", &request).await?;
        if let Some(path) = &self.key {
            return vote_at_once(context, &answer.text, &keys::load_one(path)?, path, self.yes).await;
        }
        let (version, attempt) = (charter.body().version, charter.body().attempt);
        let output = self.output.unwrap_or_else(|| PathBuf::from(format!("{version}-{attempt}.proposal")));
        write_new(&output, 0o644, answer.text.as_bytes())?;
        if !context.json {
            write_out(&changes.iter().map(|change| format!("  {change}\n")).collect::<String>())?;
        }
        let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
        context.print(&json!({ "charter": charter.id(), "file": output, "changes": changes }), || {
            let file = output.display();
            format!(
                "proposal: {file}, charter {}\nTo be signed by members (hashmesh charter sign {file}) and handed in with a signature \
                 (hashmesh charter submit MEMBER.sig).\n",
                charter.id()
            )
        })?;
        Ok(Done::Whole)
    }

    async fn change_members(
        &self,
        client: &mut Client,
        tip: &Charter,
        body: &mut CharterBody,
        cards: &mut Vec<Card>,
    ) -> anyhow::Result<()> {
        for path in &self.admit {
            if Found::in_files(&[path])?.cards.is_empty() {
                bail!("{}: no card in it", path.display());
            }
        }
        for card in Found::in_files(&self.admit)?.cards {
            let id = card.body().member;
            let member = Member::of(&card).with_context(|| format!("the card of {id} is not its first one"))?;
            if tip.member(id).is_some() {
                bail!("{id} is a member already");
            }
            body.members.push(member);
            cards.push(card);
        }
        body.members.sort_by_key(|member| member.id);
        let going = [
            (&self.expel, Departure::Expelled),
            (&self.resolve, Departure::Resolved),
            (&self.release, Departure::Left),
        ];
        for (id, kind) in going.into_iter().flat_map(|(ids, kind)| ids.iter().map(move |id| (*id, kind))) {
            let member = tip.member(id).with_context(|| format!("{id} is not a member"))?;
            let line = card_line(client, id).await?;
            let last = line.last().with_context(|| format!("no card of {id} is here"))?;
            let ends: EndsAnswer = client.get(&format!("/v1/ends/{id}")).await?;
            let ends = ends.ends.iter().map(EndForm::parse).collect::<Result<Vec<_>, _>>()?;
            if kind == Departure::Left && !last.body().leaving {
                bail!("{id} has not said that it leaves (hashmesh leave); --expel or --resolve need no card of its");
            }
            body.members.retain(|member| member.id != id);
            body.departed.push(Departed::of(member, kind, last.id(), ends));
        }
        body.departed.sort_by_key(|departed| departed.id);
        for (id, key) in &self.new_key {
            let key: PublicKey =
                node_key(key).map_err(anyhow::Error::msg).with_context(|| format!("the key of {id}"))?;
            // Its cards go on from the last one that holds, under the new key.
            let last = card_line(client, *id).await?.last().map(Card::id);
            let member = member_of(body, *id)?;
            member.governance = key;
            member.card = last.unwrap_or(member.card);
        }
        for (id, card) in &self.card {
            let card: CardId = card.parse().map_err(anyhow::Error::msg).with_context(|| format!("the card of {id}"))?;
            member_of(body, *id)?.card = card;
        }
        for (id, place) in &self.jurisdiction {
            let place: Jurisdiction = place.parse().map_err(anyhow::Error::msg)?;
            member_of(body, *id)?.jurisdiction = place;
        }
        Ok(())
    }

    fn change_rules(&self, body: &mut CharterBody) -> anyhow::Result<()> {
        if let Some(threshold) = self.threshold {
            body.threshold = threshold;
        }
        if let Some(path) = &self.labels {
            body.labels = read_labels(path)?;
            body.labels.sort_by_key(|label| label.code);
        }
        if let Some(path) = &self.limits {
            set_limits(&mut body.parameters, path)?;
        }
        Ok(())
    }

    fn change_witnesses(&self, tip: &Charter, body: &mut CharterBody) {
        let mut members =
            if self.witnesses.is_empty() { tip.body().witnesses.members.clone() } else { self.witnesses.clone() };
        if self.witnesses.is_empty() {
            members.retain(|id| body.members.iter().any(|member| member.id == *id));
            let joins = body.members.iter().map(|member| member.id).filter(|id| tip.member(*id).is_none());
            let room = hashmesh_protocol::charter::MAX_WITNESSES.saturating_sub(members.len());
            members.extend(joins.take(room).collect::<Vec<_>>());
        }
        members.sort();
        members.dedup();
        if let Some(quorum) = self.quorum {
            body.witnesses = Witnesses { members, quorum };
        } else if members != tip.body().witnesses.members {
            let before = &tip.body().witnesses;
            let standard = Witnesses::standard(members);
            // A quorum that was chosen stays, as far as there are witnesses for it.
            let is_chosen = before.quorum != Witnesses::standard(before.members.clone()).quorum;
            let most = u16::try_from(standard.members.len().saturating_sub(1)).unwrap_or(u16::MAX);
            let quorum = if is_chosen { before.quorum.min(most) } else { standard.quorum };
            body.witnesses = Witnesses { quorum, ..standard };
        }
    }
}

fn member_of(body: &mut CharterBody, id: MemberId) -> anyhow::Result<&mut Member> {
    body.members.iter_mut().find(|member| member.id == id).with_context(|| format!("{id} is not a member"))
}

/// A member's cards in force, as the running node has them.
pub(in super::super) async fn card_line(client: &mut Client, member: MemberId) -> anyhow::Result<Vec<Card>> {
    let answer: TextAnswer = client.get(&format!("/v1/card/{member}")).await?;
    Ok(Found::in_text(&answer.text)?.cards)
}
