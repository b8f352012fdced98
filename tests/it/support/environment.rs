//! The folder with the official client libraries, made by `tests/env`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder, made if it is not there yet: `python/bin/python` and `node/node_modules` lie in it.
pub(crate) fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = Command::new(root.join("tests/env")).stderr(Stdio::inherit()).output().unwrap();
    assert!(made.status.success(), "tests/env failed: {}", made.status);
    let said = String::from_utf8(made.stdout).unwrap();
    PathBuf::from(said.lines().last().expect("tests/env names the folder"))
}

/// The Python of the environment.
pub(crate) fn python() -> Command {
    Command::new(folder().join("python/bin/python"))
}

/// Node, with a copy of `programs` laid where it finds the environment's packages; gives the folder of the copies.
pub(crate) fn node(programs: &[&str]) -> (Command, tempfile::TempDir) {
    let folder = folder();
    // An ES module's packages are looked for beside the file that imports them.
    let place = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(folder.join("node/node_modules"), place.path().join("node_modules")).unwrap();
    for program in programs {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(program);
        std::fs::copy(&from, place.path().join(from.file_name().unwrap())).unwrap();
    }
    let mut command = Command::new("node");
    command.current_dir(place.path());
    (command, place)
}
