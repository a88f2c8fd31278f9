//! The description of each socket, for code generators and fuzzers.

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Description;

use super::{admin, export, feed as changes, forget, form, govern, log, metrics, policy, proofs, query, status};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "hashmesh query socket",
        description = "What the platform's own services ask. Bodies may be JSON or CBOR."
    ),
    paths(query::match_many, query::match_one, query::health, query::ready, metrics::show),
    components(schemas(form::MatchRequest, form::MatchAnswer))
)]
struct QueryApi;

#[derive(OpenApi)]
#[openapi(
    info(title = "hashmesh admin socket", description = "What operators do. Bodies may be JSON or CBOR."),
    paths(
        admin::statements,
        admin::import,
        admin::sign_alone,
        policy::show,
        policy::apply,
        policy::diff,
        policy::quarantine,
        policy::release,
        status::show,
        log::show,
        forget::list,
        forget::forget,
        govern::show,
        govern::charter,
        govern::card,
        govern::ends,
        govern::proposal,
        govern::submit,
        govern::choose,
        proofs::prove,
        export::begin,
        export::checkpoints,
        export::leaves
    ),
    components(schemas(form::StatementsRequest, form::PublishAnswer))
)]
struct AdminApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "hashmesh feed socket",
        description = "Every change of the list that this platform acts on. Bodies may be JSON or CBOR."
    ),
    paths(changes::changes, query::health),
    components(schemas(form::ChangesAnswer))
)]
struct FeedApi;

/// `GET /openapi.json` of the query socket.
pub(super) async fn query() -> Json<Description> {
    Json(QueryApi::openapi())
}

/// `GET /openapi.json` of the admin socket.
pub(super) async fn admin() -> Json<Description> {
    Json(AdminApi::openapi())
}

/// `GET /openapi.json` of the feed socket.
pub(super) async fn feed() -> Json<Description> {
    Json(FeedApi::openapi())
}
