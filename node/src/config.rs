//! `config.toml`: where this node listens, and where its peers are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hashmesh_protocol::names::MemberId;
use serde::{Deserialize, Serialize};

use crate::folder::{FolderError, read_text};

/// What an operator can set. Everything else is in the charter (limits) or in `policy.toml` (verdicts).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The member that this node speaks for.
    pub member: MemberId,
    /// Where other members' nodes can connect: libp2p multiaddresses with an IP address and a TCP port.
    pub listen: Vec<String>,
    /// Where other members' nodes are: by member, `/ip4/…/tcp/…`, `/ip6/…/tcp/…` or `/dns/…/tcp/…`. Their identities come
    /// from their cards.
    #[serde(default)]
    pub peers: BTreeMap<MemberId, Vec<String>>,
    /// How many of the last queries are kept, in memory only, for `hashmesh policy diff`. 0, which is the default: none.
    #[serde(default)]
    pub remember_queries: u32,
    /// Whether `run/feed.sock` tells every change of the list that this platform acts on. It exports the list, so not by
    /// default; without it there is no socket and nothing is kept for it.
    #[serde(default)]
    pub feed: bool,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error(transparent)]
    Folder(#[from] FolderError),
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

    /// The text of a new node's file.
    pub fn first(member: MemberId, listen: &str) -> String {
        format!(
            "\
member = \"{member}\"

# Where other members' nodes can connect to this one.
listen = [\"{listen}\"]

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
        assert_eq!(config.member.as_str(), "acme");
        assert!(config.peers.is_empty());
        std::fs::write(&path, text.replace("listen", "lissen")).unwrap();
        assert!(matches!(Config::load(&path), Err(ConfigError::Form { message, .. }) if message.contains("lissen")));
        std::fs::write(&path, format!("{text}bolt = [\"/ip4/127.0.0.1/tcp/1\"]\n")).unwrap();
        assert_eq!(Config::load(&path).unwrap().peers.len(), 1);
    }
}
