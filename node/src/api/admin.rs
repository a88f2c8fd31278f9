//! `admin.sock`: what operators do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use hashmesh_protocol::content_hash::{ContentHash, Media};
use hashmesh_protocol::engine::{Draft, Input, Outcome, Placed, Publication, Silence, Target};
use hashmesh_protocol::entries::MAX_LEAVES;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::opening::Salt;
use hashmesh_protocol::statement::{Labels, Position};
use hashmesh_protocol::time::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::body::Read;
use super::error::{Problem, no_such_method, no_such_path};
use super::form::{
    ImportRequest, PublishAnswer, PublishResult, PublishStatus, SignAloneAnswer, SignAloneRequest, StatementForm,
    StatementsRequest,
};
use super::{View, export, forget, govern, log, metrics, off_thread, openapi, policy, proofs, query, status};
use crate::decisions::Actor;
use crate::mailbox::Lane;
use crate::sentence::sentence;

/// Most statements in one request.
const MAX_STATEMENTS: usize = MAX_LEAVES;

/// How long a publication waits for its signature, if the caller does not say.
const WAIT: u64 = 30;

/// How often somebody who waits for the witnesses looks: as often as the status changes.
const SETTLED_POLL: Duration = Duration::from_millis(5);

/// How long the driver may take to show that it has taken up an order: it shows itself every second.
const TAKEN_UP: Duration = Duration::from_secs(30);

/// The paths of `admin.sock`: those of `query.sock`, and more.
pub fn router(view: Arc<View>) -> Router {
    Router::new()
        .route("/v1/statements", post(statements))
        .route("/v1/import", post(import))
        .route("/v1/sign-alone", post(sign_alone))
        .route("/v1/policy", get(policy::show).post(policy::apply))
        .route("/v1/policy/diff", post(policy::diff))
        .route("/v1/quarantine", get(policy::quarantine))
        .route("/v1/quarantine/release", post(policy::release))
        .route("/v1/status", get(status::show))
        .route("/v1/log/{member}", get(log::show))
        .route("/v1/forget", get(forget::list).post(forget::forget))
        .route("/v1/governance", get(govern::show))
        .route("/v1/charter/choose", post(govern::choose))
        .route("/v1/charter/{id}", get(govern::charter))
        .route("/v1/card/{member}", get(govern::card))
        .route("/v1/ends/{member}", get(govern::ends))
        .route("/v1/proposal", post(govern::proposal))
        .route("/v1/documents", post(govern::submit))
        .route("/v1/proofs", post(proofs::prove))
        .route("/v1/export", post(export::begin))
        .route("/v1/export/{member}/{epoch}/checkpoints", get(export::checkpoints))
        .route("/v1/export/{member}/{epoch}/leaves", get(export::leaves))
        .route("/v1/match", post(query::match_many))
        .route("/v1/match/{hash}", get(query::match_one))
        .route("/v1/health", get(query::health))
        .route("/v1/ready", get(query::ready))
        .route("/metrics", get(metrics::show))
        .route("/openapi.json", get(openapi::admin))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(view)
}

/// For how much a publication waits.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Patience {
    #[serde(default)]
    wait: Until,
}

/// What a publication waits for.
#[derive(Clone, Copy, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Until {
    /// That it is durable and signed.
    #[default]
    Signed,
    /// That it is settled as well.
    Settled,
}

/// Publishes statements in the member's name.
#[utoipa::path(post, path = "/v1/statements", params(
    ("wait" = Option<String>, Query, description = "`settled`: until enough witnesses have cosigned it; `signed` if absent"),
), request_body = StatementsRequest, responses(
    (status = 200, body = PublishAnswer, description = "what became of each; what is placed is durable and signed, and \
        settled unless it says why not yet"),
    (status = 400, description = "not what was expected; nothing was published"),
    (status = 413, description = "too many at once"),
    (status = 503, description = "nothing is being signed now, with the reason; repeating it is safe"),
))]
pub(super) async fn statements(
    State(view): State<Arc<View>>,
    Extension(actor): Extension<Actor>,
    patience: Result<Query<Patience>, QueryRejection>,
    Read { value: request, encoding }: Read<StatementsRequest>,
) -> Result<Response, Problem> {
    let Query(patience) = patience.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    check_count(request.statements.len())?;
    let count = request.statements.len();
    let preparing = view.clone();
    let drafts = off_thread(move || {
        let salts = salts(count)?;
        let forms = request.statements.into_iter().zip(salts);
        Ok(forms.map(|(form, salt)| draft(&preparing, form, salt)).collect::<Vec<_>>())
    });
    let drafts = drafts.await?;
    let wait = Duration::from_secs(request.wait.unwrap_or(WAIT).min(3600));
    let begun = Instant::now();
    let mut answer = publish(&view, actor, "statements", drafts, wait, true).await?;
    if patience.wait == Until::Settled {
        answer.unsettled = settled(&view, &answer, wait.saturating_sub(begun.elapsed())).await;
        answer.settled = Some(answer.unsettled.is_none());
    }
    Ok(encoding.answer(&answer))
}

