//! Unix sockets: made so that nobody gets in before their permissions are right, and served with limits.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::response::Response;
use futures::FutureExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};
use tower::ServiceExt as _;

use super::patience::{Patience, Progress, Verdict, Watch, Watched};
use crate::decisions::Actor;
use crate::folder::{FolderError, at, make_folder};

/// How many connections a server has, and how long callers may take.
#[derive(Clone, Copy)]
struct Limits {
    places: usize,
    patience: Patience,
}

/// Services keep connections for minutes between their questions; whoever has begun to ask has its head ready. When all
/// places are taken, those go who have not asked anything for as long as a head may take.
const LIMITS: Limits =
    Limits { places: 1024, patience: Patience { head: Duration::from_secs(10), idle: Duration::from_secs(300) } };

/// Longest head, in bytes.
const HEAD_BYTES: usize = 64 * 1024;

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("{path} is in use: another node answers there")]
    InUse {
        /// Which socket.
        path: PathBuf,
    },
    /// Everybody may write into its folder.
    #[error(
        "{path} can be changed by everybody (mode {mode:03o}), so that somebody could put another socket there; run: chmod o-w {path}"
    )]
    OpenFolder {
        /// The folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file system.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Who may use a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Whoever the file's permissions let in: 0660, so the node's user and group.
    Query,
    /// The same, for whoever may have the whole list.
    Feed,
    /// The node's own user and root: 0600, and the peer's credentials are checked.
    Admin,
}

/// Makes a socket, with its permissions set before anybody can find it.
pub fn bind(path: &Path, role: Role) -> Result<StdListener, SocketError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder, 0o750)?;
    let mode = fs::metadata(folder).map_err(|error| at(folder, error))?.permissions().mode() & 0o777;
    if mode & 0o002 != 0 {
        return Err(SocketError::OpenFolder { path: folder.to_owned(), mode });
    }
    if path.exists() && StdStream::connect(path).is_ok() {
        return Err(SocketError::InUse { path: path.to_owned() });
    }
    let making = folder.join(format!(".{}", std::process::id()));
    make_folder(&making, 0o700)?;
    let hidden = making.join("socket");
    let made = (|| {
        let listener = StdListener::bind(&hidden)?;
        listener.set_nonblocking(true)?;
        let mode = if role == Role::Admin { 0o600 } else { 0o660 };
        fs::set_permissions(&hidden, Permissions::from_mode(mode))?;
        fs::rename(&hidden, path)?;
        fs::remove_dir(&making)?;
        Ok(listener)
    })();
    made.map_err(|error: io::Error| at(path, error).into())
}

/// What a socket answers with; can be exchanged while it is served.
pub type Routes = Arc<ArcSwap<Answers>>;

/// Answers what arrives.
pub type Answers = Box<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

/// An answer, or what will become one.
pub enum Answer {
    /// It is there.
    Now(Response),
    /// It comes.
    Later(Pin<Box<dyn Future<Output = Response> + Send>>),
}

impl Answer {
    /// What a router answers.
    pub fn routed(router: &Router, request: Request<Incoming>) -> Self {
        let answer = router.clone().oneshot(request);
        Self::Later(Box::pin(answer.map(|answer| answer.unwrap_or_else(|never| match never {}))))
    }
}

/// Everything is answered by a router.
pub fn routed(router: Router) -> Answers {
    Box::new(move |request| Answer::routed(&router, request))
}

/// Serves a socket until told to stop; several may serve one, and a connection stays with the one that took it. Returns once the requests that were under way have been answered.
pub async fn serve(listener: UnixListener, role: Role, routes: Routes, stop: watch::Receiver<bool>) {
    serve_within(listener, role, routes, stop, LIMITS).await;
}

async fn serve_within(
    listener: UnixListener,
    role: Role,
    routes: Routes,
    mut stop: watch::Receiver<bool>,
    limits: Limits,
) {
    let room = Arc::new(Semaphore::new(limits.places));
    loop {
        let next = async {
            // Whoever comes when all places are taken waits in the system's queue.
            let place = room.clone().acquire_owned().await.expect("the room is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            next = next => next,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to a socket could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(actor) = admit(&stream, role) else { continue };
        let routes = routes.clone();
        let (room, stop) = (room.clone(), stop.clone());
        tokio::spawn(async move {
            // Only what is said to the admin socket is written down.
            let actor = (role == Role::Admin).then_some(actor);
            converse(stream, actor, routes, limits.patience, || room.available_permits() == 0, stop).await;
            drop(place);
        });
    }
    // Nobody new gets in; when all places are free, everybody is gone.
    drop(listener);
    let all = u32::try_from(limits.places).expect("a few thousand");
    let _everybody_is_gone = room.acquire_many(all).await;
}

/// Answers what is asked on one connection, for as long as the caller keeps it and takes no longer than it may.
async fn converse(
    stream: UnixStream,
    actor: Option<Actor>,
    routes: Routes,
    patience: Patience,
    crowded: impl Fn() -> bool,
    mut stop: watch::Receiver<bool>,
) {
    let progress = Arc::new(Progress::default());
    let service = service_fn(|mut request: Request<Incoming>| {
        progress.asked();
        if let Some(actor) = actor {
            request.extensions_mut().insert(actor);
        }
        let (answer, progress) = ((routes.load())(request), progress.clone());
        async move {
            let answer = match answer {
                Answer::Now(answer) => answer,
                Answer::Later(answer) => answer.await,
            };
            progress.answered();
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(Watched { stream, progress: progress.clone() }), service);
    let mut connection = std::pin::pin!(connection);
    let mut watch = Watch::new(patience);
    let mut ticks = interval(patience.head / 10);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ending = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended badly");
                }
                return;
            }
            _ = stop.wait_for(|stop| *stop), if !ending => {
                connection.as_mut().graceful_shutdown();
                ending = true;
            }
            _ = ticks.tick() => match watch.verdict(&progress, crowded()) {
                Verdict::Finish if !ending => {
                    connection.as_mut().graceful_shutdown();
                    ending = true;
                }
                Verdict::CutOff => return tracing::debug!("a caller took too long and was cut off"),
                Verdict::Finish | Verdict::GoOn => {}
            }
        }
    }
}

