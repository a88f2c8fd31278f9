//! `POST /v1/proofs`: statements with all that it takes to believe them elsewhere.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hashmesh_protocol::audit::settled_at;
use hashmesh_protocol::bundle;
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::governance::Governance;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::note::Note;
use hashmesh_protocol::proof::{Extra, NotLive, Proof};
use hashmesh_protocol::serve::{Archive as _, inclusion};
use hashmesh_protocol::statement::{Leaf, Position, Statement};
use hashmesh_protocol::survey::neighbours;
use serde_json::json;

use super::admin::write_down;
use super::body::Read;
use super::error::Problem;
use super::export::unreadable;
use super::form::{ProofForm, ProofsAnswer, ProofsRequest};
use super::{View, off_thread};
use crate::decisions::Actor;
use crate::store::StoreError;

/// Checkpoints that are looked at for one that is settled, from the newest on.
const LOOKED_AT: usize = 64;

/// Proves what members say.
#[utoipa::path(post, path = "/v1/proofs", request_body = ProofsRequest, responses(
    (status = 200, body = ProofsAnswer, description = "one proof a statement, as c2sp.org/tlog-proof has it"),
    (status = 400, description = "not what was expected"),
    (status = 404, description = "nothing is said there"),
))]
pub(super) async fn prove(
    State(view): State<Arc<View>>,
    Extension(actor): Extension<Actor>,
    Read { value: request, encoding }: Read<ProofsRequest>,
) -> Result<Response, Problem> {
    let (places, not_live) = match (&request.hash, &request.place, &request.not_live) {
        (Some(hash), None, None) => (places(&view, &hash.parse().map_err(Problem::bad)?), None),
        (None, Some(place), None) => (vec![parse_place(place)?], None),
        (None, None, Some(place)) => {
            let (log, index) = parse_place(place)?;
            (vec![last_state(&view, log, index)?], Some(Position { epoch: log.epoch, index }))
        }
        _ => {
            return Err(Problem::bad(
                "a proof is wanted either of what is said about a hash, or of what stands at a place, or of what is not live",
            ));
        }
    };
    // Neither here nor elsewhere does the decision log hold hashes.
    write_down(&view, actor, "prove", json!({ "statements": places.len() }))?;
    let answer = off_thread(move || {
        let stored = view.shared.governance.load();
        let proofs: Vec<_> = places
            .into_iter()
            .map(|(log, index)| one(&view, &stored.governance, (log, index), not_live))
            .collect::<Result<_, _>>()?;
        if proofs.is_empty() {
            return Err(Problem::new(StatusCode::NOT_FOUND, "nobody says anything about this hash now"));
        }
        Ok(ProofsAnswer { proofs })
    });
    Ok(encoding.answer(&answer.await?))
}

/// Where members say something about a hash now.
fn places(view: &View, hash: &ContentHash) -> Vec<(LogId, u64)> {
    let catalog = view.matcher.catalog();
    let mut places: Vec<_> =
        catalog.find(hash).into_iter().flat_map(|id| catalog.said(id)).map(|said| (said.log, said.index)).collect();
    places.sort();
    places
}

pub(super) fn parse_place(text: &str) -> Result<(LogId, u64), Problem> {
    let parse = || {
        let (log, index) = text.rsplit_once('/')?;
        let (member, epoch) = log.split_once('/')?;
        Some((LogId { member: member.parse().ok()?, epoch: epoch.parse().ok()? }, index.parse().ok()?))
    };
    parse().ok_or_else(|| Problem::bad(format!("{text:?} is not a place of a log (MEMBER/EPOCH/INDEX)")))
}

