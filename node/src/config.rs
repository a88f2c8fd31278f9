//! `config.toml`: where this node listens, and where its peers are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hashmesh_protocol::key::PublicKey;
use hashmesh_protocol::names::MemberId;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::folder::{FolderError, read_text};

/// What an operator can set. Everything else is in the charter (limits) or in `policy.toml` (verdicts).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The member that this node speaks for; absent: it is a follower, which speaks for nobody.
    #[serde(default)]
    pub member: Option<MemberId>,
    /// Where other nodes can connect: libp2p multiaddresses with an IP address and a TCP port. A follower listens nowhere.
    #[serde(default)]
    pub listen: Vec<String>,
    /// Where members whose node keys are on no card any more can hand in a new card: addresses as in `listen`, with a port of their own. None
    /// if absent.
    #[serde(default)]
    pub introductions: Vec<String>,
    /// Where other members' nodes are told that this one can be reached; where it listens, if absent. An empty list: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announce: Option<Vec<String>>,
    /// Where other members' nodes are: by member, `/ip4/…/tcp/…`, `/ip6/…/tcp/…` or `/dns/…/tcp/…`. Their identities come
    /// from their cards.
    #[serde(default)]
    pub peers: BTreeMap<MemberId, Vec<String>>,
    /// Who may follow: connect and read, and nothing else (SPEC 14.8). By a name of the operator's choice, spelled as a member's id.
    #[serde(default)]
    pub followers: BTreeMap<MemberId, Follower>,
    /// How many of the last queries are kept, in memory only, for `hashmesh policy diff`. 0, which is the default: none.
    #[serde(default)]
    pub remember_queries: u32,
    /// Whether `run/feed.sock` tells every change of the list that this platform acts on. It exports the list, so not by
    /// default; without it there is no socket and nothing is kept for it.
    #[serde(default)]
    pub feed: bool,
}

/// Somebody who may follow.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Follower {
    /// The follower's node key: 64 hex digits.
    #[serde(deserialize_with = "key")]
    pub key: PublicKey,
    /// Whether it is given what opens the commitments: content hashes, and what members remarked about them.
    #[serde(default)]
    pub openings: bool,
}

/// Reads a node key as people are shown it.
pub fn node_key(text: &str) -> Result<PublicKey, String> {
    let bytes = hex::decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let bytes = bytes.ok_or("a node key is 64 hex digits")?;
    PublicKey::from_bytes(&bytes).map_err(|error| error.to_string())
}

fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
    node_key(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A follower where somebody must be able to speak.
    #[error("{path} names no member: this node is a follower, which speaks for nobody and signs nothing")]
    SpeaksForNobody {
        /// Which file.
        path: PathBuf,
    },
    /// What is in it.
    #[error("{path}: {message}")]
    Form {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
}

impl Config {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        if !path.exists() {
            return Err(FolderError::NoNode { path: path.to_owned() }.into());
        }
        let text = read_text(path, 1024 * 1024)?;
        toml::from_str(&text).map_err(|error| ConfigError::Form { path: path.to_owned(), message: error.to_string() })
    }

    /// The member that the node of this file speaks for; an error for a follower.
    pub fn speaker(&self, path: &Path) -> Result<MemberId, ConfigError> {
        self.member.ok_or_else(|| ConfigError::SpeaksForNobody { path: path.to_owned() })
    }

    /// The text of a new follower's file.
    pub fn of_follower() -> String {
        "\
# A follower: it connects to the members' nodes that let it in, and reads. It speaks for nobody, so there is no `member` here,
# and nobody connects to it.

# Where those nodes are. Their identities come from the members' cards, so an address is all that is needed:
#   bolt = [\"/dns/hashmesh.bolt.example/tcp/4600\"]
[peers]
"
        .to_owned()
    }

    /// The text of a new node's file.
    pub fn first(member: MemberId, listen: &str) -> String {
        format!(
            "\
member = \"{member}\"

# Where other members' nodes can connect to this one.
listen = [\"{listen}\"]

# Where a member that is locked out, all its node keys being lost, can hand in its new card; a port of its own, nowhere if absent:
#   introductions = [\"/ip4/0.0.0.0/tcp/4601\"]

# Where the other members' nodes are. Their identities come from their cards, so an address is all that is needed:
#   bolt = [\"/dns/hashmesh.bolt.example/tcp/4600\"]
[peers]
"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_reads_back_and_unknown_keys_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let text = Config::first("acme".parse().unwrap(), "/ip4/127.0.0.1/tcp/4600");
        std::fs::write(&path, &text).unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!(config.member.unwrap().as_str(), "acme");
        assert!(config.peers.is_empty());
        std::fs::write(&path, text.replace("listen", "lissen")).unwrap();
        assert!(matches!(Config::load(&path), Err(ConfigError::Form { message, .. }) if message.contains("lissen")));
        std::fs::write(&path, text.replace("[peers]\n", "[peers]\nbolt = [\"/ip4/127.0.0.1/tcp/1\"]\n")).unwrap();
        assert_eq!(Config::load(&path).unwrap().peers.len(), 1);
        std::fs::write(&path, Config::of_follower()).unwrap();
        let config = Config::load(&path).unwrap();
        assert!(config.member.is_none() && config.listen.is_empty());
        assert!(config.speaker(&path).unwrap_err().to_string().contains("follower"));
    }
}
