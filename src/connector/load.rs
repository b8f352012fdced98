//! Reading `connector.toml`: every table once, every mistake noted, nothing unknown let through.

use std::cell::RefCell;
use std::sync::Arc;

use super::answer::{AnswerSpec, Challenge};
use super::capabilities::Capabilities;
use super::compile::{Compiler, word};
use super::convert::duration_millis;
use super::diagnostic::{Diagnostic, nearest};
use super::eval::Tables;
use super::expr::Names;
use super::mail_in::MailSpec;
use super::mapping::Mapping;
use super::media::{MEDIA_SCOPES, MediaSpec};
use super::options::{self, OptionSpec};
use super::request::REQUEST_SCOPES;
use super::send::{RESPONSE_SCOPES, ResponseSpec, SEND_SCOPES, SendSpec};
use super::tree::{Notes, Raw, Table};
use super::verify::Scheme;
use super::{Ack, BuildMap, Connector, Folder, Order, Reconcile, Transport, mailbox, submission};
use crate::model::ChannelKind;

/// The file that makes a folder a connector.
const MANIFEST: &str = "connector.toml";

/// Reads and checks a folder.
pub(super) fn load(folder: Arc<Folder>, map: Option<&BuildMap>) -> Result<Connector, Vec<Diagnostic>> {
    let file = format!("{}/{MANIFEST}", folder.name);
    let source = match folder.text(MANIFEST) {
        None => return Err(vec![Diagnostic::of_file(file, "there is no such file")]),
        Some(Err(diagnostic)) => return Err(vec![diagnostic]),
        Some(Ok(source)) => source,
    };
    let mut notes = Notes::new(file, source);
    let connector = notes.parse().and_then(|table| read(table, &folder, map, &mut notes));
    match connector {
        Some(connector) if notes.found.is_empty() => Ok(connector),
        _ => Err(notes.found),
    }
}

/// What `[connector]` says.
struct Identity {
    version: String,
    summary: String,
    docs: String,
    transport: Transport,
    channel: ChannelKind,
    keep_headers: Vec<String>,
    address: Option<(String, usize)>,
    delivery_key: Option<(String, usize)>,
    json_in: Option<String>,
    /// Whether its answers leave by SMTP.
    by_smtp: bool,
}

fn read(mut table: Table, folder: &Arc<Folder>, map: Option<&BuildMap>, notes: &mut Notes<'_>) -> Option<Connector> {
    let identity = read_identity(&mut table, folder, notes);
    let mut specs = options::read_specs(table.table("options", notes), notes);
    let by_smtp = identity.as_ref().is_some_and(|identity| identity.by_smtp);
    if by_smtp {
        specs.extend(submission::options());
    }
    let option_names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    let transport = identity.as_ref().map_or(Transport::Webhook, |identity| identity.transport);
    mailbox::check_options(transport, &specs, notes);
    let verify = table.tables("verify", notes);
    let ack = read_ack(table.table("ack", notes), transport, notes);
    let tables = read_tables(table.table("tables", notes), notes);
    let capabilities = match table.table("capabilities", notes) {
        None if by_smtp => Capabilities::of_mail(),
        declared => Capabilities::read(declared, notes),
    };
    let challenges = table.tables("challenge", notes);
    let answer = table.table("answer", notes);
    let mail = table.table("mail", notes);
    let payload = table.table("payload", notes);
    let sends = table.tables("send", notes);
    let response = table.table("response", notes);
    let media = table.tables("media", notes);

    let mut c = Compiler { names: names(&REQUEST_SCOPES, &specs, &tables, false), notes };
    c.names.scripts = Some(RefCell::default());
    let mapping = match transport {
        Transport::Webhook => Mapping::read(payload, &mut table, &mut c),
        Transport::Mail => Mapping::default(),
    };
    let called = c.names.scripts.take().map(RefCell::into_inner).unwrap_or_default();
    let verify = read_schemes(verify, transport, identity.as_ref(), &option_names, &mut c);
    let mail = mail.and_then(|table| MailSpec::read(table, &mut c));
    let challenges = challenges.into_iter().filter_map(|table| Challenge::read(table, &mut c)).collect();
    let answer = answer.and_then(|table| AnswerSpec::read(table, &mut c));
    let delivery_key = identity.as_ref().and_then(|id| id.delivery_key.clone());
    let delivery_key = delivery_key.and_then(|(text, at)| c.expr_of(&text, at));
    c.names = names(&["option"], &specs, &tables, true);
    let address = identity.as_ref().and_then(|id| id.address.clone());
    let address = address.and_then(|(text, at)| c.expr_of(&text, at));
    c.names = names(&SEND_SCOPES, &specs, &tables, true);
    let sends = sends.into_iter().filter_map(|table| SendSpec::read(table, &mut c)).collect();
    c.names = names(&RESPONSE_SCOPES, &specs, &tables, false);
    let response = response.map(|table| ResponseSpec::read(table, &mut c)).unwrap_or_default();
    c.names = names(&MEDIA_SCOPES, &specs, &tables, true);
    let media = media.into_iter().filter_map(|table| MediaSpec::read(table, &mut c)).collect();
    table.finish(notes);

    let script = read_script(
        folder,
        map,
        mapping.functions().into_iter().chain(called.iter().map(String::as_str)).collect(),
        notes,
    );
    let identity = identity?;
    Some(Connector {
        name: folder.name.clone(),
        version: identity.version,
        summary: identity.summary,
        docs: identity.docs,
        transport: identity.transport,
        channel: identity.channel,
        options: specs,
        address,
        verify,
        challenges,
        delivery_key,
        ack,
        keep_headers: identity.keep_headers,
        answer,
        json_in: identity.json_in,
        mapping,
        mail,
        script,
        capabilities,
        by_smtp,
        sends,
        response,
        media,
        tables,
        folder: Arc::clone(folder),
    })
}

