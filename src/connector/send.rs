//! Sending: what a channel can carry, how a message becomes the provider's requests, and what the answers to them mean.
//!
//! The core decides from [`Capabilities`] only. What a channel cannot carry is said in words instead: buttons become a
//! numbered list, a file becomes its address, a long text becomes several messages. Nothing is silently left out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::capabilities::Capabilities;
use super::compile::Compiler;
use super::eval::{Env, Tables, Val};
use super::expr::Expr;
use super::http_call::{CallSpec, HttpCall};
use super::options::Account;
use super::tree::Table;
use crate::base::json::Value;
use crate::base::{Error, Result};
use crate::model::{Outbound, OutboundPart, PartType};

/// The slots that an outbound template can name, in this order.
pub(super) const SEND_SCOPES: [&str; 5] = ["out", "part", "option", "account", "channel"];
/// The slots that the reading of a response can name.
pub(super) const RESPONSE_SCOPES: [&str; 3] = ["status", "headers", "body"];

/// What a provider's response to a send means.
#[derive(Clone, PartialEq, Eq)]
pub enum SendReading {
    /// It took the message; its ids of it.
    Accepted {
        /// The provider's ids, in order.
        ids: Vec<String>,
    },
    /// It will not take it.
    Refused {
        /// Its code.
        code: Option<String>,
        /// Its words, cut to 200 characters.
        title: String,
    },
    /// It did not take it now.
    RetryLater {
        /// How long to wait, in milliseconds, if it said so.
        after_ms: Option<u64>,
    },
    /// Whether it took it cannot be told.
    Uncertain {
        /// What it said, cut to 200 characters.
        title: String,
    },
}

/// What one request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carries {
    Text,
    Choices,
    Media,
}

/// `[[send]]`: one form of request.
#[derive(Debug)]
pub(super) struct SendSpec {
    carries: Carries,
    when: Option<Expr>,
    call: CallSpec,
}

/// `[response]`.
#[derive(Debug, Default)]
pub(super) struct ResponseSpec {
    accepted: Option<Expr>,
    refused: Option<Expr>,
    retry: Option<Expr>,
    retry_after: Option<Expr>,
    ids: Vec<Expr>,
    code: Option<Expr>,
    title: Option<Expr>,
}

impl SendSpec {
    pub(super) fn read(mut table: Table, c: &mut Compiler<'_, '_>) -> Option<SendSpec> {
        const KINDS: [(&str, Carries); 3] =
            [("text", Carries::Text), ("choices", Carries::Choices), ("media", Carries::Media)];
        let (wanted, at) = table.need("carries", c.notes)?;
        let Some((_, carries)) = KINDS.into_iter().find(|(name, _)| *name == wanted) else {
            let known = KINDS.iter().map(|(name, _)| *name);
            c.notes.wrong_name(at, format!("a request cannot carry `{wanted}`"), &wanted, known);
            return None;
        };
        let when = c.expr(&mut table, "when");
        let call = CallSpec::read(&mut table, c);
        table.finish(c.notes);
        Some(SendSpec { carries, when, call: call? })
    }
}

/// One message as it will go out.
struct Unit<'o> {
    text: String,
    media: Option<&'o OutboundPart>,
    choices: Option<&'o OutboundPart>,
}

/// Renders a message into the requests that send it, in order.
pub(super) fn render(
    specs: &[SendSpec],
    can: &Capabilities,
    message: &Outbound,
    account: &Account,
    tables: &Tables,
) -> Result<Vec<HttpCall>> {
    let mut units = plan(can, message, true);
    if units.is_empty() {
        return Err(Error::invalid(format!("send `{}` has neither text nor parts", message.id)));
    }
    // Some places of a channel take no buttons, a group say: there they are said in words.
    let lacks_buttons = units.iter().enumerate().any(|(at, unit)| {
        let out = outbound_value(message, unit, at);
        unit.choices.is_some() && fitting(specs, unit, &scopes(&out, &Value::Null, account, tables)).is_none()
    });
    if lacks_buttons {
        units = plan(can, message, false);
    }
    let mut calls = Vec::with_capacity(units.len());
    for (at, unit) in units.iter().enumerate() {
        let out = outbound_value(message, unit, at);
        let part = unit.media.map_or(Value::Null, part_value);
        let mut env = scopes(&out, &part, account, tables);
        let spec = fitting(specs, unit, &env).ok_or_else(|| {
            Error::invalid(format!("channel `{}` declares no request that carries this message", account.channel))
        })?;
        calls.push(spec.call.render(&mut env)?);
    }
    Ok(calls)
}

