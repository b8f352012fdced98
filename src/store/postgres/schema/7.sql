-- Schema 7: refresh tokens that a token endpoint put in the place of configured ones (OAuth 2.0).

CREATE TABLE mail_grant (
    channel text PRIMARY KEY,
    kept    bytea NOT NULL
);
