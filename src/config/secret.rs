//! Secrets: written literally, or as `env:NAME` or `file:path`, and fetched when the configuration is loaded.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::problem::Problem;
use super::reader::Field;
use super::source::read_capped;
use crate::base::Secret;

/// The machine, as far as loading a configuration looks at it. Tests and the demo bring their own.
pub trait Host {
    /// The environment variable `name`, if it is set and text.
    fn variable(&self, name: &str) -> Option<Secret>;

    /// The text of the file at `path`, or the reason why there is none.
    ///
    /// # Errors
    ///
    /// The reason in plain words, such as `no such file`.
    fn file(&self, path: &Path) -> Result<Secret, String>;
}

/// The machine that this program runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

/// The largest secret or certificate file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

impl Host for Machine {
    fn variable(&self, name: &str) -> Option<Secret> {
        // `std::env::var` panics on names with `=` or NUL on some systems; such names are never set.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        std::env::var(name).ok().map(Secret::new)
    }

    fn file(&self, path: &Path) -> Result<Secret, String> {
        let bytes = Zeroizing::new(read_capped(path, MAX_BYTES)?);
        std::str::from_utf8(&bytes).map(Secret::new).map_err(|_| "not UTF-8 text".to_owned())
    }
}

/// How a secret was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// As it is.
    Literal,
    /// `env:NAME`.
    Environment(String),
    /// `file:path`, resolved.
    File(PathBuf),
}

/// What secrets are resolved against.
#[derive(Clone, Copy)]
pub(super) struct Place<'h> {
    /// The machine.
    pub(super) host: &'h dyn Host,
    /// The folder that relative paths are relative to.
    pub(super) root: &'h Path,
}

impl Place<'_> {
    /// The text of `field`, fetched from where it says.
    pub(super) fn resolve(&self, field: &Field<'_>) -> Option<(Secret, Origin)> {
        let text = field.text()?;
        if let Some(name) = text.strip_prefix("env:") {
            let Some(value) = self.host.variable(name) else {
                field.error(format!("environment variable {} is not set", super::reader::shown(name)));
                return None;
            };
            return self.filled(field, value, Origin::Environment(name.to_owned()));
        }
        if let Some(path) = text.strip_prefix("file:") {
            let path = self.root.join(path);
            match self.host.file(&path) {
                Ok(value) => return self.filled(field, value, Origin::File(path)),
                Err(reason) => {
                    field.error(format!("secret file `{}`: {reason}", path.display()));
                    return None;
                }
            }
        }
        Some((Secret::new(text), Origin::Literal))
    }

    /// A fetched secret without the line end that editors put at the end of files.
    fn filled(&self, field: &Field<'_>, value: Secret, origin: Origin) -> Option<(Secret, Origin)> {
        let text = value.expose().trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            field.error(match &origin {
                Origin::Environment(name) => format!("environment variable `{name}` is empty"),
                Origin::File(path) => format!("secret file `{}` is empty", path.display()),
                Origin::Literal => "the secret is empty".into(),
            });
            return None;
        }
        Some((Secret::new(text), origin))
    }
}

/// The warning that a secret stands in a file that everybody on this machine can read.
pub(super) fn exposed(place: super::problem::Place, key: &str) -> Problem {
    Problem::new(place, key, "a secret stands here in a file that everybody on this machine can read")
        .expected("\"env:NAME\", \"file:path\", or a file that only its owner can read")
        .warning()
}
