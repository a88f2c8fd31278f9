//! Names with rules: members, jurisdictions, federations, and the logs that are made of them (SPEC 6.1, 10.3).
//!
//! Small, `Copy` where they are keys of maps, and impossible to hold in a form that is not valid.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::NetworkId;

/// A name that breaks the rule of its kind.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// Not a member id.
    #[error("{0:?} is not a member id (1 to 32 of a-z, 0-9 and -)")]
    Member(String),
    /// Not a jurisdiction.
    #[error("{0:?} is not a jurisdiction (two capital letters, as FR; ISO 3166-1)")]
    Jurisdiction(String),
    /// Not a federation name.
    #[error("{0:?} is not a federation name (a domain name: 1 to 64 of a-z, 0-9, - and .)")]
    Federation(String),
}

macro_rules! text_form {
    ($name:ty) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = crate::codec::bounded_text(deserializer, 64)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The id of a member: 1 to 32 of `a-z`, `0-9` and `-`.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MemberId {
    // Zero bytes behind the name order shorter names first, as text does.
    bytes: [u8; 32],
    len: u8,
}

impl MemberId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("member ids are ASCII")
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for MemberId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let mut bytes = [0; 32];
        match bytes.get_mut(..text.len()) {
            Some(slot) if !text.is_empty() && text.bytes().all(allowed) => slot.copy_from_slice(text.as_bytes()),
            _ => return Err(NameError::Member(text.chars().take(64).collect())),
        }
        Ok(Self { bytes, len: u8::try_from(text.len()).expect("at most 32") })
    }
}

text_form!(MemberId);

/// Where a member answers to the law: two capital letters, as in ISO 3166-1 (`EU` is reserved there and allowed).
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Jurisdiction([u8; 2]);

impl fmt::Display for Jurisdiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.0).expect("jurisdictions are ASCII"))
    }
}

impl FromStr for Jurisdiction {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.as_bytes() {
            &[a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([a, b])),
            _ => Err(NameError::Jurisdiction(text.chars().take(64).collect())),
        }
    }
}

text_form!(Jurisdiction);

/// The name that a federation's origins begin with, best a domain name that one of the founders holds.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FederationName(String);

impl FederationName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FederationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for FederationName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Federation(text.chars().take(80).collect()))
        }
    }
}

text_form!(FederationName);

/// A log: a member's statements under one log key. A new log key is a new epoch.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LogId {
    /// Whose log.
    pub member: MemberId,
    /// Which of its logs, counted from 0.
    pub epoch: u32,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.member, self.epoch)
    }
}

/// What all origins of a federation begin with: `<federation>/<32 hex of the network id>/`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OriginPrefix(String);

impl OriginPrefix {
    /// The prefix of a federation.
    pub fn new(federation: &FederationName, network: &NetworkId) -> Self {
        Self(format!("{federation}/{}/", network.short()))
    }

    /// The origin of a log: the first line of its checkpoints, and the name of its key (SPEC 6.1).
    pub fn origin(&self, log: LogId) -> String {
        format!("{}{log}", self.0)
    }

    /// The name of a member's witness key (SPEC 6.1).
    pub fn witness(&self, member: MemberId) -> String {
        format!("{}{member}/witness", self.0)
    }

    /// The log of an origin; `None` for origins of other federations and whatever is not an origin.
    pub fn log(&self, origin: &str) -> Option<LogId> {
        let (member, epoch) = origin.strip_prefix(&self.0)?.split_once('/')?;
        let number = epoch.parse().ok()?;
        let log = LogId { member: member.parse().ok()?, epoch: number };
        // A second spelling of the number (+1, 01) would be a second origin of one log.
        (number.to_string() == epoch).then_some(log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn member_ids_have_1_to_32_of_their_letters() {
        for good in ["a", "acme", "a-1", "0", &"x".repeat(32)] {
            assert_eq!(good.parse::<MemberId>().unwrap().to_string(), good);
        }
        for bad in ["", "Acme", "a_b", "a b", "ü", "a\0", &"x".repeat(33)] {
            assert!(bad.parse::<MemberId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn member_ids_are_ordered_as_text() {
        let mut ids: Vec<MemberId> = ["b", "ab", "a", "a-", "a1"].map(|id| id.parse().unwrap()).to_vec();
        let mut texts: Vec<_> = ids.iter().map(ToString::to_string).collect();
        ids.sort();
        texts.sort();
        assert_eq!(ids.iter().map(ToString::to_string).collect::<Vec<_>>(), texts);
    }

    #[test]
    fn jurisdictions_are_two_capitals() {
        assert_eq!("FR".parse::<Jurisdiction>().unwrap().to_string(), "FR");
        for bad in ["", "F", "fr", "FRA", "F1"] {
            assert!(bad.parse::<Jurisdiction>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_origin_names_one_log_of_one_federation() {
        let network = NetworkId(Digest([0xab; 32]));
        let prefix = OriginPrefix::new(&"safety.example".parse().unwrap(), &network);
        let log = LogId { member: "acme".parse().unwrap(), epoch: 3 };
        let origin = format!("safety.example/{}/acme/3", "ab".repeat(16));
        assert_eq!(prefix.origin(log), origin);
        assert_eq!(prefix.log(&origin), Some(log));
        for other in [
            origin.replace("ab/", "aa/"),
            origin.replace("safety", "unsafe"),
            origin.replace("/3", "/03"),
            origin.replace("/3", "/+3"),
            origin.replace("/3", "/witness"),
            origin.replace("/3", ""),
            origin.replace("/3", "/4294967296"),
        ] {
            assert_eq!(prefix.log(&other), None, "{other}");
        }
    }
}
