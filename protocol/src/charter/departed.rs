//! Who is no member any more, and where its logs end; and what a new federation takes over from an old one (SPEC 10.8).

use serde::{Deserialize, Serialize};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::Member;
use crate::card::{End, MAX_EPOCHS};
use crate::codec;
use crate::digest::{CardId, CharterId, NetworkId};
use crate::names::{Jurisdiction, MemberId};

/// Most ends that a new federation takes over.
const MAX_TAKEN_OVER: usize = 4000;

/// Why somebody is no member any more. What its statements weigh from then on is each platform's policy.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u64", into = "u64")]
pub enum Departure {
    /// It wanted to.
    Left,
    /// The others wanted it to.
    Expelled,
    /// Its keys were stolen or lost beyond repair; what it said up to the ends was its own.
    Resolved,
}

impl Departure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Left, Self::Expelled, Self::Resolved];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Expelled => "expelled",
            Self::Resolved => "resolved",
        }
    }
}

impl From<Departure> for u64 {
    fn from(kind: Departure) -> Self {
        match kind {
            Departure::Left => 1,
            Departure::Expelled => 2,
            Departure::Resolved => 3,
        }
    }
}

/// A number that no departure has.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} is no kind of departure")]
pub struct UnknownDeparture(u64);

impl TryFrom<u64> for Departure {
    type Error = UnknownDeparture;

    fn try_from(number: u64) -> Result<Self, UnknownDeparture> {
        match number {
            1 => Ok(Self::Left),
            2 => Ok(Self::Expelled),
            3 => Ok(Self::Resolved),
            other => Err(UnknownDeparture(other)),
        }
    }
}

/// A former member. Its entry stays for ever, unchanged: nobody comes back under the same id.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Departed {
    /// Its id.
    pub id: MemberId,
    /// Its name, as it was last.
    pub name: String,
    /// Where it answered to the law.
    pub jurisdiction: Jurisdiction,
    /// Why it went.
    pub kind: Departure,
    /// Its last card that counts: it says which keys its logs had.
    pub card: CardId,
    /// Where its logs end, one entry an epoch from 0 on. Nothing beyond counts, unless it was settled; of epochs that are not
    /// listed nothing counts.
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_EPOCHS>")]
    pub ends: Vec<End>,
}

impl Departed {
    /// The entry of a member that goes, as the charter before has it.
    pub fn of(member: &Member, kind: Departure, card: CardId, ends: Vec<End>) -> Self {
        Self { id: member.id, name: member.name.clone(), jurisdiction: member.jurisdiction, kind, card, ends }
    }
}

/// What the founders of a new federation take over from one that has lost its quorum.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Succeeds {
    /// The old federation.
    pub network: NetworkId,
    /// Its last charter.
    pub charter: CharterId,
    /// Which of its logs are carried over and up to where, ascending by member and epoch.
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_TAKEN_OVER>")]
    pub ends: Vec<OldEnd>,
}

/// Up to where a log of the old federation is carried over.
#[derive(Clone, Copy, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct OldEnd {
    /// Whose log, by its id in the old federation.
    pub member: MemberId,
    /// The log and where it ends.
    pub end: End,
}

/// Whether ends are one an epoch, from 0 on.
pub(super) fn are_complete(ends: &[End]) -> bool {
    (0u32..).zip(ends).all(|(epoch, end)| end.epoch == epoch)
}
