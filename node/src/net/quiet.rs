//! Gossip that some peers take no part in (SPEC 14.8): followers, and everybody for a node that is one itself.
//!
//! For them the gossip protocol does not exist on the connection: nothing is sent, nothing is read, they are in no mesh, and
//! the library never hears of them. Refusing their messages one by one would leave them among those who are told everything.

use std::collections::HashSet;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

/// A behaviour that some peers take no part in.
pub(super) struct Quiet<B> {
    inner: Toggle<B>,
    /// Makes the handlers of those who take no part.
    none: Toggle<B>,
    quiet: HashSet<PeerId>,
}

impl<B: NetworkBehaviour> Quiet<B> {
    /// Without these peers; with nobody at all if there is no behaviour.
    pub(super) fn new(inner: Option<B>, quiet: HashSet<PeerId>) -> Self {
        Self { inner: inner.into(), none: None.into(), quiet }
    }

    /// The behaviour, if there is one.
    pub(super) fn inner(&mut self) -> Option<&mut B> {
        self.inner.as_mut()
    }

    fn of(&mut self, peer: &PeerId) -> &mut Toggle<B> {
        if self.quiet.contains(peer) { &mut self.none } else { &mut self.inner }
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Quiet<B> {
    type ConnectionHandler = THandler<Toggle<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.of(&peer).handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.of(&peer).handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let peer = match &event {
            FromSwarm::ConnectionEstablished(event) => Some(event.peer_id),
            FromSwarm::ConnectionClosed(event) => Some(event.peer_id),
            FromSwarm::AddressChange(event) => Some(event.peer_id),
            _ => None,
        };
        if peer.is_none_or(|peer| !self.quiet.contains(&peer)) {
            self.inner.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.of(&peer).on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}
