//! From one version of the charter to the next: what may change at once, and whose signatures count (SPEC 10.7 to 10.11).
//!
//! Members are counted, never signatures or keys. That is the mistake that others have made four times
//! (CVE-2020-6174 and its relatives): so a signature first becomes the voice of one member, and only voices are counted.
//!
//! Knows two versions and the governance keys of those before. Which valid child is adopted is decided in
//! [`governance`](crate::governance).

use std::collections::BTreeSet;

use super::{Approval, Charter, CharterBody, Departed, Departure, Member};
use crate::key::PublicKey;
use crate::names::MemberId;

/// A charter that may follow another one. Holding it proves that everything holds but the number of signatures.
#[derive(Clone, Copy, Debug)]
pub struct Amendment<'a> {
    parent: &'a Charter,
    child: &'a Charter,
}

/// What a signature on an amendment is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// A member of the parent wants it: signed with the governance key in the parent. This is what is counted.
    Vote,
    /// Somebody with a governance key that is new in the child owns it, and agrees: signed with that key.
    Consent,
}

/// Who has signed an amendment, and what is missing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tally {
    /// The members whose votes count.
    pub votes: BTreeSet<MemberId>,
    /// So many must vote.
    pub threshold: usize,
    /// Whose new key has not signed yet.
    pub no_consent: BTreeSet<MemberId>,
}

impl Tally {
    /// Whether all signatures are there.
    pub fn is_complete(&self) -> bool {
        self.votes.len() >= self.threshold && self.no_consent.is_empty()
    }

    /// How many votes are missing.
    pub fn missing(&self) -> usize {
        self.threshold.saturating_sub(self.votes.len())
    }
}

/// Why a charter cannot follow another one, or a signature is none on it. Each variant is one rule.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AmendmentError {
    /// SPEC 10.7: of another federation.
    #[error("a charter of another federation")]
    OtherNetwork,
    /// SPEC 10.7: not the next version.
    #[error("version {child} does not follow version {parent}")]
    Version {
        /// The version of the one before.
        parent: u64,
        /// The version that was to follow.
        child: u64,
    },
    /// SPEC 10.7: names another charter before it.
    #[error("it follows another charter")]
    OtherParent,
    /// SPEC 10.7: origins begin with the name.
    #[error("the name of a federation never changes")]
    Name,
    /// SPEC 10.9: too many join at once.
    #[error("{joins} members join at once; at most {most} may")]
    Joins {
        /// How many do.
        joins: usize,
        /// How many may.
        most: usize,
    },
    /// SPEC 10.9: too many members or keys are removed at once.
    #[error("{removals} members or governance keys go at once; at most {most} may")]
    Removals {
        /// How many are.
        removals: usize,
        /// How many may be.
        most: usize,
    },
    /// SPEC 10.9: a threshold changes together with something else.
    #[error("a change of the threshold stands alone in its version")]
    ThresholdNotAlone,
    /// SPEC 10.9: votes that were given under it would exclude too little.
    #[error("relock never gets shorter")]
    Relock,
    /// SPEC 10.8: a member is gone without an entry.
    #[error("{0} is no member any more, and it is not said where its logs end")]
    NoEnd(MemberId),
    /// SPEC 10.8: an entry for somebody who was no member.
    #[error("{0} departs, but was no member")]
    NotAMember(MemberId),
    /// SPEC 10.8: who departs is called otherwise than before.
    #[error("{0} departs under another name or jurisdiction than it had")]
    DepartedOtherwise(MemberId),
    /// SPEC 10.8: what was said of a former member stays.
    #[error("what the charter says of {0}, who departed before, was changed")]
    DepartedChanged(MemberId),
    /// SPEC 10.5: a label's code keeps its name.
    #[error("label {0} was dropped or has another name; a code stays, with its name")]
    Label(u16),
    /// SPEC 10.11: a governance key was used before.
    #[error("the new governance key of {0} was used before")]
    KeyReused(MemberId),
    /// SPEC 10.10: a signature by somebody who can have none on it.
    #[error("{0} cannot sign it: neither a member before it nor new in it")]
    Stranger(MemberId),
    /// SPEC 10.10: a signature on something else.
    #[error("a signature on another charter")]
    OtherCharter,
    /// SPEC 10.10: nobody votes on its own expulsion.
    #[error("{0} votes on its own expulsion")]
    OwnExpulsion(MemberId),
    /// SPEC 10.10: made with neither key.
    #[error("the signature of {0} is wrong")]
    Signature(MemberId),
}

