//! The splitter of new text, quotes and signatures.
//!
//! The invariants: its parts are the text, in order and without gaps, and what it gathers stands in them.

use std::collections::HashSet;

use crate::mail::reply::{Split, What, split, split_from};

/// The text of a mail, of which the first line is also tried as the sender's name.
pub fn reply(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    check(&text, &split(&text));
    let name = text.lines().next();
    check(&text, &split_from(&text, name));
}

fn check(text: &str, split: &Split) {
    let mut end = 0;
    for part in &split.parts {
        assert!(part.at.start == end && part.at.end > end, "a gap or an empty part at {end}");
        assert!(text.get(part.at.clone()).is_some(), "a part ends within a character");
        end = part.at.end;
    }
    assert_eq!(end, text.len(), "the end of the text is in no part");
    assert!(split.parts.len() <= 512);
    assert!(split.parts.windows(2).all(|pair| matches!(pair, [a, b] if a.what != b.what)), "two parts that are one");
    for (what, gathered) in [(What::New, Some(&split.new)), (What::Signature, split.signature.as_ref())] {
        let own = split.parts.iter().filter(|part| part.what == what);
        let own = own.flat_map(|part| text.get(part.at.clone()).unwrap_or_default().lines());
        let own: HashSet<&str> = own.map(str::trim_end).collect();
        let lines = gathered.into_iter().flat_map(|text| text.lines()).filter(|line| !line.is_empty());
        lines.for_each(|line| assert!(own.contains(line), "a line that stands in no part"));
    }
    let quoted = split.parts.iter().find(|part| part.what == What::Quoted);
    assert_eq!(split.quote_at, quoted.map(|part| part.at.start));
    assert!(split.new.len() <= text.len() + 2 * split.parts.len());
    assert!(!split.shown(text).is_empty() || text.trim().is_empty());
}
