//! Key files: the three working keys of a node, and the governance key apart from them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hashmesh_protocol::card::{Card, MemberKeys};
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::key::{KeyError, PublicKey, SecretKey};

use crate::folder::{Folder, FolderError, at, read_secret, sync_parent};
use crate::making::Making;

/// The name of the governance key in its folder.
pub const GOVERNANCE: &str = "governance.key";

/// The working keys of a node.
#[derive(Clone, Debug)]
pub struct NodeKeys {
    /// Signs checkpoints of the own log.
    pub log: SecretKey,
    /// Cosigns others' checkpoints.
    pub witness: SecretKey,
    /// The libp2p identity.
    pub node: SecretKey,
    /// Keys that are to take the place of these, or have just done so.
    pub next: NextKeys,
}

/// The keys of `card rotate`, beside the others until a card with them is in force everywhere.
#[derive(Clone, Debug, Default)]
pub struct NextKeys {
    /// Of the next epoch.
    pub log: Option<SecretKey>,
    /// Cosigns next.
    pub witness: Option<SecretKey>,
    /// The next libp2p identity.
    pub node: Option<SecretKey>,
}

impl NodeKeys {
    /// The keys that sign: old and new.
    pub fn signing(&self) -> impl Iterator<Item = &SecretKey> {
        [&self.log, &self.witness].into_iter().chain(&self.next.log).chain(&self.next.witness)
    }

    /// Whether all of these are among them.
    pub fn holds_all<'a>(&self, keys: impl IntoIterator<Item = &'a PublicKey>) -> bool {
        let held = self.signing().chain([&self.node]).chain(&self.next.node);
        let held: BTreeSet<PublicKey> = held.map(SecretKey::public).collect();
        keys.into_iter().all(|key| held.contains(key))
    }

    /// The libp2p identity to take, of those that are on a card: the newer one. If none is there, the present one.
    pub fn node_on(&self, card: Option<&Card>) -> &SecretKey {
        let is_there = |key: &&SecretKey| card.is_some_and(|card| card.body().nodes.contains(&key.public()));
        self.next.node.as_ref().filter(is_there).unwrap_or(&self.node)
    }

    /// The libp2p identity to begin with: the older one for as long as it is on the card, since peers may know no other yet.
    pub fn node_to_begin_with(&self, card: Option<&Card>) -> &SecretKey {
        let is_there = card.is_some_and(|card| card.body().nodes.contains(&self.node.public()));
        if is_there { &self.node } else { self.node_on(card) }
    }

    /// The first role in which none of these is the key on a card.
    pub fn missing_on(&self, card: &Card) -> Option<&'static str> {
        let (body, signing) = (card.body(), self.signing().map(SecretKey::public).collect::<Vec<_>>());
        let roles = [
            ("log", signing.contains(&body.log)),
            ("witness", signing.contains(&body.witness)),
            ("node", body.nodes.contains(&self.node_on(Some(card)).public())),
        ];
        roles.into_iter().find(|(_, known)| !known).map(|(role, _)| role)
    }
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What is in it.
    #[error("{path}")]
    Key {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: KeyError,
    },
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// A governance key where a node runs.
    #[error(
        "{path} is a governance key. It decides about membership and must not lie where a node runs: move it to a folder \
         of its own, best on a machine without a network"
    )]
    GovernanceHere {
        /// Where it was found.
        path: PathBuf,
    },
}

/// Random bytes from the operating system.
pub fn random<const N: usize>() -> Result<[u8; N], KeysError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(KeysError::Random)?;
    Ok(bytes)
}

/// Makes all four keys and writes them: three into the data folder, the governance key into a folder of its own.
pub fn create(folder: &Folder, governance: &Path, making: &mut Making) -> Result<MemberKeys, KeysError> {
    let key = || random().map(|seed| SecretKey::from_seed(&seed));
    let keys = MemberKeys { governance: key()?, log: key()?, witness: key()?, node: key()? };
    making.folder(governance, 0o700)?;
    making.file(&governance.join(GOVERNANCE), 0o600, keys.governance.to_pem().as_bytes())?;
    for (name, secret) in [("log", &keys.log), ("witness", &keys.witness), ("node", &keys.node)] {
        making.file(&path(folder, name), 0o600, secret.to_pem().as_bytes())?;
    }
    Ok(keys)
}

