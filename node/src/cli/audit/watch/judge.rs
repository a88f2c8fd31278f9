//! What of a node's state is a finding, and which findings are news.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::api::form::{LogForm, StatusAnswer};

/// How long nothing may change until a node that knows of nothing more has caught up: what its peers named in their first heads
/// is on its way meanwhile.
const STILL: Duration = Duration::from_secs(3);

/// Something that was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Notice {
    /// A log, a peer, a file; nothing if it is about the node.
    pub(super) about: String,
    /// What.
    pub(super) what: String,
    /// Whether it proves that somebody has signed two histories.
    pub(super) equivocation: bool,
    /// What a verification says of it, if it comes from one.
    pub(super) finding: Option<Value>,
}

impl Notice {
    pub(super) fn of(about: String, what: String) -> Self {
        Self { about, what, ..Self::default() }
    }
}

/// Remembers what was seen before.
pub(super) struct Judge {
    patience: Duration,
    /// How far a clock may be off, in milliseconds.
    tolerance: u64,
    openings: bool,
    /// Since when something is as it should not be for long.
    since: BTreeMap<(String, &'static str), Instant>,
    /// The largest size that was seen of each log.
    sizes: BTreeMap<String, u64>,
    /// What the node held when it was looked at last, and since when.
    still: Option<(Vec<(u64, u64)>, Instant)>,
    told: BTreeSet<(String, String)>,
}

impl Judge {
    pub(super) fn new(patience: Duration, tolerance: u64, openings: bool) -> Self {
        Self {
            patience,
            tolerance,
            openings,
            since: BTreeMap::new(),
            sizes: BTreeMap::new(),
            still: None,
            told: BTreeSet::new(),
        }
    }

    /// What is found in a node's state.
    pub(super) fn status(&mut self, status: &StatusAnswer, now: Instant) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut find = |about: &str, what: String| notices.push(Notice::of(about.to_owned(), what));
        self.lasts("", "unreachable", false, now);
        if self.lasts("", "isolated", status.isolated, now) {
            find("", "the node hears too few members: what is newer may be missing".to_owned());
        }
        if let Some(why) = &status.stopped {
            find("", format!("the node takes nothing up any more: {why}"));
        }
        for alarm in &status.alarms {
            find("", format!("alarm of {}: {}", alarm.time, alarm.text));
        }
        for peer in &status.peers {
            if let Some(ahead) = peer.clock_ahead.filter(|ahead| ahead.unsigned_abs() > self.tolerance) {
                let side = if ahead > 0 { "ahead of" } else { "behind" };
                // Not how far exactly: that changes all the time, and it is one finding.
                find(&peer.member, format!("its clock is over {} s {side} this machine's", self.tolerance / 1000));
            }
        }
        for rollback in &status.rollbacks {
            let (has, had) = (rollback.shows, rollback.showed);
            let what =
                format!("it showed {had} leaves of {} and shows {has} now: it lost them, or hides them", rollback.log);
            find(&rollback.member, what);
        }
        for log in &status.logs {
            for what in self.log(log, now) {
                find(&log.origin, what);
            }
        }
        notices
    }

    fn log(&mut self, log: &LogForm, now: Instant) -> Vec<String> {
        let mut found = Vec::new();
        let minutes = self.patience.as_secs() / 60;
        let largest = self.sizes.entry(log.origin.clone()).or_default();
        if log.size < *largest {
            found.push(format!("the log has shrunk here from {largest} leaves to {}", log.size));
        }
        *largest = log.size.max(*largest);
        // A frozen log settles no further, and is a finding already.
        if self.lasts(&log.origin, "unsettled", log.settled < log.size && !log.forked, now) {
            let why = log.cannot_settle.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            found.push(format!("not settled for over {minutes} min{why}"));
        }
        if self.lasts(&log.origin, "behind", log.lag > 0 && !log.forked, now) {
            found.push(format!("leaves that were signed cannot be had for over {minutes} min: the log stalls"));
        }
        if self.lasts(&log.origin, "missing", self.openings && log.missing > 0, now) {
            found.push(format!("openings are missing for over {minutes} min"));
        }
        found
    }

    /// Whether something is so, and has been for longer than it may be.
    fn lasts(&mut self, about: &str, what: &'static str, holds: bool, now: Instant) -> bool {
        let key = (about.to_owned(), what);
        if !holds {
            self.since.remove(&key);
            return false;
        }
        now.duration_since(*self.since.entry(key).or_insert(now)) >= self.patience
    }

    /// Nothing can be said while the node does not answer.
    pub(super) fn unreachable(&mut self, why: String, now: Instant) -> Vec<Notice> {
        let lasts = self.lasts("", "unreachable", true, now);
        lasts.then(|| Notice::of(String::new(), why)).into_iter().collect()
    }

