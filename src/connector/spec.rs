//! The compiled form of one case of a mapping: which fields of an interaction or a receipt come from where.

use super::compile::{Compiler, Word, word};
use super::convert::duration_millis;
use super::expr::Expr;
use super::tree::{Node, Raw, Table};
use crate::model::interaction::RecipientRole;
use crate::model::{ChannelKind, DeliveryState, Direction, Flag, InteractionKind, PartType, Role, Trust, Visibility};

/// One case: taken by the first element for which `when` holds.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) when: Option<Expr>,
    pub(super) outcome: OutcomeSpec,
}

/// What a case gives.
#[derive(Debug)]
pub(super) enum OutcomeSpec {
    Interaction(Box<InteractionSpec>),
    Receipt(Box<ReceiptSpec>),
    Ignored(Expr),
    Quarantined(Expr),
    /// A function of `map.lua` and the scopes it is called with.
    Script {
        function: String,
        arguments: Vec<Expr>,
    },
}

/// The fields of an interaction.
#[derive(Debug)]
pub(super) struct InteractionSpec {
    pub(super) kind: Word<InteractionKind>,
    pub(super) channel: Option<Word<ChannelKind>>,
    pub(super) direction: Word<Direction>,
    pub(super) visibility: Word<Visibility>,
    pub(super) account: Option<Expr>,
    pub(super) provider_id: Option<Expr>,
    pub(super) revision: Option<Expr>,
    pub(super) thread_id: Option<Expr>,
    pub(super) reply_to: Option<Expr>,
    pub(super) sent_at: Option<Expr>,
    pub(super) reply_until: Option<Expr>,
    pub(super) reply_window: Option<i64>,
    pub(super) subject: Option<Expr>,
    pub(super) text: Option<Expr>,
    pub(super) lang: Option<Expr>,
    pub(super) role: Word<Role>,
    pub(super) name: Option<Expr>,
    pub(super) identifiers: Vec<IdentifierSpec>,
    /// The trust of an author without any identifier.
    pub(super) trust: Option<Word<Trust>>,
    pub(super) evidence: Vec<(String, Expr, Option<Expr>)>,
    pub(super) recipients: Vec<RecipientSpec>,
    pub(super) parts: Vec<PartSpec>,
    pub(super) flags: Vec<(Flag, Expr)>,
    pub(super) context: Vec<(String, Expr)>,
    pub(super) call: Option<Box<CallSpec>>,
}

/// A typed identifier.
#[derive(Debug)]
pub(super) struct IdentifierSpec {
    pub(super) kind: String,
    pub(super) value: Expr,
    pub(super) trust: Option<Word<Trust>>,
}

/// `each = "NAME in LIST"`: the slots of the element and of its `index`, and the list.
#[derive(Debug)]
pub(super) struct Each {
    pub(super) slot: usize,
    pub(super) index: usize,
    pub(super) list: Expr,
}

/// A recipient, or one for each element of a list.
#[derive(Debug)]
pub(super) struct RecipientSpec {
    pub(super) role: RecipientRole,
    pub(super) each: Option<Each>,
    pub(super) identifier: IdentifierSpec,
}

/// A part, or one part for each element of a list.
#[derive(Debug)]
pub(super) struct PartSpec {
    pub(super) kind: Word<PartType>,
    pub(super) each: Option<Each>,
    pub(super) when: Option<Expr>,
    pub(super) mediatype: Option<Expr>,
    pub(super) text: Option<Expr>,
    pub(super) alt: Option<Expr>,
    pub(super) reference: Option<Expr>,
    pub(super) url: Option<Expr>,
    pub(super) filename: Option<Expr>,
    pub(super) size: Option<Expr>,
    pub(super) expires: Option<Expr>,
    pub(super) data: Data,
}

/// The `data` of a part.
#[derive(Debug)]
pub(super) enum Data {
    None,
    Whole(Expr),
    Fields(Vec<(String, Expr)>),
}

