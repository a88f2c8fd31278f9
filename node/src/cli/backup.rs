//! Backups: copying a running node into a folder, and making one anew from it.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::audit::progress;
use super::table::table;
use super::{Context, Done};
use crate::backup::{backup, restore};
use crate::client::Client;

/// Copy a running node into a folder, from which it can be restored.
///
/// The folder of an earlier backup is continued: only what is new is written. It holds THE LIST, with what members remarked; keep it
/// as you keep the data folder. What is erased later stays in it until it is deleted. Two things are never in it: the governance
/// key, and the right to sign without asking the other members first.
#[derive(Args, Debug)]
pub(super) struct Backup {
    /// Where to; made if it is not there.
    #[arg(value_name = "DIR")]
    out: PathBuf,
    /// Also the log, witness and node keys. Without them, keep a copy of the folder keys/ elsewhere: made once, it is enough.
    #[arg(long)]
    with_keys: bool,
}

impl Backup {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let mut client = Client::admin(&context.folder).await?;
        let bar = progress();
        let written = backup(&mut client, &context.folder, &self.out, self.with_keys, |total, done| {
            bar.set_length(total);
            bar.set_position(done);
        });
        let written = written.await;
        bar.finish_and_clear();
        let written = written?;
        let logs =
            written.iter().map(|log| json!({ "log": log.log.to_string(), "size": log.size, "before": log.before }));
        let logs: Vec<Value> = logs.collect();
        context.print(&json!({ "folder": self.out, "keys": self.with_keys, "logs": logs }), || {
            let row = |log: &crate::export::Exported| {
                vec![log.log.to_string(), log.size.to_string(), (log.size - log.before).to_string()]
            };
            let rows: Vec<_> = written.iter().map(row).collect();
            format!("{}in {}\n", table(&["LOG", "SIZE", "NEW"], &rows), self.out.display())
        })?;
        Ok(Done::Whole)
    }
}

/// Make a node's data folder (--data) from a backup.
///
/// Everything in the backup is verified first. Nobody can know what was signed after it was made, so the node that is restored signs
/// nothing before EVERY other member was heard and has refilled its log (or hashmesh sign-alone), and cosigns nothing
/// (hashmesh signer cosign-again). Only if the folder that was lost is gone for good: two nodes with one log key sign two
/// histories.
#[derive(Args, Debug)]
pub(super) struct Restore {
    /// The folder of the backup.
    #[arg(value_name = "DIR")]
    backup: PathBuf,
    /// The folder with log.key, witness.key and node.key, if the backup holds none.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
}

impl Restore {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        let bar = progress();
        let counting = bar.clone();
        let restored =
            restore(&context.folder, &self.backup, self.keys.as_deref(), move |written| counting.inc(written));
        bar.finish_and_clear();
        let member = restored?;
        let data = context.folder.root();
        context.print(&json!({ "member": member, "data": data }), || {
            format!(
                "{member} is restored in {}. It signs again once every other member was heard, and cosigns nothing until you say\n\
                 hashmesh signer cosign-again\n",
                data.display()
            )
        })?;
        Ok(Done::Whole)
    }
}
