//! `POST /v1/proofs`: statements with all that it takes to believe them elsewhere.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hashmesh_protocol::audit::settled_at;
use hashmesh_protocol::bundle;
use hashmesh_protocol::charter::Genesis;
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::note::Note;
use hashmesh_protocol::proof::{Extra, Proof};
use hashmesh_protocol::serve::{Archive as _, inclusion};
use serde_json::json;

use super::admin::write_down;
use super::body::Read;
use super::error::Problem;
use super::export::unreadable;
use super::form::{ProofForm, ProofsAnswer, ProofsRequest};
use super::{View, off_thread};
use crate::decisions::Actor;
use crate::documents::Found;

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
    let places = match (&request.hash, &request.place) {
        (Some(hash), None) => places(&view, &hash.parse().map_err(Problem::bad)?),
        (None, Some(place)) => vec![
            parse_place(place)
                .ok_or_else(|| Problem::bad(format!("{place:?} is not a place of a log (MEMBER/EPOCH/INDEX)")))?,
        ],
        _ => {
            return Err(Problem::bad(
                "a proof is wanted either of what is said about a hash or of what stands at a place",
            ));
        }
    };
    // Neither here nor elsewhere does the decision log hold hashes.
    write_down(&view, actor, "prove", json!({ "statements": places.len() }))?;
    let answer = off_thread(move || {
        let genesis = Found::in_files(&[view.folder.genesis()]).and_then(|found| found.genesis());
        let genesis = genesis.map_err(|error| unreadable(&error))?;
        let proofs: Vec<_> =
            places.into_iter().map(|(log, index)| one(&view, &genesis, log, index)).collect::<Result<_, _>>()?;
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

fn parse_place(text: &str) -> Option<(LogId, u64)> {
    let (log, index) = text.rsplit_once('/')?;
    let (member, epoch) = log.split_once('/')?;
    Some((LogId { member: member.parse().ok()?, epoch: epoch.parse().ok()? }, index.parse().ok()?))
}

fn one(view: &View, genesis: &Genesis, log: LogId, index: u64) -> Result<ProofForm, Problem> {
    let Some((size, checkpoint)) = checkpoint(view, log, index)? else {
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("nothing that is signed stands at {log}/{index}")));
    };
    let bundles = view.archive.bundles(log, index, index + 1, usize::MAX).map_err(|error| unreadable(&error))?;
    let first = |bundle: &[u8]| bundle::entries(bundle).next().and_then(Result::ok).map(<[u8]>::to_vec);
    let leaf = first(&bundles.leaves).unwrap_or_default();
    let opening = first(&bundles.openings).filter(|opening| !opening.is_empty());
    let path = inclusion(&*view.archive, log, index, size).map_err(|error| unreadable(&error))?;
    let witnesses = &genesis.charter().body().witnesses.members;
    let cards = genesis.cards().iter().filter(|(id, _)| **id == log.member || witnesses.contains(id));
    let extra = Extra::new(leaf, opening, genesis.charter(), cards.map(|(_, card)| card));
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
        if settled_at(&view.federation, log, &note).is_some() {
            return Ok(Some((size, note)));
        }
        up_to = size - 1;
        newest = newest.or(Some((size, note)));
    }
    Ok(newest)
}