fn read_schemes(
    tables: Vec<Table>,
    transport: Transport,
    identity: Option<&Identity>,
    options: &[String],
    c: &mut Compiler<'_, '_>,
) -> Vec<Scheme> {
    let key = identity.and_then(|identity| identity.delivery_key.as_ref()).map(|(text, _)| text.as_str());
    let schemes: Vec<Scheme> = tables.into_iter().filter_map(|table| Scheme::read(table, options, key, c)).collect();
    if schemes.is_empty() && transport == Transport::Webhook {
        c.notes.wrong(0, "there is no `[[verify]]`; a connector that checks nothing must say `kind = \"none\"`");
    }
    schemes
}

fn names(scopes: &[&str], specs: &[OptionSpec], tables: &Tables, secrets: bool) -> Names {
    Names {
        scopes: scopes.iter().map(|name| (*name).to_owned()).collect(),
        options: specs.iter().map(|spec| (spec.name.clone(), spec.secret)).collect(),
        secrets,
        tables: tables.keys().cloned().collect(),
        scripts: None,
    }
}

fn read_identity(table: &mut Table, folder: &Folder, notes: &mut Notes<'_>) -> Option<Identity> {
    let Some(mut inner) = table.table("connector", notes) else {
        notes.wrong(0, "there is no `[connector]`");
        return None;
    };
    if let Some((name, at)) = inner.need("name", notes)
        && name != folder.name
    {
        notes.wrong(at, format!("the connector is named `{name}` but lies in the folder `{}`", folder.name));
    }
    let transport = inner.need("transport", notes).and_then(|(text, at)| {
        let transport = word(&text);
        if transport.is_none() {
            notes.wrong_name(at, format!("unknown transport `{text}`"), &text, ["webhook", "mail"]);
        }
        transport
    });
    let channel = inner.need("channel", notes).and_then(|(text, at)| {
        let kind = word(&text);
        if kind.is_none() {
            notes.wrong(at, format!("there is no kind of channel `{text}`"));
        }
        kind
    });
    let mut keep: Vec<String> =
        inner.texts("keep_headers", notes).into_iter().map(|(text, _)| text.to_ascii_lowercase()).collect();
    // Without it the body could not be read again.
    if !keep.iter().any(|name| name == "content-type") {
        keep.push("content-type".to_owned());
    }
    let identity = Identity {
        version: inner.need("version", notes).map(|(text, _)| text).unwrap_or_default(),
        summary: inner.need("summary", notes).map(|(text, _)| text).unwrap_or_default(),
        docs: inner.need("docs", notes).map(|(text, _)| text).unwrap_or_default(),
        transport: transport.unwrap_or(Transport::Webhook),
        channel: channel.unwrap_or(ChannelKind::Chat),
        keep_headers: keep,
        address: inner.text("address", notes),
        delivery_key: inner.text("delivery_key", notes),
        json_in: inner.text("json_in", notes).map(|(text, _)| text),
        by_smtp: inner.text("answers", notes).is_some_and(|(text, at)| {
            if text != "smtp" {
                notes.wrong_name(at, format!("answers cannot leave by `{text}`"), &text, ["smtp"]);
            }
            text == "smtp"
        }),
    };
    inner.finish(notes);
    Some(identity)
}