/// The fields of a call.
#[derive(Debug, Default)]
pub(super) struct CallSpec {
    pub(super) state: Option<Expr>,
    pub(super) started_at: Option<Expr>,
    pub(super) answered_at: Option<Expr>,
    pub(super) ended_at: Option<Expr>,
    pub(super) duration: Option<Expr>,
    pub(super) disposition: Option<Expr>,
    pub(super) transcript: Option<Expr>,
    pub(super) ivr: Vec<Expr>,
    pub(super) transfer_of: Option<Expr>,
    /// Id, state, number reached, duration.
    pub(super) leg: Option<[Option<Expr>; 4]>,
    /// Id, URL, duration, state.
    pub(super) recording: Option<[Option<Expr>; 4]>,
}

/// The fields of a receipt.
#[derive(Debug)]
pub(super) struct ReceiptSpec {
    pub(super) account: Option<Expr>,
    pub(super) provider_id: Option<Expr>,
    pub(super) up_to: Option<Expr>,
    pub(super) recipients: Vec<IdentifierSpec>,
    pub(super) state: Word<DeliveryState>,
    pub(super) at: Option<Expr>,
    pub(super) reference: Option<Expr>,
    pub(super) error: Option<ErrorSpec>,
}

/// The fields of an error of delivery.
#[derive(Debug)]
pub(super) struct ErrorSpec {
    pub(super) code: Option<Expr>,
    pub(super) title: Option<Expr>,
    pub(super) permanent: Option<Expr>,
}

impl Case {
    /// Reads one case.
    pub(super) fn read(node: Node, c: &mut Compiler<'_, '_>) -> Option<Case> {
        let mut table = Table::of(node, "a case of the mapping", c.notes)?;
        let when = c.expr(&mut table, "when");
        let (outcome, at) = table.text("outcome", c.notes).unwrap_or_else(|| ("interaction".to_owned(), table.at));
        let outcome = match outcome.as_str() {
            "interaction" => OutcomeSpec::Interaction(Box::new(InteractionSpec::read(&mut table, c)?)),
            "receipt" => OutcomeSpec::Receipt(Box::new(ReceiptSpec::read(&mut table, c)?)),
            "ignored" => OutcomeSpec::Ignored(reason(&mut table, c)?),
            "quarantined" => OutcomeSpec::Quarantined(reason(&mut table, c)?),
            "script" => {
                let (function, _) = table.need("function", c.notes)?;
                let arguments = table.texts("arguments", c.notes);
                let arguments = arguments.into_iter().filter_map(|(text, at)| c.expr_of(&text, at)).collect();
                OutcomeSpec::Script { function, arguments }
            }
            _ => {
                const KNOWN: [&str; 5] = ["interaction", "receipt", "ignored", "quarantined", "script"];
                c.notes.wrong_name(at, format!("unknown outcome `{outcome}`"), &outcome, KNOWN);
                return None;
            }
        };
        table.finish(c.notes);
        Some(Case { when, outcome })
    }
}

fn reason(table: &mut Table, c: &mut Compiler<'_, '_>) -> Option<Expr> {
    if !table.has("reason") {
        c.notes.wrong(table.at, format!("{} needs a `reason`", table.what()));
        return None;
    }
    c.template(table, "reason")
}

