"""Let the index of the keys with long gaps tell which of them are silent, without their rows."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0036_ends_in_the_index_of_the_newest")]
    operations = [
        migrations.RemoveIndex("keyrhythm", "rhythm_by_usual_gap"),
        migrations.AddIndex(
            "keyrhythm",
            models.Index(fields=["usual_gap", "last_hour"], name="rhythm_by_gap_and_last_hour"),
        ),
    ]
