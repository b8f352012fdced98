//! Processes: those of the bench, spoken to by lines, and what the kernel tells of any of them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Result;

/// A process that was started here and ends at the latest when this is dropped.
pub(crate) struct Owned(Child);

impl Owned {
    /// Starts `command`.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn().map_err(|e| format!("failed to start {:?}: {e}", command.get_program()))?;
        Ok(Owned(child))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Its input and output, once, if they are pipes.
    pub(crate) fn pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>) {
        (self.0.stdin.take(), self.0.stdout.take())
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) {
        // It fails only if it has ended already.
        let _ = self.0.wait();
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// Asks it to end (SIGTERM) and waits; true if it ended by itself with code 0.
    pub(crate) fn stop(mut self, patience: Duration) -> bool {
        let asked = Command::new("kill").args(["-TERM", &self.id().to_string()]).status();
        let start = Instant::now();
        while asked.is_ok() && start.elapsed() < patience {
            if let Ok(Some(status)) = self.0.try_wait() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process of the bench itself: the same executable with another role.
pub(crate) struct Helper {
    /// The process.
    pub(crate) process: Owned,
    /// Where it hears; dropping it tells it to end.
    pub(crate) input: ChildStdin,
    /// What it tells.
    pub(crate) lines: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    /// Starts this executable in the role `role` with its one argument.
    pub(crate) fn start(role: &str, argument: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--role", role, argument]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Owned::start(&mut command)?;
        let (Some(input), Some(output)) = process.pipes() else {
            return Err("a helper process has no pipes".into());
        };
        Ok(Helper { process, input, lines: BufReader::new(output).lines() })
    }

    /// Its next line.
    pub(crate) fn line(&mut self) -> Result<String> {
        Ok(self.lines.next().ok_or("a helper process ended early")??)
    }

    /// Starts a helper whose first line is the port it serves.
    pub(crate) fn serving(role: &str, argument: &str) -> Result<(Self, u16)> {
        let mut helper = Helper::start(role, argument)?;
        let port = helper.line()?.parse()?;
        Ok((helper, port))
    }
}

/// Tells a helper something; it not being there any more shows elsewhere.
pub(crate) fn tell(input: &mut ChildStdin, what: &impl Serialize) {
    if let Ok(line) = serde_json::to_string(what) {
        let _ = writeln!(input, "{line}");
    }
}

/// Ticks a second in `/proc/PID/stat`: `USER_HZ`, which is 100 on every Linux that anybody runs.
const TICKS: f64 = 100.0;

/// CPU seconds of a process since its start, by thread name without the number at its end.
pub(crate) fn cpu_by_thread(pid: u32) -> BTreeMap<String, f64> {
    let mut by_name = BTreeMap::new();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        if let Some((name, seconds)) = stat(&task.path().join("stat")) {
            let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
            *by_name.entry(name.to_owned()).or_default() += seconds;
        }
    }
    by_name
}

/// CPU seconds of a process since its start, threads that ended among them.
pub(crate) fn cpu(pid: u32) -> f64 {
    stat(Path::new(&format!("/proc/{pid}/stat"))).map_or(0.0, |(_, seconds)| seconds)
}

/// The process that started this one.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // State and parent follow the name in parentheses.
    text.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Name and CPU seconds of a `stat` file; see proc(5).
fn stat(path: &Path) -> Option<(String, f64)> {
    let text = std::fs::read_to_string(path).ok()?;
    // The name stands in parentheses and may hold anything, parentheses too.
    let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<f64>().ok());
    Some((name.to_owned(), (ticks()? + ticks()?) / TICKS))
}

/// The most memory a process ever had resident, in MB (10^6 bytes).
pub(crate) fn peak_rss_mb(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}

/// CPU seconds that the whole machine was busy with anything, and all there were; see proc(5), `/proc/stat`.
pub(crate) fn machine() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line.split_ascii_whitespace().skip(1).take(8).flat_map(str::parse).collect();
    let all: f64 = fields.iter().sum();
    let idle: f64 = fields.iter().skip(3).take(2).sum();
    ((all - idle) / TICKS, all / TICKS)
}
