-- Schema 2: personal data is sealed, looked-up keys are enciphered. The key store has a schema of its own; see `keystore.rs`.

-- The key of the entry, under that of its day; in the applied record under those of the customers it concerned.
ALTER TABLE entry ADD COLUMN wrap bytea NOT NULL DEFAULT '';
ALTER TABLE applied ADD COLUMN wrap bytea;
-- Tells a state from any other, so that a commit need not open it.
ALTER TABLE message ADD COLUMN mark bytea NOT NULL DEFAULT '';

ALTER TABLE conversation ALTER COLUMN owner TYPE bytea USING convert_to(owner, 'UTF8');
ALTER TABLE quarantine ALTER COLUMN reason TYPE bytea USING convert_to(reason, 'UTF8');
ALTER TABLE due ALTER COLUMN error TYPE bytea USING convert_to(error, 'UTF8');
ALTER TABLE dead ALTER COLUMN error TYPE bytea USING convert_to(error, 'UTF8');
ALTER TABLE send ALTER COLUMN error TYPE bytea USING convert_to(error, 'UTF8');
