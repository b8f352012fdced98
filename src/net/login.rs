//! How a mail server is told who we are, the same for reading (IMAP) and for sending (SMTP).

use std::fmt;

use zeroize::Zeroizing;

/// How the connection becomes private. There is no way without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Security {
    /// TLS from the first byte (RFC 8314): usually port 993 for IMAP and 465 for SMTP.
    Implicit,
    /// TLS by the command STARTTLS, which must succeed before anything is said: usually port 143 for IMAP and 587 for SMTP.
    StartTls,
}

/// Who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// By PLAIN (RFC 4616), or by LOGIN where the server has only that.
    Password {
        /// The user's name.
        user: String,
        /// The password.
        password: Zeroizing<String>,
    },
    /// By XOAUTH2 with an OAuth access token.
    Bearer {
        /// The user's name, mostly the address.
        user: String,
        /// The access token.
        token: Zeroizing<String>,
    },
}

impl Login {
    /// The password or the token.
    pub(super) fn secret(&self) -> &str {
        match self {
            Login::Password { password: secret, .. } | Login::Bearer { token: secret, .. } => secret,
        }
    }
}

/// As many bytes of a secret in a row are a part of it and no chance.
const TELLING: usize = 6;

/// Takes a server's words away if they repeat a part of what was sent to log in.
pub(super) fn hide_repeated(words: &mut String, sent: &[&str]) {
    let repeats = |sent: &&str| {
        let mut parts = words.as_bytes().windows(TELLING);
        words.contains(sent) || parts.any(|part| memchr::memmem::find(sent.as_bytes(), part).is_some())
    };
    if sent.iter().filter(|sent| !sent.is_empty()).any(repeats) {
        *words = "(left out)".to_owned();
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::Password { .. } => "Password",
            Login::Bearer { .. } => "Bearer",
        })
    }
}
