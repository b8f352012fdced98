//! Keys that tell what was seen before: delivery keys of entries and item keys of interactions.
//!
//! Such keys are hashes, so in an index each new one changes a page of its own: two pages of every interaction. Here a new
//! key is appended to the small table `fresh` and kept in memory. Once enough of them have come together, that generation
//! moves to the index `seen` in the order of the keys and a few with every group, so that keys which fall on one page go
//! there together. A key is always found: it leaves memory only after the group that put it into `seen` is on disk.

use std::collections::BTreeMap;

use parking_lot::RwLock;
use rusqlite::{Connection, OptionalExtension};

use crate::model::ItemKey;

/// How many keys make a generation.
const GENERATION: usize = 16_384;

/// A key with what it is the key of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key([u8; 17]);

impl Key {
    /// The delivery key of an entry.
    pub(super) fn delivery(key: &[u8; 16]) -> Self {
        Key::new(b'd', key)
    }

    /// The item key of an interaction.
    pub(super) fn item(key: &ItemKey) -> Self {
        Key::new(b'i', &key.0)
    }

    /// The key as it lies in `seen`.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn new(of: u8, key: &[u8; 16]) -> Self {
        let mut bytes = [of; 17];
        bytes.iter_mut().skip(1).zip(key).for_each(|(to, from)| *to = *from);
        Key(bytes)
    }
}

/// All keys, for the writer and for readers. Only the writer's thread changes them.
pub(super) struct Keys(RwLock<Inner>);

#[derive(Default)]
struct Inner {
    /// Keys that came lately.
    young: BTreeMap<Key, Place>,
    /// The generation that is on its way to `seen`.
    old: BTreeMap<Key, Place>,
    /// How many of the first of `old` this group puts into `seen`.
    moving: usize,
    /// How many this group adds.
    added: usize,
}

#[derive(Clone, Copy)]
struct Place {
    /// The number of the entry or interaction.
    no: i64,
    /// The row in `fresh`.
    seq: i64,
}

