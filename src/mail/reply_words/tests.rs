//! The tables hold what their readers expect.

use super::*;
use crate::mail::signature_words as other;

/// What is wrong with a list of alternatives.
fn faults(list: &str) -> Vec<String> {
    let all: Vec<&str> = list.split('|').collect();
    let twice = |word: &str| all.iter().filter(|other| **other == word).count() > 1;
    let bad =
        |word: &&&str| word.trim() != **word || word.to_lowercase() != **word || word.ends_with(':') || twice(word);
    all.iter().filter(bad).map(|word| format!("{word:?}")).chain(list.contains("||").then(|| list.to_owned())).collect()
}

#[test]
fn all_words_are_in_lower_case_and_stand_once() {
    let rows = LANGUAGES.iter().flat_map(|w| [w.wrote, w.intro, w.from, w.sent, w.date, w.to, w.subject, w.original]);
    let closings = other::CLOSINGS.iter().chain(other::THANKS).chain(other::FOOTER_BEGINS).copied();
    let single = [OWN, other::FOOTER_ENDS, other::DEVICES, other::MY, other::NOTICES, other::NOTICE_BEGINS];
    let wrong: Vec<String> = rows.chain(closings).chain(single).flat_map(faults).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
