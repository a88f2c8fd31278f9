//! Asking: match, hash.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use hashmesh_protocol::content_hash::{ContentHash, HashKind};
use hashmesh_protocol::policy::{Decision, MAX_DISTANCE};
use serde::Serialize;
use serde_json::{Value, json};

use super::table::table;
use super::{Context, Done, complain};
use crate::api::form::{Claim, MatchAnswer, MatchRequest, MatchResult};
use crate::client::Client;
use crate::images::{Turn, hash_file};
use crate::import::read;
use crate::sentence::sentence;

/// Hashes in one request.
const AT_ONCE: usize = 10_000;

/// Ask what is known about hashes or pictures.
#[derive(Args, Debug)]
pub(super) struct Match {
    /// As in pdq:f8f8… or sha256:e3b0…
    #[arg(required_unless_present_any = ["image", "file"], value_name = "KIND:HEX")]
    hashes: Vec<ContentHash>,
    /// Hash these files and ask about all their hashes.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    image: Vec<PathBuf>,
    /// Ask about the pictures also as if they were turned or mirrored.
    #[arg(long, requires = "image")]
    rotations: bool,
    /// Ask about every hash of this list, in any form that import reads.
    #[arg(long, value_name = "LIST")]
    file: Option<PathBuf>,
    /// The kind of values in the list that do not say theirs.
    #[arg(long)]
    kind: Option<HashKind>,
    /// How many bits of a PDQ hash may differ.
    #[arg(long, value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_DISTANCE)))]
    max_distance: Option<u32>,
    /// End with 10 if anything is to be reviewed, with 20 if anything is to be blocked.
    #[arg(long)]
    exit_code: bool,
}

impl Match {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let mut asked: Vec<Asked> = self.hashes.iter().map(|hash| Asked::about(*hash, String::new())).collect();
        let mut no_pdq = BTreeMap::new();
        for file in &self.image {
            let found = hash_file(file)?;
            let name = file.display().to_string();
            if let Err(why) = &found.pdq {
                complain(format_args!("hashmesh: {name}: no PDQ hash: {why}"));
                no_pdq.insert(name.clone(), why.to_string());
            }
            let turned = found.pdq.iter().filter(|_| self.rotations).flat_map(|pdq| pdq.turned().skip(1));
            asked.extend(found.all().map(|(hash, _)| Asked::about(hash, name.clone())));
            asked.extend(turned.map(|(turn, hash)| Asked { hash, source: name.clone(), turn }));
        }
        let mut bad = 0;
        if let Some(path) = &self.file {
            let list = BufReader::new(File::open(path).with_context(|| path.display().to_string())?);
            read(list, self.kind, |(number, row)| {
                match row {
                    Ok(row) => asked.push(Asked::about(row.hash, format!("line {number}"))),
                    Err(error) => {
                        bad += 1;
                        complain(format_args!("line {number}: {error}"));
                    }
                }
                Ok(())
            })?;
        }
        let mut client = Client::query(&context.folder).await?;
        let mut results = Vec::new();
        let mut basis = None;
        for piece in asked.chunks(AT_ONCE) {
            let hashes = piece.iter().map(|asked| asked.hash.to_string()).collect();
            let request = MatchRequest { hashes, max_distance: self.max_distance, explain: true };
            let answer: MatchAnswer = client.post("/v1/match", &request).await?;
            results.extend(answer.results.unwrap_or_default());
            basis = Some(answer.basis);
        }
        let worst = results.iter().map(|result| result.decision).max().unwrap_or_default();
        let forms: Vec<ResultForm<'_>> =
            results.iter().zip(&asked).map(|(result, asked)| asked.form(result, self.rotations)).collect();
        context.print(&json!({ "results": forms, "basis": basis, "no_pdq": no_pdq }), || {
            let mut text = show(results.iter().zip(&asked));
            if basis.is_some_and(|basis| basis.isolated) {
                text.push_str("This node has not heard from most members lately: newer statements may be missing.\n");
            }
            text
        })?;
        match worst {
            Decision::Block if self.exit_code => Ok(Done::Code(20)),
            Decision::Review if self.exit_code => Ok(Done::Code(10)),
            _ if bad > 0 => Ok(Done::Part),
            _ => Ok(Done::Whole),
        }
    }
}

/// A hash to ask about, and where it is from.
struct Asked {
    hash: ContentHash,
    /// A file, a line of a list, or nothing.
    source: String,
    turn: Turn,
}

/// A result that says what it is about.
#[derive(Serialize)]
struct ResultForm<'a> {
    #[serde(flatten)]
    result: &'a MatchResult,
    #[serde(skip_serializing_if = "str::is_empty")]
    of: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation: Option<&'static str>,
}

