//! Unix sockets: made so that nobody gets in before their permissions are right, and served with limits.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

use crate::decisions::Actor;
use crate::folder::{FolderError, at, make_folder};

/// Connections to one socket at a time.
const CONNECTIONS: usize = 1024;

/// How long a request's head may take to arrive.
const HEAD: Duration = Duration::from_secs(10);

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
pub fn bind(path: &Path, role: Role) -> Result<UnixListener, SocketError> {
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
        let listener = UnixListener::bind(&hidden)?;
        let mode = if role == Role::Admin { 0o600 } else { 0o660 };
        fs::set_permissions(&hidden, Permissions::from_mode(mode))?;
        fs::rename(&hidden, path)?;
        fs::remove_dir(&making)?;
        Ok(listener)
    })();
    made.map_err(|error: io::Error| at(path, error).into())
}

/// What a socket answers with; can be exchanged while it is served.
pub type Routes = Arc<ArcSwap<Router>>;

/// Serves a socket until told to stop, and then until the requests under way are finished.
pub async fn serve(listener: UnixListener, role: Role, routes: Routes, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Whoever comes when all places are taken waits in the system's queue.
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
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
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(actor);
            Router::clone(&routes.load()).oneshot(request)
        });
        let mut stop = stop.clone();
        tokio::spawn(async move {
            let _place = place;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended badly");
                    }
                    return;
                }
                _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
            }
            drop(connection.await);
        });
    }
    let _all_gone = room.acquire_many(CONNECTIONS as u32).await;
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