/// How many may join a federation of so many members in one version.
pub fn most_joins(members: usize) -> usize {
    (members / 10).max(1)
}

/// How many may be removed from a federation of so many members in one version.
pub fn most_removals(members: usize) -> usize {
    (members.saturating_sub(1) / 3).max(1)
}

impl<'a> Amendment<'a> {
    /// Checks the rules of a child. `used` are the governance keys of all charters before it, the parent's too.
    pub fn check(parent: &'a Charter, child: &'a Charter, used: &BTreeSet<PublicKey>) -> Result<Self, AmendmentError> {
        let amendment = Self { parent, child };
        amendment.check_chain()?;
        amendment.check_size()?;
        amendment.check_departed()?;
        amendment.check_labels()?;
        match amendment.fresh().find(|member| used.contains(&member.governance)) {
            Some(member) => Err(AmendmentError::KeyReused(member.id)),
            None => Ok(amendment),
        }
    }

    /// One that has been checked before.
    pub(crate) fn checked(parent: &'a Charter, child: &'a Charter) -> Self {
        Self { parent, child }
    }

    fn check_chain(&self) -> Result<(), AmendmentError> {
        let (parent, child) = (self.parent.body(), self.child.body());
        if self.child.network() != self.parent.network() {
            return Err(AmendmentError::OtherNetwork);
        }
        if parent.version.checked_add(1) != Some(child.version) {
            return Err(AmendmentError::Version { parent: parent.version, child: child.version });
        }
        if child.previous != Some(self.parent.id()) {
            return Err(AmendmentError::OtherParent);
        }
        if child.federation != parent.federation {
            return Err(AmendmentError::Name);
        }
        Ok(())
    }

    fn check_size(&self) -> Result<(), AmendmentError> {
        let members = self.parent.body().members.len();
        let (joins, most) = (self.joined().count(), most_joins(members));
        if joins > most {
            return Err(AmendmentError::Joins { joins, most });
        }
        // Whoever replaces a key replaces the member, as far as votes go.
        let (removals, most) = (self.removed().count() + self.fresh().count() - joins, most_removals(members));
        if removals > most {
            return Err(AmendmentError::Removals { removals, most });
        }
        if self.child.body().threshold != self.parent.body().threshold && !self.changes_the_threshold_alone() {
            return Err(AmendmentError::ThresholdNotAlone);
        }
        if self.child.body().parameters.relock < self.parent.body().parameters.relock {
            return Err(AmendmentError::Relock);
        }
        Ok(())
    }

    fn changes_the_threshold_alone(&self) -> bool {
        let child = self.child.body();
        let same = CharterBody {
            network: child.network,
            version: child.version,
            attempt: child.attempt,
            previous: child.previous,
            threshold: child.threshold,
            note: child.note.clone(),
            // What a beginning says of the federation before it, its children cannot say.
            succeeds: None,
            ..self.parent.body().clone()
        };
        same == *child
    }

    fn check_departed(&self) -> Result<(), AmendmentError> {
        for before in &self.parent.body().departed {
            if self.child.departed(before.id) != Some(before) {
                return Err(AmendmentError::DepartedChanged(before.id));
            }
        }
        if let Some(member) = self.removed().find(|member| self.child.departed(member.id).is_none()) {
            return Err(AmendmentError::NoEnd(member.id));
        }
        for departed in self.departing() {
            let was = self.parent.member(departed.id).ok_or(AmendmentError::NotAMember(departed.id))?;
            if (&was.name, was.jurisdiction) != (&departed.name, departed.jurisdiction) {
                return Err(AmendmentError::DepartedOtherwise(departed.id));
            }
        }
        Ok(())
    }

