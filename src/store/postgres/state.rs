//! What decisions read, on PostgreSQL: always from the primary.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::outbox::{SEND, send_row};
use super::read::{Readers, Snapshot, all, first, get, id16};
use crate::base::id::{ConversationId, CustomerId, InteractionId, SendId};
use crate::base::{Result, Timestamp};
use crate::model::ItemKey;
use crate::store::seal::Codec;
use crate::store::seal::stored::{
    ConversationColumns, StoredConversation, StoredCustomer, StoredInteraction, StoredMessage, StoredStretch,
};
use crate::store::{
    ConversationRow, CustomerRow, DueSend, IdentifierKey, InteractionRow, MessageKey, MessageState, Most, Numbers,
    SideRow, Snapshots, StateRead, Stretch, ThreadKey,
};

pub(super) struct PgState {
    pub(super) source: Source,
    pub(super) numbers: Arc<dyn Numbers>,
    pub(super) codec: Arc<Codec>,
}

/// Where reads go: to any reader, or to one snapshot.
pub(super) enum Source {
    Now(Arc<Readers>),
    Snapshot(Snapshot),
}

impl PgState {
    async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        match &self.source {
            Source::Now(readers) => readers.rows(sql, parameters).await,
            Source::Snapshot(snapshot) => snapshot.rows(sql, parameters).await,
        }
    }

    async fn one_conversation(&self, condition: &str, key: &(dyn ToSql + Sync)) -> Result<Option<ConversationRow>> {
        let sql = format!("SELECT {CONVERSATION} FROM conversation v WHERE {condition}");
        self.codec.open_one(first(self.rows(&sql, &[key]).await?, conversation)?).await
    }

    async fn one_interaction(&self, condition: &str, key: &(dyn ToSql + Sync)) -> Result<Option<InteractionRow>> {
        let sql = format!("SELECT {INTERACTION} FROM interaction i WHERE {condition}");
        self.codec.open_one(first(self.rows(&sql, &[key]).await?, interaction)?).await
    }
}

pub(super) const CUSTOMER: &str = "c.no, c.id, c.version, c.created_at, c.latest, c.profile, c.recent";

pub(super) fn customer(row: &Row) -> Result<StoredCustomer> {
    Ok(StoredCustomer {
        no: get(row, 0)?,
        id: CustomerId::from_bytes(id16(row, 1)?),
        version: get(row, 2)?,
        created_at: Timestamp::from_millis(get(row, 3)?),
        latest: get(row, 4)?,
        profile: get(row, 5)?,
        recent: get(row, 6)?,
    })
}

const CONVERSATION: &str = "v.no, v.id, v.version, v.customer, v.state, v.public, v.seq, v.event_seq, v.opened_at,
                            v.updated_at, v.latest, v.queue, v.owner, v.links";

fn conversation(row: &Row) -> Result<StoredConversation> {
    let columns = ConversationColumns {
        no: get(row, 0)?,
        id: id16(row, 1)?,
        version: get(row, 2)?,
        customer: get(row, 3)?,
        state: get::<i16>(row, 4)?.into(),
        public: get::<i16>(row, 5)? != 0,
        seq: get(row, 6)?,
        event_seq: get(row, 7)?,
        opened_at: get(row, 8)?,
        updated_at: get(row, 9)?,
        latest: get(row, 10)?,
        queue: get(row, 11)?,
        owner: get(row, 12)?,
        links: get(row, 13)?,
    };
    Ok(columns.stored())
}

pub(super) const INTERACTION: &str = "i.no, i.id, i.conversation, i.seq, i.customer, i.body, i.decision";

pub(super) fn interaction(row: &Row) -> Result<StoredInteraction> {
    Ok(StoredInteraction {
        row: InteractionRow {
            no: get(row, 0)?,
            id: InteractionId::from_bytes(id16(row, 1)?),
            conversation: get(row, 2)?,
            seq: get(row, 3)?,
            customer: get(row, 4)?,
            body: String::new(),
            decision: None,
        },
        body: get(row, 5)?,
        decision: get(row, 6)?,
    })
}

