//! Watching a federation: a running node's word for what is going on, and files for what is true (SPEC 19.11).
//!
//! What the node says of its peers (who is silent, whose clock is off, who shows less than before) nobody else can know, and is
//! told as its word. Everything that it holds is exported into a folder that grows with it, and verified there by the code that
//! verifies any export: so a node that has been deceived, or tampered with, is found out too.

mod judge;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use hashmesh_protocol::audit::{self, Report};
use hashmesh_protocol::charter::Charter;
use hashmesh_protocol::text::escaped;
use serde_json::json;
use tokio::time::sleep;

use self::judge::{Judge, Notice};
use super::super::{Context, Done, complain, write_out};
use super::{ended, finding_form};
use crate::api::form::StatusAnswer;
use crate::audit::ExportFolder;
use crate::client::{Client, ClientError};
use crate::clock;
use crate::documents::Found;
use crate::export::{ExportError, Wanted, export};
use crate::folder::at;
use crate::sentence::sentence;

/// How often the node is asked how it goes.
const LOOK: Duration = Duration::from_secs(1);

const WATCH_CODES: &str = "\
Exit codes, with --once and --exit-on-finding:
  0  nothing was found
  1  something was found
  2  no node answers, or what it hands out cannot be used
  3  equivocation proven: somebody has signed two histories";

/// Follow the federation, verify what comes, and print every finding.
///
/// Talks to the node that runs in the data folder (hashmesh run): a follower's, or a member's own. Findings are printed when they
/// are made, one a line, and again only after they were over.
#[derive(Args, Debug)]
#[command(after_help = WATCH_CODES)]
pub(in crate::cli) struct Watch {
    /// Where to keep what was verified; the data folder's name with -audit if absent.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also verify openings, and tell of those that are missing. With it the folder IS THE LIST.
    #[arg(long)]
    with_openings: bool,
    /// How often what is new is verified, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    every: u64,
    /// How long something may take until it is a finding, in seconds: settling, catching up, openings.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    patience: u64,
    /// Wait until the node has caught up, verify everything, and end.
    #[arg(long)]
    once: bool,
    /// End with the first findings.
    #[arg(long)]
    exit_on_finding: bool,
}

impl Watch {
    pub(in crate::cli) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let charter = Found::in_files(&[context.folder.genesis()])?.genesis()?.charter().clone();
        let folder = self.out.clone().unwrap_or_else(|| {
            let mut name = context.folder.root().as_os_str().to_owned();
            name.push("-audit");
            name.into()
        });
        let tolerance = charter.body().parameters.clock_tolerance;
        let judge = Judge::new(Duration::from_secs(self.patience), tolerance, self.with_openings);
        let mut watcher = Watcher { context, watch: &self, charter, folder, judge, verified: None, held: Vec::new() };
        loop {
            let found = match watcher.round().await {
                Ok(found) => found,
                Err(error) if self.once || !error.is::<ClientError>() => {
                    let why = escaped(&sentence(error.as_ref()));
                    complain(if context.json {
                        json!({ "error": why }).to_string()
                    } else {
                        format!("hashmesh: {why}")
                    });
                    return Ok(Done::Code(2));
                }
                // It is being restarted, perhaps.
                Err(error) => Some(watcher.judge.unreachable(sentence(error.as_ref()), Instant::now())),
            };
            let notices = found.as_deref().unwrap_or_default();
            for notice in watcher.judge.news(notices) {
                watcher.tell(&notice)?;
            }
            let worst = notices.iter().map(|notice| if notice.equivocation { 3 } else { 1 }).max();
            match worst {
                Some(code) if self.exit_on_finding || (self.once && found.is_some()) => return Ok(Done::Code(code)),
                None if self.once && found.is_some() => return Ok(Done::Whole),
                _ => sleep(LOOK).await,
            }
        }
    }
}

struct Watcher<'a> {
    context: &'a Context,
    watch: &'a Watch,
    charter: Charter,
    folder: PathBuf,
    judge: Judge,
    /// When something was verified last, what the node held then, and about what it had something to tell.
    verified: Option<(Instant, String, Vec<String>)>,
    /// What was found then.
    held: Vec<Notice>,
}

