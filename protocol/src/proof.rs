//! Proofs that a member has said something (c2sp.org/tlog-proof, SPEC 19.7): one file, for somebody who has nothing but the
//! federation's id.
//!
//! The file is a tlog-proof that any C2SP tool takes; what it leaves open (the leaf, what opens its commitment, whose key the
//! log's is) stands in its `extra` line. Checking needs no federation at hand: charter and cards are proved by the id.

mod not_live;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_bytes::ByteBuf;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

pub use not_live::{NotLive, NotLiveFault};

use crate::armor::Document;
use crate::audit::cosigned;
use crate::card::{Card, CardError};
use crate::charter::{Approval, Charter, CharterError};
use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::codec::{self, CodecError};
use crate::content_hash::ContentHash;
use crate::digest::{Digest, NetworkId};
use crate::export::{self, DocumentsError};
use crate::governance::Governance;
use crate::names::{LogId, MemberId};
use crate::note::{MAX_NOTE, Note, NoteError};
use crate::opening::{MAX_OPENING, Opening, commitment};
use crate::statement::{Leaf, Position, Statement};
use crate::time::Timestamp;
use crate::tree::leaf_hash;
use crate::tree::proof::{MAX_PROOF, ProofError, verify_inclusion};

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1\n";

/// The version of `extra` that this software writes.
const FORMAT: u64 = 1;

/// Longest `extra`, in bytes: a leaf, an opening, and the charters and cards of a large federation over many years.
const MAX_EXTRA: usize = 8 * 1024 * 1024;

/// Longest file, in bytes.
pub const MAX_FILE: usize = MAX_EXTRA / 3 * 4 + MAX_PROOF * 45 + MAX_NOTE + 256;

/// A tlog-proof with what it is about. Nothing in it has been checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proof {
    /// Where the leaf stands.
    pub index: u64,
    /// The inclusion proof, sibling of the leaf first.
    pub path: Vec<Digest>,
    /// The checkpoint, with its cosignatures.
    pub checkpoint: Note,
    /// What goes with it.
    pub extra: Extra,
}

/// What a tlog-proof leaves open.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Extra {
    format: u64,
    leaf: ByteBuf,
    opening: Option<ByteBuf>,
    charters: Vec<ByteBuf>,
    approvals: Vec<Approval>,
    cards: Vec<ByteBuf>,
    not_live: Option<NotLive>,
}

impl Extra {
    /// Of a leaf and what opens it, with all charters, the signatures on them, and the cards.
    pub fn new(leaf: Vec<u8>, opening: Option<Vec<u8>>, governance: &Governance) -> Self {
        let (leaf, opening) = (leaf.into(), opening.map(ByteBuf::from));
        let charters = governance.charters().map(|(charter, _)| charter.bytes().to_vec().into()).collect();
        let approvals = governance.charters().flat_map(|(_, approvals)| approvals).cloned().collect();
        let mut cards: Vec<&Card> = governance.cards().collect();
        cards.sort_by_key(|card| (card.body().member, card.body().counter, card.id()));
        let cards = cards.into_iter().map(|card| card.bytes().to_vec().into()).collect();
        Self { format: FORMAT, leaf, opening, charters, approvals, cards, not_live: None }
    }

    /// What the leaf, which is a `state`, proves not to be live.
    pub fn not_live(self, not_live: NotLive) -> Self {
        Self { not_live: Some(not_live), ..self }
    }
}

