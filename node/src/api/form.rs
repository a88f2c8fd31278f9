//! The shapes of requests and answers, as they stand in JSON and CBOR. Used by the sockets and by the command line.

use hashmesh_protocol::card::End;
use hashmesh_protocol::content_hash::{ContentHash, Media};
use hashmesh_protocol::digest::NotADigest;
use hashmesh_protocol::policy::{Decision, Lowered};
use hashmesh_protocol::statement::{self, Reason};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::quarantine::Held;

/// `POST /v1/match`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MatchRequest {
    /// What is asked about: `KIND:HEX`, at most 10,000. In CBOR also byte strings: the kind's registry number (pdq 1, md5 2,
    /// sha1 3, sha256 4), then the value.
    pub hashes: Vec<String>,
    /// How many bits of a PDQ hash may differ, 0 to 31; absent: as many as the policy allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_distance: Option<u32>,
    /// Whether answers list what matched and who says so, or only the decisions.
    pub explain: bool,
}

/// Answer to `POST /v1/match`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct MatchAnswer {
    /// What to do, one a hash, in the order of the request.
    #[schema(value_type = Vec<String>, examples(json!(["none", "review", "block"])))]
    pub decisions: Vec<Decision>,
    /// Why, one a hash, in the order of the request. Only if explanations were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Vec<MatchResult>>,
    /// What the decisions rest on.
    pub basis: Basis,
}

/// What is known about one hash.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct MatchResult {
    /// The hash that was asked about.
    pub hash: String,
    /// What to do.
    #[schema(value_type = String, examples("none", "review", "block"))]
    pub decision: Decision,
    /// How many stored hashes match.
    pub found: usize,
    /// The matches, most severe first, then nearest; at most 100 a hash, and 10,000 a request.
    pub matches: Vec<Match>,
}

/// A stored hash that matches.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Match {
    /// The stored hash.
    pub hash: String,
    /// In how many bits it differs.
    pub distance: u32,
    /// What the policy makes of this match alone.
    #[schema(value_type = String)]
    pub decision: Decision,
    /// The rule that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why it is not more: `negative` and `disabled` by this platform's policy, `disputed` by members, `quarantined` until a
    /// person has looked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub lowered: Vec<Lowered>,
    /// Rules in the shadow stage that would have acted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadow: Vec<String>,
    /// Who says that it belongs on the list.
    #[serde(rename = "for")]
    pub adds: Vec<Claim>,
    /// Who says that it should not be acted on.
    #[serde(rename = "against")]
    pub disputes: Vec<Claim>,
}

/// A member's live statement.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Claim {
    /// Who.
    pub member: String,
    /// Where that member answers to the law.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<String>,
    /// How it departed, if it is no member any more: left, expelled, resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub departed: Option<String>,
    /// The log in which it stands.
    pub origin: String,
    /// Where in it.
    pub index: u64,
    /// When, by the member's clock.
    pub time: String,
    /// Whether enough witnesses have cosigned a tree that holds it.
    pub settled: bool,
    /// With which labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// What was hashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, examples("file", "image", "video"))]
    pub media: Option<Media>,
    /// The PDQ quality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<u8>,
    /// Why it is disputed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, examples("mistake", "lawful"))]
    pub reason: Option<Reason>,
    /// Why the statement has no effect, if it has none: expired, unknown label, quality too low.
    #[serde(default, skip_serializing_if = "is_false")]
    pub without_effect: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What decisions rest on.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Basis {
    /// SHA-256 of the policy file.
    pub policy: String,
    /// The charter in force.
    pub charter: String,
    /// Its version.
    pub charter_version: u64,
    /// When.
    pub as_of: String,
    /// Whether too few members were heard lately, so that newer statements may be missing.
    pub isolated: bool,
    /// Statements that are known to exist and not here yet.
    pub behind: u64,
}

/// `POST /v1/policy` and `POST /v1/policy/diff`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRequest {
    /// The policy, in TOML.
    pub text: String,
}