/// Who is at the other end, if they may be.
fn admit(stream: &UnixStream, role: Role) -> Option<Actor> {
    let credentials = stream.peer_cred().ok()?;
    let actor = Actor { uid: credentials.uid(), pid: credentials.pid().unwrap_or(0) };
    let own = rustix::process::geteuid().as_raw();
    if role == Role::Admin && actor.uid != own && actor.uid != 0 {
        tracing::warn!(uid = actor.uid, "somebody else's process was turned away from the admin socket");
        return None;
    }
    Some(actor)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    use super::*;
    use crate::client::Client;

    /// Replies to publications that had been signed were lost when the node was told to stop: it did not wait for them.
    #[tokio::test]
    async fn requests_under_way_are_answered_before_a_socket_stops() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/query.sock");
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let router = {
            let (begun, go_on) = (begun.clone(), go_on.clone());
            let slow = async move || {
                begun.notify_one();
                go_on.notified().await;
                "done"
            };
            Arc::new(ArcSwap::from_pointee(routed(Router::new().route("/slow", get(slow)))))
        };
        let (stop, stopping) = watch::channel(false);
        let listener = UnixListener::from_std(bind(&path, Role::Query).unwrap()).unwrap();
        let mut server = tokio::spawn(serve(listener, Role::Query, router, stopping));
        let mut idle = UnixStream::connect(&path).await.unwrap();
        let mut client = Client::connect(&path).await.unwrap();
        let answer = tokio::spawn(async move { client.text("/slow").await });
        begun.notified().await;

        stop.send(true).unwrap();
        let closed = tokio::select! {
            biased;
            _ = &mut server => panic!("a request was under way"),
            read = idle.read_u8() => read,
        };
        assert!(closed.is_err(), "idle connections are closed at once");
        assert!(!server.is_finished());
        go_on.notify_one();
        assert_eq!(answer.await.unwrap().unwrap(), "done");
        server.await.unwrap();
    }

    /// A socket that answers "done" to everybody, until the sender is dropped.
    fn quick(path: &Path, places: usize, head: Duration, idle: Duration) -> watch::Sender<bool> {
        let (stop, stopping) = watch::channel(false);
        let router = Arc::new(ArcSwap::from_pointee(routed(Router::new().route("/", get(async || "done")))));
        let limits = Limits { places, patience: Patience { head, idle } };
        let listener = UnixListener::from_std(bind(path, Role::Query).unwrap()).unwrap();
        tokio::spawn(serve_within(listener, Role::Query, router, stopping, limits));
        stop
    }

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(3600);

    async fn is_closed(stream: &mut UnixStream) -> bool {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.is_err() || rest.is_empty()
    }

    /// Connections that were kept for the next question were closed after the ten seconds that a head may take, and clients
    /// that had paused found them broken.
    #[tokio::test]
    async fn a_pause_between_questions_is_not_a_head_that_stalls() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/query.sock");
        let _running = quick(&path, 8, SHORT, LONG);
        let mut pausing = Client::connect(&path).await.unwrap();
        assert_eq!(pausing.text("/").await.unwrap(), "done");
        let mut stalled = UnixStream::connect(&path).await.unwrap();
        stalled.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        assert!(is_closed(&mut stalled).await);
        // The other has asked nothing for longer than that.
        assert_eq!(pausing.text("/").await.unwrap(), "done");
    }

    #[tokio::test]
    async fn an_idle_connection_ends_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/query.sock");
        let _running = quick(&path, 8, SHORT, SHORT);
        let mut silent = UnixStream::connect(&path).await.unwrap();
        assert!(is_closed(&mut silent).await);
    }

    #[tokio::test]
    async fn an_idle_connection_gives_way_to_who_waits_for_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/query.sock");
        let _running = quick(&path, 1, SHORT, LONG);
        let mut idle = UnixStream::connect(&path).await.unwrap();
        let mut waiting = Client::connect(&path).await.unwrap();
        assert_eq!(waiting.text("/").await.unwrap(), "done");
        assert!(is_closed(&mut idle).await);
    }
}
