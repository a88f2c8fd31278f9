//! Looking at a running node: status, log.

use std::fmt::Write as _;

use anyhow::Context as _;
use clap::Args;
use hashmesh_protocol::names::MemberId;
use hashmesh_protocol::text::escaped;

use super::table::table;
use super::{Context, Done};
use crate::api::form::{LogAnswer, StatusAnswer};
use crate::client::Client;

/// Shows the running node's state.
pub(super) async fn status(context: &Context) -> anyhow::Result<Done> {
    let mut client = Client::admin(&context.folder).await?;
    let status: StatusAnswer = client.get("/v1/status").await?;
    context.print(&status, || describe(&status))?;
    Ok(Done::Whole)
}

fn describe(status: &StatusAnswer) -> String {
    let federation = &status.federation;
    let mut text = format!(
        "{member}, hashmesh {version}, up {uptime} s\n\
         federation  {name}: {members} members, {jurisdictions} jurisdictions; {threshold} must sign a change\n\
         network     {network}\n\
         charter     version {charter_version}, {charter}\n\
         policy      {policy}\n\
         listening   {listening}\n",
        member = status.member.as_deref().unwrap_or("a follower"),
        version = status.version,
        uptime = status.uptime,
        name = federation.name,
        members = federation.members,
        jurisdictions = federation.jurisdictions,
        threshold = federation.threshold,
        network = federation.network,
        charter_version = federation.version,
        charter = federation.charter,
        policy = status.policy,
        listening = status.listening.join(", "),
    );
    let signing = match (&status.member, &status.silent) {
        (None, _) => "never: it speaks for nobody".to_owned(),
        (_, silent) => silent.clone().unwrap_or_else(|| "yes".to_owned()),
    };
    writeln!(text, "signing     {signing}").expect("writing to memory");
    let governance = &status.governance;
    if !governance.joined {
        text.push_str("joining     the charter of the invitation is not here yet\n");
    }
    if governance.provisional {
        text.push_str(
            "provisional the charter has no successor: a better one with the same parent would still take its place\n",
        );
    }
    if governance.proposals > 0 {
        writeln!(text, "proposals   {} (hashmesh charter pending)", governance.proposals).expect("writing to memory");
    }
    if let Some(conflict) = &governance.conflict {
        writeln!(text, "CONFLICT    charter_conflict: {conflict} (hashmesh charter choose)")
            .expect("writing to memory");
    }
    for member in &governance.disputed {
        writeln!(text, "DISPUTED    {member} has two cards of one number").expect("writing to memory");
    }
    for member in &governance.double_votes {
        writeln!(text, "TWO VOTES   {member} has signed two charters of which one may be signed")
            .expect("writing to memory");
    }
    for rollback in &status.rollbacks {
        let (log, showed, shows) = (&rollback.log, rollback.showed, rollback.shows);
        writeln!(text, "ROLLED BACK a node of {} shows {shows} of {log}, and has shown {showed}", rollback.member)
            .expect("writing to memory");
    }
    if status.forgotten > 0 {
        writeln!(text, "forgotten   {} values (hashmesh forget --list)", status.forgotten).expect("writing to memory");
    }
    if status.queued > 0 {
        writeln!(text, "queued      {} statements wait to be signed", status.queued).expect("writing to memory");
    }
    if status.isolated {
        text.push_str("ISOLATED    too few members were heard lately: newer statements may be missing\n");
    }
    if let Some(stopped) = &status.stopped {
        writeln!(text, "STOPPED     {stopped}").expect("writing to memory");
    }
    for warning in &status.warnings {
        writeln!(text, "warning     {warning}").expect("writing to memory");
    }
    for log in &status.logs {
        if let Some(why) = &log.cannot_settle {
            writeln!(text, "unsettled   {} cannot settle now: {why}", log.member).expect("writing to memory");
        }
    }
    for alarm in &status.alarms {
        writeln!(text, "ALARM       {} {}", alarm.time, escaped(&alarm.text)).expect("writing to memory");
    }
    let peers: Vec<_> = status
        .peers
        .iter()
        .map(|peer| vec![peer.member.clone(), peer.heard.clone().unwrap_or_default(), peer.key.clone()])
        .collect();
    let logs: Vec<_> = status
        .logs
        .iter()
        .map(|log| {
            let state = match (log.forked, log.ends, log.standing.as_deref()) {
                (true, ..) => "FORKED".to_owned(),
                (_, Some(ends), _) => format!("ended at {ends}"),
                (_, _, Some("active") | None) => String::new(),
                (_, _, Some(standing)) => standing.to_owned(),
            };
            let last = log.last.clone().unwrap_or_default();
            let counts = [log.size, log.settled, log.lag, log.missing].map(|count| count.to_string());
            let [size, settled, lag, missing] = counts;
            vec![log.member.clone(), size, settled, lag, missing, last, log.root[..16].to_owned(), state]
        })
        .collect();
    let index: Vec<_> =
        status.index.iter().map(|i| vec![i.kind.clone(), i.live.to_string(), i.known.to_string()]).collect();
    write!(
        text,
        "\n{}\n{}\n{}",
        table(&["PEER", "HEARD", "KEY"], &peers),
        table(&["LOG", "SIZE", "SETTLED", "LAG", "MISSING", "LAST", "ROOT", ""], &logs),
        table(&["HASHES", "LIVE", "KNOWN"], &index),
    )
    .expect("writing to memory");
    text
}

