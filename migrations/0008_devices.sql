-- A person's devices. All of it but the last two tables is read model.

-- Whose device signed; NULL: the signing key is its own identity.
ALTER TABLE message ADD COLUMN identity BLOB;
ALTER TABLE message_edit ADD COLUMN identity BLOB;
ALTER TABLE message_delete ADD COLUMN identity BLOB;
ALTER TABLE reaction ADD COLUMN identity BLOB;
-- Of what two devices of a person said, the later by their own clocks stands.
ALTER TABLE reaction ADD COLUMN sent_ms INTEGER;

-- Which device an accepted membership operation is about.
ALTER TABLE audit ADD COLUMN device BLOB;

-- The devices that a space was told of.
CREATE TABLE space_device (
    space    BLOB NOT NULL,
    device   BLOB NOT NULL,
    identity BLOB NOT NULL,
    revoked  INTEGER NOT NULL,
    PRIMARY KEY (space, device)
) WITHOUT ROWID, STRICT;

-- Devices of this device's person that were revoked: every space is told, also one that comes later.
CREATE TABLE revoked_device (
    device     BLOB NOT NULL PRIMARY KEY,
    revocation BLOB NOT NULL
) WITHOUT ROWID, STRICT;

-- Messages up to which another device of the person has read, and which are not here yet.
CREATE TABLE read_ahead (
    log     BLOB NOT NULL,
    message BLOB NOT NULL,
    PRIMARY KEY (log, message)
) WITHOUT ROWID, STRICT;
