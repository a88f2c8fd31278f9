//! What members do that vote for everything, and are in league: whatever anybody says they know at once, they hold back
//! their votes for as long as they like, tell some and not others, and propose rivals.

use std::collections::{BTreeMap, BTreeSet};

use hashmesh_protocol::card::Card;
use hashmesh_protocol::charter::{Approval, Charter};
use hashmesh_protocol::digest::CharterId;
use hashmesh_protocol::governance::Document;
use hashmesh_protocol::names::MemberId;
use rand::RngExt;

use super::world::{Event, MINUTE, World};

/// How likely one of them votes for a charter; at once; and tells it to all, not only to one side of the last partition.
const SIGNS: f64 = 0.85;
const AT_ONCE: f64 = 0.4;
const TELLS_ALL: f64 = 0.3;

/// How likely one of them proposes a rival when it looks.
const PROPOSES: f64 = 0.08;

/// A charter, and all signatures on it that were heard of.
struct Heard {
    charter: Box<Charter>,
    approvals: BTreeMap<MemberId, Vec<Approval>>,
    cards: Vec<Card>,
    /// Those of the league that have made up their mind.
    considered: BTreeSet<MemberId>,
}

/// Everything that anybody has ever proposed.
#[derive(Default)]
pub(super) struct Hoard(BTreeMap<CharterId, Heard>);

impl Hoard {
    /// Remembers what is told.
    pub(super) fn overhear(&mut self, documents: &[Document]) {
        for document in documents {
            let Document::Charter { charter, approvals, cards } = document else { continue };
            let heard = self.0.entry(charter.id()).or_insert_with(|| Heard {
                charter: charter.clone(),
                approvals: BTreeMap::new(),
                cards: cards.clone(),
                considered: BTreeSet::new(),
            });
            for approval in approvals {
                let known = heard.approvals.entry(approval.member).or_default();
                if !known.contains(approval) {
                    known.push(approval.clone());
                }
            }
        }
    }

    /// A charter as one of the league hands it over: with what others have said aloud, and its own vote.
    fn document(&self, id: CharterId, by: MemberId, league: &[MemberId]) -> Option<Document> {
        let heard = self.0.get(&id)?;
        let tells = |member: &MemberId| *member == by || !league.contains(member);
        let approvals = heard.approvals.iter().filter(|(member, _)| tells(member)).flat_map(|(_, said)| said.clone());
        Some(Document::Charter {
            charter: heard.charter.clone(),
            approvals: approvals.collect(),
            cards: heard.cards.clone(),
        })
    }
}

impl World<'_> {
    /// One of the league votes for whatever is new, and may propose something.
    pub(super) fn plot(&mut self, rogue: MemberId) {
        if self.rng.random_bool(PROPOSES) {
            self.propose_rival(rogue);
        }
        let oldest = self.members.iter().map(|member| member.governance.tip().body().version).min().unwrap_or(0);
        let matters = |heard: &&mut Heard| heard.charter.body().version + 1 >= oldest;
        let is_new = |heard: &&mut Heard| !heard.considered.contains(&rogue) && heard.charter.departed(rogue).is_none();
        let mut signed = Vec::new();
        for heard in self.hoard.0.values_mut().filter(matters).filter(is_new) {
            heard.considered.insert(rogue);
            if self.rng.random_bool(SIGNS) {
                let approval = heard.charter.approve(rogue, &self.ground.founding.keys[&rogue].governance);
                heard.approvals.entry(rogue).or_default().push(approval);
                signed.push(heard.charter.id());
            }
        }
        for charter in signed {
            self.hand_over(rogue, charter);
        }
    }

    /// Decides when and to whom a vote is handed.
    fn hand_over(&mut self, rogue: MemberId, charter: CharterId) {
        let all = self.rng.random_bool(TELLS_ALL);
        let side = self.rng.random_bool(0.5);
        let to = (0..self.members.len()).filter(|at| all || self.members[*at].side == side).collect();
        let longest = self.of_relock(self.ground.scenario.held_back);
        let event = Event::Release(rogue, charter, to);
        if longest <= MINUTE || self.rng.random_bool(AT_ONCE) {
            self.after_some(1, MINUTE, event);
        } else {
            self.outcome.held_back += 1;
            self.after_some(MINUTE, longest, event);
        }
    }

    pub(super) fn release(&mut self, rogue: MemberId, charter: CharterId, to: &[usize]) {
        let Some(heard) = self.hoard.0.get(&charter) else { return };
        let before = heard.charter.body().previous;
        let documents = [before, Some(charter)].into_iter().flatten();
        let documents: Vec<_> = documents.filter_map(|id| self.hoard.document(id, rogue, &self.rogues)).collect();
        for to in to {
            self.after_some(10, 20_000, Event::Arrive(*to, documents.clone()));
        }
    }

    /// A rival to what is proposed after the charter in force of somebody, in the same attempt or in the next.
    fn propose_rival(&mut self, rogue: MemberId) {
        let victim = self.rng.random_range(0..self.members.len());
        let tip = self.members[victim].governance.tip().clone();
        if tip.member(rogue).is_none() {
            return;
        }
        let rivals = self.hoard.0.values().filter(|heard| heard.charter.body().previous == Some(tip.id()));
        let highest = rivals.map(|heard| heard.charter.body().attempt).max();
        let attempt = highest.map_or(0, |highest| highest + u16::from(self.rng.random_bool(0.5)));
        let mut body = tip.successor();
        (body.attempt, body.note) = (attempt, format!("{rogue} {}", self.rng.random::<u32>()));
        let charter = Charter::new(body).expect("a body that keeps the rules");
        let approvals = vec![charter.approve(rogue, &self.ground.founding.keys[&rogue].governance)];
        let id = charter.id();
        self.hoard.overhear(&[Document::Charter { charter: Box::new(charter), approvals, cards: Vec::new() }]);
        if let Some(heard) = self.hoard.0.get_mut(&id) {
            heard.considered.insert(rogue);
        }
        self.hand_over(rogue, id);
    }
}
