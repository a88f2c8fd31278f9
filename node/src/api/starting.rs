//! What the sockets answer while the node is loading: that it lives, and how far it has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::get;

use super::error::Problem;
use super::query::health;

/// How many statements have been loaded.
pub type Progress = Arc<AtomicU64>;

/// The paths of all sockets until everything is loaded.
pub fn router(progress: Progress) -> Router {
    Router::new().route("/v1/health", get(health)).fallback(loading).with_state(progress)
}

async fn loading(State(progress): State<Progress>) -> Problem {
    let loaded = progress.load(Ordering::Relaxed);
    Problem::later(format!("the node is loading: {loaded} statements so far"), 1)
}
