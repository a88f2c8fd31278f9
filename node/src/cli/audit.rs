//! Audits: exporting what a node holds, and verifying it where there is no node.

mod list;
mod proof;
mod watch;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hashmesh_protocol::audit::{self, Fault, Finding, LogReport, Outcome, Report};
use hashmesh_protocol::digest::NetworkId;
use hashmesh_protocol::evidence::Accused;
use hashmesh_protocol::names::MemberId;
use hashmesh_protocol::statement::Basis;
use hashmesh_protocol::text::escaped;
use hashmesh_protocol::time::Timestamp;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::table::table;
use super::{Context, Done, complain};
use crate::audit::ExportFolder;
use crate::client::Client;
use crate::export::{Wanted, export};
use crate::folder::at;
use crate::sentence::sentence;

/// Export the logs, and verify exports without a node, keys or network.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Write what the running node holds into files that any C2SP transparency-log tool can read.
    Export(Export),
    /// Verify an export: signatures, cosignatures, trees, tiles, leaves, openings, evidence, charter and cards.
    Verify(Verify),
    /// Follow the federation, verify what comes, and print every finding.
    Watch(watch::Watch),
    /// Work out from an export what the list was at a moment.
    List(list::List),
    /// Write a proof that members say something about a hash, for somebody who has no node.
    Prove(proof::Prove),
    /// Check a proof, with nothing else at hand.
    Check(proof::Check),
}

impl AuditCommand {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        match self {
            Self::Export(export) => export.run(context).await,
            Self::Verify(verify) => verify.run(context),
            Self::Watch(watch) => watch.run(context).await,
            Self::List(list) => list.run(context),
            Self::Prove(prove) => prove.run(context).await,
            Self::Check(check) => check.run(context),
        }
    }
}

/// Write what the running node holds into files that any C2SP transparency-log tool can read.
///
/// A folder of an earlier export is continued; so is one whose writing was interrupted. Without --with-openings there is no content
/// hash in it: an auditor verifies everything but the values. With it the folder IS THE LIST.
#[derive(Args, Debug)]
pub(super) struct Export {
    /// Where to; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Only the logs of this member (may be repeated).
    #[arg(long, value_name = "MEMBER")]
    member: Vec<MemberId>,
    /// Also what opens the commitments: content hashes, and what members remarked about them.
    #[arg(long)]
    with_openings: bool,
    /// Only up to the largest checkpoints that were settled by then, as in 2027-01-31T12:00:00Z; by the authors' clocks where nothing is settled.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<Timestamp>,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let moment = humantime::parse_rfc3339_weak(text).map_err(|error| format!("{error}; as in 2027-01-31T12:00:00Z"))?;
    let since = moment.duration_since(std::time::UNIX_EPOCH).map_err(|error| error.to_string())?;
    Ok(Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}

/// A bar on a terminal, nothing elsewhere.
pub(super) fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} statements {per_sec} {eta} left");
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl Export {
    async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let mut client = Client::admin(&context.folder).await?;
        let wanted =
            Wanted { folder: self.out.clone(), members: self.member, openings: self.with_openings, at: self.at };
        let bar = progress();
        let exported = export(&mut client, &wanted, |total, done| {
            bar.set_length(total);
            bar.set_position(done);
        });
        let exported = exported.await;
        bar.finish_and_clear();
        let exported = exported?;
        if exported.iter().any(|log| log.by_author) {
            complain("hashmesh: no checkpoint is settled; those of that time were chosen by the authors' own clocks");
        }
        let form = |log: &crate::export::Exported| json!({ "log": log.log.to_string(), "size": log.size, "before": log.before });
        let forms: Vec<Value> = exported.iter().map(form).collect();
        context.print(&json!({ "folder": self.out, "openings": self.with_openings, "logs": forms }), || {
            let rows = exported
                .iter()
                .map(|log| vec![log.log.to_string(), log.size.to_string(), (log.size - log.before).to_string()]);
            let rows: Vec<_> = rows.collect();
            format!("{}in {}\n", table(&["LOG", "SIZE", "NEW"], &rows), self.out.display())
        })?;
        Ok(Done::Whole)
    }
}

