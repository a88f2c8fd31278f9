//! Followers: letting somebody read along, and reading along oneself (SPEC 14.8).

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use hashmesh_protocol::digest::NetworkId;
use hashmesh_protocol::key::PublicKey;
use hashmesh_protocol::names::MemberId;
use hashmesh_protocol::policy::Policy;
use serde_json::json;
use toml_edit::{DocumentMut, InlineTable, Item, Table, value};

use super::joining::invited;
use super::table::table;
use super::{Context, Done};
use crate::config::{Config, node_key};
use crate::documents::{Found, write_genesis};
use crate::folder::{at, read_text, replace};
use crate::keys;
use crate::making::Making;

/// Who may follow this node: connect and read, and nothing else.
#[derive(Debug, Subcommand)]
pub(super) enum FollowersCommand {
    /// Let somebody follow: an auditor, or another node of this member. Takes effect when the node starts.
    Add {
        /// A name for it, of a-z, 0-9 and -.
        name: MemberId,
        /// Its node key, which hashmesh follow prints: 64 hex digits.
        #[arg(value_parser = node_key)]
        key: PublicKey,
        /// Give it the openings too: IT GETS THE LIST, every content hash and every remark. Without this it verifies everything
        /// but the values.
        #[arg(long)]
        openings: bool,
    },
    /// Let it follow no longer. Takes effect when the node starts.
    Remove {
        /// Its name.
        name: MemberId,
    },
    /// Show who may follow.
    List,
}

impl FollowersCommand {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        let path = context.folder.config();
        let config = Config::load(&path)?;
        match self {
            Self::List => {
                context.print(&config.followers, || {
                    let rows = config.followers.iter().map(|(name, follower)| {
                        let openings = if follower.openings { "yes" } else { "no" };
                        vec![name.to_string(), openings.to_owned(), follower.key.to_string()]
                    });
                    table(&["FOLLOWER", "OPENINGS", "KEY"], &rows.collect::<Vec<_>>())
                })?;
            }
            Self::Add { name, key, openings } => {
                config.speaker(&path).context("followers follow a member's node")?;
                if let Some((other, _)) =
                    config.followers.iter().find(|(other, known)| **other != name && known.key == key)
                {
                    bail!("{other} has that key already");
                }
                set(context, name, Some((key, openings)))?;
                let form = json!({ "follower": name, "key": key, "openings": openings });
                context.print(&form, || {
                    let what = if openings { "everything, openings included" } else { "everything but openings" };
                    format!("{name} may read {what}.\nIt takes effect when the node starts.\n")
                })?;
            }
            Self::Remove { name } => {
                ensure!(config.followers.contains_key(&name), "no follower is called {name}");
                set(context, name, None)?;
                let said = || format!("{name} may not follow any more.\nIt takes effect when the node starts.\n");
                context.print(&json!({ "follower": name, "key": null }), said)?;
            }
        }
        Ok(Done::Whole)
    }
}

/// Changes one follower in the file and leaves everything else in it as people wrote it.
fn set(context: &Context, name: MemberId, to: Option<(PublicKey, bool)>) -> anyhow::Result<()> {
    let path = context.folder.config();
    let mut document: DocumentMut = read_text(&path, 1 << 20)?.parse().with_context(|| path.display().to_string())?;
    let followers = document.entry("followers").or_insert_with(|| Item::Table(Table::new()));
    let followers = followers.as_table_like_mut().context("[followers] is not a table")?;
    match to {
        Some((key, openings)) => {
            let mut follower = InlineTable::new();
            follower.insert("key", key.to_string().into());
            follower.insert("openings", openings.into());
            followers.insert(name.as_str(), value(follower));
        }
        None => {
            followers.remove(name.as_str());
        }
    }
    replace(&path, document.to_string().as_bytes()).map_err(|error| at(&path, error).into())
}

/// Make a data folder for a follower: an auditor, or a member's own replica.
///
/// A follower has a node key and no other: it keeps a live copy of all logs and signs nothing. It reads what the members' nodes
/// give it that have let it in (hashmesh followers add, there), and nobody connects to it.
#[derive(Args, Debug)]
pub(super) struct Follow {
    /// The charter, and further files with cards and signatures if they are not in it.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The id of the federation, from anywhere but these files: 64 hex digits.
    #[arg(long, value_name = "ID")]
    network: NetworkId,
}

impl Follow {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        let folder = &context.folder;
        for taken in [folder.config(), folder.policy(), folder.keys(), folder.genesis(), folder.store()] {
            if taken.symlink_metadata().is_ok() {
                bail!("{} exists already: a node has been set up here; nothing was changed", taken.display());
            }
        }
        let found = Found::in_files(&self.files)?;
        let (genesis, later) = found.begin()?;
        let network = genesis.charter().network();
        ensure!(
            network == self.network,
            "these files are of network {network}, not of {}: nothing was made",
            self.network
        );
        let mut making = Making::default();
        for made in [folder.root(), &folder.keys(), &folder.store()] {
            making.claim(made);
        }
        folder.create()?;
        let key = keys::create_node(folder, &mut making)?.public();
        making.file(&folder.config(), 0o600, Config::of_follower().as_bytes())?;
        making.file(&folder.policy(), 0o600, Policy::STANDARD.as_bytes())?;
        making.file(&folder.genesis(), 0o644, write_genesis(&genesis).as_bytes())?;
        if let Some(invitation) = found.invitations.iter().find(|invitation| invitation.network == network) {
            making.file(&folder.governance(), 0o600, &invited(&genesis, invitation, &later).encode())?;
        }
        making.finish();
        let form = json!({ "data": folder.root(), "network": network, "key": key });
        context.print(&form, || {
            format!(
                "a follower of {federation} is set up in {data}\n\
                 node key: {key}\n\
                 Ask members to let it in (hashmesh followers add NAME {key}),\n\
                 say where their nodes are (hashmesh peers add MEMBER ADDRESS), and run.\n",
                federation = genesis.charter().body().federation,
                data = folder.root().display(),
            )
        })?;
        Ok(Done::Whole)
    }
}
