//! Who may know what: the crates that are hard to replace, and the things that make runs unrepeatable, are each named in one
//! place. DESIGN section 7.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The files under these folders that name something, tests at their end left out, without the folder.
fn naming(folders: &[&str], name: &str) -> Vec<String> {
    let mut files = Vec::new();
    folders.iter().for_each(|folder| sources(&root().join(folder), &mut files));
    let mut naming: Vec<String> = files
        .into_iter()
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            code.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| line.contains(name))
        })
        .map(|path| path.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    naming.sort();
    naming
}

const ALL: [&str; 3] = ["protocol/src", "node/src", "testnet/src"];

#[test]
fn serde_cbor_is_behind_the_two_codecs() {
    assert_eq!(naming(&ALL, "serde_cbor::"), ["node/src/api/codec.rs", "protocol/src/codec.rs"]);
}

#[test]
fn ed25519_dalek_is_behind_the_key_module() {
    assert_eq!(naming(&ALL, "ed25519_dalek"), ["protocol/src/key.rs"]);
}

#[test]
fn sled_is_behind_the_store() {
    let naming = naming(&ALL, "sled::");
    assert!(!naming.is_empty() && naming.iter().all(|file| file.starts_with("node/src/store/")), "{naming:?}");
}

#[test]
fn libp2p_is_behind_the_network() {
    let naming = naming(&ALL, "libp2p::");
    let inside = |file: &String| file.starts_with("node/src/net/") || file == "node/src/net.rs";
    assert!(!naming.is_empty() && naming.iter().all(inside), "{naming:?}");
}

/// The specification speaks to nodes as their operators do, but for one peer that does what no node would.
#[test]
fn of_the_tests_only_the_attacker_speaks_libp2p() {
    for name in ["libp2p::", "libp2p_stream"] {
        let naming: Vec<String> = naming(&["tests"], name).into_iter().filter(|file| file != file!()).collect();
        assert_eq!(naming, ["tests/hostile/attacker.rs"], "{name}");
    }
}

#[test]
fn the_wall_clock_is_read_in_one_place() {
    assert_eq!(naming(&ALL, "SystemTime::now"), ["node/src/clock.rs"]);
    assert_eq!(naming(&["protocol/src"], "Instant::now"), [""; 0]);
}

/// The rules do no I/O, start no threads, and draw no random numbers.
#[test]
fn the_protocol_does_no_io() {
    for name in [
        "std::fs",
        "std::net",
        "std::io",
        "std::env",
        "std::thread",
        "tokio",
        "getrandom",
        "rand::",
        "println!",
        "tracing",
    ] {
        assert_eq!(naming(&["protocol/src"], name), [""; 0], "{name}");
    }
}

/// Arrows never turn back: node uses protocol, testnet uses both.
#[test]
fn packages_depend_in_one_direction() {
    let manifest = |package: &str| fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap();
    assert!(!manifest("protocol").contains("hashmesh.workspace") && !manifest("protocol").contains("hashmesh-testnet"));
    assert!(!manifest("node").contains("hashmesh-testnet"));
    for package in ["protocol", "node", "testnet"] {
        assert!(!manifest(package).contains("hashmesh-tests"), "{package}");
    }
}

/// Advisories that the databases miss: the lock file stays above these versions (GHSA-gc42-3jg7-rxr2, GHSA-xqmp-fxgv-xvq5,
/// GHSA-g3g5-x568-qvqx, GHSA-vrx6-jcp8-vm7m for gossipsub; CVE-2026-31814, CVE-2026-32314 for yamux; RUSTSEC-2022-0084 for
/// libp2p). A crate that is not there is as good.
#[test]
fn the_lock_file_keeps_its_floors() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut lines = lock.lines();
    let mut versions = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("name = ") {
            let version = lines.next().unwrap().trim_start_matches("version = ").trim_matches('"');
            let numbers: Vec<u64> = version.split(['.', '-', '+']).map_while(|number| number.parse().ok()).collect();
            versions.push((name.trim_matches('"').to_owned(), numbers));
        }
    }
    let floors: [(&str, [u64; 3]); 7] = [
        ("libp2p", [0, 57, 1]),
        ("libp2p-gossipsub", [0, 50, 1]),
        ("yamux", [0, 13, 10]),
        ("libp2p-quic", [0, 13, 1]),
        ("quinn-proto", [0, 11, 15]),
        ("hickory-proto", [0, 26, 1]),
        ("rustls-webpki", [0, 103, 13]),
    ];
    for (name, floor) in floors {
        for (_, version) in versions.iter().filter(|(known, _)| known == name) {
            assert!(version.as_slice() >= floor.as_slice(), "{name} {version:?} is below {floor:?}");
        }
    }
    assert!(versions.iter().any(|(name, _)| name == "libp2p"), "the lock file was read");
}
