//! Questions and answers: a long-lived stream each way between two peers, and one for witnesses (SPEC 13.4).
//!
//! Each node opens a stream for its own questions and reads the answers on it, in order; on the stream that the other opened
//! it answers. So no end ever writes without the other reading, and one round trip is paid once, not for every request.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, StreamExt as _};
use hashmesh_protocol::bundle;
use hashmesh_protocol::engine::Input;
use hashmesh_protocol::entries::LateOpening;
use hashmesh_protocol::key::PublicKey;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::serve::{self, Archive as _, WithoutOpenings};
use hashmesh_protocol::wire::{Answer, DOCUMENT_BYTES, Request, WireError};
use hashmesh_protocol::witnessing::{AddCheckpoint, WitnessAnswer};
use libp2p::{PeerId, StreamProtocol};
use libp2p_stream::{Control, IncomingStreams};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::pace::{Buckets, Pace};
use super::{Shared, frame, peer_id};
use crate::clock;
use crate::mailbox::Lane;
use crate::sentence::sentence;

/// Streams that are being served at a time; each may be reading a megabyte from the disk.
const SERVED: usize = 3;

/// The same for followers: what members need is not kept waiting by those who only read along.
const SERVED_FOLLOWERS: usize = 1;

/// Streams that a peer may have open for its questions: one, and a new one while the old is dying.
const STREAMS_A_PEER: usize = 2;

/// Questions that are answered to a peer, counted in questions and KiB of them. An honest node waits for answers, and tells
/// its heads once in a while; heads of 1,000 logs are 300 KiB. Reading a megabyte of heads takes 5 ms.
const PACE: Pace = Pace { burst: 2000.0, rate: 500.0 };

/// An answer, or the next part of one, must come within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Before a stream that broke is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// Asks one peer, for as long as it is connected.
pub(super) async fn ask(
    shared: Arc<Shared>,
    mut control: Control,
    key: PublicKey,
    protocol: StreamProtocol,
    mut questions: mpsc::Receiver<Request>,
) {
    let Some(peer) = peer_id(&key) else { return };
    loop {
        match control.open_stream(peer, protocol.clone()).await {
            Ok(stream) => {
                let asked = Mutex::new(VecDeque::new());
                let (reader, writer) = stream.split();
                let ended = tokio::select! {
                    ended = write_questions(&shared, writer, &mut questions, &asked) => ended,
                    ended = read_answers(&shared, key, reader, &asked) => ended,
                };
                let unanswered = asked.into_inner();
                for Asked { request, .. } in unanswered {
                    let failed = Input::Answered { peer: key, request, answer: None };
                    if shared.mailbox.send(Lane::Urgent, failed).await.is_err() {
                        return;
                    }
                }
                match ended {
                    Ok(()) => return,
                    Err(Broken::Io(error)) => tracing::debug!(%peer, %error, "the stream of questions broke"),
                    Err(Broken::Nonsense(why)) => return shared.shun(peer, &why),
                }
            }
            Err(error) => tracing::debug!(%peer, %error, "the stream of questions cannot be opened"),
        }
        sleep(PAUSE).await;
    }
}

/// A question whose answer is awaited.
struct Asked {
    request: Request,
    since: Instant,
}

/// Why a stream is no good any more.
enum Broken {
    Io(io::Error),
    Nonsense(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        // A frame over the cap is the one thing that is an I/O error here and no accident.
        if error.kind() == io::ErrorKind::InvalidData { Self::Nonsense(error.to_string()) } else { Self::Io(error) }
    }
}

async fn write_questions(
    shared: &Shared,
    mut writer: impl AsyncWrite + Unpin,
    questions: &mut mpsc::Receiver<Request>,
    asked: &Mutex<VecDeque<Asked>>,
) -> Result<(), Broken> {
    while let Some(request) = questions.recv().await {
        let bytes = request.encode(&shared.origins);
        asked.lock().push_back(Asked { request, since: Instant::now() });
        frame::write(&mut writer, &bytes).await?;
    }
    Ok(())
}

