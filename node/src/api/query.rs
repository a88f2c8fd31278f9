//! `query.sock`: what the platform's own services ask. Answered from memory, by this platform's policy.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hashmesh_protocol::catalog::{Attributes, Said};
use hashmesh_protocol::content_hash::{ContentHash, Media};
use hashmesh_protocol::policy::{MAX_DISTANCE, Policy, effect};
use hashmesh_protocol::statement::Reason;
use hashmesh_protocol::time::Timestamp;
use serde::Deserialize;

use super::body::{Encoding, Read};
use super::error::{Problem, no_such_method, no_such_path};
use super::form::{Basis, Claim, HealthAnswer, Match, MatchAnswer, MatchRequest, MatchResult};
use super::{View, metrics, openapi};
use crate::clock;

/// Most hashes in one request.
pub(super) const MAX_HASHES: usize = 10_000;

/// The paths of `query.sock`.
pub fn router(view: Arc<View>) -> Router {
    Router::new()
        .route("/v1/match", post(match_many))
        .route("/v1/match/{hash}", get(match_one))
        .route("/v1/health", get(health))
        .route("/v1/ready", get(ready))
        .route("/metrics", get(metrics::show))
        .route("/openapi.json", get(openapi::query))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(view)
}

/// Asks about many hashes.
#[utoipa::path(post, path = "/v1/match", request_body = MatchRequest, responses(
    (status = 200, body = MatchAnswer),
    (status = 400, description = "a hash or a field that is not one; nothing is answered"),
    (status = 413, description = "the body is too long, or has more than 10,000 hashes"),
))]
pub(super) async fn match_many(
    State(view): State<Arc<View>>,
    Read { value: request, encoding }: Read<MatchRequest>,
) -> Result<Response, Problem> {
    let begun = Instant::now();
    if request.hashes.len() > MAX_HASHES {
        let message = format!("{} hashes in one request; at most {MAX_HASHES}", request.hashes.len());
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let asker = Asker::new(&view, request.max_distance, request.explain)?;
    let mut results = Vec::with_capacity(request.hashes.len());
    for (item, text) in request.hashes.iter().enumerate() {
        let hash = text.parse().map_err(|error| Problem::bad(format!("hashes[{item}]: {error}")))?;
        results.push(asker.ask(text, &hash));
    }
    view.metrics.queried(&results, begun);
    Ok(encoding.answer(&MatchAnswer { results, basis: asker.basis() }))
}

/// What can be set in the address of a single question.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MatchOptions {
    max_distance: Option<u32>,
    #[serde(default)]
    explain: bool,
}

/// Asks about one hash.
#[utoipa::path(get, path = "/v1/match/{hash}", params(
    ("hash" = String, Path, description = "KIND:HEX"),
    ("max_distance" = Option<u32>, Query, description = "bits of a PDQ hash that may differ, 0 to 31"),
    ("explain" = Option<bool>, Query, description = "whether to list what matched and who says so"),
), responses((status = 200, body = MatchAnswer), (status = 400, description = "not a hash")))]
pub(super) async fn match_one(
    State(view): State<Arc<View>>,
    text: Result<Path<String>, axum::extract::rejection::PathRejection>,
    options: Result<Query<MatchOptions>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let begun = Instant::now();
    let Path(text) = text.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let Query(options) = options.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let hash: ContentHash = text.parse().map_err(Problem::bad)?;
    let asker = Asker::new(&view, options.max_distance, options.explain)?;
    let results = vec![asker.ask(&text, &hash)];
    view.metrics.queried(&results, begun);
    Ok(Encoding::wanted(&headers).answer(&MatchAnswer { results, basis: asker.basis() }))
}

/// One request's questions: all of them are answered by one policy, at one moment.
struct Asker<'a> {
    view: &'a View,
    policy: Arc<Policy>,
    as_of: Timestamp,
    max_distance: Option<u32>,
    explain: bool,
}

