//! Signing with a governance key: on a machine that may have no node and no network (SPEC 21.6).

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use hashmesh_protocol::armor::{self, Document};
use hashmesh_protocol::charter::{Charter, differences};
use hashmesh_protocol::digest::{CharterId, NetworkId};
use hashmesh_protocol::governance::{Ballot, Bundle, Withdrawal};
use hashmesh_protocol::key::SecretKey;
use hashmesh_protocol::names::MemberId;
use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use super::super::founding::governance_folder;
use super::super::{Context, Done, confirm, write_out};
use super::view::{charter_at, describe, proposal};
use crate::api::form::GovernanceAnswer;
use crate::client::Client;
use crate::clock;
use crate::documents::Found;
use crate::folder::{at, replace, write_new};
use crate::keys;
use crate::making::Making;

/// Sign a charter with the governance key.
///
/// A proposal file is enough: this works on a machine without node and network. What is signed is shown first, line by line. What was
/// signed before is remembered in a file beside the key, governance.NETWORK.ballot: keep it with the key, on every copy.
#[derive(Args, Debug)]
pub(in super::super) struct Sign {
    /// A proposal or a first charter: a file, or the id of what is pending at the running node, or the beginning of it; the node then gets
    /// the signature at once.
    #[arg(value_name = "FILE|ID")]
    charter: String,
    /// The governance key; that beside the data folder if absent.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where to write the signature; MEMBER.sig if absent.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Sign without asking on the terminal.
    #[arg(long)]
    yes: bool,
}

impl Sign {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let path = governance_key(context, self.key.as_ref());
        let key = keys::load_one(&path)?;
        let is_hex = !self.charter.is_empty() && self.charter.bytes().all(|c| c.is_ascii_hexdigit());
        if is_hex && !Path::new(&self.charter).exists() {
            let mut client = Client::admin(&context.folder).await?;
            let answer: GovernanceAnswer = client.get("/v1/governance").await?;
            let text = proposal(&mut client, &answer.proposals, &self.charter).await?;
            return vote_at_once(context, &text, &key, &path, self.yes).await;
        }
        let found = Found::in_files(&[&self.charter])?;
        let (member, charter, text) = match found.proposals.as_slice() {
            [bundle] => {
                let (member, text) = vote(context, bundle, &key, &path, self.yes)?;
                (member, bundle.proposed().id(), text)
            }
            [] => begin(context, found.charter()?, &key, &path, self.yes)?,
            several => bail!("{} proposals in this file; one is needed", several.len()),
        };
        let output = self.output.unwrap_or_else(|| PathBuf::from(format!("{member}.sig")));
        write_new(&output, 0o644, text.as_bytes())?;
        let result = json!({ "charter": charter, "member": member, "file": output });
        context
            .print(&result, || format!("{member} has signed charter {charter}\nsignature: {}\n", output.display()))?;
        Ok(Done::Whole)
    }
}

/// Ask the others not to sign a proposal that this member has signed.
///
/// The signature itself cannot be taken back: with enough others the charter comes into force all the same.
#[derive(Args, Debug)]
pub(in super::super) struct Withdraw {
    /// The proposal's id.
    id: CharterId,
    /// The governance key; that beside the data folder if absent.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Withdraw {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let path = governance_key(context, self.key.as_ref());
        let key = keys::load_one(&path)?;
        let mut client = Client::admin(&context.folder).await?;
        let proposed = charter_at(&mut client, self.id).await?;
        let Some(parent) = proposed.body().previous else { bail!("version 0 is no proposal") };
        let parent = charter_at(&mut client, parent).await?;
        let member = parent.body().members.iter().find(|member| member.governance == key.public());
        let Some(member) = member else { bail!("the key in {} has no vote on it", path.display()) };
        let withdrawal = Withdrawal::sign(parent.network(), self.id, member.id, &key);
        super::submit(context, armor::write(&[Document::Withdrawal(withdrawal)]), false).await
    }
}

/// The governance key that is meant.
pub(in super::super) fn governance_key(context: &Context, given: Option<&PathBuf>) -> PathBuf {
    given.cloned().unwrap_or_else(|| governance_folder(context, None).join(keys::GOVERNANCE))
}

/// Signs version 0, of which there is nothing to be remembered: it follows nothing.
fn begin(
    context: &Context,
    charter: &Charter,
    key: &SecretKey,
    path: &Path,
    yes: bool,
) -> anyhow::Result<(MemberId, CharterId, String)> {
    if charter.body().version > 0 {
        bail!("a later charter is signed as a proposal: hashmesh charter pending {} --output FILE", charter.id());
    }
    let member = charter.body().members.iter().find(|member| member.governance == key.public());
    let Some(member) = member else {
        bail!("the key in {} is no member's governance key in this charter", path.display());
    };
    if !context.json {
        write_out(&format!("{}\n", describe(charter)))?;
    }
    agree(yes)?;
    let approval = charter.approve(member.id, key);
    Ok((member.id, charter.id(), armor::write(&[Document::Approval(approval)])))
}

