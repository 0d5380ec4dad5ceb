"""finish_rotations: close the rotations that are over, and those that are safe and finish by themselves."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from apikeys import tombstones
from apikeys.management.base import Command as Base
from apikeys.models import Actor, Ending, Rotation
from apikeys.models.progress import finish_due
from apikeys.tombstones import TombstoneError


class Command(Base):
    """Finish rotations."""

    scheduled = True
    help = (
        "Revoke the old keys of rotations whose deadline has passed, which the verifier refuses since then, and of "
        "those that were to finish by themselves and are safe."
    )
    exit_statuses = {0: "done, also when there was nothing to do", 1: "failed", 2: "wrong usage"}

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Finish them, and say of each on stderr why."""
        counts = dict.fromkeys((Ending.DEADLINE, Ending.SAFE), 0)
        for rotation in finish_due(by=Actor.scheduled()):
            counts[Ending(rotation.ending)] += 1
            key, organization = rotation.old_key, rotation.organization.slug
            self.stderr.write(f"{organization}: {key.name} ({key.fingerprint}) {rotation.get_ending_display()}.")
        self._catch_up()
        left = Rotation.objects.open().count()
        facts = {"deadline": counts[Ending.DEADLINE], "safe": counts[Ending.SAFE], "running": left}
        words = f"{facts['deadline']:,} ended at their deadline, {facts['safe']:,} were safe; {left:,} run."
        self.answer(options, facts, words)

    def _catch_up(self) -> None:
        """Write the tombstones that a crash or a file that was away has left out."""
        try:
            tombstones.catch_up()
        except (OSError, TombstoneError) as error:
            self.stderr.write(f"Tombstones were not written: {error}")