impl Keys {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let keys = Keys(RwLock::default());
        keys.reload(connection)?;
        Ok(keys)
    }

    /// Reads anew what memory holds: after a group, or a part of it, was taken back.
    pub(super) fn reload(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut select = connection.prepare_cached("SELECT key, no, seq FROM fresh")?;
        let read = |row: &rusqlite::Row<'_>| Ok((Key(row.get(0)?), Place { no: row.get(1)?, seq: row.get(2)? }));
        let young = select.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
        *self.0.write() = Inner { young, ..Inner::default() };
        Ok(())
    }

    /// The number of the entry or interaction that has this key.
    pub(super) fn find(&self, connection: &Connection, key: Key) -> rusqlite::Result<Option<i64>> {
        // Memory first: what has just left it is on disk, and a read that begins now sees it there.
        {
            let inner = self.0.read();
            if let Some(place) = inner.young.get(&key).or_else(|| inner.old.get(&key)) {
                return Ok(Some(place.no));
            }
        }
        connection
            .prepare_cached("SELECT no FROM seen WHERE key = ?1")?
            .query_row([key.0.as_slice()], |row| row.get(0))
            .optional()
    }

    /// Adds a key that is not there.
    pub(super) fn add(&self, connection: &Connection, key: Key, no: i64) -> rusqlite::Result<()> {
        let seq =
            connection.prepare_cached("INSERT INTO fresh (key, no) VALUES (?1, ?2)")?.insert((key.0.as_slice(), no))?;
        let mut inner = self.0.write();
        inner.young.insert(key, Place { no, seq });
        inner.added += 1;
        Ok(())
    }

    /// Forgets a key: it may come again.
    pub(super) fn forget(&self, connection: &Connection, key: Key) -> rusqlite::Result<()> {
        let place = {
            let mut inner = self.0.write();
            inner.young.remove(&key).or_else(|| inner.old.remove(&key))
        };
        if let Some(place) = place {
            connection.prepare_cached("DELETE FROM fresh WHERE seq = ?1")?.execute([place.seq])?;
        }
        connection.prepare_cached("DELETE FROM seen WHERE key = ?1")?.execute([key.0.as_slice()])?;
        Ok(())
    }

    /// Puts some of the old generation into `seen`, twice as many as this group added: it is gone before the next is full.
    pub(super) fn sweep(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut inner = self.0.write();
        inner.moving = (inner.added * 2 + 16).min(inner.old.len());
        if inner.moving == 0 {
            return Ok(());
        }
        let mut insert =
            connection.prepare_cached("INSERT INTO seen (key, no) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
        for (key, place) in inner.old.iter().take(inner.moving) {
            insert.execute((key.0.as_slice(), place.no))?;
        }
        if inner.moving == inner.old.len() {
            // Whatever of the young ones is not in memory's old generation came after it.
            let first_young = inner.young.values().map(|place| place.seq).min().unwrap_or(i64::MAX);
            connection.prepare_cached("DELETE FROM fresh WHERE seq < ?1")?.execute([first_young])?;
        }
        Ok(())
    }

    /// Takes note that the group is on disk.
    pub(super) fn committed(&self) {
        let mut inner = self.0.write();
        inner.added = 0;
        for _ in 0..std::mem::take(&mut inner.moving) {
            inner.old.pop_first();
        }
        if inner.old.is_empty() && inner.young.len() >= GENERATION {
            inner.old = std::mem::take(&mut inner.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema/1.sql")).unwrap();
        connection
    }

    fn key(n: u32) -> Key {
        Key::delivery(&crate::base::hash::key16(&[&n.to_be_bytes()]))
    }

    fn count(connection: &Connection, table: &str) -> i64 {
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn every_key_is_found_while_generations_move_and_after_a_restart() {
        let connection = open();
        let keys = Keys::load(&connection).unwrap();
        let all = 3 * GENERATION as u32;
        for n in 0..all {
            keys.add(&connection, key(n), n.into()).unwrap();
            if n % 50 == 0 {
                keys.sweep(&connection).unwrap();
                keys.committed();
                for probe in [0, n / 2, n] {
                    assert_eq!(keys.find(&connection, key(probe)).unwrap(), Some(probe.into()), "{probe} of {n}");
                }
                assert_eq!(keys.find(&connection, key(n + 1)).unwrap(), None);
            }
        }
        assert!(count(&connection, "seen") >= GENERATION as i64);
        assert!(count(&connection, "fresh") <= 2 * GENERATION as i64 + 50);
        let again = Keys::load(&connection).unwrap();
        for n in (0..all).step_by(7) {
            assert_eq!(again.find(&connection, key(n)).unwrap(), Some(n.into()));
        }
        // A generation that was half moved when the process ended moves again, and whole.
        for _ in 0..5_000 {
            again.sweep(&connection).unwrap();
            again.committed();
        }
        assert_eq!(count(&connection, "seen") + count(&connection, "fresh"), i64::from(all));
        assert!(count(&connection, "fresh") < GENERATION as i64);
        for n in (0..all).step_by(7) {
            assert_eq!(again.find(&connection, key(n)).unwrap(), Some(n.into()));
        }
    }

    #[test]
    fn a_group_taken_back_leaves_no_key() {
        let connection = open();
        let keys = Keys::load(&connection).unwrap();
        connection.execute_batch("BEGIN").unwrap();
        keys.add(&connection, key(1), 1).unwrap();
        connection.execute_batch("ROLLBACK").unwrap();
        keys.reload(&connection).unwrap();
        assert_eq!(keys.find(&connection, key(1)).unwrap(), None);
    }

    #[test]
    fn a_forgotten_key_may_come_again() {
        let connection = open();
        let keys = Keys::load(&connection).unwrap();
        keys.add(&connection, key(1), 1).unwrap();
        keys.forget(&connection, key(1)).unwrap();
        assert_eq!(keys.find(&connection, key(1)).unwrap(), None);
        assert_eq!(count(&connection, "fresh"), 0);
        assert!(Key::delivery(&[1; 16]) != Key::item(&ItemKey([1; 16])));
    }
}