const VERIFY_CODES: &str = "\
Exit codes:
  0  verified: everything that is there is as it must be, and of the federation that was named
  1  does not verify
  2  unusable input: nothing that could be verified
  3  equivocation proven: somebody has signed two histories
  4  only self-consistent: no federation was named, and somebody may have made all of it up";

/// Verify an export: signatures, cosignatures, trees, tiles, leaves, openings, evidence, charter and cards.
///
/// Needs no node, no keys and no network, only the id of the federation, which `hashmesh status` shows to members, and which
/// an auditor has from somewhere else than the export.
#[derive(Args, Debug)]
#[command(after_help = VERIFY_CODES)]
pub(super) struct Verify {
    /// The folder of the export.
    folder: PathBuf,
    /// The id of the federation: 64 hex digits.
    #[arg(long, value_name = "ID")]
    network: Option<NetworkId>,
    /// Hold everything that members ever stated to be live against their leaves, not only the last such statement of each.
    #[arg(long)]
    every_state: bool,
}

/// How a verification that could not be made ends.
const UNUSABLE: Done = Done::Code(2);

/// Says why there is nothing to verify.
fn unusable(context: &Context, error: &(dyn std::error::Error + 'static)) -> Done {
    let why = escaped(&sentence(error));
    if context.json {
        complain(json!({ "error": why }));
    } else {
        complain(format_args!("hashmesh: {why}"));
    }
    UNUSABLE
}

/// Opens the folder of an export; `progress` is told what has been looked at.
fn open<P: Fn(u64) + Sync>(context: &Context, folder: &Path, progress: P) -> Result<ExportFolder<P>, Done> {
    let error = match ExportFolder::open(folder, progress) {
        Ok(files) => return Ok(files),
        Err(error) => at(folder, error),
    };
    Err(unusable(context, &error))
}

/// How a verification ends that came to this.
fn ended(outcome: Outcome) -> Done {
    Done::Code(match outcome {
        Outcome::Verified => 0,
        Outcome::Broken => 1,
        Outcome::Equivocation => 3,
        Outcome::SelfConsistent => 4,
    })
}

impl Verify {
    fn run(self, context: &Context) -> anyhow::Result<Done> {
        let (files, mut report) = match verified(context, &self.folder, self.network) {
            Ok(verified) => verified,
            Err(done) => return Ok(done),
        };
        if self.every_state && report.is_whole() {
            audit::every_state(&files, &mut report);
        }
        context.print(&form(&report), || describe(&report))?;
        Ok(ended(report.outcome()))
    }
}

/// Verifies an export, with a progress bar; how the command ends if it cannot be read as one.
fn verified(
    context: &Context,
    folder: &Path,
    network: Option<NetworkId>,
) -> Result<(ExportFolder<impl Fn(u64) + Sync + use<>>, Report), Done> {
    let bar = progress();
    let counting = bar.clone();
    let files = open(context, folder, move |statements| counting.inc(statements))?;
    let report = audit::verify(&files, network);
    bar.finish_and_clear();
    match report {
        Ok(report) => Ok((files, report)),
        Err(error) => Err(unusable(context, &error)),
    }
}

/// What an audit cannot see, whatever it finds.
const BLIND: [&str; 3] = [
    "statements that an author has never put into its log, or a node has never received",
    "a second history that nobody has handed over: compare exports of several members' nodes",
    "whether a hash belongs on the list, and whether an author's clock was right",
];

fn form(report: &Report) -> Value {
    let charter = report.federation.charter();
    json!({
        "outcome": outcome(report.outcome()).0,
        "not_held": report.not_held.iter().map(|(log, index, since)| json!({
            "place": format!("{log}/{index}"), "since": since.to_string(),
        })).collect::<Vec<_>>(),
        "federation": charter.body().federation.to_string(),
        "network": charter.network().to_string(),
        "charter_version": charter.body().version,
        "logs": report.logs.iter().map(log_form).collect::<Vec<_>>(),
        "absent": report.absent.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "findings": report.findings.iter().map(finding_form).collect::<Vec<_>>(),
        "more_findings": report.more,
        "not_visible": BLIND,
    })
}

fn log_form(log: &LogReport) -> Value {
    let (checkpoint, tally) = (&log.checkpoint, &log.tally);
    json!({
        "log": log.log.to_string(), "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.to_string(),
        "settled": log.settled.map(|settled| json!({
            "size": settled.size, "root": settled.root.to_string(), "at": settled.at.to_string(),
        })),
        "checkpoints": log.checkpoints.len(),
        "adds": tally.adds, "disputes": tally.disputes, "revokes": tally.revokes, "erases": tally.erases,
        "voids": tally.voids, "observes": tally.observes, "states": tally.states, "unknown": tally.unknown,
        "opened": tally.opened, "unopened": tally.adds + tally.disputes - tally.opened,
        "erased": log.erased.iter().map(|erased| json!({
            "position": format!("{}/{}", log.log.epoch, erased.index), "by": erased.by.to_string(), "basis": Basis::name_of(erased.basis),
        })).collect::<Vec<_>>(),
        "live": log.live,
        "first": log.times.map(|(first, _)| first.to_string()), "last": log.times.map(|(_, last)| last.to_string()),
    })
}

fn finding_form(finding: &Finding) -> Value {
    let witness = match finding.fault {
        Fault::Proven(Accused::Witness(member)) => Some(member.to_string()),
        _ => None,
    };
    json!({
        "file": finding.file, "log": finding.log.map(|log| log.to_string()), "index": finding.index, "witness": witness,
        "what": finding.fault.to_string(), "equivocation": finding.fault.is_equivocation(),
    })
}

/// The word for scripts, and the sentence for people.
fn outcome(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Verified => ("verified", "VERIFIED: whole, signed, and of the federation that was named."),
        Outcome::SelfConsistent => (
            "self-consistent",
            "SELF-CONSISTENT ONLY: no federation was named (--network), so all of it may be made up.",
        ),
        Outcome::Broken => ("broken", "DOES NOT VERIFY."),
        Outcome::Equivocation => ("equivocation", "EQUIVOCATION PROVEN: somebody has signed two histories."),
    }
}

