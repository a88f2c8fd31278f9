//! `GET /v1/status`: what an operator wants to see at a glance.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use hashmesh_protocol::charter::Charter;
use hashmesh_protocol::content_hash::HashKind;
use hashmesh_protocol::engine::LogStatus;
use hashmesh_protocol::federation::Standing;

use super::View;
use super::body::Encoding;
use super::form::{
    AlarmForm, FederationForm, GovernanceForm, IndexForm, LogForm, NearForm, PeerForm, RollbackForm, StatusAnswer,
};
use crate::index::near::NearStatus;

/// Shows the node's state.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = StatusAnswer)))]
pub(super) async fn show(State(view): State<Arc<View>>, headers: HeaderMap) -> Response {
    let status = view.shared.status.load();
    let current = view.federation();
    let charter = current.charter();
    let catalog = view.matcher.catalog();
    let peers = status.peers.iter().map(|peer| PeerForm {
        member: peer.member.to_string(),
        key: peer.key.to_string(),
        heard: peer.heard.map(|at| at.to_string()),
        clock_ahead: peer.clock_ahead,
    });
    let rollbacks = status.rollbacks.iter().map(|rollback| RollbackForm {
        member: rollback.member.to_string(),
        log: rollback.log.to_string(),
        showed: rollback.showed,
        shows: rollback.shows,
    });
    let alarms = view.shared.alarms.lock();
    let alarms = alarms.iter().map(|(time, alarm)| AlarmForm { time: time.to_string(), text: alarm.to_string() });
    let answer = StatusAnswer {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        member: view.member.map(|member| member.to_string()),
        uptime: view.started.elapsed().as_secs(),
        federation: federation(charter),
        governance: governance(&view),
        listening: (view.net.listening)(),
        silent: status.silence.map(|silence| silence.to_string()).or_else(|| mute(&view)),
        stopped: view.shared.stopped.load_full().map(|why| why.to_string()),
        queued: status.queued,
        isolated: view.is_isolated(),
        clock_ahead: status.clock_ahead,
        peers: peers.collect(),
        rollbacks: rollbacks.collect(),
        logs: status.logs.iter().map(log).collect(),
        index: HashKind::ALL
            .map(|kind| IndexForm { kind: kind.to_string(), live: catalog.live(kind), known: catalog.known(kind) })
            .to_vec(),
        near: view.matcher.near().ok().map(|near| near.status().into()),
        policy: view.policy.load().id().to_string(),
        forgotten: view.forgotten.count(),
        warnings: warnings(charter),
        alarms: alarms.collect(),
    };
    Encoding::wanted(&headers).answer(&answer)
}

impl From<NearStatus> for NearForm {
    fn from(status: NearStatus) -> Self {
        let NearStatus { indexed, tail, bytes, scans } = status;
        Self { indexed, tail, bytes, scans }
    }
}

fn jurisdictions(charter: &Charter) -> usize {
    charter.body().members.iter().map(|member| member.jurisdiction).collect::<BTreeSet<_>>().len()
}

fn federation(charter: &Charter) -> FederationForm {
    let body = charter.body();
    FederationForm {
        name: body.federation.to_string(),
        network: charter.network().to_string(),
        charter: charter.id().to_string(),
        version: body.version,
        members: body.members.len(),
        jurisdictions: jurisdictions(charter),
        threshold: body.threshold.threshold(body.members.len()),
    }
}

fn log(status: &LogStatus) -> LogForm {
    LogForm {
        member: status.log.member.to_string(),
        origin: status.origin.clone(),
        size: status.size,
        lag: status.known - status.size,
        root: status.root.to_string(),
        last: status.last.map(|time| time.to_string()),
        missing: status.missing,
        settled: status.settled,
        cannot_settle: status.cannot_settle.as_ref().map(ToString::to_string),
        forked: status.forked,
        standing: status.standing.map(|standing| standing.name().to_owned()),
        ends: status.ends,
    }
}

/// Why a member's node has no log to write, if so.
pub(super) fn mute(view: &View) -> Option<String> {
    let member = view.member?;
    if view.shared.status.load().own.is_some() {
        return None;
    }
    let stored = view.shared.governance.load();
    let federation = stored.governance.federation();
    Some(match federation.standing(member) {
        None => format!("{member} is no member yet: it waits for a charter that admits it"),
        Some(Standing::Active) if federation.disputed().any(|(disputed, _)| disputed == member) => {
            format!("{member} has two cards of one number; a charter must name one (hashmesh charter propose --card)")
        }
        Some(Standing::Active) => {
            format!(
                "the log of {member} may not be written: its key is not in this folder, is another's too, or has signed two histories again"
            )
        }
        Some(standing) => format!("{member} is {}: nothing is said in its name any more", standing.name()),
    })
}

/// Charters and cards.
fn governance(view: &View) -> GovernanceForm {
    let stored = view.shared.governance.load();
    let (governance, federation) = (&stored.governance, stored.governance.federation());
    let standing = view.member.and_then(|member| federation.standing(member));
    GovernanceForm {
        since: stored.since.to_string(),
        joined: governance.has_joined(),
        standing: standing.map(|standing| standing.name().to_owned()),
        provisional: governance.is_provisional(),
        proposals: governance.proposals().filter(|proposal| proposal.follows_the_tip).count(),
        conflict: governance.conflict().map(|conflict| {
            format!("{} here, {} elsewhere, from version {} on", conflict.ours, conflict.theirs, conflict.version)
        }),
        disputed: federation.disputed().map(|(member, _)| member.to_string()).collect(),
        double_votes: governance.double_votes().keys().map(ToString::to_string).collect(),
    }
}

/// What the charter leaves weak (SPEC 10.2).
fn warnings(charter: &Charter) -> Vec<String> {
    let body = charter.body();
    let mut warnings = Vec::new();
    if body.members.len() < 4 {
        warnings.push(format!("{} members: with fewer than four, nobody can be expelled", body.members.len()));
    }
    let members = body.members.len();
    if members >= 4 && body.threshold.threshold(members) == members {
        warnings
            .push(format!("all {members} members must sign every charter: without one of them nothing can be changed"));
    }
    if jurisdictions(charter) < 2 {
        warnings.push("all members answer to one jurisdiction: one court can order all of them".to_owned());
    }
    let parameters = &body.parameters;
    if parameters.cool_down == 0 || parameters.relock == 0 {
        warnings.push("the charter's cool-down or relock is zero: for test networks only".to_owned());
    }
    if parameters.min_protocol > hashmesh_protocol::wire::PROTOCOL {
        warnings.push(format!(
            "the charter wants protocol {} at least, which this version does not speak: install a newer one",
            parameters.min_protocol
        ));
    }
    warnings
}