/// Show what a member has said.
#[derive(Args, Debug)]
pub(super) struct Log {
    /// Whose log; this node's own member if absent.
    member: Option<MemberId>,
    /// From which statement on; the last ones if absent.
    #[arg(long)]
    from: Option<u64>,
    /// How many, at most 1000.
    #[arg(long, default_value_t = 20)]
    limit: u64,
    /// Which of the member's logs; the last one if absent.
    #[arg(long)]
    epoch: Option<u32>,
}

impl Log {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let mut client = Client::admin(&context.folder).await?;
        let member = match self.member {
            Some(member) => member.to_string(),
            None => client
                .get::<StatusAnswer>("/v1/status")
                .await?
                .member
                .context("say whose log: this node is a follower")?,
        };
        let from = self.from.map(|from| format!("&from={from}")).unwrap_or_default();
        let epoch = self.epoch.map(|epoch| format!("&epoch={epoch}")).unwrap_or_default();
        let log: LogAnswer = client.get(&format!("/v1/log/{member}?limit={}{from}{epoch}", self.limit)).await?;
        context.print(&log, || {
            let rows = log.entries.iter().map(|entry| {
                let what = match &entry.hash {
                    Some(hash) => hash.clone(),
                    None if entry.erased.is_some() => "(erased)".to_owned(),
                    None if entry.not_held => "(not held here)".to_owned(),
                    None if entry.missing => "(opening missing)".to_owned(),
                    None => String::new(),
                };
                let ends = entry.ends.as_ref().map(|ends| format!("ends {ends}")).unwrap_or_default();
                let mut detail = vec![entry.labels.join("+"), entry.reason.clone().unwrap_or_default(), ends];
                detail.push(entry.note.clone().unwrap_or_default());
                detail.push(if entry.settled { String::new() } else { "not settled yet".to_owned() });
                detail.retain(|part| !part.is_empty());
                vec![entry.index.to_string(), entry.time.clone(), entry.say.clone(), what, detail.join("; ")]
            });
            let rows = table(&["INDEX", "TIME", "SAYS", "HASH", "DETAIL"], &rows.collect::<Vec<_>>());
            format!("{}, {} statements, {} of them settled\n{rows}", log.origin, log.size, log.settled)
        })?;
        Ok(Done::Whole)
    }
}
