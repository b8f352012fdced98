//! Floor 3: the settings, from `segue.toml` as written to [`Config`] as used.
//!
//! Everything above this room sees checked values only: numbers within their ranges, addresses parsed, paths resolved,
//! names that exist, secrets fetched. Loading reports every problem it finds, not only the first, each with file, line,
//! column, what was expected and the nearest valid name; a configuration with an error is never used in part.
//!
//! The way through it: `source` gives the files as text, `reader` walks the parsed TOML and collects
//! problems, one file per table turns its part into checked types, and [`diff`] tells what a reload can apply.
//!
//! Relative paths are relative to the folder of `segue.toml`. A secret may be written as `"env:NAME"`, as
//! `"file:path"`, or literally; a literal one in a file that everybody on the machine can read is reported as a warning.
//! API tokens are no settings: they live hashed in the store.

mod blobs;
mod channel;
mod check;
mod diff;
mod helpdesk;
mod limits;
mod listen;
mod lmtp;
mod policy;
mod problem;
mod reader;
mod secret;
mod source;
#[cfg(test)]
mod tests;
pub mod units;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use blobs::{BlobPlace, Blobs, Bucket};
pub use channel::{Channel, ChannelOption, OptionValue};
pub use diff::{Change, Effect, diff};
pub use helpdesk::{Breaker, HelpDesk, Retry, WebhookSecret};
pub use limits::Limits;
pub use listen::{ForwardedHeader, Listen, TlsFiles};
pub use lmtp::{Lmtp, LmtpAddress};
pub use policy::{Policy, PolicyBudget, Retention};
pub use problem::{Place, Problem, Severity, nearest};
pub use secret::{Host, Machine, Origin};

use ipnet::IpNet;

use crate::base::Secret;

/// The name of the main file within a project's folder.
pub const FILE_NAME: &str = "segue.toml";

/// The settings as used. Cheap enough to clone on a reload; shared behind an `Arc` otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The main file, as it was named.
    pub file: PathBuf,
    /// The folder of the main file: what relative paths are relative to.
    pub root: PathBuf,
    /// `public_url`: where the world reaches this gateway, such as `https://segue.example.org`, without a slash at its
    /// end. It is the `source` of events and the base of links. Default: none.
    pub public_url: Option<String>,
    /// `data`: the folder of the database and, unless `[blobs]` says otherwise, of large content. Default: `data`.
    pub data: PathBuf,
    /// `store`: what keeps journal and state: `sqlite`, or the URL of a PostgreSQL database, written as a secret may be.
    /// Default: `sqlite`.
    pub store: Store,
    /// `root_key`: the file of the root key, which wraps all keys that personal data is sealed under. Made at the first
    /// start. The environment variable `SEGUE_ROOT_KEY_FILE` counts more. Default: `secrets/root.key`.
    pub root_key: PathBuf,
    /// `scripts`: the folder of the Lua policy. Default: `scripts`.
    pub scripts: PathBuf,
    /// `connectors`: the folder of the project's own connectors; one of the same name replaces a built-in one. It need
    /// not exist. Default: `connectors`.
    pub connectors: PathBuf,
    /// `channels`: the folder whose `*.toml` files hold further `[[channel]]` tables. It need not exist. Default:
    /// `channels`.
    pub channels_dir: PathBuf,
    /// `default_country`: the country (ISO 3166-1 alpha-2, upper case) whose national numbers are meant where a provider
    /// sends a phone number without a country code. Default: none, and such numbers stay as they came.
    pub default_country: Option<String>,
    /// `log`: which log lines are written, such as `info` or `info,segue::flow=debug`. Default: `info`.
    pub log: String,
    /// `[[listen]]`: the doors. Default: one at `127.0.0.1:8080`.
    pub listen: Vec<Listen>,
    /// `[lmtp]`: where a mail server hands mails over. Default: nowhere.
    pub lmtp: Option<Lmtp>,
    /// `[limits]`: caps and rates of the doors.
    pub limits: Limits,
    /// `[[channel]]`: the accounts through which customers reach us, from the main file and the channels folder.
    pub channels: Vec<Channel>,
    /// `[[helpdesk]]`: who is sent events.
    pub helpdesks: Vec<HelpDesk>,
    /// `[policy]`: what decisions depend on besides the scripts.
    pub policy: Policy,
    /// `[retention]`: how long things are kept.
    pub retention: Retention,
    /// `[blobs]`: where large content is kept.
    pub blobs: Blobs,
    /// `[outbound]`: where the guarded client may go.
    pub outbound: Outbound,
    /// `[retry]`: how deliveries are tried again.
    pub retry: Retry,
    /// What is doubtful but no error.
    pub warnings: Vec<Problem>,
}