/// Waits until all that was placed is settled; why it is not, if it is not in time.
async fn settled(view: &View, answer: &PublishAnswer, wait: Duration) -> Option<String> {
    let positions = answer.results.iter().filter_map(|result| parse_position(result.position.as_deref()?));
    let last = positions.max_by_key(|position| (position.epoch, position.index))?;
    let begun = Instant::now();
    loop {
        let status = view.shared.status.load();
        let own = status.own.and_then(|own| status.logs.iter().find(|log| log.log == own));
        if own.is_some_and(|own| own.log.epoch > last.epoch || own.settled > last.index) {
            return None;
        }
        if begun.elapsed() >= wait || view.shared.stopped.load().is_some() {
            let why = own.and_then(|own| own.cannot_settle.as_ref()).map(|why| format!(": {why}")).unwrap_or_default();
            return Some(format!(
                "durable and signed, but not settled within the time given; it will settle later{why}"
            ));
        }
        drop(status);
        sleep(SETTLED_POLL).await;
    }
}

/// Publishes many additions that have everything in common but the hash.
#[utoipa::path(post, path = "/v1/import", request_body = ImportRequest, responses(
    (status = 200, body = PublishAnswer, description = "counts, and what was refused"),
    (status = 400, description = "not what was expected; nothing was published"),
    (status = 413, description = "too many at once"),
    (status = 503, description = "nothing is being signed now, with the reason; repeating it is safe"),
))]
pub(super) async fn import(
    State(view): State<Arc<View>>,
    Extension(actor): Extension<Actor>,
    Read { value: request, encoding }: Read<ImportRequest>,
) -> Result<Response, Problem> {
    check_count(request.hashes.len())?;
    let preparing = view.clone();
    let drafts = off_thread(move || {
        let labels = labels(&preparing, &request.labels).map_err(Problem::bad)?;
        let expiry = request.expiry.as_deref().map(moment).transpose().map_err(Problem::bad)?;
        let salts = salts(request.hashes.len())?;
        let draft = |(text, salt): (&String, Salt)| {
            let hash = to_say(&preparing, text)?;
            let mut draft = Draft::add(hash, labels, salt, request.note.clone()).map_err(text_of)?;
            set(&mut draft, request.media, expiry, request.incident);
            Ok(draft)
        };
        Ok(request.hashes.iter().zip(salts).map(draft).collect::<Vec<_>>())
    });
    let drafts = drafts.await?;
    let answer = publish(&view, actor, "import", drafts, Duration::from_secs(WAIT), false).await?;
    Ok(encoding.answer(&answer))
}

/// Orders the node to sign although too few other members could be heard.
#[utoipa::path(post, path = "/v1/sign-alone", request_body = SignAloneRequest, responses(
    (status = 200, body = SignAloneAnswer, description = "ordered, and written to the decision log"),
    (status = 400, description = "not the origin of the own log"),
    (status = 503, description = "the node does nothing any more, with the reason"),
))]
pub(super) async fn sign_alone(
    State(view): State<Arc<View>>,
    Extension(actor): Extension<Actor>,
    Read { value: request, encoding }: Read<SignAloneRequest>,
) -> Result<Response, Problem> {
    let own = own_origin(&view)?;
    if request.origin != own {
        return Err(Problem::bad(format!("that is not the origin of this member's log, which is {own}")));
    }
    write_down(&view, actor, "sign-alone", json!({ "origin": own }))?;
    let sent = view.mailbox.send(Lane::Urgent, Input::SignAlone).await;
    sent.map_err(|_| gone(&view))?;
    let silent = taken_up(&view).await?.map(|silence| silence.to_string());
    Ok(encoding.answer(&SignAloneAnswer { origin: own, silent }))
}

/// Waits until the driver has taken up what was sent to it before, and says whether the node signs then.
pub(super) async fn taken_up(view: &View) -> Result<Option<Silence>, Problem> {
    let mut status = view.shared.status.load_full();
    let begun = Instant::now();
    // The first that changes may have been under way already when the order was sent.
    for _ in 0..2 {
        let before = status.clone();
        while Arc::ptr_eq(&before, &status) {
            if view.shared.stopped.load().is_some() || begun.elapsed() > TAKEN_UP {
                return Err(gone(view));
            }
            sleep(Duration::from_millis(5)).await;
            status = view.shared.status.load_full();
        }
    }
    Ok(status.silence)
}

