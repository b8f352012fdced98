//! What can be found in a policy's text before any interaction comes: names written as literals that do not exist.
//!
//! Reads tokens only, never the grammar. `e` and `d` are looked at only in files where these names always are the
//! arguments of a rule, so that nothing that is right is called wrong.

use super::decision::{METHODS, check_queue, check_skill, check_template, unknown_method};
use super::diagnostic::Diagnostic;
use super::files::{PolicyFacts, PolicyFiles};
use super::shape::{Shape, shapes};
use super::view::{AUTHOR_METHODS, CUSTOMER_METHODS, EVENT_FIELDS, INTERACTION_SHORTCUTS, unknown_of_event};
use super::vm::check_event;

/// Checks all rule files.
pub(super) fn policy(files: &PolicyFiles, facts: &PolicyFacts) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (file, source) in files.rules() {
        let Ok(text) = std::str::from_utf8(source) else {
            found.push(Diagnostic::at(file, 1, "not UTF-8"));
            continue;
        };
        let tokens = tokens(text);
        let watched = ["e", "d"].map(|name| only_arguments(&tokens, name));
        for index in 0..tokens.len() {
            let rest = tokens.get(index..).unwrap_or_default();
            let before = index.checked_sub(1).and_then(|at| tokens.get(at));
            let wrong = match watched {
                _ if name_at(rest, "rule", before) => events(rest),
                [_, true] if name_at(rest, "d", before) => call(rest, facts),
                [true, _] if name_at(rest, "e", before) => chain(rest),
                _ => None,
            };
            if let Some((token, reason)) = wrong {
                let (reason, suggestion) = match reason.split_once("; did you mean `") {
                    Some((reason, name)) => (reason.to_owned(), Some(name.trim_end_matches("`?").to_owned())),
                    None => (reason, None),
                };
                let diagnostic = Diagnostic::at(file, token.line, reason).suggest(suggestion);
                found.push(Diagnostic { column: token.column, ..diagnostic });
            }
        }
    }
    found
}

/// One token of Lua.
#[derive(Debug, Clone, PartialEq)]
struct Token<'a> {
    kind: Kind<'a>,
    line: u32,
    column: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind<'a> {
    Name(&'a str),
    Text(&'a str),
    Mark(char),
}

fn name_at(rest: &[Token<'_>], name: &str, before: Option<&Token<'_>>) -> bool {
    let free = !matches!(before.map(|token| &token.kind), Some(Kind::Mark('.' | ':')));
    free && matches!(rest.first().map(|token| &token.kind), Some(Kind::Name(found)) if *found == name)
}

/// Whether `name` is bound nowhere but as an argument of `function(e, d)`.
fn only_arguments(tokens: &[Token<'_>], name: &str) -> bool {
    let kinds: Vec<&Kind<'_>> = tokens.iter().map(|token| &token.kind).collect();
    let mut at = 0;
    while let Some(kind) = kinds.get(at) {
        let rest = kinds.get(at + 1..).unwrap_or_default();
        let bound = match kind {
            Kind::Name("local" | "for") => {
                let end = rest.iter().position(|k| matches!(k, Kind::Mark('=') | Kind::Name("in" | "function")));
                rest.get(..end.unwrap_or(rest.len().min(8))).unwrap_or_default()
            }
            Kind::Name("function") => {
                let open = rest.iter().position(|k| **k == Kind::Mark('(')).unwrap_or(0);
                let arguments = rest.get(open + 1..).unwrap_or_default();
                let end = arguments.iter().position(|k| **k == Kind::Mark(')')).unwrap_or(0);
                let arguments = arguments.get(..end).unwrap_or_default();
                let rule = matches!(arguments, [Kind::Name("e"), Kind::Mark(','), Kind::Name("d")] | [Kind::Name("e")]);
                if rule { &[] } else { arguments }
            }
            _ => &[],
        };
        if bound.iter().any(|k| matches!(k, Kind::Name(found) if *found == name)) {
            return false;
        }
        at += 1;
    }
    true
}

/// `rule("name", { on = "event" }, ...)`, `{ on = { "event", ... } }`: the events' names, where they are literals.
fn events<'a>(rest: &[Token<'a>]) -> Option<(Token<'a>, String)> {
    let [_, open, name, comma, brace, more @ ..] = rest else { return None };
    let options = [(open, '('), (comma, ','), (brace, '{')].iter().all(|(token, mark)| token.kind == Kind::Mark(*mark));
    if !options || !matches!(name.kind, Kind::Text(_)) {
        return None;
    }
    // `depth` counts the braces inside the options; `on` is whether the value of that key is being read.
    let (mut depth, mut on) = (0, false);
    for (at, token) in more.iter().enumerate() {
        let next = more.get(at + 1).map(|token| &token.kind);
        match token.kind {
            Kind::Mark('{') => depth += 1,
            Kind::Mark('}') if depth == 0 => return None,
            Kind::Mark('}') => depth -= 1,
            Kind::Mark(',' | ';') if depth == 0 => on = false,
            Kind::Name("on") if depth == 0 && next == Some(&Kind::Mark('=')) => on = true,
            Kind::Name("function") => return None,
            // What is put together at run time (`"a" .. b`) is checked then.
            Kind::Text(text) if on && matches!(next, Some(Kind::Mark('}' | ',' | ';'))) => {
                if let Some(reason) = check_event(text) {
                    return Some((token.clone(), reason));
                }
            }
            _ => {}
        }
    }
    None
}

/// `d:name(...)`: the name, and its first argument where that is a literal.
fn call<'a>(rest: &[Token<'a>], facts: &PolicyFacts) -> Option<(Token<'a>, String)> {
    let [_, colon, method, more @ ..] = rest else { return None };
    let (Kind::Mark(':'), Kind::Name(name)) = (&colon.kind, &method.kind) else { return None };
    if !METHODS.contains(name) {
        return Some((method.clone(), unknown_method(name)));
    }
    let argument = match more {
        [open, argument, close, ..] if open.kind == Kind::Mark('(') && matches!(close.kind, Kind::Mark(')' | ',')) => {
            argument
        }
        [argument, ..] if matches!(argument.kind, Kind::Text(_)) => argument,
        _ if *name == "need" => return needs(more, facts),
        _ => return None,
    };
    let Kind::Text(text) = argument.kind else { return None };
    let wrong = match *name {
        "queue" => check_queue(facts, text),
        "reply" => check_template(facts, text),
        _ => None,
    };
    wrong.map(|reason| (argument.clone(), reason))
}

