//! Governance under attack, over many seeds: rival proposals, votes that are held back, members that vote for everything, partitions,
//! restarts, members that come and go (SPEC 21).
//!
//! Every honest member is the real [`Governance`](hashmesh_protocol::governance::Governance) and the real
//! [`Ballot`](hashmesh_protocol::governance::Ballot), with the spans of the standard charter, in virtual time. Those that vote for everything
//! are worse than any node could be: all of them know at once whatever anybody says, reach everybody over any partition, and tell each
//! what they like. At the end of a seed everything that was signed is delivered; then it is asked whether all agree.
//!
//! Signatures are real, and each node verifies them, which is nearly all that a seed costs: so 10,000 seeds take minutes, not seconds
//! (`docs/governance.md` has the figure), and a test can afford a hundred or two.
//!
//! Knows nothing of engines, logs and sockets: documents reach a node or they do not.

pub mod command;
mod finish;
mod honest;
mod rogue;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hashmesh_protocol::card::{Card, MemberKeys};
use hashmesh_protocol::charter::{Parameters, Ratio};
use hashmesh_protocol::names::MemberId;
use world::World;

use crate::founding::{Founding, card_of, found_by, keys_of};

const NAMES: [&str; 10] = ["acme", "bolt", "crab", "dove", "echo", "fern", "gull", "hare", "ibis", "jade"];

/// Who may join later.
const NEWCOMERS: [&str; 2] = ["yak", "zoe"];

/// A kind of history that a federation may live through.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// Whether order and ballots must keep all together. Otherwise they may come apart, but not unheard.
    pub within: bool,
    /// Founders.
    pub members: usize,
    /// How many of them vote for everything.
    pub double_signers: usize,
    /// Shortest and longest time in which the federation is in two parts, in percent of `relock`; 0 for never.
    pub partitions: (u64, u64),
    /// Longest time for which a signature is held back, in percent of `relock`.
    pub held_back: u64,
    /// Whether members join, and are expelled once it is proven that they voted twice; and `relock` changes, and votes are withdrawn.
    pub changes: bool,
    /// How long it lasts, in days.
    pub days: u64,
    /// How many seeds in 1,000.
    pub share: u64,
}

/// Within the bound nobody comes apart. 1,000 in 1,000 seeds, and beyond the bound 200 more.
#[rustfmt::skip]
pub const SCENARIOS: [Scenario; 13] = [
    Scenario { name: "rival proposals", within: true, members: 4, double_signers: 0, partitions: (0, 0), held_back: 0, changes: false, days: 12, share: 100 },
    Scenario { name: "late signatures", within: true, members: 5, double_signers: 0, partitions: (0, 0), held_back: 50, changes: false, days: 24, share: 80 },
    Scenario { name: "partitions", within: true, members: 4, double_signers: 0, partitions: (5, 75), held_back: 0, changes: false, days: 30, share: 100 },
    Scenario { name: "double votes", within: true, members: 4, double_signers: 1, partitions: (0, 0), held_back: 0, changes: false, days: 12, share: 150 },
    Scenario { name: "all of it", within: true, members: 4, double_signers: 1, partitions: (5, 75), held_back: 50, changes: false, days: 30, share: 410 },
    Scenario { name: "all of it", within: true, members: 7, double_signers: 2, partitions: (5, 75), held_back: 50, changes: false, days: 30, share: 60 },
    Scenario { name: "all of it", within: true, members: 10, double_signers: 3, partitions: (5, 75), held_back: 50, changes: false, days: 30, share: 10 },
    Scenario { name: "members come and go", within: true, members: 4, double_signers: 1, partitions: (5, 75), held_back: 25, changes: true, days: 30, share: 90 },
    Scenario { name: "longer partitions", within: false, members: 4, double_signers: 1, partitions: (110, 250), held_back: 50, changes: false, days: 70, share: 50 },
    Scenario { name: "later signatures", within: false, members: 4, double_signers: 1, partitions: (5, 75), held_back: 300, changes: false, days: 70, share: 50 },
    Scenario { name: "too many double votes", within: false, members: 4, double_signers: 2, partitions: (5, 75), held_back: 10, changes: false, days: 40, share: 70 },
    Scenario { name: "too many double votes", within: false, members: 7, double_signers: 4, partitions: (5, 75), held_back: 10, changes: false, days: 40, share: 25 },
    Scenario { name: "too many double votes", within: false, members: 10, double_signers: 5, partitions: (5, 75), held_back: 10, changes: false, days: 30, share: 5 },
];

