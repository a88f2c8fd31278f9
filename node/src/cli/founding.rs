//! Founding: a node's keys and first card, and the first charter.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use hashmesh_protocol::armor::{self, Document};
use hashmesh_protocol::card::{Application, Card};
use hashmesh_protocol::charter::{Label, Parameters, refound};
use hashmesh_protocol::names::{FederationName, Jurisdiction, MemberId};
use hashmesh_protocol::policy::Policy;
use serde::Deserialize;
use serde_json::json;

use super::refounding::succeeds;
use super::{Context, Done};
use crate::config::Config;
use crate::documents::Found;
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

pub(super) fn governance_folder(context: &Context, given: Option<&PathBuf>) -> PathBuf {
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
    /// Take over from the federation that the running node is in, which has lost its quorum: its labels and limits unless others are
    /// given, and of its logs what is settled now, which its members then say again. The founders' cards are made by card first.
    #[arg(long)]
    succeeds: bool,
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
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let (succeeds, old) = if self.succeeds {
            succeeds(context).await.map(|(what, old)| (Some(what), Some(old)))?
        } else {
            (None, None)
        };
        let found_cards = Found::in_files(&self.cards)?;
        let labels = match (&self.labels, &old) {
            (None, Some(old)) => old.body().labels.clone(),
            _ => self.labels()?,
        };
        let mut parameters = old.map_or_else(Parameters::standard, |old| old.body().parameters.clone());
        if let Some(path) = &self.limits {
            set_limits(&mut parameters, path)?;
        }
        let charter = refound(self.federation, &found_cards.cards, labels, parameters, succeeds);
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
        read_labels(path)
    }
}

/// Reads a vocabulary.
pub(super) fn read_labels(path: &Path) -> anyhow::Result<Vec<Label>> {
    let file: LabelsFile = toml::from_str(&read_text(path, 1 << 20)?).with_context(|| path.display().to_string())?;
    let label = |form: LabelForm| Label {
        code: form.code,
        name: form.name,
        description: form.description,
        retention_days: form.retention_days,
    };
    Ok(file.label.into_iter().map(label).collect())
}

/// Sets limits as a file wants them.
pub(super) fn set_limits(parameters: &mut Parameters, path: &Path) -> anyhow::Result<()> {
    let changed: BTreeMap<String, u64> =
        toml::from_str(&read_text(path, 1 << 20)?).with_context(|| path.display().to_string())?;
    for (name, value) in changed {
        parameters.set(&name, value).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
