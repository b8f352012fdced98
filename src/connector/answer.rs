//! Challenges, and answers while somebody waits.
//!
//! A challenge proves to the provider that the endpoint is ours; it is checked and answered without an entry. An
//! answered request (a call that wants instructions) is one that policy decides on within a deadline; whatever happens
//! there is a declared safe default.

use std::collections::BTreeMap;

use super::compile::Compiler;
use super::eval::{Env, Tables, Val};
use super::expr::{Expr, Function, Piece};
use super::options::Account;
use super::request::{Answer, Opened, REQUEST_SCOPES};
use super::tree::Table;
use crate::base::hash::same_secret;
use crate::base::json::Value;
use crate::base::{Error, Result};
use crate::model::decision::CallAnswer;

/// One `[[challenge]]`.
#[derive(Debug)]
pub(super) struct Challenge {
    /// The method it comes by.
    pub(super) method: String,
    /// Bytes that its body must hold: spares reading the body of everything else.
    pub(super) contains: Option<String>,
    pub(super) when: Expr,
    /// The token that the request must show, and the option that holds it.
    pub(super) token: Option<(Expr, String)>,
    /// Whether it is signed like a delivery.
    pub(super) signed: bool,
    answer: Expr,
    content_type: String,
}

impl Challenge {
    pub(super) fn read(mut table: Table, c: &mut Compiler<'_, '_>) -> Option<Challenge> {
        let method = table.need("method", c.notes).map(|(text, _)| text).unwrap_or_default();
        let contains = table.text("contains", c.notes).map(|(text, _)| text);
        if !table.has("when") || !table.has("answer") {
            c.notes.wrong(table.at, "a challenge needs `when` and `answer`");
        }
        let when = c.expr(&mut table, "when");
        let token = c.expr(&mut table, "token");
        let key = table.text("key", c.notes);
        let signed = table.truth("signed", c.notes).unwrap_or(false);
        let answer = c.expr(&mut table, "answer");
        let content_type =
            table.text("content_type", c.notes).map_or_else(|| "text/plain".to_owned(), |(text, _)| text);
        if let Some((key, at)) = &key
            && !c.names.options.iter().any(|(name, _)| name == key)
        {
            let known: Vec<String> = c.names.options.iter().map(|(name, _)| name.clone()).collect();
            c.notes.wrong_name(*at, format!("there is no option `{key}`"), key, known.iter().map(String::as_str));
        }
        let token = token.zip(key.map(|(key, _)| key));
        if token.is_none() && !signed {
            c.notes.wrong(table.at, "a challenge must be checked: give `token` and `key`, or `signed = true`");
        }
        table.finish(c.notes);
        Some(Challenge { method, contains, when: when?, token, signed, answer: answer?, content_type })
    }

    /// Whether the token that the request shows is the configured one.
    pub(super) fn token_holds(&self, env: &Env<'_>, account: &Account) -> bool {
        match &self.token {
            None => true,
            Some((token, key)) => {
                let shown = token.string(env).unwrap_or_default();
                // Every value is compared, so that the time tells nothing about which one fits.
                account
                    .options
                    .values(key)
                    .iter()
                    .fold(false, |held, value| held | same_secret(value.as_bytes(), shown.as_bytes()))
            }
        }
    }

    pub(super) fn answer(&self, env: &Env<'_>) -> Answer {
        let body = self.answer.string(env).unwrap_or_default();
        Answer { status: 200, content_type: self.content_type.clone(), body }
    }
}

/// `[answer]`: which requests wait, for how long, and what they can be told.
pub struct AnswerSpec {
    pub(super) when: Expr,
    deadline_ms: u64,
    content_type: String,
    xml: bool,
    default: CallAnswer,
    named: BTreeMap<String, Named>,
}

/// One answer that a policy can name.
#[derive(Debug)]
struct Named {
    help: String,
    needs: Vec<String>,
    takes: Vec<String>,
    body: Expr,
}

impl AnswerSpec {
    /// How long the provider may be kept waiting for policy, in milliseconds.
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// What is said if policy says nothing in time.
    pub fn default_answer(&self) -> &CallAnswer {
        &self.default
    }

