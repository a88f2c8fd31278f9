//! Every way to miscount, every order of arrival.

use std::collections::BTreeMap;

use super::bounds::{MAX_ASIDE, MAX_BACKED};
use super::*;
use crate::armor;
use crate::card::tests::{card, keys};
use crate::card::{CardBody, End, MemberKeys, SuccessionError};
use crate::charter::{Amendment, CharterBody, Departed, Departure, Member, Ratio, differences};
use crate::digest::Digest;
use crate::federation::Standing;
use crate::federation::tests::genesis;
use crate::key::SecretKey;
use crate::names::LogId;
use crate::time::Timestamp;

const NAMES: [&str; 7] = ["acme", "bolt", "crab", "dove", "echo", "fern", "gull"];

struct World {
    genesis: Genesis,
    keys: BTreeMap<MemberId, MemberKeys>,
}

fn id(name: &str) -> MemberId {
    name.parse().unwrap()
}

/// The seed of the cards and keys of those that are no founders.
const ZOE: u8 = 20;

fn zoe() -> Card {
    card("zoe", "NL", ZOE)
}

impl World {
    fn of(members: usize) -> Self {
        let (genesis, mut all) = genesis(&NAMES[..members]);
        all.insert(id("zoe"), keys(ZOE));
        Self { genesis, keys: all }
    }

    fn start(&self) -> Governance {
        Governance::new(&self.genesis)
    }

    fn root(&self) -> &Charter {
        self.genesis.charter()
    }

    fn sign(&self, charter: &Charter, members: &[&str]) -> Vec<Approval> {
        members.iter().map(|name| charter.approve(id(name), &self.keys[&id(name)].governance)).collect()
    }

    fn secret(&self, name: &str) -> &SecretKey {
        &self.keys[&id(name)].governance
    }
}

fn amend(parent: &Charter, change: impl FnOnce(&mut CharterBody)) -> Charter {
    let mut body = parent.successor();
    change(&mut body);
    Charter::new(body).unwrap()
}

fn noted(parent: &Charter, attempt: u16, note: &str) -> Charter {
    amend(parent, |body| (body.attempt, body.note) = (attempt, note.into()))
}

fn entry(card: &Card) -> Member {
    Member::of(card).unwrap()
}

fn admit(body: &mut CharterBody, card: &Card) {
    body.members.push(entry(card));
    body.members.sort_by_key(|member| member.id);
}

fn drop_member(body: &mut CharterBody, name: &str, kind: Departure) {
    let at = body.members.iter().position(|member| member.id == id(name)).unwrap();
    let gone = body.members.remove(at);
    body.witnesses.members.retain(|witness| *witness != gone.id);
    let witnesses = u16::try_from(body.witnesses.members.len()).unwrap();
    body.witnesses.quorum = body.witnesses.quorum.min(witnesses - 1);
    body.departed.push(Departed::of(&gone, kind, gone.card, vec![End::nothing(0)]));
    body.departed.sort_by_key(|departed| departed.id);
}

/// SPEC 10.10, exhaustive for up to seven members: whoever signs, however often, under whatever name and for whatever else, with
/// less than T distinct members of the parent nothing is adopted; and with T of them it is.
#[test]
fn members_are_counted_and_nothing_else() {
    for count in 2..=7 {
        let world = World::of(count);
        let child = amend(world.root(), |body| admit(body, &zoe()));
        let threshold = world.root().threshold();
        let elsewhere = noted(world.root(), 1, "another one");
        let (foreign, _) = genesis(&NAMES[..if count == 7 { 6 } else { count + 1 }]);
        for signers in 0u32..1 << count {
            let named: Vec<&str> = (0..count).filter(|at| signers >> at & 1 == 1).map(|at| NAMES[at]).collect();
            let mut governance = world.start();
            let mut approvals = world.sign(&child, &named);
            approvals.extend(approvals.clone());
            approvals.extend(world.sign(&child, &["zoe"]));
            let taken = governance.take_charter(child.clone(), approvals, vec![zoe()]);
            if named.is_empty() {
                assert_eq!(taken, Err(GovernanceError::Unsigned), "{count} members, signed by who joins alone");
                continue;
            }
            // Nothing of this is a voice of somebody who has not signed.
            for name in NAMES[..count].iter().copied().filter(|name| !named.contains(name)) {
                let other = named[0];
                let mut forged = vec![
                    child.approve(id(name), world.secret(other)),
                    child.approve(id(name), world.secret("zoe")),
                    child.approve(id(name), &world.keys[&id(name)].log),
                    elsewhere.approve(id(name), world.secret(name)),
                    world.root().approve(id(name), world.secret(name)),
                    noted(foreign.charter(), 0, "").approve(id(name), world.secret(name)),
                ];
                forged.iter_mut().for_each(|approval| approval.charter = child.id());
                forged.push(child.approve(id("eve"), world.secret(other)));
                for forged in forged {
                    assert!(governance.take_approval(forged).is_err(), "{named:?} {name}");
                }
            }
            let adopted = governance.tip().id() == child.id();
            assert_eq!(adopted, named.len() >= threshold, "{count} members, signed by {named:?}");
        }
    }
}

