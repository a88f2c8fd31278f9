//! What a log says about lists and other logs, rather than about content (SPEC 4.7, 4.8).

use std::collections::BTreeMap;

use crate::entries::Entries;
use crate::names::LogId;
use crate::statement::Statement;
use crate::time::Timestamp;

/// When a log's author last remarked something, and about what.
#[derive(Clone, Debug, Default)]
pub struct Remarks {
    /// The time of its first leaf.
    began: Option<Timestamp>,
    /// How many leaves it had after the last one that says something of content.
    substance: u64,
    /// The time of the last `observe`.
    observed: Option<Timestamp>,
    /// Time and place of the last `state`.
    stated: Option<(Timestamp, u64)>,
    /// Of the own log: how much of each other log was observed last, and when.
    of: BTreeMap<LogId, (u64, Timestamp)>,
}

impl Remarks {
    /// Takes note of leaves that were taken into the log, which is the own one or not.
    pub(super) fn note(&mut self, entries: &Entries, own: bool) {
        self.began.get_or_insert(entries.times().0);
        for (index, entry) in entries.iter() {
            let time = entry.leaf.time;
            match &entry.leaf.statement {
                Statement::Observe(observe) => {
                    self.observed = Some(time);
                    if own {
                        self.of.extend(observe.all().iter().map(|seen| (seen.log(), (seen.size, time))));
                    }
                }
                Statement::State(_) => self.stated = Some((time, index)),
                _ => self.substance = index + 1,
            }
        }
    }

    /// How many leaves the log had after the last one that says something of content.
    pub fn substance(&self) -> u64 {
        self.substance
    }

    /// The time of the last `observe`.
    pub fn observed(&self) -> Option<Timestamp> {
        self.observed
    }

    /// The time of the last `state`; if there is none, of the first leaf.
    pub fn stated(&self) -> Option<Timestamp> {
        self.stated.map(|(time, _)| time).or(self.began)
    }

    /// Where the last `state` stands.
    pub fn last_state(&self) -> Option<u64> {
        self.stated.map(|(_, index)| index)
    }

    /// Whether something of content was said since the last `state`.
    pub fn changed(&self) -> bool {
        self.substance > self.stated.map_or(0, |(_, index)| index)
    }

    /// Of the own log: how much of another one was observed last, and when.
    pub fn of(&self, log: LogId) -> (u64, Timestamp) {
        self.of.get(&log).copied().unwrap_or_default()
    }
}
