//! `hashmesh run`: everything put together, and taken apart again in order.
//!
//! The only place where channels are made and tasks are started.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use hashmesh_protocol::catalog::{Catalog, Curator};
use hashmesh_protocol::checkpoint::SignedCheckpoint;
use hashmesh_protocol::engine::{Engine, Start};
use hashmesh_protocol::evidence::Evidence;
use hashmesh_protocol::federation::{Federation, Standing};
use hashmesh_protocol::governance::Stored;
use hashmesh_protocol::key::SecretKey;
use hashmesh_protocol::ledger::{Ledger, Mark};
use hashmesh_protocol::names::{LogId, MemberId};
use hashmesh_protocol::policy::{Policy, PolicyError};
use hashmesh_protocol::serve::Archive as _;
use parking_lot::Mutex;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::socket::{Role, Routes, SocketError, bind, routed, serve};
use crate::api::{Metrics, NetView, Progress, Remembered, View};
use crate::api::{admin_router, feed_router, query_answers, starting_router};
use crate::config::{Config, ConfigError};
use crate::decisions::{Decisions, DecisionsError};
use crate::documents::DocumentsError;
use crate::driver::{Announcer, Callers, Driver, DriverError, Shared, Submitters};
use crate::feed::{Feed, Judge};
use crate::folder::{Folder, FolderError, MAX_POLICY, at, read_text};
use crate::forgotten::{Forgotten, ForgottenError};
use crate::governance::{Current, GovernanceFile, InFolderError, in_folder};
use crate::index::Matcher;
use crate::keys::{self, KeysError, NodeKeys};
use crate::mailbox::Mailbox;
use crate::net::{Net, NetError, Setup};
use crate::pages::want_huge;
use crate::pen::Pen;
use crate::quarantine::{Pace, Quarantine};
use crate::sentence::sentence;
use crate::signer::{Signer, SignerError};
use crate::store::{DiskStore, HeadsFile, StoreError, load, unless_damaged};
use crate::{clock, keys::random};