fn holds(expr: &Expr, env: &Env<'_>) -> bool {
    fn inner<'v>(expr: &'v Expr, env: &Env<'v>) -> bool {
        expr.holds(env)
    }
    inner(expr, env)
}

/// The scopes of [`SEND_SCOPES`] over one message as it will go out.
fn scopes<'v>(out: &'v Value<'v>, part: &'v Value<'v>, account: &'v Account, tables: &'v Tables) -> Env<'v> {
    let mut env = Env::new(tables, account.default_country.as_deref());
    env.set(0, Some(Val::Node(out)));
    env.set(1, Some(Val::Node(part)));
    env.set(2, Some(Val::Node(account.options.scope(true))));
    env.set(3, account.address.as_deref().map(|address| Val::Text(Cow::Borrowed(address))));
    env.set(4, Some(Val::Text(Cow::Borrowed(&account.channel))));
    env
}

/// The first form of request that carries this, if there is one.
fn fitting<'s>(specs: &'s [SendSpec], unit: &Unit<'_>, env: &Env<'_>) -> Option<&'s SendSpec> {
    let carries = match unit {
        Unit { media: Some(_), .. } => Carries::Media,
        Unit { choices: Some(_), .. } => Carries::Choices,
        _ => Carries::Text,
    };
    specs.iter().find(|spec| spec.carries == carries && spec.when.as_ref().is_none_or(|when| holds(when, env)))
}

/// Splits and degrades a message into what the channel can carry; without `buttons` choices are said in words.
fn plan<'o>(can: &Capabilities, message: &'o Outbound, buttons: bool) -> Vec<Unit<'o>> {
    let mut text = message.text.as_ref().map(|text| text.expose().clone()).unwrap_or_default();
    let mut media = Vec::new();
    let mut choices = None;
    for part in &message.parts {
        let said = part.text.as_ref().map(|text| text.expose().as_str()).unwrap_or_default();
        match part.kind {
            PartType::Choice if buttons && choices.is_none() && can.carries_choices(part) => {
                push_line(&mut text, said);
                choices = Some(part);
            }
            PartType::Choice => {
                push_line(&mut text, said);
                for (at, title) in part.choices.values().enumerate() {
                    push_line(&mut text, &format!("{}. {}", at + 1, title.expose()));
                }
            }
            kind if can.carries_media(kind) && part.url.is_some() => {
                if !can.captions {
                    push_line(&mut text, said);
                }
                media.push(part);
            }
            _ => {
                push_line(&mut text, said);
                push_line(&mut text, part.url.as_ref().map(|url| url.expose().as_str()).unwrap_or_default());
            }
        }
    }
    let mut units: Vec<Unit<'o>> =
        split(&text, can).into_iter().map(|text| Unit { text, media: None, choices: None }).collect();
    match (units.last_mut(), choices) {
        (Some(last), choices) => last.choices = choices,
        (None, Some(_)) => units.push(Unit { text: "…".to_owned(), media: None, choices }),
        (None, None) => {}
    }
    units.extend(media.into_iter().map(|part| Unit { text: String::new(), media: Some(part), choices: None }));
    units
}

pub(super) fn push_line(text: &mut String, line: &str) {
    if !line.is_empty() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(line);
    }
}

