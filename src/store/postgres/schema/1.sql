-- Schema 1. Forward only: a later change is another numbered file.
-- The tables are those of `sqlite/schema.sql`, but for what saves one file reading and writing: `seen`, `fresh`, and the kind
-- and channel of a conversation's latest event, which the feed joins here. What people wrote is `bytea`: NUL and invalid UTF-8
-- survive. What several nodes count up together are sequences, whose gaps do no harm.

-- Settings of the database itself: its schema, and what feed numbers begin at.
CREATE TABLE setting (
    name  text PRIMARY KEY,
    value bigint NOT NULL
);
-- Feed numbers are made of transaction numbers. A restore into a new cluster, whose transaction numbers begin anew, raises
-- the offset, so that feed numbers go on rising.
INSERT INTO setting (name, value) VALUES ('schema', 1), ('feed_offset', 0);

CREATE SEQUENCE entry_position;
-- Each value stands for a block of numbers; see `numbers.rs`.
CREATE SEQUENCE customer_no INCREMENT BY 1024;
CREATE SEQUENCE conversation_no INCREMENT BY 1024;
CREATE SEQUENCE interaction_no INCREMENT BY 1024;

CREATE TABLE entry (
    position    bigint PRIMARY KEY,
    id          bytea NOT NULL,
    kind        smallint NOT NULL,
    channel     text NOT NULL,
    at          bigint NOT NULL,
    interactive smallint NOT NULL,
    delivery    bytea,
    head        bytea NOT NULL,
    raw         bytea
);
CREATE UNIQUE INDEX entry_id ON entry (id);
CREATE UNIQUE INDEX entry_delivery ON entry (delivery) WHERE delivery IS NOT NULL;

-- Every entry that has no applied record.
CREATE TABLE pending (
    position bigint PRIMARY KEY,
    channel  text NOT NULL
);
-- The pending are few among many dead rows: without frequent vacuum each look at them would walk over those.
ALTER TABLE pending SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE TABLE bundle (
    no   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash text NOT NULL UNIQUE
);

-- The apply number is taken after every asserted row is locked: it is a serial order of all conflicts, with gaps.
CREATE TABLE applied (
    apply_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    position bigint NOT NULL UNIQUE,
    bundle   bigint NOT NULL,
    engine   text NOT NULL,
    facts    bytea
);

CREATE TABLE customer (
    no         bigint PRIMARY KEY,
    id         bytea NOT NULL UNIQUE,
    version    bigint NOT NULL,
    created_at bigint NOT NULL,
    latest     bigint NOT NULL,
    profile    bytea NOT NULL,
    recent     bytea NOT NULL
) WITH (fillfactor = 80);

CREATE TABLE identifier (
    key      bytea PRIMARY KEY,
    customer bigint NOT NULL
);

CREATE TABLE conversation (
    no           bigint PRIMARY KEY,
    id           bytea NOT NULL UNIQUE,
    version      bigint NOT NULL,
    customer     bigint NOT NULL,
    state        smallint NOT NULL,
    public       smallint NOT NULL,
    seq          bigint NOT NULL,
    event_seq    bigint NOT NULL,
    opened_at    bigint NOT NULL,
    updated_at   bigint NOT NULL,
    latest       bigint NOT NULL,
    latest_event bigint NOT NULL,
    queue        text,
    owner        text,
    links        bytea
) WITH (fillfactor = 80);
CREATE INDEX conversation_open ON conversation (customer) WHERE state = 0;

CREATE TABLE thread (
    key          bytea PRIMARY KEY,
    conversation bigint NOT NULL
);

-- Two chains run backwards through this table, one for each conversation and one for each customer.
CREATE TABLE interaction (
    no                     bigint PRIMARY KEY,
    id                     bytea NOT NULL UNIQUE,
    item                   bytea,
    conversation           bigint NOT NULL,
    seq                    bigint NOT NULL,
    before_in_conversation bigint NOT NULL,
    customer               bigint NOT NULL,
    before_of_customer     bigint NOT NULL,
    outbound               smallint NOT NULL,
    body                   bytea NOT NULL,
    decision               bytea
);
CREATE UNIQUE INDEX interaction_item ON interaction (item) WHERE item IS NOT NULL;

CREATE TABLE message (
    key   bytea PRIMARY KEY,
    state bytea NOT NULL
);

-- `no` is made of the number of the transaction that wrote the event; see `feed.rs`.
CREATE TABLE event (
    no           bigint PRIMARY KEY,
    id           bytea NOT NULL UNIQUE,
    kind         smallint NOT NULL,
    conversation bigint NOT NULL,
    sequence     bigint NOT NULL,
    before       bigint NOT NULL,
    channel      text NOT NULL,
    at           bigint NOT NULL,
    body         bytea NOT NULL
);

-- Up to where a help desk's events are settled: delivered, or set aside in `due`. Moves forward only. Nodes need not know
-- the same help desks, so a cursor goes only once no node has used it for long.
CREATE TABLE settled (
    helpdesk text PRIMARY KEY,
    event    bigint NOT NULL,
    used_at  timestamptz NOT NULL DEFAULT now()
);

-- Events set aside: those that failed, and those that wait behind them. A first-try success never has a row here.
CREATE TABLE due (
    helpdesk     text NOT NULL,
    event        bigint NOT NULL,
    conversation bigint NOT NULL,
    previous     bigint NOT NULL,
    attempts     bigint NOT NULL DEFAULT 0,
    next_at      bigint NOT NULL DEFAULT 0,
    error        text,
    PRIMARY KEY (helpdesk, event)
);
CREATE INDEX due_conversation ON due (helpdesk, conversation, event);
CREATE INDEX due_event ON due (event);

CREATE TABLE dead (
    event        bigint NOT NULL,
    helpdesk     text NOT NULL,
    conversation bigint NOT NULL,
    previous     bigint NOT NULL,
    attempts     bigint NOT NULL,
    error        text NOT NULL,
    at           bigint NOT NULL,
    PRIMARY KEY (event, helpdesk)
);

-- `intent` names the call that committed the intent, so that a commit of unknown outcome can be tried again.
CREATE TABLE send (
    id           bytea PRIMARY KEY,
    state        smallint NOT NULL,
    conversation bigint NOT NULL,
    created_at   bigint NOT NULL,
    next_at      bigint NOT NULL,
    attempts     bigint NOT NULL,
    error        text,
    planned      bytea NOT NULL,
    intent       bytea
);
CREATE INDEX send_open ON send (next_at) WHERE state < 2;

CREATE TABLE media (
    interaction    bigint NOT NULL,
    part           bigint NOT NULL,
    interaction_id bytea NOT NULL,
    channel        text NOT NULL,
    attempts       bigint NOT NULL,
    next_at        bigint NOT NULL,
    PRIMARY KEY (interaction, part)
);
CREATE INDEX media_due ON media (next_at);

CREATE TABLE quarantine (
    no       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    position bigint NOT NULL,
    reason   text NOT NULL,
    at       bigint NOT NULL
);
CREATE INDEX quarantine_position ON quarantine (position);

CREATE TABLE side (
    key bytea PRIMARY KEY,
    at  bigint NOT NULL
);

CREATE TABLE token (
    id         text PRIMARY KEY,
    name       text NOT NULL,
    scopes     text NOT NULL,
    hash       bytea NOT NULL,
    created_at bigint NOT NULL,
    revoked_at bigint
);

-- How far pruning came, by class.
CREATE TABLE pruned (
    class    text PRIMARY KEY,
    position bigint NOT NULL
);