/// `d:need { skill = 1, ["lang:en"] = 2 }`
fn needs<'a>(rest: &[Token<'a>], facts: &PolicyFacts) -> Option<(Token<'a>, String)> {
    let end = rest.iter().position(|token| token.kind == Kind::Mark('}'))?;
    let inside = rest.get(..end)?;
    inside.iter().enumerate().find_map(|(at, token)| {
        let next = inside.get(at + 1).map(|token| &token.kind);
        let before = at.checked_sub(1).and_then(|at| inside.get(at)).map(|token| &token.kind);
        let skill = match (&token.kind, before, next) {
            (Kind::Text(text), Some(Kind::Mark('[')), Some(Kind::Mark(']'))) => *text,
            (Kind::Name(name), Some(Kind::Mark('{' | ',' | ';')), Some(Kind::Mark('='))) => *name,
            _ => return None,
        };
        check_skill(facts, skill).map(|reason| (token.clone(), reason))
    })
}

/// `e.ix.author.trust`: every name along the way.
fn chain<'a>(rest: &[Token<'a>]) -> Option<(Token<'a>, String)> {
    let mut links = rest.get(1..)?.chunks_exact(2).map_while(|pair| match pair {
        [dot, name] => match (&dot.kind, &name.kind) {
            (Kind::Mark('.' | ':'), Kind::Name(text)) => Some((*text, name)),
            _ => None,
        },
        _ => None,
    });
    let (first, token) = links.next()?;
    if !EVENT_FIELDS.contains(&first) {
        return Some((token.clone(), unknown_of_event(first)));
    }
    let shapes = shapes();
    let (mut object, mut extra): (_, &[&str]) = match first {
        "ix" => (shapes.interaction.clone(), INTERACTION_SHORTCUTS),
        "customer" => (shapes.customer.clone(), CUSTOMER_METHODS),
        "conv" => (shapes.conversation.clone(), &[]),
        _ => return None,
    };
    for (name, token) in links {
        if extra.contains(&name) || (name == "lang" && object.name == "Interaction") {
            return None;
        }
        let next = match object.field(name) {
            None => return Some((token.clone(), object.unknown(name, extra))),
            Some(Shape::Object(next)) => next.clone(),
            Some(_) => return None,
        };
        extra = if next.name == "Author" { AUTHOR_METHODS } else { &[] };
        object = next;
    }
    None
}

