"""flag_keys: list the keys that somebody should look at, for people and for schedulers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import datetime
from itertools import batched
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils import timezone

from apikeys import flagging
from apikeys.evaluation.reconcile import Tally
from apikeys.evaluation.states import evaluate_states
from apikeys.flagging import THRESHOLDS, Finding, Flag, LeftOut
from apikeys.management.arguments import find_organization, text, whole_number
from apikeys.management.base import Command as Base
from apikeys.management.flag_formats import CSV, JSON, TABLE, Format, days_words
from apikeys.models import AlertKind, ApiKey, Organization
from apikeys.models.key_age import ROTATE_SOON

MAX_DAYS = 3650
FOUND = 3
_BATCH = 1000
_RAISED = (AlertKind.UNUSED, AlertKind.EXPIRY, AlertKind.ROTATION_DUE)


class Command(Base):
    """Flag keys."""

    scheduled = True
    help = "List unused keys, keys near their expiry and keys to rotate, of one or all organizations."
    exit_statuses = {0: "no key is flagged", 1: "failed", 2: "wrong usage", FOUND: "at least one key is flagged"}

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--organization", type=text, metavar="SLUG", help="Without it: all organizations.")
        parser.add_argument(
            "--unused-days",
            type=whole_number(1, MAX_DAYS),
            metavar="N",
            help="A key is silent when its last accepted request, or its creation without one, is more than N days "
            "ago, and unused when its own rhythm does not explain that; default: as each organization's "
            f"policy says, or {settings.UNUSED_AFTER_DAYS} (UNUSED_AFTER_DAYS).",
        )
        parser.add_argument(
            "--include-exempt", action="store_true", help="List also unused keys that may be silent for the time being."
        )
        parser.add_argument(
            "--within",
            type=whole_number(1, MAX_DAYS),
            default=list(THRESHOLDS),
            nargs="+",
            metavar="DAYS",
            help="A key is flagged when it expires within the largest of these, and told with the smallest that it "
            f"is within; default: {' '.join(map(str, THRESHOLDS))}.",
        )
        parser.add_argument(
            "--rotate-within",
            type=whole_number(1, MAX_DAYS),
            default=ROTATE_SOON.days,
            metavar="DAYS",
            help="A key is flagged when it is older than its organization's maximum age or will be within so many "
            "days; default: %(default)s.",
        )
        kind = parser.add_mutually_exclusive_group()
        kind.add_argument("--json", action="store_true", help="Print JSON lines: one object for each finding.")
        kind.add_argument("--csv", action="store_true", help="Print CSV, safe for spreadsheets.")
        parser.add_argument(
            "--raise",
            action="store_true",
            dest="raises",
            help="Also open and end the alerts about unused keys, keys near their end and keys to rotate, by each "
            "organization's own rules; the limits above choose what is listed, not what is raised.",
        )
        parser.add_argument("--exit-zero", action="store_true", help="Exit with 0 also when keys are flagged.")

    def handle(self, **options: Any) -> None:
        """List them. A key that is unused, near its expiry and to be rotated is listed once for each."""
        keys, days = ApiKey.objects.all(), options["unused_days"]
        if options["organization"]:
            organization = find_organization(options["organization"])
            keys, days = organization.keys.all(), days or organization.unused_after
        elif not Organization.objects.filter(unused_after_days__isnull=False).exists():
            days = days or settings.UNUSED_AFTER_DAYS
        now, within = timezone.now(), options["within"]
        soon = options["rotate_within"]
        kind = JSON if options["json"] else CSV if options["csv"] else TABLE
        try:
            self._write(kind.opening)
            findings = flagging.unused(keys, now, days, with_exempt=options["include_exempt"])
            unused = self._section(kind, Flag.UNUSED, days, findings)
            expiring = self._section(kind, Flag.EXPIRING, max(within), flagging.expiring(keys, now, within))
            to_rotate = self._section(kind, Flag.ROTATE, soon, flagging.to_rotate(keys, now, soon))
            self.stdout.flush()
        except BrokenPipeError:
            # Whoever read has seen enough (| head). Nothing more can be told there, nor at the interpreter's end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(FOUND)
        told = (
            f"{unused:,} unused for more than {days_words(days)}, {expiring:,} expiring within {max(within)} days, "
            f"{to_rotate:,} to rotate within {soon} days, in {options['organization'] or 'all organizations'}."
        )
        if self.job_run:
            self.job_run.done = told
        # On stderr, where it is in no program's way.
        self.stderr.write(told)
        if left_out := _left_out_words(flagging.left_out(keys, now, days), with_exempt=options["include_exempt"]):
            self.stderr.write(left_out)
        if options["raises"]:
            self._raise(options["organization"], now)
        if unused + expiring + to_rotate and not options["exit_zero"]:
            sys.exit(FOUND)

    def _raise(self, slug: str | None, now: datetime) -> None:
        organizations = [find_organization(slug)] if slug else Organization.objects.of_people()
        tally = Tally()
        for organization in organizations:
            tally += evaluate_states(organization, now, _RAISED)
        told = f"{tally.opened:,} alerts opened, {tally.worse:,} got worse or are told again, {tally.ended:,} ended."
        if self.job_run:
            self.job_run.done += f" {told}"
        self.stderr.write(told)

    def _section(self, kind: Format, flag: Flag, days: int | None, findings: Iterator[Finding]) -> int:
        """Write one kind of findings and return how many they are."""
        count = 0
        for some in batched(findings, _BATCH):
            if not count:
                self._write(kind.heading(flag, days))
            self._write(kind.lines(some))
            count += len(some)
        return count

    def _write(self, text: str) -> None:
        if text:
            self.stdout.write(text, ending="")


def _left_out_words(left_out: LeftOut, *, with_exempt: bool) -> str:
    """Say how many silent keys are not flagged, nothing when there is none."""
    counts = [
        (left_out.seasonal, "seasonal"),
        (left_out.not_measurable, "not measurable"),
        (0 if with_exempt else left_out.exempt, "exempt"),
    ]
    told = ", ".join(f"{count:,} {word}" for count, word in counts if count)
    return f"Silent, but not flagged: {told}." if told else ""
