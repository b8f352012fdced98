-- Schema 6: mailboxes that are read over IMAP.

-- How far each folder was read: mails with a UID up to `uid` are in the journal, and up to `acted` it is done with them what
-- is to be done once they are there. Mails that the server took before `since` are not wanted.
CREATE TABLE mailbox (
    channel  text NOT NULL,
    folder   text NOT NULL,
    validity bigint NOT NULL,
    uid      bigint NOT NULL,
    acted    bigint NOT NULL,
    since    bigint NOT NULL,
    moved_at bigint NOT NULL,
    PRIMARY KEY (channel, folder)
);