/// How long connections may take to finish once the node is told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is the error of the part it names")]
pub enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Signer(#[from] SignerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Decisions(#[from] DecisionsError),
    #[error(transparent)]
    Forgotten(#[from] ForgottenError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error(transparent)]
    Governance(#[from] InFolderError),
    #[error("the system gives no threads: {0}")]
    Threads(std::io::Error),
    #[error("{path}")]
    Documents {
        path: PathBuf,
        #[source]
        error: DocumentsError,
    },
    #[error("{path}")]
    Policy {
        path: PathBuf,
        #[source]
        error: PolicyError,
    },
    #[error("the {0} key in this folder is not the one on the member's card; was the folder mixed up with another?")]
    OtherKey(&'static str),
    #[error(
        "the node key of this follower is on a member's card: a member's node must say in config.toml whose it is (member)"
    )]
    MembersKey,
}

/// A node that has been loaded and not started.
struct Prepared {
    folder: Folder,
    config: Config,
    node: SecretKey,
    governance: Stored,
    policy: Policy,
    pen: Option<Pen>,
    decisions: Decisions,
    quarantine: Arc<Quarantine>,
    forgotten: Arc<Forgotten>,
}

/// Runs a node until it is told to stop. `ready` is called once queries are answered.
pub async fn run(folder: Folder, ready: impl FnOnce()) -> Result<(), RunError> {
    let prepared = prepare(folder)?;
    let started = Instant::now();
    // The sockets are taken before anything else is done: a second node must not get that far.
    let sockets = Sockets::open(&prepared.folder, prepared.config.feed)?;
    let (prepared, loaded) = load_off_thread(prepared, sockets.progress.clone()).await;
    let Loaded { store, ledger, curator, evidence } = loaded?;
    let Prepared { folder, config, node, governance, policy, pen, decisions, quarantine, forgotten } = prepared;
    let federation = governance.governance.federation();
    let signer = pen.as_ref().map(|pen| &pen.signer);
    let catalog = curator.catalog().clone();
    let heads = HeadsFile::new(folder.heads());
    for shrunk in heads.compare(&ledger, &federation) {
        tracing::error!(
            log = %shrunk.log, have = shrunk.have, had = shrunk.had,
            "the store has lost statements; they are fetched from peers again"
        );
    }
    if signer.is_some_and(|signer| signer.restored().witness) {
        tracing::warn!(
            "restored from a backup: what was cosigned since is not known, so nothing is cosigned; hashmesh signer --help"
        );
    }
    let known = |(origin, mark): (&str, Mark)| Some((federation.origins().log(origin)?, mark));
    let start = Start {
        governance: governance.clone(),
        member: config.member,
        keys: pen.as_ref().map(Pen::known).unwrap_or_default(),
        ledger,
        catalog: catalog.clone(),
        signed: signer.map(|signer| signer.all_signed().filter_map(known).collect()).unwrap_or_default(),
        cosigned: signer.map(|signer| signer.all_cosigned().filter_map(known).collect()).unwrap_or_default(),
        restored: signer.map(Signer::restored).unwrap_or_default(),
        evidence,
    };
    let engine = Engine::new(start);
    let shared = Arc::new(Shared {
        status: ArcSwap::from_pointee(engine.status()),
        governance: Arc::new(Current::new(governance)),
        heads: Arc::new(ArcSwap::from_pointee(engine.heads())),
        alarms: Mutex::default(),
        stopped: ArcSwapOption::default(),
    });
    let mailbox = Arc::new(Mailbox::default());
    let callers = Arc::new(Callers::default());
    let submitters = Arc::new(Submitters::default());
    let remembered = Remembered::new(config.remember_queries);
    let feed = config.feed.then(Feed::new).transpose()?;
    let member = config.member;
    let announced = config.announce.clone();
    let net = Net::start(Setup {
        governance: shared.governance.clone(),
        node: node.clone(),
        config,
        mailbox: mailbox.clone(),
        submitters: submitters.clone(),
        archive: store.archive().clone(),
        heads: shared.heads.clone(),
    });
    let net = Arc::new(net.await?);
    let places = announced.unwrap_or_else(|| net.places());
    let announcer = member.map(|_| Announcer { node, places });
    let matcher = Arc::new(Matcher::new(catalog.clone()));
    let policy = Arc::new(ArcSwap::from_pointee(policy));
    let view = Arc::new(View {
        member,
        matcher: matcher.clone(),
        policy: policy.clone(),
        quarantine: quarantine.clone(),
        forgotten,
        remembered,
        feed: feed.clone(),
        folder: folder.clone(),
        shared: shared.clone(),
        callers: callers.clone(),
        submitters: submitters.clone(),
        mailbox: mailbox.clone(),
        archive: store.archive().clone(),
        decisions,
        metrics: Metrics::default(),
        started,
        net: net_view(&net),
    });
    let driver = Driver {
        engine,
        curator,
        store,
        pen,
        folder: folder.clone(),
        governance: GovernanceFile::new(folder.governance()),
        announcer,
        heads,
        net,
        mailbox: mailbox.clone(),
        callers,
        submitters,
        shared: shared.clone(),
        matcher: matcher.clone(),
        pace: Pace::default(),
        policy: policy.clone(),
        quarantine: quarantine.clone(),
        feed: feed.clone(),
    };
    sockets.answer(view);
    let driver = driver.spawn();
    if let Some(feed) = feed.clone() {
        Judge { feed, catalog, governance: shared.governance.clone(), policy, quarantine }.spawn();
    }
    let driver = tokio::task::spawn_blocking(move || driver.join().expect("the driver does not panic"));
    tracing::info!("answering queries about exact hashes");
    let indexed = tokio::task::spawn_blocking(move || matcher.build_near()).await;
    indexed.expect("building does not panic")?;
    tracing::info!(ms = started.elapsed().as_millis(), "answering queries");
    ready();
    let ended = until_told(driver, &shared).await;
    mailbox.close();
    let failed = match ended {
        Ended::Told(driver) => driver.await.expect("the driver does not panic").err(),
        Ended::Failed(error) => Some(error),
    };
    if let Some(feed) = feed {
        feed.close();
    }
    sockets.close().await;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// The sockets, served from the start on threads of their own, those for queries apart from the others: neither an import nor
/// a peer can keep a query waiting.
struct Sockets {
    folder: Folder,
    /// Kept for as long as the sockets are served.
    _threads: [Threads; 2],
    progress: Progress,
    query: Routes,
    admin: Routes,
    feed: Option<Routes>,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
}

impl Sockets {
    /// Takes the sockets. Until [`answer`](Self::answer) they say that the node is loading.
    fn open(folder: &Folder, feed: bool) -> Result<Self, RunError> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let queries = Threads::start("query", cores).map_err(RunError::Threads)?;
        let others = Threads::start("admin", 1).map_err(RunError::Threads)?;
        let progress = Progress::default();
        let starting = || Arc::new(ArcSwap::from_pointee(routed(starting_router(progress.clone()))));
        let (query, admin) = (starting(), starting());
        let (stop, stopping) = watch::channel(false);
        let mut servers = Vec::new();
        let mut serve = |threads: &Threads, path: PathBuf, role: Role, routes: &Routes| {
            let listener = bind(&path, role)?;
            for thread in &threads.handles {
                let _within = thread.enter();
                let own = listener.try_clone().and_then(UnixListener::from_std).map_err(|error| at(&path, error))?;
                servers.push(thread.spawn(serve(own, role, routes.clone(), stopping.clone())));
            }
            Ok::<_, RunError>(())
        };
        serve(&queries, folder.query_socket(), Role::Query, &query)?;
        serve(&others, folder.admin_socket(), Role::Admin, &admin)?;
        // One that was left behind by a node that was killed would answer nobody.
        let _none = fs::remove_file(folder.feed_socket());
        let feed = feed.then(starting);
        if let Some(routes) = &feed {
            serve(&others, folder.feed_socket(), Role::Feed, routes)?;
        }
        Ok(Self { folder: folder.clone(), _threads: [queries, others], progress, query, admin, feed, stop, servers })
    }

    fn answer(&self, view: Arc<View>) {
        self.query.store(Arc::new(query_answers(view.clone())));
        if let (Some(routes), Some(feed)) = (&self.feed, &view.feed) {
            routes.store(Arc::new(routed(feed_router(view.clone(), feed.clone()))));
        }
        self.admin.store(Arc::new(routed(admin_router(view))));
    }

    /// Lets the requests under way be finished.
    async fn close(mut self) {
        // Nobody waits for this if all servers are gone already.
        let _gone = self.stop.send(true);
        let last = tokio::time::Instant::now() + GRACE;
        for server in &mut self.servers {
            let _slow = tokio::time::timeout_at(last, server).await;
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for socket in [self.folder.query_socket(), self.folder.admin_socket(), self.folder.feed_socket()] {
            let _gone = fs::remove_file(socket);
        }
    }
}

/// Threads that serve sockets, each by itself: what a connection needs is done where it was taken, and no answer waits until
/// another thread has woken up. They end when this is dropped.
struct Threads {
    handles: Vec<Handle>,
    _running: watch::Sender<()>,
}

impl Threads {
    fn start(name: &str, count: usize) -> std::io::Result<Self> {
        let (running, watching) = watch::channel(());
        let start = |_| {
            let runtime = Builder::new_current_thread().thread_name(name).enable_all().build()?;
            let (handle, mut watching) = (runtime.handle().clone(), watching.clone());
            std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                // An error: the sender is gone, and nothing is to be waited for.
                let _ended = runtime.block_on(watching.changed());
                runtime.shutdown_background();
            })?;
            Ok(handle)
        };
        Ok(Self { handles: (0..count).map(start).collect::<std::io::Result<_>>()?, _running: running })
    }
}

