"""Let a pause end by itself."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0012_keys_by_usual_gap")]
    operations = [
        migrations.AddField("apikey", "paused_until", models.DateTimeField(null=True, blank=True, editable=False)),
    ]