    /// The names of the answers with their help texts.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.named.iter().map(|(name, named)| (name.as_str(), named.help.as_str()))
    }

    pub(super) fn read(mut table: Table, c: &mut Compiler<'_, '_>) -> Option<AnswerSpec> {
        if !table.has("when") {
            c.notes.wrong(table.at, "`[answer]` needs `when`");
        }
        let when = c.expr(&mut table, "when");
        let deadline_ms = table.integer("deadline_ms", 100, 60_000, c.notes).unwrap_or(2000).unsigned_abs();
        let content_type = table.need("content_type", c.notes).map(|(text, _)| text).unwrap_or_default();
        let xml = match table.text("escape", c.notes) {
            Some((escape, at)) if escape != "xml" && escape != "json" => {
                c.notes.wrong_name(at, format!("unknown escape `{escape}`"), &escape, ["xml", "json"]);
                true
            }
            escape => escape.is_none_or(|(escape, _)| escape == "xml"),
        };
        let default = table.table("default", c.notes).map(|mut default| {
            let name = default.need("name", c.notes).unwrap_or_default();
            let vars = c.exprs_plain(&mut default, "vars");
            default.finish(c.notes);
            (name, vars)
        });
        let named = read_named(&mut table, c);
        let Some(((name, at), vars)) = default else {
            c.notes.wrong(table.at, "`[answer]` needs a `default`: what a caller hears if no policy speaks in time");
            return None;
        };
        if !named.contains_key(&name) {
            let known = named.keys().map(String::as_str);
            c.notes.wrong_name(at, format!("the default answer `{name}` is not declared"), &name, known);
        }
        let needs = named.get(&name).map(|named| named.needs.as_slice()).unwrap_or_default();
        for need in needs.iter().filter(|need| !vars.contains_key(*need)) {
            c.notes.wrong(at, format!("the default answer `{name}` needs `{need}`"));
        }
        table.finish(c.notes);
        let default = CallAnswer { name, vars };
        let spec = AnswerSpec { when: when?, deadline_ms, content_type, xml, default, named };
        Some(spec)
    }

    /// The answer in the provider's language.
    ///
    /// # Errors
    ///
    /// An `Invalid` error if the manifest declares no answer of this name, or a value that it needs is not given.
    pub(super) fn render(
        &self,
        answer: &CallAnswer,
        request: &Opened<'_>,
        account: &Account,
        tables: &Tables,
    ) -> Result<Answer> {
        let named = self.named.get(&answer.name).ok_or_else(|| {
            let hint = super::diagnostic::nearest(&answer.name, self.named.keys().map(String::as_str));
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            Error::invalid(format!("there is no answer `{}`{hint}", answer.name))
        })?;
        if let Some(need) = named.needs.iter().find(|need| !answer.vars.contains_key(*need)) {
            return Err(Error::invalid(format!("answer `{}` needs `{need}`", answer.name)));
        }
        if let Some(unknown) =
            answer.vars.keys().find(|name| !named.takes.contains(name) && !named.needs.contains(name))
        {
            return Err(Error::invalid(format!("answer `{}` takes no `{unknown}`", answer.name)));
        }
        let vars =
            answer.vars.iter().map(|(name, value)| (name.clone().into(), Value::String(value.expose().clone().into())));
        let vars = Value::Object(vars.collect());
        let mut env = request.env(account, tables, false);
        env.set(REQUEST_SCOPES.len(), Some(Val::Node(&vars)));
        let body = self.escaped(&named.body, &env);
        let body = body.ok_or_else(|| Error::invalid(format!("answer `{}` lacks a value", answer.name)))?;
        Ok(Answer { status: 200, content_type: self.content_type.clone(), body })
    }

    /// Renders a template: what the manifest wrote stays as it is, what came from elsewhere is escaped. That holds for
    /// texts within placeholders too, so `{when(var.text, '<Say>{var.text}</Say>')?}` is an element that may be absent.
    fn escaped<'v>(&self, body: &'v Expr, env: &Env<'v>) -> Option<String> {
        match body {
            Expr::Text(text) => Some(text.clone()),
            Expr::Template(pieces) => {
                let mut text = String::new();
                for Piece { expr, optional } in pieces {
                    match self.escaped(expr, env) {
                        Some(value) => text.push_str(&value),
                        None if *optional => {}
                        None => return None,
                    }
                }
                Some(text)
            }
            Expr::First(all) => all.iter().find_map(|expr| self.escaped(expr, env).filter(|text| !text.is_empty())),
            Expr::Call(Function::When, parts) => match parts.as_slice() {
                [condition, then] if condition.holds(env) => self.escaped(then, env),
                _ => None,
            },
            other => {
                let value = other.text(env)?;
                Some(if self.xml { escape_xml(&value) } else { escape_json(&value) })
            }
        }
    }
}

fn read_named(table: &mut Table, c: &mut Compiler<'_, '_>) -> BTreeMap<String, Named> {
    let mut named = BTreeMap::new();
    let Some(mut inner) = table.table("named", c.notes) else { return named };
    for (name, at, node) in inner.take_all() {
        let Some(mut one) = Table::of(node, format!("`[answer.named.{name}]`"), c.notes) else { continue };
        one.at = at;
        let help = one.need("help", c.notes).map(|(text, _)| text).unwrap_or_default();
        let plain = |texts: Vec<(String, usize)>| texts.into_iter().map(|(text, _)| text).collect::<Vec<_>>();
        let needs = plain(one.texts("needs", c.notes));
        let takes = plain(one.texts("takes", c.notes));
        let scopes = c.names.scopes.len();
        c.names.add("var");
        let body = c.template(&mut one, "body");
        c.names.scopes.truncate(scopes);
        if body.is_none() {
            c.notes.wrong(at, format!("answer `{name}` needs a `body`"));
        }
        one.finish(c.notes);
        if let Some(body) = body {
            named.insert(name, Named { help, needs, takes, body });
        }
    }
    named
}

/// Text as XML 1.0 content or attribute value; characters that XML cannot hold are left out.
fn escape_xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\t' | '\n' | '\r' => escaped.push(c),
            c if (c as u32) < 0x20 || c == '\u{fffe}' || c == '\u{ffff}' => {}
            c => escaped.push(c),
        }
    }
    escaped
}

/// Text as it stands between the quotes of a JSON string.
fn escape_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_leave_no_way_out_of_the_text() {
        assert_eq!(escape_xml("a<b>&\"c'\u{0}"), "a&lt;b&gt;&amp;&quot;c&apos;");
        assert_eq!(escape_json("a\"b\\\n"), "a\\\"b\\\\\\n");
    }
}
