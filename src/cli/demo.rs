//! `segue demo`: the whole way of an interaction on one screen, with nothing but the binary.

use clap::Args;

/// Arguments of `segue demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue demo\n  segue demo --exit")]
pub struct DemoArgs {
    /// End with a summary instead of staying up; the exit code is 0 only if everything held
    #[arg(long)]
    pub exit: bool,
    /// Where the demo's gateway listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: std::net::SocketAddr,
}
