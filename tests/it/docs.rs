//! What the documentation shows works: its projects, configurations, policies and commands, with the binary that a reader
//! has; and its links lead somewhere.
//!
//! The info string of a fenced block says what it is:
//!
//! | block | what is done with it |
//! | --- | --- |
//! | any with `title=PATH` | a file of the page's own project, over that of `segue init`; the whole is checked and tested |
//! | `toml config` | a complete `segue.toml`, checked |
//! | `lua policy` | a complete script, compiled and checked against the queues of `segue init` |
//! | `sh` | each `segue ...` in it is parsed, with `--help` behind it so that nothing is done |

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::gateway::SEGUE;
use crate::support::source;

/// A page and what is fenced on it.
struct Page {
    /// Its path relative to the project's folder.
    path: PathBuf,
    /// Its lines outside of blocks, each with its number.
    prose: Vec<(usize, String)>,
    blocks: Vec<Block>,
}

/// A fenced block.
struct Block {
    /// Where it begins, `path:line`.
    place: String,
    /// The words behind the fence.
    info: Vec<String>,
    /// Its lines, each with its end.
    text: String,
}

impl Page {
    fn parse(path: &Path, text: &str) -> Page {
        let (mut prose, mut blocks) = (Vec::new(), Vec::new());
        let mut open: Option<(String, Block)> = None;
        for (at, line) in text.lines().enumerate() {
            let fence: String = line.chars().take_while(|c| *c == '`').collect();
            match open.take() {
                Some((opened, block)) if line.trim_end() == opened => blocks.push(block),
                Some((opened, mut block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                    open = Some((opened, block));
                }
                None if fence.len() >= 3 => {
                    let info = line[fence.len()..].split_whitespace().map(str::to_owned).collect();
                    let place = format!("{}:{}", path.display(), at + 1);
                    open = Some((fence, Block { place, info, text: String::new() }));
                }
                None => prose.push((at + 1, line.to_owned())),
            }
        }
        if let Some((_, block)) = open {
            panic!("{}: the block is never closed", block.place);
        }
        Page { path: path.to_owned(), prose, blocks }
    }

    /// The names by which links lead to its headings, as GitHub makes them.
    fn anchors(&self) -> Vec<String> {
        let headings = self.prose.iter().filter(|(_, line)| line.starts_with('#'));
        headings.map(|(_, line)| anchor(line.trim_start_matches('#').trim())).collect()
    }

    /// The targets of its links, each with the line.
    fn links(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (number, line) in &self.prose {
            for rest in line.split("](").skip(1) {
                let target = rest.split(')').next().unwrap_or_default();
                found.push((*number, target.to_owned()));
            }
        }
        found
    }
}

impl Block {
    fn is(&self, words: &[&str]) -> bool {
        self.info == words
    }

