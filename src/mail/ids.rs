//! Message identifiers in Message-ID, In-Reply-To and References (RFC 5322, section 3.6.4).
//!
//! An identifier that is given out may be written into a field again: it has no brackets, no blanks, no control
//! characters, and a bounded length.

/// The longest identifier kept, in bytes.
const LONGEST: usize = 250;
/// How many of the newest references are kept, beside the first one.
const NEWEST: usize = 20;

/// The identifiers in the values of one kind of field, in order and without brackets; of many, the first and the last
/// twenty.
pub fn list<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for value in values {
        for id in in_brackets(value) {
            if !ids.contains(&id) {
                ids.push(id);
            }
            if ids.len() > NEWEST + 1 {
                ids.remove(1);
            }
        }
    }
    ids
}

/// The identifier of a Message-ID field. Some programs leave the brackets out.
pub fn one(value: &[u8]) -> Option<String> {
    in_brackets(value).next().or_else(|| clean(value.trim_ascii()))
}

/// What stands in brackets, as far as it may be an identifier.
fn in_brackets(value: &[u8]) -> impl Iterator<Item = String> + '_ {
    let mut rest = value;
    std::iter::from_fn(move || {
        loop {
            let start = memchr::memchr(b'<', rest)? + 1;
            rest = rest.get(start..)?;
            // A bracket that opens within another one is where the identifier really begins.
            let end = memchr::memchr2(b'>', b'<', rest)?;
            let (id, after) = rest.split_at(end);
            rest = after;
            if let (Some(b'>'), Some(id)) = (after.first(), clean(id)) {
                return Some(id);
            }
        }
    })
}

/// `id` without the blanks and line ends that folding put into it.
fn clean(id: &[u8]) -> Option<String> {
    let folded = id.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
    let id: Vec<u8> = if folded {
        id.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n' | b' ' | b'\t')).collect()
    } else {
        id.trim_ascii().to_vec()
    };
    let good = !id.is_empty()
        && id.len() <= LONGEST
        && id.iter().all(|byte| matches!(byte, 0x21..=0x7e) && !matches!(byte, b'<' | b'>'));
    good.then(|| String::from_utf8(id).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(value: &str) -> Vec<String> {
        list(std::iter::once(value.as_bytes()))
    }

    #[test]
    fn identifiers_are_found_among_other_words() {
        assert_eq!(read("<a@b> <c@d>\r\n <e@f>"), ["a@b", "c@d", "e@f"]);
        assert_eq!(read("Your message of Monday <a@b>"), ["a@b"]);
        assert_eq!(read("<a@\r\n b>"), ["a@b"]);
        assert_eq!(read("<a b@c> <<d@e> <f@g>"), ["d@e", "f@g"]);
        assert_eq!(read("none"), Vec::<String>::new());
        assert_eq!(read("<a@b> <a@b>"), ["a@b"]);
    }

    #[test]
    fn a_message_id_may_lack_its_brackets() {
        assert_eq!(one(b" 12223 "), Some("12223".to_owned()));
        assert_eq!(one(b"<a@b> (c)"), Some("a@b".to_owned()));
        assert_eq!(one(b"a b"), None);
        assert_eq!(one(b""), None);
    }

    #[test]
    fn of_many_the_first_and_the_newest_are_kept() {
        let value: String = (0..5000).map(|n| format!("<{n}@x> ")).collect();
        let ids = read(&value);
        assert_eq!((ids.len(), ids[0].as_str(), ids[1].as_str(), ids[20].as_str()), (21, "0@x", "4980@x", "4999@x"));
    }

    #[test]
    fn what_may_not_be_written_again_is_left_out() {
        assert_eq!(read(&format!("<{}@x> <\u{e9}@x> <a\u{7f}@x>", "a".repeat(250))), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn every_identifier_is_safe(value in proptest::collection::vec(prop_oneof![Just(b'<'), Just(b'>'), any::<u8>()], 0..200)) {
            for id in list(std::iter::once(value.as_slice())).into_iter().chain(one(&value)) {
                prop_assert!(id.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && byte != b'<' && byte != b'>'));
                prop_assert!((1..=LONGEST).contains(&id.len()));
            }
        }
    }
}