impl Watcher<'_> {
    /// Looks once. What is found now; nothing, not even that nothing is found, while `--once` waits for the node to catch up.
    async fn round(&mut self) -> anyhow::Result<Option<Vec<Notice>>> {
        let mut client = Client::admin(&self.context.folder).await?;
        let status: StatusAnswer = client.get("/v1/status").await?;
        let now = Instant::now();
        let mut notices = self.judge.status(&status, now);
        if self.watch.once && !self.judge.has_caught_up(&status, now) {
            return Ok(None);
        }
        let holds = serde_json::to_string(&status.logs)?;
        let told: Vec<String> = notices.iter().map(|notice| notice.about.clone()).collect();
        // What the node sounds an alarm about is looked at now: there may be a proof.
        let due = self.verified.as_ref().is_none_or(|(at, held, before)| {
            *before != told || (*held != holds && now.duration_since(*at) >= Duration::from_secs(self.watch.every))
        });
        if due {
            self.held = self.verify(&mut client).await?;
            self.verified = Some((now, holds, told));
        }
        notices.extend(self.held.iter().cloned());
        Ok(Some(notices))
    }

    /// Fetches what is new, and verifies everything that is there.
    async fn verify(&self, client: &mut Client) -> anyhow::Result<Vec<Notice>> {
        let openings = self.watch.with_openings;
        let wanted = Wanted { folder: self.folder.clone(), members: Vec::new(), openings, at: None };
        match export(client, &wanted, |_, _| ()).await {
            Ok(_) => {}
            // Nobody has said anything yet.
            Err(ExportError::Nothing) => return Ok(Vec::new()),
            Err(ExportError::Client(error)) => return Err(error.into()),
            // The node holds less than it did, or something else.
            Err(
                error @ (ExportError::Ahead { log, .. }
                | ExportError::Root { log, .. }
                | ExportError::Short { log, .. }),
            ) => {
                return Ok(vec![Notice::of(log.to_string(), sentence(&error))]);
            }
            Err(error) => return Err(error.into()),
        }
        let report = verify(&self.folder, &self.charter).with_context(|| self.folder.display().to_string())?;
        self.tell_verified(&report)?;
        let more = (report.more > 0).then(|| Notice::of(String::new(), format!("{} more findings", report.more)));
        Ok(report.findings.iter().map(Notice::from).chain(more).collect())
    }

    fn tell_verified(&self, report: &Report) -> anyhow::Result<()> {
        let statements: u64 = report.logs.iter().map(|log| log.checkpoint.size).sum();
        let settled: u64 = report.logs.iter().filter_map(|log| Some(log.settled?.size)).sum();
        let (logs, findings) = (report.logs.len(), report.findings.len() as u64 + report.more);
        if self.context.json {
            let form = json!({
                "time": moment(), "event": "verified", "logs": logs, "statements": statements, "settled": settled,
                "findings": findings, "outcome_code": code(report),
            });
            return write_out(&format!("{form}\n"));
        }
        write_out(&format!(
            "{}  verified  {logs} logs, {statements} statements, {settled} of them settled; {findings} findings\n",
            moment()
        ))
    }

    fn tell(&self, notice: &Notice) -> anyhow::Result<()> {
        if self.context.json {
            let form = json!({
                "time": moment(), "event": "finding", "about": notice.about, "what": notice.what,
                "equivocation": notice.equivocation, "finding": notice.finding,
            });
            return write_out(&format!("{form}\n"));
        }
        let about = if notice.about.is_empty() { String::new() } else { format!("{}: ", escaped(&notice.about)) };
        write_out(&format!("{}  FINDING   {about}{}\n", moment(), escaped(&notice.what)))
    }
}

fn verify(folder: &Path, charter: &Charter) -> anyhow::Result<Report> {
    let files = ExportFolder::open(folder, |_| ()).map_err(|error| at(folder, error))?;
    Ok(audit::verify(&files, Some(charter.network()))?)
}

/// The code with which `audit verify` would end.
fn code(report: &Report) -> u8 {
    match ended(report.outcome()) {
        Done::Code(code) => code,
        Done::Whole | Done::Part => 0,
    }
}

fn moment() -> String {
    clock::now().to_string()
}

impl From<&audit::Finding> for Notice {
    fn from(finding: &audit::Finding) -> Self {
        let leaf = finding.index.map(|index| format!(", leaf {index}")).unwrap_or_default();
        Self {
            about: format!("{}{leaf}", finding.file),
            what: sentence(&finding.fault),
            equivocation: finding.fault.is_equivocation(),
            finding: Some(finding_form(finding)),
        }
    }
}
