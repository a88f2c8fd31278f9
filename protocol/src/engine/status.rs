//! What an operator sees of the engine.

use super::{CannotSettle, Engine, Silence};
use crate::digest::Digest;
use crate::federation::Standing;
use crate::key::PublicKey;
use crate::names::{LogId, MemberId};
use crate::time::Timestamp;

/// The engine at a moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// That moment.
    pub time: Timestamp,
    /// The own log, if this node speaks for a member.
    pub own: Option<LogId>,
    /// Why nothing is signed, if so.
    pub silence: Option<Silence>,
    /// Drafts that wait to be published.
    pub queued: usize,
    /// Whether too few members were heard lately.
    pub isolated: bool,
    /// How far the own clock is ahead of the peers' median, in milliseconds.
    pub clock_ahead: Option<i64>,
    /// Connected nodes.
    pub peers: Vec<PeerStatus>,
    /// Nodes that show less than they have shown.
    pub rollbacks: Vec<Rollback>,
    /// Every log of the federation.
    pub logs: Vec<LogStatus>,
}

/// A connected node.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its key.
    pub key: PublicKey,
    /// Whose it is.
    pub member: MemberId,
    /// When its heads were heard last.
    pub heard: Option<Timestamp>,
    /// How far its clock was ahead of the own one then, in milliseconds.
    pub clock_ahead: Option<i64>,
}

/// A node that shows less of a log than it has shown: it has lost it, was put back from a backup, or hides it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rollback {
    /// Whose node.
    pub member: MemberId,
    /// Of which log.
    pub log: LogId,
    /// The most that it has shown since this node started.
    pub showed: u64,
    /// What it shows now.
    pub shows: u64,
}

/// A log.
#[derive(Clone, Debug)]
pub struct LogStatus {
    /// Which.
    pub log: LogId,
    /// Its name.
    pub origin: String,
    /// Leaves held.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
    /// Leaves of the largest checkpoint heard of.
    pub known: u64,
    /// Leaves that are settled.
    pub settled: u64,
    /// The root over those.
    pub settled_root: Option<Digest>,
    /// Why no more can be settled now, if so.
    pub cannot_settle: Option<CannotSettle>,
    /// The author's time of the last leaf.
    pub last: Option<Timestamp>,
    /// Where the author last said what is live.
    pub stated: Option<u64>,
    /// Openings that are missing.
    pub missing: u64,
    /// Whether its author has signed two histories.
    pub forked: bool,
    /// How its member stands; `None` if no card in force names it any more.
    pub standing: Option<Standing>,
    /// Where it ends, if it does; with what is settled beyond.
    pub ends: Option<u64>,
}

impl Engine {
    /// The engine as it stands.
    pub fn status(&self) -> Status {
        let peers = self.peers.iter().map(|(key, peer)| PeerStatus {
            key: *key,
            member: peer.member,
            heard: peer.heard.map(|(at, _)| at),
            clock_ahead: peer.heard.map(|(_, ahead)| ahead),
        });
        let members_heard = self.members_heard();
        let logs = self.ledger.logs().map(|(id, log)| LogStatus {
            log: id,
            origin: log.key().name().to_owned(),
            size: log.size(),
            root: log.root(),
            known: log.ahead().map_or(log.size(), crate::checkpoint::SignedCheckpoint::size),
            settled: log.settled_size(),
            settled_root: log.settled().map(|settled| settled.mark().root),
            cannot_settle: self.cannot_settle(id, &members_heard),
            last: (log.size() > 0).then(|| log.last_time()),
            stated: log.remarks().last_state(),
            missing: log.missing(),
            forked: self.is_frozen(id),
            standing: self.federation.log_state(id).map(|state| state.standing),
            ends: log.end().map(|_| log.counting()),
        });
        Status {
            time: self.now,
            own: self.own,
            silence: self.silence(),
            queued: self.publishing.queued(),
            isolated: self.is_isolated(),
            clock_ahead: self.clock_offset(),
            peers: peers.collect(),
            rollbacks: self.shown.rollbacks().collect(),
            logs: logs.collect(),
        }
    }
}