/// SPEC 10.10: who is new has agreed, with the key that is new; without its card nothing is adopted.
#[test]
fn nobody_is_admitted_who_has_not_agreed() {
    let world = World::of(4);
    let child = amend(world.root(), |body| admit(body, &zoe()));
    let mut governance = world.start();
    let taken = governance.take_charter(child.clone(), world.sign(&child, &NAMES[..4]), Vec::new());
    assert_eq!(taken, Ok(Taken::Kept));
    let proposal = governance.proposal(child.id()).unwrap();
    assert!(proposal.tally.votes.len() == 4 && !proposal.tally.is_complete());
    assert_eq!(proposal.cards_missing, [(id("zoe"), zoe().id())]);
    assert_eq!(governance.take_approval(world.sign(&child, &["zoe"]).remove(0)), Ok(Taken::Kept));
    assert_eq!(governance.take_card(zoe()), Ok(Taken::Adopted(child.id())));
    assert_eq!(governance.federation().standing(id("zoe")), Some(Standing::Active));
    assert_eq!(governance.take_card(zoe()), Ok(Taken::Known));
}

/// SPEC 10.8, 10.10: nobody votes on its own expulsion, and former members have no voice.
#[test]
fn former_members_have_no_voice() {
    let world = World::of(4);
    let expulsion = amend(world.root(), |body| drop_member(body, "dove", Departure::Expelled));
    let mut governance = world.start();
    governance.take_charter(expulsion.clone(), world.sign(&expulsion, &["acme", "bolt"]), Vec::new()).unwrap();
    let own = world.sign(&expulsion, &["dove"]).remove(0);
    assert_eq!(
        governance.take_approval(own),
        Err(GovernanceError::Amendment(AmendmentError::OwnExpulsion(id("dove"))))
    );
    governance.take_approval(world.sign(&expulsion, &["crab"]).remove(0)).unwrap();
    let federation = governance.federation();
    assert_eq!(governance.tip().id(), expulsion.id());
    let log = LogId { member: id("dove"), epoch: 0 };
    let state = federation.log_state(log).unwrap();
    assert_eq!((state.standing, state.writable, state.end), (Standing::Expelled, false, Some(End::nothing(0))));
    assert!(federation.logs().contains_key(&log), "what it has said stays");
    assert!(!federation.nodes().values().any(|member| *member == id("dove")));
    let next = noted(&expulsion, 0, "next");
    let refused = governance.take_charter(next.clone(), world.sign(&next, &["acme", "bolt", "dove"]), Vec::new());
    assert_eq!(refused, Err(GovernanceError::Amendment(AmendmentError::Stranger(id("dove")))));
    // Who leaves has a voice until it has left.
    let leave = amend(world.root(), |body| drop_member(body, "dove", Departure::Left));
    let mut governance = world.start();
    governance.take_charter(leave.clone(), world.sign(&leave, &["acme", "bolt", "dove"]), Vec::new()).unwrap();
    assert_eq!(governance.tip().id(), leave.id());
}

/// SPEC 10.5, 10.7 to 10.11, one by one.
#[test]
fn one_version_changes_little() {
    let world = World::of(5);
    let root = world.root();
    let used = root.body().members.iter().map(|member| member.governance).collect();
    let change = |change: &dyn Fn(&mut CharterBody)| {
        Amendment::check(root, &amend(root, |body| change(body)), &used).map(|_| ()).unwrap_err()
    };
    let (second, third) = (card("yan", "NL", 21), card("xi", "NL", 22));
    let joins = change(&|body| [&zoe(), &second].into_iter().for_each(|card| admit(body, card)));
    assert_eq!(joins, AmendmentError::Joins { joins: 2, most: 1 });
    let go = |body: &mut CharterBody| {
        ["dove", "echo"].into_iter().for_each(|name| drop_member(body, name, Departure::Left));
    };
    assert_eq!(change(&go), AmendmentError::Removals { removals: 2, most: 1 });
    let key = third.body().governance;
    let replace = |body: &mut CharterBody| {
        drop_member(body, "echo", Departure::Resolved);
        body.members[0].governance = key;
    };
    assert_eq!(change(&replace), AmendmentError::Removals { removals: 2, most: 1 });
    let ratio = Ratio { numerator: 3, denominator: 4 };
    let both = |body: &mut CharterBody| (body.threshold, body.members[0].name) = (ratio, "ACME 2".into());
    assert_eq!(change(&both), AmendmentError::ThresholdNotAlone);
    let alone = amend(root, |body| (body.threshold, body.note) = (ratio, "why".into()));
    assert!(Amendment::check(root, &alone, &used).is_ok());
    assert_eq!(change(&|body| body.version = 2), AmendmentError::Version { parent: 0, child: 2 });
    assert_eq!(change(&|body| body.previous = Some(CharterId::default())), AmendmentError::OtherParent);
    assert_eq!(change(&|body| body.network = Some(NetworkId::default())), AmendmentError::OtherNetwork);
    assert_eq!(change(&|body| body.federation = "other.example".parse().unwrap()), AmendmentError::Name);
    assert_eq!(change(&|body| body.labels.truncate(1)), AmendmentError::Label(2));
    assert_eq!(change(&|body| body.labels[1].name = "other".into()), AmendmentError::Label(2));
    let vanish = |body: &mut CharterBody| {
        drop_member(body, "echo", Departure::Left);
        body.departed.clear();
    };
    assert_eq!(change(&vanish), AmendmentError::NoEnd(id("echo")));
    let invented = |body: &mut CharterBody| {
        let eve = Member { id: id("eve"), ..body.members[0].clone() };
        let gone = Departed::of(&eve, Departure::Left, zoe().id(), Vec::new());
        body.departed.push(gone);
    };
    assert_eq!(change(&invented), AmendmentError::NotAMember(id("eve")));
    let swap = |body: &mut CharterBody| {
        let other = body.members[1].governance;
        drop_member(body, "bolt", Departure::Left);
        body.members[0].governance = other;
    };
    assert!(matches!(change(&swap), AmendmentError::Removals { .. } | AmendmentError::KeyReused(_)));
    let gone = amend(root, |body| drop_member(body, "echo", Departure::Left));
    let renamed = |body: &mut CharterBody| {
        drop_member(body, "echo", Departure::Left);
        body.departed[0].name = "Other".to_owned();
    };
    assert_eq!(change(&renamed), AmendmentError::DepartedOtherwise(id("echo")));
    let changed = amend(&gone, |body| body.departed[0].kind = Departure::Expelled);
    assert_eq!(Amendment::check(&gone, &changed, &used).map(|_| ()), Err(AmendmentError::DepartedChanged(id("echo"))));
    let mut back = gone.successor();
    back.members.push(root.member(id("echo")).unwrap().clone());
    assert!(Charter::new(back).is_err(), "nobody comes back under its id");
    let reused = amend(&gone, |body| {
        let mut entry = entry(&zoe());
        entry.governance = root.member(id("echo")).unwrap().governance;
        body.members.push(entry);
    });
    assert_eq!(Amendment::check(&gone, &reused, &used).map(|_| ()), Err(AmendmentError::KeyReused(id("zoe"))));
}

