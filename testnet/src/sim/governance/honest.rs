//! What members do that keep to their ballots: each looks at its node now and then, likes what is proposed or not, and loses
//! patience.

use hashmesh_protocol::card::{Card, End};
use hashmesh_protocol::charter::{Approval, Charter, CharterBody, Departed, Departure, Member as Entry};
use hashmesh_protocol::digest::CharterId;
use hashmesh_protocol::governance::{Document, VoteRefusal, Withdrawal};
use hashmesh_protocol::names::MemberId;
use rand::RngExt;

use super::world::{DAY, Event, HOUR, World};

/// How likely a member likes a proposal that it looks at.
const LIKES: f64 = 0.6;

/// How likely a member that looks has something to propose itself, with nothing proposed and with something.
const PROPOSES: (f64, f64) = (0.4, 0.15);

/// How likely a signature is held back, where that happens at all.
const HOLDS_BACK: f64 = 0.25;

/// How likely a member that has lost patience takes its vote back before it votes for something else, where that happens at all.
const WITHDRAWS: f64 = 0.3;

/// What `relock` may become where parameters change, in percent of what it was at first. It never gets shorter.
const RELOCKS: [u64; 3] = [100, 110, 120];

/// How likely who is to join does not agree before the members vote, but later or never.
const HESITATES: f64 = 0.3;

/// A proposal with what travels with it.
pub(super) struct Draft {
    pub(super) charter: Charter,
    pub(super) consents: Vec<Approval>,
    pub(super) cards: Vec<Card>,
}

impl Draft {
    fn plain(charter: Charter) -> Self {
        Self { charter, consents: Vec::new(), cards: Vec::new() }
    }
}

