//! What changed between two configurations, and whether a running gateway can take it up.

use super::Config;

/// Whether a change can be taken up by a running gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It applies at once.
    Live,
    /// It waits for the next start.
    Restart,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key or table, such as `retention` or `channel.support`.
    pub key: String,
    /// What happened to it: `added`, `removed` or `changed`. Values are not told, since they may be secrets.
    pub what: &'static str,
    /// Whether it can be taken up at once.
    pub effect: Effect,
}

/// What differs between `old` and `new`, top keys first, then tables by name. Places and warnings do not count: moving a
/// table within a file changes nothing.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut tell = |key: &str, same: bool, effect| {
        if !same {
            changes.push(Change { key: key.to_owned(), what: "changed", effect });
        }
    };
    // Doors, store and the guarded client are built once; the folders are watched from the start.
    tell("public_url", old.public_url == new.public_url, Effect::Restart);
    tell("data", old.data == new.data, Effect::Restart);
    tell("store", old.store == new.store, Effect::Restart);
    tell("root_key", old.root_key == new.root_key, Effect::Restart);
    tell("scripts", old.scripts == new.scripts, Effect::Restart);
    tell("connectors", old.connectors == new.connectors, Effect::Restart);
    tell("channels", old.channels_dir == new.channels_dir, Effect::Restart);
    tell("default_country", old.default_country == new.default_country, Effect::Live);
    tell("log", old.log == new.log, Effect::Restart);
    tell("listen", old.listen == new.listen, Effect::Restart);
    tell("lmtp", old.lmtp == new.lmtp, Effect::Restart);
    tell("limits", old.limits == new.limits, Effect::Restart);
    tell("policy", old.policy == new.policy, Effect::Live);
    tell("retention", old.retention == new.retention, Effect::Restart);
    tell("blobs", old.blobs == new.blobs, Effect::Restart);
    tell("outbound", old.outbound == new.outbound, Effect::Restart);
    tell("retry", old.retry == new.retry, Effect::Live);
    named(
        &mut changes,
        "channel",
        &old.channels,
        &new.channels,
        |c| &c.name,
        |a, b| {
            let options = |c: &super::Channel| c.options_json();
            (&a.connector, &a.queue, a.paused) == (&b.connector, &b.queue, b.paused) && options(a) == options(b)
        },
    );
    named(
        &mut changes,
        "helpdesk",
        &old.helpdesks,
        &new.helpdesks,
        |h| &h.name,
        |a, b| {
            let moved = super::HelpDesk { place: a.place.clone(), ..b.clone() };
            *a == moved
        },
    );
    changes
}

/// What was added to, removed from or changed in a list of tables with names. All of it applies at once.
fn named<T>(
    changes: &mut Vec<Change>,
    kind: &str,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &String,
    same: impl Fn(&T, &T) -> bool,
) {
    let mut tell = |item: &T, what| {
        changes.push(Change { key: format!("{kind}.{}", name(item)), what, effect: Effect::Live });
    };
    for item in new {
        match old.iter().find(|other| name(other) == name(item)) {
            None => tell(item, "added"),
            Some(other) if !same(other, item) => tell(item, "changed"),
            Some(_) => {}
        }
    }
    for item in old.iter().filter(|item| !new.iter().any(|other| name(other) == name(item))) {
        tell(item, "removed");
    }
}