/// SPEC 21.3, 21.4: a better sibling displaces a tip, and nothing displaces what has a child but a person.
#[test]
fn siblings_have_one_order_and_what_has_a_child_is_final() {
    let world = World::of(4);
    let quorum = &NAMES[..3];
    let take = |governance: &mut Governance, charter: &Charter| {
        governance.take_charter(charter.clone(), world.sign(charter, quorum), Vec::new()).unwrap()
    };
    let (low, high) = (noted(world.root(), 0, "low"), noted(world.root(), 1, "high"));
    let mut governance = world.start();
    assert_eq!(take(&mut governance, &low), Taken::Adopted(low.id()));
    assert_eq!(take(&mut governance, &high), Taken::Adopted(high.id()), "the higher attempt");
    assert_eq!(governance.double_votes().len(), 0, "another attempt is no double vote");
    let child = noted(&low, 0, "child");
    assert_eq!(take(&mut governance, &child), Taken::Adopted(child.id()), "the longer chain");

    let rival = noted(&high, 0, "rival");
    let conflict = Conflict { version: 1, ours: child.id(), theirs: rival.id() };
    assert_eq!(take(&mut governance, &rival), Taken::Conflict(conflict));
    assert_eq!((governance.tip().id(), governance.conflict()), (child.id(), Some(conflict)));
    let next = noted(&child, 0, "next");
    assert_eq!(take(&mut governance, &next), Taken::Kept, "adoption stands still");
    let tip = governance.tip().id();
    let (again, refused) = Governance::load(&world.genesis, governance.documents(), Some(tip), []);
    assert!(refused.is_empty());
    assert_eq!((again.tip().id(), again.conflict().is_some()), (tip, true), "a restart decides nothing");

    assert_eq!(governance.choose(CharterId::default()), Err(GovernanceError::NoSuchCharter));
    assert!(matches!(governance.clone().choose(world.root().id()), Ok(Taken::Conflict(_))), "which both contain");
    let mut theirs = governance.clone();
    assert_eq!(theirs.choose(rival.id()), Ok(Taken::Adopted(rival.id())));
    assert_eq!(governance.choose(child.id()), Ok(Taken::Adopted(next.id())));
    assert_eq!((governance.conflict(), theirs.conflict()), (None, None));
    let after = noted(&rival, 0, "after");
    take(&mut theirs, &after);
    take(&mut governance, &after);
    assert_eq!((theirs.tip().id(), governance.tip().id()), (after.id(), next.id()), "each as its operator chose");
}

/// SPEC 21.5.
#[test]
fn a_chain_without_the_pinned_charter_is_not_joined() {
    let world = World::of(4);
    let (mine, old) = (noted(world.root(), 0, "mine"), noted(world.root(), 5, "made with old keys"));
    let long = noted(&old, 0, "longer");
    let mut governance = world.start();
    governance.must_contain(mine.id());
    for charter in [&old, &long] {
        governance.take_charter(charter.clone(), world.sign(charter, &NAMES[..3]), Vec::new()).unwrap();
        assert!(!governance.has_joined());
    }
    governance.take_charter(mine.clone(), world.sign(&mine, &NAMES[1..4]), Vec::new()).unwrap();
    assert!(governance.has_joined());
    assert_eq!((governance.tip().id(), governance.conflict()), (mine.id(), None));
}

