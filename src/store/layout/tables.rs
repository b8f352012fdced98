//! Every table and column, and what it is.

use super::{Backend, Class, Column, Order, Show, Table, Type};
use crate::base::id::{ConversationId, CustomerId, EntryId, EventId, InteractionId, SendId};
use crate::model::{EntryKind, EventType};

const fn column(name: &'static str, ty: Type, show: Show) -> Column {
    Column { name, ty, class: Class::Clear, show, only: None, instead: None }
}

const fn inside(name: &'static str) -> Column {
    column(name, Type::Integer, Show::Inside)
}

const fn of(name: &'static str, table: &'static str) -> Column {
    column(name, Type::Integer, Show::Of(table))
}

const fn number(name: &'static str) -> Column {
    column(name, Type::Integer, Show::Number)
}

const fn flag(name: &'static str) -> Column {
    column(name, Type::Integer, Show::Flag)
}

const fn time(name: &'static str) -> Column {
    column(name, Type::Integer, Show::Time)
}

const fn text(name: &'static str) -> Column {
    column(name, Type::Text, Show::Text)
}

const fn json(name: &'static str) -> Column {
    column(name, Type::Bytes, Show::Json)
}

const fn id(shown: fn([u8; 16]) -> String) -> Column {
    column("id", Type::Bytes, Show::Id(shown))
}

/// The wrapped key of an entry.
const fn wrap() -> Column {
    column("wrap", Type::Bytes, Show::Operational)
}

const fn blind(name: &'static str) -> Column {
    column(name, Type::Bytes, Show::Key).blind()
}

const fn domain(name: &'static str, key: &'static [&'static str], order: Order, columns: &'static [Column]) -> Table {
    Table { name, key, columns, order, only: None }
}

const fn operational(name: &'static str, key: &'static [&'static str], columns: &'static [Column]) -> Table {
    Table { name, key, columns, order: Order::None, only: None }
}

fn entry_kind(number: i64) -> &'static str {
    match u8::try_from(number).ok().and_then(EntryKind::from_number) {
        Some(EntryKind::Webhook) => "webhook",
        Some(EntryKind::Command) => "command",
        Some(EntryKind::Answered) => "answered",
        Some(EntryKind::SendOutcome) => "send_outcome",
        Some(EntryKind::Media) => "media",
        Some(EntryKind::Mail) => "mail",
        None => "unknown",
    }
}

fn event_type(number: i64) -> &'static str {
    u8::try_from(number).ok().and_then(EventType::from_number).map_or("unknown", EventType::name)
}

fn conversation_state(number: i64) -> &'static str {
    if number == 0 { "open" } else { "resolved" }
}

/// That an intent was committed is operational; that a send has reached its end is not.
fn send_state(number: i64) -> &'static str {
    if number < 2 { "planned" } else { "done" }
}