/// The policy in force.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct PolicyAnswer {
    /// SHA-256 of the text.
    pub id: String,
    /// The policy, in TOML.
    pub text: String,
}

/// What another policy would have changed about the last queries.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct DiffAnswer {
    /// Queries that were asked again under both.
    pub queries: usize,
    /// Those with another decision.
    pub changed: usize,
    /// Of them with a more severe one.
    pub raised: usize,
    /// Of them with a less severe one.
    pub lowered: usize,
    /// The first 100 of them.
    pub examples: Vec<DiffExample>,
}

/// A query about which another policy decides otherwise.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct DiffExample {
    /// What was asked about.
    pub hash: String,
    /// The decision under the policy in force.
    #[schema(value_type = String)]
    pub before: Decision,
    /// The decision under the other.
    #[schema(value_type = String)]
    pub after: Decision,
    /// The rule that decides under the policy in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_before: Option<String>,
    /// The rule that decides under the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_after: Option<String>,
}

/// What waits for a person.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct QuarantineAnswer {
    /// Oldest first.
    pub held: Vec<Held>,
}

/// `POST /v1/quarantine/release`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// A member, or a hash as `KIND:HEX`.
    pub subject: String,
}

/// `POST /v1/statements`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatementsRequest {
    /// What to say, at most 8,192.
    pub statements: Vec<StatementForm>,
    /// Seconds to wait until it is signed, and with `wait=settled` settled; 30 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u64>,
}

/// Something to say.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(tag = "say", rename_all = "lowercase", deny_unknown_fields)]
pub enum StatementForm {
    /// A hash belongs on the list.
    Add {
        /// `KIND:HEX`.
        hash: String,
        /// Names from the charter's vocabulary.
        labels: Vec<String>,
        /// What was hashed; if absent, image for PDQ and file for the others.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>, examples("file", "image", "video"))]
        media: Option<Media>,
        /// The PDQ quality.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quality: Option<u8>,
        /// From then on without effect, RFC 3339.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expiry: Option<String>,
        /// The number of an incident.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        incident: Option<u64>,
        /// A remark for the other members' people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// A hash should not be acted on.
    Dispute {
        /// `KIND:HEX`.
        hash: String,
        /// Why.
        #[schema(value_type = String, examples("mistake", "lawful"))]
        reason: Reason,
        /// A remark for the other members' people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// An own statement is withdrawn: what is said about a hash, or what stands at a position.
    Revoke {
        /// `KIND:HEX`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hash: Option<String>,
        /// `EPOCH/INDEX`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<String>,
        /// Why.
        #[schema(value_type = String, examples("mistake", "lawful"))]
        reason: Reason,
    },
    /// The openings of own statements are to be deleted everywhere: of all that was said about a hash, or of what stands at a
    /// position. What is live of it is withdrawn.
    Erase {
        /// `KIND:HEX`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hash: Option<String>,
        /// `EPOCH/INDEX`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<String>,
        /// On what basis.
        #[schema(value_type = String, examples("legal-order", "data-protection"))]
        basis: statement::Basis,
    },
    /// Says that everything in an earlier log of the member, from a place on, was never said: a thief held its key.
    Void {
        /// The number of the log.
        epoch: u32,
        /// The first leaf that was never said.
        from: u64,
    },
}

impl StatementForm {
    /// A hash belongs on the list, under this label, with nothing else to say about it.
    pub fn add(hash: &ContentHash, label: &str) -> Self {
        let (hash, labels) = (hash.to_string(), vec![label.to_owned()]);
        Self::Add { hash, labels, media: None, quality: None, expiry: None, incident: None, note: None }
    }
}

/// `POST /v1/import`: many additions that have everything in common but the hash.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// `KIND:HEX`, at most 8,192.
    pub hashes: Vec<String>,
    /// Names from the charter's vocabulary.
    pub labels: Vec<String>,
    /// What was hashed; if absent, image for PDQ and file for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, examples("file", "image", "video"))]
    pub media: Option<Media>,
    /// From then on without effect, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<String>,
    /// The number of an incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<u64>,
    /// A remark for the other members' people, the same for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Answer to `POST /v1/statements` and `POST /v1/import`: what is placed is durable and signed.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct PublishAnswer {
    /// The own log.
    pub origin: String,
    /// How many statements were published.
    pub added: u64,
    /// How many had been said before, in the same words.
    pub known: u64,
    /// One an item, in order; of an import, only those that were refused.
    pub results: Vec<PublishResult>,
    /// With `wait=settled`: whether all that is placed is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<bool>,
    /// Why not, if not. It is durable and signed, and will settle later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<String>,
}

/// What became of one item.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct PublishResult {
    /// Which item of the request, counted from 0.
    pub item: usize,
    /// `added`, `known` or `refused`.
    pub status: PublishStatus,
    /// Where it stands: `EPOCH/INDEX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PublishStatus {
    /// Published there.
    Added,
    /// The same had been said there.
    Known,
    /// Not published.
    Refused,
}

