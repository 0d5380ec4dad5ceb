"""Ask for the rotation by its new key alone, and only then for the old key.

Joined, the two were read in an order that the planner chose by its statistics: where many keys had just been written,
each first use of a key read all of them.
"""

from django.db import migrations

POSTGRESQL = """
CREATE OR REPLACE FUNCTION keyadmin_start_rotation_clock() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    old_key bigint;
BEGIN
    SELECT rotation.old_key_id INTO old_key FROM apikeys_rotation AS rotation
    WHERE rotation.new_key_id = NEW.key_id AND rotation.closed_at IS NULL AND rotation.clock = 'first_use';
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM 1 FROM apikeys_apikey WHERE id = old_key FOR NO KEY UPDATE;
    UPDATE apikeys_apikey
    SET expires_at = LEAST(expires_at, NEW.first_used_at + rotation.overlap_seconds * interval '1 second')
    FROM apikeys_rotation AS rotation
    WHERE rotation.new_key_id = NEW.key_id AND rotation.closed_at IS NULL AND rotation.clock = 'first_use'
        AND apikeys_apikey.id = rotation.old_key_id AND apikeys_apikey.id = old_key;
    RETURN NULL;
END $$;
"""


def create(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL)


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0019_usage_forecasts")]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