async fn load_off_thread(mut prepared: Prepared, progress: Progress) -> (Prepared, Result<Loaded, RunError>) {
    let loading = tokio::task::spawn_blocking(move || {
        let loaded = Loaded::from_store(&prepared.folder.store(), &mut prepared, &progress);
        (prepared, loaded)
    });
    loading.await.expect("loading does not panic")
}

enum Ended {
    Told(tokio::task::JoinHandle<Result<(), DriverError>>),
    Failed(DriverError),
}

/// Waits for a signal. If the driver fails before, queries are answered on from what was committed: a full disk must not
/// take matching away.
async fn until_told(mut driver: tokio::task::JoinHandle<Result<(), DriverError>>, shared: &Shared) -> Ended {
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be handled");
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be handled");
    let failed = tokio::select! {
        _ = interrupt.recv() => return Ended::Told(driver),
        _ = terminate.recv() => return Ended::Told(driver),
        ended = &mut driver => ended.expect("the driver does not panic"),
    };
    let Err(error) = failed else { return Ended::Told(tokio::spawn(async { Ok(()) })) };
    let why = shared.stopped.load_full();
    tracing::error!(why = why.as_deref(), "nothing is published or received any more; queries are still answered");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ended::Failed(error)
}

/// Reads and checks everything in the folder but the store.
fn prepare(folder: Folder) -> Result<Prepared, RunError> {
    let config = Config::load(&folder.config())?;
    let pen = config
        .member
        .map(|_| Ok::<_, RunError>((keys::load(&folder)?, Signer::open(&folder.signer())?)))
        .transpose()?;
    let governance = in_folder(&folder).map_err(|error| match error {
        InFolderError::Documents(error) => RunError::Documents { path: folder.genesis(), error },
        other => other.into(),
    })?;
    let federation = governance.governance.federation();
    keys::refuse_governance(&folder, &federation)?;
    for stranger in config.peers.keys().filter(|member| federation.charter().member(**member).is_none()) {
        tracing::warn!(member = %stranger, "[peers] in config.toml names somebody who is not a member; nobody is dialled there");
    }
    let (node, pen) = match (config.member, pen) {
        (Some(member), Some((keys, signer))) => {
            check_keys(&federation, member, &keys)?;
            let node = keys.node_to_begin_with(federation.card(member)).clone();
            (node, Some(Pen { member, signer, keys }))
        }
        _ => {
            let node = keys::load_node(&folder)?;
            if federation.nodes().contains_key(&node.public()) {
                return Err(RunError::MembersKey);
            }
            (node, None)
        }
    };
    let path = folder.policy();
    let policy = Policy::parse(&read_text(&path, MAX_POLICY)?, federation.charter());
    let policy = policy.map_err(|error| RunError::Policy { path, error })?;
    let decisions = Decisions::open(&folder.decisions())?;
    let quarantine = Arc::new(Quarantine::open(&folder.quarantine())?);
    let forgotten = Forgotten::open(folder.forgotten())?;
    Ok(Prepared { folder, config, node, governance, policy, pen, decisions, quarantine, forgotten })
}