    fn check_labels(&self) -> Result<(), AmendmentError> {
        let kept = |code, name: &str| self.child.label(code).is_some_and(|label| label.name == name);
        match self.parent.body().labels.iter().find(|label| !kept(label.code, &label.name)) {
            Some(label) => Err(AmendmentError::Label(label.code)),
            None => Ok(()),
        }
    }

    /// The members that are new.
    pub fn joined(&self) -> impl Iterator<Item = &'a Member> {
        let parent = self.parent;
        self.child.body().members.iter().filter(move |member| parent.member(member.id).is_none())
    }

    /// The members that are gone, as they were.
    pub fn removed(&self) -> impl Iterator<Item = &'a Member> {
        let child = self.child;
        self.parent.body().members.iter().filter(move |member| child.member(member.id).is_none())
    }

    /// What is said of those that are gone.
    pub fn departing(&self) -> impl Iterator<Item = &'a Departed> {
        let parent = self.parent;
        self.child.body().departed.iter().filter(move |departed| parent.departed(departed.id).is_none())
    }

    /// The members with a governance key that is new: those that join, and those whose key was replaced.
    pub fn fresh(&self) -> impl Iterator<Item = &'a Member> {
        let parent = self.parent;
        let is_fresh =
            move |member: &&Member| parent.member(member.id).map(|m| m.governance) != Some(member.governance);
        self.child.body().members.iter().filter(is_fresh)
    }

    /// The members whose `card` the child sets: those that join, and those of whose cards it decides.
    pub fn carded(&self) -> impl Iterator<Item = &'a Member> {
        let parent = self.parent;
        let is_set = move |member: &&Member| parent.member(member.id).map(|m| m.card) != Some(member.card);
        self.child.body().members.iter().filter(is_set)
    }

    /// Whether it removes somebody who may not want it: its cool-down is shorter.
    pub fn expels(&self) -> bool {
        self.departing().any(|departed| departed.kind != Departure::Left)
    }

    /// Verifies a signature on the child, and says what it is.
    pub fn role(&self, approval: &Approval) -> Result<Role, AmendmentError> {
        let id = approval.member;
        if approval.charter != self.child.id() {
            return Err(AmendmentError::OtherCharter);
        }
        let voter = self.parent.member(id);
        let holds = |key: &PublicKey| self.child.is_signed(key, &approval.signature);
        if voter.is_some_and(|voter| holds(&voter.governance)) {
            let expelled = self.child.departed(id).is_some_and(|departed| departed.kind != Departure::Left);
            return if expelled { Err(AmendmentError::OwnExpulsion(id)) } else { Ok(Role::Vote) };
        }
        let mut fresh = self.fresh().filter(|member| member.id == id);
        match fresh.next() {
            Some(member) if holds(&member.governance) => Ok(Role::Consent),
            None if voter.is_none() => Err(AmendmentError::Stranger(id)),
            _ => Err(AmendmentError::Signature(id)),
        }
    }

    /// Counts voices, each of which [`role`](Self::role) has given.
    pub fn tally(&self, voices: impl IntoIterator<Item = (MemberId, Role)>) -> Tally {
        let (mut votes, mut consents) = (BTreeSet::new(), BTreeSet::new());
        for (member, role) in voices {
            match role {
                Role::Vote => votes.insert(member),
                Role::Consent => consents.insert(member),
            };
        }
        let no_consent = self.fresh().map(|member| member.id).filter(|id| !consents.contains(id)).collect();
        Tally { votes, threshold: self.parent.threshold(), no_consent }
    }
}
