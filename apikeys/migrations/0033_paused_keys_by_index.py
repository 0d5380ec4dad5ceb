"""Let the index of paused keys hold all that their number depends on."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0032_key_networks")]
    operations = [
        migrations.RemoveIndex("apikey", "key_paused"),
        migrations.AddIndex(
            "apikey",
            models.Index(
                condition=models.Q(paused_at__isnull=False, revoked_at__isnull=True),
                fields=["organization", "-created_at", "-id", "expires_at", "paused_until"],
                name="key_paused",
            ),
        ),
    ]
