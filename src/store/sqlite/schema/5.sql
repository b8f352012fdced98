-- Schema 5: mailboxes that are read over IMAP.

-- How far each folder was read: mails with a UID up to `uid` are in the journal, and up to `acted` it is done with them what
-- is to be done once they are there. Mails that the server took before `since` are not wanted.
CREATE TABLE mailbox (
    channel  TEXT NOT NULL,
    folder   TEXT NOT NULL,
    validity INTEGER NOT NULL,
    uid      INTEGER NOT NULL,
    acted    INTEGER NOT NULL,
    since    INTEGER NOT NULL,
    moved_at INTEGER NOT NULL,
    PRIMARY KEY (channel, folder)
) STRICT, WITHOUT ROWID;