    /// Whether the node has all that its peers have, as far as it can know; or has had all the time that it may take.
    pub(super) fn has_caught_up(&mut self, status: &StatusAnswer, now: Instant) -> bool {
        let behind = |log: &LogForm| (log.lag > 0 && !log.forked) || (self.openings && log.missing > 0);
        let waits = status.isolated || status.logs.iter().any(behind);
        let held: Vec<_> = status.logs.iter().map(|log| (log.size, log.settled)).collect();
        if self.still.as_ref().is_none_or(|(before, _)| *before != held) {
            self.still = Some((held, now));
        }
        let still = self.still.as_ref().is_some_and(|(_, since)| now.duration_since(*since) >= STILL);
        self.lasts("", "catching up", true, now) || (!waits && still)
    }

    /// Those that were not found the last time.
    pub(super) fn news(&mut self, found: &[Notice]) -> Vec<Notice> {
        let key = |notice: &Notice| (notice.about.clone(), notice.what.clone());
        let before = std::mem::replace(&mut self.told, found.iter().map(key).collect());
        let mut news: Vec<Notice> = Vec::new();
        for notice in found.iter().filter(|notice| !before.contains(&key(notice))) {
            if !news.contains(notice) {
                news.push(notice.clone());
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(changes: &[(&str, Value)]) -> StatusAnswer {
        let mut status = json!({
            "version": "", "uptime": 1, "listening": [], "queued": 0, "isolated": false, "index": [], "policy": "",
            "warnings": [], "alarms": [], "rollbacks": [],
            "federation": { "name": "", "network": "", "charter": "", "version": 0, "members": 3, "jurisdictions": 3, "threshold": 3 },
            "peers": [{ "member": "bolt", "key": "" }],
            "logs": [{ "member": "acme", "origin": "acme/0", "size": 9, "lag": 0, "root": "", "missing": 0, "settled": 9 }],
        });
        for (path, value) in changes {
            *status.pointer_mut(path).unwrap() = value.clone();
        }
        serde_json::from_value(status).unwrap()
    }

    fn texts(notices: &[Notice]) -> Vec<&str> {
        notices.iter().map(|notice| notice.what.as_str()).collect()
    }

    #[test]
    fn what_lasts_too_long_is_found_and_is_over_when_it_is_over() {
        let mut judge = Judge::new(Duration::from_secs(60), 1000, true);
        let begun = Instant::now();
        for (path, what) in [("/logs/0/lag", "stalls"), ("/logs/0/missing", "openings are missing")] {
            let bad = status(&[(path, json!(3))]);
            assert!(judge.status(&bad, begun).is_empty());
            let late = begun + Duration::from_secs(61);
            let found = judge.status(&bad, late);
            assert!(texts(&found)[0].contains(what), "{found:?}");
            assert!(judge.status(&status(&[]), late).is_empty());
            assert!(judge.status(&bad, late).is_empty(), "it begins anew");
            judge.status(&status(&[]), begun);
        }
        let unsettled = status(&[("/logs/0/settled", json!(8))]);
        judge.status(&unsettled, begun);
        assert!(texts(&judge.status(&unsettled, begun + Duration::from_secs(60)))[0].contains("not settled"));
    }

    #[test]
    fn what_must_never_be_is_found_at_once_and_told_once() {
        let mut judge = Judge::new(Duration::from_secs(60), 600_000, false);
        let now = Instant::now();
        judge.status(&status(&[]), now);
        let rollback = json!([{ "member": "bolt", "log": "acme/0", "showed": 9, "shows": 4 }]);
        let bad = status(&[
            ("/logs/0/size", json!(7)),
            ("/logs/0/settled", json!(7)),
            ("/rollbacks", rollback),
            ("/peers/0", json!({ "member": "bolt", "key": "", "clock_ahead": -700_000 })),
            ("/alarms", json!([{ "time": "now", "text": "something" }])),
        ]);
        let found = judge.status(&bad, now);
        for what in
            ["shrunk here from 9 leaves to 7", "showed 9 leaves", "behind this machine's", "alarm of now: something"]
        {
            assert!(texts(&found).iter().any(|text| text.contains(what)), "{what}: {found:?}");
        }
        assert_eq!(judge.news(&found).len(), 4);
        assert!(judge.news(&found).is_empty());
        assert!(judge.news(&[]).is_empty());
        assert_eq!(judge.news(&found).len(), 4, "they were over");
    }

    #[test]
    fn a_node_has_caught_up_when_it_knows_of_nothing_more_and_nothing_changes() {
        let mut judge = Judge::new(Duration::from_secs(60), 1, false);
        let (begun, lagging) = (Instant::now(), status(&[("/logs/0/lag", json!(1))]));
        assert!(!judge.has_caught_up(&lagging, begun));
        assert!(!judge.has_caught_up(&lagging, begun + STILL));
        assert!(judge.has_caught_up(&status(&[]), begun + STILL));
        let more = status(&[("/logs/0/size", json!(10))]);
        assert!(!judge.has_caught_up(&more, begun + STILL));
        assert!(judge.has_caught_up(&lagging, begun + Duration::from_secs(60)), "it had its time");
    }
}
