//! The corpora of `fuzz/run`, without libFuzzer: what was once found stays mended.

use std::path::Path;

/// Runs a target on every file of its corpus.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "the corpus of {name} was not found");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let run = std::panic::catch_unwind(|| target(&bytes));
        assert!(run.is_ok(), "see it again: fuzz/run --replay {name} {}", file.display());
    }
}

macro_rules! corpora {
    ($($name:ident)*) => {
        /// The targets that are replayed here.
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(#[test]
        fn $name() {
            replay(stringify!($name), super::$name);
        })*
    };
}

corpora!(header imap lmtp mail_write mime reply smtp_reply);

/// A target that `fuzz/run` knows is replayed here.
#[test]
fn no_target_is_left_out() {
    let script = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/run")).unwrap();
    let all = script.lines().find_map(|line| line.strip_prefix("all=(")).unwrap();
    let mut all: Vec<&str> = all.trim_end_matches(')').split(' ').collect();
    all.sort_unstable();
    assert_eq!(all, NAMES);
}
