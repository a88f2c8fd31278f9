//! Founding a federation: init, cards, the charter, joining.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use hashmesh_protocol::armor::{self, Document};
use hashmesh_protocol::card::{Application, Card};
use hashmesh_protocol::charter::{Charter, Label, Parameters, found};
use hashmesh_protocol::names::{FederationName, Jurisdiction, MemberId};
use hashmesh_protocol::policy::Policy;
use serde::Deserialize;
use serde_json::json;

use super::table::table;
use super::{Context, Done, write_out};
use crate::config::Config;
use crate::documents::{Found, write_genesis};
use crate::folder::{read_text, write_new};
use crate::keys;
use crate::making::Making;
use crate::signer::Signer;

/// Make keys, a card and a data folder for a new node.
///
/// The governance key goes into a folder of its own. It decides about membership: keep it offline, best on another machine,
/// and make a copy of it.
#[derive(Args, Debug)]
pub(super) struct Init {
    /// The member's id: 1 to 32 of a-z, 0-9 and -.
    #[arg(long)]
    member: MemberId,
    /// The organisation's name.
    #[arg(long)]
    name: String,
    /// Where it answers to the law: two capital letters, as in FR.
    #[arg(long)]
    jurisdiction: Jurisdiction,
    /// Where other members' nodes can connect to this one.
    #[arg(long, default_value = "/ip4/0.0.0.0/tcp/4600", value_name = "ADDRESS")]
    listen: String,
    /// Where to put the governance key; the data folder's name with -governance if absent.
    #[arg(long, value_name = "DIR")]
    governance: Option<PathBuf>,
}

fn governance_folder(context: &Context, given: Option<&PathBuf>) -> PathBuf {
    given.cloned().unwrap_or_else(|| {
        let mut name = context.folder.root().as_os_str().to_owned();
        name.push("-governance");
        name.into()
    })
}

/// A path without links and dots, as far as it exists: `./data/keys` lies in `data`, whatever it is written like.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut resolved = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            part => resolved.push(part),
        }
        resolved = resolved.canonicalize().unwrap_or(resolved);
    }
    resolved
}

impl Init {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        let folder = &context.folder;
        let governance = governance_folder(context, self.governance.as_ref());
        // Everything that can be refused is looked at before anything is written.
        let card_path = folder.root().join(format!("{}.card", self.member));
        for taken in [
            folder.config(),
            folder.policy(),
            folder.keys(),
            folder.signer(),
            card_path.clone(),
            folder.genesis(),
            folder.store(),
            governance.join(keys::GOVERNANCE),
        ] {
            // A link that leads nowhere is in the way too.
            if taken.symlink_metadata().is_ok() {
                bail!("{} exists already: a node has been set up here; nothing was changed", taken.display());
            }
        }
        if resolved(&governance).starts_with(resolved(folder.root())) {
            bail!("the governance folder must lie outside of the data folder: the node refuses to run beside that key");
        }
        let application = Application { name: self.name, jurisdiction: self.jurisdiction };
        application.check()?;
        crate::net::check_listen(&self.listen)?;
        let mut making = Making::default();
        for made in [folder.root(), &folder.keys(), &folder.store()] {
            making.claim(made);
        }
        folder.create()?;
        let keys = keys::create(folder, &governance, &mut making)?;
        let card = Card::first(self.member, application, &keys)?;
        let id = card.id();
        making.file(&card_path, 0o644, armor::write(&[Document::Card(Box::new(card))]).as_bytes())?;
        making.file(&folder.config(), 0o600, Config::first(self.member, &self.listen).as_bytes())?;
        making.file(&folder.policy(), 0o600, Policy::STANDARD.as_bytes())?;
        Signer::create(&folder.signer(), &mut making)?;
        making.finish();
        let paths = json!({
            "member": self.member, "card": card_path, "card_id": id, "data": folder.root(), "governance": governance,
        });
        context.print(&paths, || {
            format!(
                "{member} is set up in {data}\n\
                 card:           {card}\n                (give this file to the other founders)\n\
                 governance key: {governance}\n                (take it off this machine, and keep a copy; nobody can replace it alone)\n",
                member = self.member,
                data = folder.root().display(),
                card = card_path.display(),
                governance = governance.join(keys::GOVERNANCE).display(),
            )
        })?;
        Ok(Done::Whole)
    }
}

