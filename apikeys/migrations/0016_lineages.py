"""Tell of each key that was regenerated which one its lineage began with."""

from django.db import migrations

FILL = """
WITH RECURSIVE line (id, root) AS (
    SELECT id, id FROM apikeys_apikey WHERE replaces_id IS NULL
    AND id IN (SELECT replaces_id FROM apikeys_apikey WHERE replaces_id IS NOT NULL)
    UNION ALL
    SELECT successor.id, line.root FROM apikeys_apikey AS successor JOIN line ON successor.replaces_id = line.id
)
UPDATE apikeys_apikey SET root_id = line.root FROM line
WHERE line.id = apikeys_apikey.id AND apikeys_apikey.replaces_id IS NOT NULL
"""


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0015_rotations")]
    operations = [migrations.RunSQL(FILL, migrations.RunSQL.noop)]
