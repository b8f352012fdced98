//! Request templates: how a manifest writes a request to the provider, and the request that comes of it.

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value as Json};

use super::compile::Compiler;
use super::eval::{Env, Val};
use super::expr::{Expr, Function, Piece};
use super::tree::{Node, Raw, Table};
use crate::base::{Error, Result, Secret};

/// One request to a provider, ready to go out. URL and headers may carry credentials, so neither can be shown.
#[derive(Clone)]
pub struct HttpCall {
    /// The method in upper case.
    pub method: String,
    /// The whole URL.
    pub url: Secret,
    /// Names in lower case.
    pub headers: Vec<(String, Secret)>,
    /// The body; empty for none.
    pub body: Bytes,
}

impl HttpCall {
    /// The request as HTTP/1.1 text: what samples are compared with.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!("{} {}\n", self.method, self.url.expose());
        let mut headers: Vec<_> = self.headers.iter().collect();
        headers.sort_by(|(left, _), (right, _)| left.cmp(right));
        for (name, value) in headers {
            text.push_str(&format!("{name}: {}\n", value.expose()));
        }
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(&self.body));
        text
    }
}

/// A request as the manifest writes it.
#[derive(Debug)]
pub(super) struct CallSpec {
    method: String,
    url: Expr,
    headers: Vec<(String, Expr)>,
    body: BodySpec,
}

#[derive(Debug)]
enum BodySpec {
    Empty,
    Json(JsonSpec),
    Form(Vec<(String, Expr)>),
}

/// JSON with templates at its leaves.
#[derive(Debug)]
enum JsonSpec {
    Fixed(Json),
    Template(Expr),
    List(Vec<JsonSpec>),
    Object(Vec<(String, JsonSpec)>),
    Each { slot: usize, source: Expr, value: Box<JsonSpec> },
}

/// What stays as it is within one component of a URL: RFC 3986's unreserved, and the colon, which a path may hold.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');
/// What stays as it is within `path()`: the slashes too.
const PATH: &AsciiSet = &COMPONENT.remove(b'/');

impl CallSpec {
    /// Reads `method`, `url`, `headers`, `json` or `form`, and `basic`.
    pub(super) fn read(table: &mut Table, c: &mut Compiler<'_, '_>) -> Option<CallSpec> {
        let method = table.text("method", c.notes).map_or_else(|| "POST".to_owned(), |(text, _)| text);
        if !table.has("url") {
            c.notes.wrong(table.at, format!("{} needs a `url`", table.what()));
        }
        let url = c.template(table, "url");
        let mut headers = templates(table, "headers", c);
        for (name, _) in &mut headers {
            *name = name.to_ascii_lowercase();
        }
        let json = table.take("json").and_then(|node| JsonSpec::read(&node, c));
        let form = table.has("form").then(|| templates(table, "form", c));
        let body = match (json, form) {
            (Some(json), None) => BodySpec::Json(json),
            (None, Some(form)) => BodySpec::Form(form),
            (None, None) => BodySpec::Empty,
            (Some(_), Some(_)) => {
                c.notes.wrong(table.at, "a request has a `json` or a `form` body, not both");
                BodySpec::Empty
            }
        };
        Some(CallSpec { method, url: url?, headers, body })
    }

    /// The request for what is in `env`.
    ///
    /// # Errors
    ///
    /// `Invalid` if the URL lacks a value or is none.
    pub(super) fn render<'v>(&'v self, env: &mut Env<'v>) -> Result<HttpCall> {
        let url = self.url(env).ok_or_else(|| Error::invalid("request to the provider lacks a value in its URL"))?;
        if url::Url::parse(&url).is_err() {
            return Err(Error::invalid("request to the provider has no valid URL"));
        }
        let mut headers: Vec<(String, Secret)> = Vec::with_capacity(self.headers.len() + 1);
        for (name, expr) in &self.headers {
            let Some(value) = expr.text(env) else { continue };
            let value = match value.strip_prefix("Basic ") {
                // Written as `Basic {user}:{password}`, so that a manifest needs no function for base64.
                Some(pair) if name == "authorization" => {
                    format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes()))
                }
                _ => value.into_owned(),
            };
            if value.contains(['\r', '\n', '\0']) {
                return Err(Error::invalid(format!("header `{name}` would hold a line break")));
            }
            headers.push((name.clone(), Secret::new(value)));
        }
        let (media, body) = match &self.body {
            BodySpec::Empty => ("", Bytes::new()),
            BodySpec::Json(spec) => {
                let json = spec.render(env).unwrap_or(Json::Object(Map::new()));
                ("application/json", Bytes::from(json.to_string()))
            }
            BodySpec::Form(fields) => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                for (name, expr) in fields {
                    if let Some(value) = expr.text(env) {
                        form.append_pair(name, &value);
                    }
                }
                ("application/x-www-form-urlencoded", Bytes::from(form.finish()))
            }
        };
        if !media.is_empty() && !headers.iter().any(|(name, _)| name == "content-type") {
            headers.push(("content-type".to_owned(), Secret::new(media)));
        }
        Ok(HttpCall { method: self.method.clone(), url: Secret::new(url), headers, body })
    }

    /// Renders the URL: a placeholder at its very beginning is a base and stays as it is, any other is one component.
    fn url<'v>(&'v self, env: &Env<'v>) -> Option<String> {
        let pieces = match &self.url {
            Expr::Template(pieces) => pieces.as_slice(),
            other => return other.string(env),
        };
        let mut url = String::new();
        for (at, Piece { expr, optional }) in pieces.iter().enumerate() {
            match (expr, expr.text(env)) {
                (Expr::Text(literal), _) => url.push_str(literal),
                (_, Some(value)) if at == 0 => url.push_str(&value),
                // A step up would lead out of the place that the manifest names.
                (Expr::Call(Function::Path, _), Some(value)) if value.split('/').any(|step| step == "..") => {
                    return None;
                }
                (Expr::Call(Function::Path, _), Some(value)) => url.extend(utf8_percent_encode(&value, PATH)),
                (_, Some(value)) => url.extend(utf8_percent_encode(&value, COMPONENT)),
                (_, None) if *optional => {}
                (_, None) => return None,
            }
        }
        Some(url)
    }
}

