//! Where an export lies.

/// A folder of files, for reading, by paths with `/` in them.
pub trait Files: Sync {
    /// The bytes of a file of at most `max` bytes.
    fn read(&self, path: &str, max: usize) -> Result<Vec<u8>, FileFault>;

    /// What lies in a folder, by name, ascending; nothing if there is no such folder.
    fn names(&self, folder: &str) -> Result<Vec<String>, FileFault>;

    /// Does independent pieces of work, numbered from 0, as many at a time as there are processors.
    fn each<R: Send>(&self, count: usize, work: impl Fn(usize) -> R + Sync + Send) -> Vec<R>;

    /// Is told how many more statements have been looked at.
    fn progress(&self, statements: u64);
}

/// Why a file cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FileFault {
    /// It is not there.
    #[error("it is missing")]
    Missing,
    /// It is longer than anything that could stand there.
    #[error("it is longer than the {0} bytes that it may have")]
    TooLong(usize),
    /// A link, a folder, a device.
    #[error("it is no regular file of the export (a link, a folder or a device)")]
    NotAFile,
    /// The system.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Files in memory.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Memory(pub(crate) BTreeMap<String, Vec<u8>>);

    impl Files for Memory {
        fn read(&self, path: &str, max: usize) -> Result<Vec<u8>, FileFault> {
            let bytes = self.0.get(path).ok_or(FileFault::Missing)?;
            if bytes.len() > max { Err(FileFault::TooLong(max)) } else { Ok(bytes.clone()) }
        }

        fn names(&self, folder: &str) -> Result<Vec<String>, FileFault> {
            let prefix = format!("{folder}/");
            let below = self.0.keys().filter_map(|path| path.strip_prefix(&prefix)?.split('/').next());
            Ok(below.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect())
        }

        fn each<R: Send>(&self, count: usize, work: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
            (0..count).map(work).collect()
        }

        fn progress(&self, _: u64) {}
    }
}
