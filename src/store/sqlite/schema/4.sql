-- Schema 4: large content, which lies apart.

-- Where the content of a name is.
CREATE TABLE blob (
    name     BLOB PRIMARY KEY,
    object   BLOB NOT NULL,
    customer INTEGER,
    size     INTEGER NOT NULL,
    made_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_made ON blob (made_at);

-- What parts of interactions name.
CREATE TABLE blob_use (
    interaction INTEGER NOT NULL,
    part        INTEGER NOT NULL,
    name        BLOB NOT NULL,
    PRIMARY KEY (interaction, part, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_use_name ON blob_use (name);

-- Objects that exist, or may, and hold the content of no name. Time 0 dooms one: it cannot be given a name any more.
CREATE TABLE loose (
    object BLOB PRIMARY KEY,
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX loose_at ON loose (at);

CREATE TRIGGER interaction_gone AFTER DELETE ON interaction BEGIN
    DELETE FROM blob_use WHERE interaction = OLD.no;
END;