fn templates(table: &mut Table, key: &'static str, c: &mut Compiler<'_, '_>) -> Vec<(String, Expr)> {
    let mut templates = Vec::new();
    let Some(mut inner) = table.table(key, c.notes) else { return templates };
    for (name, at, node) in inner.take_all() {
        match &node.value {
            Raw::Text(source) => templates.extend(c.template_of(source, node.at).map(|expr| (name, expr))),
            _ => c.notes.wrong(at, format!("`{name}` must be a template in a string, not {}", node.kind())),
        }
    }
    templates
}

impl JsonSpec {
    fn read(node: &Node, c: &mut Compiler<'_, '_>) -> Option<JsonSpec> {
        Some(match &node.value {
            Raw::Integer(number) => JsonSpec::Fixed((*number).into()),
            Raw::Float(number) => JsonSpec::Fixed((*number).into()),
            Raw::Truth(truth) => JsonSpec::Fixed((*truth).into()),
            Raw::Text(source) => match c.template_of(source, node.at)? {
                Expr::Text(text) => JsonSpec::Fixed(text.into()),
                template => JsonSpec::Template(template),
            },
            Raw::List(items) => JsonSpec::List(items.iter().filter_map(|item| JsonSpec::read(item, c)).collect()),
            Raw::Table(members) if members.iter().any(|(name, ..)| name == "$each") => {
                return JsonSpec::read_each(node.at, members, c);
            }
            Raw::Table(members) => JsonSpec::Object(
                members.iter().filter_map(|(name, _, node)| Some((name.clone(), JsonSpec::read(node, c)?))).collect(),
            ),
        })
    }

    /// `{ "$each" = "choice in out.choices", "$value" = { ... } }`
    fn read_each(at: usize, members: &[(String, usize, Node)], c: &mut Compiler<'_, '_>) -> Option<JsonSpec> {
        let member = |wanted: &str| members.iter().find(|(name, ..)| name == wanted).map(|(_, _, node)| node);
        let (Some(Node { value: Raw::Text(each), at: each_at }), Some(value)) = (member("$each"), member("$value"))
        else {
            c.notes.wrong(at, "a repeated value is written with `$each` and `$value`");
            return None;
        };
        let Some((name, source)) = each.split_once(" in ") else {
            c.notes.wrong(*each_at, "`$each` is written `NAME in LIST`");
            return None;
        };
        let source = c.expr_of(source, each_at + name.len() + 4)?;
        let scopes = c.names.scopes.len();
        let slot = c.names.add(name.trim());
        let value = JsonSpec::read(value, c);
        c.names.scopes.truncate(scopes);
        Some(JsonSpec::Each { slot, source, value: Box::new(value?) })
    }

    /// The JSON; a member whose template lacks a value is left out, and so is an object all of whose templates do.
    fn render<'v>(&'v self, env: &mut Env<'v>) -> Option<Json> {
        match self {
            JsonSpec::Fixed(json) => Some(json.clone()),
            JsonSpec::Template(Expr::Template(pieces)) if pieces.len() == 1 => {
                let value = pieces.first()?.expr.eval(env)?;
                Some(match value {
                    Val::Node(value) => value.to_serde(),
                    Val::Made(value) => value.to_serde(),
                    Val::Truth => Json::Bool(true),
                    other => other.text()?.into_owned().into(),
                })
            }
            JsonSpec::Template(expr) => Some(expr.text(env)?.into_owned().into()),
            JsonSpec::List(items) => Some(items.iter().filter_map(|item| item.render(env)).collect()),
            JsonSpec::Object(members) => {
                let rendered: Map<String, Json> =
                    members.iter().filter_map(|(name, spec)| Some((name.clone(), spec.render(env)?))).collect();
                let hoped = |(_, spec): &&(String, JsonSpec)| matches!(spec, JsonSpec::Template(_));
                let mut hopes = members.iter().filter(hoped).peekable();
                let lost = rendered.is_empty() && !members.is_empty()
                    || hopes.peek().is_some() && hopes.all(|(name, _)| !rendered.contains_key(name));
                (!lost).then_some(Json::Object(rendered))
            }
            JsonSpec::Each { slot, source, value } => {
                let elements = source.eval(env)?.elements()?;
                let mut items = Vec::with_capacity(elements.len());
                for element in elements {
                    env.set(*slot, Some(element));
                    items.extend(value.render(env));
                }
                Some(Json::Array(items))
            }
        }
    }
}