/// Checks that the keys of a folder are those on the member's card in force. Who is on no charter yet waits to be admitted.
fn check_keys(federation: &Federation, member: MemberId, keys: &NodeKeys) -> Result<(), RunError> {
    let Some(card) = federation.card(member) else {
        tracing::warn!(%member, "no charter that is known here names this member; waiting to be admitted");
        return Ok(());
    };
    if let Some(role) = keys.missing_on(card) {
        return Err(RunError::OtherKey(role));
    }
    match federation.standing(member) {
        Some(Standing::Active) | None => {}
        Some(standing) => tracing::warn!(%member, standing = standing.name(), "this member speaks no more"),
    }
    Ok(())
}

/// What comes out of the store.
struct Loaded {
    store: DiskStore,
    ledger: Ledger,
    curator: Curator,
    evidence: Vec<Evidence>,
}

impl Loaded {
    /// Loads the store. One that is damaged is set aside, and everything is fetched from peers again: the signer file says
    /// what was signed, and nothing is signed before the own log is back.
    fn from_store(path: &Path, prepared: &mut Prepared, progress: &Progress) -> Result<Self, RunError> {
        match unless_damaged(path, || Self::load(path, prepared, progress)) {
            Err(RunError::Store(error)) if error.is_damage() => {
                let aside = path.with_extension(format!("damaged-{}", clock::now().0));
                let why = sentence(&error);
                tracing::error!(why, aside = %aside.display(), "the store is set aside; peers are asked for everything");
                fs::rename(path, &aside).map_err(|error| at(path, error))?;
                Self::load(path, prepared, progress)
            }
            loaded => loaded,
        }
    }

