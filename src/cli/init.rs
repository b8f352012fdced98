//! `segue init`: a small commented project that runs as it is.
//!
//! The project's texts lie beside this file in `init/`. The secrets that nobody else has to know are drawn at random, so
//! that no two projects share one and nothing has to be thought up before the first run.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use ring::rand::{SecureRandom, SystemRandom};

use super::exit::{Exit, Outcome};
use super::report::{self, Paint, Style};
use crate::base::{Error, Kind, Result};
use crate::store::seal::RootKeys;

/// Arguments of `segue init`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue init\n  segue init my-gateway && cd my-gateway && segue check")]
pub struct InitArgs {
    /// The folder to write into; made if it does not exist. No file in it is overwritten
    #[arg(default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
}

/// The files of a project with their texts.
const FILES: [(&str, &str); 7] = [
    ("segue.toml", include_str!("init/segue.toml")),
    ("channels/telegram.toml", include_str!("init/channels/telegram.toml")),
    ("scripts/policy.lua", include_str!("init/scripts/policy.lua")),
    ("scripts/tests/policy.lua", include_str!("init/scripts/tests/policy.lua")),
    ("README.md", include_str!("init/README.md")),
    (".gitignore", include_str!("init/gitignore")),
    ("secrets/telegram-bot-token", "put-the-token-from-BotFather-here\n"),
];

/// Writes the project.
///
/// # Errors
///
/// [`Kind::Conflict`] if any of its files exists already, before anything is written; [`Kind::Io`] if writing fails.
pub fn run(args: &InitArgs) -> Outcome {
    let written = write(&args.dir)?;
    let paint = Paint::stdout();
    for path in written {
        report::line(&format!("{} {}", paint.paint(Style::Good, "wrote"), path.display()))?;
    }
    let config = args.dir.join(crate::config::FILE_NAME);
    report::line(&format!("next: read {}, then run: segue check --config {}", config.display(), config.display()))?;
    Ok(Exit::Ok)
}

/// Writes the project into `dir` and gives the paths written.
fn write(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<(PathBuf, String)> =
        FILES.iter().map(|(name, text)| (dir.join(name), (*text).to_owned())).collect();
    files.push((dir.join("secrets/helpdesk"), format!("whsec_{}\n", data_encoding::BASE64.encode(&random()?))));
    files
        .push((dir.join("secrets/telegram-secret-token"), format!("{}\n", data_encoding::HEXLOWER.encode(&random()?))));
    if let Some((path, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
        return Err(Error::new(Kind::Conflict, format!("`{}` exists already; nothing was written", path.display()))
            .with_retry(crate::base::Retry::Never));
    }
    for (path, text) in &files {
        create(path, text)?;
    }
    let root_key = dir.join("secrets/root.key");
    RootKeys::create(&root_key)?;
    Ok(files.into_iter().map(|(path, _)| path).chain([root_key]).collect())
}

/// Makes one file that did not exist. Secrets are readable by their owner only.
fn create(path: &Path, text: &str) -> Result<()> {
    let failed = |error| Error::io(format!("failed to write `{}`", path.display()), error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if path.parent().is_some_and(|folder| folder.ends_with("secrets")) {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let mut file = options.open(path).map_err(|error| match error.kind() {
        // Somebody else was faster.
        ErrorKind::AlreadyExists => Error::new(Kind::Conflict, format!("`{}` exists already", path.display())),
        _ => failed(error),
    })?;
    file.write_all(text.as_bytes()).map_err(failed)
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::internal("the operating system has no randomness to give"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_a_project_that_loads_without_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("new/project");
        let written = write(&dir).unwrap();
        assert!(written.iter().all(|path| path.is_file()));
        let config = crate::config::load(&dir).unwrap();
        assert_eq!(config.warnings, []);
        assert_eq!(config.channels.len(), 1);
        assert_eq!(config.helpdesks.len(), 1);
        assert!(config.channel("telegram").unwrap().exposed("bot_token").is_none());
    }

    #[test]
    fn two_projects_share_no_secret_and_others_cannot_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let secret = |name: &str| {
            write(&folder.path().join(name)).unwrap();
            let path = folder.path().join(name).join("secrets/helpdesk");
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::read_to_string(path).unwrap()
        };
        assert_ne!(secret("a"), secret("b"));
    }

    #[test]
    fn overwrites_nothing_and_then_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("README.md"), "mine").unwrap();
        assert_eq!(write(folder.path()).unwrap_err().kind(), Kind::Conflict);
        assert_eq!(std::fs::read_to_string(folder.path().join("README.md")).unwrap(), "mine");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
