//! Remarks: what this node writes into its log of its own accord, about others' logs and about its own list (SPEC 4.7, 4.8).
//!
//! Only what is said of content gives occasion for them, never another remark: a federation in which nobody says anything
//! falls silent.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Effect, Engine};
use crate::ledger::{Admission, Admitted, Refusal};
use crate::names::LogId;
use crate::statement::{MAX_OBSERVATIONS, Observation, Observe, Position, State, Statement};
use crate::survey::Survey;
use crate::time::Timestamp;

/// What is about to be remarked.
#[derive(Default)]
pub(super) struct Remarking {
    /// When this node began to listen.
    since: Option<Timestamp>,
    /// Whether a survey is under way.
    surveying: bool,
    /// What the next batch is to begin with.
    pub(super) next: Vec<Statement>,
}

impl Engine {
    /// Begins what is due.
    pub(super) fn remark(&mut self, effects: &mut Vec<Effect>) {
        let now = self.now;
        let since = *self.remarking.since.get_or_insert(now);
        if !self.remarking.next.is_empty() || self.silence().is_some() {
            return;
        }
        let Some((own, log)) = self.own.and_then(|own| Some((own, self.ledger.log(own)?))) else { return };
        let parameters = &self.federation.charter().body().parameters;
        let past = |then: Timestamp, interval| now.since(then) >= Duration::from_millis(interval);
        let (remarks, size) = (log.remarks(), log.size());
        if past(remarks.observed().unwrap_or(since), parameters.observe_interval) {
            self.remarking.next.extend(self.observe(own));
        }
        let due = remarks.stated().is_some_and(|stated| past(stated, parameters.state_interval));
        if due && remarks.changed() && !self.remarking.surveying {
            self.remarking.surveying = true;
            let earlier = self.ledger.logs().filter(|(id, _)| id.member == own.member && id.epoch < own.epoch);
            let logs = earlier.map(|(id, log)| (id, log.size().min(log.counting()))).chain([(own, size)]).collect();
            effects.push(Effect::Survey(logs));
        }
    }

    /// The newest checkpoints of logs in which something was said since they were observed last, the oldest observations first.
    fn observe(&self, own: LogId) -> Option<Statement> {
        let remarks = self.ledger.log(own)?.remarks();
        let others = self.ledger.logs().filter(|(id, _)| id.member != own.member);
        let mut news: Vec<_> = others
            .filter_map(|(id, log)| {
                let (seen, at) = remarks.of(id);
                let whole = log.whole().filter(|whole| whole.size() > seen && log.remarks().substance() > seen)?;
                Some((at, id, whole))
            })
            .collect();
        news.sort_by_key(|(at, id, _)| (*at, *id));
        news.truncate(MAX_OBSERVATIONS);
        news.sort_by_key(|(_, id, _)| *id);
        let observations = news.into_iter().filter_map(|(_, id, whole)| Observation::of(id, whole)).collect();
        Observe::new(observations).map(Statement::Observe)
    }

    /// A survey of the own logs is there; `None`: it failed, and is made again later.
    pub(super) fn surveyed(&mut self, logs: &[(LogId, u64)], survey: Option<Survey>) {
        self.remarking.surveying = false;
        let (Some((log, size)), Some(Survey { root, count })) = (logs.last(), survey) else { return };
        let before = Position { epoch: log.epoch, index: *size };
        self.remarking.next.push(Statement::State(State { before, root, count }));
    }

    /// Leaves have come: what their author says that it was shown must be of the history held here. Of many observations of one log
    /// in one batch the last one tells the most.
    pub(super) fn heed(&mut self, admitted: &Admitted, effects: &mut Vec<Effect>) {
        let author = admitted.entries.log().member;
        let observed = admitted.entries.iter().flat_map(|(_, entry)| match &entry.leaf.statement {
            Statement::Observe(observe) => observe.all(),
            _ => &[],
        });
        let of_others = observed.filter(|observation| observation.member != author);
        let last: BTreeMap<LogId, &Observation> = of_others.map(|seen| (seen.log(), seen)).collect();
        for (log, observation) in last {
            let opened = self.ledger.log(log).and_then(|log| observation.open(log.key()));
            // What does not hold accuses nobody; an audit tells of it.
            let Some(checkpoint) = opened.filter(|_| !self.is_frozen(log)) else { continue };
            match self.ledger.hear(log, checkpoint.note().clone()) {
                Ok(Admission::Sealed(checkpoint)) => effects.push(Effect::KeepCheckpoint(log, checkpoint)),
                Ok(Admission::Behind(checkpoint)) => self.compare(log, checkpoint, effects),
                Ok(Admission::New(_) | Admission::Ahead(_) | Admission::Known) => {}
                Err(Refusal::Fork { log, both }) => self.contradiction(log, (&both.0, &both.1), effects),
                Err(_) => {}
            }
        }
    }
}