async fn read_answers(
    shared: &Arc<Shared>,
    key: PublicKey,
    mut reader: impl AsyncRead + Unpin,
    asked: &Mutex<VecDeque<Asked>>,
) -> Result<(), Broken> {
    let mut last_answer = Instant::now();
    loop {
        let bytes = {
            // One read until the frame is whole: dropping it in the middle would lose the place in the stream.
            let mut frame = pin!(frame::read(&mut reader));
            loop {
                match timeout(Duration::from_secs(1), &mut frame).await {
                    Ok(read) => break read?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?,
                    Err(_) => {
                        let since = asked.lock().front().map(|asked| asked.since.max(last_answer));
                        if since.is_some_and(|since| since.elapsed() > PATIENCE) {
                            return Err(Broken::Io(io::ErrorKind::TimedOut.into()));
                        }
                    }
                }
            }
        };
        last_answer = Instant::now();
        let Some(Asked { request, .. }) = asked.lock().pop_front() else {
            return Err(Broken::Nonsense("answered without having been asked".to_owned()));
        };
        let reading = Arc::clone(shared);
        // A megabyte of leaves takes milliseconds to read and hash: not here, where the sockets are served.
        let answer = spawn_blocking(move || Answer::decode(&bytes, &reading.origins)).await;
        let Ok(answer) = answer else { return Err(Broken::Nonsense("an answer that could not be read".to_owned())) };
        deliver(shared, key, request, answer).await?;
    }
}

async fn deliver(
    shared: &Arc<Shared>,
    key: PublicKey,
    request: Request,
    answer: Result<Answer, WireError>,
) -> Result<(), Broken> {
    let mut answer = match answer {
        Ok(answer) => Some(answer),
        Err(error) if error.is_from_the_future() => None,
        Err(error) => return Err(Broken::Nonsense(sentence(&error))),
    };
    if let (Request::Openings { log, indices }, Some(Answer::Openings { found, .. })) = (&request, &mut answer) {
        let found = std::mem::take(found);
        if found.iter().any(|(index, _)| !indices.contains(index)) {
            return Err(Broken::Nonsense("openings that were not asked for".to_owned()));
        }
        let (reading, log) = (Arc::clone(shared), *log);
        let checked = spawn_blocking(move || check_openings(&reading, log, found)).await;
        let Ok(checked) = checked else { return Err(Broken::Nonsense("openings that could not be read".to_owned())) };
        send(shared, Lane::Urgent, Input::Opened(checked)).await?;
    }
    let lane = if matches!(answer, Some(Answer::Range(_))) { Lane::Bulk } else { Lane::Urgent };
    send(shared, lane, Input::Answered { peer: key, request, answer }).await
}

async fn send(shared: &Shared, lane: Lane, input: Input) -> Result<(), Broken> {
    shared.mailbox.send(lane, input).await.map_err(|_| Broken::Io(io::ErrorKind::BrokenPipe.into()))
}

/// Those openings that open the leaves in the store. Others are no proof against the peer: where the author has signed two
/// histories, it may hold another leaf in that place (SPEC 5.4).
fn check_openings(shared: &Shared, log: LogId, found: Vec<(u64, Vec<u8>)>) -> Vec<LateOpening> {
    let check = |(index, opening): (u64, Vec<u8>)| {
        // A store that cannot be read is no fault of the peer's; the driver will find out.
        let stored = shared.archive.bundles(log, index, index.checked_add(1)?, usize::MAX).ok()?;
        let leaf = bundle::entries(&stored.leaves).next()?.ok()?;
        LateOpening::check(log, index, leaf, opening).ok()
    };
    found.into_iter().filter_map(check).collect()
}

