//! What a group asks and writes in SQL, as far as it does not come from a changeset: those are in [`written`].

use super::lease::FENCE;
use super::written;

pub(super) const XID: &str =
    "SELECT pg_current_xact_id()::text::int8 + (SELECT value FROM setting WHERE name = 'feed_offset')";
// Positions follow the order of arrival; the keys are met in their own order, in which no two nodes can block each other.
pub(super) const APPEND: &str = "WITH given AS MATERIALIZED (
         SELECT nextval('entry_position') AS position, g.* FROM (
             SELECT * FROM unnest($1::bytea[], $2::int2[], $3::text[], $4::int8[], $5::int2[], $6::bytea[], $7::bytea[],
                                  $8::bytea[], $9::bytea[], $10::int8[], $11::text[])
               WITH ORDINALITY AS u (id, kind, channel, at, interactive, delivery, head, raw, wrap, key, more, place)
              ORDER BY place) g),
     put AS (
         INSERT INTO entry (position, id, kind, channel, at, interactive, delivery, head, raw, wrap)
         SELECT position, id, kind, channel, at, interactive, delivery, head, raw, wrap FROM given ORDER BY delivery, id
         ON CONFLICT DO NOTHING RETURNING position, id),
     kept AS (
         INSERT INTO pending (position, channel, key, more, interactive)
         SELECT position, channel, key, more::int8[], interactive <> 0 FROM put JOIN given USING (position)
         RETURNING position, more),
     others AS (INSERT INTO pending_more (key, position) SELECT unnest(more), position FROM kept WHERE more IS NOT NULL)
     SELECT position, id FROM put";
pub(super) const ORIGINAL: &str = "SELECT position, id, delivery FROM entry WHERE id = ANY($1)
     UNION SELECT position, id, delivery FROM entry WHERE delivery = ANY($2)";
pub(super) const PENDING: &str =
    "SELECT position, (key & 255)::int2 FROM pending WHERE position = ANY($1) ORDER BY position FOR UPDATE";
// Entries with what is still before them: pending at an earlier place under one of their keys.
pub(super) const BEFORE: &str = "SELECT p.position, earlier.position FROM pending p,
     LATERAL unnest(array_prepend(p.key, p.more)) AS own (key),
     LATERAL (SELECT o.position FROM pending o WHERE o.key = own.key AND o.position < p.position
              UNION ALL
              SELECT m.position FROM pending_more m WHERE m.key = own.key AND m.position < p.position) AS earlier
     WHERE p.position = ANY($1)";
pub(super) const CUSTOMER: &str = "SELECT no, version FROM customer WHERE no = ANY($1) ORDER BY no FOR NO KEY UPDATE";
pub(super) const CONVERSATION: &str =
    "SELECT no, version, latest_event FROM conversation WHERE no = ANY($1) ORDER BY no FOR NO KEY UPDATE";
pub(super) const THREAD: &str =
    "SELECT key, conversation FROM thread WHERE key = ANY($1) ORDER BY key FOR NO KEY UPDATE";
pub(super) const IDENTIFIER: &str = "SELECT key FROM identifier WHERE key = ANY($1)";
pub(super) const ITEM: &str = "SELECT item FROM interaction WHERE item = ANY($1)";
pub(super) const MESSAGE: &str = "SELECT key, mark FROM message WHERE key = ANY($1) ORDER BY key FOR NO KEY UPDATE";
pub(super) const NEW_BUNDLE: &str = "INSERT INTO bundle AS b (hash, used) SELECT unnest($1::text[]), 1
     ON CONFLICT (hash) DO UPDATE SET used = 1 WHERE b.used = 0";
pub(super) const BUNDLE: &str = "SELECT hash, no FROM bundle WHERE hash = ANY($1)";
pub(super) const DELIVERED: &str = "DELETE FROM due d USING unnest($1::text[], $2::int8[]) AS u (helpdesk, event)
     WHERE d.helpdesk = u.helpdesk AND d.event = u.event";
// Another node may have come further.
pub(super) const SETTLED: &str =
    "INSERT INTO settled AS s (helpdesk, event) SELECT * FROM unnest($1::text[], $2::int8[])
     ON CONFLICT (helpdesk) DO UPDATE SET event = GREATEST(s.event, excluded.event), used_at = now()";

/// Everything that a pipeline may hold. Prepared when connecting: preparing one late would put it out of order.
pub(super) const STATEMENTS: [&str; 39] = [
    FENCE,
    BEFORE,
    XID,
    APPEND,
    ORIGINAL,
    PENDING,
    CUSTOMER,
    CONVERSATION,
    THREAD,
    IDENTIFIER,
    ITEM,
    MESSAGE,
    NEW_BUNDLE,
    BUNDLE,
    DELIVERED,
    SETTLED,
    written::DONE,
    written::NEW_CUSTOMER,
    written::CUSTOMER,
    written::CUSTOMER_LATEST,
    written::IDENTIFIER,
    written::EVENT,
    written::NEW_CONVERSATION,
    written::CONVERSATION,
    written::NEW_THREAD,
    written::THREAD,
    written::INTERACTION,
    written::INTERACTION_BODY,
    written::NEW_MESSAGE,
    written::MESSAGE,
    written::SEND,
    written::SEND_DONE,
    written::MEDIA,
    written::MEDIA_DONE,
    written::BLOB_USE,
    written::QUARANTINE,
    written::RELEASED,
    written::SIDE,
    written::APPLIED,
];
