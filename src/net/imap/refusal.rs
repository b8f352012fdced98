//! Which refusals pass by themselves: those that say "not now" and not "not this".

use super::wire::{Code, Outcome};

/// Codes (RFC 5530 section 3, and Gmail's) of a server that is busy.
const BUSY: [&str; 4] = ["UNAVAILABLE", "INUSE", "LIMIT", "THROTTLED"];
/// Codes that tell of the server or of the account, and not of the one mail that was asked for.
const UNWELL: [&str; 4] = ["SERVERBUG", "OVERQUOTA", "CONTACTADMIN", "EXPIRED"];
/// Words of servers that say it without a code.
const WORDS: [&str; 6] = ["throttl", "try again", "try later", "temporar", "too many", "overload"];

/// Whether the server is busy, by its code or its words.
pub(super) fn is_busy(outcome: &Outcome) -> bool {
    let text = outcome.text.to_ascii_lowercase();
    // A word of its own: not `generate`, not `migrated`.
    let of_rate = text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "rate");
    has_code(outcome, &BUSY) || of_rate || WORDS.iter().any(|words| text.contains(words))
}

/// Whether the code alone says that the server cannot now.
pub(super) fn has_passing_code(outcome: &Outcome) -> bool {
    has_code(outcome, &BUSY) || has_code(outcome, &["SERVERBUG"])
}

/// Whether a mail that was refused so is to be asked for again later.
pub(super) fn passes(outcome: &Outcome) -> bool {
    is_busy(outcome) || has_code(outcome, &UNWELL)
}

fn has_code(outcome: &Outcome, codes: &[&str]) -> bool {
    matches!(&outcome.code, Code::Named(code) if codes.contains(&code.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str, text: &str) -> Outcome {
        let code = if code.is_empty() { Code::None } else { Code::Named(code.to_owned()) };
        Outcome { code, text: text.to_owned() }
    }

    #[test]
    fn what_passes_is_known_by_code_or_words() {
        for code in BUSY.into_iter().chain(UNWELL) {
            assert!(passes(&said(code, "no")), "{code}");
        }
        let passing =
            ["Request is throttled. Suggested Backoff Time: 299 ms", "Please TRY AGAIN", "Rate exceeded", "too many"];
        assert!(passing.into_iter().all(|text| passes(&said("", text)) && is_busy(&said("", text))));
        let lasting = [("", "Command Error. 10"), ("EXPUNGEISSUED", "gone"), ("", "cannot generate it"), ("", "")];
        assert!(!lasting.into_iter().any(|(code, text)| passes(&said(code, text))));
    }

    #[test]
    fn a_bug_or_a_quota_may_lie_with_what_was_asked_for() {
        assert!(!is_busy(&said("OVERQUOTA", "full")) && !has_passing_code(&said("EXPIRED", "password")));
        assert!(has_passing_code(&said("SERVERBUG", "")));
    }
}
