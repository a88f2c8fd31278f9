//! From a federation that has lost its quorum to the one that takes over from it (SPEC 10.12): what this member's list was is read from the
//! old store, what is the old federation's is set aside, and nothing of it is deleted.

use std::fs;
use std::path::PathBuf;

use hashmesh_protocol::bundle;
use hashmesh_protocol::catalog::{Attributes, Catalog, ContentId, Said};
use hashmesh_protocol::charter::{Charter, Succeeds};
use hashmesh_protocol::content_hash::{HashKind, Media};
use hashmesh_protocol::governance::Stored;
use hashmesh_protocol::names::MemberId;
use hashmesh_protocol::opening::Opening;
use hashmesh_protocol::policy::effect;
use hashmesh_protocol::serve::Archive as _;
use hashmesh_protocol::statement::Reason;

use crate::api::form::StatementForm;
use crate::clock;
use crate::folder::{Folder, FolderError, at, make_private, sync_parent, write_new};
use crate::forgotten::{Forgotten, ForgottenError};
use crate::keys::{KeysError, random};
use crate::making::Making;
use crate::signer::{Signer, SignerError};
use crate::store::{DiskStore, StoreError, load};

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each transparent variant is the error of the part it names")]
pub enum RefoundingError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Signer(#[from] SignerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Forgotten(#[from] ForgottenError),
    /// What was said cannot be written down.
    #[error("the list cannot be written down: {0}")]
    Form(#[from] serde_json::Error),
    /// Taken over before, or begun to.
    #[error(
        "{0} exists already: what was taken over before has not been said again yet (hashmesh carry), or this was interrupted: then move what \
         is in network-* back and begin anew"
    )]
    Begun(PathBuf),
}

/// Where what is to be said again lies until it is.
pub fn carried(folder: &Folder) -> PathBuf {
    folder.root().join("carried.jsonl")
}

/// Where what is the old federation's goes.
fn aside(folder: &Folder, old: &Stored) -> PathBuf {
    folder.root().join(format!("network-{}", old.governance.tip().network().short()))
}

/// What a member's list was in the old federation, up to the ends that the new charter names: to be said again. The node does not run.
pub fn own_list(
    folder: &Folder,
    old: &Stored,
    member: MemberId,
    succeeds: &Succeeds,
) -> Result<Vec<StatementForm>, RefoundingError> {
    let federation = old.governance.federation();
    let mut store = DiskStore::open(&folder.store())?;
    let forgotten = Forgotten::open(folder.forgotten())?;
    store.without(forgotten.clone());
    let key = [u64::from_le_bytes(random()?), u64::from_le_bytes(random()?)];
    let (mut curator, catalog) = Catalog::new(key);
    curator.hides(Box::new(move |hash| forgotten.has(hash)));
    load(&mut store, &federation, &mut curator, None, |_| ())?;
    let carried = |said: &Said<'_>| {
        let end = succeeds.ends.iter().find(|old| old.member == member && old.end.epoch == said.log.epoch);
        end.is_some_and(|old| said.index < old.end.size)
    };
    let mut list = Vec::new();
    for kind in HashKind::ALL {
        for number in 0..catalog.known(kind) {
            let id = ContentId { kind, number };
            let said = catalog.word_of(member, id).filter(carried);
            // What has expired there is not said again.
            let counts = |said: &Said<'_>| {
                let adds = matches!(said.attributes, Attributes::Add { .. });
                !adds || effect(said, federation.charter(), clock::now()).is_some()
            };
            if let Some(said) = said.filter(counts) {
                let note = note(&store, &said)?;
                list.extend(form(&catalog, id, &said, federation.charter(), note));
            }
        }
    }
    Ok(list)
}

/// The remark that goes with a statement.
fn note(store: &DiskStore, said: &Said<'_>) -> Result<Option<String>, StoreError> {
    let stored = store.bundles(said.log, said.index, said.index + 1, usize::MAX)?;
    let opening = bundle::entries(&stored.openings).next().and_then(Result::ok);
    let opening = opening.and_then(|opening| Opening::decode(opening).ok());
    Ok(opening.and_then(|opening| opening.note.map(str::to_owned)))
}

fn form(
    catalog: &Catalog,
    id: ContentId,
    said: &Said<'_>,
    charter: &Charter,
    note: Option<String>,
) -> Option<StatementForm> {
    let hash = catalog.hash(id).to_string();
    match said.attributes {
        Attributes::Add { labels, media, quality, expiry, incident } => Some(StatementForm::Add {
            hash,
            labels: labels.codes().iter().filter_map(|code| Some(charter.label(*code)?.name.clone())).collect(),
            media: Media::from_number(*media),
            quality: *quality,
            expiry: expiry.map(|expiry| expiry.to_string()),
            incident: *incident,
            note,
        }),
        Attributes::Dispute { reason } => {
            Some(StatementForm::Dispute { hash, reason: Reason::from_number(*reason)?, note })
        }
    }
}

/// Sets what is the old federation's aside, in a folder named by its id, and begins the new one. What is to be said again is written first.
pub fn adopt(folder: &Folder, old: &Stored, text: &str, list: &[StatementForm]) -> Result<PathBuf, RefoundingError> {
    let (to_say, aside) = (carried(folder), aside(folder, old));
    for there in [&to_say, &aside] {
        if there.exists() {
            return Err(RefoundingError::Begun(there.clone()));
        }
    }
    let lines = list.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    let lines: String = lines.into_iter().map(|line| line + "\n").collect();
    make_private(&aside)?;
    let waiting = aside.join("carried.jsonl");
    write_new(&waiting, 0o600, lines.as_bytes())?;
    let old_files = [folder.governance(), folder.heads(), folder.store(), folder.signer(), folder.genesis()];
    for from in old_files.iter().filter(|path| path.exists()) {
        let to = aside.join(from.file_name().unwrap_or_default());
        fs::rename(from, &to).and_then(|()| sync_parent(&to)).map_err(|error| at(from, error))?;
    }
    let mut making = Making::default();
    folder.create()?;
    Signer::create(&folder.signer(), &mut making)?;
    making.file(&folder.genesis(), 0o644, text.as_bytes())?;
    making.finish();
    fs::rename(&waiting, &to_say).and_then(|()| sync_parent(&to_say)).map_err(|error| at(&waiting, error))?;
    Ok(aside)
}
