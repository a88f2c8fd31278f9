//! Whether this node may sign now (SPEC 8).
//!
//! The common fork is an accident: an old backup restored, a second instance started. So before its first signature after
//! every start a node listens to what others hold of its own log, and it never signs behind what it or anybody else has
//! of it.

use std::collections::BTreeSet;
use std::fmt;

use super::{Alarm, Effect, Engine};
use crate::ledger::Mark;
use crate::names::MemberId;

/// Why nothing is signed now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Silence {
    /// SPEC 8.6, 8.9: too few members have said what they hold of the own log.
    Listening {
        /// How many have.
        heard: usize,
        /// How many must.
        needed: usize,
    },
    /// SPEC 8.5: the own log is shorter here than what was signed, or than what a peer holds.
    Behind {
        /// Leaves here.
        have: u64,
        /// Leaves that were signed.
        signed: u64,
    },
    /// SPEC 8.5: what was signed and what peers hold contradict each other.
    Diverged,
    /// SPEC 8.7: the own clock is too far from the peers'.
    Clock {
        /// How far it is ahead of their median, in milliseconds.
        ahead: i64,
    },
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening { heard, needed } => write!(
                f,
                "waiting to hear from {needed} other members what they hold of this member's log; {heard} so far"
            ),
            Self::Behind { have, signed } => write!(
                f,
                "this member's log has {have} leaves here, but {signed} were signed; waiting for peers to refill it"
            ),
            Self::Diverged => {
                f.write_str("this member's log at its peers is not the one that was signed here; it needs a new epoch")
            }
            Self::Clock { ahead } => {
                let (by, side) = (ahead.unsigned_abs() / 1000, if *ahead > 0 { "ahead of" } else { "behind" });
                write!(f, "this machine's clock is {by} s {side} the median of its peers; set it right")
            }
        }
    }
}

/// What decides whether to sign.
#[derive(Default)]
pub(super) struct Voice {
    signed: Mark,
    /// More may have been signed than this node remembers: everybody must be heard.
    restored: bool,
    heard: BTreeSet<MemberId>,
    alone: bool,
    diverged: bool,
    told_behind: bool,
}

impl Voice {
    /// The member speaks in another log from now on. Who has been heard has told what it holds of all its logs.
    pub(super) fn speaks_in(&mut self, signed: Mark, diverged: bool) {
        (self.signed, self.restored, self.diverged, self.told_behind) = (signed, false, diverged, false);
    }

    /// More may have been signed than this node remembers.
    pub(super) fn was_restored(&mut self, restored: bool) {
        self.restored = restored;
    }

    pub(super) fn sign_alone(&mut self) {
        self.alone = true;
    }

    /// A member has said what it holds of the own log, be it nothing.
    pub(super) fn heard(&mut self, member: MemberId) {
        self.heard.insert(member);
    }

    pub(super) fn signed(&mut self, mark: Mark) {
        self.signed = mark;
        self.restored = false;
    }

    /// What was signed last.
    pub(super) fn mark(&self) -> Mark {
        self.signed
    }

    /// Whether it never signs again.
    pub(super) fn has_diverged(&self) -> bool {
        self.diverged
    }

    /// Never signs again; `false` if that was so already.
    pub(super) fn diverges(&mut self) -> bool {
        !std::mem::replace(&mut self.diverged, true)
    }
}

impl Engine {
    /// Why this node would not sign now, if it would not.
    pub fn silence(&self) -> Option<Silence> {
        let own = self.own?;
        let log = self.ledger.log(own)?;
        let signed = self.voice.signed;
        if self.voice.diverged || (log.size() == signed.size && signed.size > 0 && log.root() != signed.root) {
            return Some(Silence::Diverged);
        }
        let known = log.ahead().map_or(signed.size, |ahead| ahead.size().max(signed.size));
        if log.size() < known {
            return Some(Silence::Behind { have: log.size(), signed: known });
        }
        // A majority of the members, this one among them; or all of them.
        let needed = if self.voice.restored { self.federation.size() - 1 } else { self.federation.size() / 2 };
        let heard = self.voice.heard.iter().filter(|member| **member != own.member).count();
        if heard < needed && !self.voice.alone {
            return Some(Silence::Listening { heard, needed });
        }
        self.clock_error().map(|ahead| Silence::Clock { ahead })
    }

    /// How far the own clock is ahead of the peers', if that is too far to sign anything (SPEC 8.7).
    pub(super) fn clock_error(&self) -> Option<i64> {
        let tolerance = self.federation.charter().body().parameters.clock_tolerance;
        self.clock_offset().filter(|ahead| ahead.unsigned_abs() > tolerance)
    }

    /// Tells the operator, once, that the own log must be refilled.
    pub(super) fn watch_own_log(&mut self, effects: &mut Vec<Effect>) {
        match self.silence() {
            Some(Silence::Behind { have, signed }) if !self.voice.told_behind => {
                self.voice.told_behind = true;
                effects.push(Effect::Alarm(Alarm::Behind { have, signed }));
            }
            Some(Silence::Behind { .. }) => {}
            _ => self.voice.told_behind = false,
        }
    }
}
