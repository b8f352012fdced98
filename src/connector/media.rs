//! Media: how a provider's reference becomes the request, or the few requests, that fetch the file.

use std::borrow::Cow;

use super::compile::Compiler;
use super::eval::{Env, Tables, Val};
use super::expr::Expr;
use super::http_call::{CallSpec, HttpCall};
use super::options::Account;
use super::tree::Table;
use crate::base::json::Value;
use crate::base::{Error, Result};
use crate::model::Blob;

/// The slots that a media request can name, in this order.
pub(super) const MEDIA_SCOPES: [&str; 4] = ["media", "previous", "option", "account"];

/// One request on the way to a file.
pub struct MediaCall {
    /// The request.
    pub call: HttpCall,
    /// Whether its response is the file; else it is JSON for the next step.
    pub last: bool,
}

/// One `[[media]]` step.
#[derive(Debug)]
pub(super) struct MediaSpec {
    call: CallSpec,
    /// The hosts that the step may go to: what keeps credentials from a host that a payload made up.
    hosts: Vec<Expr>,
}

impl MediaSpec {
    pub(super) fn read(mut table: Table, c: &mut Compiler<'_, '_>) -> Option<MediaSpec> {
        let hosts = table.texts("hosts", c.notes);
        let hosts: Vec<Expr> = hosts.into_iter().filter_map(|(text, at)| c.template_of(&text, at)).collect();
        if hosts.is_empty() {
            c.notes.wrong(table.at, "a media step needs `hosts`: where its credentials may go");
        }
        let call = CallSpec::read(&mut table, c);
        table.finish(c.notes);
        Some(MediaSpec { call: call?, hosts })
    }
}

/// The request of one step, or nothing if there are no more.
pub(super) fn call(
    specs: &[MediaSpec],
    blob: &Blob,
    account: &Account,
    step: usize,
    previous: Option<&[u8]>,
    tables: &Tables,
) -> Result<Option<MediaCall>> {
    let Some(spec) = specs.get(step) else { return Ok(None) };
    let media =
        Value::Object(vec![("ref".into(), text(blob.provider_ref.as_ref())), ("url".into(), text(blob.url.as_ref()))]);
    let previous = match previous {
        None => Value::Null,
        Some(body) => Value::parse(body).map_err(|error| error.context("answer of the provider about a file"))?,
    };
    let mut env = Env::new(tables, None);
    env.set(0, Some(Val::Node(&media)));
    env.set(1, Some(Val::Node(&previous)));
    env.set(2, Some(Val::Node(account.options.scope(true))));
    env.set(3, account.address.as_deref().map(|address| Val::Text(Cow::Borrowed(address))));
    let call = spec.call.render(&mut env).map_err(|error| error.context("file at the provider"))?;
    let authority = |url: &str| {
        let url = url::Url::parse(url).ok()?;
        Some((url.host_str()?.to_owned(), url.port_or_known_default()?, url.scheme().to_owned()))
    };
    let goes_to = authority(call.url.expose());
    let allowed = spec.hosts.iter().filter_map(|host| host.string(&env)).any(|allowed| match &goes_to {
        None => false,
        Some(target @ (host, port, scheme)) => {
            if allowed.contains("://") {
                authority(&allowed).as_ref() == Some(target)
            } else {
                let within = host.strip_suffix(&allowed).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                within && *port == 443 && scheme == "https"
            }
        }
    });
    if !allowed {
        return Err(Error::invalid("file lies at a host that the connector does not name"));
    }
    Ok(Some(MediaCall { call, last: step + 1 == specs.len() }))
}

fn text(text: Option<&crate::base::Pii<String>>) -> Value<'_> {
    text.map_or(Value::Null, |text| Value::String(Cow::Borrowed(text.expose().as_str())))
}
