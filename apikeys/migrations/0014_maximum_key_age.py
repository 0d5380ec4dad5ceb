"""Let an organization say after how many days a key should be rotated."""

import django.core.validators
from django.db import migrations, models

FAULT = "Between 1 and 3,650 days, or empty for no limit."


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0013_pauses_that_end")]
    operations = [
        migrations.AddField(
            "organization",
            "max_key_age",
            models.PositiveIntegerField(
                null=True,
                blank=True,
                validators=[
                    django.core.validators.MinValueValidator(1, FAULT),
                    django.core.validators.MaxValueValidator(3650, FAULT),
                ],
            ),
        ),
    ]