/// Where the author of a statement has last said what is live, after it.
fn last_state(view: &View, log: LogId, index: u64) -> Result<(LogId, u64), Problem> {
    let status = view.shared.status.load();
    let logs = status.logs.iter().filter(|other| other.log.member == log.member && other.log >= log);
    let last = logs.filter_map(|other| Some((other.log, other.stated?))).max();
    last.filter(|(stated, at)| *stated > log || *at > index).ok_or_else(|| {
        let why = format!(
            "{} has not said yet what is live of its statements up to {log}/{index}; members do from time to time",
            log.member
        );
        Problem::new(StatusCode::NOT_FOUND, why)
    })
}

/// What is next to a place at which nothing is live, by the statement at another.
fn around(view: &View, log: LogId, leaf: &[u8], position: Position) -> Result<NotLive, Problem> {
    let Ok(Leaf { statement: Statement::State(state), .. }) = Leaf::decode(leaf) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "what stands there does not say what is live"));
    };
    if position >= state.before {
        let why = format!("{} last said what is live before {}", log.member, state.before);
        return Err(Problem::new(StatusCode::NOT_FOUND, why));
    }
    let (federation, status) = (view.federation(), view.shared.status.load());
    let epochs = federation.logs().keys().filter(|id| id.member == log.member && id.epoch <= state.before.epoch);
    let logs = epochs.map(|id| {
        let size = view.archive.signed(*id, 0, u64::MAX).map(|kept| kept.map_or(0, |(size, _)| size));
        // Of one that has ended, what is beyond its end counts for nobody.
        let end = status.logs.iter().find(|log| log.log == *id).and_then(|log| log.ends).unwrap_or(u64::MAX);
        Ok((*id, if id.epoch == state.before.epoch { state.before.index } else { size?.min(end) }))
    });
    let logs = logs.collect::<Result<Vec<_>, StoreError>>().map_err(|error| unreadable(&error))?;
    let found = neighbours(&*view.archive, &logs, position).map_err(|error| unreadable(&error))?;
    let [before, after] = found.ok_or_else(|| {
        let why = format!("it is live, or was when {} last said so, before {}", log.member, state.before);
        Problem::new(StatusCode::CONFLICT, why)
    })?;
    Ok(NotLive { position, before, after })
}

fn one(
    view: &View,
    governance: &Governance,
    (log, index): (LogId, u64),
    not_live: Option<Position>,
) -> Result<ProofForm, Problem> {
    let Some((size, checkpoint)) = checkpoint(view, log, index)? else {
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("nothing that is signed stands at {log}/{index}")));
    };
    let bundles = view.archive.bundles(log, index, index + 1, usize::MAX).map_err(|error| unreadable(&error))?;
    let first = |bundle: &[u8]| bundle::entries(bundle).next().and_then(Result::ok).map(<[u8]>::to_vec);
    let leaf = first(&bundles.leaves).unwrap_or_default();
    let opening = first(&bundles.openings).filter(|opening| !opening.is_empty());
    let path = inclusion(&*view.archive, log, index, size).map_err(|error| unreadable(&error))?;
    let not_live = not_live.map(|position| around(view, log, &leaf, position)).transpose()?;
    let extra = Extra::new(leaf, opening, governance);
    let extra = not_live.into_iter().fold(extra, Extra::not_live);
    let text = Proof { index, path, checkpoint, extra }.to_string();
    Ok(ProofForm { member: log.member.to_string(), epoch: log.epoch, index, text })
}

/// The newest checkpoint that covers a leaf; of the newest few, one that is settled, if there is one.
fn checkpoint(view: &View, log: LogId, index: u64) -> Result<Option<(u64, Note)>, Problem> {
    let mut newest = None;
    let mut up_to = u64::MAX;
    for _ in 0..LOOKED_AT {
        let kept = view.archive.signed(log, index, up_to).map_err(|error| unreadable(&error))?;
        let Some((size, note)) = kept else { break };
        if settled_at(&view.federation(), log, &note).is_some() {
            return Ok(Some((size, note)));
        }
        up_to = size - 1;
        newest = newest.or(Some((size, note)));
    }
    Ok(newest)
}
