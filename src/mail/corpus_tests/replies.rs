//! How well quotes and signatures are told from a mail's own text, measured on the corpus.
//!
//! `replies.tsv` holds what is expected as line numbers (or as a hash), keyed by the hash of the file; no text of the corpus.
//! Columns: sha16, path, lang (`tpl` = a template that this test fills), new, sig (ranges of lines from 1, alternatives
//! behind `/`, `-` = none), view (how the expectation is to be read), basis (`u` = an upstream assertion, `o` = our reading).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::folder;
use crate::mail::html_text;
use crate::mail::reply::{self, Split};

const TABLE: &str = include_str!("replies.tsv");
const BODIES: [&str; 4] = [
    "crisp-email-reply-parser",
    "github-email_reply_parser",
    "willdurand-EmailReplyParser",
    "zapier-email-reply-parser",
];
const TALON: [&str; 4] = ["talon-standard_replies", "talon-misc", "talon-html_replies", "talon-signature"];

/// Lines for the template that wants a quote's header, in the shapes of 17 programs and languages.
const DATES: [&str; 17] = [
    "On Thu, Jun 25, 2015 at 8:10 AM Ann Poe <ann@example.com> wrote:",
    "2015-06-25 8:10 GMT+02:00 Ann Poe <ann@example.com>:",
    "2015-06-25 8:10 GMT+01:00 Ann Poe <ann@example.com>:",
    "2015-06-25 8:10 GMT+02:00 ann@example.com <ann@example.com>:",
    "Le 25 juin 2015 à 08:10, Ann Poe <ann@example.com> a écrit :",
    "Le 25/06/2015 08:10, Ann Poe a écrit :",
    "El 25/06/2015 08:10, Ann Poe escribió:",
    "El 25/06/2015, Ann Poe <ann@example.com> va escriure:",
    "W dniu 25 czerwca 2015 08:10 użytkownik Ann Poe <ann@example.com> napisał:",
    "W dniu 2015-06-25 o 08:10, Ann Poe pisze:",
    "Den 25/06/2015 kl. 08.10 skrev Ann Poe <ann@example.com>:",
    "Am 25.06.2015 um 08:10 schrieb Ann Poe:",
    "Ann Poe <ann@example.com> schrieb:",
    "在 2015年6月25日，上午8:10，Ann Poe <ann@example.com> 写道：",
    "2015. 6. 25. 오전 8:10 Ann Poe <ann@example.com> 작성:",
    "2015/06/25 8:10、Ann Poe <ann@example.com> のメッセージ:",
    "tor. 25. jun. 2015 kl. 08:10 skrev Ann Poe <ann@example.com>:",
];
const FROMS: [&str; 4] = [
    "From: ann@example.com <ann@example.com>",
    "De: ann@example.com <ann@example.com>",
    "Van: ann@example.com <ann@example.com>",
    "Da: ann@example.com <ann@example.com>",
];

/// What was right when this was last measured: source, English files, files in other languages.
const FLOORS: [(&str, u32, u32); 8] = [
    ("crisp-email-reply-parser", 61, 27),
    ("github-email_reply_parser", 22, 0),
    ("willdurand-EmailReplyParser", 26, 18),
    ("zapier-email-reply-parser", 24, 0),
    ("talon-standard_replies", 11, 1),
    ("talon-misc", 3, 0),
    ("talon-html_replies", 9, 0),
    ("talon-signature", 8, 1),
];

struct Row<'a> {
    path: &'a str,
    lang: &'a str,
    new: &'a str,
    sig: &'a str,
    view: &'a str,
    basis: &'a str,
}

#[derive(Default, Clone, Copy)]
struct Tally {
    files: u32,
    right: u32,
    cut: u32,
    sig: (u32, u32),
    other: u32,
}

impl Tally {
    fn add(&mut self, seen: &Seen) {
        self.files += 1;
        self.right += u32::from(seen.right.is_some());
        self.other += u32::from(seen.right.is_some_and(|at| at > 0));
        self.cut += u32::from(seen.cut);
        if let Some(good) = seen.sig {
            self.sig.0 += u32::from(good);
            self.sig.1 += 1;
        }
    }
}

/// What came of one file. `right` is the alternative that was met.
#[derive(Default)]
struct Seen {
    right: Option<usize>,
    cut: bool,
    sig: Option<bool>,
    note: String,
}

