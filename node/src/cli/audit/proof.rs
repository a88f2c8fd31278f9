//! Single statements: proving them, and checking proofs.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::digest::NetworkId;
use hashmesh_protocol::names::MemberId;
use hashmesh_protocol::proof::{MAX_FILE, Proof, Proven};
use hashmesh_protocol::statement::{Basis, Reason, Statement};
use serde_json::{Value, json};

use super::super::table::table;
use super::super::{Context, Done};
use super::unusable;
use crate::api::form::{ProofsAnswer, ProofsRequest};
use crate::client::Client;
use crate::folder::{make_folder, read_text, replace};

/// Write a proof that members say something about a hash, for somebody who has no node.
///
/// Each statement gets a file MEMBER-EPOCH-INDEX.tlog-proof: a proof as in c2sp.org/tlog-proof, with the leaf, what opens it, the charter
/// and cards in its extra line. The file holds the content hash.
#[derive(Args, Debug)]
pub(in super::super) struct Prove {
    /// What is said about this hash now, as in pdq:f8f8…
    #[arg(required_unless_present_any = ["place", "not_live"], conflicts_with = "place", value_name = "KIND:HEX")]
    hash: Option<ContentHash>,
    /// Whatever stands at this place, be it revoked since.
    #[arg(long, value_name = "MEMBER/EPOCH/INDEX")]
    place: Option<String>,
    /// That the statement at this place is not live any more, as its author has said since (members do each week). That nobody
    /// says anything about a *value* has no such proof, since what stands in the logs is salted: `audit list` shows it, to
    /// whoever may see the hashes.
    #[arg(long, value_name = "MEMBER/EPOCH/INDEX", conflicts_with_all = ["hash", "place"])]
    not_live: Option<String>,
    /// Only what this member says.
    #[arg(long, value_name = "MEMBER")]
    member: Option<MemberId>,
    /// The folder that the files are put into.
    #[arg(long, default_value = ".", value_name = "DIR")]
    out: PathBuf,
}

impl Prove {
    pub(in super::super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let mut client = Client::admin(&context.folder).await?;
        let request =
            ProofsRequest { hash: self.hash.map(|hash| hash.to_string()), place: self.place, not_live: self.not_live };
        let answer: ProofsAnswer = client.post("/v1/proofs", &request).await?;
        let wanted = |member: &str| self.member.is_none_or(|wanted| wanted.as_str() == member);
        let proofs: Vec<_> = answer.proofs.into_iter().filter(|proof| wanted(&proof.member)).collect();
        anyhow::ensure!(!proofs.is_empty(), "that member says nothing about this hash now");
        make_folder(&self.out, 0o700)?;
        let (mut forms, mut rows) = (Vec::new(), Vec::new());
        for proof in &proofs {
            let file = self.out.join(format!("{}-{}-{}.tlog-proof", proof.member, proof.epoch, proof.index));
            replace(&file, proof.text.as_bytes()).with_context(|| file.display().to_string())?;
            let proven = Proof::parse(&proof.text)?.check(None)?;
            rows.push(vec![file.display().to_string(), said(&proven)]);
            forms.push(json!({ "file": file, "proves": form(&proven) }));
        }
        context.print(&forms, || table(&["FILE", "PROVES"], &rows))?;
        Ok(Done::Whole)
    }
}

const CHECK_CODES: &str = "\
Exit codes:
  0  proven, by members of the federation that was named
  1  proves nothing
  2  unusable input: no such file
  4  only self-consistent: no federation was named, and somebody may have made all of it up";

/// Check a proof, with nothing else at hand.
#[derive(Args, Debug)]
#[command(after_help = CHECK_CODES)]
pub(in super::super) struct Check {
    /// The file.
    proof: PathBuf,
    /// The id of the federation: 64 hex digits.
    #[arg(long, value_name = "ID")]
    network: Option<NetworkId>,
}

