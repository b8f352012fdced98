//! What may stand behind the binary: permissive licenses and no banned crate, as `.cargo/deny.toml` says, and at most 400
//! crates. Reads what cargo knows of the locked tree, so that it needs no further program and no network.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::support::source;

/// The most crates behind the binary.
const MOST: usize = 400;

struct Rules {
    licenses: BTreeSet<String>,
    banned: BTreeSet<String>,
}

fn rules() -> Rules {
    let text = std::fs::read_to_string(source::root().join(".cargo/deny.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let texts = |list: &toml::Value, key: Option<&str>| {
        let text = |item: &toml::Value| match key {
            Some(key) => item[key].as_str().unwrap().to_owned(),
            None => item.as_str().unwrap().to_owned(),
        };
        list.as_array().unwrap().iter().map(text).collect()
    };
    Rules { licenses: texts(&table["licenses"]["allow"], None), banned: texts(&table["bans"]["deny"], Some("name")) }
}

/// Whether an SPDX expression can be met with allowed licenses only.
fn allowed(expression: &str, licenses: &BTreeSet<String>) -> bool {
    // Old manifests write `/` for OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any(&words, &mut at, licenses);
    met && at == words.len()
}

fn any(words: &[&str], at: &mut usize, licenses: &BTreeSet<String>) -> bool {
    let mut met = all(words, at, licenses);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at, licenses);
    }
    met
}

fn all(words: &[&str], at: &mut usize, licenses: &BTreeSet<String>) -> bool {
    let mut met = one(words, at, licenses);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, licenses);
    }
    met
}

fn one(words: &[&str], at: &mut usize, licenses: &BTreeSet<String>) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = any(words, at, licenses);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return met && closed;
    }
    if words.get(*at) == Some(&"WITH") {
        let with = words.get(*at + 1).map(|exception| format!("{word} WITH {exception}"));
        *at += 2;
        return with.is_some_and(|with| licenses.contains(&with));
    }
    licenses.contains(*word)
}

/// The crates that are built into the binary on this system: normal and build dependencies, ours left out.
fn behind_the_binary() -> Vec<Value> {
    let run = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(source::root())
        .output()
        .unwrap();
    assert!(run.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&run.stderr));
    let metadata: Value = serde_json::from_slice(&run.stdout).unwrap();
    let nodes: BTreeMap<&str, &Value> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|n| (n["id"].as_str().unwrap(), n)).collect();
    let root = metadata["resolve"]["root"].as_str().unwrap();
    let mut reached = BTreeSet::new();
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let shipped = dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"] != "dev");
            let id = dependency["pkg"].as_str().unwrap();
            if shipped && reached.insert(id) {
                open.push(id);
            }
        }
    }
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.filter(|package| reached.contains(package["id"].as_str().unwrap())).cloned().collect()
}

#[test]
fn expressions_are_read() {
    let licenses = ["MIT", "Apache-2.0 WITH LLVM-exception", "Zlib"].map(str::to_owned).into();
    assert!(allowed("MIT OR GPL-3.0", &licenses) && allowed("GPL-3.0/MIT", &licenses));
    assert!(allowed("(Zlib OR GPL-2.0) AND MIT", &licenses));
    assert!(allowed("Apache-2.0 WITH LLVM-exception", &licenses));
    assert!(!allowed("MIT AND GPL-3.0", &licenses) && !allowed("Apache-2.0", &licenses) && !allowed("", &licenses));
}

#[test]
fn every_crate_behind_the_binary_may_be_used() {
    let (rules, crates) = (rules(), behind_the_binary());
    assert!(crates.len() > 20, "the tree was not read");
    assert!(crates.len() <= MOST, "{} crates are behind the binary; at most {MOST} are allowed", crates.len());
    let mut wrong = Vec::new();
    for package in &crates {
        let name = package["name"].as_str().unwrap_or_default();
        let license = package["license"].as_str().unwrap_or_default();
        if !allowed(license, &rules.licenses) {
            wrong.push(format!("{name}: its license is `{license}`"));
        }
        if rules.banned.contains(name) {
            wrong.push(format!("{name}: it is banned"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
