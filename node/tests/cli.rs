//! The command line on files alone: what it makes, what it refuses, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

fn hashmesh(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hashmesh")).current_dir(folder).args(arguments).output().unwrap()
}

#[track_caller]
fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let output = hashmesh(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hashmesh {} failed: {error}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs what must be refused, and gives the reason.
#[track_caller]
fn fails(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = hashmesh(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "hashmesh {}: {error}", arguments.join(" "));
    assert!(output.stdout.is_empty(), "an error prints no result: {}", String::from_utf8_lossy(&output.stdout));
    assert!(!error.contains("panicked"), "{error}");
    error
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn init(folder: &Path, member: &str, jurisdiction: &str) {
    succeeds(folder, &["--data", member, "init", "--member", member, "--name", member, "--jurisdiction", jurisdiction]);
}

/// Three founders and an unsigned charter.
fn founders() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (member, jurisdiction) in [("acme", "FR"), ("bolt", "DE"), ("crab", "US")] {
        init(folder.path(), member, jurisdiction);
    }
    succeeds(
        folder.path(),
        &["charter", "new", "--federation", "a.example", "acme/acme.card", "bolt/bolt.card", "crab/crab.card"],
    );
    folder
}

#[test]
fn init_makes_keys_that_only_their_owner_can_read() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path(), "acme", "FR");
    let data = folder.path().join("acme");
    for key in ["log", "witness", "node"] {
        assert_eq!(mode(data.join("keys").join(format!("{key}.key"))), 0o600);
    }
    assert_eq!(mode(data.join("keys")), 0o700);
    assert_eq!(mode(data.join("signer")), 0o600);
    let governance = folder.path().join("acme-governance");
    assert_eq!(mode(governance.join("governance.key")), 0o600);
    assert_eq!(mode(governance), 0o700);
    let key = fs::read_to_string(data.join("keys/log.key")).unwrap();
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"), "PKCS#8, which every tool reads");
}

#[test]
fn init_changes_nothing_where_something_is() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path(), "acme", "FR");
    let key = fs::read(folder.path().join("acme/keys/log.key")).unwrap();
    let again = ["--data", "acme", "init", "--member", "acme", "--name", "A", "--jurisdiction", "FR"];
    assert!(fails(folder.path(), &again, 1).contains("nothing was changed"));
    assert_eq!(fs::read(folder.path().join("acme/keys/log.key")).unwrap(), key);
}

/// Written with a dot in front, a folder inside of the data folder was taken for one outside of it.
#[test]
fn the_governance_key_does_not_get_into_the_data_folder_however_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("link")).unwrap();
    let whole = folder.path().join("acme/x").display().to_string();
    for governance in ["acme", "acme/x", "./acme/x", "elsewhere/../acme/x", "link/acme/x", whole.as_str()] {
        let init =
            ["--data", "acme", "init", "--member", "acme", "--name", "A", "--jurisdiction", "FR", "--governance"];
        let error = fails(folder.path(), &[&init[..], &[governance]].concat(), 1);
        assert!(error.contains("outside of the data folder"), "{governance}: {error}");
        assert!(!folder.path().join("acme").exists());
    }
}

/// It wrote keys, a card and a configuration before it found a policy in its way, and could then not be repeated.
#[test]
fn init_that_cannot_finish_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let init = ["--data", "acme", "init", "--member", "acme", "--name", "A", "--jurisdiction", "FR"];
    let data = folder.path().join("acme");
    let names = || {
        let mut names: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    fs::create_dir(&data).unwrap();
    for taken in ["policy.toml", "acme.card", "signer"] {
        std::os::unix::fs::symlink("nowhere", data.join(taken)).unwrap();
        assert!(fails(folder.path(), &init, 1).contains(&format!("acme/{taken} exists already")));
        assert_eq!(names(), [taken], "nothing else was made");
        fs::remove_file(data.join(taken)).unwrap();
    }
    // The governance key cannot be written: whatever was made before it goes.
    fs::write(folder.path().join("acme-governance"), "a file").unwrap();
    assert!(fails(folder.path(), &init, 1).contains("acme-governance"));
    assert!(names().is_empty(), "{:?}", names());
    fs::remove_file(folder.path().join("acme-governance")).unwrap();
    succeeds(folder.path(), &init);
}

