//! From a compiled case and a payload to an interaction or a receipt.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::compile::{Word, word};
use super::eval::{Env, Val};
use super::expr::Expr;
use super::spec::{
    CallSpec, Data, Each, ErrorSpec, IdentifierSpec, InteractionSpec, PartSpec, ReceiptSpec, RecipientSpec,
};
use crate::base::{Pii, Timestamp};
use crate::model::interaction::{Lang, Recipient, ReplyTo};
use crate::model::part::FetchState;
use crate::model::{
    Blob, Call, ChannelKind, Direction, Evidence, Identifier, Interaction, InteractionKind, Normalized, Part, PartType,
    Receipt, Trust,
};
use crate::model::{CallLeg, DeliveryError, Recording};

/// What every outcome of one delivery has in common.
pub(super) struct Common<'c> {
    pub(super) connector: &'c str,
    pub(super) channel: ChannelKind,
    pub(super) address: &'c str,
    pub(super) received_at: Timestamp,
}

fn resolve<T: DeserializeOwned + Copy>(field: &Word<T>, env: &Env<'_>) -> Option<T> {
    match field {
        Word::Fixed(fixed) => Some(*fixed),
        Word::By(expr) => word(&expr.string(env)?),
    }
}

fn text(field: Option<&Expr>, env: &Env<'_>) -> Option<String> {
    field?.string(env).filter(|text| !text.is_empty())
}

fn personal(field: Option<&Expr>, env: &Env<'_>) -> Option<Pii<String>> {
    text(field, env).map(Pii::new)
}

fn time(field: Option<&Expr>, env: &Env<'_>) -> Option<Timestamp> {
    fn inner<'v>(expr: &'v Expr, env: &Env<'v>) -> Option<Timestamp> {
        expr.time(env)
    }
    inner(field?, env)
}

fn number(field: Option<&Expr>, env: &Env<'_>) -> Option<u64> {
    text(field, env)?.parse().ok()
}

fn holds(expr: &Expr, env: &Env<'_>) -> bool {
    fn inner<'v>(expr: &'v Expr, env: &Env<'v>) -> bool {
        expr.holds(env)
    }
    inner(expr, env)
}

fn json(expr: &Expr, env: &Env<'_>) -> Option<Json> {
    fn inner<'v>(expr: &'v Expr, env: &Env<'v>) -> Option<Json> {
        Some(expr.eval(env)?.to_serde())
    }
    inner(expr, env)
}

fn object(fields: &[(String, Expr)], env: &Env<'_>) -> Map<String, Json> {
    fields.iter().filter_map(|(name, expr)| Some((name.clone(), json(expr, env)?))).collect()
}

impl IdentifierSpec {
    fn make(&self, env: &Env<'_>) -> Option<Identifier> {
        let value = self.value.string(env).filter(|value| !value.is_empty())?;
        let identifier = Identifier::new(self.kind.as_str(), value);
        Some(match self.trust.as_ref().and_then(|trust| resolve(trust, env)) {
            Some(trust) => identifier.trusted(trust),
            None => identifier,
        })
    }
}

