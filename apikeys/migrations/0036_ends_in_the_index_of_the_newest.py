"""Let the index of the newest keys hold their ends, by which expired ones are found without the rows of all others."""

from django.db import migrations, models

from apikeys.models.extremes import OrLatest


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0035_covered_days")]
    operations = [
        migrations.RemoveIndex("apikey", "key_newest"),
        migrations.AddIndex(
            "apikey",
            models.Index(
                models.F("organization"),
                models.OrderBy(models.F("created_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                OrLatest("expires_at"),
                name="key_newest",
            ),
        ),
    ]