/// SPEC 21.6.
#[test]
fn two_votes_in_one_attempt_are_proof() {
    let world = World::of(4);
    let (one, other) = (noted(world.root(), 0, "one"), noted(world.root(), 0, "other"));
    let mut governance = world.start();
    governance.take_charter(one.clone(), world.sign(&one, &["acme"]), Vec::new()).unwrap();
    governance.take_charter(other.clone(), world.sign(&other, &["acme", "bolt"]), Vec::new()).unwrap();
    let proof = governance.double_votes()[&id("acme")].clone();
    assert_eq!(governance.double_votes().len(), 1);
    let document = Document::DoubleVote(Box::new(proof.clone()));
    let mut elsewhere = world.start();
    assert_eq!(elsewhere.take(Document::decode(&document.encode()).unwrap()), Ok(Taken::DoubleVote(id("acme"))));
    for change in 0..4 {
        let mut forged = proof.clone();
        match change {
            0 => forged.member = id("bolt"),
            1 => forged.other = forged.one,
            2 => forged.one.attempt = 1,
            _ => std::mem::swap(&mut forged.one_signature, &mut forged.other_signature),
        }
        let refused = world.start().take(Document::DoubleVote(Box::new(forged)));
        assert!(refused.is_err_and(|error| error.is_relayers_fault()), "{change}");
    }
}

/// Steele and Vigna's mixer: the same cases in every run.
fn below(state: &mut u64, end: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ z >> 31) % end as u64).unwrap()
}

/// SPEC 21.3, 21.4: whatever valid charters there are, and in whatever order they come with their signatures one by one: all
/// nodes end at the best chain, or say that they did not.
#[test]
fn all_who_hold_the_same_documents_agree_or_say_so() {
    let world = World::of(4);
    let mut conflicts = 0;
    for seed in 0..150 {
        let mut state = seed;
        let mut charters = vec![world.root().clone()];
        let mut documents = Vec::new();
        for number in 0..6 {
            let parent = charters[below(&mut state, charters.len())].clone();
            let attempt = u16::try_from(below(&mut state, 3)).unwrap();
            let charter = noted(&parent, attempt, &format!("{number}"));
            let left_out = below(&mut state, 5);
            let signers: Vec<_> = (0..4).filter(|at| *at != left_out).map(|at| NAMES[at]).collect();
            let mut approvals = world.sign(&charter, &signers);
            let first = vec![approvals.remove(0)];
            documents.extend(approvals.into_iter().map(Document::Approval));
            documents.push(Document::Charter {
                charter: Box::new(charter.clone()),
                approvals: first,
                cards: Vec::new(),
            });
            charters.push(charter);
        }
        let mut nodes = Vec::new();
        for _ in 0..4 {
            let mut governance = world.start();
            let mut waiting = documents.clone();
            while !waiting.is_empty() {
                let document = waiting.remove(below(&mut state, waiting.len()));
                match governance.take(document.clone()) {
                    Err(GovernanceError::Unconnected) => waiting.push(document),
                    // Signatures on what was decided meanwhile.
                    Err(error) => assert!(!error.is_relayers_fault(), "{error}"),
                    Ok(_) => {}
                }
                let stuck = waiting.iter().all(|document| governance.clone().take(document.clone()).is_err());
                if stuck {
                    break;
                }
            }
            nodes.push(governance);
        }
        // What was decided against while it had too few signatures is fetched as it is elsewhere: whole.
        for _ in 0..3 {
            for at in 0..nodes.len() {
                for document in nodes[(at + 1) % nodes.len()].documents() {
                    let _ = nodes[at].take(document);
                }
            }
        }
        let in_conflict = nodes.iter().filter(|node| node.conflict().is_some()).count();
        assert!(in_conflict == 0 || in_conflict == nodes.len(), "seed {seed}: all hear of it");
        for node in &nodes {
            let best = node.tree.best(node.tree.chains(&BTreeSet::new())).unwrap();
            assert!(best.last() == Some(&node.tip().id()) || node.conflict().is_some(), "seed {seed}");
            conflicts += usize::from(node.conflict().is_some());
        }
        let calm: Vec<_> = nodes.iter().filter(|node| node.conflict().is_none()).map(Governance::position).collect();
        assert!(calm.windows(2).all(|pair| pair[0].tip == pair[1].tip), "seed {seed}");
    }
    assert!(conflicts > 0, "the cases must be hard enough");
}

/// SPEC 21.7: whoever was away gets everything, in pieces, and has it then.
#[test]
fn who_was_away_catches_up() {
    let world = World::of(4);
    let mut full = world.start();
    let mut tip = world.root().clone();
    for number in 0..20 {
        let next = match number {
            3 => amend(&tip, |body| admit(body, &zoe())),
            _ => noted(&tip, 0, &format!("{number}")),
        };
        let names: &[&str] = if number == 3 { &["acme", "bolt", "crab", "zoe"] } else { &NAMES[..4] };
        full.take_charter(next.clone(), world.sign(&next, names), vec![zoe()]).unwrap();
        tip = next;
    }
    assert_eq!(full.tip().body().version, 20);
    let open = noted(&tip, 0, "open");
    full.take_charter(open.clone(), world.sign(&open, &["acme"]), Vec::new()).unwrap();
    let mut away = world.start();
    let (mut questions, mut after) = (0, None);
    while away.position() != full.position() {
        let answer = full.missing_for(&away.summary(), after, 4000);
        for document in answer.documents {
            away.take(Document::decode(&document.encode()).unwrap()).unwrap();
        }
        after = answer.next;
        questions += 1;
        assert!(questions < 40, "{:?} {:?}", away.position(), full.position());
    }
    assert!(away.proposal(open.id()).is_some());
    let nothing = full.missing_for(&away.summary(), None, 4000);
    assert_eq!(nothing, Answer { documents: Vec::new(), next: None });
    assert_eq!(away.health().signed[&id("zoe")], Some(4));
    assert_eq!((away.health().margin(5), away.health().margin(20)), (Some(0), Some(0)));
    assert_eq!(away.health().silent_since(5).collect::<Vec<_>>(), [id("zoe")]);
}