fn check_count(count: usize) -> Result<(), Problem> {
    if count > MAX_STATEMENTS {
        let message = format!("{count} statements in one request; at most {MAX_STATEMENTS}");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(())
}

/// Fresh salts, from one call to the operating system.
fn salts(count: usize) -> Result<Vec<Salt>, Problem> {
    let mut bytes = vec![0; count * 16];
    let filled = getrandom::fill(&mut bytes);
    filled.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(bytes.chunks_exact(16).map(|salt| Salt(salt.try_into().expect("16 bytes"))).collect())
}

fn text_of(error: impl ToString) -> String {
    error.to_string()
}

/// A hash that something is to be said of.
fn to_say(view: &View, text: &str) -> Result<ContentHash, String> {
    let hash = text.parse().map_err(text_of)?;
    if view.forgotten.has(&hash) {
        return Err("this node does not hold this hash, by its own decision (hashmesh forget), and so cannot say anything of it".to_owned());
    }
    Ok(hash)
}

/// A draft of a statement, or why it is none.
fn draft(view: &View, form: StatementForm, salt: Salt) -> Result<Draft, String> {
    let hash = |text: &str| to_say(view, text);
    match form {
        StatementForm::Add { hash: text, labels: names, media, quality, expiry, incident, note } => {
            let mut draft = Draft::add(hash(&text)?, labels(view, &names)?, salt, note).map_err(text_of)?;
            let expiry = expiry.as_deref().map(moment).transpose()?;
            draft.rate(quality).map_err(text_of)?;
            set(&mut draft, media, expiry, incident);
            Ok(draft)
        }
        StatementForm::Dispute { hash: text, reason, note } => {
            Draft::dispute(hash(&text)?, reason, salt, note).map_err(text_of)
        }
        StatementForm::Revoke { hash, position, reason } => {
            Ok(Draft::Revoke { target: target(hash, position, "a revocation")?, reason })
        }
        StatementForm::Void { epoch, from } => Ok(Draft::Void { epoch, from }),
        StatementForm::Erase { hash, position, basis } => {
            Ok(Draft::Erase { target: target(hash, position, "an erasure")?, basis })
        }
    }
}

/// What is to be withdrawn.
fn target(hash: Option<String>, position: Option<String>, what: &str) -> Result<Target, String> {
    match (hash, position) {
        (Some(text), None) => Ok(Target::Hash(text.parse().map_err(text_of)?)),
        (None, Some(text)) => {
            let position = parse_position(&text).ok_or_else(|| format!("{text:?} is not a position (EPOCH/INDEX)"))?;
            Ok(Target::Position(position))
        }
        _ => Err(format!("{what} names either a hash or a position")),
    }
}

fn set(draft: &mut Draft, to_media: Option<Media>, to_expiry: Option<Timestamp>, to_incident: Option<u64>) {
    if let Draft::Add { media, expiry, incident, .. } = draft {
        *media = to_media.unwrap_or(*media);
        (*expiry, *incident) = (to_expiry, to_incident);
    }
}

fn labels(view: &View, names: &[String]) -> Result<Labels, String> {
    let federation = view.federation();
    let charter = federation.charter();
    let mut codes = Vec::new();
    for name in names {
        let label = charter.label_named(name).ok_or_else(|| {
            let known: Vec<_> = charter.body().labels.iter().map(|label| label.name.as_str()).collect();
            format!("the charter has no label {name:?} (it has: {})", known.join(", "))
        })?;
        codes.push(label.code);
    }
    codes.sort_unstable();
    codes.dedup();
    Labels::new(&codes).map_err(text_of)
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let moment = humantime::parse_rfc3339_weak(text)
        .map_err(|error| format!("{text:?} is not a moment as in 2027-01-31T12:00:00Z: {error}"))?;
    let since = moment.duration_since(std::time::UNIX_EPOCH).map_err(text_of)?;
    Ok(Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}

fn parse_position(text: &str) -> Option<Position> {
    let (epoch, index) = text.split_once('/')?;
    Some(Position { epoch: epoch.parse().ok()?, index: index.parse().ok()? })
}

fn own_origin(view: &View) -> Result<String, Problem> {
    let own = view.shared.status.load().own;
    own.map(|log: LogId| view.federation().origins().origin(log)).ok_or_else(|| mute(view))
}

/// Nothing is ever said here.
fn mute(view: &View) -> Problem {
    let follower = || "this node is a follower and speaks for no member; ask a member's own node".to_owned();
    Problem::new(StatusCode::CONFLICT, status::mute(view).unwrap_or_else(follower))
}

pub(super) fn write_down(view: &View, actor: Actor, act: &str, detail: serde_json::Value) -> Result<(), Problem> {
    view.decisions.write(actor, act, detail).map_err(|error| {
        let why = format!("nothing was done, because it cannot be written down: {}", sentence(&error));
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why)
    })
}

/// Why this node takes up nothing new until somebody has mended something, if so. Asking again does not help.
fn out_of_order(view: &View) -> Option<Problem> {
    let stopped = view.shared.stopped.load_full().map(|why| format!("nothing is published any more: {why}"));
    let silence = view.shared.status.load().silence;
    let diverged = silence.filter(|silence| *silence == Silence::Diverged).map(|silence| silence.to_string());
    stopped.or(diverged).map(|why| Problem::new(StatusCode::SERVICE_UNAVAILABLE, why))
}

/// The driver is gone, with this reason.
pub(super) fn gone(view: &View) -> Problem {
    let ending = || Problem::later("the node is shutting down; what was not answered may be repeated", 5);
    out_of_order(view).unwrap_or_else(ending)
}

/// Publishes what could be drafted and reports on everything.
async fn publish(
    view: &Arc<View>,
    actor: Actor,
    act: &str,
    drafts: Vec<Result<Draft, String>>,
    wait: Duration,
    every_result: bool,
) -> Result<PublishAnswer, Problem> {
    let origin = own_origin(view)?;
    if let Some(problem) = out_of_order(view) {
        return Err(problem);
    }
    if drafts.is_empty() {
        return Ok(PublishAnswer { origin, added: 0, known: 0, results: Vec::new(), settled: None, unsettled: None });
    }
    write_down(view, actor, act, json!({ "statements": drafts.len() }))?;
    let mut refused = Vec::new();
    let (mut items, mut good) = (Vec::new(), Vec::new());
    for (item, draft) in drafts.into_iter().enumerate() {
        match draft {
            Ok(draft) => {
                items.push(item);
                good.push(draft);
            }
            Err(error) => {
                refused.push(PublishResult { item, status: PublishStatus::Refused, position: None, error: Some(error) })
            }
        }
    }
    let placed = if good.is_empty() { Vec::new() } else { sign(view, good, wait).await? };
    let (mut added, mut known, mut results) = (0, 0, refused);
    for (item, placed) in items.into_iter().zip(placed) {
        let (status, position, error) = match placed {
            Ok(Placed::New(position)) => {
                added += 1;
                (PublishStatus::Added, Some(position.to_string()), None)
            }
            Ok(Placed::Known(position)) => {
                known += 1;
                (PublishStatus::Known, Some(position.to_string()), None)
            }
            Err(error) => (PublishStatus::Refused, None, Some(error.to_string())),
        };
        if every_result || status == PublishStatus::Refused {
            results.push(PublishResult { item, status, position, error });
        }
    }
    results.sort_by_key(|result| result.item);
    view.metrics.published(added);
    Ok(PublishAnswer { origin, added, known, results, settled: None, unsettled: None })
}

/// Hands drafts to the driver and waits until they are durable and signed.
async fn sign(
    view: &Arc<View>,
    drafts: Vec<Draft>,
    wait: Duration,
) -> Result<Vec<Result<Placed, hashmesh_protocol::engine::Unpublishable>>, Problem> {
    let lane = if drafts.len() > 64 { Lane::Bulk } else { Lane::Urgent };
    let (id, told) = view.callers.enter();
    // If the caller goes away, so does its place here.
    let _guard = Leave { view: Arc::clone(view), id };
    let sent = view.mailbox.send(lane, Input::Publish(Publication { id, drafts })).await;
    sent.map_err(|_| gone(view))?;
    let silence = || view.shared.status.load().silence.map(|silence| format!("; {silence}")).unwrap_or_default();
    match timeout(wait, told).await {
        Ok(Ok(Outcome::Done(results))) => Ok(results),
        Ok(Ok(Outcome::Busy { silence })) => {
            let why = silence.map(|silence| format!("; {silence}")).unwrap_or_default();
            Err(Problem::later(format!("too many statements are waiting to be signed{why}"), 5))
        }
        Ok(Ok(Outcome::Mute)) => Err(mute(view)),
        Ok(Err(_)) => Err(gone(view)),
        Err(_) => {
            Err(Problem::later(format!("not signed within {} s{}; repeating it is safe", wait.as_secs(), silence()), 5))
        }
    }
}

/// Takes a publication back when nobody waits for it any more.
struct Leave {
    view: Arc<View>,
    id: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        if self.view.callers.leave(self.id) {
            self.view.mailbox.post(Input::Withdraw(self.id));
        }
    }
}
