//! Tag lists, `a=1; b=2`: the form of DKIM signatures, DKIM keys and DMARC records (RFC 6376, section 3.2).

/// The most tags that one list may have. Real ones have under fifteen.
const MOST: usize = 64;

/// A tag list in its order.
pub(super) struct Tags<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Tags<'a> {
    /// Reads one. Gives nothing if a tag has no `=`, a name has other characters than letters, digits and `_`, or a
    /// name stands twice.
    pub(super) fn read(text: &'a str) -> Option<Tags<'a>> {
        let mut tags: Vec<(&str, &str)> = Vec::new();
        let mut pieces = text.split(';').peekable();
        while let Some(piece) = pieces.next() {
            if piece.trim().is_empty() && pieces.peek().is_none() {
                break;
            }
            let (name, value) = piece.split_once('=')?;
            let (name, value) = (name.trim(), value.trim());
            let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !good || tags.len() == MOST || tags.iter().any(|(held, _)| *held == name) {
                return None;
            }
            tags.push((name, value));
        }
        Some(Tags(tags))
    }

    /// The value of a tag, trimmed. DKIM's names have a case (section 3.2).
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(held, _)| *held == name).map(|(_, value)| *value)
    }

    /// The name of the first tag.
    pub(super) fn first(&self) -> Option<&'a str> {
        self.0.first().map(|(name, _)| *name)
    }
}

/// Decodes base64 that may be folded and may lack its padding.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let bare: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let end = bare.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    if bare.len() - end > 2 {
        return None;
    }
    data_encoding::BASE64_NOPAD.decode(bare.get(..end)?).ok()
}

/// Whether `name` can be asked for in the DNS: labels of letters, digits, `-` and `_`, each of 1 to 63 bytes, 253 at
/// most together, and not an address in numbers.
pub(super) fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let last_is_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 253 && !last_is_number && name.split('.').all(label)
}

/// Whether `name` is `domain` or lies below it, whatever the case.
pub(super) fn is_below(name: &str, domain: &str) -> bool {
    match name.len().checked_sub(domain.len()) {
        Some(0) => name.eq_ignore_ascii_case(domain),
        Some(at) => {
            let dot = at.checked_sub(1).and_then(|dot| name.get(dot..at));
            dot == Some(".") && name.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(domain))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_what_is_none_is_refused() {
        let tags = Tags::read(" v=1; a = b=c ;\r\n\td=;").unwrap();
        assert_eq!(
            (tags.first(), tags.get("a"), tags.get("d"), tags.get("x")),
            (Some("v"), Some("b=c"), Some(""), None)
        );
        for bad in ["a", "a=1;;b=2", "a=1; a=2", "=1", "a b=1"] {
            assert!(Tags::read(bad).is_none(), "{bad}");
        }
        let many: String = (0..65).map(|n| format!("a{n}=1;")).collect();
        assert!(Tags::read(&many).is_none());
    }

    #[test]
    fn base64_is_read_with_folds_and_without_padding() {
        for good in ["YWJjZA==", "YWJj\r\n ZA==", "YWJjZA"] {
            assert_eq!(base64(good).as_deref(), Some(&b"abcd"[..]), "{good}");
        }
        for bad in ["YWJjZA===", "YW=JjZA=", "*"] {
            assert_eq!(base64(bad), None, "{bad}");
        }
    }

    #[test]
    fn domains() {
        for good in ["example.org", "a_b.c-d.EXAMPLE", "xn--bcher-kva.example"] {
            assert!(is_domain(good), "{good}");
        }
        let long = format!("{}.org", "a".repeat(64));
        for bad in ["", ".", "a..b", "a.b.", "a b", "b\u{fc}cher.example", "127.0.0.1", &long] {
            assert!(!is_domain(bad), "{bad}");
        }
        assert!(is_below("A.example.org", "EXAMPLE.org") && is_below("example.org", "example.org"));
        assert!(!is_below("notexample.org", "example.org") && !is_below("org", "example.org"));
    }
}
