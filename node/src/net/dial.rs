//! Whom to dial, and when.
//!
//! Every member is dialled. Of two that could dial each other the one with the smaller identity begins and the other waits a
//! moment: two connections that cross would each look like a double to one side.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::NetError;

/// Pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// How long the one with the larger identity waits for the other.
const COURTESY: Duration = Duration::from_millis(1500);

/// Who is to be dialled.
pub(super) struct Dialler {
    own: PeerId,
    peers: HashMap<PeerId, Target>,
}

struct Target {
    addresses: Vec<Multiaddr>,
    next: Instant,
    pause: Duration,
    courtesy: Duration,
}

impl Dialler {
    pub(super) fn new(own: PeerId, addresses: HashMap<PeerId, Vec<Multiaddr>>) -> Self {
        let mut dialler = Self { own, peers: HashMap::new() };
        dialler.retarget(addresses);
        dialler
    }

    /// These are to be dialled from now on. Who is new, or is said to be elsewhere, is dialled soon.
    pub(super) fn retarget(&mut self, addresses: HashMap<PeerId, Vec<Multiaddr>>) {
        let now = Instant::now();
        self.peers.retain(|peer, target| addresses.get(peer) == Some(&target.addresses));
        for (peer, addresses) in addresses {
            let courtesy = if self.own < peer { Duration::ZERO } else { COURTESY };
            let target = Target { addresses, next: now + courtesy, pause: FIRST_PAUSE, courtesy };
            self.peers.entry(peer).or_insert(target);
        }
    }

    /// Who is due, with the addresses to try. They are not due again before their pause has passed.
    pub(super) fn due(&mut self, connected: impl Fn(&PeerId) -> bool) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let now = Instant::now();
        let mut due = Vec::new();
        for (peer, target) in &mut self.peers {
            if !connected(peer) && target.next <= now {
                target.next = now + target.pause;
                target.pause = (target.pause * 2).min(LAST_PAUSE);
                due.push((*peer, target.addresses.clone()));
            }
        }
        due
    }

    /// A peer is connected: when it goes, it is dialled soon.
    pub(super) fn connected(&mut self, peer: &PeerId) {
        if let Some(target) = self.peers.get_mut(peer) {
            target.pause = FIRST_PAUSE;
        }
    }

    /// A peer is gone.
    pub(super) fn gone(&mut self, peer: &PeerId) {
        if let Some(target) = self.peers.get_mut(peer) {
            target.next = Instant::now() + FIRST_PAUSE + target.courtesy;
        }
    }
}

/// Reads an address to listen on or to dial.
pub(super) fn parse(text: &str) -> Result<Multiaddr, NetError> {
    let bad = |why| NetError::Address(text.to_owned(), why);
    let address: Multiaddr = text.parse().map_err(|_| bad("not a multiaddress"))?;
    let mut parts = address.iter();
    match parts.next() {
        Some(Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => {}
        _ => return Err(bad("it must begin with /ip4, /ip6 or /dns")),
    }
    match (parts.next(), parts.next()) {
        (Some(Protocol::Tcp(_)), None) => Ok(address),
        _ => Err(bad("a /tcp port must follow, and nothing else")),
    }
}

/// Reads an address to listen on: of this machine, at a port that can be told to others.
pub(super) fn parse_listen(text: &str) -> Result<Multiaddr, NetError> {
    let bad = |why| NetError::Address(text.to_owned(), why);
    let address = parse(text)?;
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)), _) => {
            Err(bad("a node listens on an address of its machine, /ip4 or /ip6, not on a name"))
        }
        (_, Some(Protocol::Tcp(0))) => Err(bad("peers cannot be told port 0")),
        _ => Ok(address),
    }
}

/// Whether nobody listens at an address of this machine yet.
pub(super) fn is_free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::from(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::from(ip),
        _ => return Ok(()),
    };
    let Some(Protocol::Tcp(port)) = parts.next() else { return Ok(()) };
    TcpListener::bind((ip, port)).map(drop)
}

/// Replaces a host name by the addresses that it has now.
pub(super) async fn resolve(address: Multiaddr) -> Vec<Multiaddr> {
    let mut parts = address.iter();
    let (Some(host), Some(Protocol::Tcp(port))) = (parts.next(), parts.next()) else { return vec![address] };
    let (name, wanted): (_, fn(&IpAddr) -> bool) = match host {
        Protocol::Dns(name) => (name, |_| true),
        Protocol::Dns4(name) => (name, IpAddr::is_ipv4),
        Protocol::Dns6(name) => (name, IpAddr::is_ipv6),
        _ => return vec![address],
    };
    let found = tokio::net::lookup_host((name.as_ref(), port)).await;
    let found = found.map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    let ips = found.into_iter().map(|socket| socket.ip()).filter(wanted);
    ips.map(|ip| Multiaddr::from(ip).with(Protocol::Tcp(port))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_tcp_ports() {
        for good in ["/ip4/127.0.0.1/tcp/4600", "/ip6/::1/tcp/1", "/dns/a.example/tcp/1", "/dns4/a/tcp/1"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1:4600", "/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/1", "/tcp/1", "/ip4/1.2.3.4/tcp/1/ws"] {
            assert!(matches!(parse(bad), Err(NetError::Address(..))), "{bad}");
        }
    }

    #[test]
    fn nodes_listen_on_addresses_and_ports_that_are_known() {
        assert!(parse_listen("/ip4/0.0.0.0/tcp/4600").is_ok());
        for bad in ["/dns/a.example/tcp/4600", "/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0"] {
            assert!(matches!(parse_listen(bad), Err(NetError::Address(..))), "{bad}");
        }
    }

    #[tokio::test]
    async fn host_names_are_resolved_when_they_are_dialled() {
        let resolved = resolve("/dns4/localhost/tcp/4600".parse().unwrap()).await;
        assert!(resolved.contains(&"/ip4/127.0.0.1/tcp/4600".parse().unwrap()), "{resolved:?}");
        let plain: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().unwrap();
        assert_eq!(resolve(plain.clone()).await, [plain]);
    }
}
