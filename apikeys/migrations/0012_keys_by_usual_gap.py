"""Let an index find the keys that are seldom used, of which seasonal ones are some."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0011_late_notes_by_index")]
    operations = [
        migrations.AddIndex("keyrhythm", models.Index(fields=["usual_gap"], name="rhythm_by_usual_gap")),
    ]