    fn load(path: &Path, prepared: &mut Prepared, progress: &Progress) -> Result<Self, RunError> {
        let begun = Instant::now();
        let mut store = DiskStore::open(path)?;
        let Prepared { governance, pen, forgotten, .. } = prepared;
        store.without(forgotten.clone());
        let federation = governance.governance.federation();
        let own = match pen {
            Some(pen) => match federation.writable_log(pen.member) {
                Some(own) => Some((own, signed(&store, &federation, own, pen)?)),
                None => None,
            },
            None => None,
        };
        let key = [u64::from_le_bytes(random()?), u64::from_le_bytes(random()?)];
        let (mut curator, _) = Catalog::told(key, want_huge);
        let hidden = forgotten.clone();
        curator.hides(Box::new(move |hash| hidden.has(hash)));
        let mut count = 0u64;
        let mut told = Instant::now();
        let loaded = load(&mut store, &federation, &mut curator, own, |more| {
            count += more;
            progress.store(count, Ordering::Relaxed);
            if told.elapsed() > Duration::from_secs(1) {
                told = Instant::now();
                tracing::info!(statements = count, "loading");
            }
        })?;
        for (log, size) in &loaded.cut {
            tracing::warn!(%log, size, "the last write had not reached the disk whole; nobody was told of what is gone");
        }
        tracing::info!(statements = count, ms = begun.elapsed().as_millis(), "loaded");
        Ok(Self { store, ledger: loaded.ledger, curator, evidence: loaded.evidence })
    }
}

/// What was signed last in the own log: what the signer file says, or a signature in the store that is newer. That can be
/// only if the file was put back from a backup, in place; then it is brought forward again.
fn signed(store: &DiskStore, federation: &Federation, own: LogId, pen: &mut Pen) -> Result<Mark, RunError> {
    let key = federation.logs()[&own].clone();
    let known = pen.signer.mark(key.name());
    let stored = store.checkpoint(own, known.size, u64::MAX)?;
    let Some(Ok(stored)) = stored.map(|(_, note)| SignedCheckpoint::open(note, &key)) else { return Ok(known) };
    let mark = Mark { size: stored.size(), root: stored.root() };
    tracing::warn!(size = mark.size, "the signer file was behind the store; brought forward");
    pen.signer.advance(key.name(), mark)?;
    Ok(mark)
}

fn net_view(net: &Arc<Net>) -> NetView {
    let (listening, counting) = (net.clone(), net.clone());
    NetView {
        listening: Box::new(move || listening.listening()),
        counters: Box::new(move || {
            let counters = counting.counters();
            vec![
                ("gossip_dropped", counters.gossip_dropped.load(Ordering::Relaxed)),
                ("orders_dropped", counters.orders_dropped.load(Ordering::Relaxed)),
                ("strangers_refused", counters.strangers_refused.load(Ordering::Relaxed)),
                ("peers_shunned", counters.shunned.load(Ordering::Relaxed)),
            ]
        }),
    }
}
