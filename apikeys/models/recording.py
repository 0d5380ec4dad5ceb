"""Since when usage is recorded, and how far it is rolled up."""

from __future__ import annotations

from datetime import datetime

from django.db import models


class UsageWatermark(models.Model):
    """One row: every hour before ``until`` is rolled up, every hour from it on is read from raw events.

    ``recording_since`` is when usage began to be recorded. Before ``raw_from``, a midnight, raw events were removed;
    None: never. ``settled_until`` is as far as the busiest keys and the usual gaps take in. While events are removed
    from SQLite, ``removing_up_to`` is the last row of them.
    """

    until = models.DateTimeField(null=True)
    recording_since = models.DateTimeField(null=True)
    raw_from = models.DateTimeField(null=True)
    settled_until = models.DateTimeField(null=True)
    removing_up_to = models.BigIntegerField(null=True)

    def __str__(self) -> str:
        return f"rolled up until {self.until}"

    @classmethod
    def current(cls) -> datetime | None:
        """Return the watermark, None before the first roll-up."""
        return cls.objects.filter(pk=1).values_list("until", flat=True).first()

    @classmethod
    def read(cls) -> UsageWatermark:
        """Return the row, empty before there is one."""
        return cls.objects.filter(pk=1).first() or cls(pk=1)

    @classmethod
    def locked(cls) -> UsageWatermark:
        """Return the row, locked until the transaction ends."""
        cls.objects.get_or_create(pk=1)
        return cls.objects.select_for_update().get(pk=1)

    def move(self, until: datetime) -> None:
        """Set how far usage is rolled up."""
        self.until = until
        self.save(update_fields=["until"])
        self.unsettle(until)

    def unsettle(self, since: datetime) -> None:
        """Say that hours from one on are counted anew, so that busiest keys and usual gaps have to be found again."""
        if self.settled_until and since < self.settled_until:
            self.settled_until = since
            self.save(update_fields=["settled_until"])

    def keep_raw_from(self, midnight: datetime) -> None:
        """Say that raw events before a midnight are removed, unless more are already."""
        if self.raw_from is None or self.raw_from < midnight:
            self.raw_from = midnight
            self.save(update_fields=["raw_from"])

    def remove_up_to(self, row: int | None) -> None:
        """Say which row is the last that is being removed, None when all are."""
        self.removing_up_to = row
        self.save(update_fields=["removing_up_to"])