/// `POST /v1/sign-alone`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignAloneRequest {
    /// The origin of the own log, typed by a person.
    pub origin: String,
}

/// Answer to `POST /v1/sign-alone`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct SignAloneAnswer {
    /// The origin of the own log.
    pub origin: String,
    /// Why nothing is signed all the same, if so: the order only stands in for members that cannot be heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct StatusAnswer {
    /// The version of hashmesh.
    pub version: String,
    /// The member that this node speaks for; nobody, if it is a follower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Seconds since the node started.
    pub uptime: u64,
    /// The federation.
    pub federation: FederationForm,
    /// Charters and cards.
    #[serde(default)]
    pub governance: GovernanceForm,
    /// Where this node can be reached.
    pub listening: Vec<String>,
    /// Why nothing is signed now, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
    /// Why nothing is published or received any more, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Statements that wait to be signed.
    pub queued: usize,
    /// Whether too few members were heard lately.
    pub isolated: bool,
    /// How far this machine's clock is ahead of the peers' median, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead: Option<i64>,
    /// Connected nodes of other members.
    pub peers: Vec<PeerForm>,
    /// Nodes that show less of a log than they have shown since this node started.
    #[serde(default)]
    pub rollbacks: Vec<RollbackForm>,
    /// Every member's log.
    pub logs: Vec<LogForm>,
    /// What is matched against.
    pub index: Vec<IndexForm>,
    /// How PDQ hashes are looked for, once that is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<NearForm>,
    /// The policy in force.
    pub policy: String,
    /// Values of which this node holds no opening, by its own decision.
    #[serde(default)]
    pub forgotten: usize,
    /// What an operator should know.
    pub warnings: Vec<String>,
    /// The last alarms.
    pub alarms: Vec<AlarmForm>,
}

/// The federation, as a node sees it.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct FederationForm {
    /// Its name.
    pub name: String,
    /// Its id.
    pub network: String,
    /// The charter in force.
    pub charter: String,
    /// Its version.
    pub version: u64,
    /// How many members it has.
    pub members: usize,
    /// From how many jurisdictions.
    pub jurisdictions: usize,
    /// How many of them must sign the next version.
    pub threshold: usize,
}

/// Charters and cards, as a node has them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct GovernanceForm {
    /// Since when the charter in force has been so here.
    pub since: String,
    /// Whether the charter of this node's invitation is in the chain.
    pub joined: bool,
    /// How this node's member stands: active, leaving, left, expelled, resolved; absent while no charter names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<String>,
    /// Whether the charter in force may still give way to a better one with the same parent.
    pub provisional: bool,
    /// Proposals to follow it.
    pub proposals: usize,
    /// The two charters between which an operator must choose, if it has come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<String>,
    /// Members with two cards of one number.
    #[serde(default)]
    pub disputed: Vec<String>,
    /// Members that are proved to have voted twice.
    #[serde(default)]
    pub double_votes: Vec<String>,
}

