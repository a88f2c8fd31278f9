//! Breakers, and what they have put into quarantine until a person has looked (SPEC 12.7).
//!
//! Two things are counted, both against the policy's limits: what a member says in 24 hours, by the driver, and how often a
//! stored hash matches in an hour, by whoever answers queries. What trips is written to a file, so that a restart does not
//! release it, and stays until it is released by hand.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use hashmesh_protocol::catalog::ContentId;
use hashmesh_protocol::charter::Parameters;
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::names::{LogId, MemberId};
use hashmesh_protocol::policy::{Breakers, Tripped};
use hashmesh_protocol::time::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::folder::{FolderError, at, read_text, replace};

/// Longest file, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Milliseconds of an hour.
const HOUR: u64 = 60 * 60 * 1000;

/// Places at which matches are counted.
const PLACES: usize = 1 << 16;

/// What is in quarantine.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// A member.
    Member(MemberId),
    /// A stored hash.
    Hash(ContentHash),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Member(member) => member.fmt(f),
            Self::Hash(hash) => hash.fmt(f),
        }
    }
}

/// Text that names neither a member nor a hash.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is neither a member nor a hash (KIND:HEX)")]
pub struct NoSubject(String);

impl std::str::FromStr for Subject {
    type Err = NoSubject;

    fn from_str(text: &str) -> Result<Self, NoSubject> {
        let hash = text.parse().map(Self::Hash);
        let subject = hash.ok().or_else(|| text.parse().ok().map(Self::Member));
        subject.ok_or_else(|| NoSubject(text.to_owned()))
    }
}

/// Something in quarantine.
#[derive(Clone, Debug, Deserialize, Serialize, utoipa::ToSchema)]
pub struct Held {
    /// A member, or a hash as `KIND:HEX`.
    pub subject: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// What tripped the breaker.
    pub why: String,
}

/// What is in quarantine, durably.
pub struct Quarantine {
    path: PathBuf,
    held: Mutex<Vec<Held>>,
    tripped: ArcSwap<Tripped>,
    matches: Matches,
    told: OnceLock<Told>,
}

/// Called with what was put into quarantine or released.
type Told = Box<dyn Fn(Subject) + Send + Sync>;

impl Quarantine {
    /// Reads what is in quarantine.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let held: Vec<Held> = match path.exists() {
            true => {
                let bad = |error: serde_json::Error| at(path, error.into());
                serde_json::from_str(&read_text(path, MAX_FILE)?).map_err(bad)?
            }
            false => Vec::new(),
        };
        let tripped = ArcSwap::from_pointee(tripped(&held));
        Ok(Self {
            path: path.to_owned(),
            held: Mutex::new(held),
            tripped,
            matches: Matches::default(),
            told: OnceLock::new(),
        })
    }

    /// From now on tells what was put into quarantine or released, once verdicts take account of it. Only one can be told.
    pub fn tell(&self, told: impl Fn(Subject) + Send + Sync + 'static) {
        let _second = self.told.set(Box::new(told));
    }

    /// For verdicts.
    pub fn tripped(&self) -> Arc<Tripped> {
        self.tripped.load_full()
    }

    /// Everything in quarantine, oldest first.
    pub fn list(&self) -> Vec<Held> {
        self.held.lock().clone()
    }

    /// Puts something into quarantine. It takes effect even if it cannot be written down.
    pub fn hold(&self, subject: Subject, why: String) {
        let mut held = self.held.lock();
        let name = subject.to_string();
        if held.iter().any(|held| held.subject == name) {
            return;
        }
        // No hash in logs.
        match subject {
            Subject::Member(member) => tracing::warn!(%member, why, "in quarantine: hashmesh quarantine"),
            Subject::Hash(_) => tracing::warn!(why, "a hash is in quarantine: hashmesh quarantine"),
        }
        held.push(Held { subject: name, since: clock::now().to_string(), why });
        self.trip(&held, subject);
        if let Err(error) = self.write(&held) {
            tracing::error!(%error, "the quarantine holds until the node ends, and could not be written down");
        }
    }

    /// Releases something; `false` if it was not in quarantine.
    pub fn release(&self, subject: Subject) -> Result<bool, FolderError> {
        let mut held = self.held.lock();
        let name = subject.to_string();
        let left: Vec<Held> = held.iter().filter(|held| held.subject != name).cloned().collect();
        if left.len() == held.len() {
            return Ok(false);
        }
        self.write(&left)?;
        *held = left;
        self.trip(&held, subject);
        Ok(true)
    }

    fn trip(&self, held: &[Held], changed: Subject) {
        self.tripped.store(Arc::new(tripped(held)));
        if let Some(told) = self.told.get() {
            told(changed);
        }
    }

    /// A stored hash has matched a query.
    pub fn matched(&self, id: ContentId, hash: &ContentHash, limits: Breakers, now: Timestamp) {
        let most = limits.hash_matches;
        if most > 0 && self.matches.count(id, now) > most {
            self.matches.forget(id);
            self.hold(Subject::Hash(*hash), format!("it matched more than {most} times in an hour"));
        }
    }

    fn write(&self, held: &[Held]) -> Result<(), FolderError> {
        let text = serde_json::to_string_pretty(held).map_err(|error| at(&self.path, error.into()))?;
        replace(&self.path, text.as_bytes()).map_err(|error| at(&self.path, error))
    }
}

