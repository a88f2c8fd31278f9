//! Speaking to whoever watches, who may stop listening, as `head` does: then there is nothing left to do here, and what was
//! started is to be cleaned up, which a panic of `println!` in the middle would make a matter of luck.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};

/// Nobody reads standard output any more.
#[derive(Debug)]
pub struct Unheard;

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads the output any more")
    }
}

impl std::error::Error for Unheard {}

/// Prints a line.
pub(crate) fn tell(line: impl fmt::Display) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Unheard.into()),
        written => Ok(written?),
    }
}
