"""How a key is usually used: the gaps between its uses, learnt from the hours in which it was."""

from __future__ import annotations

from datetime import timedelta

from django.db import models

from apikeys.models.key import ApiKey


class KeyRhythm(models.Model):
    """The gaps between uses of a key, from the roll-ups; hours that follow one another are one use.

    A gap is the time from one hour with accepted requests to the next such hour, in seconds; ``_at`` is the hour that
    ended it. ``longest_gap`` and ``second_gap`` are the longest two that are remembered, 0 where there is none. Keys
    without any accepted request have no row, but those that replace another key go on with its row.
    """

    key = models.OneToOneField(ApiKey, models.DO_NOTHING, primary_key=True, related_name="rhythm", db_constraint=False)
    first_hour = models.DateTimeField()
    last_hour = models.DateTimeField()
    longest_gap = models.PositiveBigIntegerField(default=0)
    longest_gap_at = models.DateTimeField(null=True)
    second_gap = models.PositiveBigIntegerField(default=0)
    second_gap_at = models.DateTimeField(null=True)
    # The second longest, from which the key came back twice, or else the longest: docs/unused.md.
    usual_gap = models.PositiveBigIntegerField(default=0)
    median_gap = models.PositiveBigIntegerField(null=True)
    gaps = models.PositiveIntegerField(default=0)
    computed_at = models.DateTimeField()

    class Meta:
        # The last hour, for most keys with long gaps are not silent: without it each of them is looked at.
        indexes = [models.Index(fields=["usual_gap", "last_hour"], name="rhythm_by_gap_and_last_hour")]

    def __str__(self) -> str:
        return f"rhythm of {self.key_id}"

    @property
    def longest(self) -> timedelta:
        """The longest gap."""
        return timedelta(seconds=self.longest_gap)

    @property
    def usual(self) -> timedelta | None:
        """The median of the newest gaps, None without any."""
        return timedelta(seconds=self.median_gap) if self.median_gap else None

    def pass_on(self, key: ApiKey) -> None:
        """Let the key that replaces this one's go on with its rhythm."""
        fields = [field.attname for field in self._meta.concrete_fields if not field.primary_key]
        KeyRhythm.objects.create(key=key, **{name: getattr(self, name) for name in fields})
