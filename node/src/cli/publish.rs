//! Saying something in the member's name: add, dispute, revoke, erase.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use hashmesh_protocol::content_hash::{ContentHash, MAX_PDQ_QUALITY, Media};
use hashmesh_protocol::entries::MAX_LEAVES;
use hashmesh_protocol::statement::{Basis, Reason};

use super::table::table;
use super::{Context, Done, complain};
use crate::api::form::{PublishAnswer, PublishStatus, StatementForm, StatementsRequest};
use crate::client::Client;
use crate::images::hash_file;

/// Most statements in one request.
const AT_ONCE: usize = MAX_LEAVES;

/// What all hashes of one call have in common.
#[derive(Args, Debug)]
pub(super) struct About {
    /// What it is, in the charter's words; several times for several labels.
    #[arg(long = "label", required = true)]
    pub(super) labels: Vec<String>,
    /// What was hashed; image for PDQ and file for the others if absent.
    #[arg(long, value_parser = media)]
    pub(super) media: Option<Media>,
    /// From then on it should not be acted on, as in 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "MOMENT")]
    pub(super) expiry: Option<String>,
    /// The number of an incident.
    #[arg(long)]
    pub(super) incident: Option<u64>,
    /// A remark for the other members' people, the same for each hash.
    #[arg(long)]
    pub(super) note: Option<String>,
}

/// How long to wait.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until it is signed, or settled: cosigned by enough of the other members.
    #[arg(long, value_enum, default_value_t = Until::Signed)]
    wait: Until,
    /// For how long at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Until {
    Signed,
    Settled,
}

/// Put hashes on the list.
#[derive(Args, Debug)]
pub(super) struct Add {
    /// As in pdq:f8f8… or sha256:e3b0…
    #[arg(required_unless_present = "image", value_name = "KIND:HEX")]
    hashes: Vec<ContentHash>,
    /// Hash these files and add all their hashes: PDQ of pictures, MD5, SHA-1 and SHA-256.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    image: Vec<PathBuf>,
    /// The PDQ quality, 0 to 100.
    #[arg(long, value_parser = clap::value_parser!(u8).range(..=i64::from(MAX_PDQ_QUALITY)))]
    quality: Option<u8>,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    patience: Patience,
}

/// Reads a medium by its name.
pub(super) fn media(text: &str) -> Result<Media, String> {
    let all = [Media::File, Media::Image, Media::Video];
    all.into_iter().find(|media| media.name() == text).ok_or_else(|| "expected file, image or video".to_owned())
}

fn reason(text: &str) -> Result<Reason, String> {
    let known = || Reason::ALL.map(Reason::name).join(", ");
    Reason::ALL.into_iter().find(|reason| reason.name() == text).ok_or_else(|| format!("expected one of {}", known()))
}

impl Add {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let mut hashes: Vec<(ContentHash, Option<Media>, Option<u8>)> =
            self.hashes.iter().map(|hash| (*hash, self.about.media, self.quality)).collect();
        for file in &self.image {
            let found = hash_file(file)?;
            if let Err(why) = &found.pdq {
                complain(format_args!("hashmesh: {}: no PDQ hash: {why}; its exact hashes are added", file.display()));
            }
            let media = self.about.media.or(found.pdq.is_ok().then_some(Media::Image));
            hashes.extend(found.all().map(|(hash, quality)| (hash, media, quality)));
        }
        let statements = hashes.into_iter().map(|(hash, media, quality)| StatementForm::Add {
            hash: hash.to_string(),
            labels: self.about.labels.clone(),
            media,
            quality,
            expiry: self.about.expiry.clone(),
            incident: self.about.incident,
            note: self.about.note.clone(),
        });
        send(context, statements.collect(), self.patience).await
    }
}

/// Say that a hash should not be acted on, whoever added it.
#[derive(Args, Debug)]
pub(super) struct Dispute {
    /// Which.
    #[arg(required = true, value_name = "KIND:HEX")]
    hashes: Vec<ContentHash>,
    /// Why: other, mistake, lawful, mislabelled, too-broad, appeal, legal-order, obsolete.
    #[arg(long, value_parser = reason)]
    reason: Reason,
    /// A remark for the other members' people.
    #[arg(long)]
    note: Option<String>,
    #[command(flatten)]
    patience: Patience,
}

impl Dispute {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let statements = self.hashes.iter().map(|hash| StatementForm::Dispute {
            hash: hash.to_string(),
            reason: self.reason,
            note: self.note.clone(),
        });
        send(context, statements.collect(), self.patience).await
    }
}

/// Withdraw what this member said, about a hash or at a position of its log.
#[derive(Args, Debug)]
pub(super) struct Revoke {
    /// About which hash.
    #[arg(required_unless_present = "position", value_name = "KIND:HEX")]
    hashes: Vec<ContentHash>,
    /// At which positions of this member's log, as hashmesh log shows them.
    #[arg(long, num_args = 1.., value_name = "EPOCH/INDEX")]
    position: Vec<String>,
    /// Why: other, mistake, lawful, mislabelled, too-broad, appeal, legal-order, obsolete.
    #[arg(long, value_parser = reason, default_value = "mistake")]
    reason: Reason,
    #[command(flatten)]
    patience: Patience,
}