/// Makes a governance key in a folder of its own.
pub fn create_governance(folder: &Path, making: &mut Making) -> Result<SecretKey, KeysError> {
    let secret = SecretKey::from_seed(&random()?);
    making.folder(folder, 0o700)?;
    making.file(&folder.join(GOVERNANCE), 0o600, secret.to_pem().as_bytes())?;
    Ok(secret)
}

/// Reads the working keys.
pub fn load(folder: &Folder) -> Result<NodeKeys, KeysError> {
    let key = |name| load_one(&path(folder, name));
    let next = |name: &str| {
        let path = next_path(folder, name);
        path.exists().then(|| load_one(&path)).transpose()
    };
    let next = NextKeys { log: next("log")?, witness: next("witness")?, node: next("node")? };
    Ok(NodeKeys { log: key("log")?, witness: key("witness")?, node: key("node")?, next })
}

/// Makes a key that is to take the place of another one, unless there is one already.
pub fn create_next(folder: &Folder, name: &str, making: &mut Making) -> Result<SecretKey, KeysError> {
    let path = next_path(folder, name);
    if path.exists() {
        return load_one(&path);
    }
    let secret = SecretKey::from_seed(&random()?);
    making.file(&path, 0o600, secret.to_pem().as_bytes())?;
    Ok(secret)
}

/// Puts keys that are in force in the place of those before them, which are deleted.
pub fn promote(folder: &Folder, name: &str) -> Result<(), KeysError> {
    let (from, to) = (next_path(folder, name), path(folder, name));
    let moved = fs::rename(&from, &to).and_then(|()| sync_parent(&to));
    Ok(moved.map_err(|error| at(&from, error))?)
}

fn next_path(folder: &Folder, name: &str) -> PathBuf {
    folder.keys().join(format!("{name}.next.key"))
}

/// Makes the one key of a follower.
pub fn create_node(folder: &Folder, making: &mut Making) -> Result<SecretKey, KeysError> {
    let secret = SecretKey::from_seed(&random()?);
    making.file(&path(folder, "node"), 0o600, secret.to_pem().as_bytes())?;
    Ok(secret)
}

/// Reads the one key of a follower.
pub fn load_node(folder: &Folder) -> Result<SecretKey, KeysError> {
    load_one(&path(folder, "node"))
}

/// Reads one key.
pub fn load_one(path: &Path) -> Result<SecretKey, KeysError> {
    SecretKey::from_pem(&read_secret(path)?).map_err(|error| KeysError::Key { path: path.to_owned(), error })
}

fn path(folder: &Folder, name: &str) -> PathBuf {
    folder.keys().join(format!("{name}.key"))
}

/// Looks for governance keys in the data folder and everything below it, by name and by what they are: a copy under another name is one too.
pub fn refuse_governance(folder: &Folder, federation: &Federation) -> Result<(), KeysError> {
    let members = &federation.charter().body().members;
    let mut places = vec![folder.root().to_owned()];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
            let path = entry.path();
            // The database is nobody's place to put keys. Links to folders are not followed: they may lead in circles.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && path != folder.store() {
                places.push(path);
                continue;
            }
            let small = fs::metadata(&path).is_ok_and(|data| data.is_file() && data.len() < 64 * 1024);
            let secret = || SecretKey::from_pem(&fs::read_to_string(&path).ok()?).ok();
            let is_governance = path.file_name().is_some_and(|name| name == GOVERNANCE)
                || (small && secret().is_some_and(|secret| members.iter().any(|m| m.governance == secret.public())));
            if is_governance {
                return Err(KeysError::GovernanceHere { path });
            }
        }
    }
    Ok(())
}
