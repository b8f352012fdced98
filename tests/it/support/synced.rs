//! What a disk that failed to sync would have kept: read from a tracer's record of writes and syncs.
//!
//! A sync that fails leaves what was written before it to chance, and a kernel forgets that it failed: the next sync
//! succeeds without having written anything more. The page cache hides that from a process that is started again. So here
//! all that no successful sync covers is wiped out of the files, as if the machine had lost its power.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::gateway::Start;

/// The calls that are recorded.
const TRACED: &str = "trace=pwrite64,fsync,fdatasync,ftruncate";

/// A start under a tracer that records to `log` and fails the `at`th sync of each thread, or of
/// the files that are named.
pub(crate) fn failing(log: &Path, at: usize, only: &[PathBuf]) -> Start {
    let inject = format!("inject=fsync,fdatasync:error=EIO:when={at}");
    let words = ["strace", "-f", "-qq", "-y", "-s", "0", "-o", log.to_str().unwrap(), "-e", TRACED, "-e", &inject];
    let only = only.iter().flat_map(|path| ["-P", path.to_str().unwrap()]);
    Start { wrapper: words.into_iter().chain(only).map(str::to_owned).collect(), ..Start::default() }
}

/// Bytes of a file, by their first and the one after their last.
type Ranges = Vec<(u64, u64)>;

/// What is not safe in one file.
#[derive(Default)]
struct Unsafe {
    /// Written since the last sync.
    pending: Ranges,
    /// Written before a sync that failed.
    lost: Ranges,
}

/// What the tracer recorded.
#[derive(Default)]
pub(crate) struct Record {
    files: BTreeMap<PathBuf, Unsafe>,
    /// How many syncs failed.
    pub(crate) failed: usize,
    /// How many succeeded.
    pub(crate) synced: usize,
}

impl Record {
    /// Reads the log of a run.
    pub(crate) fn read(log: &Path) -> Record {
        let mut record = Record::default();
        // Calls that another thread's came in between, by thread.
        let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
        let text = std::fs::read_to_string(log).unwrap();
        for line in text.lines() {
            let Some((thread, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            if let Some(first) = call.strip_suffix(" <unfinished ...>") {
                begun.insert(thread, first);
            } else if call.starts_with("<... ") {
                let rest = call.split_once(" resumed>").map(|(_, rest)| rest).unwrap_or_default();
                let first = begun.remove(thread).unwrap_or_default();
                record.take(&format!("{first}{rest}"));
            } else {
                record.take(call);
            }
        }
        record
    }

    /// One call as it is recorded: `pwrite64(9</path>, ""..., 4096, 8192) = 4096`.
    fn take(&mut self, call: &str) {
        let Some((name, rest)) = call.split_once('(') else { return };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else { return };
        let Some((_, path)) = arguments.split_once('<') else { return };
        let Some((path, arguments)) = path.split_once('>') else { return };
        let arguments = arguments.rsplit_once(')').map(|(inside, _)| inside).unwrap_or(arguments);
        let numbers: Vec<u64> = arguments.split(", ").filter_map(|word| word.parse().ok()).collect();
        let result: i64 = result.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(-1);
        let file = self.files.entry(PathBuf::from(path)).or_default();
        match (name, numbers.as_slice()) {
            ("pwrite64", [_, offset]) if result > 0 => {
                let written = (*offset, *offset + result as u64);
                file.lost = without(&file.lost, written);
                file.pending.push(written);
            }
            ("ftruncate", [length]) if result == 0 => {
                let beyond = (*length, u64::MAX);
                (file.lost, file.pending) = (without(&file.lost, beyond), without(&file.pending, beyond));
            }
            ("fsync" | "fdatasync", _) if result == 0 => {
                self.synced += 1;
                file.pending.clear();
            }
            ("fsync" | "fdatasync", _) => {
                self.failed += 1;
                file.lost.append(&mut file.pending);
            }
            _ => {}
        }
    }

    /// Wipes out what is not safe. Gives how many bytes that were.
    pub(crate) fn lose(&self) -> u64 {
        let mut wiped = 0;
        for (path, file) in &self.files {
            // A file that is gone was not needed any more.
            let Ok(opened) = File::options().write(true).open(path) else { continue };
            let length = opened.metadata().unwrap().len();
            for (from, to) in file.lost.iter().chain(&file.pending) {
                let (from, to) = (*from, (*to).min(length));
                if from < to {
                    opened.write_all_at(&vec![0; (to - from) as usize], from).unwrap();
                    wiped += to - from;
                }
            }
        }
        wiped
    }
}

/// The parts of `ranges` that lie outside of `gone`.
fn without(ranges: &Ranges, gone: (u64, u64)) -> Ranges {
    let around = |(from, to): &(u64, u64)| [(*from, (*to).min(gone.0)), ((*from).max(gone.1), *to)];
    ranges.iter().flat_map(around).filter(|(from, to)| from < to).collect()
}