/// A connected node.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct PeerForm {
    /// Whose it is.
    pub member: String,
    /// Its node key.
    pub key: String,
    /// When its heads were heard last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<String>,
    /// How far its clock was ahead of this machine's then, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead: Option<i64>,
}

/// A node that shows less of a log than it has shown.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct RollbackForm {
    /// Whose node.
    pub member: String,
    /// Of which log, as MEMBER/EPOCH.
    pub log: String,
    /// The most that it has shown.
    pub showed: u64,
    /// What it shows now.
    pub shows: u64,
}

/// A log.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct LogForm {
    /// Whose.
    pub member: String,
    /// Its origin.
    pub origin: String,
    /// Statements held.
    pub size: u64,
    /// Statements that are known to exist and not here yet.
    pub lag: u64,
    /// The root over those held, hex.
    pub root: String,
    /// The author's time of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Openings that are missing.
    pub missing: u64,
    /// Statements that are settled.
    #[serde(default)]
    pub settled: u64,
    /// Why no more can be settled now, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cannot_settle: Option<String>,
    /// Whether its author has signed two histories.
    #[serde(default)]
    pub forked: bool,
    /// How its member stands: active, leaving, left, expelled, resolved; absent if no card in force names the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<String>,
    /// After how many statements it has ended, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<u64>,
}

/// What is matched against, of one kind.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct IndexForm {
    /// The kind.
    pub kind: String,
    /// Hashes that somebody stands by.
    pub live: u64,
    /// Hashes that were ever named.
    pub known: u32,
}

/// The index of PDQ hashes.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct NearForm {
    /// Hashes in its segments.
    pub indexed: u64,
    /// Hashes that are compared one by one until they are taken up.
    pub tail: u64,
    /// Memory of the segments, in bytes.
    pub bytes: u64,
    /// Segments that queries have scanned whole since the start, because looking into buckets would have taken longer. Many
    /// mean that somebody fills the list, or asks, to slow queries down.
    pub scans: u64,
}

/// An alarm.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct AlarmForm {
    /// When.
    pub time: String,
    /// What.
    pub text: String,
}

/// `POST /v1/export`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportRequest {
    /// Whether openings are going to be fetched: content hashes, and what members remarked about them.
    pub openings: bool,
}

/// Answer to `POST /v1/export`: what an export begins with.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ExportAnswer {
    /// The network id.
    pub network: String,
    /// Charters and cards, by the files that they are put into.
    pub documents: Vec<ExportedFile>,
    /// All evidence that the node holds, likewise.
    #[serde(default)]
    pub evidence: Vec<ExportedFile>,
    /// The logs, as MEMBER/EPOCH, with the size of the newest checkpoint.
    pub logs: Vec<ExportedLog>,
}

/// A file of an export.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ExportedFile {
    /// Where.
    pub file: String,
    /// What.
    pub text: String,
}

/// A log that can be exported.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ExportedLog {
    /// Whose.
    pub member: String,
    /// Which of its logs.
    pub epoch: u32,
    /// How many leaves its newest checkpoint covers.
    pub size: u64,
}

/// `GET /v1/export/{member}/{epoch}/checkpoints`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct CheckpointsAnswer {
    /// Signed notes, the largest first.
    pub checkpoints: Vec<String>,
}

/// `POST /v1/proofs`: by hash, what members say of it now; by place, what stands there.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProofsRequest {
    /// `KIND:HEX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// `MEMBER/EPOCH/INDEX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// `MEMBER/EPOCH/INDEX`: that nothing was live there when its author last said what is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_live: Option<String>,
}

/// Answer to `POST /v1/proofs`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ProofsAnswer {
    /// One a statement.
    pub proofs: Vec<ProofForm>,
}

/// A proof that a statement stands in a log.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ProofForm {
    /// Whose statement.
    pub member: String,
    /// In which of its logs.
    pub epoch: u32,
    /// Where.
    pub index: u64,
    /// The text of a `.tlog-proof` file.
    pub text: String,
}

