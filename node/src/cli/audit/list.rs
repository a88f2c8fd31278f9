//! The list at a moment, from an export.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use hashmesh_protocol::audit::{self, Listed, Live, Report};
use hashmesh_protocol::digest::NetworkId;
use hashmesh_protocol::statement::{Reason, Statement};
use hashmesh_protocol::text::escaped;
use hashmesh_protocol::time::Timestamp;
use serde_json::{Value, json};

use super::super::table::table;
use super::super::{Context, Done, complain, write_out};
use super::{VERIFY_CODES, describe, ended, moment, verified};

/// Lines that are printed together.
const TOGETHER: usize = 1 << 16;

/// Work out from an export what the list was at a moment.
///
/// Verifies the export first. What counts of each log is its largest checkpoint that was settled by then; where nothing of a log is settled,
/// the author's own clock decides, and that is said; of a log with evidence against it only what is settled counts. Prints every statement that was live: the content hash where the export has the
/// opening, the commitment where it has not; then the logs, and a digest that is the same for everybody with the same list. With
/// --json, a line of JSON a statement, and one with logs and digest at the end.
#[derive(Args, Debug)]
#[command(after_help = VERIFY_CODES)]
pub(in super::super) struct List {
    /// The folder of the export.
    folder: PathBuf,
    /// The moment, as in 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Timestamp,
    /// The id of the federation: 64 hex digits.
    #[arg(long, value_name = "ID")]
    network: Option<NetworkId>,
    /// Only the logs and the digest, not every statement.
    #[arg(long)]
    summary: bool,
}

impl List {
    pub(in super::super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        let (files, report) = match verified(context, &self.folder, self.network) {
            Ok(verified) => verified,
            Err(done) => return Ok(done),
        };
        let outcome = report.outcome();
        if !report.is_whole() {
            complain(format_args!(
                "hashmesh: there is no list, because the export does not verify\n{}",
                describe(&report)
            ));
            return Ok(ended(outcome));
        }
        for finding in &report.findings {
            complain(format_args!("hashmesh: {}: {}", escaped(&finding.file), finding.fault));
        }
        let (mut lines, mut written) = (String::new(), Ok(()));
        let list = audit::list(&files, &report, self.at, |live| {
            if self.summary || written.is_err() {
                return;
            }
            let line = if context.json { form(&report, live).to_string() } else { line(&report, live) };
            lines.push_str(&line);
            lines.push('\n');
            if lines.len() > TOGETHER {
                written = write_out(&std::mem::take(&mut lines));
            }
        });
        written?;
        write_out(&lines)?;
        let list = list.map_err(|finding| anyhow::anyhow!("{}: {}", finding.file, finding.fault))?;
        if list.logs.iter().any(|log| log.settled.is_none()) {
            complain(
                "hashmesh: where nothing is settled, the authors' own clocks have decided what counts at that time",
            );
        }
        let at = self.at.to_string();
        if context.json {
            let logs: Vec<Value> = list.logs.iter().map(log_form).collect();
            write_out(&format!("{}\n", json!({ "at": at, "logs": logs, "digest": list.digest.to_string() })))?;
        } else {
            let rows = list.logs.iter().map(|log| {
                let by = log.settled.map_or("by its author's clock".to_owned(), |time| time.to_string());
                vec![log.origin.clone(), log.size.to_string(), log.live.to_string(), by, log.root.to_string()]
            });
            let rows: Vec<_> = rows.collect();
            let mut text = table(&["LOG", "SIZE", "LIVE", "SETTLED", "ROOT"], &rows);
            for absent in &report.absent {
                writeln!(text, "{absent} is not in the export: nothing is said about it").expect("writing to memory");
            }
            writeln!(text, "list at {at}: {}", list.digest).expect("writing to memory");
            write_out(&text)?;
        }
        Ok(ended(outcome))
    }
}

/// What a statement says, and about what.
fn parts(report: &Report, live: &Live) -> (&'static str, String, String) {
    let charter = report.federation.charter();
    let name = |code: &u16| charter.label(*code).map_or_else(|| code.to_string(), |label| label.name.clone());
    let (say, why) = match &live.leaf.statement {
        Statement::Add(add) => ("add", add.labels.codes().iter().map(name).collect::<Vec<_>>().join("+")),
        Statement::Dispute(dispute) => ("dispute", Reason::name_of(dispute.reason)),
        Statement::Revoke(_)
        | Statement::Erase(_)
        | Statement::Void(_)
        | Statement::Observe(_)
        | Statement::State(_)
        | Statement::Unknown => ("unknown", String::new()),
    };
    let commitment = live.leaf.statement.commitment();
    let commitment = || commitment.map(|(_, commitment)| format!("commitment:{commitment}")).unwrap_or_default();
    (say, live.hash.map_or_else(commitment, |hash| hash.to_string()), why)
}

fn line(report: &Report, live: &Live) -> String {
    let (say, about, why) = parts(report, live);
    format!("{}/{}  {}  {say}  {about}  {why}", live.log, live.index, live.leaf.time)
}

fn form(report: &Report, live: &Live) -> Value {
    let (say, about, why) = parts(report, live);
    json!({
        "log": live.log.to_string(), "index": live.index, "time": live.leaf.time.to_string(), "say": say, "about": about, "why": why,
    })
}

fn log_form(log: &Listed) -> Value {
    json!({
        "log": log.log.to_string(), "origin": log.origin, "size": log.size, "root": log.root.to_string(), "live": log.live,
        "tree": log.tree.to_string(), "settled": log.settled.map(|time| time.to_string()),
    })
}
