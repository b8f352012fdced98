//! Names of folders, and strings as commands write them.
//!
//! A folder's name is Unicode for people and "modified UTF-7" on the wire (RFC 3501 section 5.1.3). Nothing made here
//! holds a line end, so no name can begin a command of its own.

use data_encoding::{BitOrder, Encoding, Specification};

use super::error::ImapError;

/// Longest name of a folder, bytes of UTF-8.
pub(super) const LONGEST: usize = 1024;

/// Base64 with `,` for `/` and without padding.
fn base64() -> Option<Encoding> {
    let mut specification = Specification::new();
    specification.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,");
    specification.bit_order = BitOrder::MostSignificantFirst;
    specification.encoding().ok()
}

/// The name as modified UTF-7, within quotes, as a command writes it.
///
/// # Errors
///
/// [`super::Fault::Mailbox`] if it is empty, longer than 1,024 bytes, or has control characters.
pub(super) fn quoted_folder(name: &str) -> Result<String, ImapError> {
    if name.is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) {
        return Err(ImapError::mailbox("the name of a folder is empty, too long or has control characters"));
    }
    quoted(&encode(name)).ok_or_else(|| ImapError::mailbox("the name of a folder cannot be written"))
}

/// Modified UTF-7 of any text.
pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut wide: Vec<u8> = Vec::new();
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            end_wide(&mut out, &mut wide);
            out.push_str(if c == '&' { "&-" } else { "" });
            if c != '&' {
                out.push(c);
            }
        } else {
            wide.extend(c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    end_wide(&mut out, &mut wide);
    out
}

fn end_wide(out: &mut String, wide: &mut Vec<u8>) {
    if let Some(base64) = base64().filter(|_| !wide.is_empty()) {
        out.push('&');
        out.push_str(&base64.encode(wide));
        out.push('-');
    }
    wide.clear();
}

/// The text that modified UTF-7 stands for; `None` if it is not well formed.
pub fn decode(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((plain, after)) = rest.split_once('&') {
        out.push_str(plain);
        let (shifted, after) = after.split_once('-')?;
        if shifted.is_empty() {
            out.push('&');
        } else {
            let bytes = base64()?.decode(shifted.as_bytes()).ok()?;
            let (pairs, odd) = bytes.as_chunks::<2>();
            let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
            out.extend(char::decode_utf16(units).collect::<Result<Vec<_>, _>>().ok().filter(|_| odd.is_empty())?);
        }
        rest = after;
    }
    out.push_str(rest);
    out.bytes().all(|byte| byte != b'\r' && byte != b'\n' && byte != 0).then_some(out)
}

/// The text as a quoted string; `None` if it is not printable ASCII, which a quoted string cannot hold.
pub(super) fn quoted(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for c in text.chars() {
        if !matches!(c, ' '..='~') {
            return None;
        }
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_the_standard() {
        for (name, wire) in [
            ("INBOX", "INBOX"),
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("R&D", "R&-D"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("😀", "&2D3eAA-"),
        ] {
            assert_eq!(encode(name), wire);
            assert_eq!(decode(wire).as_deref(), Some(name));
        }
        for wrong in ["&", "&AP", "&A-", "&2D0-", "&AA0-", "&=-"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_cannot_end_its_line() {
        for name in ["", "a\rb", "a\nb", "a\r\nA1 LOGOUT", "\0", "a\u{85}b"] {
            assert!(quoted_folder(name).is_err(), "{name:?}");
        }
        assert!(quoted_folder(&"x".repeat(LONGEST + 1)).is_err());
        assert_eq!(quoted_folder("say \"a\\b\"").unwrap(), r#""say \"a\\b\"""#);
    }

    proptest! {
        #[test]
        fn any_name_comes_back(name in "[^\r\n\0]*") {
            let wire = encode(&name);
            prop_assert!(wire.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            prop_assert_eq!(decode(&wire), Some(name));
        }

        #[test]
        fn decoding_never_panics(wire in ".*") {
            let _ = decode(&wire);
        }
    }
}