/// `GET /v1/log/{member}`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct LogAnswer {
    /// The log.
    pub origin: String,
    /// How many statements it has here.
    pub size: u64,
    /// How many of them, from the first on, are settled.
    #[serde(default)]
    pub settled: u64,
    /// The statements asked for, in order.
    pub entries: Vec<EntryForm>,
}

/// One statement of a log.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct EntryForm {
    /// Where it stands.
    pub index: u64,
    /// When, by its author's clock.
    pub time: String,
    /// `add`, `dispute`, `revoke`, or `unknown` for what newer software wrote.
    pub say: String,
    /// The content hash, of a revocation that which is withdrawn; absent where there is none or its opening is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Names of labels; codes of those that the charter does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Why it is disputed or revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The statement that it ends: `EPOCH/INDEX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<String>,
    /// By which leaf of the same member's the opening is erased, `EPOCH/INDEX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<String>,
    /// Whether the opening is missing here.
    #[serde(default, skip_serializing_if = "is_false")]
    pub missing: bool,
    /// Whether this node does not hold the opening, by its own decision.
    #[serde(default, skip_serializing_if = "is_false")]
    pub not_held: bool,
    /// Whether enough witnesses have cosigned a tree that holds it.
    #[serde(default)]
    pub settled: bool,
    /// The remark that its author made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// `GET /v1/health` and `GET /v1/ready`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct HealthAnswer {
    /// `ok`, or why not.
    pub status: String,
}

/// `GET /v1/changes`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ChangesAnswer {
    /// What changed, in order: at most one change a hash, its last one.
    pub changes: Vec<ChangeForm>,
    /// Where to go on: `after` of the next request.
    pub cursor: String,
    /// Whether there are more already.
    pub more: bool,
    /// Whether the cursor could not be continued, since the node was started again. This answer is the beginning of the
    /// whole list: the copy so far is to be thrown away.
    pub reset: bool,
    /// What the list rests on: every hash was judged by this policy or a later one, at `as_of` or later.
    pub basis: Basis,
}

/// A change of the list.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ChangeForm {
    /// Its number: ascending, with gaps.
    pub seq: u64,
    /// The hash, `KIND:HEX`.
    pub hash: String,
    /// What to do from then on. `none`: it is off the list.
    #[schema(value_type = String, examples("none", "review", "block"))]
    pub decision: Decision,
}

/// How many versions back a vote counts as recent, for `charter health`.
pub const RECENT: u64 = 3;

/// Answer to `GET /v1/governance`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct GovernanceAnswer {
    /// The federation's name.
    pub federation: String,
    /// Its id.
    pub network: String,
    /// The charter in force.
    pub charter: String,
    /// Its version.
    pub version: u64,
    /// Since when it has been in force here.
    pub since: String,
    /// Whether the charter of this node's invitation is in the chain.
    pub joined: bool,
    /// Whether it may still give way to a better one with the same parent.
    pub provisional: bool,
    /// How many members must sign the next version.
    pub threshold: usize,
    /// How many more than that have signed one of the last versions; absent if fewer have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<usize>,
    /// Between what an operator must choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<ConflictForm>,
    /// The members.
    pub members: Vec<MemberForm>,
    /// The former members.
    pub departed: Vec<MemberForm>,
    /// The charters that were adopted, version 0 first.
    pub versions: Vec<VersionForm>,
    /// What is proposed, and what was valid and not adopted.
    pub proposals: Vec<ProposalForm>,
    /// Members that are proved to have voted twice.
    pub double_votes: Vec<String>,
    /// Where members' nodes say that they are.
    pub addresses: Vec<(String, Vec<String>)>,
}

/// Two histories of charters.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ConflictForm {
    /// The first version about which they differ.
    pub version: u64,
    /// The end of the one that was adopted here.
    pub ours: String,
    /// The end of the other one.
    pub theirs: String,
}

/// A member, or a former one.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct MemberForm {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it answers to the law.
    pub jurisdiction: String,
    /// How it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<String>,
    /// Its card in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// That card's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Which of its logs is being written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// Cards of one number of which none is in force.
    #[serde(default)]
    pub rivals: Vec<String>,
    /// The last version that it has signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voted: Option<u64>,
}

