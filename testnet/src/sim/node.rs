//! A simulated node: the real engine, catalog and loader between a simulated disk and signer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashmesh::store::{Record, Store, load};
use hashmesh_protocol::card::MemberKeys;
use hashmesh_protocol::catalog::{Attributes, Catalog, Curator};
use hashmesh_protocol::charter::Genesis;
use hashmesh_protocol::checkpoint::{Checkpoint, SignedCheckpoint};
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::cosignature::Cosignature;
use hashmesh_protocol::engine::{Alarm, Effect, Engine, Input, Restored, Start};
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::governance::Stored;
use hashmesh_protocol::key::{PublicKey, SecretKey};
use hashmesh_protocol::ledger::{Log, Mark};
use hashmesh_protocol::names::{LogId, MemberId};
use hashmesh_protocol::note::{SignatureLine, VerifierKey};
use hashmesh_protocol::time::Timestamp;

use super::disk::{Disk, Torn};
use crate::founding::Founding;

/// A node that is to stop by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crash {
    /// Before it performs its n-th effect from now, counted from 0.
    Before(usize),
    /// In the middle of that effect: of a commit, so that the leaves are there and the mark is not; of signing, so that the
    /// signer has moved and nothing is signed yet. Other effects have no middle.
    InsideNoMark(usize),
    /// In the middle of that effect, if it is a commit, so that the mark is there and half of the leaves.
    InsideHalf(usize),
}

/// A node of the simulation.
pub struct Node {
    pub(super) member: MemberId,
    pub(super) key: PublicKey,
    /// The keys that sign its logs and that cosign, old and new ones.
    secrets: Vec<SecretKey>,
    genesis: Genesis,
    pub(super) federation: Arc<Federation>,
    /// What was durable survives a crash; so does the signer file.
    pub disk: Disk,
    /// The signer's file: the last mark that it was moved to for each own log, before the signature was made.
    pub signer: BTreeMap<LogId, Mark>,
    /// Likewise what it has cosigned last.
    pub cosigned: BTreeMap<LogId, Mark>,
    /// Whether they come from a backup.
    pub restored: Restored,
    pub(super) live: Option<Live>,
    pub(super) alarms: Vec<Alarm>,
    /// How far its clock is ahead, in milliseconds.
    pub skew: i64,
    crash: Option<Crash>,
    /// Effects performed since it was told when to stop.
    effects: usize,
}

/// What is lost in a crash.
pub(super) struct Live {
    pub(super) engine: Engine,
    pub(super) mailbox: Vec<Input>,
    /// Whether it is in the middle of what its last inputs have led to.
    pub(super) handling: bool,
    pub(super) curator: Curator,
    pub(super) catalog: Arc<Catalog>,
}

impl Node {
    pub(super) fn new(member: MemberId, keys: &MemberKeys, founding: &Founding) -> Self {
        Self {
            member,
            key: keys.node.public(),
            secrets: vec![keys.log.clone(), keys.witness.clone()],
            genesis: founding.genesis.clone(),
            federation: Arc::new(Federation::new(&founding.genesis)),
            disk: Disk::default(),
            signer: BTreeMap::new(),
            restored: Restored::default(),
            cosigned: BTreeMap::new(),
            live: None,
            alarms: Vec::new(),
            skew: 0,
            crash: None,
            effects: 0,
        }
    }

    /// The engine, while the node runs.
    pub fn engine(&self) -> Option<&Engine> {
        self.live.as_ref().map(|live| &live.engine)
    }

    /// The catalog, while the node runs.
    pub fn catalog(&self) -> Option<&Arc<Catalog>> {
        self.live.as_ref().map(|live| &live.catalog)
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.live.is_some()
    }

    /// What its operator was told.
    pub fn alarms(&self) -> &[Alarm] {
        &self.alarms
    }

    pub(super) fn adders(&self, hash: &ContentHash) -> Vec<String> {
        self.standing(hash, |attributes| matches!(attributes, Attributes::Add { .. }))
    }

    pub(super) fn disputers(&self, hash: &ContentHash) -> Vec<String> {
        self.standing(hash, |attributes| matches!(attributes, Attributes::Dispute { .. }))
    }

    fn standing(&self, hash: &ContentHash, wanted: impl Fn(&Attributes) -> bool) -> Vec<String> {
        let Some(catalog) = self.catalog() else { return Vec::new() };
        let said = catalog.find(hash).into_iter().flat_map(|content| catalog.said(content));
        let mut members: Vec<String> =
            said.filter(|said| wanted(said.attributes)).map(|said| said.log.member.to_string()).collect();
        members.sort();
        members
    }

    /// Lets it stop by itself.
    pub fn crash_at(&mut self, crash: Crash) {
        self.crash = Some(crash);
        self.effects = 0;
    }

