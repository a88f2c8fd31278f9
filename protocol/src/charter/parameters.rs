//! Every limit and span of time of a federation, as its charter has them.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::entries::MAX_LEAVES;

/// The parameters of a charter. Times in milliseconds.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Parameters {
    /// Members with nodes below this protocol version are behind a flag day.
    pub min_protocol: u32,
    /// Most leaves in a batch.
    pub batch_leaves: u32,
    /// Batches up to this many bytes travel whole by gossip; of larger ones only the checkpoint.
    pub gossip_bytes: u32,
    /// Most statements of one member in 24 hours; more are delayed, never invalid.
    pub statements_per_day: u64,
    /// Most live statements of one member.
    pub live_statements: u64,
    /// How often peers exchange heads.
    pub heads_interval: u64,
    /// A node that has heard no fresh heads from most members for so long calls itself isolated.
    pub isolation: u64,
    /// An author does not publish while its clock is farther than this from the median of its peers.
    pub clock_tolerance: u64,
    /// A checkpoint is cosigned anew after so long, though nothing was added.
    pub recosign: u64,
    /// Least time between two `observe` statements of a member.
    pub observe_interval: u64,
    /// Time between two `state` statements of a member.
    pub state_interval: u64,
    /// How long an erased opening is kept hidden before it is deleted, in case a thief erased it.
    pub erase_hold: u64,
    /// How long a charter has been the tip before a child of it is signed.
    pub cool_down: u64,
    /// The same for a child that expels somebody.
    pub cool_down_expulsion: u64,
    /// How long after signing a child of a charter no sibling of that charter is supported.
    pub relock: u64,
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Longest time for which a governance key may have to wait: a slip of the pen must not end all voting.
const LONGEST: u64 = 90 * DAY;

/// [`MAX_LEAVES`], as the charter writes it.
const BATCH_LEAVES: u32 = MAX_LEAVES as u32;

impl Parameters {
    /// What `hashmesh charter new` proposes. Only a proposal: nodes go by the charter they have adopted.
    ///
    /// Leaves a batch: 8,192 take a megabyte on the wire and 20 ms to verify. Gossip: 32 KiB is where pulling becomes
    /// cheaper than flooding (network measurements behind DESIGN section 5). Paces: ten times the largest known list a
    /// day. The rest are the spans that DESIGN sections 2 and 3 give.
    pub fn standard() -> Self {
        Self {
            min_protocol: 1,
            batch_leaves: BATCH_LEAVES,
            gossip_bytes: 32 * 1024,
            statements_per_day: 20_000_000,
            live_statements: 20_000_000,
            heads_interval: 10 * SECOND,
            isolation: 10 * MINUTE,
            clock_tolerance: 10 * MINUTE,
            recosign: DAY,
            observe_interval: HOUR,
            state_interval: 7 * DAY,
            erase_hold: 72 * HOUR,
            cool_down: DAY,
            cool_down_expulsion: HOUR,
            relock: 14 * DAY,
        }
    }

    /// All of them by name, in the order of the document.
    pub fn entries(&self) -> Vec<(&'static str, u64)> {
        let mut copy = self.clone();
        copy.fields().into_iter().map(|(name, field)| (name, field.get())).collect()
    }

    /// Sets one by its name.
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), ParameterError> {
        let field = self.fields().into_iter().find(|(known, _)| *known == name);
        let (_, mut field) = field.ok_or_else(|| ParameterError::Unknown(name.to_owned()))?;
        field.set(value).ok_or_else(|| ParameterError::TooLarge(name.to_owned()))
    }

    fn fields(&mut self) -> [(&'static str, Field<'_>); 15] {
        [
            ("min_protocol", Field::Short(&mut self.min_protocol)),
            ("batch_leaves", Field::Short(&mut self.batch_leaves)),
            ("gossip_bytes", Field::Short(&mut self.gossip_bytes)),
            ("statements_per_day", Field::Long(&mut self.statements_per_day)),
            ("live_statements", Field::Long(&mut self.live_statements)),
            ("heads_interval", Field::Long(&mut self.heads_interval)),
            ("isolation", Field::Long(&mut self.isolation)),
            ("clock_tolerance", Field::Long(&mut self.clock_tolerance)),
            ("recosign", Field::Long(&mut self.recosign)),
            ("observe_interval", Field::Long(&mut self.observe_interval)),
            ("state_interval", Field::Long(&mut self.state_interval)),
            ("erase_hold", Field::Long(&mut self.erase_hold)),
            ("cool_down", Field::Long(&mut self.cool_down)),
            ("cool_down_expulsion", Field::Long(&mut self.cool_down_expulsion)),
            ("relock", Field::Long(&mut self.relock)),
        ]
    }

    /// The bounds inside which the software works (SPEC 10.6); the sentence that is broken, if one is.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let bounds = [
            ((1..=BATCH_LEAVES).contains(&self.batch_leaves), "batch_leaves must be 1 to 8192"),
            ((1024..=60_000).contains(&self.gossip_bytes), "gossip_bytes must be 1024 to 60000"),
            (self.statements_per_day > 0, "statements_per_day must be above 0"),
            ((1..=1 << 32).contains(&self.live_statements), "live_statements must be 1 to 4294967296"),
            ((SECOND..=HOUR).contains(&self.heads_interval), "heads_interval must be 1 s to 1 h"),
            (self.isolation >= self.heads_interval, "isolation must be at least heads_interval"),
            (self.clock_tolerance >= SECOND, "clock_tolerance must be at least 1 s"),
            (self.recosign >= MINUTE, "recosign must be at least 1 min"),
            (self.cool_down <= LONGEST, "cool_down must be at most 90 days"),
            (self.cool_down_expulsion <= LONGEST, "cool_down_expulsion must be at most 90 days"),
            (self.relock <= LONGEST, "relock must be at most 90 days"),
        ];
        bounds.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule))
    }
}

/// A parameter that cannot be set.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParameterError {
    /// There is none of this name.
    #[error("there is no limit called {0:?}; hashmesh charter show lists them")]
    Unknown(String),
    /// It does not fit.
    #[error("{0} cannot be that large")]
    TooLarge(String),
}

/// One parameter.
enum Field<'a> {
    Short(&'a mut u32),
    Long(&'a mut u64),
}

impl Field<'_> {
    fn get(&self) -> u64 {
        match self {
            Self::Short(value) => u64::from(**value),
            Self::Long(value) => **value,
        }
    }

    fn set(&mut self, to: u64) -> Option<()> {
        match self {
            Self::Short(value) => **value = u32::try_from(to).ok()?,
            Self::Long(value) => **value = to,
        }
        Some(())
    }
}
