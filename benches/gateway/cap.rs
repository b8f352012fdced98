//! Holds processes to a share of a core, so that several of them can be compared on a machine with few.
//!
//! A cgroup of the cpu controller where that can be made; else the processes are stopped and continued so that they come
//! out at their share, which takes the same from each.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::process::cpu;

/// Where the cpu controller of cgroups v1 is mounted.
const CONTROLLER: &str = "/sys/fs/cgroup/cpu";
/// How long one share lasts, in microseconds: short, so that nobody waits long for the next.
const PERIOD_US: u64 = 10_000;

/// A process that is held to its share until this is dropped.
pub(crate) enum Capped {
    /// In a cgroup of its own.
    Group(PathBuf),
    /// Stopped and continued by a thread.
    Duty { over: Arc<AtomicBool>, thread: Option<JoinHandle<()>>, pid: u32 },
}

impl Capped {
    /// Holds the process `pid` to `share` of a core.
    pub(crate) fn new(pid: u32, share: f64) -> Capped {
        if let Some(group) = group(pid, share) {
            return Capped::Group(group);
        }
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let thread = std::thread::spawn(move || duty(pid, share, &until));
        Capped::Duty { over, thread: Some(thread), pid }
    }

    /// How it is done, for the report.
    pub(crate) fn how(&self) -> &'static str {
        match self {
            Capped::Group(_) => "cgroup",
            Capped::Duty { .. } => "stopping and continuing",
        }
    }
}

impl Drop for Capped {
    fn drop(&mut self) {
        match self {
            Capped::Group(group) => {
                // Processes go back to the group above; only an empty group can be removed.
                let pids = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
                for pid in pids.lines() {
                    let _ = std::fs::write(Path::new(CONTROLLER).join("cgroup.procs"), pid);
                }
                let _ = std::fs::remove_dir(group);
            }
            Capped::Duty { over, thread, pid } => {
                over.store(true, Ordering::Relaxed);
                if let Some(thread) = thread.take() {
                    let _ = thread.join();
                }
                signal(*pid, "CONT");
            }
        }
    }
}

/// A cgroup with this one process in it; none where none can be made.
fn group(pid: u32, share: f64) -> Option<PathBuf> {
    let group = Path::new(CONTROLLER).join(format!("segue-bench-{pid}"));
    std::fs::create_dir(&group).ok()?;
    let quota = (PERIOD_US as f64 * share) as u64;
    let set = |file: &str, value: u64| std::fs::write(group.join(file), value.to_string());
    let made = set("cpu.cfs_period_us", PERIOD_US)
        .and_then(|()| set("cpu.cfs_quota_us", quota))
        .and_then(|()| set("cgroup.procs", pid.into()));
    if made.is_err() {
        let _ = std::fs::remove_dir(&group);
        return None;
    }
    Some(group)
}

/// Lets the process run while it is below its share of the time since the beginning, and stops it while it is above.
fn duty(pid: u32, share: f64, over: &AtomicBool) {
    let (begun, used) = (Instant::now(), cpu(pid));
    let mut running = true;
    while !over.load(Ordering::Relaxed) {
        let due = (cpu(pid) - used) < begun.elapsed().as_secs_f64() * share;
        if due != running {
            signal(pid, if due { "CONT" } else { "STOP" });
            running = due;
        }
        std::thread::sleep(Duration::from_micros(PERIOD_US / 2));
    }
}

fn signal(pid: u32, name: &str) {
    // It fails only if the process has ended, which is seen elsewhere.
    let _ = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
}