/// SPEC 21.10: one member cannot crowd out the proposals of others.
#[test]
fn proposals_are_bounded() {
    let world = World::of(4);
    let mut governance = world.start();
    let honest = noted(world.root(), 0, "honest");
    governance.take_charter(honest.clone(), world.sign(&honest, &["bolt"]), Vec::new()).unwrap();
    for number in 0..200 {
        let spam = noted(world.root(), 9, &format!("{number}"));
        let _ = governance.take_charter(spam.clone(), world.sign(&spam, &["acme"]), Vec::new());
    }
    let unsigned = governance.take_charter(noted(world.root(), 0, "nobody's"), Vec::new(), Vec::new());
    assert_eq!(unsigned, Err(GovernanceError::Unsigned));
    assert_eq!(governance.proposals().count(), 1 + MAX_BACKED);
    assert!(governance.proposal(honest.id()).is_some());
}

/// SPEC 21.10: what is kept of a member's proposals are those of its last attempts, or else four that nobody wanted enough would be
/// the last ones ever.
#[test]
fn a_version_can_be_proposed_as_often_as_it_takes() {
    let world = World::of(4);
    let mut governance = world.start();
    for attempt in 0..12 {
        let hangs = noted(world.root(), attempt, "not enough votes");
        let taken = governance.take_charter(hangs.clone(), world.sign(&hangs, &["acme"]), Vec::new());
        assert_eq!(taken, Ok(Taken::Kept), "attempt {attempt}");
        governance.take_approval(world.sign(&hangs, &["bolt"]).remove(0)).unwrap();
        assert!(attempt == 0 || governance.proposals().any(|p| p.charter.body().attempt == attempt - 1));
    }
    assert!(governance.proposals().count() <= MAX_BACKED);
    let last = noted(world.root(), 12, "enough");
    governance.take_charter(last.clone(), world.sign(&last, &NAMES[..3]), Vec::new()).unwrap();
    assert_eq!(governance.tip().id(), last.id());

    // Another one takes its place, and those who have voted for what was to follow it begin anew.
    for attempt in 0..5 {
        let hangs = noted(&last, attempt, "to follow what gives way");
        governance.take_charter(hangs.clone(), world.sign(&hangs, &["acme", "bolt"]), Vec::new()).unwrap();
    }
    let better = noted(world.root(), 13, "better");
    governance.take_charter(better.clone(), world.sign(&better, &NAMES[1..4]), Vec::new()).unwrap();
    assert_eq!(governance.tip().id(), better.id());
    let next = noted(&better, 0, "next");
    for name in ["acme", "bolt", "crab"] {
        let taken = governance.take_charter(next.clone(), world.sign(&next, &[name]), Vec::new());
        assert!(taken.is_ok_and(|taken| taken.is_new()), "{name}");
    }
    assert_eq!(governance.tip().id(), next.id());
}

/// SPEC 21.6: who was to join and never agrees does not keep the members from deciding something else.
#[test]
fn a_consent_that_never_comes_holds_nothing_up() {
    let world = World::of(4);
    let (root, start) = (world.root(), Timestamp(1_000_000_000));
    let after = Timestamp(start.0 + root.body().parameters.cool_down);
    let admission = amend(root, |body| admit(body, &zoe()));
    let mut governance = world.start();
    let mut ballots: Vec<_> = NAMES[..3].iter().map(|name| Ballot::new(root.network(), id(name))).collect();
    let mut vote = |governance: &mut Governance, charter: &Charter| {
        for (ballot, name) in ballots.iter_mut().zip(NAMES) {
            let bundle = governance.bundle(charter, &[zoe()], start).unwrap();
            *ballot = ballot.judge(&bundle, &world.secret(name).public(), after).unwrap();
            governance.take_charter(charter.clone(), world.sign(charter, &[name]), vec![zoe()]).unwrap();
        }
    };
    vote(&mut governance, &admission);
    assert_eq!(governance.tip().id(), root.id());
    let instead = noted(root, 1, "without zoe");
    vote(&mut governance, &instead);
    assert_eq!(governance.tip().id(), instead.id());
    let late = governance.take_approval(world.sign(&admission, &["zoe"]).remove(0));
    assert_eq!(late, Ok(Taken::Kept));
    assert_eq!((governance.tip().id(), governance.conflict()), (instead.id(), None));
}

