//! SPEC 21: members agree on the charter under attack; where they cannot, they say so and go on matching.

use std::time::Duration;

use hashmesh_testnet::sim::governance::command::Row;
use hashmesh_testnet::sim::governance::{Ground, SCENARIOS, Scenario, bound};

/// Seeds of one scenario, and what they came to. No node was ever without a federation, no restart changed what was in force, and
/// no honest node was blamed, or this fails.
fn lives_through(scenario: Scenario, seeds: u64) -> Row {
    let row = Row::of(Ground::of(scenario).run_all(1, seeds));
    assert!(row.holds(&scenario), "{scenario:?}: {row:?}");
    assert!(row.versions >= 2 * seeds && row.restarts >= seeds, "there is something to agree on: {scenario:?}");
    row
}

fn scenarios(within: bool) -> impl Iterator<Item = Scenario> {
    SCENARIOS.into_iter().filter(move |scenario| scenario.within == within)
}

/// SPEC 21.3, 21.4, 21.6: with no more double-signers than the bound, and partitions and delays below `relock`, all have the same charter
/// in the end, nothing is in conflict, and what all want is adopted.
#[test]
fn within_the_bound_nobody_comes_apart() {
    let (mut double, mut cut, mut late, mut locked, mut displaced, mut attempts, mut changes) = (0, 0, 0, 0, 0, 0, 0);
    for scenario in scenarios(true) {
        assert!(scenario.double_signers <= bound(scenario.members) && scenario.partitions.1 < 100);
        let seeds = if scenario.members > 5 { 2 } else { 8 };
        let row = lives_through(scenario, seeds);
        assert_eq!(row.double_voters > 0, scenario.double_signers > 0, "{scenario:?}");
        assert_eq!(row.partitions > 0, scenario.partitions.1 > 0, "{scenario:?}");
        assert_eq!(row.held_back > 0, scenario.held_back > 0, "{scenario:?}");
        assert_eq!(row.changes > 0, scenario.changes, "{scenario:?}");
        assert!(row.agreement().1 > Duration::ZERO);
        (double, cut, late) = (double + row.double_voters, cut + row.partitions, late + row.held_back);
        (locked, displaced, changes) = (locked + row.locked, displaced + row.displaced, changes + row.changes);
        attempts = attempts.max(row.attempts);
    }
    println!("{double} double voters, {cut} partitions, {late} held back, {changes} changes, attempt {attempts}");
    assert!(displaced > 10, "siblings must have been displaced, or order was not needed: {displaced}");
    assert!(locked > 10, "ballots must have refused, or they were not needed: {locked}");
    assert!(attempts >= 3, "proposals must have hung: {attempts}");
}

/// SPEC 21.4: beyond it, who differs says so, and once all operators have chosen the same, all have the same again.
#[test]
fn beyond_the_bound_it_is_loud() {
    let mut conflicts = 0;
    for scenario in scenarios(false) {
        let too_many = scenario.double_signers > bound(scenario.members);
        assert!(too_many || scenario.partitions.0 > 100 || scenario.held_back > 100, "{scenario:?}");
        let seeds = if scenario.members > 5 { 2 } else { 12 };
        let row = lives_through(scenario, seeds);
        conflicts += row.conflicts.len();
    }
    assert!(conflicts > 3, "there must have been conflicts: {conflicts}");
}

/// The same seed gives the same history.
#[test]
fn a_history_can_be_lived_through_again() {
    let ground = Ground::of(SCENARIOS[4]);
    assert_eq!(format!("{:?}", ground.run(7)), format!("{:?}", Ground::of(SCENARIOS[4]).run(7)));
}
