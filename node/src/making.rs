//! Files that are made together or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use crate::folder::{FolderError, make_folder, write_new};

/// What was made so far. Unless [`finish`](Self::finish) is reached, it is taken back when this is dropped: keys without the
/// card that names them, on a disk that was full, would keep the next attempt from beginning. Only what was made here is ever
/// removed, and folders only if nothing else has come to lie in them.
#[derive(Debug, Default)]
pub struct Making {
    made: Vec<Made>,
}

#[derive(Debug)]
enum Made {
    Folder(PathBuf),
    File(PathBuf),
}

impl Making {
    /// Says that a folder is about to be made, with those above it, unless it is there.
    pub fn claim(&mut self, path: &Path) {
        let missing = path.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.exists());
        let missing: Vec<_> = missing.map(|above| Made::Folder(above.to_owned())).collect();
        self.made.extend(missing.into_iter().rev());
    }

    /// Makes a folder with these permissions, and those above it, unless it is there.
    pub fn folder(&mut self, path: &Path, mode: u32) -> Result<(), FolderError> {
        self.claim(path);
        make_folder(path, mode)
    }

    /// Writes a new file, durably, with these permissions.
    pub fn file(&mut self, path: &Path, mode: u32, bytes: &[u8]) -> Result<(), FolderError> {
        let written = write_new(path, mode, bytes);
        if !matches!(written, Err(FolderError::Exists { .. })) {
            self.made.push(Made::File(path.to_owned()));
        }
        written
    }

    /// Everything is there: it stays.
    pub fn finish(mut self) {
        self.made.clear();
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        for made in self.made.iter().rev() {
            // What cannot be removed is left; the error that led here is what the user must hear of.
            let _left = match made {
                Made::Folder(path) => fs::remove_dir(path),
                Made::File(path) => fs::remove_file(path),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_is_taken_back_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("there")).unwrap();
        fs::write(at("there/kept"), "x").unwrap();
        let mut making = Making::default();
        making.folder(&at("a/b"), 0o700).unwrap();
        making.folder(&at("there"), 0o700).unwrap();
        making.file(&at("a/b/key"), 0o600, b"1").unwrap();
        making.file(&at("there/new"), 0o600, b"1").unwrap();
        assert!(making.file(&at("there/kept"), 0o600, b"1").is_err());
        drop(making);
        assert!(!at("a").exists() && !at("there/new").exists());
        assert_eq!(fs::read(at("there/kept")).unwrap(), b"x");
        let mut making = Making::default();
        making.file(&at("stays"), 0o600, b"1").unwrap();
        making.finish();
        assert!(at("stays").exists());
    }
}
