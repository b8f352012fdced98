//! Dates and addresses in a line that may be the header of a quote ([`super::quote_header`]).

/// Whether there is an address: `@` between two characters that may stand in one.
pub(super) fn address(text: &str) -> bool {
    let near = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+'));
    text.match_indices('@').take(8).any(|(at, _)| {
        let (before, after) = text.split_at(at);
        near(before.chars().next_back()) && near(after.chars().nth(1))
    })
}

/// Whether an address stands in brackets.
pub(super) fn bracketed(text: &str) -> bool {
    text.find(['<', '(', '[']).and_then(|at| text.get(at..)).is_some_and(address)
}

/// A decimal digit of the Latin or of the Arabic scripts.
pub(super) fn digit(c: char) -> Option<u32> {
    match c {
        '\u{660}'..='\u{669}' => Some(c as u32 - 0x660),
        '\u{6f0}'..='\u{6f9}' => Some(c as u32 - 0x6f0),
        _ => c.to_digit(10),
    }
}

/// The dates and times of a text.
pub(super) struct Dates {
    /// A year, a numeric date, or a time.
    pub(super) any: bool,
    /// A year or a numeric date.
    pub(super) full: bool,
}

impl Dates {
    pub(super) fn of(text: &str) -> Dates {
        let (mut any, mut full) = (false, false);
        // The numbers of a chain like 4.3.24 or 14:20, and what joins the last two.
        let (mut value, mut digits, mut chain, mut joint) = (0_u32, 0, 0, ' ');
        for c in text.chars().chain([' ']) {
            if let Some(d) = digit(c) {
                value = value.saturating_mul(10).saturating_add(d);
                digits += 1;
                continue;
            }
            if digits == 0 {
                if c != ' ' || joint != '.' {
                    (chain, joint) = (0, ' ');
                }
                continue;
            }
            chain += 1;
            full |= digits == 4 && (1990..2100).contains(&value);
            full |= chain == 3 && joint != ':' && matches!(digits, 2 | 4);
            any |= chain == 2 && matches!(joint, ':' | '.') && digits == 2;
            if !matches!(c, '.' | '/' | '-' | ':') {
                chain = 0;
            }
            (value, digits, joint) = (0, 0, c);
        }
        Dates { any: any || full, full }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_found() {
        for full in ["5 March 2024", "5.3.24", "5/3/2024 x", "2024-03-05", "5. 3. 2024", "2024年3月5日", "٥ مارس ٢٠٢٤"]
        {
            assert!(Dates::of(full).full && Dates::of(full).any, "{full}");
        }
        for time in ["at 14:20", "kl. 14.20 skrev", "2:20 PM"] {
            assert!(!Dates::of(time).full && Dates::of(time).any, "{time}");
        }
        for none in ["", "5", "On the 5th", "10 000", "5.2.1", "3000", "1:2", "12345", "5 of 10"] {
            assert!(!Dates::of(none).full && !Dates::of(none).any, "{none}");
        }
    }

    #[test]
    fn addresses_are_found() {
        assert!(address("a@b") && address("<ann.poe@b.example>") && bracketed("Ann (a@b.example)"));
        assert!(!address("@handle") && !address("a @ b") && !bracketed("a@b.example"));
    }
}
