//! Reads one line of a client (RFC 5321, section 4.1, with LMTP's `LHLO` instead of `EHLO`).
//!
//! The invariant: what is handed on is text without control characters, and every parameter in it is one that was
//! offered. Everything else is answered with a refusal.

use super::path;
use super::reply;

/// What the client asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Lhlo,
    Mail(Mail<'a>),
    Rcpt { to: &'a str },
    Data,
    Reset,
    Nothing,
    Verify,
    Help,
    StartTls,
    Quit,
}

/// `MAIL`, which opens a mail.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mail<'a> {
    /// The sender; `None` for `<>`.
    pub(super) from: Option<&'a str>,
    /// The announced size in bytes (RFC 1870). A number beyond all bounds is the largest one.
    pub(super) size: Option<u64>,
    /// Whether addresses may have characters beyond ASCII (RFC 6531).
    pub(super) utf8: bool,
}

/// Reads a line, without its end.
///
/// # Errors
///
/// The reply that refuses it.
pub(super) fn parse(line: &[u8]) -> Result<Command<'_>, &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| reply::NOT_TEXT)?;
    if text.chars().any(char::is_control) {
        return Err(reply::CONTROL);
    }
    let text = text.trim_end_matches(' ');
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    let alone = |command| if rest.is_empty() { Ok(command) } else { Err(reply::NO_PARAMETER) };
    match verb.to_ascii_uppercase().as_str() {
        "LHLO" if rest.trim_start().is_empty() => Err(reply::NAME_WANTED),
        "LHLO" => Ok(Command::Lhlo),
        "MAIL" => mail(rest).map(Command::Mail),
        "RCPT" => rcpt(rest),
        "DATA" => alone(Command::Data),
        "RSET" => alone(Command::Reset),
        "STARTTLS" => alone(Command::StartTls),
        "QUIT" => alone(Command::Quit),
        "NOOP" => Ok(Command::Nothing),
        "VRFY" => Ok(Command::Verify),
        "HELP" => Ok(Command::Help),
        "HELO" | "EHLO" => Err(reply::LHLO_WANTED),
        "EXPN" | "AUTH" | "BDAT" | "ETRN" | "TURN" => Err(reply::NOT_OFFERED),
        _ => Err(reply::UNKNOWN),
    }
}

/// Takes the keyword and its colon off, and the blanks that some clients put behind it.
fn argument<'a>(rest: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, tail) = rest.trim_start_matches(' ').split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then(|| tail.trim_start_matches(' '))
}

/// Parts the path from the parameters, which a blank must set off.
fn path_and_parameters<'a>(rest: &'a str, keyword: &str) -> Result<(&'a str, &'a str), &'static str> {
    let argument = argument(rest, keyword).ok_or(reply::PATH_WANTED)?;
    let (path, parameters) = path::take(argument).ok_or(reply::PATH_WANTED)?;
    if parameters.is_empty() || parameters.starts_with(' ') { Ok((path, parameters)) } else { Err(reply::PATH_WANTED) }
}

fn mail(rest: &str) -> Result<Mail<'_>, &'static str> {
    let (path, parameters) = path_and_parameters(rest, "FROM:")?;
    let mut mail = Mail::default();
    if !path.is_empty() {
        mail.from = Some(path::address(path, false).ok_or(reply::BAD_SENDER)?);
    }
    let mut body = false;
    for parameter in parameters.split_ascii_whitespace() {
        let (name, value) = parameter.split_once('=').map_or((parameter, None), |(name, value)| (name, Some(value)));
        let twice = match name.to_ascii_uppercase().as_str() {
            "SIZE" => mail.size.replace(size(value.unwrap_or_default())?).is_some(),
            "SMTPUTF8" if value.is_none() => std::mem::replace(&mut mail.utf8, true),
            "BODY" if value.is_some_and(is_body) => std::mem::replace(&mut body, true),
            "BODY" | "SMTPUTF8" => return Err(reply::BAD_PARAMETER),
            _ => return Err(reply::UNKNOWN_PARAMETER),
        };
        if twice {
            return Err(reply::BAD_PARAMETER);
        }
    }
    let ascii = mail.from.is_none_or(str::is_ascii);
    if ascii || mail.utf8 { Ok(mail) } else { Err(reply::UTF8_WANTED) }
}

/// The content comes as it is whatever is announced, so this is checked and forgotten.
fn is_body(value: &str) -> bool {
    value.eq_ignore_ascii_case("7BIT") || value.eq_ignore_ascii_case("8BITMIME")
}

/// Up to 20 digits (RFC 1870, section 3).
fn size(value: &str) -> Result<u64, &'static str> {
    if value.is_empty() || value.len() > 20 || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(reply::BAD_PARAMETER);
    }
    Ok(value.parse().unwrap_or(u64::MAX))
}

