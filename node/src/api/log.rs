//! `GET /v1/log/{member}`: what a member has said, in order, from the store.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use hashmesh_protocol::bundle;
use hashmesh_protocol::engine::LogStatus;
use hashmesh_protocol::entries::{Disclosure, Entries, Entry};
use hashmesh_protocol::names::{LogId, MemberId};
use hashmesh_protocol::opening::Opening;
use hashmesh_protocol::serve::Archive as _;
use hashmesh_protocol::statement::{Basis, Position, Reason, Statement};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::View;
use super::body::Encoding;
use super::error::Problem;
use super::form::{EntryForm, LogAnswer};
use super::query::label_name;

/// Most entries in one answer.
const MAX_ENTRIES: u64 = 1000;

/// Which part of a log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    from: Option<u64>,
    limit: Option<u64>,
    epoch: Option<u32>,
}

/// Shows part of a log: the last 20 statements if nothing else is asked for.
#[utoipa::path(get, path = "/v1/log/{member}", params(
    ("member" = String, Path, description = "whose log"),
    ("from" = Option<u64>, Query, description = "index of the first statement"),
    ("limit" = Option<u64>, Query, description = "how many, at most 1000"),
    ("epoch" = Option<u32>, Query, description = "which of the member's logs; the last one if absent"),
), responses((status = 200, body = LogAnswer), (status = 404, description = "no such member")))]
pub(super) async fn show(
    State(view): State<Arc<View>>,
    member: Result<Path<String>, axum::extract::rejection::PathRejection>,
    part: Result<Query<Part>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path(member) = member.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let Query(part) = part.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let member: MemberId = member.parse().map_err(Problem::bad)?;
    let status = view.shared.status.load();
    let is_wanted =
        |log: &&LogStatus| log.log.member == member && part.epoch.is_none_or(|epoch| log.log.epoch == epoch);
    let log = status.logs.iter().rev().find(is_wanted);
    let missing = || Problem::new(StatusCode::NOT_FOUND, format!("{member} is not a member of this federation"));
    let log = log.ok_or_else(missing)?;
    let (id, size, settled, origin) = (log.log, log.size, log.settled, log.origin.clone());
    let limit = part.limit.unwrap_or(20).min(MAX_ENTRIES);
    let from = part.from.unwrap_or(size.saturating_sub(limit)).min(size);
    let reading = Arc::clone(&view);
    let read = spawn_blocking(move || read(&reading, id, from, size.min(from + limit)));
    let failed = |error: String| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error);
    let mut entries = read.await.map_err(|error| failed(error.to_string()))?.map_err(failed)?;
    entries.iter_mut().for_each(|entry| entry.settled = entry.index < settled);
    Ok(Encoding::wanted(&headers).answer(&LogAnswer { origin, size, settled, entries }))
}

fn read(view: &View, log: LogId, from: u64, to: u64) -> Result<Vec<EntryForm>, String> {
    if from >= to {
        return Ok(Vec::new());
    }
    let bundles = view.archive.bundles(log, from, to, usize::MAX).map_err(|error| error.to_string())?;
    let openings = bundles.openings.clone();
    let entries = Entries::read(log, from, bundles.leaves, bundles.openings).map_err(|error| error.to_string())?;
    let openings = bundle::entries(&openings).map(|opening| opening.unwrap_or_default());
    Ok(entries
        .iter()
        .zip(openings)
        .map(|((index, entry), opening)| show_entry(view, log, index, entry, opening))
        .collect())
}

/// The content hash of a statement of the same author, if it has been opened here.
fn hash_at(view: &View, log: LogId, at: Position) -> Option<String> {
    let log = LogId { epoch: at.epoch, ..log };
    let bundles = view.archive.bundles(log, at.index, at.index + 1, usize::MAX).ok()?;
    let entries = Entries::read(log, at.index, bundles.leaves, bundles.openings).ok()?;
    let (_, entry) = entries.iter().next()?;
    match &entry.disclosure {
        Disclosure::Present(hash) => hash.map(|hash| hash.to_string()),
        _ => None,
    }
}

fn show_entry(view: &View, log: LogId, index: u64, entry: &Entry, opening: &[u8]) -> EntryForm {
    let statement = &entry.leaf.statement;
    let federation = view.federation();
    let charter = federation.charter();
    let erased = view.archive.erased(log, index).filter(|_| entry.disclosure == Disclosure::Missing);
    let not_held = view.archive.is_not_held(log, index);
    let (say, labels, reason) = match statement {
        Statement::Add(add) => {
            ("add", add.labels.codes().iter().map(|code| label_name(charter, *code)).collect(), None)
        }
        Statement::Dispute(dispute) => ("dispute", Vec::new(), Some(Reason::name_of(dispute.reason))),
        Statement::Revoke(revoke) => ("revoke", Vec::new(), Some(Reason::name_of(revoke.reason))),
        Statement::Erase(erase) => ("erase", Vec::new(), Some(Basis::name_of(erase.basis))),
        Statement::Void(void) => ("void", Vec::new(), Some(format!("{}/{}", void.epoch, void.from))),
        Statement::Observe(_) => ("observe", Vec::new(), None),
        Statement::State(_) => ("state", Vec::new(), None),
        Statement::Unknown => ("unknown", Vec::new(), None),
    };
    EntryForm {
        index,
        time: entry.leaf.time.to_string(),
        say: say.to_owned(),
        hash: match (&entry.disclosure, statement) {
            (Disclosure::Present(Some(hash)), _) => Some(hash.to_string()),
            (_, Statement::Revoke(_) | Statement::Erase(_)) => {
                statement.ends().and_then(|ended| hash_at(view, log, ended))
            }
            _ => None,
        },
        labels,
        reason,
        ends: statement.ends().map(|position| position.to_string()),
        missing: entry.disclosure == Disclosure::Missing && erased.is_none() && !not_held,
        not_held,
        erased: erased.map(|by| by.to_string()),
        settled: false,
        note: Opening::decode(opening).ok().and_then(|opening| opening.note.map(str::to_owned)),
    }
}