/// Signs a proposal as the running node has made it, and hands the signature in there.
pub(super) async fn vote_at_once(
    context: &Context,
    proposal: &str,
    key: &SecretKey,
    path: &Path,
    yes: bool,
) -> anyhow::Result<Done> {
    let found = Found::in_text(proposal)?;
    let Some(bundle) = found.proposals.first() else { bail!("the node has answered with no proposal") };
    let (_, text) = vote(context, bundle, key, path, yes)?;
    super::submit(context, text, false).await
}

/// Signs a proposal: the vote of a member, or the consent of a key that is new in it. The text has the proposal too, so that
/// whoever gets it needs nothing else.
fn vote(
    context: &Context,
    bundle: &Bundle,
    key: &SecretKey,
    path: &Path,
    yes: bool,
) -> anyhow::Result<(MemberId, String)> {
    let (parent, charter) = (bundle.parent(), bundle.proposed());
    let with_key = |charter: &Charter| {
        charter.body().members.iter().find(|member| member.governance == key.public()).map(|member| member.id)
    };
    let (voter, fresh) = (with_key(parent), with_key(charter));
    let Some(member) = voter.or(fresh) else {
        bail!("the key in {} is no member's governance key, neither before this charter nor in it", path.display());
    };
    if !context.json {
        let note =
            if charter.body().note.is_empty() { String::new() } else { format!("\"{}\"\n", charter.body().note) };
        let changes: String = differences(parent, charter).iter().map(|change| format!("  {change}\n")).collect();
        write_out(&format!(
            "charter {}\nversion {} of {}, attempt {}, to follow {}\n{note}\n{changes}\n",
            charter.id(),
            charter.body().version,
            charter.body().federation,
            charter.body().attempt,
            parent.id()
        ))?;
    }
    // Whoever consents decides about nothing, and may do so as often as it likes.
    let lock = voter.map(|voter| Lock::take(path, parent.network(), voter)).transpose()?;
    if let Some(lock) = &lock {
        lock.ballot.judge(bundle, &key.public(), clock::now())?;
    }
    agree(yes)?;
    if let Some(lock) = lock {
        lock.write(lock.ballot.judge(bundle, &key.public(), clock::now())?)?;
    }
    let approval = Document::Approval(charter.approve(member, key));
    let proposal = Document::Proposal(Box::new(bundle.clone()));
    Ok((member, armor::write(&[approval, proposal])))
}

/// Asks a person, if there is one.
pub(in super::super) fn agree(yes: bool) -> anyhow::Result<()> {
    confirm(yes, "Sign this?", "not signed")
}

/// What was voted for with a key, locked: two at a time could each think that it is the first.
struct Lock {
    path: PathBuf,
    ballot: Ballot,
    _held: File,
}

impl Lock {
    fn take(key: &Path, network: NetworkId, member: MemberId) -> anyhow::Result<Self> {
        let held = File::open(key).map_err(|error| at(key, error))?;
        flock(&held, FlockOperation::LockExclusive).map_err(|error| at(key, error.into()))?;
        let path = key.with_extension(format!("{}.ballot", network.short()));
        let ballot = match fs::read(&path) {
            Ok(bytes) => Ballot::decode(&bytes).with_context(|| {
                format!(
                    "{} is damaged: put it back from the copy of the key's folder; without it the key must not vote",
                    path.display()
                )
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ballot::new(network, member),
            Err(error) => return Err(at(&path, error).into()),
        };
        Ok(Self { path, ballot, _held: held })
    }

    /// Makes the vote durable. Only then may it be given.
    fn write(&self, next: Ballot) -> anyhow::Result<()> {
        if next == self.ballot {
            return Ok(());
        }
        replace(&self.path, &next.encode()).map_err(|error| at(&self.path, error))?;
        Ok(())
    }
}

/// Makes a governance key.
pub(super) fn new_key(context: &Context, folder: &Path) -> anyhow::Result<Done> {
    let mut making = Making::default();
    let secret = keys::create_governance(folder, &mut making)?;
    making.finish();
    let file = folder.join(keys::GOVERNANCE);
    context.print(&json!({ "key": secret.public(), "file": file }), || {
        format!("governance key {}\nin {}\n", secret.public(), file.display())
    })?;
    Ok(Done::Whole)
}