fn rcpt(rest: &str) -> Result<Command<'_>, &'static str> {
    let (path, parameters) = path_and_parameters(rest, "TO:")?;
    let to = path::address(path, true).ok_or(reply::BAD_RECIPIENT)?;
    if parameters.split_ascii_whitespace().next().is_some() {
        return Err(reply::UNKNOWN_PARAMETER);
    }
    Ok(Command::Rcpt { to })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(line: &str) -> &'static str {
        parse(line.as_bytes()).err().unwrap_or_else(|| panic!("{line:?} was taken"))
    }

    fn mail_of(line: &str) -> Mail<'_> {
        match parse(line.as_bytes()) {
            Ok(Command::Mail(mail)) => mail,
            Ok(_) => panic!("{line:?} is another command"),
            Err(refusal) => panic!("{line:?}: {refusal}"),
        }
    }

    #[test]
    fn verbs_are_known_in_any_case() {
        assert!(parse(b"lhlo mx.example") == Ok(Command::Lhlo));
        assert!(parse(b"Data ") == Ok(Command::Data));
        assert!(parse(b"NOOP and more") == Ok(Command::Nothing));
        assert!(parse(b"vrfy ann") == Ok(Command::Verify));
        assert!(parse(b"HELP") == Ok(Command::Help));
        assert!(parse(b"StartTLS") == Ok(Command::StartTls));
        assert!(parse(b"rset") == Ok(Command::Reset));
        assert!(parse(b"quit") == Ok(Command::Quit));
        for line in ["DATA x", "RSET x", "QUIT x", "STARTTLS x"] {
            assert_eq!(refusal(line), reply::NO_PARAMETER);
        }
        assert_eq!(refusal("LHLO"), reply::NAME_WANTED);
        assert_eq!(refusal("EHLO mx.example"), reply::LHLO_WANTED);
        assert_eq!(refusal("HELO mx.example"), reply::LHLO_WANTED);
        assert_eq!(refusal("BDAT 5 LAST"), reply::NOT_OFFERED);
        assert_eq!(refusal(""), reply::UNKNOWN);
        assert_eq!(refusal("GET / HTTP/1.1"), reply::UNKNOWN);
    }

    #[test]
    fn mail_with_its_parameters() {
        let mail = mail_of("mail from:<ann@shop.example> size=1234  Body=8bitmime SMTPUTF8");
        assert!(mail == Mail { from: Some("ann@shop.example"), size: Some(1234), utf8: true });
        assert!(mail_of("MAIL FROM:<>") == Mail::default());
        assert!(mail_of("MAIL FROM: <> BODY=7BIT").from.is_none());
        assert_eq!(mail_of("MAIL FROM:<> SIZE=99999999999999999999").size, Some(u64::MAX));
        assert_eq!(mail_of("MAIL FROM:<zoë@shop.example> SMTPUTF8").from, Some("zoë@shop.example"));
        for (line, answer) in [
            ("MAIL", reply::PATH_WANTED),
            ("MAIL FROM", reply::PATH_WANTED),
            ("MAIL FROM:ann@shop.example", reply::PATH_WANTED),
            ("MAIL FROM:<ann@shop.example>SIZE=1", reply::PATH_WANTED),
            ("MAIL TO:<ann@shop.example>", reply::PATH_WANTED),
            ("MAIL FROM:<ann>", reply::BAD_SENDER),
            ("MAIL FROM:<zoë@shop.example>", reply::UTF8_WANTED),
            ("MAIL FROM:<> SIZE=", reply::BAD_PARAMETER),
            ("MAIL FROM:<> SIZE", reply::BAD_PARAMETER),
            ("MAIL FROM:<> SIZE=-1", reply::BAD_PARAMETER),
            ("MAIL FROM:<> SIZE=1 SIZE=1", reply::BAD_PARAMETER),
            ("MAIL FROM:<> SIZE=111111111111111111111", reply::BAD_PARAMETER),
            ("MAIL FROM:<> BODY=BINARYMIME", reply::BAD_PARAMETER),
            ("MAIL FROM:<> SMTPUTF8=1", reply::BAD_PARAMETER),
            ("MAIL FROM:<> RET=FULL", reply::UNKNOWN_PARAMETER),
        ] {
            assert_eq!(refusal(line), answer, "{line}");
        }
    }

    #[test]
    fn recipients() {
        assert!(parse(b"RCPT TO:<bob@shop.example>") == Ok(Command::Rcpt { to: "bob@shop.example" }));
        assert!(parse(b"rcpt to:<Postmaster>") == Ok(Command::Rcpt { to: "Postmaster" }));
        assert_eq!(refusal("RCPT TO:<>"), reply::BAD_RECIPIENT);
        assert_eq!(refusal("RCPT TO:<a b@shop.example>"), reply::BAD_RECIPIENT);
        assert_eq!(refusal("RCPT TO:<bob@shop.example> NOTIFY=NEVER"), reply::UNKNOWN_PARAMETER);
    }

    #[test]
    fn control_characters_are_refused_everywhere() {
        for line in ["NOOP\tx", "NOOP \0", "NOOP \r x", "RCPT TO:<a@b.example>\u{1b}", "NOOP \u{85}", "NOOP \u{7f}"] {
            assert_eq!(refusal(line), reply::CONTROL);
        }
        assert!(parse(b"NOOP \xff") == Err(reply::NOT_TEXT));
    }

    proptest! {
        #[test]
        fn any_line_gets_an_answer(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&line);
        }

        #[test]
        fn what_is_handed_on_has_no_brackets_outside_of_quotes(tail in r#"[<>"\\@:. a-cé=,]{0,20}"#) {
            let line = format!("RCPT TO:<{tail}");
            if let Ok(Command::Rcpt { to }) = parse(line.as_bytes()) {
                prop_assert!(to.starts_with('"') || !to.contains(['<', '>', ' ', ',']), "{}", to);
                prop_assert!(tail.contains(to));
            }
        }
    }
}
