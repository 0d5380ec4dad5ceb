"""Webhooks may be told of the audit log's checkpoints."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0030_single_sign_on"),
    ]

    operations = [
        migrations.AddField(
            model_name="delivery",
            name="checkpoint",
            field=models.ForeignKey(
                null=True, on_delete=models.CASCADE, related_name="deliveries", to="apikeys.auditcheckpoint"
            ),
        ),
    ]
