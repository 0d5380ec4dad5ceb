"""What the requests of each key's running day are judged by, kept from its first look after midnight (UTC)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import ClassVar

from django.db import models

from apikeys.models.key import ApiKey


class UsageForecastQuerySet(models.QuerySet["UsageForecast"]):
    """Storing of many."""

    def store(self, day: date, packed: Sequence[tuple[int, bytes]]) -> None:
        """Keep the forecasts of a day, by key id, in place of those of an earlier one."""
        rows = [self.model(key_id=key_id, day=day, packed=numbers) for key_id, numbers in sorted(packed)]
        self.bulk_create(rows, update_conflicts=True, unique_fields=["key"], update_fields=["day", "packed"])


class UsageForecast(models.Model):
    """A forecast of apikeys.unusual_usage: its packed numbers as little-endian doubles."""

    key = models.OneToOneField(
        ApiKey, models.DO_NOTHING, primary_key=True, related_name="usage_forecast", db_constraint=False
    )
    day = models.DateField(db_index=True)
    packed = models.BinaryField()

    objects: ClassVar = UsageForecastQuerySet.as_manager()

    def __str__(self) -> str:
        return f"forecast of {self.key_id} for {self.day}"
