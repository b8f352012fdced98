//! `[policy]` and `[retention]`: what decisions depend on besides the scripts, and how long things are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Number, Value};
use toml::de::DeValue;

use super::reader::{Field, Section, quoted, shown};

/// What decisions depend on besides the scripts.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// `queues`: the queues that rules may name. Default: `["general"]`.
    pub queues: Vec<String>,
    /// `default_queue`: where an interaction goes for which no rule named a queue. Default: the first of `queues`.
    pub default_queue: String,
    /// `templates`: texts that rules send by name; `{name}` stands for a value. Default: none.
    pub templates: BTreeMap<String, String>,
    /// `skills`: the skills that rules may ask for; none listed means that any may be asked for. Default: none.
    pub skills: Vec<String>,
    /// `params`: values that rules read by `param(name, default)`. Default: none.
    pub params: BTreeMap<String, Value>,
    /// `budget`: what one decision may use.
    pub budget: PolicyBudget,
}

/// What one decision may use before the fallback is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyBudget {
    /// `memory`: most bytes of one virtual machine. Default: `16MiB`.
    pub memory: u64,
    /// `time`: most time on the clock. Default: `50ms`.
    pub time: Duration,
}

/// How long things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// `raw`: requests as they came, counted from their receipt. Default: `30d`.
    pub raw: Duration,
    /// `dedupe`: the keys by which a repeated delivery is recognized. Default: `14d`.
    pub dedupe: Duration,
    /// `events`: events that every help desk has. Default: `30d`.
    pub events: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            queues: vec!["general".into()],
            default_queue: "general".into(),
            templates: BTreeMap::new(),
            skills: Vec::new(),
            params: BTreeMap::new(),
            budget: PolicyBudget::default(),
        }
    }
}

impl Default for PolicyBudget {
    fn default() -> Self {
        PolicyBudget { memory: 16 << 20, time: Duration::from_millis(50) }
    }
}

impl Default for Retention {
    fn default() -> Self {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        Retention { raw: days(30), dedupe: days(14), events: days(30) }
    }
}

impl Policy {
    /// Reads the table.
    pub(super) fn read(section: Section<'_>) -> Self {
        let mut policy = Policy::default();
        let queues = section.get("queues").map(|field| (field.set(read_label), field));
        if let Some((queues, field)) = queues {
            match queues.first() {
                Some(first) => {
                    policy.default_queue = first.clone();
                    policy.queues = queues;
                }
                None => field.error("at least one queue is needed"),
            }
        }
        let named = section.get("default_queue").and_then(|field| policy.read_queue(&field));
        policy.default_queue = named.unwrap_or(policy.default_queue);
        policy.skills = section.get("skills").map(|field| field.set(read_label)).unwrap_or_default();
        for (name, field) in section.table("templates").entries() {
            if let Some(text) = field.text() {
                policy.templates.insert(name.to_owned(), text.to_owned());
            }
        }
        for (name, field) in section.table("params").entries() {
            if let Some(value) = json(&field, field.value()) {
                policy.params.insert(name.to_owned(), value);
            }
        }
        policy.budget = PolicyBudget::read(section.table("budget"));
        section.finish();
        policy
    }

    /// The name of a queue that exists.
    pub(super) fn read_queue(&self, field: &Field<'_>) -> Option<String> {
        let name = field.text()?;
        if self.queues.iter().any(|queue| queue == name) {
            return Some(name.to_owned());
        }
        let names = || self.queues.iter().map(String::as_str);
        let mut problem = field.problem(format!("queue {} does not exist", shown(name))).near(name, names());
        if problem.suggestion.is_none() {
            problem = problem.expected(format!("one of {}", quoted(names())));
        }
        field.add(problem);
        None
    }
}

impl PolicyBudget {
    fn read(section: Section<'_>) -> Self {
        let default = PolicyBudget::default();
        let time = Duration::from_millis(1)..=Duration::from_secs(1);
        let budget = PolicyBudget {
            memory: section.get("memory").and_then(|f| f.size(1 << 20..=1 << 30)).unwrap_or(default.memory),
            time: section.get("time").and_then(|f| f.duration(time)).unwrap_or(default.time),
        };
        section.finish();
        budget
    }
}

impl Retention {
    /// Reads the table.
    pub(super) fn read(section: Section<'_>) -> Self {
        let default = Retention::default();
        let range = Duration::from_secs(3600)..=Duration::from_secs(3650 * 86_400);
        let time = |key, or| section.get(key).and_then(|field| field.duration(range.clone())).unwrap_or(or);
        let retention = Retention {
            raw: time("raw", default.raw),
            dedupe: time("dedupe", default.dedupe),
            events: time("events", default.events),
        };
        if let Some(field) = section.get("dedupe").filter(|_| retention.dedupe < Duration::from_secs(7 * 86_400)) {
            let problem =
                field.problem("providers repeat a delivery for up to seven days; a later repeat would count twice");
            field.add(problem.expected("`7d` or more").warning());
        }
        section.finish();
        retention
    }
}

/// A queue's or skill's name: any text that is easy to type and to read in a log.
fn read_label(field: &Field<'_>) -> Option<String> {
    field.parse("a name of 1 to 64 characters without white space", |text| {
        let fits = !text.is_empty() && text.chars().count() <= 64;
        (fits && !text.chars().any(|c| c.is_whitespace() || c.is_control())).then(|| text.to_owned())
    })
}

/// A TOML value as JSON. The parser bounds how deep it nests. Dates become text, as scripts have no type for them.
fn json(field: &Field<'_>, value: &DeValue<'_>) -> Option<Value> {
    let number_expected = "a number that 64 bits can hold";
    let refuse = || {
        field.add(field.problem("the number cannot be used").expected(number_expected));
        None
    };
    match value {
        DeValue::String(text) => Some(Value::String(text.to_string())),
        DeValue::Boolean(flag) => Some(Value::Bool(*flag)),
        DeValue::Datetime(time) => Some(Value::String(time.to_string())),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Some(Value::from(number)),
            Err(_) => refuse(),
        },
        DeValue::Float(number) => match number.as_str().parse().ok().and_then(Number::from_f64) {
            Some(number) => Some(Value::Number(number)),
            None => refuse(),
        },
        DeValue::Array(array) => {
            let values: Option<Vec<Value>> = array.iter().map(|item| json(field, item.get_ref())).collect();
            values.map(Value::Array)
        }
        DeValue::Table(table) => {
            let entry = |(name, item): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
                Some((name.get_ref().to_string(), json(field, item.get_ref())?))
            };
            let entries: Option<serde_json::Map<String, Value>> = table.iter().map(entry).collect();
            entries.map(Value::Object)
        }
    }
}