#[test]
fn init_refuses_what_the_rules_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let attempt = |member: &str, name: &str, jurisdiction: &str, listen: &str, code: i32| {
        let arguments = [
            "--data",
            "x",
            "init",
            "--member",
            member,
            "--name",
            name,
            "--jurisdiction",
            jurisdiction,
            "--listen",
            listen,
        ];
        let error = fails(folder.path(), &arguments, code);
        assert!(!folder.path().join("x").exists(), "nothing was made");
        error
    };
    let here = "/ip4/127.0.0.1/tcp/1";
    assert!(attempt("Acme", "A", "FR", here, 2).contains("member id"));
    assert!(attempt("acme", "A", "France", here, 2).contains("two capital letters"));
    assert!(attempt("acme", " ", "FR", here, 1).contains("name"));
    assert!(attempt("acme", "gnp\u{202e}.exe", "FR", here, 1).contains("reorder"));
    assert!(attempt("acme", "A", "FR", "/dns/a.example/tcp/1", 1).contains("not on a name"));
    assert!(attempt("acme", "A", "FR", "/ip4/127.0.0.1/tcp/0", 1).contains("port 0"));
    assert!(attempt("acme", "A", "FR", "127.0.0.1:4600", 1).contains("/ip4/127.0.0.1/tcp/4600"));
    let inside =
        ["--data", "x", "init", "--member", "a", "--name", "A", "--jurisdiction", "FR", "--governance", "x/governance"];
    assert!(fails(folder.path(), &inside, 1).contains("outside of the data folder"));
}

/// SPEC 10.2.
#[test]
fn the_charter_has_the_same_bytes_whoever_builds_it() {
    let folder = founders();
    let new = |output: &str, cards: [&str; 3]| {
        let mut arguments = vec!["charter", "new", "--federation", "a.example", "-o", output];
        arguments.extend(cards);
        succeeds(folder.path(), &arguments);
        fs::read(folder.path().join(output)).unwrap()
    };
    let first = fs::read(folder.path().join("genesis.charter")).unwrap();
    assert_eq!(new("again", ["crab/crab.card", "bolt/bolt.card", "acme/acme.card"]), first);
    assert_eq!(new("merged", ["genesis.charter", "acme/acme.card", "acme/acme.card"]), first);
}