fn read_ack(table: Option<Table>, transport: Transport, notes: &mut Notes<'_>) -> Ack {
    let mut ack = Ack {
        budget_ms: 5000,
        status: 200,
        content_type: "text/plain".to_owned(),
        body: String::new(),
        overload_status: 503,
        retry_window_ms: 0,
        reconcile: Reconcile::None,
        order: Order::None,
    };
    let Some(mut table) = table else {
        if transport == Transport::Webhook {
            notes.wrong(0, "there is no `[ack]`: what the provider expects and how long it tries again");
        }
        return ack;
    };
    let status = |number: Option<i64>, or: u16| number.and_then(|n| u16::try_from(n).ok()).unwrap_or(or);
    ack.budget_ms = table.integer("budget_ms", 100, 60_000, notes).map_or(ack.budget_ms, i64::unsigned_abs);
    ack.status = status(table.integer("status", 200, 299, notes), 200);
    ack.overload_status = status(table.integer("overload_status", 400, 599, notes), 503);
    ack.content_type = table.text("content_type", notes).map_or(ack.content_type, |(text, _)| text);
    ack.body = table.text("body", notes).map(|(text, _)| text).unwrap_or_default();
    if let Some((text, at)) = table.text("retry_window", notes) {
        match duration_millis(&text) {
            Some(millis) => ack.retry_window_ms = millis,
            None => notes.wrong(at, format!("`{text}` is not a duration such as `24h`")),
        }
    }
    if let Some((text, at)) = table.text("reconcile", notes) {
        match word(&text) {
            Some(reconcile) => ack.reconcile = reconcile,
            None => notes.wrong_name(at, format!("cannot reconcile by `{text}`"), &text, ["none", "poll", "dlq"]),
        }
    }
    if let Some((text, at)) = table.text("order", notes) {
        match word(&text) {
            Some(order) => ack.order = order,
            None => notes.wrong_name(at, format!("unknown order `{text}`"), &text, ["none", "per_conversation"]),
        }
    }
    table.finish(notes);
    ack
}

fn read_tables(table: Option<Table>, notes: &mut Notes<'_>) -> Tables {
    let mut tables = Tables::new();
    let Some(mut table) = table else { return tables };
    for (name, _, node) in table.take_all() {
        let Some(mut inner) = Table::of(node, format!("`[tables.{name}]`"), notes) else { continue };
        let entries = tables.entry(name).or_default();
        for (key, at, node) in inner.take_all() {
            match node.value {
                Raw::Text(text) => {
                    entries.insert(key, text);
                }
                _ => notes.wrong(at, format!("`{key}` must be a string, not {}", node.kind())),
            }
        }
    }
    tables
}

/// Compiles `map.lua`. A script that no case calls is a mistake, and so is a call without a script.
fn read_script(
    folder: &Folder,
    map: Option<&BuildMap>,
    called: Vec<&str>,
    notes: &mut Notes<'_>,
) -> Option<Box<dyn super::MapEngine>> {
    let file = format!("{}/map.lua", folder.name);
    let source = match folder.text("map.lua") {
        None => {
            if let Some(function) = called.first() {
                notes.found.push(Diagnostic::of_file(
                    file,
                    format!("there is no such file, but the mapping calls `{function}`"),
                ));
            }
            return None;
        }
        Some(Err(diagnostic)) => {
            notes.found.push(diagnostic);
            return None;
        }
        Some(Ok(source)) => source,
    };
    if called.is_empty() {
        notes.found.push(Diagnostic::of_file(file, "nothing in the mapping calls a function of it"));
        return None;
    }
    let Some(build) = map else {
        notes.found.push(Diagnostic::of_file(file, "scripts are not available here"));
        return None;
    };
    match build(&file, source) {
        Ok(engine) => {
            for function in called.iter().filter(|name| !engine.functions().iter().any(|known| known == *name)) {
                let suggestion = nearest(function, engine.functions().iter().map(String::as_str));
                let missing = Diagnostic::of_file(file.clone(), format!("there is no function `{function}`"));
                notes.found.push(Diagnostic { suggestion, ..missing });
            }
            Some(engine)
        }
        Err(found) => {
            notes.found.extend(found);
            None
        }
    }
}