/// Cuts a text into pieces of at most the channel's limit: at a paragraph, else a line, else a word, else anywhere.
fn split(text: &str, can: &Capabilities) -> Vec<String> {
    let mut rest = text.trim();
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let fitting = can.fitting(rest);
        let Some((head, _)) = rest.split_at_checked(fitting).filter(|(_, tail)| !tail.is_empty()) else {
            pieces.push(rest.to_owned());
            break;
        };
        // A break in the first half would make crumbs; then a harder break further on is better.
        let usable = |at: &usize| *at >= head.len() / 2 && *at > 0;
        let cut = ["\n\n", "\n", " "].iter().find_map(|gap| head.rfind(gap).filter(usable)).unwrap_or(head.len());
        let cut = if cut == 0 { head.len() } else { cut };
        let (piece, tail) = rest.split_at_checked(cut).unwrap_or((rest, ""));
        pieces.push(piece.trim_end().to_owned());
        rest = tail.trim_start();
    }
    pieces
}

fn part_value(part: &OutboundPart) -> Value<'_> {
    let kind = serde_json::to_value(part.kind).ok();
    let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or("file").to_owned();
    let text = |text: &Option<crate::base::Pii<String>>| {
        text.as_ref().map_or(Value::Null, |text| Value::String(Cow::Owned(text.expose().clone())))
    };
    Value::Object(vec![
        ("type".into(), Value::String(Cow::Owned(kind))),
        ("url".into(), text(&part.url)),
        ("text".into(), text(&part.text)),
    ])
}

fn outbound_value<'o>(message: &'o Outbound, unit: &Unit<'o>, at: usize) -> Value<'o> {
    let text = |text: &str| Value::String(Cow::Owned(text.to_owned()));
    let maybe = |text: Option<&'o str>| text.map_or(Value::Null, |text| Value::String(Cow::Borrowed(text)));
    let choices = unit.choices.map(|part| {
        let one = |(id, title): (&String, &crate::base::Pii<String>)| {
            Value::Object(vec![("id".into(), text(id)), ("title".into(), text(title.expose()))])
        };
        Value::Array(part.choices.iter().map(one).collect())
    });
    Value::Object(vec![
        ("id".into(), text(&message.id.to_string())),
        ("index".into(), text(&at.to_string())),
        ("account".into(), maybe(Some(&message.account))),
        ("to".into(), maybe(message.to.as_ref().map(|to| to.value.expose().as_str()))),
        ("to_type".into(), maybe(message.to.as_ref().map(|to| to.kind.0.as_str()))),
        ("thread_id".into(), maybe(message.thread_id.as_ref().map(|id| id.expose().as_str()))),
        // Only the first message of several quotes what is answered.
        ("reply_to".into(), maybe(message.reply_to.as_deref().filter(|_| at == 0))),
        ("public".into(), Value::Bool(message.public)),
        ("text".into(), text(&unit.text)),
        ("choices".into(), choices.unwrap_or(Value::Null)),
    ])
}

impl ResponseSpec {
    pub(super) fn read(mut table: Table, c: &mut Compiler<'_, '_>) -> ResponseSpec {
        let ids = table.texts("ids", c.notes);
        let spec = ResponseSpec {
            accepted: c.expr(&mut table, "accepted"),
            refused: c.expr(&mut table, "refused"),
            retry: c.expr(&mut table, "retry"),
            retry_after: c.expr(&mut table, "retry_after"),
            ids: ids.into_iter().filter_map(|(text, at)| c.expr_of(&text, at)).collect(),
            code: c.expr(&mut table, "code"),
            title: c.expr(&mut table, "title"),
        };
        table.finish(c.notes);
        spec
    }