/// Follows the chain of a conversation back from its latest interaction: those with a `seq` below `$2`.
fn timeline_sql() -> String {
    let latest = "(SELECT latest FROM conversation WHERE no = $1)";
    chain_sql("before_in_conversation", "seq", latest)
}

/// Follows a chain back from the interaction `latest` by the column `before`: those whose `below` is below `$2`, at most
/// `$3` of them, and no more behind the one with which they have `$4` bytes.
fn chain_sql(before: &str, below: &str, latest: &str) -> String {
    format!(
        "WITH RECURSIVE back (no, before, below, count) AS (
             SELECT i.no, i.{before}, i.{below}, CASE WHEN i.{below} < $2 THEN 1::int8 ELSE 0 END FROM interaction i
              WHERE i.no = {latest}
             UNION ALL
             SELECT i.no, i.{before}, i.{below}, back.count + CASE WHEN i.{below} < $2 THEN 1 ELSE 0 END
               FROM back JOIN interaction i ON i.no = back.before WHERE back.count < $3),
         sized AS (
             SELECT back.*, sum(octet_length(i.body) + coalesce(octet_length(i.decision), 0))
                      OVER (ORDER BY back.count ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes
               FROM back JOIN interaction i ON i.no = back.no WHERE back.below < $2)
         SELECT {INTERACTION}, i.{before} FROM sized JOIN interaction i ON i.no = sized.no
          WHERE coalesce(sized.bytes, 0) < $4 ORDER BY sized.count LIMIT $3"
    )
}

fn stretch(rows: &[Row]) -> Result<StoredStretch> {
    let further = rows.last().map(|row| get::<i64>(row, 7)).transpose()?;
    let more = further.is_some_and(|no| no != 0);
    Ok(StoredStretch { rows: rows.iter().map(interaction).collect::<Result<_>>()?, more })
}

