//! `query.sock`: what the platform's own services ask. Answered from memory, by this platform's policy.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::FutureExt as _;
use hashmesh_protocol::catalog::{Attributes, Said};
use hashmesh_protocol::content_hash::{ContentHash, HashKind, Media};
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::policy::{Circumstances, Decision, MAX_DISTANCE, Policy, Tripped, effect};
use hashmesh_protocol::statement::Reason;
use hashmesh_protocol::time::Timestamp;
use hyper::body::Incoming;
use rayon::prelude::*;
use serde::Deserialize;

use super::asked::Asked;
use super::body::{Encoding, Read};
use super::error::{Problem, no_such_method, no_such_path};
use super::form::{Claim, HealthAnswer, Match, MatchAnswer, MatchRequest, MatchResult};
use super::socket::{Answer, Answers};
use super::{View, metrics, off_thread, openapi};
use crate::clock;
use crate::index::{Indexing, MAX_LISTED};

/// Most hashes in one request.
pub(super) const MAX_HASHES: usize = 10_000;

/// Matches that are listed in one answer, however many hashes it is about.
const MAX_LISTED_IN_ALL: usize = 10_000;

/// Exact lookups that take as long as one near one does, in a large list.
const NEAR_COST: usize = 64;

/// Lookups that are done where the request arrived: they take less time than handing them over.
const SHORT: usize = 1024;

/// Hashes that one core takes at a time of a wide request.
const PIECE: usize = 64;

/// What `query.sock` answers.
pub fn answers(view: Arc<View>) -> Answers {
    let router = router(view.clone());
    Box::new(move |request| direct(&view, &router, request))
}

/// Answers the two questions that services ask for every upload, as they are commonly put, without a way through the router:
/// that takes as long as the answer does.
fn direct(view: &Arc<View>, router: &Router, request: Request<Incoming>) -> Answer {
    let (method, path) = (request.method(), request.uri().path());
    let one =
        path.strip_prefix("/v1/match/").filter(|one| request.uri().query().is_none() && !one.contains(['%', '/']));
    if let (&Method::GET, Some(text)) = (method, one) {
        let hash = text.parse().map_err(Problem::bad);
        let answer = hash.and_then(|hash| answer_one(view.clone(), hash, MatchOptions::default(), request.headers()));
        return Answer::Now(answer.into_response());
    }
    if (method, path) == (&Method::POST, "/v1/match") {
        let view = view.clone();
        let answer = async move { match_many(State(view), Read::of(request).await?).await };
        return Answer::Later(Box::pin(answer.map(IntoResponse::into_response)));
    }
    Answer::routed(router, request)
}

fn router(view: Arc<View>) -> Router {
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

/// `POST /v1/match`, as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    hashes: Asked,
    max_distance: Option<u32>,
    #[serde(default)]
    explain: bool,
}

/// Asks about many hashes.
#[utoipa::path(post, path = "/v1/match", request_body = MatchRequest, responses(
    (status = 200, body = MatchAnswer),
    (status = 400, description = "a hash or a field that is not one; nothing is answered"),
    (status = 413, description = "the body is too long, or has more than 10,000 hashes"),
    (status = 503, description = "the node is still loading, with its progress; PDQ hashes come last"),
))]
pub(super) async fn match_many(
    State(view): State<Arc<View>>,
    Read { value: question, encoding }: Read<Question>,
) -> Result<Response, Problem> {
    let begun = Instant::now();
    let Question { hashes: Asked { hashes, over }, max_distance, explain } = question;
    if over > 0 {
        let message = format!("{} hashes in one request; at most {MAX_HASHES}", hashes.len() + over);
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let near = hashes.iter().filter(|hash| hash.kind() == HashKind::Pdq).count();
    let asker = Asker::new(view, max_distance, explain)?;
    let answer =
        if near * NEAR_COST + hashes.len() > SHORT { asker.wide(hashes).await? } else { asker.all(&hashes)? };
    asker.view.metrics.queried(&answer.decisions, begun);
    Ok(encoding.answer(&answer))
}

/// What can be set in the address of a single question.
#[derive(Default, Deserialize)]
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
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let Path(text) = text.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let options = Query::<MatchOptions>::try_from_uri(request.uri());
    let Query(options) = options.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    answer_one(view, text.parse().map_err(Problem::bad)?, options, request.headers())
}

fn answer_one(
    view: Arc<View>,
    hash: ContentHash,
    options: MatchOptions,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let begun = Instant::now();
    let asker = Asker::new(view, options.max_distance, options.explain)?;
    let answer = asker.all(&[hash])?;
    asker.view.metrics.queried(&answer.decisions, begun);
    Ok(Encoding::wanted(headers).answer(&answer))
}

/// Answers to some of a request's questions, in order.
struct Piece {
    decisions: Vec<Decision>,
    /// Only if explanations were asked for.
    results: Vec<MatchResult>,
}