impl InteractionSpec {
    /// The interaction, or why there is none.
    pub(super) fn make<'v>(&'v self, env: &mut Env<'v>, common: &Common<'_>) -> Result<Normalized, String> {
        let channel = self.channel.as_ref().and_then(|kind| resolve(kind, env)).unwrap_or(common.channel);
        let account = text(self.account.as_ref(), env);
        let account = account.as_deref().unwrap_or(common.address);
        let mut ix = Interaction::blank(channel, common.connector, account);
        let provider_id = text(self.provider_id.as_ref(), env).ok_or("item has no id of its own")?;
        ix.channel.provider_id = Some(provider_id);
        ix.kind = resolve(&self.kind, env).unwrap_or(InteractionKind::Event);
        ix.direction = resolve(&self.direction, env).unwrap_or(Direction::Inbound);
        ix.visibility = resolve(&self.visibility, env).unwrap_or(ix.visibility);
        ix.thread_id = personal(self.thread_id.as_ref(), env);
        ix.reply_to =
            text(self.reply_to.as_ref(), env).map(|id| ReplyTo { provider_id: Some(id), ..ReplyTo::default() });
        ix.sent_at = time(self.sent_at.as_ref(), env);
        ix.received_at = Some(common.received_at);
        ix.subject = personal(self.subject.as_ref(), env);
        ix.lang = text(self.lang.as_ref(), env).map(|tag| Lang { tag, confidence: None });
        self.author(&mut ix, env);
        for recipient in &self.recipients {
            recipient.make(env, &mut ix.recipients);
        }
        for part in &self.parts {
            part.make(env, &mut ix.parts);
        }
        ix.text = Pii::new(text(self.text.as_ref(), env).unwrap_or_else(|| describe(&ix)));
        ix.flags = self.flags.iter().filter(|(_, expr)| holds(expr, env)).map(|(flag, _)| *flag).collect();
        let context = object(&self.context, env);
        ix.context = (!context.is_empty()).then(|| Pii::new(context));
        ix.call = self.call.as_ref().map(|call| call.make(env));
        ix.reply_until = time(self.reply_until.as_ref(), env).or_else(|| {
            let window = self.reply_window.filter(|_| ix.direction == Direction::Inbound)?;
            Some(ix.sent_at.unwrap_or(common.received_at).plus_millis(window))
        });
        Ok(Normalized { interaction: ix, revision: text(self.revision.as_ref(), env).unwrap_or_default() })
    }

    fn author(&self, ix: &mut Interaction, env: &Env<'_>) {
        let author = &mut ix.author;
        author.role = resolve(&self.role, env).unwrap_or(author.role);
        author.display_name = personal(self.name.as_ref(), env);
        let mut identifiers = self.identifiers.iter().filter_map(|spec| spec.make(env));
        author.identifier = identifiers.next();
        author.also = identifiers.collect();
        author.trust = match &author.identifier {
            Some(identifier) => identifier.trust,
            None => self.trust.as_ref().and_then(|trust| resolve(trust, env)),
        }
        .unwrap_or(Trust::Anonymous);
        author.evidence = self
            .evidence
            .iter()
            .filter_map(|(method, result, detail)| {
                let result = result.string(env)?;
                let detail = personal(detail.as_ref(), env);
                Some(Evidence { method: method.clone(), result, detail, at: Some(ix.received_at?) })
            })
            .collect();
    }
}

/// Words for an interaction that carries no text: its captions, else what its parts are.
pub(super) fn describe(ix: &Interaction) -> String {
    let said: Vec<&str> =
        ix.parts.iter().filter_map(|part| part.text.as_ref().map(|text| text.expose().as_str())).collect();
    if !said.is_empty() {
        return said.join("\n");
    }
    let parts: Vec<String> = ix.parts.iter().filter_map(|part| name_of(&part.kind)).map(|n| format!("[{n}]")).collect();
    if !parts.is_empty() {
        return parts.join(" ");
    }
    format!("[{}]", name_of(&ix.kind).unwrap_or_else(|| "message".to_owned()))
}

/// The serde name of a word.
fn name_of<T: serde::Serialize>(word: &T) -> Option<String> {
    serde_json::to_value(word).ok()?.as_str().map(str::to_owned)
}

impl Each {
    /// Calls `at` for every element of the list.
    fn visit<'v>(&'v self, env: &mut Env<'v>, mut at: impl FnMut(&Env<'v>)) {
        let elements = self.list.eval(env).and_then(|list| list.elements()).unwrap_or_default();
        for (place, element) in elements.into_iter().enumerate() {
            env.set(self.slot, Some(element));
            env.set(self.index, Some(Val::Text(place.to_string().into())));
            at(env);
        }
    }
}

/// The most recipients of one interaction: no provider lets anybody address more.
const MOST_RECIPIENTS: usize = 256;

impl RecipientSpec {
    fn make<'v>(&'v self, env: &mut Env<'v>, recipients: &mut Vec<Recipient>) {
        let mut add = |env: &Env<'v>| {
            if recipients.len() < MOST_RECIPIENTS
                && let Some(identifier) = self.identifier.make(env)
            {
                let recipient = Recipient { role: self.role, identifier };
                // Who is named twice is one recipient.
                if !recipients.contains(&recipient) {
                    recipients.push(recipient);
                }
            }
        };
        match &self.each {
            None => add(env),
            Some(each) => each.visit(env, add),
        }
    }
}

