//! The command line: what operators and founders type.
//!
//! Commands that speak to a running node go through its sockets like any other client; the others work on files. Results go to
//! standard output, everything else to standard error.

mod ask;
mod audit;
mod backup;
mod card;
mod charter;
mod follow;
mod forget;
mod founding;
mod import;
mod joining;
mod node;
mod policy;
mod publish;
mod refounding;
mod show;
mod table;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;
use serde_json::json;

use crate::client::ClientError;
use crate::folder::Folder;
use crate::sentence::sentence;

/// A node of a federation that shares hashes of known abusive content, with no operator.
#[derive(Debug, Parser)]
#[command(name = "hashmesh", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// The node's data folder.
    #[arg(long, global = true, env = "HASHMESH_DATA", default_value = "hashmesh-data", value_name = "DIR")]
    data: PathBuf,
    /// Print results as JSON, on standard output, and a reason why there are none as JSON on standard error.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0       done
  1       not done, with the reason on standard error
  2       wrong usage
  3       no node answers
  4       done in part: some items were refused, or what was to be settled is not yet
  10, 20  of match --exit-code: something is to be reviewed, to be blocked
audit verify, watch, list and check have codes of their own, see their help.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make keys, a card and a data folder for a new node.
    Init(founding::Init),
    #[command(subcommand)]
    Card(card::CardCommand),
    #[command(subcommand)]
    Charter(charter::CharterCommand),
    Invite(joining::Invite),
    Join(joining::Join),
    Leave(card::Leave),
    Adopt(refounding::Adopt),
    /// Say again in the new federation what this member's list was in the old one (hashmesh adopt).
    Carry,
    /// Make a data folder for a follower, which reads along and signs nothing.
    Follow(follow::Follow),
    /// Run the node, until it is interrupted.
    Run(node::Run),
    /// Where other members' nodes are.
    #[command(subcommand)]
    Peers(node::PeersCommand),
    /// Who may follow this node: connect and read, and nothing else.
    #[command(subcommand)]
    Followers(follow::FollowersCommand),
    /// The file that remembers what was signed.
    #[command(subcommand)]
    Signer(node::SignerCommand),
    /// Order the running node to sign although too few members can be heard.
    SignAlone(node::SignAlone),
    /// Put hashes on the list.
    Add(publish::Add),
    /// Say that a hash should not be acted on, whoever added it.
    Dispute(publish::Dispute),
    /// Withdraw what this member said.
    Revoke(publish::Revoke),
    Erase(publish::Erase),
    Void(publish::Void),
    Forget(forget::Forget),
    /// Put a whole list of hashes on the list.
    Import(import::Import),
    /// Ask what is known about hashes or pictures.
    Match(ask::Match),
    /// Hash files.
    Hash(ask::Hash),
    /// Check, show, compare or exchange the policy.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Show or release what waits until a person has looked.
    #[command(subcommand)]
    Quarantine(policy::QuarantineCommand),
    /// Show the running node's state.
    Status,
    /// Show what a member has said.
    Log(show::Log),
    /// Copy a running node into a folder, from which it can be restored.
    Backup(backup::Backup),
    /// Make a node's data folder from a backup.
    Restore(backup::Restore),
    /// Export the logs, and verify exports without a node, keys or network.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

/// What commands have in common.
struct Context {
    folder: Folder,
    json: bool,
}

impl Context {
    /// Prints a result: as JSON if that is wanted, else as given.
    fn print<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string_pretty(value)? + "\n" } else { text() };
        write_out(&text)
    }
}

/// Writes to standard output. Whoever reads it may stop reading, as `head` does.
fn write_out(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// Asks a person to type yes, if there is one and `yes` does not say it already.
fn confirm(yes: bool, question: &str, if_not: &str) -> anyhow::Result<()> {
    use std::io::{BufRead as _, IsTerminal as _, Write as _};
    if yes || !std::io::stdin().is_terminal() {
        return Ok(());
    }
    // Not buffered, and no part of the result.
    std::io::stderr().write_all(format!("{question} Type yes: ").as_bytes())?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    anyhow::ensure!(answer.trim() == "yes", "{if_not}");
    Ok(())
}

/// Tells a person something on standard error. If nobody listens there, nobody can be told of that either.
fn complain(text: impl std::fmt::Display) {
    use std::io::Write as _;
    let _unheard = writeln!(std::io::stderr(), "{text}");
}

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Done {
    /// Everything.
    Whole,
    /// Some items were refused.
    Part,
    /// A code of its own.
    Code(u8),
}

/// Runs a command line (the first argument is the program's name) and says how the process ends.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = Cli::parse_from(arguments);
    let context = Context { folder: Folder::new(cli.data), json: cli.json };
    match dispatch(&context, cli.command) {
        Ok(Done::Whole) => ExitCode::SUCCESS,
        Ok(Done::Part) => ExitCode::from(4),
        Ok(Done::Code(code)) => ExitCode::from(code),
        Err(error) => {
            if context.json {
                complain(json!({ "error": sentence(error.as_ref()) }));
            } else {
                complain(format_args!("hashmesh: {}", sentence(error.as_ref())));
            }
            let unreachable = matches!(error.downcast_ref(), Some(ClientError::Unreachable { .. }));
            ExitCode::from(if unreachable { 3 } else { 1 })
        }
    }
}

fn dispatch(context: &Context, command: Command) -> anyhow::Result<Done> {
    match command {
        Command::Init(init) => init.run(context),
        Command::Card(card) => block_on(card.run(context)),
        Command::Charter(charter) => block_on(charter.run(context)),
        Command::Invite(invite) => block_on(invite.run(context)),
        Command::Leave(leave) => block_on(leave.run(context)),
        Command::Adopt(adopt) => adopt.run(context),
        Command::Carry => block_on(refounding::carry(context)),
        Command::Join(join) => join.run(context),
        Command::Run(run) => run.run(context),
        Command::Peers(peers) => peers.run(context),
        Command::Follow(follow) => follow.run(context),
        Command::Followers(followers) => followers.run(context),
        Command::Signer(signer) => signer.run(context),
        Command::SignAlone(sign) => block_on(sign.run(context)),
        Command::Add(add) => block_on(add.run(context)),
        Command::Dispute(dispute) => block_on(dispute.run(context)),
        Command::Revoke(revoke) => block_on(revoke.run(context)),
        Command::Erase(erase) => block_on(erase.run(context)),
        Command::Void(void) => block_on(void.run(context)),
        Command::Forget(forget) => block_on(forget.run(context)),
        Command::Import(import) => block_on(import.run(context)),
        Command::Match(ask) => block_on(ask.run(context)),
        Command::Hash(hash) => hash.run(context),
        Command::Policy(policy) => block_on(policy.run(context)),
        Command::Quarantine(quarantine) => block_on(quarantine.run(context)),
        Command::Status => block_on(show::status(context)),
        Command::Log(log) => block_on(log.run(context)),
        Command::Backup(backup) => block_on(backup.run(context)),
        Command::Restore(restore) => restore.run(context),
        Command::Audit(audit) => block_on(audit.run(context)),
    }
}

/// Runs a command that speaks to the node. One thread is enough for one client.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