/// Most members of so many that may vote for everything. With more, two charters could be valid without an honest member that voted
/// for both, or the honest ones could decide nothing without them.
pub fn bound(members: usize) -> usize {
    let threshold = Ratio { numerator: 2, denominator: 3 }.threshold(members);
    (2 * threshold - members - 1).min(members - threshold)
}

/// What became of one seed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Versions of the charter in force at the end.
    pub versions: u64,
    /// Charters that an honest node had adopted and that are not in the chain at the end.
    pub displaced: u64,
    /// Members that are known to have voted twice.
    pub double_voters: u64,
    /// Partitions that there were.
    pub partitions: u64,
    /// Signatures that were held back.
    pub held_back: u64,
    /// Votes that were taken back.
    pub withdrawn: u64,
    /// Restarts, each of which gave back what had been in force.
    pub restarts: u64,
    /// Members that joined or were expelled.
    pub changes: u64,
    /// How often a ballot refused a vote because of `relock`.
    pub locked: u64,
    /// The highest attempt that was voted for.
    pub attempts: u16,
    /// With everything delivered, a node said that there are two final histories.
    pub conflict: bool,
    /// With everything delivered, two nodes had different charters in force, and one of them did not say so.
    pub silent: bool,
    /// When all operators had chosen the same one, there were different ones in force still; or without any conflict.
    pub diverged: bool,
    /// In the end a charter that all honest members wanted was not adopted.
    pub deadlock: bool,
    /// Of each version, how long it took from the first node that adopted a charter to the last one that adopted the one that stayed.
    pub agreed: Vec<Duration>,
    /// What must not be whatever happens: a node without a federation, a restart that changed something, an honest node that is blamed.
    pub faults: Vec<String>,
}

/// What is the same for all seeds of a scenario: signing a federation's beginning costs as much as a short history.
pub struct Ground {
    scenario: Scenario,
    founding: Founding,
    newcomers: BTreeMap<MemberId, (Card, MemberKeys)>,
}

impl Ground {
    fn keys_of(&self, id: MemberId) -> Option<&MemberKeys> {
        self.founding.keys.get(&id).or_else(|| self.newcomers.get(&id).map(|(_, keys)| keys))
    }

    /// Founds the federation of a scenario.
    pub fn of(scenario: Scenario) -> Self {
        let newcomers = NEWCOMERS.map(|name| {
            let card = card_of(name, "NL");
            (card.body().member, (card, keys_of(name)))
        });
        Self {
            scenario,
            founding: found_by(&NAMES[..scenario.members], Parameters::standard()),
            newcomers: BTreeMap::from(newcomers),
        }
    }

    /// Lives through one history. The same seed gives the same one.
    pub fn run(&self, seed: u64) -> Outcome {
        let mut world = World::new(self, seed);
        world.run();
        world.finish()
    }

    /// Lives through many, on all cores; by seed.
    pub fn run_all(&self, first: u64, count: u64) -> Vec<(u64, Outcome)> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicU64::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count {
                    return done;
                }
                done.push((first + at, self.run(first + at)));
            }
        };
        let mut all: Vec<_> = thread::scope(|scope| {
            let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
            let done = workers.into_iter().map(|worker| worker.join().expect("a seed does not panic"));
            done.flatten().collect()
        });
        all.sort_by_key(|(seed, _)| *seed);
        all
    }
}
