//! Charters and cards over `admin.sock`: what is in force, what is proposed, and handing in what was signed elsewhere (SPEC 21).
//!
//! Nothing here signs: governance keys are not where a node runs.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use hashmesh_protocol::armor::{self, Document as Armored};
use hashmesh_protocol::card::End;
use hashmesh_protocol::charter::{Approval, Charter, differences};
use hashmesh_protocol::digest::CharterId;
use hashmesh_protocol::engine::{Input, Ungoverned};
use hashmesh_protocol::governance::{Document, Governance, Proposal, Taken};
use hashmesh_protocol::names::{Jurisdiction, MemberId};
use serde_json::json;
use tokio::time::timeout;

use super::View;
use super::admin::{gone, write_down};
use super::body::{Encoding, Read};
use super::error::Problem;
use super::form::{
    ChooseRequest, ConflictForm, DocumentResult, DocumentsAnswer, DocumentsRequest, EndForm, EndsAnswer,
    GovernanceAnswer, MemberForm, ProposalForm, TextAnswer, TextRequest, VersionForm,
};
use crate::decisions::Actor;
use crate::documents::Found;
use crate::mailbox::Lane;
use crate::sentence::sentence;

/// How long the driver may take to take documents in.
const PATIENCE: Duration = Duration::from_secs(30);

type Named = Result<Path<String>, axum::extract::rejection::PathRejection>;

fn named(path: Named) -> Result<String, Problem> {
    path.map(|Path(name)| name).map_err(|rejection| Problem::bad(rejection.body_text()))
}

/// Shows who is a member, which charters there were, and what is proposed.
#[utoipa::path(get, path = "/v1/governance", responses((status = 200, body = GovernanceAnswer)))]
pub(super) async fn show(State(view): State<Arc<View>>, headers: HeaderMap) -> Response {
    let stored = view.shared.governance.load();
    let governance = &stored.governance;
    let federation = governance.federation();
    let (tip, health) = (governance.tip(), governance.health());
    let member = |id: MemberId, name: &str, jurisdiction: Jurisdiction| {
        let (card, line) = (federation.card(id), federation.line(id));
        MemberForm {
            id: id.to_string(),
            name: name.to_owned(),
            jurisdiction: jurisdiction.to_string(),
            standing: federation.standing(id).map(|standing| standing.name().to_owned()),
            card: card.map(|card| card.id().to_string()),
            number: card.map(|card| card.body().counter),
            epoch: card.map(|card| card.body().epoch),
            rivals: line.map(|line| line.rivals.iter().map(ToString::to_string).collect()).unwrap_or_default(),
            voted: health.signed.get(&id).copied().flatten(),
        }
    };
    let members = tip.body().members.iter().map(|entry| member(entry.id, &entry.name, entry.jurisdiction));
    let departed = tip.body().departed.iter().map(|entry| member(entry.id, &entry.name, entry.jurisdiction));
    let chain: Vec<(&Charter, Vec<&Approval>)> = governance.charters().collect();
    let versions = chain.iter().enumerate().map(|(at, (charter, approvals))| {
        let before = at.checked_sub(1).map(|before| chain[before].0);
        VersionForm {
            version: charter.body().version,
            id: charter.id().to_string(),
            note: charter.body().note.clone(),
            signed: approvals.iter().map(|approval| approval.member.to_string()).collect(),
            changes: before.map(|before| changes(before, charter)).unwrap_or_default(),
        }
    });
    let nodes = federation.nodes();
    let mut addresses: Vec<(String, Vec<String>)> = governance
        .addresses()
        .filter_map(|record| Some((nodes.get(&record.body().node)?.to_string(), record.body().places.clone())))
        .collect();
    addresses.sort();
    let answer = GovernanceAnswer {
        federation: tip.body().federation.to_string(),
        network: tip.network().to_string(),
        charter: tip.id().to_string(),
        version: tip.body().version,
        since: stored.since.to_string(),
        joined: governance.has_joined(),
        provisional: governance.is_provisional(),
        threshold: tip.threshold(),
        margin: health.margin(tip.body().version.saturating_sub(super::form::RECENT)),
        conflict: governance.conflict().map(|conflict| ConflictForm {
            version: conflict.version,
            ours: conflict.ours.to_string(),
            theirs: conflict.theirs.to_string(),
        }),
        members: members.collect(),
        departed: departed.collect(),
        versions: versions.collect(),
        proposals: governance.proposals().map(|proposal| form(governance, &proposal)).collect(),
        double_votes: governance.double_votes().keys().map(ToString::to_string).collect(),
        addresses,
    };
    Encoding::wanted(&headers).answer(&answer)
}

