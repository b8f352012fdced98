//! What decisions read, on SQLite. These reads run on the thread that asks: the threads that apply entries may block.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, Row};

use super::keys::{Key, Keys};
use super::outbox::send_row;
use super::read::{Readers, Snapshot};
use crate::base::id::{ConversationId, CustomerId, InteractionId, SendId};
use crate::base::{Result, Timestamp};
use crate::model::ItemKey;
use crate::store::seal::Codec;
use crate::store::seal::stored::{
    ConversationColumns, Stored, StoredConversation, StoredCustomer, StoredInteraction, StoredMessage, StoredStretch,
};
use crate::store::{
    ConversationRow, CustomerRow, DueSend, IdentifierKey, InteractionRow, MessageKey, MessageState, Most, Numbers,
    SideRow, Snapshots, StateRead, Stretch, ThreadKey,
};

pub(super) struct SqliteState {
    pub(super) source: Source,
    pub(super) numbers: Arc<dyn Numbers>,
    pub(super) keys: Arc<Keys>,
    pub(super) codec: Arc<Codec>,
}

/// Where reads go: to any reader, or to one snapshot.
pub(super) enum Source {
    Now(Arc<Readers>),
    Snapshot(Snapshot),
}

impl SqliteState {
    /// Runs `query` here and now: for the threads that apply entries, which may block.
    fn now<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        match &self.source {
            Source::Now(readers) => readers.with(query),
            Source::Snapshot(snapshot) => snapshot.with(query),
        }
    }

    /// Runs `query` when polled, on the thread that polls.
    fn read<'a, T: Send + 'a>(
        &'a self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        async move { self.now(query) }.boxed()
    }

    /// The same for rows that are sealed.
    fn one<'a, S: Stored + Send + 'a>(
        &'a self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<Option<S>> + Send + 'a,
    ) -> BoxFuture<'a, Result<Option<S::Row>>> {
        async move { self.codec.open_one(self.now(query)?).await }.boxed()
    }

    fn all<'a, S: Stored + Send + 'a>(
        &'a self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<Vec<S>> + Send + 'a,
    ) -> BoxFuture<'a, Result<Vec<S::Row>>> {
        async move { self.codec.open_all(self.now(query)?).await }.boxed()
    }
}

pub(super) const CUSTOMER: &str = "c.no, c.id, c.version, c.created_at, c.latest, c.profile, c.recent";

pub(super) fn customer(row: &Row<'_>) -> rusqlite::Result<StoredCustomer> {
    Ok(StoredCustomer {
        no: row.get(0)?,
        id: CustomerId::from_bytes(row.get(1)?),
        version: row.get(2)?,
        created_at: Timestamp::from_millis(row.get(3)?),
        latest: row.get(4)?,
        profile: row.get(5)?,
        recent: row.get(6)?,
    })
}

const CONVERSATION: &str = "v.no, v.id, v.version, v.customer, v.state, v.public, v.seq, v.event_seq, v.opened_at,
                            v.updated_at, v.latest, v.queue, v.owner, v.links";

fn conversation(row: &Row<'_>) -> rusqlite::Result<StoredConversation> {
    let columns = ConversationColumns {
        no: row.get(0)?,
        id: row.get(1)?,
        version: row.get(2)?,
        customer: row.get(3)?,
        state: row.get(4)?,
        public: row.get(5)?,
        seq: row.get(6)?,
        event_seq: row.get(7)?,
        opened_at: row.get(8)?,
        updated_at: row.get(9)?,
        latest: row.get(10)?,
        queue: row.get(11)?,
        owner: row.get(12)?,
        links: row.get(13)?,
    };
    Ok(columns.stored())
}

pub(super) const INTERACTION: &str = "i.no, i.id, i.conversation, i.seq, i.customer, i.body, i.decision";

pub(super) fn interaction(row: &Row<'_>) -> rusqlite::Result<StoredInteraction> {
    Ok(StoredInteraction { row: numbers(row)?, body: row.get(5)?, decision: row.get(6)? })
}

/// An interaction without its texts.
fn numbers(row: &Row<'_>) -> rusqlite::Result<InteractionRow> {
    Ok(InteractionRow {
        no: row.get(0)?,
        id: InteractionId::from_bytes(row.get(1)?),
        conversation: row.get(2)?,
        seq: row.get(3)?,
        customer: row.get(4)?,
        body: String::new(),
        decision: None,
    })
}