#[test]
fn joining_needs_every_signature_and_signatures_can_be_merged() {
    let folder = founders();
    for member in ["acme", "bolt"] {
        succeeds(folder.path(), &["--data", member, "charter", "sign", "genesis.charter"]);
    }
    let error = fails(folder.path(), &["--data", "acme", "join", "genesis.charter", "acme.sig", "bolt.sig"], 1);
    assert!(error.contains("not signed yet by crab"), "{error}");
    assert!(!folder.path().join("acme/genesis.charter").exists());

    succeeds(folder.path(), &["--data", "crab", "charter", "sign", "genesis.charter"]);
    let merged: String = ["genesis.charter", "crab.sig", "acme.sig", "bolt.sig", "acme.sig"]
        .map(|file| fs::read_to_string(folder.path().join(file)).unwrap())
        .concat();
    fs::write(folder.path().join("signed"), merged).unwrap();
    succeeds(folder.path(), &["--data", "acme", "join", "signed"]);
    let shown = succeeds(folder.path(), &["charter", "show", "acme/genesis.charter"]);
    assert!(shown.contains("missing:   nobody"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&succeeds(folder.path(), &["--json", "charter", "show", "signed"])).unwrap();
    assert_eq!(json["signed"], serde_json::json!(["acme", "bolt", "crab"]));
    assert_eq!(json["limits"]["batch_leaves"], 8192);
}

#[test]
fn signatures_and_keys_of_somebody_else_are_refused() {
    let folder = founders();
    init(folder.path(), "dove", "JP");
    let error = fails(folder.path(), &["--data", "dove", "charter", "sign", "genesis.charter"], 1);
    assert!(error.contains("no member's governance key"), "{error}");
    let error = fails(folder.path(), &["--data", "dove", "join", "genesis.charter"], 1);
    assert!(error.contains("not signed"), "{error}");
    let error = fails(folder.path(), &["--data", "acme", "join", "acme/acme.card"], 1);
    assert!(error.contains("no charter"), "{error}");
    let log_key = ["charter", "sign", "genesis.charter", "--key", "acme/keys/log.key"];
    assert!(fails(folder.path(), &log_key, 1).contains("no member's governance key"));
}

#[test]
fn a_loose_key_is_refused_with_the_command_that_mends_it() {
    let folder = founders();
    let key = folder.path().join("acme-governance/governance.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = fails(folder.path(), &["--data", "acme", "charter", "sign", "genesis.charter"], 1);
    assert!(error.contains("chmod 600 acme-governance/governance.key"), "{error}");
}

#[test]
fn damaged_files_are_named() {
    let folder = founders();
    let text = fs::read_to_string(folder.path().join("genesis.charter")).unwrap();
    fs::write(folder.path().join("cut"), &text[..text.len() / 2]).unwrap();
    let error = fails(folder.path(), &["charter", "show", "cut"], 1);
    assert!(error.contains("cut: a damaged block"), "{error}");
    let error = fails(folder.path(), &["charter", "show", "missing"], 1);
    assert!(error.contains("missing: No such file"), "{error}");
    fs::write(folder.path().join("limits.toml"), "batch_leafs = 1").unwrap();
    let new = [
        "charter",
        "new",
        "--federation",
        "a",
        "-o",
        "x",
        "--limits",
        "limits.toml",
        "acme/acme.card",
        "bolt/bolt.card",
    ];
    let error = fails(folder.path(), &new, 1);
    assert!(error.contains("no limit called \"batch_leafs\""), "{error}");
}

/// Both together, as their headers promise.
#[test]
fn the_example_vocabularies_make_a_charter() {
    let folder = founders();
    let read =
        |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("vocabularies").join(name)).unwrap();
    fs::write(folder.path().join("both.toml"), read("child-safety.toml") + &read("terrorist-content.toml")).unwrap();
    let new = ["charter", "new", "--federation", "a.example", "-o", "both.charter", "--labels", "both.toml"];
    succeeds(folder.path(), &[&new[..], &["acme/acme.card", "bolt/bolt.card", "crab/crab.card"]].concat());
    let shown = succeeds(folder.path(), &["charter", "show", "both.charter"]);
    assert!(shown.contains("csam-a1") && shown.lines().any(|line| line.trim_start().starts_with("201")), "{shown}");
}

#[test]
fn a_node_that_is_not_set_up_or_not_running_says_so() {
    let folder = tempfile::tempdir().unwrap();
    assert!(fails(folder.path(), &["run"], 1).contains("hashmesh init"));
    init(folder.path(), "acme", "FR");
    assert!(fails(folder.path(), &["--data", "acme", "run"], 1).contains("hashmesh join"));
    let md5 = "md5:900150983cd24fb0d6963f7d28e17f72";
    for command in
        [&["status"][..], &["match", md5], &["add", md5, "--label", "demo"], &["import", "x", "--label", "demo"]]
    {
        let mut arguments = vec!["--data", "acme"];
        arguments.extend(command);
        assert!(fails(folder.path(), &arguments, 3).contains("Is it running"), "{command:?}");
    }
}

#[test]
fn wrong_hashes_are_explained_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    for (hash, why) in [
        ("md5:12", "a md5 hash has 32 hex digits, this one has 2"),
        ("crc:12", "not a kind of hash"),
        ("900150983cd24fb0d6963f7d28e17f72", "expected KIND:HEX"),
        ("md5:z00150983cd24fb0d6963f7d28e17f72", "not hexadecimal"),
    ] {
        let error = fails(folder.path(), &["add", hash, "--label", "demo"], 2);
        assert!(error.contains(why), "{error}");
    }
    assert!(
        fails(folder.path(), &["revoke", "md5:900150983cd24fb0d6963f7d28e17f72", "--reason", "because"], 2)
            .contains("appeal")
    );
}

#[test]
fn hashing_needs_no_node() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("abc"), "abc").unwrap();
    let out = succeeds(folder.path(), &["hash", "abc"]);
    assert!(out.contains("md5:900150983cd24fb0d6963f7d28e17f72  abc"), "{out}");
    let output = hashmesh(folder.path(), &["hash", "abc", "missing"]);
    assert_eq!(output.status.code(), Some(4), "done in part");
    fails(folder.path(), &["hash", "missing"], 1);
}