fn changes(before: &Charter, after: &Charter) -> Vec<String> {
    differences(before, after).iter().map(ToString::to_string).collect()
}

fn form(governance: &Governance, proposal: &Proposal<'_>) -> ProposalForm {
    let body = proposal.charter.body();
    let parent = body.previous.and_then(|parent| governance.charter(parent));
    let names = |members: Vec<MemberId>| members.iter().map(ToString::to_string).collect::<Vec<_>>();
    ProposalForm {
        id: proposal.charter.id().to_string(),
        version: body.version,
        attempt: body.attempt,
        note: body.note.clone(),
        follows: proposal.follows_the_tip,
        votes: names(proposal.tally.votes.iter().copied().collect()),
        needed: proposal.tally.threshold,
        no_consent: names(proposal.tally.no_consent.iter().copied().collect()),
        withdrawn: names(proposal.withdrawn.clone()),
        cards_missing: names(proposal.cards_missing.iter().map(|(member, _)| *member).collect()),
        changes: parent.map(|parent| changes(parent, proposal.charter)).unwrap_or_default(),
    }
}

/// Gives a charter with its signatures and the cards that it names, as a file for people and other nodes; `tip` is the one in force.
#[utoipa::path(get, path = "/v1/charter/{id}", params(("id" = String, Path, description = "its id, or `tip`")), responses(
    (status = 200, body = TextAnswer), (status = 404, description = "not held here")))]
pub(super) async fn charter(State(view): State<Arc<View>>, id: Named, headers: HeaderMap) -> Result<Response, Problem> {
    let stored = view.shared.governance.load();
    let governance = &stored.governance;
    let name = named(id)?;
    let id = if name == "tip" { governance.tip().id() } else { charter_id(&name)? };
    let held = governance.documents_of(id).ok_or_else(|| no_charter(&name))?;
    let answer = TextAnswer { text: armor::write(&held.iter().flat_map(armored).collect::<Vec<_>>()) };
    Ok(Encoding::wanted(&headers).answer(&answer))
}

fn charter_id(text: &str) -> Result<CharterId, Problem> {
    text.parse().map_err(|_| Problem::bad(format!("{text:?} is no id of a charter (64 hex digits)")))
}

fn no_charter(id: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("no charter {id} is held here"))
}

/// The parts of a document, as they stand in files.
fn armored(document: &Document) -> Vec<Armored> {
    match document {
        Document::Charter { charter, approvals, cards } => {
            let charter = std::iter::once(Armored::Charter(charter.clone()));
            let cards = cards.iter().cloned().map(Box::new).map(Armored::Card);
            charter.chain(cards).chain(approvals.iter().cloned().map(Armored::Approval)).collect()
        }
        Document::Approval(approval) => vec![Armored::Approval(approval.clone())],
        Document::Card(card) => vec![Armored::Card(card.clone())],
        Document::Withdrawal(withdrawal) => vec![Armored::Withdrawal(withdrawal.clone())],
        Document::DoubleVote(_) | Document::Addresses(_) => Vec::new(),
    }
}

/// Gives a member's cards in force, the first one first.
#[utoipa::path(get, path = "/v1/card/{member}", params(("member" = String, Path, description = "whose")), responses(
    (status = 200, body = TextAnswer), (status = 404, description = "no such member")))]