impl InteractionSpec {
    fn read(table: &mut Table, c: &mut Compiler<'_, '_>) -> Option<InteractionSpec> {
        let mut author = table.table("author", c.notes);
        let (role, name, identifiers, trust, evidence) = match &mut author {
            None => (None, None, Vec::new(), None, Vec::new()),
            Some(author) => (
                c.word(author, "role"),
                c.expr(author, "name"),
                read_identifiers(author, "identifiers", c),
                c.word(author, "trust"),
                read_evidence(author, c),
            ),
        };
        if let Some(author) = author {
            author.finish(c.notes);
        }
        let recipients = read_recipients(table, c);
        let parts = table.tables("part", c.notes).into_iter().filter_map(|part| PartSpec::read(part, c)).collect();
        let reply_window = table.text("reply_window", c.notes).and_then(|(text, at)| {
            let millis = duration_millis(&text);
            if millis.is_none() {
                c.notes.wrong(at, format!("`{text}` is not a duration such as `24h`"));
            }
            millis
        });
        if !table.has("provider_id") {
            c.notes
                .wrong(table.at, "an interaction needs a `provider_id`: without it a repeat cannot be told from news");
        }
        Some(InteractionSpec {
            kind: c.word(table, "kind").unwrap_or(Word::Fixed(InteractionKind::Message)),
            channel: c.word(table, "channel"),
            direction: c.word(table, "direction").unwrap_or(Word::Fixed(Direction::Inbound)),
            visibility: c.word(table, "visibility").unwrap_or(Word::Fixed(Visibility::Private)),
            account: c.expr(table, "account"),
            provider_id: c.expr(table, "provider_id"),
            revision: c.expr(table, "revision"),
            thread_id: c.expr(table, "thread_id"),
            reply_to: c.expr(table, "reply_to"),
            sent_at: c.expr(table, "sent_at"),
            reply_until: c.expr(table, "reply_until"),
            reply_window,
            subject: c.expr(table, "subject"),
            text: c.expr(table, "text"),
            lang: c.expr(table, "lang"),
            role: role.unwrap_or(Word::Fixed(Role::Customer)),
            name,
            identifiers,
            trust,
            evidence,
            recipients,
            parts,
            flags: read_flags(table, c),
            context: c.exprs(table, "context"),
            call: table.table("call", c.notes).map(|call| Box::new(CallSpec::read(call, c))),
        })
    }
}

fn read_flags(table: &mut Table, c: &mut Compiler<'_, '_>) -> Vec<(Flag, Expr)> {
    let Some(mut inner) = table.table("flags", c.notes) else { return Vec::new() };
    let mut flags = Vec::new();
    for (name, at, node) in inner.take_all() {
        match word::<Flag>(&name) {
            None => c.notes.wrong(at, format!("there is no flag `{name}`")),
            Some(flag) => flags.extend(c.expr_of_node(&node, at).map(|expr| (flag, expr))),
        }
    }
    flags
}

fn read_identifier(table: &mut Table, c: &mut Compiler<'_, '_>) -> Option<IdentifierSpec> {
    let kind = table.need("type", c.notes);
    if !table.has("value") {
        c.notes.wrong(table.at, "an identifier needs a `value`");
    }
    let value = c.expr(table, "value");
    let trust = c.word(table, "trust");
    Some(IdentifierSpec { kind: kind?.0, value: value?, trust })
}

fn read_identifiers(table: &mut Table, key: &'static str, c: &mut Compiler<'_, '_>) -> Vec<IdentifierSpec> {
    let mut identifiers = Vec::new();
    for mut table in table.tables(key, c.notes) {
        identifiers.extend(read_identifier(&mut table, c));
        table.finish(c.notes);
    }
    identifiers
}

fn read_recipients(table: &mut Table, c: &mut Compiler<'_, '_>) -> Vec<RecipientSpec> {
    let mut recipients = Vec::new();
    for mut table in table.tables("recipients", c.notes) {
        let before = c.names.scopes.len();
        let each = Each::read(&mut table, c);
        let role = match c.word(&mut table, "role") {
            Some(Word::Fixed(role)) => role,
            _ => RecipientRole::To,
        };
        let identifier = read_identifier(&mut table, c);
        recipients.extend(identifier.map(|identifier| RecipientSpec { role, each, identifier }));
        table.finish(c.notes);
        c.names.scopes.truncate(before);
    }
    recipients
}

impl Each {
    /// Reads `each`, whose names are known until the scopes are cut back.
    fn read(table: &mut Table, c: &mut Compiler<'_, '_>) -> Option<Each> {
        let (text, at) = table.text("each", c.notes)?;
        let Some((name, source)) = text.split_once(" in ") else {
            c.notes.wrong(at, "`each` is written `NAME in LIST`");
            return None;
        };
        let list = c.expr_of(source.trim(), at + name.len() + 4)?;
        Some(Each { slot: c.names.add(name.trim()), index: c.names.add("index"), list })
    }
}