impl PartSpec {
    fn make<'v>(&'v self, env: &mut Env<'v>, parts: &mut Vec<Part>) {
        match &self.each {
            None => parts.extend(self.one(env)),
            Some(each) => each.visit(env, |env| parts.extend(self.one(env))),
        }
    }

    fn one(&self, env: &Env<'_>) -> Option<Part> {
        if self.when.as_ref().is_some_and(|when| !holds(when, env)) {
            return None;
        }
        let kind = resolve(&self.kind, env).unwrap_or(PartType::File);
        let mut part = Part::new(kind);
        part.mediatype = text(self.mediatype.as_ref(), env);
        part.text = personal(self.text.as_ref(), env);
        part.alt = personal(self.alt.as_ref(), env);
        let reference = personal(self.reference.as_ref(), env);
        let url = personal(self.url.as_ref(), env);
        if reference.is_some() || url.is_some() {
            part.blob = Some(Blob {
                size: number(self.size.as_ref(), env),
                filename: personal(self.filename.as_ref(), env),
                provider_ref: reference,
                url,
                expires_at: time(self.expires.as_ref(), env),
                fetch: Some(FetchState::Pending),
                ..Blob::default()
            });
        }
        part.data = match &self.data {
            Data::None => None,
            Data::Whole(expr) => match json(expr, env) {
                Some(Json::Object(map)) => Some(Pii::new(map)),
                Some(other) => Some(Pii::new(Map::from_iter([("value".to_owned(), other)]))),
                None => None,
            },
            Data::Fields(fields) => Some(object(fields, env)).filter(|map| !map.is_empty()).map(Pii::new),
        };
        Some(part)
    }
}

impl CallSpec {
    fn make(&self, env: &Env<'_>) -> Call {
        let leg = self.leg.as_ref().and_then(|[id, state, to, duration]| {
            Some(CallLeg {
                provider_id: text(id.as_ref(), env)?,
                state: text(state.as_ref(), env),
                to: personal(to.as_ref(), env),
                duration_seconds: number(duration.as_ref(), env),
            })
        });
        let recording = self.recording.as_ref().and_then(|[id, url, duration, state]| {
            Some(Recording {
                provider_id: text(id.as_ref(), env)?,
                url: personal(url.as_ref(), env),
                duration_seconds: number(duration.as_ref(), env),
                state: text(state.as_ref(), env),
            })
        });
        Call {
            state: text(self.state.as_ref(), env),
            legs: leg.into_iter().collect(),
            started_at: time(self.started_at.as_ref(), env),
            answered_at: time(self.answered_at.as_ref(), env),
            ended_at: time(self.ended_at.as_ref(), env),
            duration_seconds: number(self.duration.as_ref(), env),
            disposition: text(self.disposition.as_ref(), env),
            recording,
            transcript: personal(self.transcript.as_ref(), env),
            ivr_path: self.ivr.iter().filter_map(|expr| personal(Some(expr), env)).collect(),
            transfer_of: text(self.transfer_of.as_ref(), env),
            answer: None,
            answered_by: None,
        }
    }
}

impl ReceiptSpec {
    /// The receipt, or why there is none.
    pub(super) fn make(&self, env: &Env<'_>, common: &Common<'_>) -> Result<Receipt, String> {
        let receipt = Receipt {
            connector: common.connector.to_owned(),
            account: text(self.account.as_ref(), env).unwrap_or_else(|| common.address.to_owned()),
            provider_id: text(self.provider_id.as_ref(), env),
            sent: None,
            up_to: time(self.up_to.as_ref(), env),
            recipient: self.recipients.iter().find_map(|spec| spec.make(env)),
            state: resolve(&self.state, env).ok_or("receipt has no state that is known")?,
            at: time(self.at.as_ref(), env),
            error: self.error.as_ref().and_then(|error| error.make(env)),
            reference: personal(self.reference.as_ref(), env),
        };
        if receipt.provider_id.is_none() && receipt.up_to.is_none() {
            return Err("receipt names neither a message nor a time".to_owned());
        }
        Ok(receipt)
    }
}

impl ErrorSpec {
    fn make(&self, env: &Env<'_>) -> Option<DeliveryError> {
        let code = text(self.code.as_ref(), env);
        let title = text(self.title.as_ref(), env);
        if code.is_none() && title.is_none() {
            return None;
        }
        let permanent = self.permanent.as_ref().is_none_or(|expr| holds(expr, env));
        Some(DeliveryError { code, title: title.unwrap_or_else(|| "no reason given".to_owned()), permanent })
    }
}