/// A charter that was adopted.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct VersionForm {
    /// Its version.
    pub version: u64,
    /// Its id.
    pub id: String,
    /// Why it was made.
    pub note: String,
    /// Who has signed it.
    pub signed: Vec<String>,
    /// What it changed.
    pub changes: Vec<String>,
}

/// A charter that was not adopted.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ProposalForm {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: u64,
    /// Its attempt.
    pub attempt: u16,
    /// Why.
    pub note: String,
    /// Whether it would follow the charter in force.
    pub follows: bool,
    /// The members that have voted for it.
    pub votes: Vec<String>,
    /// So many must.
    pub needed: usize,
    /// Whose new governance key has not agreed yet.
    pub no_consent: Vec<String>,
    /// Who of those that have voted for it asks the others not to.
    #[serde(default)]
    pub withdrawn: Vec<String>,
    /// Members whose card it names is not here.
    pub cards_missing: Vec<String>,
    /// What it changes.
    pub changes: Vec<String>,
}

/// Documents as text: `-----BEGIN HASHMESH …-----` blocks.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct TextAnswer {
    /// The text.
    pub text: String,
}

/// Body of `POST /v1/proposal`: one of the two.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TextRequest {
    /// A charter that is held here, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charter: Option<String>,
    /// A charter, and the cards that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Body of `POST /v1/documents`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentsRequest {
    /// The documents.
    pub text: String,
    /// Whether a card of this node's own member may end its log before what was signed in it and is not settled.
    #[serde(default)]
    pub cut: bool,
}

/// Answer to `POST /v1/documents` and `POST /v1/charter/choose`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct DocumentsAnswer {
    /// What became of each.
    pub results: Vec<DocumentResult>,
    /// The charter in force now.
    pub charter: String,
    /// Its version.
    pub version: u64,
}

/// What became of a document.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct DocumentResult {
    /// Which.
    pub document: String,
    /// `known`, `kept`, `adopted` (another charter is in force now), `in force` (a card), `disputed`, `double vote`,
    /// `charter_conflict`; absent if it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<String>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Body of `POST /v1/charter/choose`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChooseRequest {
    /// The charter to go on from.
    pub charter: String,
}

/// Answer to `GET /v1/ends/{member}`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct EndsAnswer {
    /// One an epoch, from 0 on.
    pub ends: Vec<EndForm>,
}

/// Where a log ends.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct EndForm {
    /// Which.
    pub epoch: u32,
    /// After so many leaves.
    pub size: u64,
    /// The root over them.
    pub root: String,
    /// How many leaves are held here.
    pub held: u64,
}

impl EndForm {
    /// The end as cards and charters have it.
    pub fn parse(&self) -> Result<End, NotADigest> {
        Ok(End { epoch: self.epoch, size: self.size, root: self.root.parse()? })
    }
}

/// Body of `POST /v1/forget`: a hash, or a place at which one stands.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// `KIND:HEX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// `MEMBER/EPOCH/INDEX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Why, for the operator's own records.
    pub reason: String,
}

/// Answer to `POST /v1/forget`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ForgetAnswer {
    /// Whether it was held until now.
    pub new: bool,
    /// How many statements about it were hidden.
    pub statements: usize,
}

/// Answer to `GET /v1/forget`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ForgottenAnswer {
    /// Since when and why a value is not held, the oldest first.
    pub values: Vec<ForgottenForm>,
    /// The statements whose openings are not held.
    pub places: Vec<NotHeldForm>,
}

/// A value that is not held.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ForgottenForm {
    /// Since when.
    pub since: String,
    /// Why.
    pub reason: String,
}

/// A statement whose opening is not held.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct NotHeldForm {
    /// Where it stands: `MEMBER/EPOCH/INDEX`.
    pub place: String,
    /// Since when.
    pub since: String,
}