/// SPEC 21.3: a restart gives back what was in force, however long the chain has become.
#[test]
fn a_long_chain_is_loaded_whole() {
    let world = World::of(2);
    let mut governance = world.start();
    let mut tip = world.root().clone();
    for number in 0..MAX_ASIDE + 5 {
        tip = noted(&tip, 0, &format!("{number}"));
        governance.take_charter(tip.clone(), world.sign(&tip, &NAMES[..2]), Vec::new()).unwrap();
    }
    assert_eq!(governance.tip().id(), tip.id());
    let (again, refused) = Governance::load(&world.genesis, governance.documents(), Some(tip.id()), []);
    assert!(refused.is_empty());
    assert_eq!(again.position(), governance.position());
}

/// A next card of a member, changed and signed with these keys.
fn next_card(before: &Card, network: NetworkId, keys: &[&SecretKey], change: impl FnOnce(&mut CardBody)) -> Card {
    let mut body = before.successor(network);
    change(&mut body);
    Card::sign(&body, keys.iter().copied()).unwrap()
}

fn end(epoch: u32, size: u64) -> End {
    End { epoch, size, root: Digest::of(&[&[7]]) }
}

/// SPEC 9.3, 9.4, 9.6.
#[test]
fn keys_are_changed_without_a_vote() {
    let world = World::of(4);
    let (network, acme) = (world.root().network(), id("acme"));
    let mut governance = world.start();
    let (old, new) = (keys(0), keys(30));
    let first = world.genesis.cards()[&acme].clone();
    let node = next_card(&first, network, &[&old.governance, &new.node], |body| {
        body.nodes.push(new.node.public());
        body.nodes.sort();
    });
    assert_eq!(governance.take_card(node.clone()), Ok(Taken::Card(acme)));
    let federation = governance.federation();
    assert_eq!(federation.nodes().values().filter(|member| **member == acme).count(), 2, "both at once");
    let log = next_card(&node, network, &[&old.governance, &new.log], |body| {
        (body.log, body.epoch, body.ended) = (new.log.public(), 1, vec![end(0, 9)]);
    });
    assert_eq!(governance.take_card(log.clone()), Ok(Taken::Card(acme)));
    let federation = governance.federation();
    let [was, is] = [0, 1].map(|epoch| federation.log_state(LogId { member: acme, epoch }).unwrap());
    assert_eq!((was.writable, was.end), (false, Some(end(0, 9))));
    assert_eq!((is.writable, is.end), (true, None));
    assert_eq!(federation.writable_log(acme), Some(LogId { member: acme, epoch: 1 }));
    let leave = next_card(&log, network, &[&old.governance], |body| {
        (body.leaving, body.ended) = (true, vec![end(0, 9), end(1, 3)]);
    });
    governance.take_card(leave).unwrap();
    let federation = governance.federation();
    assert_eq!((federation.standing(acme), federation.size()), (Some(Standing::Leaving), 4));
    assert!(federation.writable_log(acme).is_none() && !federation.witnesses().contains_key(&acme));
    assert_eq!(federation.logs().range(LogId { member: acme, epoch: 0 }..).take(2).count(), 2);
}

/// SPEC 9.2 to 9.6, one by one.
#[test]
fn cards_that_cannot_follow_are_refused() {
    let world = World::of(4);
    let (network, old, new) = (world.root().network(), keys(0), keys(30));
    let first = &world.genesis.cards()[&id("acme")];
    type Change<'a> = &'a dyn Fn(&mut CardBody);
    let rotate: Change<'_> = &|body| (body.log, body.epoch, body.ended) = (new.log.public(), 1, vec![end(0, 9)]);
    let follows = |keys: &[&SecretKey], change: Change<'_>| {
        next_card(first, network, keys, |body| change(body)).follows(first, network)
    };
    assert_eq!(follows(&[&old.governance, &new.log], rotate), Ok(()));
    assert_eq!(follows(&[&old.governance], rotate), Err(SuccessionError::Signers), "no proof that it has the key");
    assert_eq!(follows(&[&old.governance, &old.witness], &|_| ()), Err(SuccessionError::Signers));
    assert_eq!(
        follows(&[&old.governance], &|body| body.counter = 2),
        Err(SuccessionError::Counter { before: 0, got: 2 })
    );
    assert_eq!(follows(&[&old.governance], &|body| body.previous = Some(zoe().id())), Err(SuccessionError::OtherCard));
    assert_eq!(follows(&[&old.governance], &|body| body.member = id("bolt")), Err(SuccessionError::Foreign));
    let epoch: Change<'_> = &|body| (body.epoch, body.ended) = (1, vec![end(0, 9)]);
    assert_eq!(follows(&[&old.governance], epoch), Err(SuccessionError::Epoch), "a new epoch needs a new key");
    let key: Change<'_> = &|body| body.log = new.log.public();
    assert_eq!(follows(&[&old.governance, &new.log], key), Err(SuccessionError::Epoch));
    let cited: Change<'_> = &|body| body.evidence = vec![Digest::default()];
    assert_eq!(follows(&[&old.governance], cited), Err(SuccessionError::CitedInVain));

    let second = next_card(first, network, &[&old.governance, &new.log], |body| {
        rotate(body);
        cited(body);
    });
    let moved = next_card(&second, network, &[&old.governance], |body| body.ended = vec![end(0, 8)]);
    assert_eq!(moved.follows(&second, network), Err(SuccessionError::EndChanged));
    let back = next_card(&second, network, &[&old.governance, &old.log], |body| {
        (body.log, body.epoch, body.ended) = (old.log.public(), 2, vec![end(0, 9), end(1, 1)]);
    });
    assert_eq!(back.follows(&second, network), Ok(()));
    assert_eq!(back.fits(&[first.clone(), second.clone()]), Err(SuccessionError::KeyReused));
    let third = keys(31);
    let forked = next_card(&second, network, &[&old.governance, &third.log], |body| {
        (body.log, body.epoch, body.ended) = (third.log.public(), 2, vec![end(0, 9), end(1, 1)]);
        body.evidence = vec![Digest::of(&[])];
    });
    assert_eq!(forked.fits(&[first.clone(), second]), Err(SuccessionError::SecondFork));
}

