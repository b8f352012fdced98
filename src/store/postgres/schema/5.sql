-- Schema 5: large content, which lies apart.

-- Where the content of a name is.
CREATE TABLE blob (
    name     bytea PRIMARY KEY,
    object   bytea NOT NULL,
    customer bigint,
    size     bigint NOT NULL,
    made_at  bigint NOT NULL
);
CREATE INDEX blob_made ON blob (made_at);

-- What parts of interactions name.
CREATE TABLE blob_use (
    interaction bigint NOT NULL,
    part        bigint NOT NULL,
    name        bytea NOT NULL,
    PRIMARY KEY (interaction, part, name)
);
CREATE INDEX blob_use_name ON blob_use (name);

-- Objects that exist, or may, and hold the content of no name. Time 0 dooms one: it cannot be given a name any more.
CREATE TABLE loose (
    object bytea PRIMARY KEY,
    at     bigint NOT NULL
);
CREATE INDEX loose_at ON loose (at);

CREATE FUNCTION interaction_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM blob_use WHERE interaction = OLD.no;
    RETURN NULL;
END $$;
CREATE TRIGGER interaction_gone AFTER DELETE ON interaction FOR EACH ROW EXECUTE FUNCTION interaction_gone();
