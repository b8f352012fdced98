-- Schema 1. Forward only: a later change is another numbered step.
-- SQL here is portable but for STRICT, WITHOUT ROWID and BLOB.

CREATE TABLE entry (
    position    INTEGER PRIMARY KEY,
    id          BLOB NOT NULL,
    kind        INTEGER NOT NULL,
    channel     TEXT NOT NULL,
    at          INTEGER NOT NULL,
    interactive INTEGER NOT NULL,
    delivery    BLOB,
    head        BLOB NOT NULL,
    raw         BLOB
) STRICT;
CREATE UNIQUE INDEX entry_id ON entry (id);

-- What has a key: entries by delivery, interactions by item. Keys that came lately are in `fresh` and go on to `seen`.
CREATE TABLE seen (
    key BLOB PRIMARY KEY,
    no  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE fresh (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL,
    no  INTEGER NOT NULL
) STRICT;

-- Every entry that has no applied record. Apart from the entry, so that applying does not rewrite the entry's page.
CREATE TABLE pending (
    position INTEGER PRIMARY KEY,
    channel  TEXT NOT NULL
) STRICT;

CREATE TABLE bundle (
    no   INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE applied (
    apply_no INTEGER PRIMARY KEY,
    position INTEGER NOT NULL UNIQUE,
    bundle   INTEGER NOT NULL,
    engine   TEXT NOT NULL,
    facts    BLOB
) STRICT;

CREATE TABLE customer (
    no         INTEGER PRIMARY KEY,
    id         BLOB NOT NULL UNIQUE,
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    latest     INTEGER NOT NULL,
    profile    BLOB NOT NULL,
    recent     BLOB NOT NULL
) STRICT;

CREATE TABLE identifier (
    key      BLOB PRIMARY KEY,
    customer INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE conversation (
    no           INTEGER PRIMARY KEY,
    id           BLOB NOT NULL UNIQUE,
    version      INTEGER NOT NULL,
    customer     INTEGER NOT NULL,
    state        INTEGER NOT NULL,
    public       INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    event_seq    INTEGER NOT NULL,
    opened_at    INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    latest       INTEGER NOT NULL,
    latest_event INTEGER NOT NULL,
    -- Kind and channel of that event, so that most questions for the one before need not read it.
    latest_kind    INTEGER NOT NULL,
    latest_channel TEXT NOT NULL,
    queue        TEXT,
    owner        TEXT,
    links        BLOB
) STRICT;
CREATE INDEX conversation_open ON conversation (customer) WHERE state = 0;

CREATE TABLE thread (
    key          BLOB PRIMARY KEY,
    conversation INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Two chains run backwards through this table, one for each conversation and one for each customer. They take the place
-- of two indexes, whose random pages would cost more than all the rest of a commit.
CREATE TABLE interaction (
    no                     INTEGER PRIMARY KEY,
    id                     BLOB NOT NULL UNIQUE,
    item                   BLOB,
    conversation           INTEGER NOT NULL,
    seq                    INTEGER NOT NULL,
    before_in_conversation INTEGER NOT NULL,
    customer               INTEGER NOT NULL,
    before_of_customer     INTEGER NOT NULL,
    outbound               INTEGER NOT NULL,
    body                   BLOB NOT NULL,
    decision               BLOB
) STRICT;

CREATE TABLE message (
    key   BLOB PRIMARY KEY,
    state BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    no           INTEGER PRIMARY KEY,
    id           BLOB NOT NULL UNIQUE,
    kind         INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    sequence     INTEGER NOT NULL,
    before       INTEGER NOT NULL,
    channel      TEXT NOT NULL,
    at           INTEGER NOT NULL,
    body         BLOB NOT NULL
) STRICT;

-- Up to where a help desk's events are settled: delivered, or set aside in `due`.
CREATE TABLE settled (
    helpdesk TEXT PRIMARY KEY,
    event    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Events set aside: those that failed, and those that wait behind them. A first-try success never has a row here.
CREATE TABLE due (
    helpdesk     TEXT NOT NULL,
    event        INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    previous     INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_at      INTEGER NOT NULL DEFAULT 0,
    error        TEXT,
    PRIMARY KEY (helpdesk, event)
) STRICT, WITHOUT ROWID;
CREATE INDEX due_conversation ON due (helpdesk, conversation, event);

CREATE TABLE dead (
    event        INTEGER NOT NULL,
    helpdesk     TEXT NOT NULL,
    conversation INTEGER NOT NULL,
    previous     INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    error        TEXT NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (event, helpdesk)
) STRICT, WITHOUT ROWID;

CREATE TABLE send (
    id           BLOB PRIMARY KEY,
    state        INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    next_at      INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    error        TEXT,
    planned      BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX send_open ON send (next_at) WHERE state < 2;

CREATE TABLE media (
    interaction    INTEGER NOT NULL,
    part           INTEGER NOT NULL,
    interaction_id BLOB NOT NULL,
    channel        TEXT NOT NULL,
    attempts       INTEGER NOT NULL,
    next_at        INTEGER NOT NULL,
    PRIMARY KEY (interaction, part)
) STRICT, WITHOUT ROWID;
CREATE INDEX media_due ON media (next_at);

CREATE TABLE quarantine (
    no       INTEGER PRIMARY KEY,
    position INTEGER NOT NULL,
    reason   TEXT NOT NULL,
    at       INTEGER NOT NULL
) STRICT;

CREATE TABLE side (
    key BLOB PRIMARY KEY,
    at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE token (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    scopes     TEXT NOT NULL,
    hash       BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

-- How far pruning came, by class.
CREATE TABLE pruned (
    class    TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
