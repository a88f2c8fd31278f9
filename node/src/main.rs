//! The `hashmesh` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    hashmesh::cli::main(std::env::args_os())
}
