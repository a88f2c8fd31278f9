//! What a panic means in a node: the end of the process.
//!
//! A task that is gone leaves a node that looks alive and is not: off the network, or deaf to its own sockets. So the first
//! panic ends the process, as the loss of power would, and whoever supervises it starts it again from what is durable. The
//! exceptions are the database's: it is known to panic over files that it cannot make out, and its own threads turn their
//! panics into errors.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::{process, thread};

/// What a Rust program ends with that panics on its main thread.
const CODE: i32 = 101;

/// How the database's own threads are called.
const DATABASE: &str = "sled-io";

thread_local! {
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// From now on a panic on any thread is reported on standard error and ends the process.
pub fn end_the_process() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if CAUGHT.get() {
            return;
        }
        report(info);
        if !thread::current().name().is_some_and(|name| name.starts_with(DATABASE)) {
            process::exit(CODE);
        }
    }));
}

/// Runs what may panic on this thread, silently; `None` if it did.
pub fn caught<T>(run: impl FnOnce() -> T) -> Option<T> {
    let outside = CAUGHT.replace(true);
    let done = catch_unwind(AssertUnwindSafe(run));
    CAUGHT.set(outside);
    done.ok()
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::Command;

    use super::*;

    /// A connection was lost, its log line had nowhere to go, the task that wrote it panicked, and the node stayed up without a
    /// network.
    #[test]
    fn a_panic_on_any_thread_ends_the_process_unless_it_is_caught() {
        const CHILD: &str = "HASHMESH_TEST_PANICS";
        if env::var_os(CHILD).is_some() {
            end_the_process();
            assert_eq!(caught(|| panic!("foreseen")), None::<()>);
            assert_eq!(caught(|| 1), Some(1));
            let _never = thread::spawn(|| panic!("by surprise")).join();
            process::exit(0);
        }
        let name = "panics::tests::a_panic_on_any_thread_ends_the_process_unless_it_is_caught";
        let mut child = Command::new(env::current_exe().unwrap());
        let output = child.args(["--exact", "--nocapture", name]).env(CHILD, "1").output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(CODE), "{error}");
        assert!(error.contains("by surprise") && !error.contains("foreseen"), "{error}");
    }
}
