//! What the options of an account say of its mailbox, for connectors whose transport is `mail`.
//!
//! The options are declared in the manifest like all others, so that a folder may give them defaults (the hosts of one
//! provider, for example). What they mean is the same for every such connector and stands here.

use super::credentials::{self, Credentials};
use super::options::OptionSpec;
use super::tree::Notes;
use super::{Account, Connector, Transport};
use crate::base::{Error, Result};
use crate::mail::auth_results::TrustedServers;
use crate::net::login::Security;

/// The options that a connector with a mailbox must declare.
const NEEDED: [&str; 8] =
    ["address", "imap_host", "imap_port", "imap_security", "user", "password", "folders", "begin"];

/// Which mails of a folder are taken when it is read for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// All that are there.
    All,
    /// Those that come from then on.
    New,
}

/// What becomes of a mail in the mailbox once it is in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterTaking {
    /// Nothing.
    Keep,
    /// It gets the keyword `$SegueTaken`.
    Flag,
    /// It is moved to this folder.
    Move(String),
}

/// A mailbox to be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Mailbox {
    /// Our own address.
    pub address: String,
    /// Further addresses of ours that end up in it.
    pub aliases: Vec<String>,
    /// The IMAP server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured.
    pub security: Security,
    /// Whom we log in as, and how.
    pub credentials: Credentials,
    /// The folders that are read, as people write them.
    pub folders: Vec<String>,
    /// Which mails are taken at first.
    pub begin: Begin,
    /// What becomes of mails that were taken.
    pub after: AfterTaking,
    /// Whose `Authentication-Results` count.
    pub trusted: TrustedServers,
}

/// Notes which of the options that a transport goes by the manifest does not declare.
pub(super) fn check_options(transport: Transport, specs: &[OptionSpec], notes: &mut Notes<'_>) {
    if transport != Transport::Mail {
        return;
    }
    for name in NEEDED.iter().filter(|name| !specs.iter().any(|spec| spec.name == **name)) {
        notes.wrong(0, format!("a connector with `transport = \"mail\"` declares the option `{name}`"));
    }
}

impl Account {
    /// Whose word on who sent a mail counts.
    pub fn trusted_servers(&self) -> TrustedServers {
        TrustedServers {
            ids: self.options.list("authserv_ids").map(str::to_owned).collect(),
            remove_forged: self.options.text("authserv_removes_forged") == Some("true"),
        }
    }
}

impl Connector {
    /// The mailbox of an account; nothing if it reads none: its mails are handed over then.
    ///
    /// # Errors
    ///
    /// `Config` if an option is missing or does not fit another.
    pub fn mailbox(&self, account: &Account) -> Result<Option<Mailbox>> {
        let options = &account.options;
        let Some(host) = options.text("imap_host").filter(|_| self.transport() == Transport::Mail) else {
            return Ok(None);
        };
        let need = |name: &str| {
            let missing = || Error::config(format!("channel `{}` needs the option `{name}`", account.channel));
            options.text(name).map(str::to_owned).ok_or_else(missing)
        };
        let after = match options.text("after") {
            Some("move") => AfterTaking::Move(need("move_to")?),
            Some("flag") => AfterTaking::Flag,
            _ => AfterTaking::Keep,
        };
        Ok(Some(Mailbox {
            address: need("address")?,
            aliases: options.list("aliases").map(str::to_owned).collect(),
            host: host.to_owned(),
            port: need("imap_port")?.parse().map_err(|e| Error::config("`imap_port` is no port").because(e))?,
            security: match options.text("imap_security") {
                Some("starttls") => Security::StartTls,
                _ => Security::Implicit,
            },
            credentials: credentials::of_mailbox(options, &account.channel)?,
            folders: options.list("folders").map(str::to_owned).collect(),
            begin: if options.text("begin") == Some("all") { Begin::All } else { Begin::New },
            after,
            trusted: account.trusted_servers(),
        }))
    }
}