impl Check {
    pub(in super::super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        let text = match read_text(&self.proof, MAX_FILE as u64) {
            Ok(text) => text,
            Err(error) => return Ok(unusable(context, &error)),
        };
        let proven = Proof::parse(&text)?.check(self.network)?;
        context.print(&form(&proven), || {
            let mut text = format!("{}\n", said(&proven));
            let mut line = |name: &str, value: &str| writeln!(text, "{name:<11} {value}").expect("writing to memory");
            if let Some(position) = proven.not_live {
                line("not live", &format!("{}/{}/{}", proven.log.member, position.epoch, position.index));
            }
            line("network", &proven.charter.network().to_string());
            line("tree", &format!("{} leaves, root {}", proven.checkpoint.size, proven.checkpoint.root));
            for (witness, time) in &proven.cosigned {
                line("cosigned", &format!("by {witness} at {time}"));
            }
            line("settled", &proven.settled.map_or("not proven".to_owned(), |time| format!("at {time}")));
            text.push_str(match self.network {
                Some(_) if proven.not_live.is_some() => "PROVEN: nothing was live there when its author said this.\n",
                Some(_) => "PROVEN. Not whether it has been withdrawn since.\n",
                None => "SELF-CONSISTENT ONLY: no federation was named (--network), so all of it may be made up.\n",
            });
            text
        })?;
        Ok(if self.network.is_some() { Done::Whole } else { Done::Code(4) })
    }
}

/// What is proven, in a sentence.
fn said(proven: &Proven) -> String {
    let (log, leaf) = (proven.log, &proven.leaf);
    let about = || match (proven.hash, leaf.statement.commitment()) {
        (Some(hash), _) => hash.to_string(),
        (None, Some((_, commitment))) => format!("what {commitment} commits to"),
        (None, None) => String::new(),
    };
    let what = match &leaf.statement {
        Statement::Add(add) => format!("adds {} as {}", about(), labels(proven, add.labels.codes()).join("+")),
        Statement::Dispute(dispute) => format!("disputes {} ({})", about(), Reason::name_of(dispute.reason)),
        Statement::Revoke(revoke) => format!("revokes {} ({})", revoke.position, Reason::name_of(revoke.reason)),
        Statement::Erase(erase) => format!("erases {} ({})", erase.position, Basis::name_of(erase.basis)),
        Statement::Void(void) => format!("voids its log {} from {} on", void.epoch, void.from),
        Statement::Observe(observe) => format!("has seen {} other logs", observe.all().len()),
        Statement::State(state) => format!("has {} live statements before {}", state.count, state.before),
        Statement::Unknown => "says something that this version of hashmesh does not know".to_owned(),
    };
    format!("{} {what}, at {}/{}, by its clock {}", log.member, log.epoch, proven.index, leaf.time)
}

fn labels(proven: &Proven, codes: &[u16]) -> Vec<String> {
    let name = |code: &u16| proven.charter.label(*code).map_or_else(|| code.to_string(), |label| label.name.clone());
    codes.iter().map(name).collect()
}

fn form(proven: &Proven) -> Value {
    let leaf = &proven.leaf;
    let (say, reason) = match &leaf.statement {
        Statement::Add(_) => ("add", None),
        Statement::Dispute(dispute) => ("dispute", Some(Reason::name_of(dispute.reason))),
        Statement::Revoke(revoke) => ("revoke", Some(Reason::name_of(revoke.reason))),
        Statement::Erase(erase) => ("erase", Some(Basis::name_of(erase.basis))),
        Statement::Void(_) => ("void", None),
        Statement::Observe(_) => ("observe", None),
        Statement::State(_) => ("state", None),
        Statement::Unknown => ("unknown", None),
    };
    let codes = if let Statement::Add(add) = &leaf.statement { add.labels.codes() } else { &[] };
    json!({
        "member": proven.log.member.to_string(), "epoch": proven.log.epoch, "index": proven.index, "time": leaf.time.to_string(),
        "say": say, "hash": proven.hash.map(|hash| hash.to_string()), "labels": labels(proven, codes),
        "reason": reason,
        "not_live": proven.not_live.map(|position| position.to_string()),
        "commitment": leaf.statement.commitment().map(|(_, commitment)| commitment.to_string()),
        "ends": leaf.statement.ends().map(|position| position.to_string()),
        "voids": if let Statement::Void(void) = &leaf.statement { Some(format!("{}/{}", void.epoch, void.from)) } else { None },
        "network": proven.charter.network().to_string(), "size": proven.checkpoint.size, "root": proven.checkpoint.root.to_string(),
        "cosigned": proven.cosigned.iter().map(|(member, time)| json!({ "witness": member.to_string(), "at": time.to_string() })).collect::<Vec<_>>(),
        "settled": proven.settled.map(|time| time.to_string()),
    })
}