/// All tables, in the order in which they are moved and dumped.
pub static TABLES: [Table; 32] = [
    domain(
        "customer",
        &["no"],
        Order::Id,
        &[
            inside("no"),
            id(|bytes| CustomerId::from_bytes(bytes).to_string()),
            number("version"),
            time("created_at"),
            of("latest", "interaction"),
            json("profile").sealed(),
            json("recent").sealed(),
        ],
    ),
    domain("identifier", &["key"], Order::Key, &[blind("key"), of("customer", "customer")]),
    domain(
        "conversation",
        &["no"],
        Order::Id,
        &[
            inside("no"),
            id(|bytes| ConversationId::from_bytes(bytes).to_string()),
            number("version"),
            of("customer", "customer"),
            number("state").shown(Show::Word(conversation_state)),
            flag("public"),
            number("seq"),
            number("event_seq"),
            time("opened_at"),
            time("updated_at"),
            of("latest", "interaction"),
            of("latest_event", "event"),
            number("latest_kind")
                .only(Backend::Sqlite)
                .instead("coalesce((SELECT e.kind FROM event e WHERE e.no = t.latest_event), 0)"),
            text("latest_channel")
                .only(Backend::Sqlite)
                .instead("coalesce((SELECT e.channel FROM event e WHERE e.no = t.latest_event), '')"),
            text("queue"),
            column("owner", Type::Bytes, Show::Bytes).sealed(),
            json("links"),
        ],
    ),
    domain("thread", &["key"], Order::Key, &[blind("key"), of("conversation", "conversation")]),
    domain(
        "interaction",
        &["no"],
        Order::Id,
        &[
            inside("no"),
            id(|bytes| InteractionId::from_bytes(bytes).to_string()),
            blind("item"),
            of("conversation", "conversation"),
            number("seq"),
            of("before_in_conversation", "interaction"),
            of("customer", "customer"),
            of("before_of_customer", "interaction"),
            flag("outbound"),
            json("body").sealed(),
            json("decision").sealed(),
        ],
    ),
    domain("message", &["key"], Order::Key, &[blind("key"), blind("mark").operational(), json("state").sealed()]),
    domain(
        "event",
        &["no"],
        Order::Id,
        &[
            inside("no"),
            id(|bytes| EventId::from_bytes(bytes).to_string()),
            number("kind").shown(Show::Word(event_type)),
            of("conversation", "conversation"),
            number("sequence"),
            of("before", "event"),
            text("channel"),
            time("at"),
            json("body").sealed(),
        ],
    ),
    domain(
        "send",
        &["id"],
        Order::Id,
        &[
            id(|bytes| SendId::from_bytes(bytes).to_string()),
            number("state").shown(Show::Word(send_state)),
            of("conversation", "conversation"),
            time("created_at"),
            number("next_at").operational(),
            number("attempts").operational(),
            column("error", Type::Bytes, Show::Operational).sealed(),
            json("planned").sealed(),
            column("intent", Type::Bytes, Show::Operational).only(Backend::Postgres),
        ],
    ),
    domain(
        "quarantine",
        &["no"],
        Order::Entry,
        &[inside("no"), of("position", "entry"), column("reason", Type::Bytes, Show::Bytes).sealed(), time("at")],
    ),
    domain("side", &["key"], Order::Key, &[blind("key"), time("at")]),
    domain(
        "applied",
        &["apply_no"],
        Order::Entry,
        &[
            inside("apply_no"),
            of("position", "entry"),
            of("bundle", "bundle"),
            text("engine").operational(),
            json("facts").sealed(),
            wrap(),
        ],
    ),
    domain(
        "entry",
        &["position"],
        Order::Id,
        &[
            inside("position"),
            id(|bytes| EntryId::from_bytes(bytes).to_string()),
            number("kind").shown(Show::Word(entry_kind)),
            text("channel"),
            time("at"),
            number("interactive").operational(),
            blind("delivery").operational(),
            json("head").sealed(),
            column("raw", Type::Bytes, Show::Bytes).sealed(),
            wrap(),
        ],
    ),
    operational(
        "pending",
        &["position"],
        &[
            of("position", "entry"),
            text("channel"),
            number("key").only(Backend::Postgres),
            column("more", Type::List, Show::Operational).only(Backend::Postgres),
            flag("interactive").only(Backend::Postgres),
        ],
    ),
    operational(
        "bundle",
        &["no"],
        &[
            inside("no"),
            text("hash"),
            column("content", Type::Bytes, Show::Operational).sealed(),
            flag("used").operational(),
        ],
    ),
    operational(
        "publication",
        &["version"],
        &[
            inside("version"),
            // Tells calls apart that are tried again: no call that is over is.
            column("id", Type::Bytes, Show::Operational).only(Backend::Postgres),
            text("hash"),
            time("at"),
            text("by"),
            text("engine"),
        ],
    ),
    operational(
        "settled",
        &["helpdesk"],
        &[
            text("helpdesk"),
            inside("event"),
            column("used_at", Type::Moment, Show::Operational).only(Backend::Postgres),
        ],
    ),
    operational(
        "due",
        &["helpdesk", "event"],
        &[
            text("helpdesk"),
            inside("event"),
            of("conversation", "conversation"),
            number("previous"),
            number("attempts"),
            time("next_at"),
            column("error", Type::Bytes, Show::Bytes).sealed(),
        ],
    ),
    operational(
        "dead",
        &["event", "helpdesk"],
        &[
            inside("event"),
            text("helpdesk"),
            of("conversation", "conversation"),
            number("previous"),
            number("attempts"),
            column("error", Type::Bytes, Show::Bytes).sealed(),
            time("at"),
        ],
    ),
    operational(
        "media",
        &["interaction", "part"],
        &[
            of("interaction", "interaction"),
            number("part"),
            column("interaction_id", Type::Bytes, Show::Operational),
            text("channel"),
            number("attempts"),
            time("next_at"),
        ],
    ),
    // Where files are, and what names them. The dump shows in an interaction's body which files it names.
    operational(
        "blob",
        &["name"],
        &[
            column("name", Type::Bytes, Show::Operational),
            column("object", Type::Bytes, Show::Operational),
            of("customer", "customer"),
            number("size"),
            time("made_at"),
        ],
    ),
    operational(
        "blob_use",
        &["interaction", "part", "name"],
        &[of("interaction", "interaction"), number("part"), column("name", Type::Bytes, Show::Operational)],
    ),
    operational("loose", &["object"], &[column("object", Type::Bytes, Show::Operational), time("at")]),
    operational(
        "token",
        &["id"],
        &[
            text("id"),
            text("name"),
            text("scopes"),
            column("hash", Type::Bytes, Show::Operational),
            time("created_at"),
            time("revoked_at"),
        ],
    ),
    operational(
        "mailbox",
        &["channel", "folder"],
        &[
            text("channel"),
            text("folder"),
            number("validity"),
            number("uid"),
            number("acted"),
            time("since"),
            time("moved_at"),
        ],
    ),
    operational(
        "mail_grant",
        &["channel"],
        &[text("channel"), column("kept", Type::Bytes, Show::Operational).sealed()],
    ),
    operational("pruned", &["class"], &[text("class"), inside("position")]),
    // The keys of entries and interactions once more, in the order in which SQLite finds them.
    Table { only: Some(Backend::Sqlite), ..operational("seen", &["key"], &[blind("key"), inside("no")]) },
    Table {
        only: Some(Backend::Sqlite),
        ..operational("fresh", &["seq"], &[inside("seq"), blind("key"), inside("no")])
    },
    // What several nodes share the work by.
    Table {
        only: Some(Backend::Postgres),
        ..operational(
            "node",
            &["no"],
            &[
                inside("no"),
                column("id", Type::Bytes, Show::Operational),
                column("joined_at", Type::Moment, Show::Operational),
                column("until", Type::Moment, Show::Operational),
                column("wants", Type::List, Show::Operational),
            ],
        )
    },
    Table { only: Some(Backend::Postgres), ..operational("lease", &["name"], &[text("name"), inside("node")]) },
    Table {
        only: Some(Backend::Postgres),
        ..operational("pending_more", &["key", "position"], &[inside("key"), of("position", "entry")])
    },
    // The database's own: its schema, and what feed numbers begin at.
    Table { only: Some(Backend::Postgres), ..operational("setting", &["name"], &[text("name"), number("value")]) },
];
