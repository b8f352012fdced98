//! Events as they are written: each gets its place in the feed, and the conversation remembers its latest.

use rusqlite::{Connection, OptionalExtension};

use super::commit::{Sink, write_conversation};
use crate::base::Timestamp;
use crate::store::seal::{SealedEvent, SealedSet};
use crate::store::subscribers::Subscriber;
use crate::store::{DueEvent, Subscription};

/// The latest event of a conversation: where the chain of its events begins.
pub(super) struct Tip {
    pub(super) no: i64,
    pub(super) kind: u8,
    pub(super) channel: String,
    pub(super) sequence: i64,
}

impl Tip {
    const NONE: Tip = Tip { no: 0, kind: 0, channel: String::new(), sequence: 0 };

    fn read(connection: &Connection, conversation: i64) -> rusqlite::Result<Tip> {
        connection
            .prepare_cached(
                "SELECT latest_event, latest_kind, latest_channel, event_seq FROM conversation WHERE no = ?1",
            )?
            .query_row([conversation], |row| {
                Ok(Tip { no: row.get(0)?, kind: row.get(1)?, channel: row.get(2)?, sequence: row.get(3)? })
            })
    }
}

/// Conversations and their events: an event's place in the feed is given here, and the conversation remembers its latest.
pub(super) fn write_events(
    connection: &Connection,
    changeset: &SealedSet,
    subscribers: &[Subscriber],
    sink: &mut Sink<'_>,
) -> rusqlite::Result<()> {
    for conversation in &changeset.conversations {
        let mut tip = if conversation.new { Tip::NONE } else { Tip::read(connection, conversation.row.no)? };
        let own = || changeset.events.iter().filter(|event| event.conversation == conversation.row.no);
        let mut sequence = conversation.row.event_seq - own().count() as i64;
        for event in own() {
            sequence += 1;
            tip = write_event(connection, event, sequence, &tip, subscribers, sink)?;
        }
        write_conversation(connection, conversation, &tip)?;
    }
    Ok(())
}

fn write_event(
    connection: &Connection,
    event: &SealedEvent,
    sequence: i64,
    before: &Tip,
    subscribers: &[Subscriber],
    sink: &mut Sink<'_>,
) -> rusqlite::Result<Tip> {
    let no = connection
        .prepare_cached(
            "INSERT INTO event (id, kind, conversation, sequence, before, channel, at, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .insert((
            event.id.as_bytes().as_slice(),
            event.kind,
            event.conversation,
            sequence,
            before.no,
            &event.channel,
            event.at,
            &event.body,
        ))?;
    *sink.feed = Some(no);
    for (subscriber, due) in subscribers.iter().zip(sink.due.iter_mut()) {
        let wants = |kind, channel: &str| subscriber.subscription.wants(kind, channel);
        if !wants(event.kind, &event.channel) {
            continue;
        }
        let previous = if before.no == 0 || wants(before.kind, &before.channel) {
            before.sequence
        } else {
            previous_wanted(connection, &subscriber.subscription, before.no)?
        };
        due.push(DueEvent {
            no,
            id: event.id,
            conversation: event.conversation,
            attempts: 0,
            next_at: Timestamp::from_millis(event.at),
            body: event.plain.clone(),
            previous,
            aside: false,
        });
    }
    Ok(Tip { no, kind: event.kind, channel: event.channel.clone(), sequence })
}

/// The sequence of the event before it in the conversation that this help desk wants, going back by the chain.
pub(super) fn previous_wanted(
    connection: &Connection,
    subscription: &Subscription,
    mut before: i64,
) -> rusqlite::Result<i64> {
    const FAR_ENOUGH: usize = 1000;
    for _ in 0..FAR_ENOUGH {
        if before == 0 {
            return Ok(0);
        }
        let found = connection
            .prepare_cached("SELECT kind, channel, sequence, before FROM event WHERE no = ?1")?
            .query_row([before], |row| {
                Ok((row.get::<_, u8>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
            })
            .optional()?;
        match found {
            None => return Ok(0),
            Some((kind, channel, sequence, _)) if subscription.wants(kind, &channel) => return Ok(sequence),
            Some((_, _, _, further)) => before = further,
        }
    }
    Ok(0)
}
