//! The charter: founding, changing, and looking at what holds.

mod propose;
mod sign;
mod view;

use std::path::PathBuf;

use anyhow::bail;
use clap::Subcommand;
use hashmesh_protocol::armor::MAX_FILE;
use hashmesh_protocol::digest::CharterId;
use serde_json::json;

use super::founding::New;
use super::table::table;
use super::{Context, Done};
use crate::api::form::{ChooseRequest, DocumentsAnswer, DocumentsRequest};
use crate::client::Client;
use crate::folder::{read_text, write_new};
pub(super) use propose::card_line;
pub(super) use sign::{agree, governance_key};
pub(super) use view::charter_at;

/// Found a federation, change its charter, look at it.
#[derive(Debug, Subcommand)]
pub(super) enum CharterCommand {
    /// Build the first charter from the founders' cards. Whoever builds it from the same cards, labels and limits gets the
    /// same bytes.
    New(New),
    /// Make a governance key in a folder of its own, to take the place of one that is lost or stolen.
    NewKey {
        /// The folder.
        folder: PathBuf,
    },
    Propose(Box<propose::Propose>),
    Sign(sign::Sign),
    /// Hand charters, signatures and proposals to the running node, which passes them on to all members.
    Submit {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    Withdraw(sign::Withdraw),
    Pending(view::Pending),
    /// Show a charter: what it says and who has signed it.
    Show {
        /// The charter, and further files with cards and signatures; the one in force if absent.
        files: Vec<PathBuf>,
    },
    /// Show the charters that were in force, what each changed, and who has signed it.
    Log,
    Diff(view::Diff),
    /// Show who uses its governance key, and how far the federation is from losing its quorum.
    Health,
    /// Go on from this charter: the way out of a charter_conflict. Take the one that your fellow members take.
    Choose {
        /// Its whole id.
        id: CharterId,
    },
}

impl CharterCommand {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        match self {
            Self::New(new) => new.run(context).await,
            Self::NewKey { folder } => sign::new_key(context, &folder),
            Self::Propose(propose) => propose.run(context).await,
            Self::Sign(sign) => sign.run(context).await,
            Self::Submit { files } => submit_files(context, &files, false).await,
            Self::Withdraw(withdraw) => withdraw.run(context).await,
            Self::Pending(pending) => pending.run(context).await,
            Self::Show { files } => view::show(context, &files).await,
            Self::Log => view::log(context).await,
            Self::Diff(diff) => diff.run(context).await,
            Self::Health => view::health(context).await,
            Self::Choose { id } => choose(context, id).await,
        }
    }
}

async fn choose(context: &Context, id: CharterId) -> anyhow::Result<Done> {
    let mut client = Client::admin(&context.folder).await?;
    let request = ChooseRequest { charter: id.to_string() };
    let answer: DocumentsAnswer = client.post("/v1/charter/choose", &request).await?;
    context.print(&answer, || format!("charter {} (version {}) is in force\n", answer.charter, answer.version))?;
    Ok(Done::Whole)
}

/// Hands files to the running node.
pub(super) async fn submit_files(context: &Context, files: &[PathBuf], cut: bool) -> anyhow::Result<Done> {
    let texts = files.iter().map(|file| read_text(file, MAX_FILE as u64)).collect::<Result<Vec<_>, _>>()?;
    submit(context, texts.concat(), cut).await
}

/// Hands documents to the running node, and shows what became of them.
pub(super) async fn submit(context: &Context, text: String, cut: bool) -> anyhow::Result<Done> {
    let mut client = Client::admin(&context.folder).await?;
    let answer: DocumentsAnswer = client.post("/v1/documents", &DocumentsRequest { text, cut }).await?;
    let refused: Vec<_> = answer.results.iter().filter_map(|result| result.error.as_deref()).collect();
    let none = refused.len() == answer.results.len();
    if let (true, [only]) = (none, refused.as_slice()) {
        bail!("not taken: {only}");
    }
    context.print(&answer, || {
        let rows = answer.results.iter().map(|result| {
            let taken = result.taken.clone().unwrap_or_else(|| "refused".to_owned());
            vec![taken, result.document.clone(), result.error.clone().unwrap_or_default()]
        });
        let rows = table(&["TAKEN", "DOCUMENT", ""], &rows.collect::<Vec<_>>());
        format!("{rows}in force: charter {}, version {}\n", answer.charter, answer.version)
    })?;
    match refused.len() {
        0 => Ok(Done::Whole),
        _ if none => bail!("nothing was taken"),
        _ => Ok(Done::Part),
    }
}

/// Writes a file that is to be handed on, and says so.
pub(super) fn written(context: &Context, output: &PathBuf, text: &str, what: &str, then: &str) -> anyhow::Result<Done> {
    write_new(output, 0o644, text.as_bytes())?;
    context.print(&json!({ "file": output }), || format!("{what}: {}\n{then}\n", output.display()))?;
    Ok(Done::Whole)
}