fn tripped(held: &[Held]) -> Tripped {
    let mut tripped = Tripped::default();
    for subject in held.iter().filter_map(|held| held.subject.parse().ok()) {
        match subject {
            Subject::Member(member) => tripped.members.insert(member),
            Subject::Hash(hash) => tripped.hashes.insert(hash),
        };
    }
    tripped
}

/// How often stored hashes matched in this hour: in a table of fixed size that queries share without waiting.
///
/// Hashes that fall on one place contend for it, each match of another takes one from the count of the one that has it (Boyer
/// and Moore's majority vote). So the hash that matches more than all others of its place together is counted, if a little
/// too low, and a flood of different hashes cannot fill anything.
struct Matches(Box<[AtomicU64]>);

/// Bits of a place: which hash (35), which hour (6), how often (23).
const COUNT_BITS: u32 = 23;
const HOUR_BITS: u32 = 6;

impl Default for Matches {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Matches {
    /// Counts a match; the count with it, 0 if another hash has the place.
    fn count(&self, id: ContentId, now: Timestamp) -> u32 {
        let hour = (now.0 / HOUR) & ((1 << HOUR_BITS) - 1);
        let name = (u64::from(id.kind as u8) << 32 | u64::from(id.number)) << HOUR_BITS | hour;
        let place = self.place(id);
        let before = place.load(Ordering::Relaxed);
        let (whose, count) = (before >> COUNT_BITS, before & ((1 << COUNT_BITS) - 1));
        let stale = whose & ((1 << HOUR_BITS) - 1) != hour;
        // A match that another thread counts in this moment is lost: of thousands a few.
        if whose == name {
            let count = (count + 1).min((1 << COUNT_BITS) - 1);
            place.store(name << COUNT_BITS | count, Ordering::Relaxed);
            return count as u32;
        }
        if stale || count <= 1 {
            place.store(name << COUNT_BITS | 1, Ordering::Relaxed);
            return 1;
        }
        place.store(before - 1, Ordering::Relaxed);
        0
    }

    fn forget(&self, id: ContentId) {
        self.place(id).store(0, Ordering::Relaxed);
    }

    fn place(&self, id: ContentId) -> &AtomicU64 {
        let mixed = (u64::from(id.number) << 3 | id.kind as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.0[(mixed >> 48) as usize % PLACES]
    }
}

/// What members have said in the last 24 hours, counted by when it arrived. The driver's.
///
/// Left out is what says nothing about a member's conduct now: what this node was told when it started, what it had missed
/// while it was away, and the first day of a log, in which a member brings in its list.
#[derive(Default)]
pub struct Pace {
    logs: HashMap<LogId, LogPace>,
}

#[derive(Default)]
struct LogPace {
    /// Whether the node has had all of it since it started.
    current: bool,
    /// Statements by hour, newest last: all, and those after the log's first day.
    hours: VecDeque<(u64, [u64; 2])>,
    /// Whether it has been told that more of its statements are live than may be.
    over: bool,
}

impl Pace {
    /// The node has everything that is known of a log.
    pub fn is_current(&mut self, log: LogId) {
        self.logs.entry(log).or_default().current = true;
    }

