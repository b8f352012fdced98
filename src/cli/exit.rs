//! Exit codes, as `sysexits.h` of BSD names them, so that scripts can tell a typing mistake from a full disk.

use std::process::ExitCode;

use crate::base::{Error, Kind, Retry};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked to.
    Ok = 0,
    /// The command line is wrong (`EX_USAGE`).
    Usage = 64,
    /// The input is not what its format demands, or a test failed (`EX_DATAERR`).
    Data = 65,
    /// An input file does not exist or cannot be read (`EX_NOINPUT`).
    NoInput = 66,
    /// Something that is needed is not there (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// This program broke one of its own rules (`EX_SOFTWARE`).
    Software = 70,
    /// Reading or writing failed (`EX_IOERR`).
    Io = 74,
    /// It may succeed later (`EX_TEMPFAIL`).
    TempFail = 75,
    /// The configuration, a connector or a script is wrong (`EX_CONFIG`).
    Config = 78,
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error.kind() {
            Kind::Invalid => Exit::Data,
            Kind::Config | Kind::Script => Exit::Config,
            Kind::NotFound => Exit::NoInput,
            Kind::Io => Exit::Io,
            Kind::Internal => Exit::Software,
            Kind::Unavailable | Kind::Timeout | Kind::Limit | Kind::Conflict if error.retry() != Retry::Never => {
                Exit::TempFail
            }
            _ => Exit::Unavailable,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// What a command gives back: how it ended, or the error that is printed before its code is given.
pub type Outcome = Result<Exit, Error>;

/// The list of exit codes for the end of `--help`.
pub const HELP: &str = "Exit codes: 0 done, 64 wrong usage, 65 wrong data or failed test, 66 no input, 69 unavailable, \
70 internal error, 74 I/O error, 75 try again later, 78 wrong configuration.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_the_code_of_its_cause() {
        let code = |kind| Exit::from(&Error::new(kind, "x"));
        assert_eq!(code(Kind::Invalid), Exit::Data);
        assert_eq!(code(Kind::Config), Exit::Config);
        assert_eq!(code(Kind::Script), Exit::Config);
        assert_eq!(code(Kind::Io), Exit::Io);
        assert_eq!(code(Kind::NotFound), Exit::NoInput);
        assert_eq!(code(Kind::Unavailable), Exit::TempFail);
        assert_eq!(code(Kind::Forbidden), Exit::Unavailable);
        assert_eq!(code(Kind::Internal), Exit::Software);
        let never = Error::new(Kind::Unavailable, "x").with_retry(Retry::Never);
        assert_eq!(Exit::from(&never), Exit::Unavailable);
    }
}
