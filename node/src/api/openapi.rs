//! The description of both sockets, for code generators and fuzzers.

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Description;

use super::{admin, form, log, metrics, policy, query, status};

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
        log::show
    ),
    components(schemas(form::StatementsRequest, form::PublishAnswer))
)]
struct AdminApi;

/// `GET /openapi.json` of the query socket.
pub(super) async fn query() -> Json<Description> {
    Json(QueryApi::openapi())
}

/// `GET /openapi.json` of the admin socket.
pub(super) async fn admin() -> Json<Description> {
    Json(AdminApi::openapi())
}