/// Why a file is no proof, or proves nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProofFault {
    /// Not the form of a tlog-proof.
    #[error("not a proof: line {0} is not what c2sp.org/tlog-proof has there")]
    Form(usize),
    /// A proof, but not of ours.
    #[error("a proof without a hashmesh statement in it")]
    NoExtra,
    /// What goes with it.
    #[error("what goes with the proof is malformed")]
    Extra(#[from] CodecError),
    /// Written by newer software.
    #[error("proofs of format {0} are not known here; a newer version of hashmesh has written it")]
    Format(u64),
    /// The checkpoint is no note.
    #[error("its checkpoint is malformed")]
    Note(#[from] NoteError),
    /// The charter.
    #[error("its charter does not hold")]
    Charter(#[from] CharterError),
    /// Charters and cards do not lead from the network id to the author's key.
    #[error("charters, signatures and cards in it do not go together")]
    Documents(#[from] DocumentsError),
    /// Another federation.
    #[error("it is of network {found}, not of {wanted}")]
    OtherNetwork {
        /// Of the charter.
        found: NetworkId,
        /// Asked about.
        wanted: NetworkId,
    },
    /// A card.
    #[error("a card in it does not hold")]
    Card(#[from] CardError),
    /// The log of nobody whose card is there.
    #[error("{0:?} is the log of nobody whose card is in it")]
    Stranger(String),
    /// The checkpoint is not signed by that log.
    #[error("its checkpoint does not hold")]
    Checkpoint(#[from] CheckpointError),
    /// A witness has not signed what stands there in its name.
    #[error("the cosignature of {0} does not hold")]
    Cosignature(MemberId),
    /// The leaf is not in that tree.
    #[error("the leaf is not in the signed tree")]
    NotIncluded(#[from] ProofError),
    /// The leaf is none.
    #[error("the leaf is malformed")]
    Leaf(#[source] CodecError),
    /// The opening opens something else.
    #[error("the opening does not open the leaf's commitment")]
    Opening,
    /// It does not prove that something is not live.
    #[error("it does not prove that nothing is live there")]
    NotLive(#[from] NotLiveFault),
}

/// What a proof proves.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The charter: who the members are, and what labels mean.
    pub charter: Charter,
    /// The log that the statement stands in.
    pub log: LogId,
    /// Where.
    pub index: u64,
    /// What it says, and when by its author's clock.
    pub leaf: Leaf,
    /// The content hash, if the opening is there and is one.
    pub hash: Option<ContentHash>,
    /// The place of the author's at which, by this statement, nothing was live.
    pub not_live: Option<Position>,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Who has cosigned it, and when.
    pub cosigned: Vec<(MemberId, Timestamp)>,
    /// When it was settled, if the cosignatures are enough for that.
    pub settled: Option<Timestamp>,
}

impl Proof {
    /// Reads a file.
    pub fn parse(text: &str) -> Result<Self, ProofFault> {
        if text.len() > MAX_FILE {
            return Err(ProofFault::Form(1));
        }
        let rest = text.strip_prefix(HEADER).ok_or(ProofFault::Form(1))?;
        let (head, checkpoint) = rest.split_once("\n\n").ok_or(ProofFault::Form(2))?;
        let mut lines = head.split('\n').zip(2..).peekable();
        let extra = lines.next_if(|(line, _)| line.starts_with("extra "));
        let (extra, number) = extra.ok_or(ProofFault::NoExtra)?;
        let extra = BASE64.decode(&extra[6..]).map_err(|_| ProofFault::Form(number))?;
        let extra: Extra = codec::decode(&extra, MAX_EXTRA)?;
        if extra.format != FORMAT {
            return Err(ProofFault::Format(extra.format));
        }
        let (line, number) = lines.next().ok_or(ProofFault::Form(3))?;
        let digits = line.strip_prefix("index ").ok_or(ProofFault::Form(number))?;
        let index: u64 = digits.parse().map_err(|_| ProofFault::Form(number))?;
        if index.to_string() != digits {
            return Err(ProofFault::Form(number));
        }
        let mut path = Vec::new();
        for (line, number) in lines {
            let hash = BASE64.decode(line).ok().and_then(|hash| Some(Digest(hash.try_into().ok()?)));
            path.push(hash.filter(|_| path.len() < MAX_PROOF).ok_or(ProofFault::Form(number))?);
        }
        Ok(Self { index, path, checkpoint: Note::parse(checkpoint.as_bytes())?, extra })
    }

    /// Checks everything, with nothing else at hand. `network` is the id of the federation, from anywhere but the proof; without
    /// it the proof may be of a federation that somebody has made up.
    pub fn check(&self, network: Option<NetworkId>) -> Result<Proven, ProofFault> {
        let mut documents = Vec::new();
        for bytes in &self.extra.charters {
            documents.push(Document::Charter(Box::new(Charter::read(bytes)?)));
        }
        for bytes in &self.extra.cards {
            documents.push(Document::Card(Box::new(Card::read(bytes)?)));
        }
        documents.extend(self.extra.approvals.iter().cloned().map(Document::Approval));
        let (genesis, governance) = export::governance(documents)?;
        let found = genesis.charter().network();
        if let Some(wanted) = network.filter(|wanted| *wanted != found) {
            return Err(ProofFault::OtherNetwork { found, wanted });
        }
        let federation = governance.federation();
        let origin = self.checkpoint.text().lines().next().unwrap_or_default();
        let stranger = || ProofFault::Stranger(origin.chars().take(200).collect());
        let log = federation.origins().log(origin).ok_or_else(stranger)?;
        let key = federation.logs().get(&log).ok_or_else(stranger)?.clone();
        let signed = SignedCheckpoint::open(self.checkpoint.clone(), &key)?;
        let hash = leaf_hash(&self.extra.leaf);
        verify_inclusion(hash, self.index, signed.size(), signed.root(), &self.path)?;
        let leaf = Leaf::decode(&self.extra.leaf).map_err(ProofFault::Leaf)?;
        let hash = self.open(&leaf)?;
        let not_live = self.extra.not_live.as_ref();
        let not_live = not_live.map(|not_live| match &leaf.statement {
            Statement::State(state) => not_live.check(state).map(|()| not_live.position),
            _ => Err(NotLiveFault::NoState),
        });
        let not_live = not_live.transpose()?;
        let (cosigned, bad) = cosigned::witnessed(&federation, log, &self.checkpoint);
        if let Some(member) = bad.first() {
            return Err(ProofFault::Cosignature(*member));
        }
        let (settled, _) = cosigned::settled(&federation, log, &self.checkpoint);
        let cosigned = cosigned.into_iter().collect();
        let checkpoint = signed.checkpoint().clone();
        let charter = governance.tip().clone();
        Ok(Proven { charter, log, index: self.index, leaf, hash, not_live, checkpoint, cosigned, settled })
    }

    fn open(&self, leaf: &Leaf) -> Result<Option<ContentHash>, ProofFault> {
        let Some(opening) = &self.extra.opening else { return Ok(None) };
        let (_, committed) = leaf.statement.commitment().ok_or(ProofFault::Opening)?;
        if opening.len() > MAX_OPENING || commitment(opening) != committed {
            return Err(ProofFault::Opening);
        }
        let hash = || Opening::decode(opening).ok()?.content_hash(leaf.statement.hash_kind()?);
        Ok(hash())
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HEADER}extra {}\nindex {}\n", BASE64.encode(codec::encode(&self.extra)), self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", BASE64.encode(hash.as_bytes())))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::World;
    use crate::entries::tests::pdq;
    use crate::statement::Statement;
    use crate::tree::prover::inclusion;
    use crate::tree::prover::tests::Naive;

    fn proof(world: &World, index: usize, cosigned: bool) -> Proof {
        let hashes = world.leaves.iter().map(|(leaf, _)| leaf_hash(leaf)).collect();
        let size = world.leaves.len();
        let path = inclusion(&Naive(hashes), index as u64, size as u64).unwrap();
        let note = if cosigned { world.cosigned(size, 50) } else { world.checkpoint(size).note().to_string() };
        let (leaf, opening) = world.leaves[index].clone();
        let opening = (!opening.is_empty()).then_some(opening);
        let extra = Extra::new(leaf, opening, &Governance::new(&world.genesis));
        Proof { index: index as u64, path, checkpoint: Note::parse(note.as_bytes()).unwrap(), extra }
    }

    #[test]
    fn a_proof_proves_who_said_what_and_who_has_seen_it() {
        let world = World::of_all_kinds();
        for index in 0..world.leaves.len() {
            let made = proof(&world, index, true);
            let read = Proof::parse(&made.to_string()).unwrap();
            assert_eq!(read, made);
            let proven = read.check(Some(world.network())).unwrap();
            assert_eq!((proven.log, proven.index, proven.checkpoint.size), (world.log, index as u64, 10));
            assert_eq!(proven.settled, Some(Timestamp(50_000)));
        }
        let proven = proof(&world, 3, false).check(None).unwrap();
        assert_eq!((proven.hash, proven.settled), (Some(pdq(3)), None));
        assert!(matches!(proven.leaf.statement, Statement::Add(_)));
        let mut without = proof(&world, 3, false);
        without.extra.opening = None;
        assert_eq!(without.check(None).unwrap().hash, None, "of a commitment, without seeing the hash");
    }

    #[test]
    fn a_proof_of_something_else_proves_nothing() {
        let world = World::of_all_kinds();
        let good = proof(&world, 3, true);
        let check = |change: &dyn Fn(&mut Proof)| {
            let mut proof = good.clone();
            change(&mut proof);
            proof.check(Some(world.network())).map(|_| ()).unwrap_err()
        };
        assert!(matches!(good.check(Some(NetworkId::default())), Err(ProofFault::OtherNetwork { .. })));
        assert!(matches!(check(&|proof| proof.index = 4), ProofFault::NotIncluded(_)));
        assert!(matches!(check(&|proof| proof.path[0].0[0] ^= 1), ProofFault::NotIncluded(_)));
        assert!(matches!(check(&|proof| proof.extra.leaf[30] ^= 1), ProofFault::NotIncluded(_)));
        assert_eq!(check(&|proof| proof.extra.opening.as_mut().unwrap()[9] ^= 1), ProofFault::Opening);
        assert!(matches!(check(&|proof| proof.extra.cards.clear()), ProofFault::Documents(_)));
        assert!(matches!(check(&|proof| proof.extra.approvals.truncate(1)), ProofFault::Documents(_)));
        let other = crate::card::tests::card("acme", "FR", 9).bytes().to_vec();
        assert!(matches!(check(&|proof| proof.extra.cards[0] = other.clone().into()), ProofFault::Documents(_)));
        let bad = world.cosigned(10, 50).replace("AAAAAAAAADI", "AAAAAAAAADM");
        if bad != world.cosigned(10, 50) {
            let bad = Note::parse(bad.as_bytes()).unwrap();
            assert!(matches!(check(&|proof| proof.checkpoint = bad.clone()), ProofFault::Cosignature(_)));
        }
    }

    /// Every bit that is flipped in the file is found, or is in the signature line of a key that is nobody's.
    #[test]
    fn every_flipped_bit_of_a_proof_is_found() {
        let world = World::of_all_kinds();
        let text = proof(&world, 3, false).to_string();
        let mut bytes = text.into_bytes();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let proven = std::str::from_utf8(&bytes).ok().map(|text| Proof::parse(text)?.check(Some(world.network())));
            assert!(!matches!(proven, Some(Ok(_))), "{bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn malformed_files_are_refused() {
        let world = World::of_all_kinds();
        let text = proof(&world, 3, false).to_string();
        assert_eq!(Proof::parse(""), Err(ProofFault::Form(1)));
        assert_eq!(Proof::parse(&text.replace("index 3", "index 03")), Err(ProofFault::Form(3)));
        let without: String = text.split_inclusive('\n').filter(|line| !line.starts_with("extra")).collect();
        assert_eq!(Proof::parse(&without), Err(ProofFault::NoExtra));
        let long =
            text.replace("index 3\n", &format!("index 3\n{}", format!("{}\n", BASE64.encode([0; 32])).repeat(99)));
        assert!(matches!(Proof::parse(&long), Err(ProofFault::Form(_))));
    }
}
