//! The demo's project: a complete one in a folder of its own, with secrets that nobody else has.
//!
//! The rules are the shipped ones of `scripts/`; settings, channels and the list of important customers, which are the
//! operator's own, lie beside this file in `data/`.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use ring::rand::{SecureRandom, SystemRandom};
use tempfile::TempDir;

use super::postbox::Postbox;
use super::story::fill;
use crate::base::{Error, Result};
use crate::config::FILE_NAME;
use crate::connector::Folder;

/// The project's files. `{{name}}` stands for what is known only when the demo runs.
const FILES: [(&str, &str); 16] = [
    (FILE_NAME, include_str!("data/segue.toml")),
    ("channels/partner-desk.toml", include_str!("data/channels/partner-desk.toml")),
    ("channels/shop-bot.toml", include_str!("data/channels/shop-bot.toml")),
    ("channels/shop-page.toml", include_str!("data/channels/shop-page.toml")),
    ("channels/shop-site.toml", include_str!("data/channels/shop-site.toml")),
    ("channels/support-chat.toml", include_str!("data/channels/support-chat.toml")),
    ("channels/support-line.toml", include_str!("data/channels/support-line.toml")),
    ("channels/support-mail.toml", include_str!("data/channels/support-mail.toml")),
    ("channels/support-sms.toml", include_str!("data/channels/support-sms.toml")),
    ("connectors/site-chat/connector.toml", include_str!("../../../examples/connectors/site-chat/connector.toml")),
    ("scripts/10_public.lua", include_str!("../../../scripts/10_public.lua")),
    ("scripts/20_calls.lua", include_str!("../../../scripts/20_calls.lua")),
    ("scripts/30_vip.lua", include_str!("../../../scripts/30_vip.lua")),
    ("scripts/90_default.lua", include_str!("../../../scripts/90_default.lua")),
    ("scripts/data/vip.csv", include_str!("data/vip.csv")),
    ("scripts/tests/routing.lua", include_str!("../../../scripts/tests/routing.lua")),
];

/// The file with the certificate that the gateway trusts beside those of the system.
const ROOT: &str = "postbox.pem";

/// The folder, removed when dropped.
pub(super) struct Project {
    folder: TempDir,
    secrets: BTreeMap<String, String>,
}

impl Project {
    /// Makes the folder and draws the secrets: for each name a text in which `{hex}` and `{base64}` are 32 random bytes.
    ///
    /// # Errors
    ///
    /// [`Kind::Io`](crate::base::Kind) if the folder cannot be written.
    pub(super) fn new(secrets: &BTreeMap<String, String>) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("segue-demo-")
            .tempdir()
            .map_err(|error| Error::io("failed to make a temporary folder", error))?;
        let mut project = Project { folder, secrets: BTreeMap::new() };
        for (name, form) in secrets {
            let bytes = random()?;
            let secret = form.replace("{hex}", &HEXLOWER.encode(&bytes)).replace("{base64}", &BASE64.encode(&bytes));
            project.keep(name, secret)?;
        }
        Ok(project)
    }

    /// Writes everything that was not drawn: the settings, and how `postbox` is reached and trusted.
    ///
    /// # Errors
    ///
    /// [`Kind::Io`](crate::base::Kind) if a file cannot be written.
    pub(super) fn write(&mut self, listen: SocketAddr, helpdesk: &str, stub: &str, postbox: &Postbox) -> Result<()> {
        self.put(ROOT, postbox.root_pem())?;
        self.keep("mail-password", postbox.password().to_owned())?;
        let listen = listen.to_string();
        let (imap, smtp) = (postbox.imap().port().to_string(), postbox.smtp().port().to_string());
        let names = postbox.names().to_string();
        let values = [
            ("listen", listen.as_str()),
            ("helpdesk", helpdesk),
            ("stub", stub),
            ("root", ROOT),
            ("names", &names),
            ("mail_user", postbox.user()),
            ("imap_port", &imap),
            ("smtp_port", &smtp),
        ];
        let shipped = Folder::embedded();
        for (name, text) in FILES {
            // A connector may have been left out of this build; the story then says what is missing, and fails.
            let there = |wanted: &str| {
                let own = format!("connectors/{wanted}/connector.toml");
                shipped.iter().any(|folder| folder.name == wanted) || FILES.iter().any(|(name, _)| *name == own)
            };
            if connector(text).is_none_or(there) {
                self.put(name, &fill(text, &values))?;
            }
        }
        Ok(())
    }

    /// Keeps a secret and writes it to its file.
    ///
    /// # Errors
    ///
    /// [`Kind::Io`](crate::base::Kind) if it cannot be written.
    pub(super) fn keep(&mut self, name: &str, secret: String) -> Result<()> {
        self.put(&format!("secrets/{name}"), &format!("{secret}\n"))?;
        self.secrets.insert(name.to_owned(), secret);
        Ok(())
    }

    /// A secret; empty if there is none of this name.
    pub(super) fn secret(&self, name: &str) -> &str {
        self.secrets.get(name).map_or("", String::as_str)
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder where it is and gives its path.
    pub(super) fn leave(self) -> PathBuf {
        self.folder.keep()
    }

    /// Writes one file that only its owner can read: what customers say lies beside the secrets.
    ///
    /// # Errors
    ///
    /// [`Kind::Io`](crate::base::Kind) if it cannot be written.
    pub(super) fn put(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path().join(name);
        let failed = |error| Error::io(format!("failed to write `{}`", path.display()), error);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)
    }
}

/// The connector that a channel's file names, if it is one.
fn connector(text: &str) -> Option<&str> {
    let line = text.lines().find_map(|line| line.strip_prefix("connector = "))?;
    Some(line.trim_matches('"'))
}

/// 32 random bytes.
///
/// # Errors
///
/// [`Kind::Internal`](crate::base::Kind) if the operating system gives none.
pub(super) fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Error::internal("the operating system has no randomness to give"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::story;
    use super::*;
    use crate::app::setup;

    #[tokio::test]
    async fn the_project_is_complete() {
        let (story, postbox) = (story::read().unwrap(), Postbox::open().await.unwrap());
        let (mut project, nowhere) = (Project::new(&story.secrets).unwrap(), "http://127.0.0.1:9");
        project.write("127.0.0.1:0".parse().unwrap(), nowhere, nowhere, &postbox).unwrap();
        let config = crate::config::load(project.path()).unwrap_or_else(|found| panic!("{found:?}"));
        assert_eq!(config.warnings, []);
        let loaded = setup::load(&config).unwrap_or_else(|found| panic!("{found:?}"));
        assert_eq!(loaded.warnings, []);
        for name in story.channels.keys() {
            assert!(loaded.setup.channels.contains_key(name), "channel {name} is not there");
        }
    }

    #[test]
    fn the_rules_are_the_shipped_ones() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts"));
        let mut todo = vec![root.to_owned()];
        while let Some(folder) = todo.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    todo.push(path);
                    continue;
                }
                let name = format!("scripts/{}", path.strip_prefix(root).unwrap().display());
                assert!(FILES.iter().any(|(known, _)| *known == name), "{name} is not in the demo's project");
            }
        }
    }
}
