//! Options: what an operator fills in to make an account of a connector, checked against what the manifest declares.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use super::diagnostic::nearest;
use super::tree::{Notes, Table};
use crate::base::Secret;
use crate::base::json::Value;

/// One option that a manifest declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionSpec {
    /// Its name.
    pub name: String,
    /// What it is and where the provider shows it.
    pub help: String,
    /// Whether it is a credential. A secret option may be a list: the first is used towards the provider, all are
    /// accepted from it, so that a key can be rotated without a gap.
    pub secret: bool,
    /// Whether an account cannot do without it.
    pub required: bool,
    /// Its value if nothing is said.
    pub default: Option<String>,
    /// What its value must look like.
    pub pattern: Option<Pattern>,
    /// The words that it may be; any, if there are none.
    pub words: Vec<String>,
    /// Whether it may hold several values. Expressions see them as lines.
    pub list: bool,
}

/// A shape that an option's value must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Digits only.
    Digits,
    /// A URL with `https` (or `http`, for tests on one machine), without a slash at its end.
    Url,
    /// A telephone number in E.164 with its plus sign.
    E164,
    /// `A-Z`, `a-z`, `0-9`, `_` and `-`, at most 256 of them.
    Token,
    /// The name or address of a host, without a scheme or port.
    Host,
    /// A port, 1 to 65535.
    Port,
    /// A mail address.
    Mail,
}

impl Pattern {
    const NAMES: [(&'static str, Pattern); 7] = [
        ("digits", Pattern::Digits),
        ("url", Pattern::Url),
        ("e164", Pattern::E164),
        ("token", Pattern::Token),
        ("host", Pattern::Host),
        ("port", Pattern::Port),
        ("mail", Pattern::Mail),
    ];

    fn fits(self, value: &str) -> bool {
        match self {
            Pattern::Digits => !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()),
            Pattern::Url => {
                url::Url::parse(value).is_ok_and(|url| matches!(url.scheme(), "https" | "http"))
                    && !value.ends_with('/')
            }
            Pattern::E164 => super::convert::e164(value, None).as_deref() == Some(value),
            Pattern::Token => {
                (1..=256).contains(&value.len())
                    && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
            }
            Pattern::Host => url::Host::parse(value).is_ok(),
            Pattern::Port => value.parse::<u16>().is_ok_and(|port| port > 0),
            Pattern::Mail => value.rsplit_once('@').is_some_and(|(local, domain)| {
                let plain =
                    |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control() || "<>,;".contains(c));
                !local.is_empty() && plain(local) && url::Host::parse(domain).is_ok()
            }),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Pattern::Digits => "digits only",
            Pattern::Url => "an http or https URL without a slash at its end",
            Pattern::E164 => "a telephone number in E.164 such as +14155550100",
            Pattern::Token => "1 to 256 of A-Z, a-z, 0-9, _ and -",
            Pattern::Host => "the name of a host such as mail.example.org, without a port",
            Pattern::Port => "a port from 1 to 65535",
            Pattern::Mail => "a mail address such as support@example.org",
        }
    }
}

/// Reads `[options.*]`.
pub(super) fn read_specs(table: Option<Table>, notes: &mut Notes<'_>) -> Vec<OptionSpec> {
    let mut specs = Vec::new();
    let Some(mut table) = table else { return specs };
    for (name, at, node) in table.take_all() {
        let Some(mut option) = Table::of(node, format!("`[options.{name}]`"), notes) else { continue };
        option.at = at;
        let help = option.need("help", notes).map(|(help, _)| help).unwrap_or_default();
        let secret = option.truth("secret", notes).unwrap_or(false);
        let required = option.truth("required", notes).unwrap_or(false);
        let default = option.text("default", notes).map(|(text, _)| text);
        let pattern = option.text("pattern", notes).and_then(|(wanted, at)| {
            let found = Pattern::NAMES.iter().find(|(known, _)| *known == wanted).map(|(_, pattern)| *pattern);
            if found.is_none() {
                let known = Pattern::NAMES.iter().map(|(known, _)| *known);
                notes.wrong_name(at, format!("unknown pattern `{wanted}`"), &wanted, known);
            }
            found
        });
        let words: Vec<String> = option.texts("words", notes).into_iter().map(|(word, _)| word).collect();
        if let Some(wrong) = default.as_ref().filter(|default| !words.is_empty() && !words.contains(default)) {
            notes.wrong(at, format!("the default `{wrong}` of option `{name}` is none of its words"));
        }
        let list = option.truth("list", notes).unwrap_or(false);
        if required && default.is_some() {
            notes.wrong(at, format!("option `{name}` is required, so its default is never used"));
        }
        option.finish(notes);
        specs.push(OptionSpec { name, help, secret, required, default, pattern, words, list });
    }
    specs
}

