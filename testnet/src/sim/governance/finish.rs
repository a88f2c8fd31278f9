//! The end of a history: everything that was signed is delivered, and it is asked whether all agree.

use std::collections::BTreeSet;
use std::time::Duration;

use hashmesh_protocol::charter::Charter;
use hashmesh_protocol::digest::CharterId;
use hashmesh_protocol::governance::Governance;

use super::Outcome;
use super::world::{DAY, Event, Member, World};

/// In so many rounds everything is everywhere: each brings it one node farther at least.
const ROUNDS: usize = 48;

impl World<'_> {
    /// Heals the network, and judges.
    pub(super) fn finish(mut self) -> Outcome {
        self.is_over = true;
        self.deliver();
        self.settle();
        let agree = self.tips().len() == 1;
        self.outcome.conflict = self.members.iter().any(|member| member.governance.conflict().is_some());
        // A restart decides nothing either, least of all a conflict.
        for at in 0..if self.outcome.conflict { self.members.len() } else { 1 } {
            self.restart(at);
        }
        self.outcome.silent = !agree && self.members.iter().any(|member| member.governance.conflict().is_none());
        if agree && !self.outcome.conflict {
            self.measure();
            self.join_late();
        }
        self.choose();
        self.outcome.diverged = self.tips().len() > 1;
        self.count();
        if !self.outcome.diverged {
            self.decide_once_more();
        }
        self.outcome
    }

    /// All that is on its way arrives, and whatever was held back is handed over.
    fn deliver(&mut self) {
        while let Some(((time, _), event)) = self.queue.pop_first() {
            self.now = self.now.max(time);
            if matches!(event, Event::Publish(..) | Event::Release(..) | Event::Arrive(..)) {
                self.happen(event);
            }
        }
    }

    /// All nodes compare until nothing is new to anybody.
    fn settle(&mut self) {
        for _ in 0..ROUNDS {
            // Who joins by what is told now takes part in the next round.
            let nodes = self.members.len();
            let mut new = false;
            for at in 0..nodes {
                let next = (at + 1) % nodes;
                new |= self.pull(at, next);
                new |= self.pull(next, at);
            }
            if !new && self.members.len() == nodes {
                return;
            }
        }
        self.fault("nodes do not come to an end of comparing".to_owned());
    }

    fn tips(&self) -> BTreeSet<CharterId> {
        self.members.iter().map(|member| member.governance.tip().id()).collect()
    }

    /// How long it took until all had the charter that stayed, of each version.
    fn measure(&mut self) {
        let founders = &self.members[..self.ground.scenario.members - self.rogues.len()];
        let Some(one) = founders.first() else { return };
        for (version, begun) in (1..one.chain.len()).zip(self.first.values()) {
            let last = founders.iter().filter_map(|member| member.chain.get(version)).map(|(_, at)| *at).max();
            self.outcome.agreed.extend(last.map(|last| last.since(*begun)));
        }
    }

    /// Somebody starts with nothing but the beginning and a recent charter's id, and walks the chain.
    fn join_late(&mut self) {
        let tip = self.members[0].governance.tip().id();
        let mut governance = Governance::new(&self.ground.founding.genesis);
        governance.must_contain(tip);
        self.members.push(Member::new(self.members[0].id, governance, self.now));
        let late = self.members.len() - 1;
        let comes_to_an_end = (0..64).any(|_| !self.pull(late, 0));
        let is_there = {
            let governance = &self.members[late].governance;
            comes_to_an_end && governance.tip().id() == tip && governance.has_joined()
        };
        self.members.pop();
        if !is_there {
            self.fault(format!("who comes late does not get there (asking ends: {comes_to_an_end})"));
        }
    }

    /// All operators choose the charter that the first node has in force, as often as somebody says that there is something to choose.
    fn choose(&mut self) {
        for _ in 0..8 {
            if self.members.iter().all(|member| member.governance.conflict().is_none()) {
                return;
            }
            let choice = self.members[0].governance.tip().id();
            for at in 0..self.members.len() {
                if self.members[at].governance.choose(choice).is_err() {
                    self.fault(format!("{} does not hold what is chosen", self.members[at].id));
                }
                self.moved(at);
            }
            self.settle();
        }
        self.fault("choosing does not end a conflict".to_owned());
    }

    fn count(&mut self) {
        let member = &self.members[0];
        let tip = member.governance.tip().body();
        self.displaced.retain(|id| !member.chain.iter().any(|(charter, _)| charter == id));
        self.outcome.versions = tip.version;
        self.outcome.displaced = self.displaced.len() as u64;
        self.outcome.double_voters = member.governance.double_votes().len() as u64;
        let joined = tip.members.iter().filter(|entry| self.ground.newcomers.contains_key(&entry.id)).count();
        self.outcome.changes = (joined + tip.departed.len()) as u64;
    }

    /// When no ballot binds anybody any more, the honest members all want the same, and it must come.
    fn decide_once_more(&mut self) {
        let tip = self.members[0].governance.tip().clone();
        let voters: Vec<_> = (0..self.members.len()).filter(|at| tip.member(self.members[*at].id).is_some()).collect();
        if voters.len() < tip.threshold() {
            return;
        }
        self.now = self.now + Duration::from_millis(tip.body().parameters.relock + 2 * DAY);
        let votes = voters.iter().flat_map(|at| &self.members[*at].ballot.votes);
        let highest = votes.filter(|vote| vote.previous == tip.id()).map(|vote| vote.attempt).max();
        let mut draft = self.draft(voters[0], highest.map_or(0, |highest| highest + 1));
        let wanted = draft.charter.id();
        for at in voters {
            if self.members[at].governance.tip().id() == wanted {
                break;
            }
            let next = super::honest::Draft {
                charter: Charter::clone(&draft.charter),
                consents: std::mem::take(&mut draft.consents),
                cards: std::mem::take(&mut draft.cards),
            };
            self.vote(at, next);
            self.deliver();
            self.settle();
        }
        self.outcome.deadlock = self.members.iter().any(|member| member.governance.tip().id() != wanted);
    }
}
