//! Who may connect (SPEC 14.1, 14.8): nodes that are on a member's card, and followers that the operator has named, one connection each.
//!
//! Checked twice. In the security upgrade, so that a stranger never reaches the multiplexer, where such libraries have had
//! their faults; and again when a connection is established, first of all behaviours, where also those are turned away that
//! are shunned or connected already.
//!
//! One connection, because gossip announces its subscriptions on the first one only. A peer that comes again while it seems
//! connected has restarted, or its old connection is half dead: the old one is closed and the new one refused, and the
//! next try, a moment later, finds the way free.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p::swarm::dummy::ConnectionHandler;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use parking_lot::RwLock;
use tokio::sync::Notify;

/// How long a shunned peer is kept away.
const SHUN: Duration = Duration::from_secs(600);

/// Who may connect, for both checks.
#[derive(Clone, Default)]
pub(super) struct GuestList {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    guests: RwLock<HashSet<PeerId>>,
    shunned: RwLock<HashMap<PeerId, Instant>>,
    refused: AtomicU64,
    news: Notify,
}

impl GuestList {
    pub(super) fn new(guests: impl IntoIterator<Item = PeerId>) -> Self {
        let list = Self::default();
        list.replace(guests.into_iter().collect());
        list
    }

    /// These may connect from now on, and nobody else. Who is connected is seen to by whoever waits for [`news`](Self::news).
    pub(super) fn replace(&self, guests: HashSet<PeerId>) {
        *self.inner.guests.write() = guests;
    }

    /// There is news.
    pub(super) fn tell(&self) {
        self.inner.news.notify_one();
    }

    /// Whether somebody may be connected.
    pub(super) fn has(&self, peer: &PeerId) -> bool {
        self.inner.guests.read().contains(peer)
    }

    /// Keeps a peer away from now on; `false` if it is shunned already.
    pub(super) fn shun(&self, peer: PeerId) -> bool {
        let before = self.inner.shunned.write().insert(peer, Instant::now());
        self.inner.news.notify_one();
        before.is_none_or(|since| since.elapsed() >= SHUN)
    }

    /// Waits until somebody is shunned, or others may connect. Nobody is missed: what has happened in the meantime is told at once.
    pub(super) async fn news(&self) {
        self.inner.news.notified().await;
    }

    /// Who is shunned now.
    pub(super) fn shunned(&self) -> Vec<PeerId> {
        let shunned = self.inner.shunned.read();
        shunned.iter().filter(|(_, since)| since.elapsed() < SHUN).map(|(peer, _)| *peer).collect()
    }

    pub(super) fn refused(&self) -> u64 {
        self.inner.refused.load(Ordering::Relaxed)
    }

    fn check(&self, peer: &PeerId) -> Result<(), Turned> {
        if !self.inner.guests.read().contains(peer) {
            self.inner.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Turned::Stranger);
        }
        match self.inner.shunned.read().get(peer) {
            Some(since) if since.elapsed() < SHUN => Err(Turned::Shunned),
            _ => Ok(()),
        }
    }
}

/// Why a connection is refused.
#[derive(Debug, thiserror::Error)]
enum Turned {
    #[error("the key is on no member's card, and is no follower's")]
    Stranger,
    #[error("the peer has misbehaved lately")]
    Shunned,
    #[error("the peer is connected already")]
    Double,
}

/// A security upgrade that fails for strangers.
#[derive(Clone)]
pub(super) struct Guarded<U> {
    pub(super) upgrade: U,
    pub(super) list: GuestList,
}

/// Why a connection does not become secure.
#[derive(Debug, thiserror::Error)]
pub(super) enum GuardedError<E> {
    #[error(transparent)]
    Upgrade(E),
    #[error("refused: {0}")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl<U: UpgradeInfo> UpgradeInfo for Guarded<U> {
    type Info = U::Info;
    type InfoIter = U::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.upgrade.protocol_info()
    }
}