#[test]
fn peers_are_kept_in_the_file_that_people_wrote() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path(), "acme", "FR");
    let peers = |arguments: &[&str]| {
        let mut all = vec!["--data", "acme", "peers"];
        all.extend(arguments);
        all.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let run = |arguments: &[&str]| {
        let all = peers(arguments);
        succeeds(folder.path(), &all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    run(&["add", "bolt", "/dns/bolt.example/tcp/4600"]);
    run(&["add", "bolt", "/ip4/10.0.0.1/tcp/4600"]);
    run(&["add", "crab", "/ip4/10.0.0.2/tcp/4600"]);
    run(&["remove", "bolt", "/ip4/10.0.0.1/tcp/4600"]);
    run(&["remove", "crab"]);
    let config = fs::read_to_string(folder.path().join("acme/config.toml")).unwrap();
    assert!(config.contains("# Where the other members' nodes are."), "comments stay");
    assert!(config.ends_with("bolt = [\"/dns/bolt.example/tcp/4600\"]\n"), "{config}");
    assert!(run(&["list"]).contains("/dns/bolt.example/tcp/4600"));
    let nonsense = ["--data", "acme", "peers", "add", "bolt", "bolt.example:4600"];
    assert!(fails(folder.path(), &nonsense, 1).contains("not an address"));
}

#[test]
fn peers_are_members_once_the_federation_is_known() {
    let folder = founders();
    for member in ["acme", "bolt", "crab"] {
        succeeds(folder.path(), &["--data", member, "charter", "sign", "genesis.charter"]);
    }
    succeeds(folder.path(), &["--data", "acme", "join", "genesis.charter", "acme.sig", "bolt.sig", "crab.sig"]);
    let add =
        |member: &str| ["--data", "acme", "--json", "peers", "add", member, "/ip4/10.0.0.1/tcp/1"].map(str::to_owned);
    let typo = add("bolr");
    let error = fails(folder.path(), &typo.each_ref().map(String::as_str), 1);
    let error: serde_json::Value = serde_json::from_str(&error).unwrap();
    assert_eq!(error["error"], "bolr is not a member of this federation (members: acme, bolt, crab)");
    let answer = succeeds(folder.path(), &add("bolt").each_ref().map(String::as_str));
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer, serde_json::json!({ "member": "bolt", "addresses": ["/ip4/10.0.0.1/tcp/1"] }));
}

#[test]
fn every_command_has_a_help_text() {
    let folder = tempfile::tempdir().unwrap();
    let help = succeeds(folder.path(), &["--help"]);
    for command in [
        "init",
        "card",
        "charter",
        "join",
        "run",
        "peers",
        "signer",
        "sign-alone",
        "add",
        "dispute",
        "revoke",
        "import",
        "match",
        "hash",
        "status",
        "log",
    ] {
        assert!(help.contains(&format!("\n  {command}")), "{command} is not in the help");
        assert!(succeeds(folder.path(), &[command, "--help"]).contains("Usage: hashmesh"), "{command}");
    }
    assert!(help.contains("Exit codes"));
}

#[test]
fn pictures_are_hashed_also_turned_and_only_if_there_is_something_to_hash() {
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/pdq");
    let hash = |arguments: &[&str]| succeeds(&pictures, &[&["hash"], arguments].concat());
    let pdq = |text: &str| text.lines().filter(|line| line.starts_with("pdq:")).count();
    assert_eq!(pdq(&hash(&["cat-lossy.webp"])), 1);
    let turned = hash(&["cat-lossy.webp", "--rotations"]);
    assert_eq!(pdq(&turned), 8);
    assert!(turned.contains("cat-lossy.webp (rotate90)") && turned.contains("cat-lossy.webp (flipminus1)"), "{turned}");
    let json: serde_json::Value = serde_json::from_str(&hash(&["cat-lossy.webp", "--rotations", "--json"])).unwrap();
    assert_eq!(json[0]["rotations"].as_object().unwrap().len(), 8);
    assert_eq!(json[0]["rotations"]["original"], json[0]["hashes"][0]);

    assert_eq!(pdq(&hash(&["clock-blurred.jpg", "--rotations"])), 0);
    let json: serde_json::Value = serde_json::from_str(&hash(&["clock-blurred.jpg", "--json"])).unwrap();
    assert!(json[0]["no_pdq"].as_str().unwrap().contains("quality 34, at least 50"), "{json}");
    assert!(fails(&pictures, &["hash", "/dev/zero"], 1).contains("not a regular file"));
}