fn read_evidence(author: &mut Table, c: &mut Compiler<'_, '_>) -> Vec<(String, Expr, Option<Expr>)> {
    let mut evidence = Vec::new();
    for mut table in author.tables("evidence", c.notes) {
        let method = table.need("method", c.notes);
        let result = c.expr(&mut table, "result");
        let detail = c.expr(&mut table, "detail");
        table.finish(c.notes);
        evidence.extend(method.zip(result).map(|((method, _), result)| (method, result, detail)));
    }
    evidence
}

impl PartSpec {
    fn read(mut table: Table, c: &mut Compiler<'_, '_>) -> Option<PartSpec> {
        let before = c.names.scopes.len();
        let each = Each::read(&mut table, c);
        if !table.has("type") {
            c.notes.wrong(table.at, "a part needs a `type`");
        }
        let kind = c.word(&mut table, "type");
        let part = PartSpec {
            kind: kind.unwrap_or(Word::Fixed(PartType::File)),
            each,
            when: c.expr(&mut table, "when"),
            mediatype: c.expr(&mut table, "mediatype"),
            text: c.expr(&mut table, "text"),
            alt: c.expr(&mut table, "alt"),
            reference: c.expr(&mut table, "ref"),
            url: c.expr(&mut table, "url"),
            filename: c.expr(&mut table, "filename"),
            size: c.expr(&mut table, "size"),
            expires: c.expr(&mut table, "expires"),
            data: read_data(&mut table, c),
        };
        table.finish(c.notes);
        c.names.scopes.truncate(before);
        Some(part)
    }
}

fn read_data(table: &mut Table, c: &mut Compiler<'_, '_>) -> Data {
    let Some(node) = table.take("data") else { return Data::None };
    match &node.value {
        Raw::Text(source) => c.expr_of(source, node.at).map_or(Data::None, Data::Whole),
        _ => {
            let mut holder = Table::new(node.at, "a part", vec![("data".to_owned(), node.at, node)]);
            Data::Fields(c.exprs(&mut holder, "data"))
        }
    }
}

impl CallSpec {
    fn read(mut table: Table, c: &mut Compiler<'_, '_>) -> CallSpec {
        let four = |table: &mut Table, key: &'static str, names: [&'static str; 4], c: &mut Compiler<'_, '_>| {
            let mut inner = table.table(key, c.notes)?;
            let exprs = names.map(|name| c.expr(&mut inner, name));
            inner.finish(c.notes);
            Some(exprs)
        };
        let leg = four(&mut table, "leg", ["id", "state", "to", "duration"], c);
        let recording = four(&mut table, "recording", ["id", "url", "duration", "state"], c);
        let ivr = table.texts("ivr_path", c.notes);
        let call = CallSpec {
            state: c.expr(&mut table, "state"),
            started_at: c.expr(&mut table, "started_at"),
            answered_at: c.expr(&mut table, "answered_at"),
            ended_at: c.expr(&mut table, "ended_at"),
            duration: c.expr(&mut table, "duration"),
            disposition: c.expr(&mut table, "disposition"),
            transcript: c.expr(&mut table, "transcript"),
            ivr: ivr.into_iter().filter_map(|(text, at)| c.expr_of(&text, at)).collect(),
            transfer_of: c.expr(&mut table, "transfer_of"),
            leg,
            recording,
        };
        table.finish(c.notes);
        call
    }
}

impl ReceiptSpec {
    fn read(table: &mut Table, c: &mut Compiler<'_, '_>) -> Option<ReceiptSpec> {
        if !table.has("state") {
            c.notes.wrong(table.at, "a receipt needs a `state`");
        }
        let error = table.table("error", c.notes).map(|mut error| {
            let spec = ErrorSpec {
                code: c.expr(&mut error, "code"),
                title: c.expr(&mut error, "title"),
                permanent: c.expr(&mut error, "permanent"),
            };
            error.finish(c.notes);
            spec
        });
        Some(ReceiptSpec {
            account: c.expr(table, "account"),
            provider_id: c.expr(table, "provider_id"),
            up_to: c.expr(table, "up_to"),
            recipients: read_identifiers(table, "recipient", c),
            state: c.word(table, "state")?,
            at: c.expr(table, "at"),
            reference: c.expr(table, "reference"),
            error,
        })
    }
}
