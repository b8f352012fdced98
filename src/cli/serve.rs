//! `segue serve`: the gateway itself.

use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::{Exit, Outcome};
use super::{Global, log, progress, report};
use crate::app::{App, Start, setup};
use crate::base::{Clock, Error, Result};
use crate::config::Config;

/// Arguments of `segue serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue serve\n  segue serve --config /etc/segue --log info,segue::flow=debug\n\n\
Stops at SIGTERM or Ctrl-C after what is in flight; takes up changed files by itself.")]
pub struct ServeArgs {
    /// Listen at this address instead of those of the configuration; port 0 takes a free one. May be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<std::net::SocketAddr>,
}

/// Runs the gateway until it is told to stop.
///
/// # Errors
///
/// If the project cannot be loaded, a port or the data directory cannot be had, or the disk refuses.
pub fn run(global: &Global, args: &ServeArgs) -> Outcome {
    let config = global.load()?;
    log::start(global.log.as_deref().unwrap_or(&config.log), global.log_format)?;
    let loaded = setup::load(&config).map_err(|problems| {
        report::problems(&problems);
        global.refused(&problems)
    })?;
    report::problems(&loaded.warnings);
    let early = std::env::var_os("SEGUE_TEST_ACK_BEFORE_COMMIT").is_some();
    if early {
        tracing::error!(target: "segue::journal", "SEGUE_TEST_ACK_BEFORE_COMMIT is set: what is acknowledged may be lost");
    }
    let unsealed = std::env::var_os("SEGUE_TEST_UNSEALED").is_some();
    if unsealed {
        tracing::error!(target: "segue::journal", "SEGUE_TEST_UNSEALED is set: personal data is written as it is");
    }
    let lease = std::env::var("SEGUE_TEST_LEASE_MS").ok().and_then(|millis| millis.parse().ok());
    let start = Start {
        listen: args.listen.clone(),
        clock: Clock::system(),
        acknowledge_before_commit: early,
        unsealed,
        progress: progress::watched(),
        lease: lease.map(Duration::from_millis),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::io("failed to start the runtime", e))?;
    let outcome = runtime.block_on(serve(config, loaded, start));
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome
}

async fn serve(config: Config, loaded: setup::Loaded, start: Start) -> Outcome {
    let app = App::start(config, loaded, start).await?;
    for address in app.addresses() {
        report::line(&format!("listening on {address}"))?;
    }
    let exit = tokio::select! {
        stopped = told_to_stop() => stopped.map(|()| Exit::Ok),
        () = app.broken() => Ok(Exit::Io),
    };
    let intact = app.stop().await;
    exit.map(|exit| if intact { exit } else { Exit::Io })
}

pub(super) async fn told_to_stop() -> Result<()> {
    let listen = |kind| signal(kind).map_err(|e| Error::io("failed to listen for signals", e));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
