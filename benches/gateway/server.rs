//! PostgreSQL on the same machine: a server of its own, as the tests start it, in a folder that goes away.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use crate::Result;
use crate::process::{Owned, cpu, parent};

/// A running server with one empty database. It ends with its input.
pub(crate) struct Server {
    input: Option<ChildStdin>,
    process: Option<Owned>,
    /// The URL of the database.
    pub(crate) url: String,
    /// The process id of the server itself.
    postmaster: u32,
}

impl Server {
    /// Starts one.
    pub(crate) fn start() -> Result<Server> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres");
        // More than the tests have, as a server of its own would.
        let more = ["-c", "shared_buffers=512MB", "-c", "max_wal_size=4GB"];
        let mut process = Owned::start(Command::new(script).args(more).stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let (input, output) = process.pipes();
        let mut url = String::new();
        BufReader::new(output.ok_or("the server tells nothing")?).read_line(&mut url)?;
        let url = url.trim_end().to_owned();
        let folder = url.strip_prefix("postgres://segue@").ok_or("PostgreSQL did not start")?;
        let folder = percent_encoding::percent_decode_str(folder).decode_utf8()?.into_owned();
        let lock = std::fs::read_to_string(Path::new(&folder).join("data/postmaster.pid"))?;
        let postmaster = lock.lines().next().and_then(|pid| pid.parse().ok()).ok_or("the server has no process")?;
        // The database that every server has serves one run.
        Ok(Server { input, process: Some(process), url: format!("{url}/postgres"), postmaster })
    }

    /// CPU seconds of the server and of all its processes that still run.
    pub(crate) fn cpu(&self) -> f64 {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid == self.postmaster || parent(*pid) == Some(self.postmaster)).map(cpu).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        // It removes its folder then; killed, it would leave that and the server.
        if let Some(process) = self.process.take() {
            process.wait();
        }
    }
}