fn describe(report: &Report) -> String {
    let charter = report.federation.charter();
    let mut text = format!(
        "federation  {}, charter version {}, {} members\nnetwork     {}\n\n",
        charter.body().federation,
        charter.body().version,
        charter.body().members.len(),
        charter.network(),
    );
    let rows = report.logs.iter().map(|log| {
        let tally = &log.tally;
        let settled = log.settled.map_or("nothing".to_owned(), |settled| format!("{} at {}", settled.size, settled.at));
        let unopened = tally.adds + tally.disputes - tally.opened;
        let counts = [log.checkpoint.size, tally.adds, tally.disputes, tally.revokes, log.live, tally.opened, unopened];
        let mut row = vec![log.log.to_string()];
        row.extend(counts.map(|count| count.to_string()));
        row.extend([log.checkpoints.len().to_string(), settled]);
        row
    });
    let header = ["LOG", "SIZE", "ADDS", "DISPUTES", "REVOKES", "LIVE", "OPENED", "UNOPENED", "CHECKPOINTS", "SETTLED"];
    text.push_str(&table(&header, &rows.collect::<Vec<_>>()));
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("writing to memory");
    if !report.not_held.is_empty() {
        let count = report.not_held.len();
        line(format_args!(
            "{count} openings are not held by whoever exported this, by its own decision (--json lists the places)"
        ));
    }
    for log in &report.logs {
        let mut by_basis: BTreeMap<String, usize> = BTreeMap::new();
        log.erased.iter().for_each(|erased| *by_basis.entry(Basis::name_of(erased.basis)).or_default() += 1);
        for (basis, count) in by_basis {
            line(format_args!("{}: {count} openings are erased by its author, on the basis {basis}", log.log));
        }
    }
    for absent in &report.absent {
        line(format_args!("{absent} is not in the export: nothing is said about it"));
    }
    for finding in &report.findings {
        let leaf = finding.index.map(|index| format!(", leaf {index}")).unwrap_or_default();
        line(format_args!("WRONG  {}{leaf}: {}", escaped(&finding.file), escaped(&finding.fault.to_string())));
    }
    if report.more > 0 {
        line(format_args!("WRONG  {} more", report.more));
    }
    line(format_args!("\n{}", outcome(report.outcome()).1));
    line(format_args!("No audit of an export can see: {}.", BLIND.join("; ")));
    text
}
