//! Running a node, and what belongs to it alone.

use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use hashmesh_protocol::names::MemberId;
use serde_json::json;
use toml_edit::{Array, DocumentMut, Item, Table, value};
use tracing_subscriber::EnvFilter;

use super::table::table;
use super::{Context, Done, complain};
use crate::api::form::{SignAloneAnswer, SignAloneRequest, StatusAnswer};
use crate::client::Client;
use crate::config::Config;
use crate::daemon;
use crate::folder::{at, read_text, replace};
use crate::governance::in_folder;
use crate::panics;
use crate::signer::Signer;

/// Run the node, until it is interrupted.
///
/// What it does is logged on standard error; HASHMESH_LOG sets how much (error, warn, info, debug).
#[derive(Args, Debug)]
pub(super) struct Run {}

impl Run {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        let filter = EnvFilter::try_from_env("HASHMESH_LOG").unwrap_or_else(|_| EnvFilter::new("hashmesh=info,warn"));
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        // A line that cannot be written is lost: reporting that, on standard error again, would panic where it was logged.
        let logs = logs.log_internal_errors(false);
        if context.json {
            logs.json().init();
        } else {
            logs.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
        }
        panics::end_the_process();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let folder = context.folder.clone();
        let query = folder.query_socket();
        let ended = runtime.block_on(daemon::run(folder, || {
            // For whoever waits for it: the first line on standard output means that queries are answered.
            let mut out = std::io::stdout();
            let _closed = writeln!(out, "ready {}", query.display()).and_then(|()| out.flush());
        }));
        // Blocking work that is still under way (a read for a peer) need not be waited for.
        runtime.shutdown_background();
        ended?;
        Ok(Done::Whole)
    }
}

/// Where other members' nodes are.
#[derive(Debug, Subcommand)]
pub(super) enum PeersCommand {
    /// Add an address of a member's node. Takes effect when the node starts.
    Add {
        /// The member.
        member: MemberId,
        /// As in /dns/hashmesh.bolt.example/tcp/4600.
        address: String,
    },
    /// Remove an address, or all of a member. Takes effect when the node starts.
    Remove {
        /// The member.
        member: MemberId,
        /// Which; all if absent.
        address: Option<String>,
    },
    /// Show the addresses.
    List,
}

impl PeersCommand {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        let config = Config::load(&context.folder.config())?;
        match self {
            Self::List => {
                context.print(&config.peers, || {
                    let rows = config.peers.iter().flat_map(|(member, addresses)| {
                        addresses.iter().map(move |address| vec![member.to_string(), address.clone()])
                    });
                    table(&["MEMBER", "ADDRESS"], &rows.collect::<Vec<_>>())
                })?;
                return Ok(Done::Whole);
            }
            Self::Add { member, address } => {
                crate::net::check_address(&address)?;
                if Some(member) == config.member {
                    bail!("{member} is this node's own member; its address is set under listen");
                }
                check_member(context, member)?;
                let mut addresses = config.peers.get(&member).cloned().unwrap_or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
                changed(context, member, &addresses)?;
            }
            Self::Remove { member, address } => {
                let mut addresses = config.peers.get(&member).cloned().unwrap_or_default();
                let before = addresses.len();
                addresses.retain(|known| address.as_ref().is_some_and(|address| address != known));
                if addresses.len() == before {
                    bail!("no such address of {member}");
                }
                changed(context, member, &addresses)?;
            }
        }
        Ok(Done::Whole)
    }
}

/// Whether somebody is a member, as far as this is known: before joining it is not.
fn check_member(context: &Context, member: MemberId) -> anyhow::Result<()> {
    if !context.folder.genesis().exists() {
        return Ok(());
    }
    let stored = in_folder(&context.folder)?;
    let members = &stored.governance.tip().body().members;
    if members.iter().any(|known| known.id == member) {
        return Ok(());
    }
    let known: Vec<_> = members.iter().map(|member| member.id.as_str()).collect();
    bail!("{member} is not a member of this federation (members: {})", known.join(", "))
}

/// Writes a member's addresses and says what they are now.
fn changed(context: &Context, member: MemberId, addresses: &[String]) -> anyhow::Result<()> {
    set_addresses(context, member, addresses)?;
    context.print(&json!({ "member": member, "addresses": addresses }), || {
        let now = if addresses.is_empty() { "no address".to_owned() } else { addresses.join(", ") };
        format!("{member}: {now}\nIt takes effect when the node starts.\n")
    })
}

