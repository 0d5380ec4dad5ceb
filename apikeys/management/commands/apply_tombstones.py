"""apply_tombstones: after a restore, revoke again what had been revoked since the backup."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import CommandError
from django.core.management.base import CommandParser
from tqdm import tqdm

from apikeys import tombstones
from apikeys.management.base import Command as Base
from apikeys.models import Actor, ApiKey, KeyRevokedError, RevocationReason
from apikeys.tombstones import TombstoneError


class Command(Base):
    """Apply tombstones."""

    help = (
        "Revoke every key that has a tombstone in TOMBSTONE_FILE and is not revoked in this database, as after a "
        "restore; /readyz is red until then. Then write the tombstones that are missing. Again, it changes nothing."
    )
    exit_statuses = {0: "done, also when there was nothing to do", 1: "failed; what was done is done", 2: "wrong usage"}

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--dry-run", action="store_true", help="Say which keys would be revoked, and change nothing."
        )
        parser.add_argument(
            "--create", action="store_true", help="Make the file, where tombstones are kept from now on."
        )
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Apply them."""
        if not tombstones.is_used():
            raise CommandError("TOMBSTONE_FILE is not set: no tombstones are kept.")
        try:
            if options["create"]:
                tombstones.append([], create=True)
            revoked = self._revoke(dry_run=options["dry_run"])
            written = 0 if options["dry_run"] else tombstones.append(tombstones.lacking(ApiKey.objects.all()))
            # After everything that could be read was done.
            for _ in tombstones.read():
                pass
        except TombstoneError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"TOMBSTONE_FILE: {settings.TOMBSTONE_FILE}: {error.strerror}") from None
        facts = {"revoked": revoked, "written": written}
        would = "would be" if options["dry_run"] else "were"
        self.answer(options, facts, f"{len(revoked):,} keys {would} revoked again, {written:,} tombstones written.")

    def _revoke(self, *, dry_run: bool) -> list[str]:
        revoked = []
        stones = tqdm(tombstones.read(skip=True), unit=" tombstones", unit_scale=True, disable=None)
        for stone, key in tombstones.alive(stones):
            if not dry_run:
                note = f"Revoked on {stone.revoked_at:%Y-%m-%d %H:%M} UTC by {stone.by}, and again after a restore."[
                    :500
                ]
                try:
                    key.revoke(
                        reason=RevocationReason(stone.reason), note=note, by=Actor.command(), at=stone.revoked_at
                    )
                except KeyRevokedError:
                    continue
            revoked.append(key.public_id)
            at = f"{stone.revoked_at:%Y-%m-%d %H:%M} UTC"
            self.stderr.write(f"{key.organization.slug}: {key.name} ({key.fingerprint}), revoked on {at}")
        return revoked
