//! Importing lists: streamed from the file to the node, a few thousand hashes at a time.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use hashmesh_protocol::content_hash::HashKind;
use hashmesh_protocol::entries::MAX_LEAVES;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::publish::About;
use super::{Context, Done, complain, write_out};
use crate::api::form::{ImportRequest, PublishAnswer, PublishStatus, StatementForm, StatementsRequest, StatusAnswer};
use crate::client::{Client, ClientError};
use crate::folder::Folder;
use crate::import::{Row, read};

/// Hashes in one request: a batch of the largest size.
const AT_ONCE: usize = MAX_LEAVES;

/// Requests under way: one is being signed while the next is on its way and a third is read.
const UNDER_WAY: usize = 3;

/// How long a request is repeated that came at a bad moment. A node that has just started signs within seconds, once it has
/// heard the others; one that is alone does not, however long it is asked.
const PATIENCE: Duration = Duration::from_secs(90);

/// Put a whole list of hashes on the list.
///
/// Reads KIND:HEX or KIND HEX lines, bare values with --kind, the output of md5sum, sha1sum and sha256sum, and CSV with a
/// header. Lines that are none of these are reported with their numbers, and the rest is imported. Importing the same file
/// again adds nothing.
#[derive(Args, Debug)]
pub(super) struct Import {
    /// The list; - for standard input.
    file: PathBuf,
    /// The kind of values that do not say theirs.
    #[arg(long)]
    kind: Option<HashKind>,
    #[command(flatten)]
    about: About,
}

/// A piece of the list.
#[derive(Default)]
struct Piece {
    rows: Vec<(u64, Row)>,
    bad: Vec<(u64, String)>,
    /// Bytes read so far.
    read: u64,
}

/// A piece that was answered: its line numbers, and the answer.
type Landed = anyhow::Result<(Vec<u64>, PublishAnswer)>;

/// What became of the list.
#[derive(Debug, Default, Serialize)]
struct Totals {
    lines: u64,
    added: u64,
    known: u64,
    refused: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lines, added, known, refused } = self;
        let unit = if *lines == 1 { "line" } else { "lines" };
        write!(f, "{lines} {unit}: {added} added, {known} known before, {refused} refused")
    }
}

impl Import {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        // An empty piece first: a node that does not answer, or a label that does not exist, should not cost a minute.
        let (_, nothing) = self.request(Vec::new());
        send(context.folder.clone(), ProgressBar::hidden(), (Vec::new(), nothing)).await?;
        let mut client = Client::admin(&context.folder).await?;
        if let Some(why) = client.get::<StatusAnswer>("/v1/status").await?.silent {
            complain(format_args!("hashmesh: nothing is signed yet: {why}"));
        }
        let (list, size) = open(&self.file)?;
        let bar = progress(size);
        let mut totals = Totals::default();
        let done = self.stream(context, list, &bar, &mut totals).await;
        bar.finish_and_clear();
        done.with_context(|| format!("{totals}; importing the same list again goes on from there"))?;
        // As JSON a line, like those of the refused lines before it.
        write_out(&if context.json { serde_json::to_string(&totals)? + "\n" } else { format!("{totals}\n") })?;
        Ok(if totals.refused == 0 { Done::Whole } else { Done::Part })
    }

    /// Sends the list, piece by piece.
    async fn stream(
        &self,
        context: &Context,
        list: Box<dyn BufRead + Send>,
        bar: &ProgressBar,
        totals: &mut Totals,
    ) -> anyhow::Result<()> {
        let (pieces, mut arriving) = mpsc::channel(2);
        let kind = self.kind;
        let reading = thread::spawn(move || read_pieces(list, kind, &pieces));
        let mut under_way: JoinSet<Landed> = JoinSet::new();
        let mut ended = Ok(());
        while let Some(piece) = arriving.recv().await {
            ended = self.next(context, bar, piece, &mut under_way, totals).await;
            if ended.is_err() {
                break;
            }
        }
        // Whatever went wrong, what is under way may still be published, and counts.
        while let Some(landed) = under_way.join_next().await {
            ended = ended.and(self.landed(context, bar, Some(landed), totals));
        }
        if ended.is_ok() {
            let read = reading.join().map_err(|_| anyhow!("reading the list failed"))?;
            ended = read.with_context(|| self.file.display().to_string());
        }
        ended
    }

    /// Sends a piece, once there is room for it.
    async fn next(
        &self,
        context: &Context,
        bar: &ProgressBar,
        piece: Piece,
        under_way: &mut JoinSet<Landed>,
        totals: &mut Totals,
    ) -> anyhow::Result<()> {
        for (line, error) in piece.bad {
            self.report(context, bar, line, &error, totals)?;
        }
        if under_way.len() == UNDER_WAY {
            self.landed(context, bar, under_way.join_next().await, totals)?;
        }
        if !piece.rows.is_empty() {
            under_way.spawn(send(context.folder.clone(), bar.clone(), self.request(piece.rows)));
        }
        bar.set_position(piece.read);
        Ok(())
    }

    /// What is sent for some rows, and their line numbers.
    fn request(&self, rows: Vec<(u64, Row)>) -> (Vec<u64>, Body) {
        let numbers = rows.iter().map(|(number, _)| *number).collect();
        let plain = |row: &Row| row.media.is_none() && row.quality.is_none() && row.labels.is_empty();
        if rows.iter().all(|(_, row)| plain(row)) {
            let import = ImportRequest {
                hashes: rows.iter().map(|(_, row)| row.hash.to_string()).collect(),
                labels: self.about.labels.clone(),
                media: self.about.media,
                expiry: self.about.expiry.clone(),
                incident: self.about.incident,
                note: self.about.note.clone(),
            };
            return (numbers, Body::Import(import));
        }
        let statement = |(_, row): (u64, Row)| StatementForm::Add {
            hash: row.hash.to_string(),
            labels: if row.labels.is_empty() { self.about.labels.clone() } else { row.labels },
            media: row.media.or(self.about.media),
            quality: row.quality,
            expiry: self.about.expiry.clone(),
            incident: self.about.incident,
            note: self.about.note.clone(),
        };
        let statements = rows.into_iter().map(statement).collect();
        (numbers, Body::Statements(StatementsRequest { statements, wait: None }))
    }

    fn landed(
        &self,
        context: &Context,
        bar: &ProgressBar,
        landed: Option<Result<Landed, JoinError>>,
        totals: &mut Totals,
    ) -> anyhow::Result<()> {
        let Some(landed) = landed else { return Ok(()) };
        let (numbers, answer) = landed??;
        totals.lines += numbers.len() as u64;
        totals.added += answer.added;
        totals.known += answer.known;
        for result in answer.results.iter().filter(|result| result.status == PublishStatus::Refused) {
            let line = numbers.get(result.item).copied().unwrap_or_default();
            totals.lines -= 1;
            self.report(context, bar, line, result.error.as_deref().unwrap_or("refused"), totals)?;
        }
        Ok(())
    }

    /// Tells of a line that was not imported.
    fn report(
        &self,
        context: &Context,
        bar: &ProgressBar,
        line: u64,
        error: &str,
        totals: &mut Totals,
    ) -> anyhow::Result<()> {
        totals.lines += 1;
        totals.refused += 1;
        if context.json {
            let text = serde_json::to_string(&json!({ "line": line, "error": error }))?;
            return bar.suspend(|| write_out(&(text + "\n")));
        }
        bar.suspend(|| complain(format_args!("line {line}: {error}")));
        Ok(())
    }
}

