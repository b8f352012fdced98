//! No code names a connector: a channel is a folder, and a team adds one without touching Rust.

use crate::support::source::{self, Source};

/// Where a connector's name may stand in Rust, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    // file, word, reason
    ("cli/connector.rs", "telegram", "an example in a help text"),
    ("cli/connector.rs", "whatsapp", "an example in a help text"),
    ("cli/normalize.rs", "email", "an example in a help text"),
    ("cli/init.rs", "telegram", "the sample channel of a new project"),
    ("cli/normalize.rs", "slack", "an example in a help text"),
    ("cli/normalize.rs", "twilio-sms", "an example in a help text"),
    ("cli/normalize.rs", "whatsapp", "an example in a help text"),
    ("model/identifier.rs", "telegram", "a namespace of identifiers in the published format"),
    ("model/identifier.rs", "whatsapp", "part of `whatsapp_bsuid`, a namespace of the published format"),
    ("connector/mail_auto.rs", "email", "the member of an address, as JMAP names it"),
    ("connector/mail_read.rs", "email", "the member of an address, as JMAP names it"),
    ("flow/mail_check.rs", "email", "the member of an address, as JMAP names it"),
    ("fuzzing/header.rs", "email", "the member of an address, as JMAP names it"),
    ("fuzzing/mail_write.rs", "email", "the member of an address, as JMAP names it"),
    ("fuzzing/mime.rs", "email", "the member of an address, as JMAP names it"),
    ("mail/address.rs", "email", "the member of an address, as JMAP names it"),
    ("mail/oauth/causes.rs", "email", "a word of a token endpoint's answer"),
    ("mail/dkim_key.rs", "email", "a type of service in DKIM's keys"),
    ("mail/reply_words.rs", "email", "a word that mail programs write"),
    ("model/interaction.rs", "email", "a kind of channel in the published format"),
    ("model/mail.rs", "email", "the member of an address, as JMAP names it"),
    ("model/interaction.rs", "whatsapp", "a kind of channel in the published format"),
];

/// The names of the folders under `connectors/`.
fn connectors() -> Vec<String> {
    let folders = std::fs::read_dir(source::root().join("connectors")).unwrap().map(|entry| entry.unwrap());
    let folders = folders.filter(|entry| entry.path().is_dir());
    folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Lines of a file that hold `name` as a word, whatever its case; `-` and `_` are the same, since code cannot write `-`.
fn lines_with(source: &Source, name: &str) -> Vec<usize> {
    let name = name.replace('-', "_");
    let is_word = |c: char| c.is_ascii_alphanumeric();
    let holds = |line: &str| {
        let line = line.to_lowercase().replace('-', "_");
        line.match_indices(&name).any(|(at, _)| {
            let before = line[..at].chars().next_back().is_none_or(|c| !is_word(c));
            let after = line[at + name.len()..].chars().next().is_none_or(|c| !is_word(c));
            before && after
        })
    };
    // What tests of a file feed to it is data.
    let code = source.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().enumerate().filter(|(_, line)| holds(line)).map(|(at, _)| at + 1).collect()
}

#[test]
fn words_are_found_at_their_edges() {
    let source = |text: &str| Source { path: String::new(), text: text.to_owned() };
    assert_eq!(lines_with(&source("a\n\"meta-page\"\nMETA_PAGE"), "meta-page"), [2, 3]);
    assert!(lines_with(&source("slacken, Slacker"), "slack").is_empty());
}

#[test]
fn no_code_names_a_connector() {
    let names = connectors();
    assert!(!names.is_empty(), "no connectors were found");
    let mut wrong = Vec::new();
    for source in source::all() {
        let is_test = source.path.split(['/', '_', '.']).any(|word| word == "tests");
        if is_test {
            continue;
        }
        for name in &names {
            if EXCEPTIONS.iter().any(|(path, word, _)| *path == source.path && word == name) {
                continue;
            }
            for line in lines_with(&source, name) {
                wrong.push(format!("src/{}:{line} names `{name}`", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