/// Splits Lua's text; comments are left out. Never fails: what is not understood is a mark.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut all = Vec::new();
    let mut lexer = Lexer { text, at: 0, line: 1, line_start: 0 };
    while let Some(c) = lexer.peek() {
        let (line, start) = (lexer.line, lexer.at);
        let column =
            u32::try_from(text.get(lexer.line_start..start).unwrap_or_default().chars().count()).unwrap_or(0) + 1;
        let kind = if c.is_whitespace() {
            lexer.bump();
            None
        } else if lexer.rest().starts_with("--") {
            lexer.comment();
            None
        } else if c.is_ascii_alphabetic() || c == '_' {
            while lexer.peek().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                lexer.bump();
            }
            text.get(start..lexer.at).map(Kind::Name)
        } else if c == '"' || c == '\'' || c == '`' {
            lexer.quoted(c);
            text.get(start + 1..lexer.at.saturating_sub(1).max(start + 1)).map(Kind::Text)
        } else if let Some(level) = lexer.long_bracket() {
            lexer.long(level);
            Some(Kind::Text(""))
        } else {
            lexer.bump();
            Some(Kind::Mark(c))
        };
        all.extend(kind.map(|kind| Token { kind, line, column }));
    }
    all
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    line_start: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) {
        let Some(c) = self.peek() else { return };
        self.at += c.len_utf8();
        if c == '\n' {
            self.line += 1;
            self.line_start = self.at;
        }
    }

    fn comment(&mut self) {
        self.bump();
        self.bump();
        match self.long_bracket() {
            Some(level) => self.long(level),
            None => {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.bump();
                }
            }
        }
    }

    fn quoted(&mut self, quote: char) {
        self.bump();
        while let Some(c) = self.peek() {
            self.bump();
            if c == '\\' {
                self.bump();
            } else if c == quote || (c == '\n' && quote != '`') {
                return;
            }
        }
    }

    /// The number of `=` in `[==[`, if one begins here.
    fn long_bracket(&self) -> Option<usize> {
        let inside = self.rest().strip_prefix('[')?;
        let level = inside.bytes().take_while(|b| *b == b'=').count();
        (inside.as_bytes().get(level) == Some(&b'[')).then_some(level)
    }

    fn long(&mut self, level: usize) {
        let end = format!("]{}]", "=".repeat(level));
        let length = self.rest().find(&end).map_or(self.rest().len(), |at| at + end.len());
        let stop = self.at + length;
        while self.at < stop {
            self.bump();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lint(source: &str) -> Vec<String> {
        let facts = PolicyFacts {
            queues: vec!["vip".into(), "general".into()],
            default_queue: "general".into(),
            skills: vec!["billing".into()],
            templates: vec!["closed_notice".into()],
            ..PolicyFacts::default()
        };
        let files = PolicyFiles::from_memory([("a.lua".to_owned(), source.as_bytes().to_vec())]);
        policy(&files, &facts).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn finds_names_that_do_not_exist() {
        let wrong = |body: &str| lint(&format!("rule(\"r\", function(e, d)\n  {body}\nend)"));
        assert_eq!(wrong("d:queue(\"vipp\")"), ["a.lua:2:11: queue `vipp` does not exist; did you mean `vip`?"]);
        assert_eq!(wrong("d:queue 'vipp'").len(), 1);
        assert_eq!(wrong("d:qeue('vip')"), ["a.lua:2:5: a decision has no `qeue`; did you mean `queue`?"]);
        assert_eq!(wrong("d:sla{}"), ["a.lua:2:5: `d:sla` is not available in this version"]);
        assert_eq!(wrong("d:need { bilingx = 3 }").len(), 1);
        assert_eq!(wrong("d:reply(\"closed_notise\")").len(), 1);
        assert_eq!(
            wrong("local x = e.ix.author.trsut"),
            ["a.lua:2:25: `trsut` is not a field of author; did you mean `trust`?"]
        );
        assert_eq!(wrong("local x = e.chanel").len(), 1);
    }

    #[test]
    fn finds_events_that_no_rule_is_asked_about() {
        let wrong = |options: &str| lint(&format!("rule(\"r\", {options}, function(e, d) d:tag(\"on\") end)"));
        assert_eq!(
            wrong("{ on = \"conversation.reopend\" }"),
            ["a.lua:1:18: no rule is asked about event `conversation.reopend`; did you mean `conversation.reopened`?"]
        );
        assert_eq!(
            wrong("{ only = \"voice\",\n  on = { \"interaction.sent\", \"sla.warning\" } }"),
            ["a.lua:2:30: event `sla.warning` is not available in this version"]
        );
        assert_eq!(wrong("{ on = { \"interaction.sent\", \"delivery.failed\" }, only = { \"voice\" } }"), [""; 0]);
        assert_eq!(wrong("{ on = \"interaction.\" .. kind, except = \"no.event\" }"), [""; 0]);
        assert_eq!(wrong("options"), [""; 0]);
    }

    #[test]
    fn says_nothing_about_what_is_right_or_unknown() {
        let right = "rule(\"r\", function(e, d) -- d:queue(\"vipp\")\n d:queue(\"vip\") d:need { billing = 1 } --[[ d:qeue() ]]\n\
                     local s = \"d:qeue()\" d:reply(\"We are closed now\") d:queue(name) local t = e.ix.lang\n\
                     if e.ix:mentions{'x'} and e.ix.author:trusted('claimed') then d:tag(e.ix.context.anything) end end)";
        assert_eq!(lint(right), [""; 0]);
        assert_eq!(lint("for _, e in ipairs(list) do print(e.whatever) end"), [""; 0]);
        assert_eq!(lint("local function f(d) d:whatever() end"), [""; 0]);
        assert_eq!(lint("x = [==[ d:qeue() ]] ]==] y = 'open"), [""; 0]);
    }
}