type Secured<S, E> = Pin<Box<dyn Future<Output = Result<(PeerId, S), GuardedError<E>>> + Send>>;

fn admit<S, E>(list: &GuestList, (peer, stream): (PeerId, S)) -> Result<(PeerId, S), GuardedError<E>> {
    list.check(&peer).map_err(|turned| GuardedError::Refused(Box::new(turned)))?;
    Ok((peer, stream))
}

impl<C, S, U> InboundConnectionUpgrade<C> for Guarded<U>
where
    U: InboundConnectionUpgrade<C, Output = (PeerId, S)>,
    U::Future: Send + 'static,
    S: 'static,
{
    type Output = (PeerId, S);
    type Error = GuardedError<U::Error>;
    type Future = Secured<S, U::Error>;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        let list = self.list;
        let secured = self.upgrade.upgrade_inbound(socket, info);
        Box::pin(secured.map(move |secured| admit(&list, secured.map_err(GuardedError::Upgrade)?)))
    }
}

impl<C, S, U> OutboundConnectionUpgrade<C> for Guarded<U>
where
    U: OutboundConnectionUpgrade<C, Output = (PeerId, S)>,
    U::Future: Send + 'static,
    S: 'static,
{
    type Output = (PeerId, S);
    type Error = GuardedError<U::Error>;
    type Future = Secured<S, U::Error>;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        let list = self.list;
        let secured = self.upgrade.upgrade_outbound(socket, info);
        Box::pin(secured.map(move |secured| admit(&list, secured.map_err(GuardedError::Upgrade)?)))
    }
}

/// The check when a connection is established; the first of all behaviours.
pub(super) struct Gate {
    list: GuestList,
    connected: HashMap<PeerId, Vec<ConnectionId>>,
    closing: VecDeque<(PeerId, ConnectionId)>,
    waker: Option<Waker>,
}

impl Gate {
    pub(super) fn new(list: GuestList) -> Self {
        Self { list, connected: HashMap::new(), closing: VecDeque::new(), waker: None }
    }

    fn check(&mut self, peer: PeerId, inbound: bool) -> Result<ConnectionHandler, ConnectionDenied> {
        self.list.check(&peer).map_err(ConnectionDenied::new)?;
        match self.connected.get(&peer) {
            Some(old) if !old.is_empty() => {
                if inbound {
                    self.closing.extend(old.iter().map(|id| (peer, *id)));
                    if let Some(waker) = self.waker.take() {
                        waker.wake();
                    }
                }
                Err(ConnectionDenied::new(Turned::Double))
            }
            _ => Ok(ConnectionHandler),
        }
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check(peer, true)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check(peer, false)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.connected.entry(event.peer_id).or_default().push(event.connection_id);
            }
            FromSwarm::ConnectionClosed(event) => {
                if let Some(open) = self.connected.get_mut(&event.peer_id) {
                    open.retain(|id| *id != event.connection_id);
                    if open.is_empty() {
                        self.connected.remove(&event.peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection)) = self.closing.pop_front() {
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(connection) });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An order to cut a peer off was lost when too many orders waited, and its connection stayed.
    #[tokio::test]
    async fn whoever_is_shunned_is_kept_away_at_once_and_found_later() {
        let (good, bad) = (PeerId::random(), PeerId::random());
        let list = GuestList::new([good, bad]);
        assert!(list.check(&bad).is_ok());
        assert!(list.shun(bad));
        assert!(!list.shun(bad), "it is told once");
        assert!(matches!(list.check(&bad), Err(Turned::Shunned)));
        assert!(list.check(&good).is_ok());
        // The task that closes connections was busy all the time.
        list.news().await;
        assert_eq!(list.shunned(), [bad]);
        assert!(matches!(list.check(&PeerId::random()), Err(Turned::Stranger)));
        assert_eq!(list.refused(), 1);
    }
}
