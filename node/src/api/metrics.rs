//! Numbers for dashboards, in the OpenMetrics text format. No content hash is ever in them.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hashmesh_protocol::content_hash::HashKind;
use hashmesh_protocol::policy::Decision;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::error::Problem;
use super::{View, query};

type Labels = Vec<(&'static str, String)>;

/// What is counted as it happens; the rest is read off when somebody looks.
pub struct Metrics {
    queries: Family<Labels, Counter>,
    /// The counters of `queries`, by decision.
    by_decision: [Counter; 3],
    seconds: Histogram,
    published: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let queries = Family::<Labels, Counter>::default();
        let by_decision = [Decision::None, Decision::Review, Decision::Block].map(|decision| {
            let labels = vec![("decision", format!("{decision:?}").to_lowercase())];
            queries.get_or_create_owned(&labels)
        });
        Self {
            queries,
            by_decision,
            // 4 us to 4 s.
            seconds: Histogram::new(exponential_buckets(4e-6, 2.0, 21)),
            published: Counter::default(),
        }
    }
}

impl Metrics {
    pub(super) fn queried(&self, decisions: &[Decision], begun: Instant) {
        self.seconds.observe(begun.elapsed().as_secs_f64());
        for decision in decisions {
            self.by_decision[*decision as usize].inc();
        }
    }

    pub(super) fn published(&self, statements: u64) {
        self.published.inc_by(statements);
    }
}

/// `GET /metrics`.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "application/openmetrics-text")))]
pub(super) async fn show(State(view): State<Arc<View>>) -> Result<Response, Problem> {
    let mut registry = Registry::with_prefix("hashmesh");
    let metrics = &view.metrics;
    registry.register("queries", "Hashes asked about, by decision", metrics.queries.clone());
    registry.register("query_seconds", "Time to answer a request on the query socket", metrics.seconds.clone());
    registry.register("statements_published", "Own statements published", metrics.published.clone());
    let status = view.shared.status.load();
    let gauge = |value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge
    };
    let family = |values: Vec<(Labels, u64)>| {
        let family: Family<Labels, Gauge> = Family::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        family
    };
    let by_log = |value: fn(&hashmesh_protocol::engine::LogStatus) -> u64| {
        family(status.logs.iter().map(|log| (vec![("log", log.log.to_string())], value(log))).collect())
    };
    registry.register("log_size", "Statements held, by log", by_log(|log| log.size));
    registry.register(
        "log_lag",
        "Statements known to exist and not held yet, by log",
        by_log(|log| log.known - log.size),
    );
    registry.register("log_settled", "Statements that are settled, by log", by_log(|log| log.settled));
    registry.register("openings_missing", "Openings that are missing, by log", by_log(|log| log.missing));
    registry.register("peers", "Connected nodes of other members", gauge(status.peers.len() as u64));
    registry.register("isolated", "1 if too few members were heard lately", gauge(u64::from(view.is_isolated())));
    registry.register("silent", "1 if this node would sign nothing now", gauge(u64::from(status.silence.is_some())));
    registry.register("queued", "Statements that wait to be signed", gauge(status.queued as u64));
    registry.register("alarms", "Alarms since the start, at most 100", gauge(view.shared.alarms.lock().len() as u64));
    let catalog = view.matcher.catalog();
    let by_kind = |value: &dyn Fn(HashKind) -> u64| {
        family(HashKind::ALL.map(|kind| (vec![("kind", kind.to_string())], value(kind))).to_vec())
    };
    registry.register("hashes_live", "Content hashes that somebody stands by", by_kind(&|kind| catalog.live(kind)));
    for (name, value) in (view.net.counters)() {
        registry.register(name, "Network events since the start", gauge(value));
    }
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(query::plain(text))
}
