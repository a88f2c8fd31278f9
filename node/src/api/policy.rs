//! The policy and the quarantine, for operators.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use hashmesh_protocol::policy::{Circumstances, Decision, Policy, PolicyError};
use serde_json::json;

use super::admin::write_down;
use super::body::{Encoding, Read};
use super::error::Problem;
use super::form::{DiffAnswer, DiffExample, PolicyAnswer, PolicyRequest, QuarantineAnswer, ReleaseRequest};
use super::{View, off_thread};
use crate::clock;
use crate::decisions::Actor;
use crate::folder::replace;
use crate::quarantine::Subject;
use crate::sentence::sentence;

/// Changed queries that are shown one by one.
const EXAMPLES: usize = 100;

/// Shows the policy in force.
#[utoipa::path(get, path = "/v1/policy", responses((status = 200, body = PolicyAnswer)))]
pub(super) async fn show(State(view): State<Arc<View>>, headers: HeaderMap) -> Response {
    Encoding::wanted(&headers).answer(&form(&view.policy.load()))
}

fn form(policy: &Policy) -> PolicyAnswer {
    PolicyAnswer { id: policy.id().to_string(), text: policy.text().to_owned() }
}

/// Puts a policy in force, at once and for good.
#[utoipa::path(post, path = "/v1/policy", request_body = PolicyRequest, responses(
    (status = 200, body = PolicyAnswer, description = "in force and written to the data folder"),
    (status = 400, description = "not a policy for this federation; the old one stays in force"),
))]
pub(super) async fn apply(
    State(view): State<Arc<View>>,
    Extension(actor): Extension<Actor>,
    Read { value: request, encoding }: Read<PolicyRequest>,
) -> Result<Response, Problem> {
    let policy = parse(&view, &request.text)?;
    write_down(&view, actor, "policy", json!({ "id": policy.id().to_string() }))?;
    let path = view.folder.policy();
    let (replacing, text) = (path.clone(), request.text);
    let written = off_thread(move || Ok(replace(&replacing, text.as_bytes()))).await?;
    written.map_err(|error| {
        let message = format!("{}: {error}; the old policy stays in force", path.display());
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    })?;
    let answer = form(&policy);
    view.policy.store(Arc::new(policy));
    if let Some(feed) = &view.feed {
        feed.sweep();
    }
    Ok(encoding.answer(&answer))
}

/// What would have been decided under another policy about the last queries.
#[utoipa::path(post, path = "/v1/policy/diff", request_body = PolicyRequest, responses(
    (status = 200, body = DiffAnswer),
    (status = 400, description = "not a policy for this federation"),
    (status = 409, description = "this node does not remember queries"),
))]
pub(super) async fn diff(
    State(view): State<Arc<View>>,
    Read { value: request, encoding }: Read<PolicyRequest>,
) -> Result<Response, Problem> {
    let other = parse(&view, &request.text)?;
    let queries = view.remembered.all().ok_or_else(|| {
        let message = "this node does not remember queries; set remember_queries in config.toml and restart it";
        Problem::new(StatusCode::CONFLICT, message)
    })?;
    let answer = off_thread(move || {
        let (policy, tripped) = (view.policy.load_full(), view.quarantine.tripped());
        let federation = view.federation();
        let at = Circumstances { charter: federation.charter(), tripped: &tripped, as_of: clock::now() };
        let mut answer = DiffAnswer { queries: queries.len(), changed: 0, raised: 0, lowered: 0, examples: Vec::new() };
        for (hash, max_distance) in queries {
            let decide = |policy: &Policy| {
                let mut decided = (Decision::None, None);
                let asked = view.matcher.ask(&[hash], max_distance, policy, &at, |_, answer| {
                    let rule = answer.matches.first().and_then(|first| first.verdict.rule.as_deref());
                    decided = (answer.decision, rule.map(str::to_owned));
                });
                asked.map_err(Problem::indexing).map(|()| decided)
            };
            let ((before, rule_before), (after, rule_after)) = (decide(&policy)?, decide(&other)?);
            if before == after {
                continue;
            }
            answer.changed += 1;
            *if after > before { &mut answer.raised } else { &mut answer.lowered } += 1;
            if answer.examples.len() < EXAMPLES {
                answer.examples.push(DiffExample { hash: hash.to_string(), before, after, rule_before, rule_after });
            }
        }
        Ok(answer)
    });
    Ok(encoding.answer(&answer.await?))
}

fn parse(view: &View, text: &str) -> Result<Policy, Problem> {
    Policy::parse(text, view.federation().charter()).map_err(|error: PolicyError| Problem::bad(sentence(&error)))
}

/// Shows what waits for a person.
#[utoipa::path(get, path = "/v1/quarantine", responses((status = 200, body = QuarantineAnswer)))]
pub(super) async fn quarantine(State(view): State<Arc<View>>, headers: HeaderMap) -> Response {
    Encoding::wanted(&headers).answer(&QuarantineAnswer { held: view.quarantine.list() })
}

/// Releases a member or a hash: somebody has looked.
#[utoipa::path(post, path = "/v1/quarantine/release", request_body = ReleaseRequest, responses(
    (status = 200, body = QuarantineAnswer, description = "released; this is left"),
    (status = 404, description = "not in quarantine"),
))]
pub(super) async fn release(
    State(view): State<Arc<View>>,
    Extension(actor): Extension<Actor>,
    Read { value: request, encoding }: Read<ReleaseRequest>,
) -> Result<Response, Problem> {
    let subject: Subject = request.subject.parse().map_err(Problem::bad)?;
    // No hash in the decision log.
    let named = match subject {
        Subject::Member(member) => member.to_string(),
        Subject::Hash(hash) => format!("a {} hash", hash.kind()),
    };
    write_down(&view, actor, "quarantine-release", json!({ "subject": named }))?;
    let quarantine = view.quarantine.clone();
    let released = off_thread(move || Ok(quarantine.release(subject))).await?;
    match released {
        Ok(true) => Ok(encoding.answer(&QuarantineAnswer { held: view.quarantine.list() })),
        Ok(false) => Err(Problem::new(StatusCode::NOT_FOUND, format!("{subject} is not in quarantine"))),
        Err(error) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, sentence(&error))),
    }
}