/// Look at cards.
#[derive(Debug, Subcommand)]
pub(super) enum CardCommand {
    /// Verify cards and show what they say.
    Show {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

impl CardCommand {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        let Self::Show { files } = self;
        let found = Found::in_files(&files)?;
        if found.cards.is_empty() {
            bail!("no card in these files");
        }
        let forms: Vec<_> = found.cards.iter().map(card_form).collect();
        context.print(&forms, || {
            let rows = found.cards.iter().map(|card| {
                let body = card.body();
                let (name, place) = body.application.as_ref().map_or((String::new(), String::new()), |application| {
                    (application.name.clone(), application.jurisdiction.to_string())
                });
                vec![body.member.to_string(), name, place, body.counter.to_string(), card.id().to_string()]
            });
            table(&["MEMBER", "NAME", "JURISDICTION", "NUMBER", "ID"], &rows.collect::<Vec<_>>())
        })?;
        Ok(Done::Whole)
    }
}

fn card_form(card: &Card) -> serde_json::Value {
    let body = card.body();
    json!({
        "member": body.member, "id": card.id(), "counter": body.counter,
        "name": body.application.as_ref().map(|application| &application.name),
        "jurisdiction": body.application.as_ref().map(|application| application.jurisdiction),
        "governance": body.governance, "log": body.log, "witness": body.witness, "nodes": body.nodes,
        "epoch": body.epoch,
    })
}

/// Found a federation: build, sign and look at its charter.
#[derive(Debug, Subcommand)]
pub(super) enum CharterCommand {
    /// Build the first charter from the founders' cards. Whoever builds it from the same cards, labels and limits gets the
    /// same bytes.
    New(New),
    /// Sign a charter with the governance key.
    Sign(Sign),
    /// Verify a charter and show what it says and who has signed it.
    Show {
        /// The charter, and further files with cards and signatures.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// Build the first charter from the founders' cards.
#[derive(Args, Debug)]
pub(super) struct New {
    /// The federation's name: a domain name that one of the founders holds.
    #[arg(long)]
    federation: FederationName,
    /// The founders' cards.
    #[arg(required = true)]
    cards: Vec<PathBuf>,
    /// A TOML file with the vocabulary: [[label]] with code, name, description and perhaps retention_days. Without it: demo,
    /// csam, terrorist-content, ncii.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// A TOML file with limits that differ from the standard ones (charter show lists them all).
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    /// Where to write it.
    #[arg(long, short, default_value = "genesis.charter", value_name = "FILE")]
    output: PathBuf,
}

/// The vocabulary of a charter, as a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelsFile {
    label: Vec<LabelForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelForm {
    code: u16,
    name: String,
    description: String,
    retention_days: Option<u32>,
}

/// What is proposed where the founders do not bring their own vocabulary.
const LABELS: [(u16, &str, &str); 4] = [
    (1, "demo", "for trials"),
    (2, "csam", "child sexual abuse material"),
    (3, "terrorist-content", "content made or spread by terrorist organisations to further their aims"),
    (4, "ncii", "intimate images shared without the consent of who is shown"),
];

impl New {
    fn run(self, context: &Context) -> anyhow::Result<Done> {
        let found_cards = Found::in_files(&self.cards)?;
        let labels = self.labels()?;
        let parameters = self.parameters()?;
        let charter = found(self.federation, &found_cards.cards, labels, parameters);
        let charter = charter.with_context(|| {
            let files: Vec<_> = self.labels.iter().chain(&self.limits).map(|path| path.display().to_string()).collect();
            if files.is_empty() { "no charter can be made of this".to_owned() } else { files.join(", ") }
        })?;
        let charter_document = Document::Charter(Box::new(charter.clone()));
        let mut cards = found_cards.cards;
        cards.sort_by_key(|card| card.body().member);
        let documents: Vec<_> =
            std::iter::once(charter_document).chain(cards.into_iter().map(Box::new).map(Document::Card)).collect();
        write_new(&self.output, 0o644, armor::write(&documents).as_bytes())?;
        context.print(&json!({ "charter": charter.id(), "file": self.output }), || {
            let file = self.output.display();
            format!(
                "charter {}\nwritten to {file}, with the founders' cards\n\
                 Every founder now compares this id with the others by another way, reads it (hashmesh charter show {file})\n\
                 and signs it (hashmesh charter sign {file}).\n",
                charter.id()
            )
        })?;
        Ok(Done::Whole)
    }

    fn labels(&self) -> anyhow::Result<Vec<Label>> {
        let Some(path) = &self.labels else {
            let label = |(code, name, description): (u16, &str, &str)| Label {
                code,
                name: name.to_owned(),
                description: description.to_owned(),
                retention_days: None,
            };
            return Ok(LABELS.map(label).to_vec());
        };
        let file: LabelsFile =
            toml::from_str(&read_text(path, 1 << 20)?).with_context(|| path.display().to_string())?;
        let label = |form: LabelForm| Label {
            code: form.code,
            name: form.name,
            description: form.description,
            retention_days: form.retention_days,
        };
        Ok(file.label.into_iter().map(label).collect())
    }

    fn parameters(&self) -> anyhow::Result<Parameters> {
        let mut parameters = Parameters::standard();
        if let Some(path) = &self.limits {
            let changed: BTreeMap<String, u64> =
                toml::from_str(&read_text(path, 1 << 20)?).with_context(|| path.display().to_string())?;
            for (name, value) in changed {
                parameters.set(&name, value).with_context(|| path.display().to_string())?;
            }
        }
        Ok(parameters)
    }
}

/// Sign a charter with the governance key.
///
/// Works on a machine without a network. What is signed is shown first.
#[derive(Args, Debug)]
pub(super) struct Sign {
    /// The charter.
    charter: PathBuf,
    /// The governance key; that beside the data folder if absent.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where to write the signature; MEMBER.sig if absent.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Sign {
    fn run(self, context: &Context) -> anyhow::Result<Done> {
        let found = Found::in_files(&[&self.charter])?;
        let charter = found.charter()?;
        let path = self.key.unwrap_or_else(|| governance_folder(context, None).join(keys::GOVERNANCE));
        let key = keys::load_one(&path)?;
        let member = charter.body().members.iter().find(|member| member.governance == key.public());
        let Some(member) = member else {
            bail!("the key in {} is no member's governance key in this charter", path.display());
        };
        let output = self.output.unwrap_or_else(|| PathBuf::from(format!("{}.sig", member.id)));
        if !context.json {
            write_out(&format!("{}\n", describe(charter)))?;
        }
        let approval = charter.approve(member.id, &key);
        write_new(&output, 0o644, armor::write(&[Document::Approval(approval)]).as_bytes())?;
        let result = json!({ "charter": charter.id(), "member": member.id, "file": output });
        context.print(&result, || {
            format!("{} has signed charter {}\nsignature: {}\n", member.id, charter.id(), output.display())
        })?;
        Ok(Done::Whole)
    }
}

impl CharterCommand {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        match self {
            Self::New(new) => new.run(context),
            Self::Sign(sign) => sign.run(context),
            Self::Show { files } => show(context, &files),
        }
    }
}

fn show(context: &Context, files: &[PathBuf]) -> anyhow::Result<Done> {
    let found = Found::in_files(files)?;
    let charter = found.charter()?;
    let mut signed = Vec::new();
    for approval in &found.approvals {
        charter.verify_approval(approval)?;
        signed.push(approval.member);
    }
    signed.sort();
    signed.dedup();
    let body = charter.body();
    let missing: Vec<_> = body.members.iter().map(|member| member.id).filter(|id| !signed.contains(id)).collect();
    let members = body.members.iter().map(|member| {
        json!({
            "id": member.id, "name": member.name, "jurisdiction": member.jurisdiction,
            "governance": member.governance, "card": member.card,
        })
    });
    let labels = body.labels.iter().map(|label| {
        json!({
            "code": label.code, "name": label.name, "description": label.description,
            "retention_days": label.retention_days,
        })
    });
    let form = json!({
        "id": charter.id(), "network": charter.network(), "version": body.version, "federation": body.federation,
        "members": members.collect::<Vec<_>>(), "labels": labels.collect::<Vec<_>>(),
        "witnesses": body.witnesses.members, "witness_quorum": body.witnesses.quorum,
        "threshold": [body.threshold.numerator, body.threshold.denominator],
        "limits": body.parameters.entries().into_iter().collect::<BTreeMap<_, _>>(),
        "signed": signed, "missing": missing,
    });
    context.print(&form, || {
        let names = |ids: &[MemberId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let missing = if missing.is_empty() { "nobody".to_owned() } else { names(&missing) };
        format!("{}\nsigned by: {}\nmissing:   {missing}\n", describe(charter), names(&signed))
    })?;
    Ok(Done::Whole)
}

/// A charter for people.
fn describe(charter: &Charter) -> String {
    let body = charter.body();
    let members: Vec<_> = body
        .members
        .iter()
        .map(|m| vec![m.id.to_string(), m.name.clone(), m.jurisdiction.to_string(), m.governance.to_string()])
        .collect();
    let labels: Vec<_> = body
        .labels
        .iter()
        .map(|label| vec![label.code.to_string(), label.name.clone(), label.description.clone()])
        .collect();
    let limits: Vec<_> =
        body.parameters.entries().into_iter().map(|(name, value)| vec![name.to_owned(), value.to_string()]).collect();
    format!(
        "charter {id}\nfederation {federation}, version {version}\n\n{members}\n{labels}\n\
         witnesses: {witnesses}; {quorum} of the others settle a checkpoint\n\
         next version: {threshold} of {count} members must sign\n\n{limits}",
        id = charter.id(),
        federation = body.federation,
        version = body.version,
        members = table(&["MEMBER", "NAME", "JURISDICTION", "GOVERNANCE KEY"], &members),
        labels = table(&["CODE", "LABEL", "MEANING"], &labels),
        witnesses = body.witnesses.members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        quorum = body.witnesses.quorum,
        threshold = body.threshold.threshold(body.members.len()),
        count = body.members.len(),
        limits = table(&["LIMIT", "VALUE (times in ms)"], &limits),
    )
}

/// Join a federation: verify its charter, cards and signatures, and keep them.
#[derive(Args, Debug)]
pub(super) struct Join {
    /// The charter, and further files with cards and signatures if they are not in it.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl Join {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        let config = Config::load(&context.folder.config())?;
        let found = Found::in_files(&self.files)?;
        let genesis = found.genesis()?;
        let member = config.speaker(&context.folder.config())?;
        let Some(card) = genesis.cards().get(&member) else { bail!("{member} is not a member of this federation") };
        let keys = keys::load(&context.folder)?;
        if card.body().log != keys.log.public() || !card.body().nodes.contains(&keys.node.public()) {
            bail!("the card of {member} in these files has other keys than this folder; was it made by another init?");
        }
        let charter = genesis.charter();
        write_new(&context.folder.genesis(), 0o644, write_genesis(&genesis).as_bytes())?;
        let result = json!({ "network": charter.network(), "charter": charter.id(), "member": member });
        context.print(&result, || {
            format!(
                "{member} has joined {}\nnetwork {}\nNow say where the others are (hashmesh peers add MEMBER ADDRESS), and run.\n",
                charter.body().federation,
                charter.network()
            )
        })?;
        Ok(Done::Whole)
    }
}