fn one_conversation(
    connection: &Connection,
    condition: &str,
    key: impl rusqlite::ToSql,
) -> rusqlite::Result<Option<StoredConversation>> {
    let sql = format!("SELECT {CONVERSATION} FROM conversation v WHERE {condition}");
    connection.prepare_cached(&sql)?.query_row([key], conversation).optional()
}

fn one_interaction(
    connection: &Connection,
    condition: &str,
    key: impl rusqlite::ToSql,
) -> rusqlite::Result<Option<StoredInteraction>> {
    let sql = format!("SELECT {INTERACTION} FROM interaction i WHERE {condition}");
    connection.prepare_cached(&sql)?.query_row([key], interaction).optional()
}

/// Which of the two chains through the interactions to follow.
#[derive(Clone, Copy)]
pub(super) enum Chain {
    Conversation,
    Customer,
}

/// Follows a chain back from the interaction `latest`. Of those that are not wanted only the numbers are read.
pub(super) fn chain(
    connection: &Connection,
    chain: Chain,
    latest: i64,
    most: Most,
    wanted: impl Fn(&InteractionRow) -> bool,
) -> rusqlite::Result<StoredStretch> {
    let before = match chain {
        Chain::Conversation => "before_in_conversation",
        Chain::Customer => "before_of_customer",
    };
    let sql = format!("SELECT {INTERACTION}, i.{before} FROM interaction i WHERE i.no = ?1");
    let mut select = connection.prepare_cached(&sql)?;
    let (mut rows, mut bytes, mut no) = (Vec::new(), 0, latest);
    while no != 0 && rows.len() < most.rows && bytes < most.bytes {
        let read = |row: &Row<'_>| {
            let wanted = wanted(&numbers(row)?);
            Ok((if wanted { Some(interaction(row)?) } else { None }, row.get(7)?))
        };
        let Some((stored, further)) = select.query_row([no], read).optional()? else {
            no = 0;
            break;
        };
        bytes += stored.as_ref().map_or(0, StoredInteraction::bytes);
        rows.extend(stored);
        no = further;
    }
    Ok(StoredStretch { rows, more: no != 0 })
}

pub(super) struct SqliteSnapshots {
    pub(super) readers: Arc<Readers>,
    pub(super) numbers: Arc<dyn Numbers>,
    pub(super) keys: Arc<Keys>,
    pub(super) codec: Arc<Codec>,
}

impl Snapshots for SqliteSnapshots {
    fn snapshot(&self) -> Result<Box<dyn StateRead>> {
        let source = Source::Snapshot(self.readers.snapshot()?);
        Ok(Box::new(SqliteState {
            source,
            numbers: self.numbers.clone(),
            keys: self.keys.clone(),
            codec: self.codec.clone(),
        }))
    }
}

impl StateRead for SqliteState {
    fn numbers(&self) -> Arc<dyn Numbers> {
        self.numbers.clone()
    }

    fn holders<'a>(&'a self, keys: &'a [IdentifierKey]) -> BoxFuture<'a, Result<Vec<(usize, i64)>>> {
        self.read(move |connection| {
            let mut select = connection.prepare_cached("SELECT customer FROM identifier WHERE key = ?1")?;
            let mut found = Vec::new();
            for (place, key) in keys.iter().enumerate() {
                if let Some(no) = select.query_row([self.codec.blind(&key.0)], |row| row.get(0)).optional()? {
                    found.push((place, no));
                }
            }
            Ok(found)
        })
    }

