//! `[[channel]]`: the accounts through which customers reach us.
//!
//! Which options there are is the connector's to say, in its manifest; here they are values with their places, so that
//! whoever knows the manifest can point to the line.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use toml::de::DeValue;

use super::policy::Policy;
use super::problem::{Place, Problem};
use super::reader::{Field, Section};
use super::secret::{self, Origin};
use crate::base::Secret;

/// One account on one channel, served at `/in/<name>`.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// `name`: lower-case letters, digits and `-`; unique; the last part of its route.
    pub name: String,
    /// `connector`: the connector's name.
    pub connector: String,
    /// `options`: what the connector needs to know, by name.
    pub options: BTreeMap<String, ChannelOption>,
    /// `queue`: where its interactions go if no rule says otherwise. Default: the policy's `default_queue`.
    pub queue: Option<String>,
    /// `paused`: whether requests are turned away with the connector's overload answer, so that the provider keeps them.
    /// Default: false.
    pub paused: bool,
    /// Where the table stands.
    pub place: Place,
    /// Where its `connector` stands.
    pub connector_place: Place,
}

/// The value of one option.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelOption {
    /// The value.
    pub value: OptionValue,
    /// How it was written: a list each of its elements.
    pub origins: Vec<Origin>,
    /// Whether it stands literally in a file that everybody on this machine can read.
    pub open_to_all: bool,
    /// Where it stands.
    pub place: Place,
}

/// What an option may be.
#[derive(Debug, Clone, PartialEq)]
pub enum OptionValue {
    /// A string. All are kept as secrets, since only the connector's manifest knows which of them are.
    Text(Secret),
    /// Several strings.
    Texts(Vec<Secret>),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Flag(bool),
}

impl Channel {
    /// Reads every `[[channel]]` of a file's top and adds it to `channels`.
    pub(super) fn read_all(top: &Section<'_>, on: &secret::Place<'_>, policy: &Policy, channels: &mut Vec<Channel>) {
        for section in top.tables("channel") {
            if let Some(channel) = Channel::read(&section, on, policy, channels) {
                channels.push(channel);
            }
            section.finish();
        }
    }

    fn read(section: &Section<'_>, on: &secret::Place<'_>, policy: &Policy, others: &[Channel]) -> Option<Self> {
        let name = section.need("name", NAME_EXPECTED).and_then(|field| {
            let name = read_name(&field)?;
            if let Some(other) = others.iter().find(|other| other.name == name) {
                field.error(format!("a channel named `{name}` stands already at {}", other.place));
                return None;
            }
            Some(name)
        });
        let connector = section.need("connector", "the name of a connector");
        let options = section.table("options");
        let options = options.entries().into_iter().filter_map(|(key, field)| {
            let option = ChannelOption::read(&field, on)?;
            Some((key.to_owned(), option))
        });
        let options = options.collect();
        let queue = section.get("queue").and_then(|field| policy.read_queue(&field));
        let paused = section.get("paused").and_then(|field| field.flag()).unwrap_or(false);
        let connector_place = connector.as_ref().map(Field::place);
        let connector = connector.and_then(|field| field.parse("the name of a connector", checked_name));
        Some(Channel {
            name: name?,
            connector: connector?,
            options,
            queue,
            paused,
            place: section.place(),
            connector_place: connector_place?,
        })
    }

    /// The options as a JSON object, for the connector that checks them. It holds secrets.
    pub fn options_json(&self) -> Map<String, Value> {
        let value = |option: &ChannelOption| match &option.value {
            OptionValue::Text(text) => Value::String(text.expose().to_owned()),
            OptionValue::Texts(texts) => texts.iter().map(|text| Value::String(text.expose().to_owned())).collect(),
            OptionValue::Integer(number) => Value::from(*number),
            OptionValue::Flag(flag) => Value::Bool(*flag),
        };
        self.options.iter().map(|(key, option)| (key.clone(), value(option))).collect()
    }

    /// A problem with the option `name`, placed where it stands, or at the table if it is not there.
    pub fn option_problem(&self, name: &str, reason: impl Into<String>) -> Problem {
        let place = self.options.get(name).map_or(&self.place, |option| &option.place);
        Problem::new(place.clone(), format!("channel.{}.options.{name}", self.name), reason)
    }

    /// The warning due if the option `name`, which the manifest calls a secret, stands where everybody can read it.
    pub fn exposed(&self, name: &str) -> Option<Problem> {
        let option = self.options.get(name).filter(|option| option.open_to_all)?;
        Some(secret::exposed(option.place.clone(), &format!("channel.{}.options.{name}", self.name)))
    }
}

impl ChannelOption {
    fn read(field: &Field<'_>, on: &secret::Place<'_>) -> Option<Self> {
        let (value, origins) = match field.value() {
            DeValue::String(_) => {
                let (text, origin) = on.resolve(field)?;
                (OptionValue::Text(text), vec![origin])
            }
            DeValue::Array(_) => {
                let elements: Vec<Field<'_>> = field.list();
                let read = elements.iter().map(|element| on.resolve(element));
                let (texts, origins): (Vec<_>, Vec<_>) = read.collect::<Option<Vec<_>>>()?.into_iter().unzip();
                (OptionValue::Texts(texts), origins)
            }
            DeValue::Boolean(flag) => (OptionValue::Flag(*flag), vec![Origin::Literal]),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => (OptionValue::Integer(number), vec![Origin::Literal]),
                Err(_) => {
                    field.error("the number does not fit in 64 bits");
                    return None;
                }
            },
            _ => {
                field.wrong_type("a string, a list of strings, a whole number, true or false");
                return None;
            }
        };
        let open_to_all = origins.contains(&Origin::Literal) && field.is_open_to_all();
        Some(ChannelOption { value, origins, open_to_all, place: field.place() })
    }
}

/// What names look like, in words.
pub(super) const NAME_EXPECTED: &str = "a name of lower-case letters, digits and `-`, at most 64 long";

/// A name that may stand in a path.
pub(super) fn read_name(field: &Field<'_>) -> Option<String> {
    field.parse(NAME_EXPECTED, |text| {
        let letters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        (letters && !text.is_empty() && text.len() <= 64 && !text.starts_with('-')).then(|| text.to_owned())
    })
}

fn checked_name(text: &str) -> Option<String> {
    let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    (letters && !text.is_empty() && text.len() <= 64).then(|| text.to_owned())
}
