-- Schema 3: several nodes share the work.

-- Who works on this database. A number is drawn anew each time a node joins, rises, and is the fencing token of all that the
-- node holds: without a row whose time has not passed, a node's changesets are not written.
CREATE SEQUENCE node_no AS integer;
CREATE TABLE node (
    no        integer PRIMARY KEY,
    id        bytea NOT NULL,
    joined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    until     timestamptz NOT NULL,
    wants     text[] NOT NULL
);

-- Who holds what. A lease of a node that has no row is free.
CREATE TABLE lease (
    name text PRIMARY KEY,
    node integer
);
INSERT INTO lease (name) SELECT 'bucket/' || n FROM generate_series(0, 255) AS n;

-- What orders an entry among others, as 64 bits of each of its keys. The last eight bits of the first are its bucket. Entries
-- of before all lie in the first bucket, where one node orders them.
ALTER TABLE pending ADD COLUMN key bigint NOT NULL DEFAULT 0, ADD COLUMN more bigint[],
    ADD COLUMN interactive boolean NOT NULL DEFAULT false;
UPDATE pending SET key = position << 8;
CREATE INDEX pending_key ON pending (key, position);
CREATE INDEX pending_interactive ON pending (position) WHERE interactive;

-- The further keys of pending entries, for looking up.
CREATE TABLE pending_more (
    key      bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (key, position)
);
ALTER TABLE pending_more SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
