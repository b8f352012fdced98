//! `segue normalize`: payloads in, one JSON outcome a line out.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `segue normalize`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue normalize --connector whatsapp body.json\n  \
segue normalize --connector twilio-sms --content-type application/x-www-form-urlencoded - < body\n  \
segue normalize --connector slack request.http\n\n\
Exit code 65 if a payload could not be understood.")]
pub struct NormalizeArgs {
    /// The connector whose payloads these are
    #[arg(long, value_name = "NAME")]
    pub connector: String,
    /// The content type of the bodies; otherwise told from the content. Not needed for .http files
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Take the account and the options of this channel of the configuration
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// Files with a body each, or raw requests with headers (.http); `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}