/// What keeps journal and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// SQLite in the data folder.
    Sqlite,
    /// PostgreSQL at this URL, which may hold a password.
    Postgres(Secret),
}

/// `[outbound]`: where the guarded client may go besides public addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outbound {
    /// `allow`: networks, such as `10.1.0.0/16`, that are reached although they are not public; plain `http` goes to
    /// these only. Default: none.
    pub allow: Vec<IpNet>,
    /// `roots`: PEM files of certificate authorities trusted besides the system's. Default: none.
    pub roots: Vec<PathBuf>,
    /// `dns`: servers, such as `10.1.0.2:53`, that are asked what domains say of mail from them. Default: those of the system.
    pub dns: Vec<SocketAddr>,
}

/// Loads the settings from the file at `path`, or from [`FILE_NAME`] within it if it is a folder.
///
/// # Errors
///
/// Every problem found, warnings among them, in the order of files and lines; at least one is an error.
pub fn load(path: &Path) -> Result<Config, Vec<Problem>> {
    load_on(path, &Machine)
}

/// Like [`load`], with environment variables and secret files looked up on `host`.
///
/// # Errors
///
/// As [`load`].
pub fn load_on(path: &Path, host: &dyn Host) -> Result<Config, Vec<Problem>> {
    let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
    let main = source::Source::read(&path).map_err(|problem| vec![*problem])?;
    check::check(&main, host, true)
}

/// Checks `bytes` as if they were the main file at `path`. The channels folder is not read.
///
/// # Errors
///
/// As [`load`].
pub fn parse(path: &Path, bytes: &[u8], host: &dyn Host) -> Result<Config, Vec<Problem>> {
    let main = source::Source::from_bytes(path, bytes).map_err(|problem| vec![*problem])?;
    check::check(&main, host, false)
}

impl Config {
    /// The channel of this name.
    pub fn channel(&self, name: &str) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.name == name)
    }

    /// The help desk of this name.
    pub fn helpdesk(&self, name: &str) -> Option<&HelpDesk> {
        self.helpdesks.iter().find(|helpdesk| helpdesk.name == name)
    }

    /// Every file and folder that this configuration was made from or names: what to watch for a reload. Folders are to
    /// be watched with all that is in them; some may not exist yet.
    pub fn watched(&self) -> Vec<PathBuf> {
        let secrets = self.helpdesks.iter().flat_map(|helpdesk| &helpdesk.secrets).map(WebhookSecret::origin);
        let options =
            self.channels.iter().flat_map(|channel| channel.options.values()).flat_map(|option| &option.origins);
        let fetched = secrets.chain(options).filter_map(|origin| match origin {
            Origin::File(path) => Some(path.clone()),
            Origin::Literal | Origin::Environment(_) => None,
        });
        let certificates = self.listen.iter().filter_map(|door| door.tls.as_ref());
        let certificates = certificates.flat_map(|tls| [tls.cert.clone(), tls.key.clone()]);
        let folders = [&self.file, &self.channels_dir, &self.scripts, &self.connectors].map(PathBuf::clone);
        let mut paths: Vec<PathBuf> = folders.into_iter().chain(certificates).chain(fetched).collect();
        paths.sort();
        paths.dedup();
        paths
    }
}