impl Asked {
    fn about(hash: ContentHash, source: String) -> Self {
        Self { hash, source, turn: Turn::Original }
    }

    fn form<'a>(&'a self, result: &'a MatchResult, rotations: bool) -> ResultForm<'a> {
        let turned = rotations && self.hash.kind() == HashKind::Pdq && !self.source.is_empty();
        ResultForm { result, of: &self.source, rotation: turned.then(|| self.turn.name()) }
    }
}

pub(super) fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::None => "none",
        Decision::Review => "review",
        Decision::Block => "block",
    }
}

/// A table with all that was asked about; of turned pictures, only those that match.
fn show<'a>(results: impl Iterator<Item = (&'a MatchResult, &'a Asked)>) -> String {
    let mut rows = Vec::new();
    for (result, asked) in results {
        let mut source = asked.source.clone();
        if asked.turn != Turn::Original {
            source.push_str(&format!(" ({})", asked.turn.name()));
        }
        if result.matches.is_empty() && asked.turn == Turn::Original {
            rows.push(row([word(result.decision), &result.hash, "", "", "", &source]));
        }
        for (place, found) in result.matches.iter().enumerate() {
            let asked = if place == 0 { result.hash.as_str() } else { "" };
            let distance =
                if found.hash == result.hash { "same".to_owned() } else { format!("{} bits", found.distance) };
            let mut rule = found.rule.clone().unwrap_or_default();
            for lowered in &found.lowered {
                rule.push_str(&format!(
                    " ({})",
                    serde_json::to_value(lowered).unwrap_or_default().as_str().unwrap_or_default()
                ));
            }
            let mut who = names("", &found.adds);
            who.push_str(&names("against: ", &found.disputes));
            rows.push(row([word(found.decision), asked, &distance, rule.trim(), who.trim(), &source]));
        }
    }
    table(&["DECISION", "HASH", "DISTANCE", "RULE", "WHO", "OF"], &rows)
}

fn row(cells: [&str; 6]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn names(before: &str, claims: &[Claim]) -> String {
    if claims.is_empty() {
        return String::new();
    }
    let name = |claim: &Claim| {
        let why = if claim.without_effect { "without effect".to_owned() } else { claim.labels.join("+") };
        let why = claim.reason.map_or(why, |reason| reason.to_string());
        format!("{} ({why})", claim.member)
    };
    format!(" {before}{}", claims.iter().map(name).collect::<Vec<_>>().join(", "))
}

/// Hash files: MD5, SHA-1 and SHA-256 of any, PDQ of pictures (JPEG, PNG, GIF, WebP, BMP, TIFF; of the first frame or page).
#[derive(Args, Debug)]
pub(super) struct Hash {
    /// Which.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Also the PDQ hashes of the pictures turned and mirrored.
    #[arg(long)]
    rotations: bool,
}

impl Hash {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        let (mut forms, mut text, mut failed) = (Vec::new(), String::new(), Vec::new());
        for file in &self.files {
            let hashes = match hash_file(file) {
                Ok(hashes) => hashes,
                Err(error) => {
                    let error = sentence(&error);
                    complain(format_args!("hashmesh: {error}"));
                    failed.push(error);
                    continue;
                }
            };
            let all: Vec<String> = hashes.all().map(|(hash, _)| hash.to_string()).collect();
            let quality = hashes.pdq.as_ref().ok().map(|pdq| pdq.quality);
            let no_pdq = hashes.pdq.as_ref().err().map(ToString::to_string);
            let turned: Vec<(Turn, String)> = (hashes.pdq.iter())
                .filter(|_| self.rotations)
                .flat_map(|pdq| pdq.turned().map(|(turn, hash)| (turn, hash.to_string())))
                .collect();
            for hash in &all {
                text.push_str(&format!("{hash}  {}\n", file.display()));
            }
            for (turn, hash) in turned.iter().skip(1) {
                text.push_str(&format!("{hash}  {} ({})\n", file.display(), turn.name()));
            }
            if let Some(why) = &no_pdq
                && !context.json
            {
                complain(format_args!("hashmesh: {}: no PDQ hash: {why}", file.display()));
            }
            let mut form = json!({ "file": file, "hashes": all, "quality": quality, "no_pdq": no_pdq });
            if self.rotations && no_pdq.is_none() {
                form["rotations"] = turned.into_iter().map(|(turn, hash)| (turn.name(), hash)).collect::<Value>();
            }
            forms.push(form);
        }
        if forms.is_empty() {
            bail!("no file could be read");
        }
        context.print(&forms, || text)?;
        Ok(if failed.is_empty() { Done::Whole } else { Done::Part })
    }
}