    /// Reads a response. Without a clear word of the provider's it is uncertain, since a message sent twice is worse
    /// than one that a person is asked about.
    pub(super) fn reading(
        &self,
        status: u16,
        headers: &[(String, String)],
        body: &[u8],
        tables: &Tables,
    ) -> SendReading {
        let body = Value::parse(body).unwrap_or(Value::Null);
        let header = |(name, value): &(String, String)| {
            (Cow::Owned(name.to_ascii_lowercase()), Value::String(Cow::Owned(value.clone())))
        };
        let headers = Value::Object(headers.iter().map(header).collect());
        let status_text = status.to_string();
        let mut env = Env::new(tables, None);
        env.set(0, Some(Val::Text(Cow::Borrowed(&status_text))));
        env.set(1, Some(Val::Node(&headers)));
        env.set(2, Some(Val::Node(&body)));
        let says = |expr: &Option<Expr>| expr.as_ref().map(|expr| holds(expr, &env));
        let text = |expr: &Option<Expr>| expr.as_ref().and_then(|expr| expr.string(&env));
        let title = || {
            let title = text(&self.title).unwrap_or_else(|| format!("the provider answered {status}"));
            title.chars().take(200).collect::<String>()
        };
        let success = (200..300).contains(&status);
        if says(&self.accepted).map_or(success, |accepted| accepted && success) {
            let ids: Vec<String> = self.ids.iter().filter_map(|expr| expr.string(&env)).collect();
            return match ids.is_empty() && !self.ids.is_empty() {
                true => SendReading::Uncertain { title: "accepted without an id".to_owned() },
                false => SendReading::Accepted { ids },
            };
        }
        if says(&self.retry).unwrap_or(status == 429) {
            let seconds = text(&self.retry_after)
                .or_else(|| headers.get("retry-after").and_then(Value::as_str).map(str::to_owned));
            let after_ms = seconds.and_then(|text| text.trim().parse::<u64>().ok()).map(|s| s.min(86_400) * 1000);
            return SendReading::RetryLater { after_ms };
        }
        let refused = (400..500).contains(&status) && !matches!(status, 408 | 409 | 425 | 429);
        if says(&self.refused).unwrap_or(refused) {
            return SendReading::Refused { code: text(&self.code), title: title() };
        }
        SendReading::Uncertain { title: title() }
    }
}

/// Groups the parts that a channel can carry by kind: for showing.
pub(super) fn media_words(can: &Capabilities) -> BTreeMap<String, u64> {
    can.media.iter().map(|(kind, limit)| (kind.clone(), limit.max_bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::capabilities::TextUnit;
    use proptest::prelude::*;

    fn can(limit: usize, unit: TextUnit) -> Capabilities {
        Capabilities { text_limit: limit, text_unit: unit, ..Capabilities::default() }
    }

    #[test]
    fn splits_at_words() {
        assert_eq!(split("one two three four", &can(9, TextUnit::Characters)), ["one two", "three", "four"]);
        assert_eq!(split("", &can(9, TextUnit::Characters)), Vec::<String>::new());
        assert_eq!(split("🙂🙂🙂", &can(4, TextUnit::Utf16)), ["🙂🙂", "🙂"]);
    }

    #[test]
    fn a_caption_is_said_before_a_file_that_cannot_carry_it() {
        let message = serde_json::json!({
            "id": "sd_01jn4bq5gafx3tqz0f5w8m1c2d", "channel": "c", "account": "a", "to": { "type": "x", "value": "y" },
            "parts": [{ "type": "image", "url": "https://files.example/a.png", "text": "The plan" }],
        });
        let message: Outbound = serde_json::from_value(message).unwrap();
        let limit = crate::connector::capabilities::MediaLimit { types: Vec::new(), max_bytes: 1 };
        let media = BTreeMap::from([("image".to_owned(), limit)]);
        let texts = |captions: bool| -> Vec<String> {
            let can = Capabilities { captions, media: media.clone(), ..Capabilities::default() };
            plan(&can, &message, true).into_iter().map(|unit| unit.text).collect()
        };
        assert_eq!(texts(false), ["The plan", ""]);
        assert_eq!(texts(true), [""]);
    }

    proptest! {
        #[test]
        fn splitting_loses_nothing_but_white_space(text in "[a-zä🙂 \n]{0,200}", limit in 2usize..40) {
            for unit in [TextUnit::Characters, TextUnit::Utf16] {
                let can = can(limit, unit);
                let pieces = split(&text, &can);
                for piece in &pieces {
                    prop_assert_eq!(can.fitting(piece), piece.len());
                }
                let bare = |text: &str| text.split_whitespace().collect::<String>();
                prop_assert_eq!(bare(&pieces.concat()), bare(&text));
            }
        }
    }
}
