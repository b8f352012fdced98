//! Who may import whom: the table at the top of `src/lib.rs`, held against every path in the code.

use std::collections::BTreeMap;

use crate::support::source::{self, Source};

/// The rooms and their floors, as the table at the top of `src/lib.rs` says.
fn floors() -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string(source::root().join("src/lib.rs")).unwrap();
    let mut floors = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let mut cells = line.split('|').map(str::trim);
        let Some(floor) = cells.next().and_then(|cell| cell.parse().ok()) else { continue };
        for room in cells.next().unwrap_or_default().split(',') {
            floors.insert(room.trim().trim_matches(|c| "[]`".contains(c)).to_owned(), floor);
        }
    }
    floors
}

/// The code of a file up to its tests, which may reach upwards, without comments and with every white space gone.
fn code(text: &str) -> String {
    let tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..tests].lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.flat_map(|line| line.chars().filter(|c| !c.is_whitespace())).collect()
}

/// The first names of every path that begins with `start`, braces opened: `crate::{base::Error,net}` gives base and net.
fn paths(code: &str, start: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(start) {
        // `crate::` must not be the end of another word, such as `mycrate::`.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') && !is_after_keyword(&code[..at])
        {
            continue;
        }
        let rest = &code[at + start.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.push(head(rest)),
        }
    }
    found
}

/// Without white space, `use crate::` reads `usecrate::`.
fn is_after_keyword(before: &str) -> bool {
    ["use", "in", "dyn", "as", "for", "impl", "mut", "return", "else", "match", "if"]
        .iter()
        .any(|word| before.ends_with(word))
}

fn head(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first name of every entry of a group that was opened.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut entry, mut heads) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(head(&std::mem::take(&mut entry))),
            _ => entry.push(c),
        }
    }
    heads.push(head(&entry));
    heads.retain(|head| !head.is_empty());
    heads
}

fn room(source: &Source) -> &str {
    source.path.split(['/', '.']).next().unwrap_or_default()
}

fn is_test(source: &Source) -> bool {
    source.path.split(['/', '_', '.']).any(|word| word == "tests")
}

#[test]
fn paths_are_found_however_they_are_written() {
    let text =
        "use crate::{base::{Error, Kind}, net};\nfn f() -> crate::store::Row {} // crate::app\npub(in crate::flow) x";
    assert_eq!(paths(&code(text), "crate::"), ["base", "net", "store", "flow"]);
    assert_eq!(
        paths("usesuper::normalize::Item;super::{verify,Context}", "super::"),
        ["normalize", "verify", "Context"]
    );
    assert!(paths("mycrate::x", "crate::").is_empty());
}

#[test]
fn the_table_names_every_room() {
    let floors = floors();
    assert!(floors.len() >= 12, "the table in src/lib.rs was not read: {floors:?}");
    for source in source::all() {
        let room = room(&source);
        assert!(
            matches!(room, "lib" | "main") || floors.contains_key(room),
            "{} is in no room of the table",
            source.path
        );
    }
}

#[test]
fn rooms_import_from_lower_floors_only() {
    let floors = floors();
    let mut wrong = Vec::new();
    for source in source::all().iter().filter(|source| !is_test(source)) {
        let own = room(source);
        let Some(floor) = floors.get(own) else { continue };
        for other in paths(&code(&source.text), "crate::") {
            if let Some(theirs) = floors.get(&other)
                && other != own
                && theirs >= floor
            {
                wrong.push(format!("src/{} (floor {floor}) reaches for `{other}` (floor {theirs})", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_stage_knows_only_the_stage_before_it() {
    // In the order of an interaction's way; `mod.rs` alone names more than one.
    let stages = ["intake", "verify", "journal", "normalize", "identify", "attach", "decide", "commit"];
    let mut wrong = Vec::new();
    for (place, stage) in stages.into_iter().enumerate() {
        let path = format!("flow/{stage}.rs");
        let sources = source::all();
        let source = sources.iter().find(|source| source.path == path).unwrap_or_else(|| panic!("no src/{path}"));
        let code = code(&source.text);
        for other in paths(&code, "super::").into_iter().chain(inner(&code)) {
            let Some(theirs) = stages.iter().position(|stage| *stage == other) else { continue };
            // Intake serves a whole request: it calls the two stages that end in the acknowledgement.
            let serves = stage == "intake" && ["verify", "journal"].contains(&other.as_str());
            if theirs + 1 != place && theirs != place && !serves {
                wrong.push(format!("src/{path} names the stage `{other}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Stages named by their full path.
fn inner(code: &str) -> Vec<String> {
    paths(code, "crate::flow::")
}