fn sha16(bytes: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn table() -> BTreeMap<&'static str, Row<'static>> {
    TABLE
        .lines()
        .skip(1)
        .map(|line| {
            let f: Vec<&str> = line.split('\t').collect();
            (f[0], Row { path: f[1], lang: f[2], new: f[3], sig: f[4], view: f[5], basis: f[6] })
        })
        .collect()
}

/// The lines of `text` that `ranges` ("1,9-34") names.
fn lines(text: &str, ranges: &str) -> String {
    let all: Vec<&str> = text.lines().collect();
    let mut out: Vec<&str> = Vec::new();
    for range in ranges.split(',').filter(|range| *range != "-") {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
        out.extend(&all[from - 1..to.min(all.len())]);
    }
    out.join("\n")
}

/// Blank lines do not count (a range names a stretch with or without those around it), nor do blanks at a line's ends.
fn fold(text: &str) -> Vec<String> {
    let clean: String = text.chars().filter(|c| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}')).collect();
    let clean = clean.replace('\u{a0}', " ");
    clean.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn sig_of(split: &Split) -> String {
    split.signature.clone().unwrap_or_default()
}

fn joined(split: &Split) -> String {
    format!("{}\n{}", split.new, sig_of(split))
}

fn judge(row: &Row, text: &str, split: &Split) -> Seen {
    let news: Vec<_> = row.new.split('/').map(|new| fold(&lines(text, new))).collect();
    let sigs: Vec<_> = row.sig.split('/').map(|sig| fold(&lines(text, sig))).collect();
    let own = fold(&split.new);
    let right = news.iter().position(|new| *new == own);
    let both = |at: usize| [news[at].clone(), sigs.get(at).cloned().unwrap_or_default()].concat();
    let all = fold(&joined(split));
    let cut = (0..news.len()).any(|at| both(at) == all || (row.sig == "-" && own == news[at]));
    let sig = (row.sig != "-").then(|| sigs.iter().any(|sig| *sig == fold(&sig_of(split))));
    Seen { right, cut, sig, note: differs(&news[0], &own) }
}

fn differs(want: &[String], got: &[String]) -> String {
    let at = (0..want.len().max(got.len())).find(|&at| want.get(at) != got.get(at));
    at.map(|at| format!("line {at}: want {:?} got {:?}", want.get(at), got.get(at))).unwrap_or_default()
}

fn simple(want: &str, got: &str) -> Seen {
    let (want, got) = (fold(want), fold(got));
    Seen { right: (want == got).then_some(0), cut: want == got, sig: None, note: differs(&want, &got) }
}

fn bodies(row: &Row, text: &str) -> Seen {
    let (mark, fills): (&str, &[&str]) =
        if row.path.contains("from_headers") { ("[FROM]", &FROMS) } else { ("[DATE]", &DATES) };
    if row.lang != "tpl" {
        return judge(row, text, &reply::split(text));
    }
    let mut all = fills.iter().map(|fill| {
        let text = text.replace(mark, fill);
        (fill, judge(row, &text, &reply::split(&text)))
    });
    match all.find(|(_, seen)| seen.right.is_none()) {
        Some((fill, seen)) => Seen { note: format!("{fill}: {}", seen.note), ..seen },
        None => Seen { right: Some(0), cut: true, ..Seen::default() },
    }
}

/// The first text/plain part and the name (or else the address) of the sender.
fn plain(raw: &[u8]) -> (String, Option<String>) {
    let mail = mail_parser::MessageParser::default().parse(raw).unwrap();
    let text = mail.body_text(0).unwrap_or_default().into_owned();
    let from = mail.from().and_then(|from| from.first().cloned());
    let name = from.and_then(|from| from.name.or(from.address).map(|name| name.into_owned()));
    (text, name)
}

fn talon(root: &Path, row: &Row, bytes: &[u8]) -> Seen {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    match row.view {
        "html" => {
            let split = reply::split(&html_text::render(&text, 1 << 20).text);
            let got: String = joined(&split).split_whitespace().collect();
            let right = row.new.split('/').position(|want| want.trim_start_matches('#') == sha16(got.as_bytes()));
            Seen { right, cut: right.is_some(), sig: None, note: format!("got {got:?}") }
        }
        "nofrom" => {
            let (text, name) = plain(bytes);
            let split = reply::split_from(&text, name.as_deref());
            let good = !split.new.is_empty() && !joined(&split).contains("From");
            Seen { right: good.then_some(0), cut: good, sig: None, note: split.new }
        }
        "new+sig" => {
            let (text, name) = plain(bytes);
            let want = fs::read_to_string(root.join(row.path.replace(".eml", "_reply_text")));
            simple(want.as_deref().unwrap_or("Hello"), &joined(&reply::split_from(&text, name.as_deref())))
        }
        _ => talon_signature(root, row, bytes, &text),
    }
}

/// Bodies with the signature in a file beside them, or marked in the text.
fn talon_signature(root: &Path, row: &Row, bytes: &[u8], text: &str) -> Seen {
    let beside = |what: &str| fs::read_to_string(root.join(row.path.replace("_body", what))).ok();
    let (text, sender) = match row.path.rsplit('/').next().unwrap() {
        "P-102682_R_S" => plain(bytes),
        "P-unicode_msg" => {
            let (first, rest) = text.split_once('\n').unwrap();
            (rest.to_owned(), first.strip_prefix("From: ").map(str::to_owned))
        }
        _ => (text.to_owned(), beside("_sender").map(|sender| sender.trim().to_owned())),
    };
    let unmark = |text: &str| text.replace("#sig#", "").replace("#reply#", "");
    let marked = text.contains("#sig#");
    let unicode = row.path.ends_with("unicode_msg");
    let sig: String = match beside("_signature") {
        _ if marked => text.lines().filter(|line| line.starts_with("#sig#")).collect::<Vec<_>>().join("\n"),
        // Its last two lines are the closing words and the name: our reading.
        _ if unicode => fold(&text).split_off(fold(&text).len() - 2).join("\n"),
        Some(sig) if row.path.ends_with("_body") && !row.path.contains("camel") => sig,
        _ => String::new(),
    };
    let own: Vec<&str> =
        text.lines().filter(|line| !line.starts_with("#reply#") && !line.starts_with("#sig#")).collect();
    let mut want = fold(&unmark(&own.join("\n")));
    let sig = fold(&unmark(&sig));
    if want.ends_with(&sig) {
        want.truncate(want.len() - sig.len());
    }
    if row.path.contains("102682") {
        // The line above the quote names its writer.
        want.retain(|line| !line.ends_with("writes:"));
    }
    let split = reply::split_from(&unmark(&text), sender.as_deref());
    let got = fold(&split.new);
    let cut = fold(&joined(&split)) == [want.clone(), sig.clone()].concat();
    let good = sig == fold(&sig_of(&split));
    Seen { right: (want == got).then_some(0), cut, sig: (!sig.is_empty()).then_some(good), note: differs(&want, &got) }
}

fn percent(right: u32, of: u32) -> String {
    if of == 0 { "-".to_owned() } else { format!("{right}/{of} {:.1} %", f64::from(right) * 100.0 / f64::from(of)) }
}

#[test]
fn replies_agree() {
    let Some(root) = folder().map(|corpus| corpus.join("email")) else { return };
    let table = table();
    let mut sums: BTreeMap<(&str, &str), Tally> = BTreeMap::new();
    let mut unique: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut met: BTreeMap<String, u32> = BTreeMap::new();
    for source in BODIES.iter().chain(&TALON) {
        let mut files: Vec<_> = fs::read_dir(root.join(source)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for file in files {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            if ["_reply_text", "_sender", "_signature"].iter().any(|end| name.ends_with(end)) {
                continue;
            }
            let bytes = fs::read(&file).unwrap();
            let hash = sha16(&bytes);
            let row = table.get(hash.as_str()).unwrap_or_else(|| panic!("{source}/{name} is not in the table"));
            let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
            let seen = if TALON.contains(source) { talon(&root, row, &bytes) } else { bodies(row, &text) };
            let lang = match row.lang {
                "en" => "en",
                "tpl" => "tpl",
                _ => "other",
            };
            sums.entry((source, lang)).or_default().add(&seen);
            let times = met.entry(hash.clone()).or_default();
            *times += 1;
            if *times == 1 {
                unique.entry(lang).or_default().add(&seen);
                unique.entry(if row.basis == "u" { "basis u" } else { "basis o" }).or_default().add(&seen);
            }
            if seen.right.is_none() || seen.sig == Some(false) {
                let what = if seen.right.is_none() { "MISS" } else { "sig " };
                println!("{what} {source}/{name} [{}] want {}|{} {}", row.lang, row.new, row.sig, seen.note);
            }
        }
    }
    assert_eq!(met.len(), table.len(), "rows whose file is gone");
    report(&sums, &unique);
}

fn report(sums: &BTreeMap<(&str, &str), Tally>, unique: &BTreeMap<&str, Tally>) {
    let line = |name: &str, t: &Tally| {
        let sig = percent(t.sig.0, t.sig.1);
        println!(
            "{name:<42} {:>16}  cut {:>16}  sig {sig:>16}  alternative {}",
            percent(t.right, t.files),
            percent(t.cut, t.files),
            t.other
        );
    };
    let mut all: BTreeMap<&str, Tally> = BTreeMap::new();
    for ((source, lang), tally) in sums {
        line(&format!("{source} {lang}"), tally);
        let sum = all.entry(lang).or_default();
        sum.files += tally.files;
        sum.right += tally.right;
        sum.cut += tally.cut;
        sum.other += tally.other;
        sum.sig = (sum.sig.0 + tally.sig.0, sum.sig.1 + tally.sig.1);
    }
    for (lang, tally) in &all {
        line(&format!("sum {lang}"), tally);
    }
    for (name, tally) in unique {
        line(&format!("unique {name}"), tally);
    }
    for (source, en, other) in FLOORS {
        let right = |lang| sums.get(&(source, lang)).map_or(0, |tally| tally.right);
        assert!(right("en") >= en && right("other") >= other, "{source} fell below its floor");
    }
    assert_eq!(all["tpl"].right, all["tpl"].files, "a filled template was not told apart");
    let share = |t: &Tally| f64::from(t.right) / f64::from(t.files.max(1));
    assert!(share(&all["en"]) >= 0.97, "English");
    assert!(share(&all["other"]) >= 0.90, "other languages");
    assert!(share(&unique["en"]) >= 0.97, "English, each text once");
}
