-- Schema 3: the content of bundles, sealed, and which of them rules. `used` says that an applied record names the bundle; of those that were
-- kept before, all are named.
ALTER TABLE bundle ADD COLUMN content BLOB;
ALTER TABLE bundle ADD COLUMN used INTEGER NOT NULL DEFAULT 1;

CREATE TABLE publication (
    version INTEGER PRIMARY KEY AUTOINCREMENT,
    hash    TEXT NOT NULL,
    at      INTEGER NOT NULL,
    by      TEXT NOT NULL,
    engine  TEXT NOT NULL
) STRICT;