/// One request's questions: all of them are answered by one policy, at one moment.
#[derive(Clone)]
struct Asker {
    view: Arc<View>,
    policy: Arc<Policy>,
    tripped: Arc<Tripped>,
    as_of: Timestamp,
    max_distance: Option<u32>,
    explain: bool,
}

impl Asker {
    fn new(view: Arc<View>, max_distance: Option<u32>, explain: bool) -> Result<Self, Problem> {
        if max_distance.is_some_and(|distance| distance > MAX_DISTANCE) {
            return Err(Problem::bad(format!("max_distance must be 0 to {MAX_DISTANCE}")));
        }
        let (policy, tripped) = (view.policy.load_full(), view.quarantine.tripped());
        Ok(Self { view, policy, tripped, as_of: clock::now(), max_distance, explain })
    }

    /// Answers on this thread.
    fn all(&self, hashes: &[ContentHash]) -> Result<MatchAnswer, Problem> {
        Ok(self.answer(vec![self.piece(hashes, hashes.len()).map_err(Problem::indexing)?]))
    }

    /// Answers away from the threads that serve sockets, on all cores.
    async fn wide(&self, hashes: Vec<ContentHash>) -> Result<MatchAnswer, Problem> {
        let this = self.clone();
        off_thread(move || {
            let pieces = hashes.par_chunks(PIECE).map(|piece| this.piece(piece, hashes.len()));
            Ok(this.answer(pieces.collect::<Result<_, _>>().map_err(Problem::indexing)?))
        })
        .await
    }

    fn answer(&self, pieces: Vec<Piece>) -> MatchAnswer {
        let mut decisions = Vec::with_capacity(pieces.iter().map(|piece| piece.decisions.len()).sum());
        let mut results = Vec::new();
        for piece in pieces {
            decisions.extend(piece.decisions);
            results.extend(piece.results);
        }
        MatchAnswer {
            decisions,
            results: self.explain.then_some(results),
            basis: self.view.basis(self.policy.id(), self.as_of),
        }
    }

    /// Answers some questions of `of`.
    fn piece(&self, hashes: &[ContentHash], of: usize) -> Result<Piece, Indexing> {
        let View { matcher, remembered, quarantine, .. } = &*self.view;
        let federation = self.view.federation();
        let at = Circumstances { charter: federation.charter(), tripped: &self.tripped, as_of: self.as_of };
        let listed = (MAX_LISTED_IN_ALL / of.max(1)).clamp(1, MAX_LISTED);
        let mut piece = Piece { decisions: Vec::with_capacity(hashes.len()), results: Vec::new() };
        matcher.ask(hashes, self.max_distance, &self.policy, &at, |hash, answer| {
            remembered.push(*hash, self.max_distance);
            for found in answer.matches.iter().filter(|found| found.verdict.decision > Decision::None) {
                quarantine.matched(found.id, &found.matched.hash, self.policy.breakers(), self.as_of);
            }
            piece.decisions.push(answer.decision);
            if self.explain {
                let listed = answer.matches.iter().take(listed);
                let matches = listed.map(|found| self.explained(found, &federation)).collect();
                let (hash, decision, found) = (hash.to_string(), answer.decision, answer.found);
                piece.results.push(MatchResult { hash, decision, found, matches });
            }
        })?;
        Ok(piece)
    }

    fn explained(&self, found: &crate::index::Match<'_>, federation: &Federation) -> Match {
        let (mut adds, mut disputes) = (Vec::new(), Vec::new());
        for said in &found.matched.said {
            match said.attributes {
                Attributes::Add { .. } => adds.push(self.claim(said, federation)),
                Attributes::Dispute { .. } => disputes.push(self.claim(said, federation)),
            }
        }
        for claims in [&mut adds, &mut disputes] {
            claims.sort_by(|a, b| a.origin.cmp(&b.origin));
        }
        Match {
            hash: found.matched.hash.to_string(),
            distance: found.matched.distance,
            decision: found.verdict.decision,
            rule: found.verdict.rule.as_deref().map(str::to_owned),
            lowered: found.verdict.lowered.clone(),
            shadow: found.verdict.shadow.clone(),
            adds,
            disputes,
        }
    }

    fn claim(&self, said: &Said<'_>, federation: &Federation) -> Claim {
        let charter = federation.charter();
        let speaker = charter.speaker(said.log.member);
        let mut claim = Claim {
            member: said.log.member.to_string(),
            jurisdiction: speaker.map(|(jurisdiction, _)| jurisdiction.to_string()),
            departed: speaker.and_then(|(_, departed)| departed).map(|kind| kind.name().to_owned()),
            origin: federation.origins().origin(said.log),
            index: said.index,
            time: said.time.to_string(),
            settled: said.settled,
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
    view.matcher.near().map_err(Problem::indexing)?;
    match view.shared.stopped.load_full() {
        None => Ok(Encoding::Json.answer(&HealthAnswer { status: "ok".to_owned() })),
        Some(why) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)),
    }
}

/// Text for Prometheus.
pub(super) fn plain(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
