//! Deleting openings on this node alone, for its own platform's legal reasons (SPEC 20.7).

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use hashmesh_protocol::catalog::Standing;
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::engine::Input;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::text::is_plain;
use serde_json::json;

use super::admin::{gone, taken_up, write_down};
use super::body::{Encoding, Read};
use super::error::Problem;
use super::form::{ForgetAnswer, ForgetRequest, ForgottenAnswer, ForgottenForm, NotHeldForm};
use super::proofs::parse_place;
use super::{View, off_thread};
use crate::decisions::Actor;
use crate::mailbox::Lane;
use crate::quarantine::Subject;
use crate::sentence::sentence;

/// Longest reason, in bytes.
const MAX_REASON: usize = 1000;

/// Holds no opening of a hash from now on, whoever has stated it or will.
#[utoipa::path(post, path = "/v1/forget", request_body = ForgetRequest, responses(
    (status = 200, body = ForgetAnswer, description = "hidden now; nothing of it is in any file of the store ten seconds later"),
    (status = 400, description = "neither a hash nor a place at which one is known"),
))]
pub(super) async fn forget(
    State(view): State<Arc<View>>,
    Extension(actor): Extension<Actor>,
    Read { value: request, encoding }: Read<ForgetRequest>,
) -> Result<Response, Problem> {
    if request.reason.trim().is_empty() {
        return Err(Problem::bad("say why: it is written down"));
    }
    if request.reason.len() > MAX_REASON || !request.reason.chars().all(is_plain) {
        return Err(Problem::bad(format!("the reason is one line of plain text, of at most {MAX_REASON} bytes")));
    }
    let hash: ContentHash = match (&request.hash, &request.place) {
        (Some(text), None) => text.parse().map_err(Problem::bad)?,
        (None, Some(place)) => {
            let (log, index) = parse_place(place)?;
            match view.matcher.catalog().standing(log, index) {
                Standing::Opened { hash, .. } => hash,
                Standing::Unopened | Standing::Nothing => {
                    let why = format!("no hash is known here of what stands at {place}");
                    return Err(Problem::new(StatusCode::NOT_FOUND, why));
                }
            }
        }
        _ => return Err(Problem::bad("either a hash or a place")),
    };
    let hex = hash.to_string();
    let hex = hex.rsplit(':').next().expect("KIND:HEX");
    if request.reason.to_ascii_lowercase().contains(hex) {
        return Err(Problem::bad("the reason names the hash, and is kept: it must not"));
    }
    // Not which: this must not be where it stays.
    write_down(&view, actor, "forget", json!({ "reason": request.reason }))?;
    let catalog = view.matcher.catalog();
    let federation = view.federation();
    let members: BTreeSet<_> = federation.logs().keys().map(|log| log.member).collect();
    let of = |member| {
        let positions = catalog.find(&hash).map(|id| catalog.all_of(member, id)).unwrap_or_default();
        positions.into_iter().map(move |at| (LogId { member, epoch: at.epoch }, at.index))
    };
    // Before the places: what arrives from now on is not shown, and what a crash leaves is found at the next start.
    let failed = |error: &(dyn Error + 'static)| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, sentence(error));
    let new = view.forgotten.add(&hash, request.reason).map_err(|error| failed(&error))?;
    let mut places: Vec<(LogId, u64)> = members.into_iter().flat_map(of).collect();
    let searching = view.archive.clone();
    let in_hold = off_thread(move || Ok(searching.in_hold(|held| *held == hash))).await?;
    places.append(&mut in_hold.map_err(|error| failed(&error))?);
    places.sort_unstable();
    places.dedup();
    view.quarantine.release(Subject::Hash(hash)).map_err(|error| failed(&error))?;
    let count = places.len();
    view.mailbox.send(Lane::Urgent, Input::Forget(places)).await.map_err(|_| gone(&view))?;
    taken_up(&view).await?;
    Ok(encoding.answer(&ForgetAnswer { new, statements: count }))
}

/// Shows what is not held here: since when, why, and at which places; no hash.
#[utoipa::path(get, path = "/v1/forget", responses((status = 200, body = ForgottenAnswer)))]
pub(super) async fn list(State(view): State<Arc<View>>, headers: HeaderMap) -> Response {
    let values = view.forgotten.entries().into_iter();
    let values = values.map(|entry| ForgottenForm { since: entry.since.to_string(), reason: entry.reason }).collect();
    let places = view.archive.not_held().into_iter();
    let places =
        places.map(|(log, index, since)| NotHeldForm { place: format!("{log}/{index}"), since: since.to_string() });
    Encoding::wanted(&headers).answer(&ForgottenAnswer { values, places: places.collect() })
}
