//! What lies in the tables of both backends, as plain data: the one place that says what each column is.
//!
//! Sealing, the canonical dump, moving and backups go by this description and not by lists of their own. A test compares
//! it with the real tables of both backends, so that a column nobody has classified cannot come in.

mod tables;

pub use tables::TABLES;

/// What keeps the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// What a value is to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A number of up to 64 bits; also times (milliseconds since 1970) and flags (0 or 1).
    Integer,
    /// Text without NUL on PostgreSQL.
    Text,
    /// Bytes.
    Bytes,
    /// A time of the database's own (`timestamptz`).
    Moment,
    /// A list of numbers or texts.
    List,
}

/// Whom a value may tell something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Numbers, ids of ours, names from the operator's configuration.
    Clear,
    /// What a person may have said, or who they are.
    Sealed,
    /// A keyed hash of something that a person is known by.
    Blind,
}

/// How a value appears in the canonical dump.
#[derive(Debug, Clone, Copy)]
pub enum Show {
    /// Not at all: operational state, which is no function of the journal.
    Operational,
    /// Not at all: a number that is used inside only. What refers to it is shown by the outer name.
    Inside,
    /// As the outer name of the row.
    Id(fn([u8; 16]) -> String),
    /// As the outer name of the row of this table that it is the number of; null if there is none.
    Of(&'static str),
    /// As a number.
    Number,
    /// As true or false.
    Flag,
    /// As a time, RFC 3339.
    Time,
    /// As text.
    Text,
    /// As the word for a number.
    Word(fn(i64) -> &'static str),
    /// As lower-case hex digits.
    Key,
    /// As the JSON that it holds, or like [`Show::Bytes`] if it holds none.
    Json,
    /// As text, or if it is none as an object with the member `base64`.
    Bytes,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub ty: Type,
    /// Whom it may tell something about.
    pub class: Class,
    /// How it appears in the dump, and with that whether it is domain state.
    pub show: Show,
    /// The only backend that has it; both, if none is named.
    pub only: Option<Backend>,
    /// What gives its value where the other backend lacks it, as SQL over the row `t`. Without it the column is not moved.
    pub instead: Option<&'static str>,
}

/// By what the canonical dump is sorted. Never by a number that is used inside only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It has no part in the dump.
    None,
    /// By `id`.
    Id,
    /// By `key` as it is once opened.
    Key,
    /// By the id of the entry at `position`, and in the order of making within an entry.
    Entry,
}

/// A table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name, which is also the name of its records in the dump.
    pub name: &'static str,
    /// Its primary key: the order in which it is walked.
    pub key: &'static [&'static str],
    /// Its columns, in the order in which they are moved.
    pub columns: &'static [Column],
    /// By what its part of the dump is sorted.
    pub order: Order,
    /// The only backend that has it; both, if none is named. What one backend alone has is made anew by whoever loads.
    pub only: Option<Backend>,
}

impl Column {
    /// Whether a backend has it.
    pub fn is_in(&self, backend: Backend) -> bool {
        self.only.is_none_or(|only| only == backend)
    }

    /// Whether it is moved between stores.
    pub fn is_moved(&self) -> bool {
        self.only.is_none() || self.instead.is_some()
    }

    /// How it is shown where it stands for its row.
    pub fn show_as_name(&self) -> Show {
        match self.show {
            Show::Operational | Show::Inside => Show::Text,
            show => show,
        }
    }

    const fn sealed(self) -> Self {
        Column { class: Class::Sealed, ..self }
    }

    const fn blind(self) -> Self {
        Column { class: Class::Blind, ..self }
    }

    const fn shown(self, show: Show) -> Self {
        Column { show, ..self }
    }

    const fn operational(self) -> Self {
        Column { show: Show::Operational, ..self }
    }

    const fn only(self, backend: Backend) -> Self {
        Column { only: Some(backend), show: Show::Operational, ..self }
    }

    const fn instead(self, sql: &'static str) -> Self {
        Column { instead: Some(sql), ..self }
    }
}

impl Table {
    /// The table of this name.
    pub fn named(name: &str) -> Option<&'static Table> {
        TABLES.iter().find(|table| table.name == name)
    }

    /// The columns that are moved between stores.
    pub fn moved(&self) -> impl Iterator<Item = &'static Column> + use<> {
        self.columns.iter().filter(|column| column.is_moved())
    }

    /// Where a column is among those that are moved.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.moved().position(|column| column.name == name)
    }

    /// The column that others show where they refer to this table.
    pub fn outer(&self) -> &'static str {
        if self.columns.iter().any(|column| column.name == "id") { "id" } else { "hash" }
    }

    /// The column that others refer to it by.
    pub fn inner(&self) -> &'static str {
        self.key.first().copied().unwrap_or("no")
    }
}

/// The tables that are moved between stores.
pub fn moved() -> impl Iterator<Item = &'static Table> {
    TABLES.iter().filter(|table| table.only.is_none())
}

#[cfg(test)]
mod tests;
