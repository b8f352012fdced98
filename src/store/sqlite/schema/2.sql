-- Schema 2: personal data is sealed, looked-up keys are enciphered. `seal`, `blind`, `blind_key` and `mark` are
-- functions that `sealing.rs` lends to this file; it seals the large tables itself, in pieces, afterwards.

-- The key of the entry, under that of its day; in the applied record under those of the customers it concerned.
ALTER TABLE entry ADD COLUMN wrap BLOB NOT NULL DEFAULT x'';
ALTER TABLE applied ADD COLUMN wrap BLOB;
-- Tells a state from any other, so that a commit need not open it.
ALTER TABLE message ADD COLUMN mark BLOB NOT NULL DEFAULT x'';

UPDATE identifier SET key = blind(key);
UPDATE thread SET key = blind(key);
UPDATE side SET key = blind(key);
UPDATE message SET key = blind(key), mark = mark(state), state = seal(10, 2, blind(key), state);
UPDATE fresh SET key = blind_key(key);
UPDATE seen SET key = blind_key(key);
UPDATE send SET planned = seal(12, (SELECT v.customer << 2 FROM conversation v WHERE v.no = send.conversation), id, planned);

ALTER TABLE conversation ADD COLUMN sealed BLOB;
UPDATE conversation SET sealed = seal(7, customer << 2, no, owner) WHERE owner IS NOT NULL;
ALTER TABLE conversation DROP COLUMN owner;
ALTER TABLE conversation RENAME COLUMN sealed TO owner;

ALTER TABLE quarantine ADD COLUMN sealed BLOB NOT NULL DEFAULT x'';
UPDATE quarantine SET sealed = seal(15, 2, position, reason);
ALTER TABLE quarantine DROP COLUMN reason;
ALTER TABLE quarantine RENAME COLUMN sealed TO reason;

ALTER TABLE due ADD COLUMN sealed BLOB;
UPDATE due SET sealed = seal(14, 2, event, error) WHERE error IS NOT NULL;
ALTER TABLE due DROP COLUMN error;
ALTER TABLE due RENAME COLUMN sealed TO error;

ALTER TABLE dead ADD COLUMN sealed BLOB NOT NULL DEFAULT x'';
UPDATE dead SET sealed = seal(14, 2, event, error);
ALTER TABLE dead DROP COLUMN error;
ALTER TABLE dead RENAME COLUMN sealed TO error;

ALTER TABLE send ADD COLUMN sealed BLOB;
UPDATE send SET sealed = seal(13, 2, id, error) WHERE error IS NOT NULL;
ALTER TABLE send DROP COLUMN error;
ALTER TABLE send RENAME COLUMN sealed TO error;