impl World<'_> {
    /// A member looks at what its node holds, and votes for one thing at most.
    pub(super) fn look(&mut self, at: usize) {
        let member = &self.members[at];
        let tip = member.governance.tip();
        let is_idle = member.governance.conflict().is_some()
            || !member.governance.has_joined()
            || tip.member(member.id).is_none()
            || self.now < member.locked
            || self.now.since(member.since).as_millis() < u128::from(tip.body().parameters.cool_down_expulsion);
        if is_idle {
            return;
        }
        let (mut lowest, mut given_up) = (0, None);
        for vote in member.ballot.votes.iter().filter(|vote| vote.previous == tip.id()) {
            // Whoever has voted gives the others a day or two.
            if self.now.since(vote.at).as_millis() < u128::from(self.rng.random_range(DAY..2 * DAY)) {
                return;
            }
            (lowest, given_up) = (lowest.max(vote.attempt + 1), Some(vote.charter));
        }
        let proposals = member.governance.proposals().filter(|proposal| proposal.follows_the_tip);
        let mut open: Vec<_> = proposals.map(|proposal| proposal.charter.clone()).collect();
        open.retain(|charter| charter.body().attempt >= lowest && charter.departed(member.id).is_none());
        let is_quiet = open.is_empty();
        if let Some(charter) = given_up
            && self.ground.scenario.changes
            && self.rng.random_bool(WITHDRAWS)
        {
            self.withdraw(at, charter);
        }
        for charter in open {
            if self.rng.random_bool(LIKES) && self.vote(at, Draft::plain(charter)) {
                return;
            }
        }
        if self.rng.random_bool(if is_quiet { PROPOSES.0 } else { PROPOSES.1 }) {
            let draft = self.draft(at, lowest);
            self.vote(at, draft);
        }
    }

    /// Something that a member wants.
    pub(super) fn draft(&mut self, at: usize, attempt: u16) -> Draft {
        let governance = &self.members[at].governance;
        let tip = governance.tip();
        let mut body = tip.successor();
        (body.attempt, body.note) = (attempt, format!("{} {}", self.members[at].id, self.rng.random::<u32>()));
        let (mut joins, mut convicted) = (None, None);
        if self.ground.scenario.changes && self.rng.random_bool(0.5) {
            let is_new = |id: &MemberId| tip.member(*id).is_none() && tip.departed(*id).is_none();
            joins = self.ground.newcomers.iter().find(|(id, _)| is_new(id));
            convicted = governance.double_votes().keys().copied().find(|id| tip.member(*id).is_some());
        }
        let (mut consents, mut cards) = (Vec::new(), Vec::new());
        match (convicted, joins) {
            (Some(member), _) if body.members.len() > 3 => expel(&mut body, member),
            (_, Some((_, (card, _)))) => {
                admit(&mut body, card);
                cards.push(card.clone());
            }
            _ if self.ground.scenario.changes => {
                let percent = RELOCKS[self.rng.random_range(0..RELOCKS.len())];
                body.parameters.relock = body.parameters.relock.max(self.of_relock(percent));
            }
            _ => {}
        }
        let charter = Charter::new(body).expect("a body that keeps the rules");
        if let (Some((id, (_, keys))), false) = (joins, cards.is_empty()) {
            let consent = charter.approve(*id, &keys.governance);
            if self.is_over || !self.rng.random_bool(HESITATES) {
                consents.push(consent);
            } else if self.rng.random_bool(0.5) {
                let longest = self.of_relock(self.ground.scenario.held_back);
                self.after_some(HOUR, longest, Event::Publish(at, vec![Document::Approval(consent)]));
            }
        }
        Draft { charter, consents, cards }
    }

    /// Says that a vote is not to count any more. The ballot keeps it: somebody may hold it still.
    fn withdraw(&mut self, at: usize, charter: CharterId) {
        let id = self.members[at].id;
        let Some(keys) = self.ground.keys_of(id) else { return };
        let network = self.ground.founding.genesis.charter().network();
        let withdrawal = Withdrawal::sign(network, charter, id, &keys.governance);
        self.outcome.withdrawn += 1;
        self.publish(at, vec![Document::Withdrawal(withdrawal)]);
    }

    /// Votes, if the ballot lets. The ballot comes first, as it must.
    pub(super) fn vote(&mut self, at: usize, draft: Draft) -> bool {
        let Draft { charter, consents, cards } = draft;
        let member = &mut self.members[at];
        let Some(keys) = self.ground.keys_of(member.id) else { return false };
        let bundle = match member.governance.bundle(&charter, &cards, member.since) {
            Ok(bundle) => bundle,
            Err(error) => {
                let what = format!("{} cannot vote on what its node holds: {error}", member.id);
                self.fault(what);
                return false;
            }
        };
        match member.ballot.judge(&bundle, &keys.governance.public(), self.now) {
            Ok(ballot) => member.ballot = ballot,
            Err(VoteRefusal::Locked { left, .. }) => {
                member.locked = self.now + left;
                self.outcome.locked += 1;
                return false;
            }
            // Who waits for nothing else comes back when it has passed.
            Err(VoteRefusal::CoolDown(left)) if !self.ground.scenario.changes => {
                member.locked = self.now + left;
                return false;
            }
            Err(_) => return false,
        }
        self.outcome.attempts = self.outcome.attempts.max(charter.body().attempt);
        let own = charter.approve(member.id, &keys.governance);
        let approvals = [own].into_iter().chain(consents).collect();
        let document = Document::Charter { charter: Box::new(charter), approvals, cards };
        let longest = self.of_relock(self.ground.scenario.held_back);
        if longest > 0 && !self.is_over && self.rng.random_bool(HOLDS_BACK) {
            self.outcome.held_back += 1;
            self.after_some(HOUR, longest, Event::Publish(at, vec![document]));
        } else {
            self.publish(at, vec![document]);
        }
        true
    }
}

fn admit(body: &mut CharterBody, card: &Card) {
    body.members.push(Entry::of(card).expect("a first card"));
    body.members.sort_by_key(|member| member.id);
}

fn expel(body: &mut CharterBody, id: MemberId) {
    let Some(at) = body.members.iter().position(|member| member.id == id) else { return };
    let gone = body.members.remove(at);
    body.witnesses.members.retain(|witness| *witness != id);
    let others = body.witnesses.members.len().saturating_sub(1);
    body.witnesses.quorum = body.witnesses.quorum.min(u16::try_from(others).unwrap_or(u16::MAX));
    let departed = Departed::of(&gone, Departure::Expelled, gone.card, vec![End::nothing(0)]);
    body.departed.push(departed);
    body.departed.sort_by_key(|departed| departed.id);
}
