//! Inviting and joining.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use hashmesh_protocol::armor::{self, Document};
use hashmesh_protocol::charter::Genesis;
use hashmesh_protocol::governance::{Host, Invitation, Stored};
use serde_json::json;

use super::node::add_peers;
use super::{Context, Done, write_out};
use crate::api::form::{GovernanceAnswer, TextAnswer};
use crate::client::Client;
use crate::clock;
use crate::config::Config;
use crate::documents::{Found, write_genesis};
use crate::folder::write_new;
use crate::governance::GovernanceFile;
use crate::keys;

/// Write an invitation: what somebody needs who is to join, or is to be told of the federation.
///
/// It holds the federation's id, a recent charter's, addresses of members' nodes, and all charters and cards. It makes nobody
/// a member: a charter does that (hashmesh charter propose --admit).
#[derive(Args, Debug)]
pub(super) struct Invite {
    /// Where to write it; to standard output if absent.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Invite {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Done> {
        let mut client = Client::admin(&context.folder).await?;
        let answer: GovernanceAnswer = client.get("/v1/governance").await?;
        let config = Config::load(&context.folder.config())?;
        let mut places: BTreeMap<_, Vec<String>> = config.peers.clone();
        for (member, said) in answer.addresses {
            let known = places.entry(member.parse()?).or_default();
            known.extend(said.into_iter().filter(|place| !known.contains(place)).collect::<Vec<_>>());
        }
        let hosts = places.into_iter().map(|(member, mut places)| {
            places.truncate(hashmesh_protocol::governance::address::MAX_PLACES);
            Host { member, places }
        });
        // A charter without a successor may still give way to another one, and would then shut out whoever was told of it.
        let last_final = answer.versions.iter().rev().nth(usize::from(answer.provisional));
        let charter = last_final.map_or(answer.charter.clone(), |version| version.id.clone());
        let invitation = Invitation::new(answer.network.parse()?, charter.parse()?, hosts);
        let genesis = Found::in_files(&[context.folder.genesis()])?.genesis()?;
        let mut text = armor::write(&[Document::Invitation(invitation)]) + &write_genesis(&genesis);
        // Whoever joins knows by these whose nodes it may trust to be members'.
        for version in answer.versions.iter().skip(1) {
            let answer: TextAnswer = client.get(&format!("/v1/charter/{}", version.id)).await?;
            text += &answer.text;
        }
        for member in &answer.members {
            let answer: TextAnswer = client.get(&format!("/v1/card/{}", member.id)).await?;
            text += &answer.text;
        }
        match &self.output {
            None => write_out(&text)?,
            Some(output) => {
                write_new(output, 0o644, text.as_bytes())?;
                context.print(&json!({ "file": output, "network": answer.network, "charter": charter }), || {
                    format!(
                        "invitation: {}\nWhoever gets it compares the id of the network with you by another way:\n{}\n",
                        output.display(),
                        answer.network
                    )
                })?;
            }
        }
        Ok(Done::Whole)
    }
}

/// Join a federation: verify its first charter, cards and signatures, and keep them.
///
/// Founders give the charter with all signatures. Who was invited gives the invitation; the node then waits until a charter that admits
/// its member is in force, and follows the chain of charters from the first one.
#[derive(Args, Debug)]
pub(super) struct Join {
    /// An invitation; or the first charter, and further files with cards and signatures if they are not in it.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl Join {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Done> {
        let config = Config::load(&context.folder.config())?;
        let found = Found::in_files(&self.files)?;
        let (genesis, later) = found.begin()?;
        let member = config.speaker(&context.folder.config())?;
        let keys = keys::load(&context.folder)?;
        let network = genesis.charter().network();
        let invitation = match found.invitations.as_slice() {
            [] => None,
            [invitation] if invitation.network == network => Some(invitation),
            [_] => bail!("the invitation is to another federation than the charter in these files is of"),
            several => bail!("{} invitations; one is needed", several.len()),
        };
        match genesis.cards().get(&member) {
            Some(card) if keys.missing_on(card).is_some() => {
                bail!(
                    "the card of {member} in these files has other keys than this folder; was it made by another init?"
                );
            }
            None if invitation.is_none() => {
                bail!("{member} is not a founder of this federation: an invitation is needed")
            }
            _ => {}
        }
        if context.folder.genesis().exists() || context.folder.governance().exists() {
            bail!(
                "{} exists already: this node has joined a federation; nothing was changed",
                context.folder.genesis().display()
            );
        }
        let waits = !genesis.cards().contains_key(&member);
        if let Some(invitation) = invitation {
            let peers = invitation.hosts.iter().filter(|host| host.member != member);
            add_peers(context, peers.map(|host| (host.member, host.places.as_slice())))?;
            GovernanceFile::new(context.folder.governance()).write(&invited(&genesis, invitation, &later))?;
        }
        write_new(&context.folder.genesis(), 0o644, write_genesis(&genesis).as_bytes())?;
        let charter = invitation.map_or(genesis.charter().id(), |invitation| invitation.charter);
        let federation = &genesis.charter().body().federation;
        let result = json!({ "network": network, "charter": charter, "member": member, "waits": waits });
        context.print(&result, || {
            let then = if waits {
                format!(
                    "{member} is no member yet: a member proposes it (hashmesh charter propose --admit {member}.card), and its governance \
                     key signs that too. Run the node: it waits.\n"
                )
            } else if invitation.is_some() {
                "Now run.\n".to_owned()
            } else {
                "Now say where the others are (hashmesh peers add MEMBER ADDRESS), and run.\n".to_owned()
            };
            let joined = if waits { "is to join" } else { "has joined" };
            format!("{member} {joined} {federation}\nnetwork {network}\n{then}")
        })?;
        Ok(Done::Whole)
    }
}

/// What somebody knows of a federation who was invited to it.
pub(super) fn invited(genesis: &Genesis, invitation: &Invitation, later: &Found) -> Stored {
    let mut stored = Stored::new(genesis, clock::now());
    stored.governance.must_contain(invitation.charter);
    for document in later.governance() {
        // What does not hold, or follows what is not here, comes from the members' nodes.
        let _not_yet = stored.governance.take(document);
    }
    stored
}