    fn customer(&self, no: i64) -> BoxFuture<'_, Result<Option<CustomerRow>>> {
        self.one(move |connection| {
            let sql = format!("SELECT {CUSTOMER} FROM customer c WHERE c.no = ?1");
            connection.prepare_cached(&sql)?.query_row([no], customer).optional()
        })
    }

    fn conversation_by_thread(&self, key: ThreadKey) -> BoxFuture<'_, Result<Option<ConversationRow>>> {
        self.one(move |connection| {
            let key = self.codec.blind(&key.0);
            one_conversation(connection, "v.no = (SELECT conversation FROM thread WHERE key = ?1)", key.as_slice())
        })
    }

    fn open_conversations(
        &self,
        customer: i64,
        _version: i64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ConversationRow>>> {
        self.all(move |connection| {
            let sql = format!(
                "SELECT {CONVERSATION} FROM conversation v WHERE v.customer = ?1 AND v.state = 0
                 ORDER BY v.updated_at DESC, v.no DESC LIMIT ?2"
            );
            let mut select = connection.prepare_cached(&sql)?;
            select.query_map((customer, limit as i64), conversation)?.collect()
        })
    }

    fn conversation(&self, no: i64) -> BoxFuture<'_, Result<Option<ConversationRow>>> {
        self.one(move |connection| one_conversation(connection, "v.no = ?1", no))
    }

    fn conversation_by_id(&self, id: ConversationId) -> BoxFuture<'_, Result<Option<ConversationRow>>> {
        self.one(move |connection| one_conversation(connection, "v.id = ?1", id.as_bytes().as_slice()))
    }

    fn interaction_by_item(&self, item: ItemKey) -> BoxFuture<'_, Result<Option<InteractionRow>>> {
        self.one(move |connection| {
            match self.keys.find(connection, Key::item(&ItemKey(self.codec.blind(&item.0))))? {
                Some(no) => one_interaction(connection, "i.no = ?1", no),
                None => Ok(None),
            }
        })
    }

    fn interaction_by_id(&self, id: InteractionId) -> BoxFuture<'_, Result<Option<InteractionRow>>> {
        self.one(move |connection| one_interaction(connection, "i.id = ?1", id.as_bytes().as_slice()))
    }

    fn timeline(&self, conversation: i64, before: i64, most: Most) -> BoxFuture<'_, Result<Stretch>> {
        let found = self.one(move |connection| {
            let latest = connection
                .prepare_cached("SELECT latest FROM conversation WHERE no = ?1")?
                .query_row([conversation], |row| row.get(0))
                .optional()?
                .unwrap_or(0);
            chain(connection, Chain::Conversation, latest, most, |row| row.seq < before).map(Some)
        });
        async move { Ok(found.await?.unwrap_or_default()) }.boxed()
    }

    fn message_state(&self, key: MessageKey) -> BoxFuture<'_, Result<Option<MessageState>>> {
        self.one(move |connection| {
            let key = self.codec.blind(&key.0);
            connection
                .prepare_cached("SELECT state FROM message WHERE key = ?1")?
                .query_row([key.as_slice()], |row| Ok(StoredMessage { key, state: row.get(0)? }))
                .optional()
        })
    }

    fn send(&self, id: SendId) -> BoxFuture<'_, Result<Option<DueSend>>> {
        self.one(move |connection| {
            connection
                .prepare_cached(&format!("SELECT {} FROM send WHERE id = ?1", super::outbox::SEND))?
                .query_row([id.as_bytes().as_slice()], send_row)
                .optional()
        })
    }

    fn sent_in_thread(&self, conversation: i64, limit: usize) -> BoxFuture<'_, Result<Vec<InteractionRow>>> {
        self.all(move |connection| {
            let sql = format!(
                "WITH RECURSIVE back (no, before, outbound, depth) AS (
                     SELECT i.no, i.before_in_conversation, i.outbound, 0 FROM interaction i
                      WHERE i.no = (SELECT latest FROM conversation WHERE no = ?1)
                     UNION ALL
                     SELECT i.no, i.before_in_conversation, i.outbound, back.depth + 1
                       FROM back JOIN interaction i ON i.no = back.before WHERE back.depth < 200)
                 SELECT {INTERACTION} FROM back JOIN interaction i ON i.no = back.no WHERE back.outbound LIMIT ?2"
            );
            let mut select = connection.prepare_cached(&sql)?;
            select.query_map((conversation, limit as i64), interaction)?.collect()
        })
    }

    fn side(&self, key: [u8; 16]) -> BoxFuture<'_, Result<Option<SideRow>>> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT at FROM side WHERE key = ?1")?
                .query_row([self.codec.blind(&key)], |row| Ok(SideRow { at: Timestamp::from_millis(row.get(0)?) }))
                .optional()
        })
    }
}
