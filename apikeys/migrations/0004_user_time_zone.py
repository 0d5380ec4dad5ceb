from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("apikeys", "0003_events_by_time")]

    operations = [migrations.AddField("user", "time_zone", models.CharField(blank=True, max_length=64))]