    /// The path of the file that it is.
    fn title(&self) -> Option<&str> {
        self.info.iter().find_map(|word| word.strip_prefix("title="))
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Every page of the project.
fn pages() -> Vec<Page> {
    let mut found = vec![source::root().join("README.md"), source::root().join("CHANGELOG.md")];
    for folder in ["docs", "examples", "connectors"] {
        collect(&source::root().join(folder), &mut found);
    }
    found.sort();
    let parse = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        Page::parse(path.strip_prefix(source::root()).unwrap(), &text)
    };
    found.iter().map(parse).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // What others install beside an example is not ours.
        if name.starts_with('.') || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            collect(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

fn segue(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(SEGUE);
    command.args(args).current_dir(folder).env_remove("SEGUE_CONFIG").env_remove("SEGUE_TOKEN");
    command.output().unwrap()
}

/// Runs `segue` in `folder`; it must say that all is well.
fn must(place: &str, folder: &Path, args: &[&str]) {
    let output = segue(folder, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{place}: segue {}: {}\n{out}{err}", args.join(" "), output.status);
}

/// A new project, as a reader begins with.
fn project() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    must("a new project", folder.path(), &["init"]);
    folder
}

fn write(root: &Path, path: &str, text: &str) {
    assert!(!path.starts_with('/') && !path.split('/').any(|part| part == ".."), "{path} leads out of the project");
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Writes the secrets and certificates that a configuration names and that a page cannot show.
fn write_secrets(root: &Path, text: &str) {
    for quoted in text.split('"').skip(1).step_by(2) {
        let path = quoted.strip_prefix("file:").or(quoted.ends_with(".pem").then_some(quoted));
        if let Some(path) = path.filter(|path| !root.join(path).exists()) {
            write(root, path, "made-up-secret");
        }
    }
}

/// The words of each `segue ...` of a shell block.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line in text.replace("\\\n", " ").lines() {
        let line = line.split(" #").next().unwrap_or_default();
        for piece in line.split(['|', ';', '&', '(']) {
            let piece = piece.split(['>', '<', ')']).next().unwrap_or_default().trim();
            if let Some(words) = piece.strip_prefix("segue ") {
                let unquoted = |word: &str| word.trim_matches(['"', '\'']).to_owned();
                found.push(words.split_whitespace().map(unquoted).collect());
            }
        }
    }
    found
}

#[test]
fn blocks_links_and_commands_are_found() {
    let text = "# A `b` c.d\n[x](y.md#z) [w](v)\n````toml title=a\n```\n[no](link)\n````\n```sh\nsegue a | segue b \"c\" > d\n```\n";
    let page = Page::parse(Path::new("p.md"), text);
    assert_eq!(page.links(), [(2, "y.md#z".to_owned()), (2, "v".to_owned())]);
    assert_eq!(page.anchors(), ["a-b-cd"]);
    assert_eq!(page.blocks.len(), 2);
    assert_eq!((page.blocks[0].title(), page.blocks[0].text.as_str()), (Some("a"), "```\n[no](link)\n"));
    assert!(page.blocks[1].is(&["sh"]) && !page.blocks[0].is(&["toml"]));
    assert_eq!(commands(&page.blocks[1].text), [vec!["a"], vec!["b", "c"]]);
    assert_eq!(commands("X=$(segue a \\\n  --b) # segue c\nx-segue d"), [["a", "--b"]]);
}

#[test]
fn pages_that_build_a_project_are_right() {
    let mut built = Vec::new();
    for page in pages() {
        let files: Vec<(&str, &Block)> = page.blocks.iter().filter_map(|b| Some((b.title()?, b))).collect();
        if files.is_empty() {
            continue;
        }
        let (place, folder) = (page.path.display().to_string(), project());
        let root = folder.path();
        for (path, block) in &files {
            write(root, path, &block.text);
            if path.ends_with(".toml") {
                write_secrets(root, &block.text);
            }
        }
        must(&place, root, &["check"]);
        must(&place, root, &["policy", "test"]);
        if let Ok(connectors) = std::fs::read_dir(root.join("connectors")) {
            for connector in connectors {
                let connector = format!("connectors/{}", connector.unwrap().file_name().to_string_lossy());
                // Writes the expectations that the page leaves out, as the page says; it fails where one is missing.
                segue(root, &["connector", "test", &connector, "--write"]);
                must(&place, root, &["connector", "test", &connector]);
            }
        }
        // Writing replaces expectations that differ; none that the page shows did.
        for (path, block) in &files {
            assert_eq!(std::fs::read_to_string(root.join(path)).unwrap(), block.text, "{}: {path}", block.place);
        }
        built.push(place);
    }
    for page in ["docs/how-to/add-a-channel.md", "docs/how-to/write-a-policy.md", "docs/tutorial/first-message.md"] {
        assert!(built.iter().any(|place| place == page), "{page} builds no project");
    }
}

#[test]
fn configurations_are_right() {
    let mut checked = 0;
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.is(&["toml", "config"])) {
            let folder = project();
            for part in ["channels", "scripts"] {
                std::fs::remove_dir_all(folder.path().join(part)).unwrap();
            }
            write(folder.path(), "segue.toml", &block.text);
            write_secrets(folder.path(), &block.text);
            must(&block.place, folder.path(), &["check"]);
            checked += 1;
        }
    }
    assert!(checked >= 4, "only {checked} configurations were found");
}

#[test]
fn policies_are_right() {
    let mut checked = 0;
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.is(&["lua", "policy"])) {
            let folder = project();
            std::fs::remove_dir_all(folder.path().join("scripts")).unwrap();
            write(folder.path(), "scripts/policy.lua", &block.text);
            must(&block.place, folder.path(), &["check"]);
            checked += 1;
        }
    }
    assert!(checked >= 1, "no policy was found");
}

#[test]
fn commands_are_understood() {
    let (folder, mut checked) = (tempfile::tempdir().unwrap(), 0);
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.is(&["sh"])) {
            for words in commands(&block.text) {
                let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
                args.push("--help");
                must(&block.place, folder.path(), &args);
                checked += 1;
            }
        }
    }
    assert!(checked >= 20, "only {checked} commands were found");
}

#[test]
fn links_lead_somewhere() {
    let (pages, mut wrong, mut checked) = (pages(), Vec::new(), 0);
    for page in &pages {
        for (line, link) in page.links() {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            let place = format!("{}:{line}: {link}", page.path.display());
            let (path, heading) = link.split_once('#').map_or((link.as_str(), None), |(path, h)| (path, Some(h)));
            let own = source::root().join(&page.path);
            let target = if path.is_empty() { own } else { own.parent().unwrap().join(path) };
            let Ok(target) = target.canonicalize() else {
                wrong.push(place);
                continue;
            };
            let same = |other: &&Page| source::root().join(&other.path).canonicalize().is_ok_and(|own| own == target);
            let Some(heading) = heading else { continue };
            if !pages.iter().find(same).is_some_and(|page| page.anchors().iter().any(|anchor| anchor == heading)) {
                wrong.push(place);
            }
        }
    }
    assert!(checked >= 20, "only {checked} links were found");
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}
