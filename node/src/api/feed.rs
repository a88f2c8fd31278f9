//! `feed.sock`: the list that this platform acts on, for caches that cannot ask about every hash. It exports the list, so it
//! is there only where config.toml says so.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use super::body::Encoding;
use super::error::{Problem, no_such_method, no_such_path};
use super::form::{ChangeForm, ChangesAnswer};
use super::query::health;
use super::{View, off_thread, openapi};
use crate::feed::{Cursor, Feed, MAX_PAGE, Page};

/// How long a reader may wait for news: less than what most HTTP clients give an answer.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// What readers are answered from.
type Source = (Arc<View>, Arc<Feed>);

/// The paths of `feed.sock`.
pub fn router(view: Arc<View>, feed: Arc<Feed>) -> Router {
    Router::new()
        .route("/v1/changes", get(changes))
        .route("/v1/health", get(health))
        .route("/openapi.json", get(openapi::feed))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state((view, feed))
}

/// What can be set in the address.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    after: Option<String>,
    wait: Option<String>,
    limit: Option<usize>,
}

/// A request that makes sense.
struct Wanted {
    after: Option<Cursor>,
    wait: Duration,
    limit: usize,
}

impl Asked {
    fn read(self) -> Result<Wanted, Problem> {
        let after = self.after.map(|text| text.parse::<Cursor>()).transpose();
        let after = after.map_err(|error| Problem::bad(format!("after is {error}")))?;
        let wait = self.wait.map_or(Ok(Duration::ZERO), |text| humantime::parse_duration(&text));
        let wait = wait.ok().filter(|wait| *wait <= MAX_WAIT);
        let wait =
            wait.ok_or_else(|| Problem::bad("wait must be a span of at most 60s, as in \"30s\" or \"500ms\""))?;
        let limit = self.limit.unwrap_or(MAX_PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Problem::bad(format!("limit must be 1 to {MAX_PAGE}")));
        }
        Ok(Wanted { after, wait, limit })
    }
}

/// The changes of the list after a cursor, in order; without one the whole list.
#[utoipa::path(get, path = "/v1/changes", params(
    ("after" = Option<String>, Query, description = "the cursor of the last answer; absent: from the beginning"),
    ("wait" = Option<String>, Query, description = "how long to wait for a change if there is none: `30s`, at most `60s`"),
    ("limit" = Option<usize>, Query, description = "most changes in the answer, 1 to 10,000, which is the default"),
), responses(
    (status = 200, body = ChangesAnswer),
    (status = 400, description = "not a cursor, a span or a parameter"),
    (status = 503, description = "the node is still loading, or puts the list together"),
))]
pub(super) async fn changes(
    State((view, feed)): State<Source>,
    asked: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(asked) = asked.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let Wanted { after, wait, limit } = asked.read()?;
    let read = async |after| {
        let feed = feed.clone();
        off_thread(move || feed.read(after, limit).map_err(|filling| Problem::later(filling, 1))).await
    };
    let mut page = read(after).await?;
    if page.changes.is_empty() && !page.reset && !wait.is_zero() {
        feed.wait(page.cursor, wait).await;
        page = read(Some(page.cursor)).await?;
    }
    let encoding = Encoding::wanted(&headers);
    off_thread(move || Ok(encoding.answer(&answer(&view, page)))).await
}

fn answer(view: &View, page: Page) -> ChangesAnswer {
    let catalog = view.matcher.catalog();
    let form = |change: crate::feed::Change| ChangeForm {
        seq: change.seq,
        hash: catalog.hash(change.id).to_string(),
        decision: change.decision,
    };
    ChangesAnswer {
        changes: page.changes.into_iter().map(form).collect(),
        cursor: page.cursor.to_string(),
        more: page.more,
        reset: page.reset,
        basis: view.basis(page.basis.policy, page.basis.as_of),
    }
}
