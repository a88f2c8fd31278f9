//! What an export is made of, handed out piece by piece: the node never holds more of it than one answer.
//!
//! Reads the store only, beside the thread that writes. That somebody exports, and whether with the openings, is written to the
//! decision log before anything is handed out.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use hashmesh_protocol::armor;
use hashmesh_protocol::evidence::{Accused, Evidence};
use hashmesh_protocol::export;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::serve::Archive as _;
use serde::Deserialize;
use serde_json::json;

use super::admin::write_down;
use super::body::{Encoding, Read};
use super::error::Problem;
use super::form::{CheckpointsAnswer, ExportAnswer, ExportRequest, ExportedFile, ExportedLog};
use super::{View, off_thread};
use crate::decisions::Actor;
use crate::sentence::sentence;

/// Most leaves in one answer: 16 tiles, at most 7 MB with the longest openings.
const MAX_LEAVES: u64 = 4096;

/// Most checkpoints in one answer.
const MAX_CHECKPOINTS: usize = 100;

/// Begins an export.
#[utoipa::path(post, path = "/v1/export", request_body = ExportRequest, responses(
    (status = 200, body = ExportAnswer, description = "charters, cards, evidence, and how far each log goes"),
))]
pub(super) async fn begin(
    State(view): State<Arc<View>>,
    Extension(actor): Extension<Actor>,
    Read { value: request, encoding }: Read<ExportRequest>,
) -> Result<Response, Problem> {
    write_down(&view, actor, "export", json!({ "openings": request.openings }))?;
    let answer = off_thread(move || {
        let mut logs = Vec::new();
        for &log in view.federation().logs().keys() {
            let newest = view.archive.signed(log, 0, u64::MAX).map_err(|error| unreadable(&error))?;
            if let Some((size, _)) = newest {
                logs.push(ExportedLog { member: log.member.to_string(), epoch: log.epoch, size });
            }
        }
        let documents = export::documents(&view.shared.governance.load().governance);
        let documents = documents.into_iter().map(|(file, text)| ExportedFile { file, text }).collect();
        let network = view.federation().charter().network().to_string();
        let mut files = evidence(&view)?;
        if request.openings {
            files.extend(not_held(&view));
        }
        Ok(ExportAnswer { network, documents, evidence: files, logs })
    });
    Ok(encoding.answer(&answer.await?))
}

/// What of the openings this node does not hold by its own decision.
fn not_held(view: &View) -> Option<ExportedFile> {
    let places = view.archive.not_held();
    let lines = places.iter().map(|(log, index, since)| export::not_held(*log, *index, *since)).collect();
    (!places.is_empty()).then(|| ExportedFile { file: export::NOT_HELD.to_owned(), text: lines })
}

/// The evidence that is held, by its files.
fn evidence(view: &View) -> Result<Vec<ExportedFile>, Problem> {
    let federation = view.federation();
    let logs = federation.logs().keys().map(|&log| Accused::Log(log));
    let witnesses = federation.witnesses().keys().map(|&member| Accused::Witness(member));
    let mut files = Vec::new();
    for accused in logs.chain(witnesses) {
        if let Some(bytes) = view.archive.evidence(accused).map_err(|error| unreadable(&error))? {
            // The same check as wherever evidence comes in: what is exported has been read.
            let evidence = Evidence::read(&bytes, &federation).map_err(|error| unreadable(&error))?;
            files.push(ExportedFile { file: export::evidence(accused), text: armor::write_evidence(&evidence) });
        }
    }
    Ok(files)
}

/// Which checkpoints.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpTo {
    up_to: Option<u64>,
}

/// Hands out the checkpoints that are kept of a log, the largest first, about 100 at a time; of one size the newest first.
#[utoipa::path(get, path = "/v1/export/{member}/{epoch}/checkpoints", params(
    ("member" = String, Path, description = "whose log"),
    ("epoch" = u32, Path, description = "which of its logs"),
    ("up_to" = Option<u64>, Query, description = "of at most so many leaves"),
), responses((status = 200, body = CheckpointsAnswer), (status = 404, description = "no such log")))]
pub(super) async fn checkpoints(
    State(view): State<Arc<View>>,
    log: Result<Path<(String, u32)>, PathRejection>,
    part: Result<Query<UpTo>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let log = known(&view, log)?;
    let Query(part) = part.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let answer = off_thread(move || {
        let (mut checkpoints, mut up_to) = (Vec::new(), part.up_to.unwrap_or(u64::MAX));
        while checkpoints.len() < MAX_CHECKPOINTS {
            let found = view.archive.checkpoints(log, up_to).map_err(|error| unreadable(&error))?;
            let Some((size, notes)) = found else { break };
            checkpoints.extend(notes.iter().rev().map(ToString::to_string));
            up_to = size - 1;
        }
        Ok(CheckpointsAnswer { checkpoints })
    });
    Ok(Encoding::wanted(&headers).answer(&answer.await?))
}

/// Which leaves.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Leaves {
    from: u64,
    to: u64,
    #[serde(default)]
    openings: bool,
}

/// Hands out leaves, at most 4,096: a big-endian u32 length, the bundle of leaves of that length, and the bundle of openings
/// if they are wanted.
#[utoipa::path(get, path = "/v1/export/{member}/{epoch}/leaves", params(
    ("member" = String, Path, description = "whose log"),
    ("epoch" = u32, Path, description = "which of its logs"),
    ("from" = u64, Query, description = "index of the first leaf"),
    ("to" = u64, Query, description = "index after the last"),
    ("openings" = Option<bool>, Query, description = "with what opens their commitments"),
), responses(
    (status = 200, description = "bundles as in c2sp.org/tlog-tiles", content_type = "application/octet-stream"),
    (status = 404, description = "no such log"),
))]
pub(super) async fn leaves(
    State(view): State<Arc<View>>,
    log: Result<Path<(String, u32)>, PathRejection>,
    part: Result<Query<Leaves>, QueryRejection>,
) -> Result<Response, Problem> {
    let log = known(&view, log)?;
    let Query(part) = part.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let body = off_thread(move || {
        // Leaves that nothing signed covers yet are nobody's business.
        let newest = view.archive.signed(log, 0, u64::MAX).map_err(|error| unreadable(&error))?;
        let signed = newest.map_or(0, |(size, _)| size);
        let to = part.to.min(part.from.saturating_add(MAX_LEAVES)).min(signed);
        let bundles = view.archive.bundles(log, part.from, to, usize::MAX).map_err(|error| unreadable(&error))?;
        let length = u32::try_from(bundles.leaves.len()).expect("4,096 leaves take a few megabytes");
        let openings = if part.openings { bundles.openings } else { Vec::new() };
        Ok([&length.to_be_bytes(), bundles.leaves.as_slice(), &openings].concat())
    });
    let mut response = Response::new(Body::from(body.await?));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn known(view: &View, log: Result<Path<(String, u32)>, PathRejection>) -> Result<LogId, Problem> {
    let Path((member, epoch)) = log.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let log = LogId { member: member.parse().map_err(Problem::bad)?, epoch };
    let missing = || Problem::new(StatusCode::NOT_FOUND, format!("{log} is no log of this federation"));
    view.federation().logs().contains_key(&log).then_some(log).ok_or_else(missing)
}

pub(super) fn unreadable(error: &(dyn std::error::Error + 'static)) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, sentence(error))
}