impl<'a> Asker<'a> {
    fn new(view: &'a View, max_distance: Option<u32>, explain: bool) -> Result<Self, Problem> {
        if max_distance.is_some_and(|distance| distance > MAX_DISTANCE) {
            return Err(Problem::bad(format!("max_distance must be 0 to {MAX_DISTANCE}")));
        }
        Ok(Self { view, policy: view.policy.load_full(), as_of: clock::now(), max_distance, explain })
    }

    fn ask(&self, text: &str, hash: &ContentHash) -> MatchResult {
        let charter = self.view.federation.charter();
        let answer = self.view.matcher.ask(hash, self.max_distance, &self.policy, charter, self.as_of);
        let matches = self.explain.then(|| answer.matches.iter().map(|found| self.explained(found)).collect());
        MatchResult { hash: text.to_owned(), decision: answer.decision, found: answer.found, matches }
    }

    fn explained(&self, found: &crate::index::Match<'_>) -> Match {
        let (mut adds, mut disputes) = (Vec::new(), Vec::new());
        for said in &found.matched.said {
            match said.attributes {
                Attributes::Add { .. } => adds.push(self.claim(said)),
                Attributes::Dispute { .. } => disputes.push(self.claim(said)),
            }
        }
        for claims in [&mut adds, &mut disputes] {
            claims.sort_by(|a, b| a.origin.cmp(&b.origin));
        }
        Match {
            hash: found.matched.hash.to_string(),
            distance: found.matched.distance,
            decision: found.verdict.decision,
            rule: found.verdict.rule.clone(),
            negative: found.verdict.negative,
            adds,
            disputes,
        }
    }

    fn claim(&self, said: &Said<'_>) -> Claim {
        let charter = self.view.federation.charter();
        let mut claim = Claim {
            member: said.log.member.to_string(),
            jurisdiction: charter.member(said.log.member).map(|member| member.jurisdiction.to_string()),
            origin: self.view.federation.origins().origin(said.log),
            index: said.index,
            time: said.time.to_string(),
            labels: Vec::new(),
            media: None,
            quality: None,
            reason: None,
            without_effect: false,
        };
        match said.attributes {
            Attributes::Add { labels, media, quality, .. } => {
                claim.labels = labels.codes().iter().map(|code| label_name(charter, *code)).collect();
                claim.media = Media::from_number(*media);
                claim.quality = *quality;
                claim.without_effect = effect(said, charter, self.as_of).is_none();
            }
            Attributes::Dispute { reason } => claim.reason = Reason::from_number(*reason),
        }
        claim
    }

    fn basis(&self) -> Basis {
        let charter = self.view.federation.charter();
        let status = self.view.shared.status.load();
        Basis {
            policy: self.policy.id().to_string(),
            charter: charter.id().to_string(),
            charter_version: charter.body().version,
            as_of: self.as_of.to_string(),
            isolated: status.isolated,
            behind: status.logs.iter().map(|log| log.known - log.size).sum(),
        }
    }
}

/// The name of a label, or its number where the charter has none.
pub(super) fn label_name(charter: &hashmesh_protocol::charter::Charter, code: u16) -> String {
    charter.label(code).map_or_else(|| code.to_string(), |label| label.name.clone())
}

/// Whether the process is alive.
#[utoipa::path(get, path = "/v1/health", responses((status = 200, body = HealthAnswer)))]
pub(super) async fn health() -> Response {
    Encoding::Json.answer(&HealthAnswer { status: "ok".to_owned() })
}

/// Whether queries are answered from all that is known, and new statements are taken up.
#[utoipa::path(get, path = "/v1/ready", responses(
    (status = 200, body = HealthAnswer),
    (status = 503, description = "queries are answered, but nothing new is taken up; the answer says why"),
))]
pub(super) async fn ready(State(view): State<Arc<View>>) -> Result<Response, Problem> {
    match view.shared.stopped.load_full() {
        None => Ok(Encoding::Json.answer(&HealthAnswer { status: "ok".to_owned() })),
        Some(why) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)),
    }
}

/// Text for Prometheus.
pub(super) fn plain(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
