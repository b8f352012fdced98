//! The addresses in `MAIL FROM:<...>` and `RCPT TO:<...>` (RFC 5321, section 4.1.2, RFC 6531).
//!
//! Who speaks is the operator's own MTA, which has taken the mail already: a refusal here bounces it. So forms that
//! occur in the wild are let through (dots in a row, a long local part), but nothing that could be read in two ways: no
//! blank, no bracket and no control character outside of quotes.

/// The longest address, in bytes: 64 for the local part, 255 for the domain (RFC 5321, section 4.5.3.1), and `@`.
pub(super) const ADDRESS_MOST: usize = 320;

/// Takes `<...>` off the front of `text`: what stands in the brackets, and what follows them. Brackets in quotes do not
/// count. `None` if there is no such thing.
pub(super) fn take(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => {
                let (path, rest) = inner.split_at_checked(at)?;
                return Some((path, rest.strip_prefix('>')?));
            }
            _ => {}
        }
    }
    None
}

/// The address in a path, as it is written but without the source route (`@a,@b:`), which is to be ignored. A name
/// without a domain is one where `bare` allows it. `None` if it is no address.
pub(super) fn address(path: &str, bare: bool) -> Option<&str> {
    let address = if path.starts_with('@') { path.split_once(':')?.1 } else { path };
    if address.len() > ADDRESS_MOST {
        return None;
    }
    let (local, domain) = split(address);
    let local_fits = is_local(local);
    let domain_fits = domain.map_or(bare, is_domain);
    (local_fits && domain_fits).then_some(address)
}

/// The local part and the domain. The last `@` parts them: a domain cannot have one.
fn split(address: &str) -> (&str, Option<&str>) {
    match address.rsplit_once('@') {
        // An `@` inside the quotes of a name without a domain.
        Some(_) if address.len() > 1 && address.starts_with('"') && address.ends_with('"') => (address, None),
        Some((local, domain)) => (local, Some(domain)),
        None => (address, None),
    }
}

fn is_local(local: &str) -> bool {
    match local.strip_prefix('"') {
        Some(quoted) => is_quoted(quoted),
        None => !local.is_empty() && local.chars().all(is_atom),
    }
}

/// Whether this is the rest of a quoted string, to its closing quote and no further.
fn is_quoted(rest: &str) -> bool {
    let Some(inner) = rest.strip_suffix('"') else { return false };
    let mut escaped = false;
    for character in inner.chars() {
        match character {
            _ if character.is_control() => return false,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return false,
            _ => {}
        }
    }
    !escaped
}

/// What may stand in a local part without quotes: `atext` with dots.
fn is_atom(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_graphic() && !r#"<>()[]\,;:@""#.contains(character);
    }
    is_beyond_ascii(character)
}

/// A letter or mark of another script. Blanks are none, nor is what turns the direction of the text around it.
fn is_beyond_ascii(character: char) -> bool {
    let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !character.is_ascii() && !character.is_control() && !character.is_whitespace() && !turns
}

fn is_domain(domain: &str) -> bool {
    if let Some(literal) = domain.strip_prefix('[') {
        let digits = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '-');
        return literal.strip_suffix(']').is_some_and(|inner| !inner.is_empty() && inner.chars().all(digits));
    }
    domain.len() <= 255 && domain.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || is_beyond_ascii(c);
    !label.is_empty() && label.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_at_the_bracket_outside_of_quotes() {
        assert_eq!(take("<a@b.example> SIZE=1"), Some(("a@b.example", " SIZE=1")));
        assert_eq!(take("<>"), Some(("", "")));
        assert_eq!(take(r#"<"a>\"b"@c.example>X"#), Some((r#""a>\"b"@c.example"#, "X")));
        for text in ["", "a@b.example", "<a@b.example", r#"<"a>"#, " <a>"] {
            assert_eq!(take(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_taken_as_written() {
        for text in [
            "ann@shop.example",
            "a..b.@shop.example",
            "ann+tag=x%y!z@shop_1.example",
            r#""ann lee"@shop.example"#,
            r#""a\"@b"@shop.example"#,
            "ann@[192.0.2.1]",
            "ann@[IPv6:2001:db8::1]",
            "zoë@käse.example",
            "संपर्क@डाटामेल.भारत",
        ] {
            assert_eq!(address(text, false), Some(text), "{text}");
        }
        assert_eq!(address("@one.example,@two.example:ann@shop.example", false), Some("ann@shop.example"));
        assert_eq!(address("Postmaster", true), Some("Postmaster"));
        assert_eq!(address("Postmaster", false), None);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_address() {
        for text in [
            "",
            "@shop.example",
            "ann@",
            "ann@.example",
            "ann@shop.example.",
            "ann@a@b.example",
            "ann lee@shop.example",
            "ann@shop example",
            "ann<x@shop.example",
            "ann@<shop.example",
            r#""ann@shop.example"#,
            r#""ann"x"@shop.example"#,
            r#""ann\"@shop.example"#,
            "ann\u{85}@shop.example",
            "ann\u{a0}@shop.example",
            "ann@sh\u{202e}op.example",
            "ann@[192.0.2.1",
            "ann@[]",
            "@one.example",
        ] {
            assert_eq!(address(text, true), None, "{text}");
        }
        assert_eq!(address(&format!("{}@b.example", "a".repeat(ADDRESS_MOST)), true), None);
    }
}
