//! The sockets: HTTP/1.1 on Unix sockets, because every language, `curl --unix-socket` and every health checker speak it.
//!
//! Each has one role. `query.sock` is for the platform's own services: it answers from memory, never touches
//! disk or network, and no query ever causes a packet. `admin.sock` is for its operators: whatever speaks in the member's
//! name or changes the node, each act written to the decision log first. `feed.sock`, where it is wanted, is for caches: it
//! tells every change of the list that the platform acts on.

mod admin;
mod asked;
mod body;
mod codec;
mod error;
mod export;
mod feed;
mod forget;
pub mod form;
mod govern;
mod log;
mod metrics;
mod openapi;
mod patience;
mod policy;
mod proofs;
mod query;
mod remembered;
pub mod socket;
mod starting;
mod status;

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::http::StatusCode;
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::engine::Input;
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::names::MemberId;
use hashmesh_protocol::policy::Policy;
use hashmesh_protocol::time::Timestamp;

pub use admin::router as admin_router;
pub use feed::router as feed_router;
pub use metrics::Metrics;
pub use query::answers as query_answers;
pub use remembered::Remembered;
pub use starting::{Progress, router as starting_router};

use crate::decisions::Decisions;
use crate::driver::{Callers, Shared, Submitters};
use crate::feed::Feed;
use crate::folder::Folder;
use crate::forgotten::Forgotten;
use crate::index::Matcher;
use crate::mailbox::Mailbox;
use crate::quarantine::Quarantine;
use crate::store::DiskArchive;

/// What requests are answered from.
pub struct View {
    /// The member that this node speaks for; nobody, if it is a follower.
    pub member: Option<MemberId>,
    /// Matching.
    pub matcher: Arc<Matcher>,
    /// What this platform believes.
    pub policy: Arc<ArcSwap<Policy>>,
    /// What this node does not hold by its own decision.
    pub forgotten: Arc<Forgotten>,
    /// What waits for a person.
    pub quarantine: Arc<Quarantine>,
    /// The last queries, if the operator wants that.
    pub remembered: Remembered,
    /// The change feed, if the operator wants that.
    pub feed: Option<Arc<Feed>>,
    /// The node's files.
    pub folder: Folder,
    /// What the driver shares.
    pub shared: Arc<Shared>,
    /// Callers of the driver.
    pub callers: Arc<Callers>,
    /// Those who hand in charters and cards.
    pub submitters: Arc<Submitters>,
    /// The way to the driver.
    pub mailbox: Arc<Mailbox<Input>>,
    /// Stored leaves, for the admin socket only.
    pub archive: Arc<DiskArchive>,
    /// The decision log.
    pub decisions: Decisions,
    /// What is counted.
    pub metrics: Metrics,
    /// When the process began.
    pub started: Instant,
    /// What the network tells about itself.
    pub net: NetView,
}

impl View {
    /// The federation as it stands.
    fn federation(&self) -> Arc<Federation> {
        self.shared.governance.federation()
    }

    /// Whether what this node knows may be old (SPEC 14.7): too few members are heard, or nothing is taken up any more.
    fn is_isolated(&self) -> bool {
        self.shared.stopped.load().is_some() || self.shared.status.load().isolated
    }

    /// What decisions rest on that were made by this policy at this moment.
    fn basis(&self, policy: Digest, as_of: Timestamp) -> form::Basis {
        let federation = self.federation();
        let charter = federation.charter();
        let status = self.shared.status.load();
        form::Basis {
            policy: policy.to_string(),
            charter: charter.id().to_string(),
            charter_version: charter.body().version,
            as_of: as_of.to_string(),
            isolated: self.is_isolated(),
            behind: status.logs.iter().map(|log| log.known.saturating_sub(log.size)).fold(0, u64::saturating_add),
        }
    }
}

/// What the network tells about itself.
pub struct NetView {
    /// Where this node can be reached.
    pub listening: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// What went wrong there, by name.
    pub counters: Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>,
}

/// Runs what computes away from the threads that serve sockets.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, error::Problem> + Send + 'static,
) -> Result<T, error::Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| error::Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?
}