    /// A log has grown by so many leaves, and so many statements of its member are live; `began` is when it began. Says why its member has to be looked at, if so.
    pub fn grown(
        &mut self,
        log: LogId,
        (count, live): (u64, u64),
        began: Timestamp,
        limits: Breakers,
        quotas: &Parameters,
        now: Timestamp,
    ) -> Option<String> {
        let pace = self.logs.entry(log).or_default();
        if !pace.current {
            return None;
        }
        let hour = now.0 / HOUR;
        while pace.hours.front().is_some_and(|(at, _)| at + 24 <= hour) {
            pace.hours.pop_front();
        }
        match pace.hours.back_mut() {
            Some((at, _)) if *at == hour => {}
            _ => pace.hours.push_back((hour, [0, 0])),
        }
        // A first import is what a member joins for; only the charter's quotas hold for it.
        let first_day = now.0.saturating_sub(began.0) < 24 * HOUR;
        if let Some((_, [all, later])) = pace.hours.back_mut() {
            *all += count;
            *later += if first_day { 0 } else { count };
        }
        let [said, later] = [0, 1].map(|of| pace.hours.iter().map(|(_, counts)| counts[of]).sum::<u64>());
        let most = limits.member_changes.max(live.saturating_mul(u64::from(limits.member_share)) / 100);
        let why = if said > quotas.statements_per_day {
            format!("it made {said} statements in 24 hours; the charter allows {}", quotas.statements_per_day)
        } else if live > quotas.live_statements && !pace.over {
            pace.over = true;
            return Some(format!("{live} statements of it are live; the charter allows {}", quotas.live_statements));
        } else if later > most && limits.member_changes > 0 {
            format!("it made {later} statements in 24 hours; the policy allows {most}")
        } else {
            pace.over &= live > quotas.live_statements;
            return None;
        };
        // Counting begins anew, so that a release by hand is not undone by the next statement.
        pace.hours.clear();
        Some(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * HOUR;

    fn log() -> LogId {
        LogId { member: "acme".parse().unwrap(), epoch: 0 }
    }

    fn hash() -> ContentHash {
        "md5:00112233445566778899aabbccddeeff".parse().unwrap()
    }

    #[test]
    fn what_is_held_outlives_a_restart_until_it_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quarantine.json");
        let quarantine = Quarantine::open(&path).unwrap();
        let limits = Breakers { hash_matches: 3, ..Breakers::default() };
        quarantine.hold(Subject::Member(log().member), "too much".to_owned());
        let id = ContentId { kind: hash().kind(), number: 7 };
        let matched = |now| quarantine.matched(id, &hash(), limits, Timestamp(now));
        (0..3).for_each(|_| matched(HOUR));
        matched(2 * HOUR);
        assert!(quarantine.tripped().hashes.is_empty(), "the hours are counted apart");
        (0..3).for_each(|_| matched(2 * HOUR));

        let quarantine = Quarantine::open(&path).unwrap();
        let tripped = quarantine.tripped();
        assert!(tripped.members.contains(&log().member) && tripped.hashes.contains(&hash()));
        assert!(quarantine.release("acme".parse().unwrap()).unwrap());
        assert!(!quarantine.release("acme".parse().unwrap()).unwrap());
        assert_eq!(quarantine.list().len(), 1);
        assert!(Quarantine::open(&path).unwrap().tripped().members.is_empty());
    }

    #[test]
    fn a_member_may_make_a_thousand_statements_a_day_or_a_twentieth_of_its_own() {
        let mut pace = Pace::default();
        let (limits, quotas) = (Breakers::default(), Parameters::standard());
        let mut say =
            |count, live, now| pace.grown(log(), (count, live), Timestamp(0), limits, &quotas, Timestamp(now));
        assert_eq!(say(5000, 0, 3 * DAY), None, "the node was not up to date yet");
        pace.is_current(log());
        let mut say =
            |count, live, now| pace.grown(log(), (count, live), Timestamp(0), limits, &quotas, Timestamp(now));
        assert_eq!(say(5000, 0, DAY - 1), None, "the log's first day");
        assert_eq!(say(1000, 0, 3 * DAY), None);
        assert_eq!(say(1, 100_000, 3 * DAY + HOUR), None, "five percent of 100,000");
        assert!(say(1, 0, 3 * DAY + HOUR).is_some());
        assert_eq!(say(1000, 0, 3 * DAY + HOUR), None, "counted anew");
        assert_eq!(say(1000, 0, 5 * DAY), None, "another day");
    }

    /// SPEC 12.9.
    #[test]
    fn the_quotas_of_the_charter_hold_from_the_first_day_on() {
        let quotas = Parameters { statements_per_day: 100, live_statements: 1000, ..Parameters::standard() };
        let limits = Breakers { member_changes: 0, ..Breakers::default() };
        let mut pace = Pace::default();
        pace.is_current(log());
        let mut say =
            |count, live, now| pace.grown(log(), (count, live), Timestamp(0), limits, &quotas, Timestamp(now));
        assert_eq!(say(100, 100, HOUR), None);
        assert!(say(1, 101, HOUR).unwrap().contains("the charter allows 100"));
        assert_eq!(say(100, 201, HOUR), None, "counted anew");
        assert!(say(1, 1001, 3 * DAY).unwrap().contains("1001 statements of it are live"));
        assert_eq!(say(1, 1002, 3 * DAY), None, "it is told once");
        assert_eq!(say(1, 900, 3 * DAY), None);
        assert!(say(1, 1001, 3 * DAY).is_some(), "and again");
    }
}
