//! What this platform does with what the members say: the policy, and what waits for a person.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use hashmesh_protocol::policy::Policy;
use serde_json::json;

use super::table::table;
use super::{Context, Done};
use crate::api::form::{DiffAnswer, PolicyAnswer, PolicyRequest, QuarantineAnswer, ReleaseRequest};
use crate::client::Client;
use crate::folder::{MAX_POLICY, read_text};
use crate::governance::in_folder;
use crate::quarantine::Subject;

/// The policy: what this platform does with what the members say.
///
/// It is a TOML file of rules, policy.toml in the data folder; protocol/SPEC.md chapter 12 has every key.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Check a file against the federation's charter, without a running node.
    Check {
        /// Which; the one in the data folder if absent.
        file: Option<PathBuf>,
    },
    /// Show the policy that the running node goes by.
    Show,
    /// Ask again about the last queries, and show what another policy would change.
    ///
    /// The node must remember queries, which it does not by default: set remember_queries in config.toml.
    Diff {
        /// The other policy.
        file: PathBuf,
    },
    /// Put a policy in force in the running node, at once, and into the data folder.
    Apply {
        /// The policy.
        file: PathBuf,
    },
}

impl PolicyCommand {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        match self {
            Self::Check { file } => {
                let path = file.unwrap_or_else(|| context.folder.policy());
                let federation = in_folder(&context.folder)?.governance.federation();
                let policy = Policy::parse(&text(&path)?, federation.charter());
                let policy = policy.with_context(|| path.display().to_string())?;
                let id = policy.id().to_string();
                context.print(&json!({ "id": id }), || format!("{} is good: {id}\n", path.display()))?;
            }
            Self::Show => {
                let mut client = Client::admin(&context.folder).await?;
                let policy: PolicyAnswer = client.get("/v1/policy").await?;
                context.print(&policy, || format!("# {}\n{}", policy.id, policy.text))?;
            }
            Self::Diff { file } => {
                let mut client = Client::admin(&context.folder).await?;
                let diff: DiffAnswer = client.post("/v1/policy/diff", &PolicyRequest { text: text(&file)? }).await?;
                context.print(&diff, || show(&diff))?;
            }
            Self::Apply { file } => {
                let mut client = Client::admin(&context.folder).await?;
                let policy: PolicyAnswer = client.post("/v1/policy", &PolicyRequest { text: text(&file)? }).await?;
                context.print(&json!({ "id": policy.id }), || format!("in force: {}\n", policy.id))?;
            }
        }
        Ok(Done::Whole)
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    Ok(read_text(path, MAX_POLICY)?)
}

fn show(diff: &DiffAnswer) -> String {
    let DiffAnswer { queries, changed, raised, lowered, examples } = diff;
    let mut text =
        format!("{queries} queries asked again: {changed} decided otherwise ({raised} raised, {lowered} lowered)\n");
    if !examples.is_empty() {
        let word = |decision, rule: &Option<String>| match rule {
            Some(rule) => format!("{} ({rule})", super::ask::word(decision)),
            None => super::ask::word(decision).to_owned(),
        };
        let row = |example: &crate::api::form::DiffExample| {
            let before = word(example.before, &example.rule_before);
            vec![example.hash.clone(), before, word(example.after, &example.rule_after)]
        };
        text.push_str(&table(&["HASH", "NOW", "THEN"], &examples.iter().map(row).collect::<Vec<_>>()));
    }
    if *changed > examples.len() {
        text.push_str(&format!("and {} more\n", changed - examples.len()));
    }
    text
}

/// What waits until a person has looked: nothing is blocked on account of these members and hashes, only reviewed.
#[derive(Debug, Subcommand)]
pub(super) enum QuarantineCommand {
    /// Show what waits, since when and why.
    List,
    /// Release a member or a hash.
    Release {
        /// A member, or a hash as KIND:HEX.
        subject: Subject,
    },
}

impl QuarantineCommand {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let mut client = Client::admin(&context.folder).await?;
        let answer: QuarantineAnswer = match self {
            Self::List => client.get("/v1/quarantine").await?,
            Self::Release { subject } => {
                client.post("/v1/quarantine/release", &ReleaseRequest { subject: subject.to_string() }).await?
            }
        };
        context.print(&answer, || {
            let rows = answer.held.iter().map(|held| vec![held.subject.clone(), held.since.clone(), held.why.clone()]);
            table(&["IN QUARANTINE", "SINCE", "WHY"], &rows.collect::<Vec<_>>())
        })?;
        Ok(Done::Whole)
    }
}