/// Adds addresses of members to those that are known.
pub(super) fn add_peers<'a>(
    context: &Context,
    more: impl IntoIterator<Item = (MemberId, &'a [String])>,
) -> anyhow::Result<()> {
    let config = Config::load(&context.folder.config())?;
    for (member, places) in more {
        let mut addresses = config.peers.get(&member).cloned().unwrap_or_default();
        for place in places.iter().filter(|place| crate::net::check_address(place).is_ok()) {
            if !addresses.contains(place) {
                addresses.push(place.clone());
            }
        }
        set_addresses(context, member, &addresses)?;
    }
    Ok(())
}

/// Changes one member's addresses in the file and leaves everything else in it as people wrote it.
fn set_addresses(context: &Context, member: MemberId, addresses: &[String]) -> anyhow::Result<()> {
    let path = context.folder.config();
    let mut document: DocumentMut = read_text(&path, 1 << 20)?.parse().with_context(|| path.display().to_string())?;
    let peers = document.entry("peers").or_insert_with(|| Item::Table(Table::new()));
    let peers = peers.as_table_like_mut().context("[peers] is not a table")?;
    if addresses.is_empty() {
        peers.remove(member.as_str());
    } else {
        peers.insert(member.as_str(), value(addresses.iter().map(String::as_str).collect::<Array>()));
    }
    replace(&path, document.to_string().as_bytes()).map_err(|error| at(&path, error).into())
}

/// The file that remembers what was signed.
#[derive(Debug, Subcommand)]
pub(super) enum SignerCommand {
    /// Take over a signer file that was moved here deliberately, together with the whole data folder.
    ///
    /// Only if the folder that it comes from is gone for good: two nodes with one log key sign two histories, and the member
    /// convicts itself of a fork.
    Adopt {
        /// The member's id, typed again.
        #[arg(long, value_name = "MEMBER")]
        only_one_of: MemberId,
    },
    /// Let a node that was restored from a backup cosign others' logs again.
    ///
    /// A witness must remember everything that it has cosigned: with one key it must never cosign two histories of a log, or it
    /// convicts itself. What was cosigned after the backup was made, nobody can list. Say this only if the node did not run since
    /// then, or if you take that risk. The node must not be running.
    CosignAgain {
        /// The member's id, typed again.
        #[arg(long, value_name = "MEMBER")]
        only_one_of: MemberId,
    },
}

impl SignerCommand {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        let (Self::Adopt { only_one_of } | Self::CosignAgain { only_one_of }) = &self;
        let config = context.folder.config();
        let member = Config::load(&config)?.speaker(&config)?;
        if *only_one_of != member {
            bail!("this folder is {member}'s; nothing was changed");
        }
        let path = context.folder.signer();
        let done = match self {
            Self::Adopt { .. } => {
                Signer::adopt(&path)?;
                format!("{member}'s signer is bound to this machine now\n")
            }
            Self::CosignAgain { .. } => {
                ensure!(Signer::cosign_again(&path)?, "{member}'s node cosigns already; nothing was changed");
                format!("{member}'s node cosigns again, once it is started\n")
            }
        };
        context.print(&json!({ "member": member }), || done)?;
        Ok(Done::Whole)
    }
}

/// Order the running node to sign although too few members can be heard.
///
/// A node that has just started signs nothing before it has heard from most members what they hold of its log: if it was
/// restored from a backup, they know better. Alone it cannot know. Written to the decision log.
#[derive(Args, Debug)]
pub(super) struct SignAlone {
    /// The origin of this member's log, typed by a person; hashmesh log shows it. Asked for if absent.
    #[arg(long)]
    origin: Option<String>,
}

impl SignAlone {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let mut client = Client::admin(&context.folder).await?;
        let origin = match self.origin {
            Some(origin) => origin,
            None => ask_origin(&mut client).await?,
        };
        let answer: SignAloneAnswer = client.post("/v1/sign-alone", &SignAloneRequest { origin }).await?;
        if let Some(why) = answer.silent {
            bail!("the node will not wait for other members, but it signs nothing all the same: {why}");
        }
        context.print(&answer, || "the node signs from now on, whoever it can hear\n".to_owned())?;
        Ok(Done::Whole)
    }
}

async fn ask_origin(client: &mut Client) -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        bail!("say which log with --origin");
    }
    let status: StatusAnswer = client.get("/v1/status").await?;
    let own = status.logs.iter().find(|log| Some(&log.member) == status.member.as_ref());
    let own = own.map(|log| log.origin.as_str()).unwrap_or_default();
    complain(format_args!(
        "If this node was restored from a backup, signing now makes a second history of its log.\n\
         If you are sure that nothing newer was ever signed, type the origin of the log,\n{own}"
    ));
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed)?;
    Ok(typed.trim().to_owned())
}
