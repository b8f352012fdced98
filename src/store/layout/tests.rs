//! The description against the real tables of both backends.

use std::collections::BTreeMap;

use super::*;
use crate::store::suite::{on_postgres, server};

/// Columns by table with their types, and the primary keys.
type Schema = BTreeMap<String, (BTreeMap<String, Type>, Vec<String>)>;

fn described(backend: Backend) -> Schema {
    let here = TABLES.iter().filter(|table| table.only.is_none_or(|only| only == backend));
    let columns = |table: &Table| {
        let here = table.columns.iter().filter(|column| column.is_in(backend));
        here.map(|column| (column.name.to_owned(), column.ty)).collect()
    };
    let key = |table: &Table| table.key.iter().map(|name| (*name).to_owned()).collect();
    here.map(|table| (table.name.to_owned(), (columns(table), key(table)))).collect()
}

/// Adds a column that is really there, with its place in the primary key, if it is in it.
fn add(schema: &mut Schema, table: String, column: String, ty: &str, key: i64) {
    let ty = match ty.to_lowercase().as_str() {
        "integer" | "bigint" | "smallint" | "boolean" => Type::Integer,
        "array" => Type::List,
        "text" => Type::Text,
        "blob" | "bytea" => Type::Bytes,
        "timestamp with time zone" => Type::Moment,
        other => panic!("{table}.{column} is of the unknown type {other}"),
    };
    let table = schema.entry(table).or_default();
    if key > 0 {
        table.1.resize(table.1.len().max(key as usize), String::new());
        table.1[key as usize - 1].clone_from(&column);
    }
    table.0.insert(column, ty);
}

#[test]
fn every_column_of_sqlite_is_described_and_there() {
    let folder = tempfile::tempdir().unwrap();
    drop(crate::store::suite::sqlite(folder.path()));
    let database = rusqlite::Connection::open(folder.path().join("segue.db")).unwrap();
    let sql = "SELECT s.name, c.name, c.type, c.pk FROM sqlite_schema s, pragma_table_info(s.name) c
               WHERE s.type = 'table' AND s.name NOT LIKE 'sqlite_%'";
    let mut select = database.prepare(sql).unwrap();
    let mut rows = select.query([]).unwrap();
    let mut real = Schema::new();
    while let Some(row) = rows.next().unwrap() {
        let ty: String = row.get(2).unwrap();
        add(&mut real, row.get(0).unwrap(), row.get(1).unwrap(), &ty, row.get(3).unwrap());
    }
    assert_eq!(real, described(Backend::Sqlite));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_column_of_postgres_is_described_and_there() {
    let _open = on_postgres("layout");
    let (client, connection) = tokio_postgres::connect(server("layout").expose(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let sql = "SELECT c.table_name::text, c.column_name::text, c.data_type::text, coalesce((
                   SELECT array_position(i.indkey::int2[], a.attnum) FROM pg_index i
                     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = c.column_name
                    WHERE i.indisprimary AND i.indrelid = c.table_name::regclass), -1)::int8
               FROM information_schema.columns c WHERE c.table_schema = 'public'";
    let mut real = Schema::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let ty: String = row.get(2);
        // `indkey` counts from 0.
        add(&mut real, row.get(0), row.get(1), &ty, row.get::<_, i64>(3) + 1);
    }
    assert_eq!(real, described(Backend::Postgres));
}

#[test]
fn the_description_holds_together() {
    for table in &TABLES {
        for name in table.key {
            let key = table.columns.iter().find(|column| column.name == *name).expect("a key is a column");
            assert!(key.class != Class::Sealed, "{}: what is sealed anew each time is no key", table.name);
        }
        for column in table.columns {
            if let Show::Of(other) = column.show {
                let other = Table::named(other).expect("a reference leads to a table");
                assert_eq!(other.key.len(), 1, "{}.{}", table.name, column.name);
            }
            assert!(column.only.is_some() || column.instead.is_none(), "{}.{}", table.name, column.name);
            // Whatever may hold what a person said is one of the columns that the codec seals.
            let sealed = crate::store::seal::Column::named(table.name, column.name).is_some();
            assert_eq!(sealed, column.class == Class::Sealed, "{}.{}", table.name, column.name);
            if column.class == Class::Blind {
                assert_eq!(column.ty, Type::Bytes, "{}.{}", table.name, column.name);
            }
        }
        if table.order == Order::Key {
            assert_eq!(table.key, ["key"], "{}", table.name);
        }
    }
}