pub(super) async fn card(
    State(view): State<Arc<View>>,
    member: Named,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let member: MemberId = named(member)?.parse().map_err(Problem::bad)?;
    let federation = view.federation();
    let line = federation.line(member).ok_or_else(|| no_member(member))?;
    let cards: Vec<_> = line.cards.iter().cloned().map(Box::new).map(Armored::Card).collect();
    Ok(Encoding::wanted(&headers).answer(&TextAnswer { text: armor::write(&cards) }))
}

fn no_member(member: MemberId) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("{member} is not a member of this federation"))
}

/// Says where a member's logs end, or would if they ended at what is settled now: what a charter or card that ends them says.
#[utoipa::path(get, path = "/v1/ends/{member}", params(("member" = String, Path, description = "whose")), responses(
    (status = 200, body = EndsAnswer), (status = 404, description = "no such member")))]
pub(super) async fn ends(
    State(view): State<Arc<View>>,
    member: Named,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let member: MemberId = named(member)?.parse().map_err(Problem::bad)?;
    let (federation, status) = (view.federation(), view.shared.status.load());
    let mut ends = Vec::new();
    for (log, state) in federation.log_states().iter().filter(|(log, _)| log.member == member) {
        let held = status.logs.iter().find(|held| held.log == *log);
        let settled = held.and_then(|held| Some((held.settled, held.settled_root?)));
        let now = settled.map_or(End::nothing(log.epoch), |(size, root)| End { epoch: log.epoch, size, root });
        let end = state.end.filter(|end| end.size >= now.size).unwrap_or(now);
        ends.push(EndForm {
            epoch: log.epoch,
            size: end.size,
            root: end.root.to_string(),
            held: held.map_or(0, |held| held.size),
        });
    }
    if ends.is_empty() {
        return Err(no_member(member));
    }
    Ok(Encoding::wanted(&headers).answer(&EndsAnswer { ends }))
}

/// Makes a proposal for a governance key of what somebody has drawn up, or of a charter that is held here.
#[utoipa::path(post, path = "/v1/proposal", request_body = TextRequest, responses(
    (status = 200, body = TextAnswer), (status = 400, description = "it cannot follow the charter in force, with the reason")))]
pub(super) async fn proposal(
    State(view): State<Arc<View>>,
    Read { value: request, encoding }: Read<TextRequest>,
) -> Result<Response, Problem> {
    let stored = view.shared.governance.load();
    let governance = &stored.governance;
    let (charter, cards) = match (&request.charter, &request.text) {
        (Some(id), None) => {
            let held = governance.charter(charter_id(id)?).ok_or_else(|| no_charter(id))?;
            (held.clone(), Vec::new())
        }
        (None, Some(text)) => {
            let found = Found::in_text(text).map_err(|error| Problem::bad(sentence(&error)))?;
            let charter = found.charter().map_err(|error| Problem::bad(sentence(&error)))?.clone();
            (charter, found.cards)
        }
        _ => return Err(Problem::bad("either the id of a charter that is held here, or one as text")),
    };
    let bundle = governance.bundle(&charter, &cards, stored.since).map_err(|error| Problem::bad(sentence(&error)))?;
    let text = armor::write(&[Armored::Proposal(Box::new(bundle))]);
    Ok(encoding.answer(&TextAnswer { text }))
}

/// Takes charters, signatures and cards in, and passes them on to the other members' nodes.
#[utoipa::path(post, path = "/v1/documents", request_body = DocumentsRequest, responses(
    (status = 200, body = DocumentsAnswer, description = "what became of each"),
    (status = 400, description = "not what was expected; nothing was taken"),
    (status = 503, description = "nothing is taken up any more, with the reason"),
))]
pub(super) async fn submit(
    State(view): State<Arc<View>>,
    Extension(actor): Extension<Actor>,
    Read { value: request, encoding }: Read<DocumentsRequest>,
) -> Result<Response, Problem> {
    let found = Found::in_text(&request.text).map_err(|error| Problem::bad(sentence(&error)))?;
    let documents = found.governance();
    if documents.is_empty() {
        return Err(Problem::bad(
            "nothing in it that a node takes: no charter after version 0, signature, or later card",
        ));
    }
    let names: Vec<String> = documents.iter().map(name).collect();
    write_down(&view, actor, "submit", json!({ "documents": names, "cut": request.cut }))?;
    let cut = request.cut;
    let outcomes = ask(&view, |ticket| Input::Submit { ticket, documents, cut }).await?;
    let results = names.into_iter().zip(outcomes).map(|(document, outcome)| result(document, outcome));
    Ok(encoding.answer(&answer(results.collect(), view.shared.governance.load().governance.tip())))
}

