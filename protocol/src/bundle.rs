//! Entry bundles, as c2sp.org/tlog-tiles writes them: each entry a big-endian u16 length and that many bytes.
//!
//! One form for leaves (and for openings, where a length of zero means "none") on the wire, on disk and in exports, so
//! that bytes are moved and not rebuilt.

/// Bytes that are not a whole number of entries.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the bundle is cut short inside an entry")]
pub struct CutShort;

/// Appends an entry.
///
/// # Panics
/// If it is longer than 65,535 bytes; everything that is put into bundles has a lower cap of its own.
pub fn push(bundle: &mut Vec<u8>, entry: &[u8]) {
    let len = u16::try_from(entry.len()).expect("entries have caps far below 64 KiB");
    bundle.extend_from_slice(&len.to_be_bytes());
    bundle.extend_from_slice(entry);
}

/// Splits a bundle into its entries. Counts nothing in advance and allocates nothing.
pub fn entries(bundle: &[u8]) -> impl Iterator<Item = Result<&[u8], CutShort>> {
    let mut rest = bundle;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = rest.split_first_chunk().and_then(|(len, after)| {
            let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            rest = after;
            Some(entry)
        });
        if entry.is_none() {
            rest = &[];
        }
        Some(entry.ok_or(CutShort))
    })
}

/// A bundle of openings that begins at a leaf, without those of some leaves, which ascend.
pub fn without(openings: Vec<u8>, first: u64, hidden: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut hidden = hidden.into_iter().peekable();
    if hidden.peek().is_none() {
        return openings;
    }
    let mut shown = Vec::with_capacity(openings.len());
    for (index, opening) in (first..).zip(entries(&openings)) {
        let is_hidden = hidden.next_if_eq(&index).is_some();
        push(&mut shown, if is_hidden { &[] } else { opening.unwrap_or_default() });
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_went_in() {
        let mut bundle = Vec::new();
        for entry in [&b"alpha"[..], b"", b"gamma"] {
            push(&mut bundle, entry);
        }
        assert_eq!(hex::encode(&bundle), "0005616c7068610000000567616d6d61");
        let all: Result<Vec<_>, _> = entries(&bundle).collect();
        assert_eq!(all, Ok(vec![&b"alpha"[..], b"", b"gamma"]));
    }

    #[test]
    fn a_bundle_that_ends_inside_an_entry_is_refused() {
        for bytes in [&[0][..], &[0, 1], &[0, 1, 7, 0], &[0xff, 0xff, 1]] {
            assert!(entries(bytes).any(|entry| entry == Err(CutShort)), "{bytes:?}");
            assert!(entries(bytes).count() <= 2, "it ends");
        }
    }
}