fn number(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The same for the chain of a customer, from the interaction `latest`: those with a number below `before`.
pub(super) async fn customer_timeline(
    readers: &Readers,
    latest: i64,
    before: i64,
    most: Most,
) -> Result<StoredStretch> {
    let sql = chain_sql("before_of_customer", "no", "$1");
    stretch(&readers.rows(&sql, &[&latest, &before, &number(most.rows), &number(most.bytes)]).await?)
}

pub(super) struct PgSnapshots {
    pub(super) readers: Arc<Readers>,
    pub(super) numbers: Arc<dyn Numbers>,
    pub(super) codec: Arc<Codec>,
}

impl Snapshots for PgSnapshots {
    fn snapshot(&self) -> Result<Box<dyn StateRead>> {
        let source = Source::Snapshot(self.readers.snapshot()?);
        Ok(Box::new(PgState { source, numbers: self.numbers.clone(), codec: self.codec.clone() }))
    }
}

impl StateRead for PgState {
    fn numbers(&self) -> Arc<dyn Numbers> {
        self.numbers.clone()
    }

    fn holders<'a>(&'a self, keys: &'a [IdentifierKey]) -> BoxFuture<'a, Result<Vec<(usize, i64)>>> {
        async move {
            let sql = "SELECT k.place, i.customer FROM unnest($1::bytea[]) WITH ORDINALITY AS k (key, place)
                 JOIN identifier i ON i.key = k.key ORDER BY k.place";
            let keys: Vec<[u8; 16]> = keys.iter().map(|key| self.codec.blind(&key.0)).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_slice()).collect();
            all(self.rows(sql, &[&keys]).await?, |row| {
                Ok((usize::try_from(get::<i64>(row, 0)? - 1).unwrap_or_default(), get(row, 1)?))
            })
        }
        .boxed()
    }

    fn customer(&self, no: i64) -> BoxFuture<'_, Result<Option<CustomerRow>>> {
        async move {
            let sql = format!("SELECT {CUSTOMER} FROM customer c WHERE c.no = $1");
            self.codec.open_one(first(self.rows(&sql, &[&no]).await?, customer)?).await
        }
        .boxed()
    }

    fn conversation_by_thread(&self, key: ThreadKey) -> BoxFuture<'_, Result<Option<ConversationRow>>> {
        async move {
            let condition = "v.no = (SELECT conversation FROM thread WHERE key = $1)";
            self.one_conversation(condition, &self.codec.blind(&key.0).as_slice()).await
        }
        .boxed()
    }

    fn open_conversations(
        &self,
        customer: i64,
        _version: i64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ConversationRow>>> {
        async move {
            let sql = format!(
                "SELECT {CONVERSATION} FROM conversation v WHERE v.customer = $1 AND v.state = 0
                 ORDER BY v.updated_at DESC, v.no DESC LIMIT $2"
            );
            let open = all(self.rows(&sql, &[&customer, &(limit as i64)]).await?, conversation)?;
            self.codec.open_all(open).await
        }
        .boxed()
    }

    fn conversation(&self, no: i64) -> BoxFuture<'_, Result<Option<ConversationRow>>> {
        async move { self.one_conversation("v.no = $1", &no).await }.boxed()
    }

    fn conversation_by_id(&self, id: ConversationId) -> BoxFuture<'_, Result<Option<ConversationRow>>> {
        async move { self.one_conversation("v.id = $1", &id.as_bytes().as_slice()).await }.boxed()
    }

    fn interaction_by_item(&self, item: ItemKey) -> BoxFuture<'_, Result<Option<InteractionRow>>> {
        async move { self.one_interaction("i.item = $1", &self.codec.blind(&item.0).as_slice()).await }.boxed()
    }

    fn interaction_by_id(&self, id: InteractionId) -> BoxFuture<'_, Result<Option<InteractionRow>>> {
        async move { self.one_interaction("i.id = $1", &id.as_bytes().as_slice()).await }.boxed()
    }

    fn timeline(&self, conversation: i64, before: i64, most: Most) -> BoxFuture<'_, Result<Stretch>> {
        async move {
            let (rows, bytes) = (number(most.rows), number(most.bytes));
            let found = self.rows(&timeline_sql(), &[&conversation, &before, &rows, &bytes]).await?;
            Ok(self.codec.open_one(Some(stretch(&found)?)).await?.unwrap_or_default())
        }
        .boxed()
    }

    fn message_state(&self, key: MessageKey) -> BoxFuture<'_, Result<Option<MessageState>>> {
        async move {
            let sql = "SELECT state FROM message WHERE key = $1";
            let key = self.codec.blind(&key.0);
            let found =
                first(self.rows(sql, &[&key.as_slice()]).await?, |row| Ok(StoredMessage { key, state: get(row, 0)? }))?;
            self.codec.open_one(found).await
        }
        .boxed()
    }

    fn send(&self, id: SendId) -> BoxFuture<'_, Result<Option<DueSend>>> {
        async move {
            let sql = format!("SELECT {SEND} FROM send WHERE id = $1");
            self.codec.open_one(first(self.rows(&sql, &[&id.as_bytes().as_slice()]).await?, send_row)?).await
        }
        .boxed()
    }

    fn sent_in_thread(&self, conversation: i64, limit: usize) -> BoxFuture<'_, Result<Vec<InteractionRow>>> {
        async move {
            let sql = format!(
                "WITH RECURSIVE back (no, before, outbound, depth) AS (
                     SELECT i.no, i.before_in_conversation, i.outbound, 0 FROM interaction i
                      WHERE i.no = (SELECT latest FROM conversation WHERE no = $1)
                     UNION ALL
                     SELECT i.no, i.before_in_conversation, i.outbound, back.depth + 1
                       FROM back JOIN interaction i ON i.no = back.before WHERE back.depth < 200)
                 SELECT {INTERACTION} FROM back JOIN interaction i ON i.no = back.no WHERE back.outbound = 1
                  ORDER BY back.depth LIMIT $2"
            );
            self.codec.open_all(all(self.rows(&sql, &[&conversation, &(limit as i64)]).await?, interaction)?).await
        }
        .boxed()
    }

    fn side(&self, key: [u8; 16]) -> BoxFuture<'_, Result<Option<SideRow>>> {
        async move {
            let key = self.codec.blind(&key);
            let rows = self.rows("SELECT at FROM side WHERE key = $1", &[&key.as_slice()]).await?;
            first(rows, |row| Ok(SideRow { at: Timestamp::from_millis(get(row, 0)?) }))
        }
        .boxed()
    }
}