fn answer(results: Vec<DocumentResult>, tip: &Charter) -> DocumentsAnswer {
    DocumentsAnswer { results, charter: tip.id().to_string(), version: tip.body().version }
}

/// Goes on from a charter that the operator names: the way out of a charter_conflict.
#[utoipa::path(post, path = "/v1/charter/choose", request_body = ChooseRequest, responses(
    (status = 200, body = DocumentsAnswer), (status = 400, description = "no valid charter with this id is held")))]
pub(super) async fn choose(
    State(view): State<Arc<View>>,
    Extension(actor): Extension<Actor>,
    Read { value: request, encoding }: Read<ChooseRequest>,
) -> Result<Response, Problem> {
    let charter = charter_id(&request.charter)?;
    write_down(&view, actor, "choose", json!({ "charter": request.charter }))?;
    let outcomes = ask(&view, |ticket| Input::Choose { ticket, charter }).await?;
    for outcome in outcomes {
        outcome.map_err(|error| Problem::bad(sentence(&error)))?;
    }
    let stored = view.shared.governance.load();
    if let Some(conflict) = stored.governance.conflict() {
        let why = format!(
            "that charter is in both histories and decides nothing between them: name {} or {}",
            conflict.ours, conflict.theirs
        );
        return Err(Problem::new(StatusCode::CONFLICT, why));
    }
    Ok(encoding.answer(&answer(Vec::new(), stored.governance.tip())))
}

/// Puts a question to the driver.
async fn ask(view: &View, input: impl FnOnce(u64) -> Input) -> Result<Vec<Result<Taken, Ungoverned>>, Problem> {
    let (ticket, told) = view.submitters.enter();
    let sent = view.mailbox.send(Lane::Urgent, input(ticket)).await;
    sent.map_err(|_| gone(view))?;
    match timeout(PATIENCE, told).await {
        Ok(Ok(outcomes)) => Ok(outcomes),
        Ok(Err(_)) => Err(gone(view)),
        Err(_) => {
            view.submitters.leave(ticket);
            Err(Problem::later("the node is busy; handing it in again is safe", 5))
        }
    }
}

fn name(document: &Document) -> String {
    match document {
        Document::Charter { charter, .. } => format!("charter {}", charter.id()),
        Document::Approval(approval) => format!("signature of {} on {}", approval.member, approval.charter),
        Document::Card(card) => format!("card {} of {}", card.body().counter, card.body().member),
        Document::Withdrawal(withdrawal) => format!("withdrawal of {} from {}", withdrawal.member, withdrawal.charter),
        Document::DoubleVote(proof) => format!("proof that {} voted twice", proof.member),
        Document::Addresses(record) => format!("addresses of {}", record.body().node),
    }
}

fn result(document: String, outcome: Result<Taken, Ungoverned>) -> DocumentResult {
    let taken = |taken: &str| Some(taken.to_owned());
    match outcome {
        Ok(outcome) => {
            let what = match outcome {
                Taken::Known => "known",
                Taken::Kept | Taken::Moved(_) => "kept",
                Taken::Adopted(_) => "adopted",
                Taken::Card(_) => "in force",
                Taken::Rivals(_) => "disputed",
                Taken::DoubleVote(_) => "double vote",
                Taken::Conflict(_) => "charter_conflict",
            };
            DocumentResult { document, taken: taken(what), error: None }
        }
        Err(error) => DocumentResult { document, taken: None, error: Some(sentence(&error)) },
    }
}
