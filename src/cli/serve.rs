//! `segue serve`: the gateway itself.

use clap::Args;

/// Arguments of `segue serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue serve\n  segue serve --config /etc/segue --log info,segue::flow=debug\n\n\
Stops at SIGTERM or Ctrl-C after what is in flight; takes up changed files by itself.")]
pub struct ServeArgs {
    /// Listen at this address instead of those of the configuration; port 0 takes a free one. May be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<std::net::SocketAddr>,
}
