//! A federation that founds itself, admits, expels, exchanges keys, and has no owner: by the command line, as its operators would.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use hashmesh::api::form::{
    DocumentsAnswer, DocumentsRequest, GovernanceAnswer, MatchAnswer, MatchRequest, PublishAnswer, StatementForm,
    StatementsRequest, StatusAnswer, TextAnswer,
};
use hashmesh::client::Client;
use hashmesh::documents::Found;
use hashmesh::keys;
use hashmesh_protocol::armor::{self, Document};
use hashmesh_protocol::charter::Charter;
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::policy::Decision;
use hashmesh_protocol::statement::Position;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::cluster::{Cluster, Member, Program};
use crate::sim::pdq;

/// The founders: id, name, jurisdiction.
const FOUNDERS: [(&str, &str, &str); 4] = [
    ("acme", "Acme Video", "FR"),
    ("bolt", "Bolt Chat", "DE"),
    ("crab", "Crab Photos", "US"),
    ("dove", "Dove Forum", "JP"),
];

/// Who comes later.
const FIFTH: (&str, &str, &str) = ("eve", "Eve Search", "BR");

const ACME: usize = 0;
const BOLT: usize = 1;
const CRAB: usize = 2;
const DOVE: usize = 3;
const EVE: usize = 4;

/// What should come about comes about within this time, or the story has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How soon a member that was expelled must be cut off everywhere.
const SECONDS: Duration = Duration::from_secs(5);

/// Four founders; a fifth is admitted, one expelled while it keeps sending, a stolen log key and a node key are exchanged, the threshold
/// changes, two rival charters settle, and the quorum is lost.
#[derive(Args, Debug)]
pub struct Governance {
    /// Where to put everything; a temporary folder if absent.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Run this hashmesh instead of the one built in.
    #[arg(long, value_name = "FILE")]
    hashmesh: Option<PathBuf>,
}

impl Governance {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let program = self.hashmesh.clone().map_or_else(Program::own, |path| Ok(Program::at(path)))?;
        let temporary = match &self.dir {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("hashmesh-story-").tempdir()?),
        };
        let root = self.dir.as_deref().or(temporary.as_ref().map(TempDir::path)).context("one of the two")?;
        tell_governance(root, &program, |line| crate::tell::tell(line)).await
    }
}

/// Tells the story; an error if anything is not as it should be. Each chapter ends with the charter that all nodes print.
pub async fn tell_governance(
    root: &Path,
    program: &Program,
    mut say: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut story = Chapters {
        cluster: Cluster::found_with(root, program, &FOUNDERS, &LIMITS)?,
        gone: Vec::new(),
        said: 0,
        placed: HashMap::new(),
    };
    say("== Four organisations found a federation")?;
    story.cluster.start_all()?;
    story.cluster.connected(PATIENCE).await?;
    say(&story.all_agree().await?)?;

    say("\n== A fifth is admitted while all run")?;
    story.admit_the_fifth().await?;
    say(&story.all_agree().await?)?;

    say("\n== One is expelled while it keeps sending")?;
    let cut_off = story.expel_dove().await?;
    say(&format!("cut off everywhere {cut_off:.1?} after the last signature"))?;
    say(&story.all_agree().await?)?;

    say("\n== A log key is stolen: a new log, and what the thief said is void")?;
    story.replace_the_stolen_log_key().await?;
    say(&story.all_agree().await?)?;

    say("\n== A node changes its identity while the federation runs")?;
    story.exchange_the_node_key().await?;
    say(&story.all_agree().await?)?;

    say("\n== The threshold is changed")?;
    story.change_the_threshold().await?;
    say(&story.all_agree().await?)?;

    say("\n== Two rival charters, both signed by all, are handed in at two ends at once")?;
    story.rival_charters().await?;
    say(&story.all_agree().await?)?;

    say("\n== An auditor follows all of it, with a folder of files and the federation's id")?;
    say(&story.audit().await?)?;

    say("\n== The quorum is lost, and the federation refounded")?;
    story.refound().await?;
    say(&story.all_agree().await?)
}

/// Times that a federation on one machine does not take.
const LIMITS: [(&str, u64); 4] =
    [("cool_down", 0), ("cool_down_expulsion", 0), ("relock", 0), ("heads_interval", 1000)];

struct Chapters {
    cluster: Cluster,
    /// Members that are none any more.
    gone: Vec<usize>,
    /// Hashes that were put on the list.
    said: u64,
    /// Where each member has put its last one.
    placed: HashMap<usize, Position>,
}

