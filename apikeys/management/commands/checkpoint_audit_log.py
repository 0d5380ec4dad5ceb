"""checkpoint_audit_log: sign how far each organization's audit log has got, and mail it to who keeps it."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from apikeys.audit_signing import public_keys
from apikeys.checkpoints import make_checkpoint, send_checkpoints
from apikeys.management.base import Command as Base
from apikeys.models import AuditChain

NOT_AS_WRITTEN = 3


class Command(Base):
    """Make checkpoints of the audit log."""

    scheduled = True
    help = (
        "Check each chain of audit entries, sign how far it has got, at most once a day and only where it has grown, "
        "and mail that to the address in the organization's settings. One that is not as it was written is not signed."
    )
    exit_statuses = {
        0: "done, also when a mail is to be sent by the next run",
        1: "failed",
        2: "wrong usage",
        NOT_AS_WRITTEN: "a chain is not as it was written, and was not signed",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--public-key",
            action="store_true",
            help="Print the public keys of this installation, that which signs now first, and do nothing else.",
        )
        self.add_json(parser)

    def is_whole(self, options: Any) -> bool:
        """Say whether checkpoints are made."""
        return not options["public_key"]

    def handle(self, **options: Any) -> None:
        """Make and mail them."""
        if options["public_key"]:
            keys = public_keys()
            self.answer(options, {"public_keys": keys}, "\n".join(keys))
            return
        now, made, broken = timezone.now(), 0, 0
        for chain in AuditChain.objects.order_by("number"):
            verdict = make_checkpoint(chain, now)
            made += bool(verdict and not verdict.fault)
            broken += bool(verdict and verdict.fault)
        sent, failed = send_checkpoints(now)
        facts = {"made": made, "sent": sent, "failed": failed, "not_as_written": broken}
        words = f"Checkpoints: {made:,} made, {sent:,} mailed, {failed:,} not mailed"
        told = f"; not as written, and not signed: {broken:,} (see verify_audit_log)" if broken else ""
        self.answer(options, facts, f"{words}{told}.")
        if broken:
            sys.exit(NOT_AS_WRITTEN)
