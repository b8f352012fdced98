-- Schema 4: the content of bundles, sealed, and which of them rules. `used` says that an applied record names the bundle; of those that were
-- kept before, all are named.
ALTER TABLE bundle ADD COLUMN content bytea;
ALTER TABLE bundle ADD COLUMN used smallint NOT NULL DEFAULT 1;

-- `id` tells one call from another, so that a publication of unknown outcome can be tried again. One that came from
-- another store has none.
CREATE TABLE publication (
    version bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id      bytea UNIQUE,
    hash    text NOT NULL,
    at      bigint NOT NULL,
    by      text NOT NULL,
    engine  text NOT NULL
);
