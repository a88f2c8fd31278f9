//! An export on disk, for audits: read without following links, whoever has made the folder.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use hashmesh_protocol::audit::{FileFault, Files};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat, openat2};
use rustix::io::Errno;

/// Most entries of a folder that are looked at.
const MAX_NAMES: usize = 1 << 20;

/// The folder of an export.
pub struct ExportFolder<P> {
    root: OwnedFd,
    path: PathBuf,
    progress: P,
}

impl<P: Fn(u64) + Sync> ExportFolder<P> {
    /// Opens a folder. `progress` is told how many statements have been looked at since it was told last.
    pub fn open(path: &Path, progress: P) -> io::Result<Self> {
        let root = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root, path: path.to_owned(), progress })
    }

    /// Opens something in the folder. A pipe must not keep the audit waiting, so nothing is waited for.
    fn find(&self, path: &str, further: OFlags) -> Result<OwnedFd, FileFault> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW | further;
        let inside = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        let found = match openat2(&self.root, path, flags, Mode::empty(), inside) {
            // Kernels before 5.6: links to folders are followed there, and to files not.
            Err(Errno::NOSYS | Errno::PERM) => openat(&self.root, path, flags, Mode::empty()),
            found => found,
        };
        found.map_err(|error| match error {
            Errno::NOENT => FileFault::Missing,
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::NXIO => FileFault::NotAFile,
            error => FileFault::Unreadable(error.to_string()),
        })
    }
}

impl<P: Fn(u64) + Sync> Files for ExportFolder<P> {
    fn read(&self, path: &str, max: usize) -> Result<Vec<u8>, FileFault> {
        let unreadable = |error: io::Error| FileFault::Unreadable(error.to_string());
        let file = File::from(self.find(path, OFlags::empty())?);
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(FileFault::NotAFile);
        }
        if metadata.len() > max as u64 {
            return Err(FileFault::TooLong(max));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(max) + 1);
        // It may be growing just now.
        file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > max { Err(FileFault::TooLong(max)) } else { Ok(bytes) }
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, FileFault> {
        match self.find(folder, OFlags::DIRECTORY) {
            Ok(_) => {}
            Err(FileFault::Missing) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let unreadable = |error: io::Error| FileFault::Unreadable(error.to_string());
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path.join(folder)).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name().into_string();
            names.push(name.map_err(|name| FileFault::Unreadable(format!("{name:?} is no name that an export has")))?);
            if names.len() > MAX_NAMES {
                return Err(FileFault::Unreadable(format!("more than {MAX_NAMES} files in it")));
            }
        }
        names.sort();
        Ok(names)
    }

    fn each<R: Send>(&self, count: usize, work: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
        (0..count).into_par_iter().map(work).collect()
    }

    fn progress(&self, statements: u64) {
        (self.progress)(statements);
    }
}