impl Chapters {
    /// The nodes of members, in order.
    fn members(&self) -> Vec<&Member> {
        let there = |at: &usize| !self.gone.contains(at);
        (0..self.cluster.members().len()).filter(there).map(|at| self.cluster.member(at)).collect()
    }

    /// Waits until all nodes of members have the same charter in force, nothing is proposed, and everybody is connected; the line says which.
    async fn all_agree(&self) -> anyhow::Result<String> {
        let begun = Instant::now();
        loop {
            let mut seen = Vec::new();
            for member in self.members() {
                let status = member.status().await?;
                let others = self.members().len() - 1;
                let connected = status.peers.len() == others && status.governance.conflict.is_none();
                seen.push((status.federation.version, status.federation.charter, connected && status.silent.is_none()));
            }
            if seen.iter().all(|one| *one == seen[0] && one.2) {
                let names: Vec<&str> = self.members().iter().map(|member| member.id.as_str()).collect();
                return Ok(format!("version {} on {}: {}", seen[0].0, names.join(", "), seen[0].1));
            }
            ensure!(begun.elapsed() < PATIENCE, "the nodes do not agree: {seen:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn governance_key(&self, at: usize) -> PathBuf {
        self.cluster.root().join(format!("{}-governance", self.cluster.member(at).id)).join(keys::GOVERNANCE)
    }

    /// Runs a command of a member with its governance key.
    fn with_key(&self, at: usize, arguments: &[&str]) -> anyhow::Result<String> {
        let key = self.governance_key(at).display().to_string();
        self.cluster.member(at).hashmesh(&[arguments, &["--key", &key]].concat())
    }

    /// The members sign what is proposed, one after the other.
    async fn sign(&self, proposal: &str, signers: &[usize]) -> anyhow::Result<()> {
        for &at in signers {
            let begun = Instant::now();
            loop {
                let mut client = Client::admin(&self.cluster.member(at).folder).await?;
                let seen: GovernanceAnswer = client.get("/v1/governance").await?;
                if seen.charter == proposal || seen.proposals.iter().any(|known| known.id == proposal) {
                    break;
                }
                ensure!(begun.elapsed() < PATIENCE, "{} has not heard of the proposal", self.cluster.member(at).id);
                sleep(Duration::from_millis(20)).await;
            }
            self.with_key(at, &["charter", "sign", proposal, "--yes"])?;
        }
        Ok(())
    }

    /// Proposes something with a member's signature on it; the id.
    async fn propose(&self, at: usize, change: &[&str]) -> anyhow::Result<String> {
        self.with_key(at, &[&["charter", "propose"], change, &["--yes"]].concat())?;
        let mut client = Client::admin(&self.cluster.member(at).folder).await?;
        let seen: GovernanceAnswer = client.get("/v1/governance").await?;
        let proposal = seen.proposals.iter().find(|proposal| proposal.follows);
        Ok(proposal.context("it is pending")?.id.clone())
    }

    async fn version_is(&self, version: u64) -> anyhow::Result<()> {
        for member in self.members() {
            until(member, "the next charter", |status| status.federation.version == version).await?;
        }
        Ok(())
    }

    /// A member puts a new hash on the list.
    async fn add(&mut self, at: usize) -> anyhow::Result<ContentHash> {
        self.said += 1;
        let hash = pdq(self.said);
        let place = publish(self.cluster.member(at), hash).await?;
        self.placed.insert(at, place);
        Ok(hash)
    }

    /// Waits until a node knows what another one has added last to be settled.
    async fn settled(&self, at: usize, author: usize) -> anyhow::Result<()> {
        let place = self.placed.get(&author).context("it has added something")?;
        let author = self.cluster.member(author).id.clone();
        until(self.cluster.member(at), "what is settled", |status| {
            let log = status.logs.iter().find(|log| log.member == author && log.ends.is_none());
            log.is_some_and(|log| log.settled == log.size && log.settled > place.index)
        })
        .await
    }

    /// Waits until all members' nodes match a hash, or none does.
    async fn all_match(&self, hash: &ContentHash, is_matched: bool) -> anyhow::Result<()> {
        for member in self.members() {
            let begun = Instant::now();
            while (decision(member, hash).await? != Decision::None) != is_matched {
                ensure!(begun.elapsed() < PATIENCE, "{}: {hash} is not as it should be", member.id);
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    async fn admit_the_fifth(&mut self) -> anyhow::Result<()> {
        let before = self.add(ACME).await?;
        let at = self.cluster.applies(FIFTH)?;
        let root = self.cluster.root().to_owned();
        let (invitation, proposal) = (root.join("eve.invitation"), root.join("eve.proposal"));
        let (card, signature) = (root.join("eve/eve.card"), root.join("eve-consent.sig"));
        let text = |path: &Path| path.display().to_string();
        self.cluster.member(ACME).hashmesh(&["invite", "--output", &text(&invitation)])?;
        self.cluster.member(at).hashmesh(&["join", &text(&invitation)])?;
        self.cluster.start(at)?;
        let standing = self.cluster.member(at).status().await?.governance.standing;
        ensure!(standing.is_none(), "an applicant is nobody yet");
        for member in self.members() {
            let mut peers = member.status().await?.peers.into_iter();
            ensure!(peers.all(|peer| peer.member != FIFTH.0), "{} lets an applicant in", member.id);
        }

        let id = self.propose(ACME, &["--admit", &text(&card)]).await?;
        self.sign(&id, &[BOLT, CRAB]).await?;
        let status = self.cluster.member(BOLT).status().await?;
        ensure!(status.federation.version == 0, "nobody joins without agreeing");
        // The applicant signs what it is mailed, and mails the signature back.
        self.cluster.member(BOLT).hashmesh(&["charter", "pending", &id, "--output", &text(&proposal)])?;
        self.with_key(at, &["charter", "sign", &text(&proposal), "--yes", "--output", &text(&signature)])?;
        // The auditor's folder is begun while the card is that of nobody yet.
        self.cluster.member(ACME).hashmesh(&["audit", "export", "--out", &text(&root.join("export"))])?;
        self.cluster.member(DOVE).hashmesh(&["charter", "submit", &text(&signature)])?;
        self.version_is(1).await?;
        self.all_agree().await?;
        self.all_match(&before, true).await?;
        let hash = self.add(EVE).await?;
        self.all_match(&hash, true).await
    }

    /// How long it took until it was cut off everywhere.
    async fn expel_dove(&mut self) -> anyhow::Result<Duration> {
        let before = self.add(DOVE).await?;
        self.all_match(&before, true).await?;
        self.settled(ACME, DOVE).await?;
        let id = self.propose(ACME, &["--expel", "dove", "--reason", "lists what is lawful"]).await?;
        self.sign(&id, &[BOLT, CRAB]).await?;
        // It goes on all the while.
        let dove = self.cluster.member(DOVE);
        let (last, mut later) = (Instant::now(), Vec::new());
        let key = self.governance_key(EVE).display().to_string();
        let mut signing = self
            .cluster
            .member(EVE)
            .command(&["charter", "sign", &id, "--yes", "--key", &key])
            .stdout(Stdio::null())
            .spawn()?;
        let mut cut_off = None;
        while cut_off.is_none() {
            self.said += 1;
            let hash = pdq(self.said);
            publish(dove, hash).await?;
            later.push(hash);
            let mut connected = 0;
            for at in [ACME, BOLT, CRAB, EVE] {
                let status = self.cluster.member(at).status().await?;
                connected += usize::from(status.peers.iter().any(|peer| peer.member == "dove"));
            }
            cut_off = (connected == 0).then(|| last.elapsed());
            ensure!(last.elapsed() < PATIENCE, "it is still connected");
            sleep(Duration::from_millis(20)).await;
        }
        ensure!(signing.wait()?.success(), "the last signature was not given");
        self.gone.push(DOVE);
        self.version_is(2).await?;
        let mute = pdq(u64::MAX);
        publish(dove, mute).await?;
        self.all_agree().await?;
        for member in self.members() {
            let log = log_of(&member.status().await?, "dove")?;
            ensure!(
                log.standing.as_deref() == Some("expelled") && log.ends.is_some(),
                "{}: it has not ended",
                member.id
            );
            ensure!(decision(member, &mute).await? == Decision::None, "{}: it is heard", member.id);
            // What an expelled member said weighs nothing, unless the platform's policy says so.
            ensure!(decision(member, &before).await? == Decision::None, "{}: it weighs something", member.id);
        }
        let cut_off = cut_off.context("it was cut off")?;
        ensure!(cut_off < SECONDS, "it took {cut_off:?}");
        self.cluster.stop(DOVE)?;
        Ok(cut_off)
    }

    async fn replace_the_stolen_log_key(&mut self) -> anyhow::Result<()> {
        let own = self.add(BOLT).await?;
        self.all_match(&own, true).await?;
        // This the thief says, with the key that is not the member's alone any more.
        let stolen = self.add(BOLT).await?;
        let index = self.placed[&BOLT].index;
        self.all_match(&stolen, true).await?;
        self.settled(BOLT, BOLT).await?;
        self.with_key(BOLT, &["card", "rotate", "--log"])?;
        until(self.cluster.member(BOLT), "the new log", |status| {
            status.logs.iter().filter(|log| log.member == "bolt").count() == 2 && status.silent.is_none()
        })
        .await?;
        self.cluster.member(BOLT).hashmesh(&["void", &format!("0/{index}")])?;
        self.all_match(&stolen, false).await?;
        self.all_match(&own, true).await?;
        let new = self.add(BOLT).await?;
        self.all_match(&new, true).await
    }

    async fn exchange_the_node_key(&mut self) -> anyhow::Result<()> {
        let before = peer_key(self.cluster.member(ACME), "crab").await?;
        self.with_key(CRAB, &["card", "rotate", "--node"])?;
        for member in self.members() {
            let begun = Instant::now();
            while number_of(member, "crab").await? != Some(1) {
                ensure!(begun.elapsed() < PATIENCE, "{} has not heard of the card", member.id);
                sleep(Duration::from_millis(20)).await;
            }
        }
        self.all_agree().await?;
        // It runs on, and takes the new key once the others know it.
        let begun = Instant::now();
        loop {
            let after = peer_key(self.cluster.member(ACME), "crab").await?;
            if after.is_some() && after != before {
                break;
            }
            ensure!(begun.elapsed() < PATIENCE, "it is not connected under its new identity");
            sleep(Duration::from_millis(20)).await;
        }
        self.all_agree().await?;
        self.with_key(CRAB, &["card", "rotate", "--drop-node"])?;
        self.all_agree().await?;
        let hash = self.add(CRAB).await?;
        self.all_match(&hash, true).await
    }

    async fn change_the_threshold(&mut self) -> anyhow::Result<()> {
        let id = self.propose(CRAB, &["--threshold", "3/4", "--reason", "all four from now on"]).await?;
        self.sign(&id, &[ACME, EVE]).await?;
        self.version_is(3).await?;
        let status = self.cluster.member(EVE).status().await?;
        ensure!(status.federation.threshold == 4, "{} must sign", status.federation.threshold);
        Ok(())
    }

    /// All have signed both, as those may who see the first attempt hang; now each is handed in at another node, in the same moment.
    async fn rival_charters(&mut self) -> anyhow::Result<()> {
        let mut client = Client::admin(&self.cluster.member(ACME).folder).await?;
        let answer: TextAnswer = client.get("/v1/charter/tip").await?;
        let tip = Found::in_text(&answer.text)?.charter()?.clone();
        let signers = [ACME, BOLT, CRAB, EVE].map(|at| (self.cluster.member(at).id.clone(), self.governance_key(at)));
        let mut texts = Vec::new();
        for (attempt, note) in [(0, "one"), (1, "the other")] {
            let mut body = tip.successor();
            (body.attempt, body.note) = (attempt, note.to_owned());
            body.parameters.observe_interval += u64::from(attempt) + 1;
            let charter = Charter::new(body)?;
            let mut documents = vec![Document::Charter(Box::new(charter.clone()))];
            for (member, key) in &signers {
                documents.push(Document::Approval(charter.approve(member.parse()?, &keys::load_one(key)?)));
            }
            texts.push((charter.id().to_string(), armor::write(&documents)));
        }
        let hand_in = async |at: usize, text: &str| {
            let mut client = Client::admin(&self.cluster.member(at).folder).await?;
            let request = DocumentsRequest { text: text.to_owned(), cut: false };
            anyhow::Ok(client.post::<_, DocumentsAnswer>("/v1/documents", &request).await?)
        };
        let (one, other) = tokio::join!(hand_in(ACME, &texts[0].1), hand_in(EVE, &texts[1].1));
        for answer in [one?, other?] {
            ensure!(answer.results.iter().all(|result| result.error.is_none()), "{:?}", answer.results);
        }
        let begun = Instant::now();
        for member in self.members() {
            while member.status().await?.federation.charter != texts[1].0 {
                ensure!(begun.elapsed() < PATIENCE, "{} stays with the lower attempt", member.id);
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// What an auditor says of it.
    async fn audit(&self) -> anyhow::Result<String> {
        let acme = self.cluster.member(ACME);
        let folder = self.cluster.root().join("export").display().to_string();
        let network = acme.status().await?.federation.network;
        acme.hashmesh(&["audit", "export", "--out", &folder])?;
        let said = acme.hashmesh(&["audit", "verify", &folder, "--network", &network])?;
        // Of a statement under a key that came later, too.
        let proofs = self.cluster.root().join("proofs").display().to_string();
        acme.hashmesh(&["audit", "prove", "--place", "bolt/1/1", "--out", &proofs])?;
        acme.hashmesh(&["audit", "check", &format!("{proofs}/bolt-1-1.tlog-proof"), "--network", &network])?;
        Ok(said.lines().find(|line| line.starts_with("VERIFIED")).unwrap_or_default().to_owned())
    }

    /// Crab and eve are gone for good, and without them nothing can be changed any more. Acme and bolt begin anew, with what was settled.
    async fn refound(&mut self) -> anyhow::Result<()> {
        let carried = self.add(ACME).await?;
        self.all_match(&carried, true).await?;
        self.settled(BOLT, ACME).await?;
        self.settled(ACME, BOLT).await?;
        for at in [CRAB, EVE] {
            self.cluster.stop(at)?;
            self.gone.push(at);
        }
        let root = self.cluster.root().to_owned();
        let text = |name: &str| root.join(name).display().to_string();
        let (card, other, charter) = (text("acme-again.card"), text("bolt-again.card"), text("again.charter"));
        self.with_key(ACME, &["card", "first", "--output", &card])?;
        self.with_key(BOLT, &["card", "first", "--output", &other])?;
        let limits = text("limits.toml");
        let new = [
            "charter",
            "new",
            "--federation",
            "demo2.example",
            "--succeeds",
            "--limits",
            &limits,
            "--output",
            &charter,
        ];
        self.cluster.member(ACME).hashmesh(&[&new[..], &[&card, &other]].concat())?;
        let network = Found::in_files(&[&charter])?.charter()?.network().to_string();
        let mut files = vec![charter.clone()];
        for at in [ACME, BOLT] {
            let signature = text(&format!("{}-again.sig", self.cluster.member(at).id));
            self.with_key(at, &["charter", "sign", &charter, "--yes", "--output", &signature])?;
            files.push(signature);
        }
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        for at in [ACME, BOLT] {
            self.cluster.stop(at)?;
            let adopt = [&["adopt", "--network", &network], &files[..]].concat();
            self.cluster.member(at).hashmesh(&adopt)?;
        }
        for at in [ACME, BOLT] {
            self.cluster.start(at)?;
        }
        self.all_agree().await?;
        for at in [ACME, BOLT] {
            self.cluster.member(at).hashmesh(&["carry"])?;
        }
        self.all_match(&carried, true).await
    }
}

async fn until(member: &Member, what: &str, holds: impl Fn(&StatusAnswer) -> bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !holds(&member.status().await?) {
        ensure!(begun.elapsed() < PATIENCE, "{} waits for {what}; see {}", member.id, member.log().display());
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The log that a member writes, or its last one.
fn log_of(status: &StatusAnswer, member: &str) -> anyhow::Result<hashmesh::api::form::LogForm> {
    status.logs.iter().rev().find(|log| log.member == member).cloned().context("a member has a log")
}

/// The identity under which a member's node is connected.
async fn peer_key(at: &Member, of: &str) -> anyhow::Result<Option<String>> {
    let status = at.status().await?;
    Ok(status.peers.into_iter().find(|peer| peer.member == of).map(|peer| peer.key))
}

/// The number of a member's card in force.
async fn number_of(at: &Member, of: &str) -> anyhow::Result<Option<u64>> {
    let seen: GovernanceAnswer = Client::admin(&at.folder).await?.get("/v1/governance").await?;
    Ok(seen.members.into_iter().find(|member| member.id == of).and_then(|member| member.number))
}

/// Adds a hash; gives where it stands.
async fn publish(member: &Member, hash: ContentHash) -> anyhow::Result<Position> {
    let add = StatementForm::Add {
        hash: hash.to_string(),
        labels: vec!["demo".to_owned()],
        media: None,
        quality: None,
        expiry: None,
        incident: None,
        note: None,
    };
    let mut client = Client::admin(&member.folder).await?;
    let request = StatementsRequest { statements: vec![add], wait: Some(30) };
    let answer: PublishAnswer = client.post("/v1/statements", &request).await?;
    let result = answer.results.into_iter().next().context("one result")?;
    if let Some(error) = result.error {
        bail!("{}: {error}", member.id);
    }
    let place = result.position.context("a place")?;
    let (epoch, index) = place.split_once('/').context("EPOCH/INDEX")?;
    Ok(Position { epoch: epoch.parse()?, index: index.parse()? })
}

async fn decision(member: &Member, hash: &ContentHash) -> anyhow::Result<Decision> {
    let request = MatchRequest { hashes: vec![hash.to_string()], max_distance: Some(0), explain: false };
    let answer: MatchAnswer = Client::query(&member.folder).await?.post("/v1/match", &request).await?;
    answer.decisions.first().copied().context("one answer")
}