/// The options of one account, checked against the manifest.
#[derive(Clone)]
pub struct Options {
    secrets: Vec<(String, Vec<Secret>)>,
    /// The public options, as expressions see them.
    public: Value<'static>,
    /// All options, the first of each: only for what is sent to the provider.
    all: Value<'static>,
}

impl Options {
    /// Every value of an option: several for a secret that is being rotated.
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        match self.secrets.iter().find(|(known, _)| known == name) {
            Some((_, values)) => values.iter().map(Secret::expose).collect(),
            None => self.public.get(name).and_then(Value::as_str).into_iter().collect(),
        }
    }

    /// One option that is no secret; nothing if it is not set.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.public.get(name).and_then(Value::as_str)
    }

    /// Every value of an option that may hold several.
    pub fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        self.text(name).into_iter().flat_map(str::lines)
    }

    /// The value of a secret that is used towards the provider.
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.iter().find(|(known, _)| known == name).and_then(|(_, values)| values.first())
    }

    /// The public options by name, for showing.
    pub fn public(&self) -> Vec<(&str, &str)> {
        match &self.public {
            Value::Object(members) => {
                members.iter().filter_map(|(name, value)| Some((name.as_ref(), value.as_str()?))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The names of the secret options that are set.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|(name, _)| name.as_str())
    }

    pub(super) fn scope(&self, secrets: bool) -> &Value<'static> {
        if secrets { &self.all } else { &self.public }
    }
}

/// One configured account of a connector.
#[derive(Clone)]
pub struct Account {
    /// The name of the configured channel.
    pub channel: String,
    /// Its options.
    pub options: Options,
    /// The country (ISO 3166-1 alpha-2) of telephone numbers written without their country code.
    pub default_country: Option<String>,
    /// Our address on the channel as the options tell it, where the provider's requests do not.
    pub address: Option<String>,
}

impl Account {
    /// What the account is known by where a message names none of our addresses: its own, or else its channel's name.
    pub fn known_as(&self) -> &str {
        self.address.as_deref().unwrap_or(&self.channel)
    }

    /// The subject of mails that a program of ours answers with.
    pub fn automatic_subject(&self) -> String {
        let said = self.options.text("automatic_subject").map(str::to_owned);
        said.unwrap_or_else(|| format!("Your message to {}", self.known_as()))
    }

    /// Whether a mail address is one of this account's: its own, what answers come to, or a further one; whatever stands
    /// behind a `+`, and however it is capitalized.
    pub fn has_mail_address(&self, address: &str) -> bool {
        let bare = |address: &str| {
            let (local, domain) = address.trim().rsplit_once('@').unwrap_or((address, ""));
            let local = local.split_once('+').map_or(local, |(local, _)| local);
            format!("{local}@{domain}").to_lowercase()
        };
        let options = &self.options;
        let own = self.address.as_deref().into_iter().chain(options.text("address")).chain(options.text("reply_base"));
        let address = bare(address);
        own.chain(options.list("aliases")).any(|own| bare(own) == address)
    }
}

/// A mistake in the options of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionFault {
    /// The option's name, as the operator wrote it or as the manifest declares it.
    pub option: String,
    /// What is wrong, with the nearest valid name. Never holds a value.
    pub reason: String,
}

/// Checks what an operator wrote; every mistake is named, with the nearest valid name.
pub(super) fn check(specs: &[OptionSpec], given: &Map<String, Json>) -> Result<Options, Vec<String>> {
    read(specs, given).map_err(|faults| faults.into_iter().map(|fault| fault.reason).collect())
}

/// As [`check`], with the option that each mistake is about.
pub(super) fn read(specs: &[OptionSpec], given: &Map<String, Json>) -> Result<Options, Vec<OptionFault>> {
    let (options, wrong) = fill(specs, given);
    if wrong.is_empty() { Ok(options) } else { Err(wrong) }
}

/// The options as far as they are right, and what is wrong with the rest.
pub(super) fn fill(specs: &[OptionSpec], given: &Map<String, Json>) -> (Options, Vec<OptionFault>) {
    let mut wrong = Vec::new();
    for name in given.keys().filter(|name| !specs.iter().any(|spec| spec.name == **name)) {
        let hint = nearest(name, specs.iter().map(|spec| spec.name.as_str()));
        let reason = format!("unknown option `{name}`{}", hint.map(|hint| format!("; {hint}")).unwrap_or_default());
        wrong.push(OptionFault { option: name.clone(), reason });
    }
    let mut options = Options { secrets: Vec::new(), public: Value::Null, all: Value::Null };
    let (mut public, mut all) = (Vec::new(), Vec::new());
    for spec in specs {
        let values = match values_of(spec, given.get(&spec.name)) {
            Ok(values) => values,
            Err(reason) => {
                wrong.push(OptionFault { option: spec.name.clone(), reason });
                continue;
            }
        };
        let Some(first) = values.first() else { continue };
        let seen = if spec.list { values.join("\n") } else { first.clone() };
        let member = || (Cow::Owned(spec.name.clone()), Value::String(Cow::Owned(seen.clone())));
        all.push(member());
        if spec.secret {
            options.secrets.push((spec.name.clone(), values.iter().map(Secret::new).collect()));
        } else {
            public.push(member());
        }
    }
    options.public = Value::Object(public);
    options.all = Value::Object(all);
    (options, wrong)
}

