"""Start the clock of a rotation in the very transaction that records the first use of its new key.

The verifier then reads the old key's end from the key's own row, and asks nothing more of a request than before. What
the trigger says is Rotation.overlap after the first use, and never later than the end that was set before.
"""

from django.db import migrations

# Who closes a rotation holds the old key's row. The trigger takes it first, in a statement of its own, so that the next
# one sees what was committed meanwhile: else a rotation cancelled at that moment would still end its old key.
POSTGRESQL = """
CREATE FUNCTION keyadmin_start_rotation_clock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM apikeys_apikey AS old_key JOIN apikeys_rotation AS rotation ON rotation.old_key_id = old_key.id
    WHERE rotation.new_key_id = NEW.key_id AND rotation.closed_at IS NULL AND rotation.clock = 'first_use'
    FOR NO KEY UPDATE OF old_key;
    IF FOUND THEN
        UPDATE apikeys_apikey AS old_key
        SET expires_at = LEAST(old_key.expires_at, NEW.first_used_at + rotation.overlap_seconds * interval '1 second')
        FROM apikeys_rotation AS rotation
        WHERE rotation.new_key_id = NEW.key_id AND rotation.closed_at IS NULL AND rotation.clock = 'first_use'
            AND old_key.id = rotation.old_key_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keyadmin_rotation_clock AFTER UPDATE ON apikeys_keyactivity
    FOR EACH ROW WHEN (OLD.first_used_at IS NULL AND NEW.first_used_at IS NOT NULL)
    EXECUTE FUNCTION keyadmin_start_rotation_clock();
"""
# An instant is a text there. datetime() is given whole seconds, because it rounds: the part of a second is put back.
SQLITE = """
CREATE TRIGGER keyadmin_rotation_clock AFTER UPDATE ON apikeys_keyactivity
WHEN OLD.first_used_at IS NULL AND NEW.first_used_at IS NOT NULL
BEGIN
    UPDATE apikeys_apikey
    SET expires_at = min(
        expires_at,
        datetime(substr(NEW.first_used_at, 1, 19), '+' || rotation.overlap_seconds || ' seconds') || substr(NEW.first_used_at, 20)
    )
    FROM apikeys_rotation AS rotation
    WHERE rotation.new_key_id = NEW.key_id AND rotation.closed_at IS NULL AND rotation.clock = 'first_use'
        AND apikeys_apikey.id = rotation.old_key_id;
END
"""


def create(apps, schema_editor):
    schema_editor.execute(POSTGRESQL if schema_editor.connection.vendor == "postgresql" else SQLITE)


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0016_lineages")]
    # No way back: without the trigger a clock would not start.
    operations = [migrations.RunPython(create)]