/// SPEC 9.7: two cards with one counter hold back each other on every node, until a charter says which one holds.
#[test]
fn rivals_wait_for_a_charter() {
    let world = World::of(4);
    let (network, acme, old) = (world.root().network(), id("acme"), keys(0));
    let first = world.genesis.cards()[&acme].clone();
    let with = |seed: u8| {
        let new = keys(seed).witness;
        next_card(&first, network, &[&old.governance, &new], |body| body.witness = new.public())
    };
    let (one, other) = (with(30), with(31));
    let after = next_card(&one, network, &[&old.governance], |_| ());
    let mut ways = Vec::new();
    for order in [[&one, &after, &other], [&one, &other, &after], [&other, &one, &after]] {
        let mut governance = world.start();
        order.into_iter().for_each(|card| assert!(governance.take_card(card.clone()).unwrap().is_new()));
        assert_eq!(governance.federation().card(acme).unwrap().id(), first.id());
        assert_eq!(governance.federation().disputed().count(), 1);
        assert!(governance.federation().writable_log(acme).is_none());
        ways.push(governance);
    }
    assert!(ways.windows(2).all(|pair| pair[0].position() == pair[1].position()));
    let decision = amend(world.root(), |body| body.members[0].card = other.id());
    let mut governance = ways.remove(0);
    governance.take_charter(decision.clone(), world.sign(&decision, &NAMES[1..4]), Vec::new()).unwrap();
    assert_eq!(governance.federation().card(acme).unwrap().id(), other.id());
    assert_eq!(governance.federation().disputed().count(), 0);
    assert_eq!(
        differences(world.root(), &decision).iter().map(ToString::to_string).collect::<Vec<_>>(),
        [format!("the cards of acme go on from card {}", other.id())]
    );
}

/// SPEC 9.7, 10.11: a charter replaces a stolen governance key, and names the last card that was the owner's.
#[test]
fn a_stolen_governance_key_is_replaced_and_what_the_thief_signed_is_void() {
    let world = World::of(4);
    let (network, acme, stolen, fresh) = (world.root().network(), id("acme"), keys(0), keys(30));
    let first = world.genesis.cards()[&acme].clone();
    let thiefs = next_card(&first, network, &[&stolen.governance, &keys(31).witness], |body| {
        body.witness = keys(31).witness.public();
    });
    let mut governance = world.start();
    assert_eq!(governance.take_card(thiefs.clone()), Ok(Taken::Card(acme)));
    let rescue = amend(world.root(), |body| body.members[0].governance = fresh.governance.public());
    let votes = world.sign(&rescue, &NAMES[1..4]);
    governance.take_charter(rescue.clone(), votes, Vec::new()).unwrap();
    assert_eq!(governance.tip().id(), world.root().id(), "the owner of the new key has not agreed");
    let consent = rescue.approve(acme, &fresh.governance);
    assert_eq!(governance.take_approval(consent), Ok(Taken::Adopted(rescue.id())));
    assert_eq!(governance.federation().card(acme).unwrap().id(), first.id());
    let own = next_card(&first, network, &[&fresh.governance], |body| body.governance = fresh.governance.public());
    assert_eq!(governance.take_card(own.clone()), Ok(Taken::Card(acme)));
    assert_eq!(governance.federation().card(acme).unwrap().id(), own.id());
    // The old key votes on nothing any more.
    let next = noted(&rescue, 0, "next");
    let old_voice = next.approve(acme, &stolen.governance);
    let refused = governance.take_charter(next, vec![old_voice], Vec::new());
    assert_eq!(refused, Err(GovernanceError::Amendment(AmendmentError::Signature(acme))));
}

/// SPEC 9.8: in whatever order they come, a key on two members' cards is nobody's.
#[test]
fn a_key_that_two_members_claim_is_nobodys() {
    let world = World::of(4);
    let network = world.root().network();
    let stolen = keys(1).node;
    let thief = keys(0);
    let first = &world.genesis.cards()[&id("acme")];
    let claim = next_card(first, network, &[&thief.governance, &stolen], |body| {
        body.nodes.push(stolen.public());
        body.nodes.sort();
    });
    let mut governance = world.start();
    governance.take_card(claim).unwrap();
    let federation = governance.federation();
    assert_eq!(federation.nodes().get(&stolen.public()), None);
    assert_eq!(federation.shared_keys().iter().copied().collect::<Vec<_>>(), [stolen.public()]);
    assert_eq!(federation.nodes().len(), 3);
}