impl Revoke {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let reason = self.reason;
        let by_hash = self.hashes.iter().map(|hash| StatementForm::Revoke {
            hash: Some(hash.to_string()),
            position: None,
            reason,
        });
        let by_position = self.position.iter().map(|position| StatementForm::Revoke {
            hash: None,
            position: Some(position.clone()),
            reason,
        });
        send(context, by_hash.chain(by_position).collect(), self.patience).await
    }
}

/// Have what this member said deleted everywhere: its openings, so that nobody can tell any more which hash it was about.
///
/// The statements themselves stay in the log, and every proof holds; what is live of them is withdrawn. Other members' nodes hide
/// the openings at once and delete them after the hold that the charter sets. What others have said of the same hash is theirs.
#[derive(Args, Debug)]
pub(super) struct Erase {
    /// All that this member ever said about these hashes.
    #[arg(required_unless_present = "position", value_name = "KIND:HEX")]
    hashes: Vec<ContentHash>,
    /// What stands at these positions of this member's log, as hashmesh log shows them.
    #[arg(long, num_args = 1.., value_name = "EPOCH/INDEX")]
    position: Vec<String>,
    /// On what basis: other, legal-order, data-protection, mistake, retention.
    #[arg(long, value_parser = basis)]
    basis: Basis,
    #[command(flatten)]
    patience: Patience,
}

fn basis(text: &str) -> Result<Basis, String> {
    let known = || Basis::ALL.map(Basis::name).join(", ");
    Basis::ALL.into_iter().find(|basis| basis.name() == text).ok_or_else(|| format!("expected one of {}", known()))
}

impl Erase {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let basis = self.basis;
        let by_hash =
            self.hashes.iter().map(|hash| StatementForm::Erase { hash: Some(hash.to_string()), position: None, basis });
        let by_position =
            self.position.iter().map(|place| StatementForm::Erase { hash: None, position: Some(place.clone()), basis });
        send(context, by_hash.chain(by_position).collect(), self.patience).await
    }
}

/// Say that everything in an earlier log of this member, from a place on, was never said.
///
/// For a log key that was stolen. First a card ends that log and names another key (hashmesh card rotate); then this takes back
/// what the thief said up to that end, settled or not, erasures too.
#[derive(Args, Debug)]
pub(super) struct Void {
    /// The first of what was never said, as hashmesh log shows it.
    #[arg(value_name = "EPOCH/INDEX")]
    from: String,
    #[command(flatten)]
    patience: Patience,
}

impl Void {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let place =
            self.from.split_once('/').and_then(|(epoch, index)| Some((epoch.parse().ok()?, index.parse().ok()?)));
        let Some((epoch, from)) = place else { bail!("{:?} is not a position (EPOCH/INDEX)", self.from) };
        send(context, vec![StatementForm::Void { epoch, from }], self.patience).await
    }
}

async fn send(context: &Context, statements: Vec<StatementForm>, patience: Patience) -> anyhow::Result<Done> {
    if statements.len() > AT_ONCE {
        bail!("{} statements at once; at most {AT_ONCE} (hashmesh import takes any number)", statements.len());
    }
    let named: Vec<String> = statements.iter().map(name).collect();
    let mut client = Client::admin(&context.folder).await?;
    let path = match patience.wait {
        Until::Signed => "/v1/statements",
        Until::Settled => "/v1/statements?wait=settled",
    };
    let request = StatementsRequest { statements, wait: Some(patience.timeout) };
    let answer: PublishAnswer = client.post(path, &request).await?;
    let refused: Vec<_> = answer.results.iter().filter(|result| result.status == PublishStatus::Refused).collect();
    let none = !refused.is_empty() && refused.len() == answer.results.len();
    // One reason is said once: in the error.
    if context.json || !none || refused.len() > 1 {
        context.print(&answer, || {
            let rows = answer.results.iter().map(|result| {
                let status = match result.status {
                    PublishStatus::Added => "added",
                    PublishStatus::Known => "known",
                    PublishStatus::Refused => "refused",
                };
                let place = result.position.clone().or_else(|| result.error.clone()).unwrap_or_default();
                vec![status.to_owned(), named.get(result.item).cloned().unwrap_or_default(), place]
            });
            table(&["STATUS", "STATEMENT", "POSITION"], &rows.collect::<Vec<_>>())
        })?;
    }
    if let Some(why) = &answer.unsettled {
        complain(format_args!("hashmesh: {why}"));
    }
    match refused.as_slice() {
        [] if answer.settled == Some(false) => Ok(Done::Part),
        [] => Ok(Done::Whole),
        [only] if none => bail!("nothing was published: {}", only.error.as_deref().unwrap_or("refused")),
        _ if none => bail!("nothing was published"),
        _ => Ok(Done::Part),
    }
}

/// What a statement is called in the table.
fn name(statement: &StatementForm) -> String {
    match statement {
        StatementForm::Add { hash, .. } | StatementForm::Dispute { hash, .. } => hash.clone(),
        StatementForm::Revoke { hash, position, .. } => {
            format!("revoke {}", hash.clone().or_else(|| position.clone()).unwrap_or_default())
        }
        StatementForm::Void { epoch, from } => format!("void {epoch}/{from}"),
        StatementForm::Erase { hash, position, .. } => {
            format!("erase {}", hash.clone().or_else(|| position.clone()).unwrap_or_default())
        }
    }
}
