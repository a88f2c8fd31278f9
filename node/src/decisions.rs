//! The decision log: every act through the admin socket, in a local file in which nothing can be changed unseen.
//!
//! One JSON object a line. Each carries the SHA-256 of the line before it, so that changing, dropping or reordering lines
//! breaks the chain from there on. Neither content hashes nor what was said about them are written into it: of statements,
//! how many were to be published. What was, the own log tells.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hashmesh_protocol::digest::Digest;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::folder::{FolderError, at};

/// The open log.
pub struct Decisions {
    path: PathBuf,
    tail: Mutex<Tail>,
}

struct Tail {
    file: File,
    last: Digest,
    /// Bytes of whole lines.
    length: u64,
    /// Whether part of a line may stand behind them, because writing it failed.
    torn: bool,
}

/// One line.
#[derive(Debug, Deserialize, Serialize)]
struct Line {
    time: String,
    /// The user that the operating system says is at the other end of the socket.
    uid: u32,
    pid: i32,
    act: String,
    detail: serde_json::Value,
    /// SHA-256 of the line before, without its newline; zeros in the first.
    before: Digest,
}

/// Who asks for an act.
#[derive(Clone, Copy, Debug)]
pub struct Actor {
    /// The user.
    pub uid: u32,
    /// The process.
    pub pid: i32,
}

/// Why the log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DecisionsError {
    /// The file.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The chain is broken.
    #[error(
        "line {line} of {path} does not follow from the line before it: the file was changed; move it aside and keep it"
    )]
    Broken {
        /// Which file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
    },
}

impl Decisions {
    /// Opens the log, checking its chain, or begins one. A line without its end is one that the power cut off before its act
    /// was done; it is removed.
    pub fn open(path: &Path) -> Result<Self, DecisionsError> {
        let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path);
        let file = file.map_err(|error| at(path, error))?;
        let whole = whole_lines(&file).map_err(|error| at(path, error))?;
        file.set_len(whole).map_err(|error| at(path, error))?;
        let last = verify(path, &file)?;
        Ok(Self { path: path.to_owned(), tail: Mutex::new(Tail { file, last, length: whole, torn: false }) })
    }

    /// Writes an act down, durably, before it is done. If that fails (a full disk), the log is as it was, and the act must
    /// not be done.
    pub fn write(&self, actor: Actor, act: &str, detail: serde_json::Value) -> Result<(), DecisionsError> {
        let mut tail = self.tail.lock();
        let line = Line {
            time: clock::now().to_string(),
            uid: actor.uid,
            pid: actor.pid,
            act: act.to_owned(),
            detail,
            before: tail.last,
        };
        let mut text = serde_json::to_string(&line).map_err(|error| at(&self.path, error.into()))?;
        let last = Digest::of(&[text.as_bytes()]);
        text.push('\n');
        tail.append(text.as_bytes()).map_err(|error| at(&self.path, error))?;
        tail.last = last;
        Ok(())
    }
}

impl Tail {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.mend()?;
        self.torn = true;
        let written = self.file.write_all(line).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // If this fails too, nothing is written before it succeeds.
            let _later = self.mend();
            return Err(error);
        }
        self.torn = false;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Removes what was written of a line: the next one must not be appended to it.
    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.length)?;
            self.file.sync_data()?;
            self.torn = false;
        }
        Ok(())
    }
}

/// How many bytes there are up to the last newline.
fn whole_lines(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut byte = [0];
    while end > 0 {
        file.read_exact_at(&mut byte, end - 1)?;
        if byte == *b"\n" {
            break;
        }
        end -= 1;
    }
    Ok(end)
}

fn verify(path: &Path, file: &File) -> Result<Digest, DecisionsError> {
    let mut last = Digest::default();
    for (number, text) in BufReader::new(file).lines().enumerate() {
        let text = text.map_err(|error| at(path, error))?;
        let broken = || DecisionsError::Broken { path: path.to_owned(), line: number + 1 };
        let line: Line = serde_json::from_str(&text).map_err(|_| broken())?;
        if line.before != last {
            return Err(broken());
        }
        last = Digest::of(&[text.as_bytes()]);
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_change_of_an_earlier_line_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.log");
        let actor = Actor { uid: 1, pid: 2 };
        for number in 0..5 {
            Decisions::open(&path).unwrap().write(actor, "test", json!({ "number": number })).unwrap();
        }
        assert!(Decisions::open(&path).is_ok());
        let whole = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = whole.lines().collect();
        let write = |text: String| std::fs::write(&path, text).unwrap();
        let broken =
            |line| matches!(Decisions::open(&path), Err(DecisionsError::Broken { line: at, .. }) if at == line);

        write(whole.replace("\"number\":2", "\"number\":3"));
        assert!(broken(4));
        write(format!("{}\n", [lines[0], lines[2], lines[3]].join("\n")));
        assert!(broken(2));
        write(format!("{}\n", lines[1..].join("\n")));
        assert!(broken(1));
        write(format!("{whole}nonsense\n"));
        assert!(broken(6));
        write(format!("{whole}{{\"time\":\"20"));
        assert!(Decisions::open(&path).is_ok(), "the power failed in the middle of a line");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    }

    const LIMITED: &str = "HASHMESH_TEST_DECISIONS";

    /// A full disk left half a line in the file; the next act was appended to it, and the node did not start again. Here
    /// the limit on the size of files plays the disk; a process that does not ignore the signal for it would be ended, so
    /// the test runs itself again in one that does.
    #[test]
    fn an_act_that_could_not_be_written_leaves_the_log_whole() {
        if std::env::var_os(LIMITED).is_none() {
            let run = "trap '' XFSZ; exec \"$0\" --exact decisions::tests::an_act_that_could_not_be_written_leaves_the_log_whole";
            let mut again = std::process::Command::new("sh");
            again.arg("-c").arg(run).arg(std::env::current_exe().unwrap()).env(LIMITED, "");
            let output = again.output().unwrap();
            let out = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && out.contains("1 passed"), "{out}");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.log");
        let actor = Actor { uid: 1, pid: 2 };
        let log = Decisions::open(&path).unwrap();
        log.write(actor, "test", json!({})).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let limit = |current| {
            let limit =
                rustix::process::Rlimit { current, ..rustix::process::getrlimit(rustix::process::Resource::Fsize) };
            rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
        };
        for room in [0, 1, 50] {
            limit(Some(whole.len() as u64 + room));
            assert!(log.write(actor, "test", json!({ "room": room })).is_err());
            limit(None);
            assert_eq!(std::fs::read(&path).unwrap(), whole, "{room}");
        }
        log.write(actor, "test", json!({ "room": "enough" })).unwrap();
        drop(log);
        Decisions::open(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    }
}