fn values_of(spec: &OptionSpec, given: Option<&Json>) -> Result<Vec<String>, String> {
    let name = &spec.name;
    let scalar = |value: &Json| match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(truth) => Some(truth.to_string()),
        _ => None,
    };
    let values = match given {
        None => spec.default.iter().cloned().collect(),
        Some(Json::String(lines)) if spec.list => lines.lines().map(str::to_owned).collect(),
        Some(Json::Array(items)) if spec.secret || spec.list => items
            .iter()
            .map(scalar)
            .collect::<Option<Vec<_>>>()
            .ok_or(format!("option `{name}` must hold texts only"))?,
        Some(value) => vec![scalar(value).ok_or(format!("option `{name}` must be a single text"))?],
    };
    if values.iter().any(String::is_empty) {
        return Err(format!("option `{name}` is empty"));
    }
    if values.is_empty() && spec.required {
        return Err(format!("option `{name}` is missing: {}", spec.help));
    }
    if let Some(pattern) = spec.pattern
        && values.iter().any(|value| !pattern.fits(value))
    {
        return Err(format!("option `{name}` must be {}", pattern.words()));
    }
    if !spec.words.is_empty() && values.iter().any(|value| !spec.words.contains(value)) {
        return Err(format!("option `{name}` must be one of: {}", spec.words.join(", ")));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(name: &str, secret: bool, required: bool) -> OptionSpec {
        let help = "where it is found".to_owned();
        OptionSpec {
            name: name.to_owned(),
            help,
            secret,
            required,
            default: None,
            pattern: None,
            words: Vec::new(),
            list: false,
        }
    }

    fn said(specs: &[OptionSpec], given: Json) -> Vec<String> {
        check(specs, given.as_object().unwrap()).err().unwrap_or_default()
    }

    #[test]
    fn names_every_mistake() {
        let specs = [spec("app_secret", true, true), spec("verify_token", true, false)];
        assert_eq!(
            said(&specs, json!({"app_secrt": "x"})),
            [
                "unknown option `app_secrt`; did you mean `app_secret`?",
                "option `app_secret` is missing: where it is found"
            ]
        );
        assert_eq!(said(&specs, json!({"app_secret": ""})), ["option `app_secret` is empty"]);
        let digits = OptionSpec { pattern: Some(Pattern::Digits), ..spec("id", false, true) };
        assert_eq!(said(&[digits], json!({"id": "12a"})), ["option `id` must be digits only"]);
    }

    #[test]
    fn words_and_shapes_are_checked_and_lists_are_taken_whole() {
        let tls = OptionSpec { words: vec!["implicit".into(), "starttls".into()], ..spec("tls", false, false) };
        let folders = OptionSpec { list: true, ..spec("folders", false, false) };
        let of = |name: &str, pattern| OptionSpec { pattern: Some(pattern), ..spec(name, false, false) };
        let specs = [tls, folders, of("host", Pattern::Host), of("port", Pattern::Port), of("from", Pattern::Mail)];
        assert_eq!(said(&specs, json!({"tls": "none"})), ["option `tls` must be one of: implicit, starttls"]);
        for (name, value) in [("host", "a b"), ("host", "https://a"), ("port", "0"), ("from", "a b@c"), ("from", "a@")]
        {
            assert_eq!(said(&specs, json!({name: value})).len(), 1, "{name} = {value}");
        }
        let given = json!({"tls": "implicit", "folders": ["INBOX", "Sales, north"], "host": "127.0.0.1", "port": 993});
        let options = check(&specs, given.as_object().unwrap()).ok().unwrap();
        assert_eq!(options.list("folders").collect::<Vec<_>>(), ["INBOX", "Sales, north"]);
        assert_eq!((options.text("port"), options.text("from")), (Some("993"), None));
        // As they are kept, they are read again.
        let kept = options.public().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        assert_eq!(check(&specs, &kept).ok().unwrap().list("folders").count(), 2);
    }

    #[test]
    fn a_secret_in_rotation_has_two_values_and_stays_out_of_the_public_scope() {
        let specs = [spec("key", true, true), spec("id", false, true)];
        let options = check(&specs, json!({"key": ["new", "old"], "id": 7}).as_object().unwrap()).ok().unwrap();
        assert_eq!(options.values("key"), ["new", "old"]);
        assert!(options.scope(false).get("key").is_none());
        assert_eq!(options.scope(true).get("key").unwrap().as_str(), Some("new"));
        assert_eq!(options.public(), [("id", "7")]);
    }
}