/// SPEC 21.6: every rule of a signer.
#[test]
fn a_ballot_keeps_an_honest_member_from_signing_two_histories() {
    let world = World::of(4);
    let (root, bolt, secret) = (world.root(), id("bolt"), world.secret("bolt"));
    let key = secret.public();
    let parameters = &root.body().parameters;
    let (start, hour) = (Timestamp(1_000_000_000), 3_600_000);
    let later = |millis: u64| Timestamp(start.0 + millis);
    let after = later(parameters.cool_down);
    let mut governance = world.start();
    let ballot = Ballot::new(root.network(), bolt);
    let bundle = |governance: &Governance, charter: &Charter, since: Timestamp| {
        let bundle = governance.bundle(charter, &[], since).unwrap();
        let proposal = armor::Document::Proposal(Box::new(bundle.clone()));
        assert_eq!(armor::read(&armor::write([&proposal])), Ok(vec![proposal]));
        bundle
    };
    let (one, other) = (noted(root, 0, "one"), noted(root, 0, "other"));
    let proposal = bundle(&governance, &one, start);
    let early = ballot.judge(&proposal, &key, later(parameters.cool_down - hour));
    assert_eq!(early, Err(VoteRefusal::CoolDown(std::time::Duration::from_millis(hour))));
    let expulsion = amend(root, |body| drop_member(body, "dove", Departure::Expelled));
    assert!(ballot.judge(&bundle(&governance, &expulsion, start), &key, later(hour)).is_ok(), "an hour is enough");
    let stranger = ballot.judge(&proposal, &world.secret("acme").public(), after);
    assert_eq!(stranger, Err(VoteRefusal::NoVoter(bolt)));

    let voted = ballot.judge(&proposal, &key, after).unwrap();
    assert_eq!(voted.judge(&proposal, &key, later(0)), Ok(voted.clone()), "the same again");
    assert_eq!(Ballot::decode(&voted.encode()), Ok(voted.clone()));
    let again = voted.judge(&bundle(&governance, &other, start), &key, after);
    assert_eq!(again, Err(VoteRefusal::Voted { attempt: 0, other: one.id() }));

    let shorter = amend(root, |body| (body.attempt, body.parameters.relock) = (1, parameters.relock - 1));
    assert!(matches!(governance.bundle(&shorter, &[], start), Err(BundleError::Amendment(AmendmentError::Relock))));
    // It wants longer ones, from then on.
    let higher = amend(root, |body| (body.attempt, body.parameters.relock) = (1, parameters.relock + 3 * hour));
    let unseen = voted.judge(&bundle(&governance, &higher, start), &key, after);
    assert_eq!(unseen, Err(VoteRefusal::NoLowerAttempt(1)));
    governance.take_charter(one.clone(), world.sign(&one, &["acme"]), Vec::new()).unwrap();
    let moved = voted.judge(&bundle(&governance, &higher, start), &key, after).unwrap();
    let lower = Ballot { votes: moved.votes[1..].to_vec(), ..moved.clone() };
    let lower = lower.judge(&bundle(&governance, &other, start), &key, after);
    assert_eq!(lower, Err(VoteRefusal::Lower(1)));

    // A child of one sibling was signed; nothing that follows the other is, for `relock`.
    let sign = |governance: &mut Governance, charter: &Charter| {
        governance.take_charter(charter.clone(), world.sign(charter, &NAMES[..3]), Vec::new()).unwrap()
    };
    sign(&mut governance, &one);
    let child = noted(&one, 0, "child");
    let signed = moved.judge(&bundle(&governance, &child, after), &key, later(2 * parameters.cool_down)).unwrap();
    sign(&mut governance, &higher);
    assert_eq!(governance.tip().id(), higher.id());
    let rival = bundle(&governance, &noted(&higher, 0, "rival"), after);
    let locked = signed.judge(&rival, &key, later(2 * parameters.cool_down + parameters.relock - hour));
    let left = std::time::Duration::from_millis(hour);
    assert_eq!(locked, Err(VoteRefusal::Locked { charter: child.id(), left }));
    let free = later(2 * parameters.cool_down + parameters.relock);
    assert!(signed.judge(&rival, &key, free).is_ok());
    // However many versions have passed, and whatever a file says of that, no vote is forgotten.
    let (mut later_on, mut tip) = (signed.clone(), higher.clone());
    for number in 0..40 {
        let next = noted(&tip, 0, &format!("{number}"));
        later_on = later_on.judge(&bundle(&governance, &next, start), &key, free).unwrap();
        sign(&mut governance, &next);
        tip = next;
    }
    assert!(signed.votes.iter().all(|vote| later_on.votes.contains(vote)));
}

/// Any document, damaged anywhere, is refused or is another document; nothing panics.
#[test]
fn damaged_documents_do_no_harm() {
    let world = World::of(4);
    let child = amend(world.root(), |body| admit(body, &zoe()));
    let mut governance = world.start();
    governance.take_charter(child.clone(), world.sign(&child, &["acme", "zoe"]), vec![zoe()]).unwrap();
    for document in governance.documents() {
        let bytes = document.encode();
        assert_eq!(Document::decode(&bytes), Ok(document));
        for at in (0..bytes.len()).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            if let Ok(document) = Document::decode(&flipped) {
                assert_eq!(document.encode(), flipped);
                let _ = governance.clone().take(document);
            }
            assert!(Document::decode(&bytes[..at]).is_err());
        }
    }
    assert_eq!(governance.tip().id(), world.root().id());
}
