//! Own samples in the styles of today's programs, texts that must stay whole, and sizes.

use proptest::prelude::*;

use super::*;
use crate::base::ends::ends;

mod english;
mod headers;
mod more;
mod others;
mod whole;

/// Name, sender, text, expected new text, expected signature.
type Sample = (&'static str, Option<&'static str>, &'static str, &'static str, &'static str);

fn check(samples: &[Sample]) {
    let mut wrong = String::new();
    for (name, sender, text, new, signature) in samples {
        let got = split_from(text, *sender);
        if got.new != *new || got.signature.as_deref().unwrap_or_default() != *signature {
            wrong.push_str(&format!(
                "{name}:\n  new {:?}\n want {new:?}\n  sig {:?}\n want {signature:?}\n",
                got.new, got.signature
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_quote_begins_at_its_header_or_its_rule() {
    let text = "Yes\n\n_____________\nFrom: a@b.example\nSent: now\nSubject: x\n\nold";
    let got = split(text);
    assert_eq!(got.quote_at.map(|at| &text[at..at + 5]), Some("_____"));
    assert_eq!(got.parts.last().map(|part| part.at.end), Some(text.len()));
    assert!(!got.interleaved);
    assert!(split("> a\n\nb\n\n> c").interleaved);
}

#[test]
fn a_mail_that_is_all_quote_has_no_new_text() {
    let got = split("> a\n> b\n");
    assert_eq!((got.new.as_str(), got.quote_at), ("", Some(0)));
    assert_eq!(split("").parts, []);
    assert_eq!(got.shown("> a\n> b\n"), "> a\n> b");
    assert_eq!(split("Sent from my iPhone").new, "");
    assert_eq!(split("a\n> b").shown("a\n> b"), "a");
}

#[test]
fn debug_shows_no_text() {
    let shown = format!("{:?}", split("secret words\n\n-- \nsecret name\n"));
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn large_texts_take_linear_time() {
    let big = 1 << 20;
    let repeated = |unit: &str| unit.repeat(big / unit.len());
    let texts = [
        repeated(">"),
        repeated(">\n"),
        repeated("On On On "),
        repeated("On 1 On\n"),
        repeated("_"),
        repeated("__\n"),
        repeated("--\n"),
        repeated("x"),
        repeated("\n"),
        repeated("> a\nb\n"),
        repeated("From: a\n\n"),
        repeated("On 5 Mar 2024 <a@b.c>\n"),
        repeated("Sent from\n"),
        repeated("Ann\n"),
        repeated("<@<@<@\n"),
        repeated("On 1.2.2024 wrote wrote wrote wrote wrote wrote wrote wrote wrote wrote wrote wrote x:\n"),
        repeated("ä\u{200b}```\n"),
    ];
    for text in texts {
        let head: String = text.chars().take(24).collect();
        let whole = text.len();
        let got = ends(&head, move || split_from(&text, Some("Ann Poe")));
        assert!(got.parts.len() <= MAX_PARTS && got.new.len() <= whole);
    }
}

/// Lines that a mail may be made of, to meet one another in any order.
fn some_line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("On Tue, Mar 5, 2024 at 2:20 PM Ann <a@b.example> wrote:".to_owned()),
        Just("From: Ann <a@b.example>".to_owned()),
        Just("Subject: x".to_owned()),
        Just("-- ".to_owned()),
        Just("________".to_owned()),
        Just("Best regards,".to_owned()),
        Just("Sent from my iPhone".to_owned()),
        Just("Ann Poe".to_owned()),
        Just("```".to_owned()),
        Just(String::new()),
        "> {0,2}[a-z]{0,60}",
        "[A-Za-z ]{0,40}",
        "\\PC{0,30}",
    ]
}

proptest! {
    #[test]
    fn anything_is_covered_without_gaps(text in prop_oneof![
        "(?s).{0,400}",
        proptest::collection::vec(some_line(), 0..30).prop_map(|lines| lines.join("\n")),
        proptest::collection::vec(some_line(), 0..30).prop_map(|lines| lines.join("\r\n")),
    ]) {
        let got = split_from(&text, Some("Ann Poe"));
        let mut at = 0;
        for part in &got.parts {
            prop_assert_eq!(part.at.start, at);
            prop_assert!(part.at.end > at && text.is_char_boundary(part.at.end));
            at = part.at.end;
        }
        prop_assert_eq!(at, text.len());
        for line in got.new.lines() {
            prop_assert!(text.contains(line));
        }
    }

    #[test]
    fn new_text_has_no_quote_of_its_own(lines in proptest::collection::vec(some_line(), 0..20)) {
        let text = lines.join("\n");
        let got = split(&text);
        prop_assert!(!got.new.lines().any(|line| line.starts_with('>') && !text.contains("```")));
    }
}