/// What is sent to the node.
enum Body {
    Import(ImportRequest),
    Statements(StatementsRequest),
}

/// Sends a piece; repeats it if the node cannot take it now, and says why it waits.
async fn send(folder: Folder, bar: ProgressBar, (numbers, body): (Vec<u64>, Body)) -> Landed {
    let mut client = Client::admin(&folder).await?;
    let begun = Instant::now();
    let mut told = String::new();
    loop {
        let sent = match &body {
            Body::Import(request) => client.post("/v1/import", request).await,
            Body::Statements(request) => client.post("/v1/statements", request).await,
        };
        match sent {
            Err(ClientError::Later(why)) if begun.elapsed() > PATIENCE => bail!("gave up waiting: {why}"),
            Err(ClientError::Later(why)) => {
                if why != told {
                    bar.suspend(|| complain(format_args!("hashmesh: waiting: {why}")));
                    told = why;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            sent => return Ok((numbers, sent?)),
        }
    }
}

fn open(path: &Path) -> anyhow::Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|data| data.len());
    Ok((Box::new(BufReader::with_capacity(1 << 20, file)), size))
}

fn progress(size: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{bar:40} {bytes}/{total_bytes} {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Reads the list and hands it on in pieces.
fn read_pieces(list: Box<dyn BufRead + Send>, kind: Option<HashKind>, pieces: &mpsc::Sender<Piece>) -> io::Result<()> {
    let count = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let list = BufReader::with_capacity(1 << 20, Counted { list, count: count.clone() });
    let mut piece = Piece::default();
    let gone = || io::Error::other("the import has ended");
    read(list, kind, |(number, row)| {
        match row {
            Ok(row) => piece.rows.push((number, row)),
            Err(error) => piece.bad.push((number, error.to_string())),
        }
        if piece.rows.len() == AT_ONCE || piece.bad.len() == AT_ONCE {
            let mut whole = std::mem::take(&mut piece);
            whole.read = count.load(std::sync::atomic::Ordering::Relaxed);
            pieces.blocking_send(whole).map_err(|_| gone())?;
        }
        Ok(())
    })?;
    piece.read = count.load(std::sync::atomic::Ordering::Relaxed);
    pieces.blocking_send(piece).map_err(|_| gone())
}

/// Counts what is read.
struct Counted {
    list: Box<dyn BufRead + Send>,
    count: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl io::Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.list.read(buffer)?;
        self.count.fetch_add(read as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(read)
    }
}