/// Takes streams that peers open, and answers on them.
pub(super) async fn serve_all(shared: Arc<Shared>, mut incoming: IncomingStreams) {
    let serving = [SERVED, SERVED_FOLLOWERS].map(|count| Arc::new(Semaphore::new(count)));
    let mut open: HashMap<PeerId, Arc<AtomicUsize>> = HashMap::new();
    let buckets = Arc::new(Mutex::new(Buckets::new(PACE)));
    while let Some((peer, stream)) = incoming.next().await {
        let roster = shared.roster.load();
        let asks = match (roster.members.get(&peer), roster.followers.get(&peer)) {
            (Some((key, _)), _) => Asks::Peer(*key),
            (None, Some((_, follower))) => Asks::Follower { openings: follower.openings },
            (None, None) => continue,
        };
        drop(roster);
        let open = Arc::clone(open.entry(peer).or_default());
        if open.load(Ordering::Relaxed) == STREAMS_A_PEER {
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let serving = serving[usize::from(matches!(asks, Asks::Follower { .. }))].clone();
        let shared = shared.clone();
        let buckets = buckets.clone();
        let may_ask = move |length: usize| buckets.lock().take(peer, 1.0 + length as f64 / 1024.0, Instant::now());
        // Nothing is awaited here: a stream that finds nobody at the door is dropped.
        tokio::spawn(async move {
            if let Err(Broken::Nonsense(why)) = serve_one(&shared, &serving, asks, stream, may_ask).await {
                shared.shun(peer, &why);
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Who asks.
#[derive(Clone, Copy)]
enum Asks {
    /// A member's node.
    Peer(PublicKey),
    /// Somebody who reads along (SPEC 14.8).
    Follower {
        /// Whether it gets openings.
        openings: bool,
    },
}

async fn serve_one(
    shared: &Arc<Shared>,
    serving: &Arc<Semaphore>,
    asks: Asks,
    stream: libp2p::Stream,
    may_ask: impl Fn(usize) -> bool,
) -> Result<(), Broken> {
    let origins = &shared.origins;
    let (mut reader, mut writer) = stream.split();
    while let Some(bytes) = frame::read(&mut reader).await? {
        let answer = if may_ask(bytes.len()) {
            let reading = Arc::clone(shared);
            let request = spawn_blocking(move || Request::decode(&bytes, &reading.origins)).await;
            match request.map_err(|_| Broken::Nonsense("a question that could not be read".to_owned()))? {
                Ok(request) => answer(shared, serving, asks, request).await?,
                Err(error) if error.is_from_the_future() => Answer::NotHeld.encode(origins),
                Err(error) => return Err(Broken::Nonsense(sentence(&error))),
            }
        } else {
            Answer::Busy.encode(origins)
        };
        timeout(PATIENCE, frame::write(&mut writer, &answer)).await.map_err(io::Error::from)??;
    }
    Ok(())
}

async fn answer(
    shared: &Arc<Shared>,
    serving: &Arc<Semaphore>,
    asks: Asks,
    request: Request,
) -> Result<Vec<u8>, Broken> {
    let origins = &shared.origins;
    let request = match (asks, request) {
        (Asks::Peer(key), Request::Heads(heads)) => {
            let told = shared.mailbox.replace(key, Input::Told { from: key, heads });
            told.map_err(|_| Broken::Io(io::ErrorKind::BrokenPipe.into()))?;
            let member = shared.governance.federation().nodes().get(&key).copied();
            return Ok(Answer::Heads(shared.heads.load().told_to(member, clock::now())).encode(origins));
        }
        // What a follower says that it holds concerns nobody.
        (Asks::Follower { .. }, Request::Heads(_)) => {
            return Ok(Answer::Heads(shared.heads.load().told_to(None, clock::now())).encode(origins));
        }
        (Asks::Peer(key), Request::Cosign(log, request)) => {
            let answer = cosign(shared, key, log, request).await?;
            return Ok(answer.map_or(Answer::Busy, Answer::Witness).encode(origins));
        }
        (Asks::Follower { .. }, Request::Cosign(..))
        | (Asks::Follower { openings: false }, Request::Openings { .. }) => {
            return Ok(Answer::NotHeld.encode(origins));
        }
        (_, request) => request,
    };
    let closed = matches!(asks, Asks::Follower { openings: false });
    let Ok(_permit) = serving.acquire().await else { return Ok(Answer::Busy.encode(origins)) };
    let reading = Arc::clone(shared);
    let served = spawn_blocking(move || {
        let origins = &reading.origins;
        match request {
            Request::Range { log, from, to } if closed => {
                serve::range(&WithoutOpenings(&*reading.archive), origins, log, from, to)
            }
            Request::Range { log, from, to } => serve::range(&*reading.archive, origins, log, from, to),
            Request::Openings { log, indices } => serve::openings(&*reading.archive, origins, log, &indices),
            Request::Evidence(accused) => serve::evidence(&*reading.archive, origins, accused),
            Request::Documents(summary, after) => {
                let stored = reading.governance.load();
                Ok(Answer::Documents(stored.governance.missing_for(&summary, after, DOCUMENT_BYTES)).encode(origins))
            }
            Request::Heads(_) | Request::Cosign(..) => Ok(Answer::NotHeld.encode(origins)),
        }
    });
    match served.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            tracing::error!(error = sentence(&error), "what a peer asked for cannot be read from the store");
            Ok(Answer::NotHeld.encode(origins))
        }
        Err(_) => Ok(Answer::NotHeld.encode(origins)),
    }
}

/// Has the driver decide about a request for a cosignature; `None`: not now.
async fn cosign(
    shared: &Shared,
    from: PublicKey,
    log: LogId,
    request: Box<AddCheckpoint>,
) -> Result<Option<WitnessAnswer>, Broken> {
    let (tell, told) = oneshot::channel();
    let ticket = {
        let mut tickets = shared.tickets.lock();
        tickets.next += 1;
        let ticket = tickets.next;
        tickets.waiting.insert(ticket, tell);
        ticket
    };
    let sent = send(shared, Lane::Urgent, Input::AskedToCosign { ticket, from, log, request }).await;
    // The driver answers before that, unless it has ended.
    let answered = timeout(PATIENCE, told).await;
    shared.tickets.lock().waiting.remove(&ticket);
    sent?;
    Ok(answered.ok().and_then(Result::ok).flatten())
}
