//! Gossip: how it is set up, and how much of it is taken from one peer.

use std::time::Duration;

use hashmesh_protocol::wire::MAX_GOSSIP;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, IdentTopic, Message, MessageAuthenticity, MessageId, ValidationMode,
    WhitelistSubscriptionFilter,
};
use sha2::{Digest as _, Sha256};

use super::NetError;
use super::pace::Pace;

/// Gossip with a fixed list of topics.
pub(super) type Gossipsub = Behaviour<libp2p::gossipsub::IdentityTransform, WhitelistSubscriptionFilter>;

/// Messages that are taken from a peer; gossipsub itself takes any number. Each costs a signature check at worst (50 us), so this
/// bounds what one peer can take of a core.
pub(super) const PACE: Pace = Pace { burst: 2000.0, rate: 500.0 };

/// Most bytes of gossip that wait to be taken apart. The library counts in what it has read of the next message, up to 8 KiB,
/// and closes the stream beyond: so more than a message, or a long one would be lost for the next being close behind.
const UNPARSED: usize = MAX_GOSSIP + 16 * 1024;

/// What is gossiped about. Evidence and charters go their own way: a flood of statements must not hold it up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Topic {
    Statements,
    Evidence,
    Governance,
}

impl Topic {
    /// The topic of a network.
    pub(super) fn of(self, network: &str) -> IdentTopic {
        let name = match self {
            Self::Statements => "statements",
            Self::Evidence => "evidence",
            Self::Governance => "governance",
        };
        IdentTopic::new(format!("hashmesh/{network}/{}/{name}", hashmesh_protocol::wire::PROTOCOL))
    }
}

/// Sets gossip up for a federation of so many members.
///
/// Messages are anonymous: what they carry is signed by its author, and a second signature would cost more than everything
/// else. They are passed on only after validation, which must come while the message is still in the cache: 12 heartbeats.
pub(super) fn gossipsub(network: &str, members: usize) -> Result<Gossipsub, NetError> {
    let mut config = ConfigBuilder::default();
    config
        .protocol_id_prefix(format!("/hashmesh/{network}/gossip"))
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(message_id)
        .max_transmit_size(UNPARSED)
        .history_length(12)
        .history_gossip(4)
        .duplicate_cache_time(Duration::from_secs(600))
        .heartbeat_interval(Duration::from_secs(1))
        // Five seconds by default, in which a node that has just connected loses everything.
        .heartbeat_initial_delay(Duration::from_millis(300))
        .connection_handler_queue_len(256)
        .flood_publish(true);
    // The defaults leave tiny federations permanently short of peers.
    if members < 7 {
        config.mesh_n(4).mesh_n_low(2).mesh_n_high(8).mesh_outbound_min(1);
    }
    let config = config.build().map_err(|error| NetError::Setting(error.to_string()))?;
    let topics = [Topic::Statements, Topic::Evidence, Topic::Governance].map(|topic| topic.of(network));
    let allowed = WhitelistSubscriptionFilter(topics.iter().map(IdentTopic::hash).collect());
    let gossip = Behaviour::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, allowed);
    let mut gossip = gossip.map_err(|error| NetError::Setting(error.to_owned()))?;
    for topic in &topics {
        gossip.subscribe(topic).map_err(|error| NetError::Setting(error.to_string()))?;
    }
    Ok(gossip)
}

/// The content decides, so that nobody can shadow a message of somebody else by its number.
fn message_id(message: &Message) -> MessageId {
    let mut hasher = Sha256::new_with_prefix(message.topic.as_str().as_bytes());
    hasher.update([0]);
    hasher.update(&message.data);
    MessageId::new(&hasher.finalize()[..20])
}