    /// Lets it go on, if it has not stopped by itself.
    pub fn spare(&mut self) {
        self.crash = None;
    }

    /// Its own clock.
    pub(super) fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_add_signed(self.skew))
    }

    /// Starts from what is durable, as the daemon does.
    pub(super) fn start(&mut self, key: [u8; 16], now: Timestamp) {
        let half = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let (mut curator, catalog) = Catalog::new([half(&key[..8]), half(&key[8..])]);
        let governance = match &self.disk.governance {
            Some(bytes) => Stored::decode(&self.genesis, bytes).expect("what was stored").0,
            None => Stored::new(&self.genesis, now),
        };
        self.federation = governance.governance.federation();
        let own = self.federation.writable_log(self.member);
        let limit = own.map(|own| (own, self.signer.get(&own).copied().unwrap_or_default()));
        let loaded = load(&mut self.disk, &self.federation, &mut curator, limit, |_| ());
        let loaded = loaded.expect("a simulated disk is never damaged but at its end");
        let start = Start {
            governance,
            member: Some(self.member),
            keys: self.keys(),
            ledger: loaded.ledger,
            catalog: catalog.clone(),
            signed: self.signer.clone(),
            cosigned: self.cosigned.clone(),
            restored: self.restored,
            evidence: loaded.evidence,
        };
        self.live = Some(Live { engine: Engine::new(start), mailbox: Vec::new(), handling: false, curator, catalog });
    }

    fn keys(&self) -> BTreeSet<PublicKey> {
        self.secrets.iter().map(SecretKey::public).collect()
    }

    /// Its operator lays new keys beside the others.
    pub(super) fn holds(&mut self, secrets: impl IntoIterator<Item = SecretKey>) -> BTreeSet<PublicKey> {
        self.secrets.extend(secrets);
        self.keys()
    }

    fn secret(&self, key: &PublicKey) -> &SecretKey {
        self.secrets.iter().find(|secret| secret.public() == *key).expect("a key that the node says it holds")
    }

    pub(super) fn stop(&mut self) {
        self.live = None;
        self.disk.lose_power();
    }

    /// Moves the signer forward and signs, in that order.
    pub(super) fn sign(&mut self, log: LogId, mark: Mark) -> SignedCheckpoint {
        let before = self.signer.get(&log).copied().unwrap_or_default();
        assert!(
            mark.size > before.size || (mark.size == before.size && mark.root == before.root),
            "{} was about to sign a second history",
            self.member
        );
        self.signer.insert(log, mark);
        self.restored.log = false;
        let key = self.engine().and_then(|engine| engine.ledger().log(log)).expect("an own log").key().clone();
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size: mark.size, root: mark.root };
        SignedCheckpoint::sign(checkpoint, &key, self.secret(key.key()))
    }

    /// Moves the witness's mark forward and cosigns, in that order.
    pub(super) fn cosign(&mut self, key: &VerifierKey, log: LogId, mark: Mark, now: Timestamp) -> SignatureLine {
        let before = self.cosigned.insert(log, mark).unwrap_or_default();
        assert!(mark.size > before.size || mark == before, "{} was about to cosign backwards", self.member);
        let checkpoint = Checkpoint { origin: self.federation.origins().origin(log), size: mark.size, root: mark.root };
        Cosignature::sign(&checkpoint, self.clock(now), key, self.secret(key.key())).line().clone()
    }

    /// How many leaves of a member's log are settled, as the node knows it.
    pub fn settled(&self, member: &str) -> u64 {
        let log = LogId { member: super::id(member), epoch: 0 };
        self.engine().and_then(|engine| engine.ledger().log(log)).map_or(0, Log::settled_size)
    }

    /// Whether it is to stop before the next effect, or in the middle of it.
    pub(super) fn crashes_now(&mut self, commit: Option<&Record>, effect: &Effect) -> bool {
        let number = self.effects;
        self.effects += 1;
        let torn = match self.crash {
            Some(Crash::Before(at)) if at == number => None,
            Some(Crash::InsideNoMark(at)) if at == number => Some(Torn::NoMark),
            Some(Crash::InsideHalf(at)) if at == number => Some(Torn::HalfTheLeaves),
            _ => return false,
        };
        match (torn, commit, effect) {
            (Some(torn), Some(record), _) => self.disk.tear(record, torn),
            (Some(Torn::NoMark), None, Effect::Sign { log, mark }) => {
                self.signer.insert(*log, *mark);
            }
            (Some(Torn::NoMark), None, Effect::Cosign { log, mark, .. }) => {
                self.cosigned.insert(*log, *mark);
            }
            _ => {}
        }
        self.crash = None;
        true
    }

    pub(super) fn commit(&mut self, record: Record) {
        self.disk.commit(&[record]).expect("a simulated disk does not fail");
    }
}
