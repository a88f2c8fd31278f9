//! How much is taken from each peer: a bucket of tokens that fills again as time passes.

use std::collections::HashMap;
use std::time::Instant;

use libp2p::PeerId;

/// How large the buckets are, and how fast they fill.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// What a peer may take at once.
    pub(super) burst: f64,
    /// What it may take a second from then on.
    pub(super) rate: f64,
}

/// A bucket for every peer. Peers are nodes of members: their number is bounded.
pub(super) struct Buckets {
    pace: Pace,
    peers: HashMap<PeerId, (f64, Instant)>,
}

impl Buckets {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, peers: HashMap::new() }
    }

    /// Takes what something of a peer costs; `false`, and nothing is taken, if there is not enough. What costs more than
    /// the bucket holds has to wait until it is full.
    pub(super) fn take(&mut self, peer: PeerId, cost: f64, now: Instant) -> bool {
        let Pace { burst, rate } = self.pace;
        let (left, since) = self.peers.entry(peer).or_insert((burst, now));
        *left = (*left + now.duration_since(*since).as_secs_f64() * rate).min(burst);
        *since = now;
        let enough = *left >= cost.min(burst);
        if enough {
            *left -= cost;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_peer_gets_its_burst_and_then_its_rate_whatever_others_do() {
        let mut buckets = Buckets::new(Pace { burst: 10.0, rate: 2.0 });
        let (one, other, begun) = (PeerId::random(), PeerId::random(), Instant::now());
        assert_eq!((0..100).filter(|_| buckets.take(one, 1.0, begun)).count(), 10);
        assert!(buckets.take(other, 10.0, begun));
        assert!(!buckets.take(one, 1.0, begun + Duration::from_millis(400)));
        assert!(buckets.take(one, 1.0, begun + Duration::from_millis(500)));
        let later = begun + Duration::from_secs(3600);
        assert!(buckets.take(one, 50.0, later), "a full bucket is enough for anything");
        assert!(!buckets.take(one, 1.0, later + Duration::from_secs(20)), "which has to be filled again");
        assert!(buckets.take(one, 1.0, later + Duration::from_secs(21)));
    }
}
