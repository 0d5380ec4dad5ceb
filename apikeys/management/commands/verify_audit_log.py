"""verify_audit_log: check that the audit log is as it was written."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.utils import timezone
from tqdm import tqdm

from apikeys.audit_proof import ExportError, Linked, Verdict, follow, linked_in, verify_chain
from apikeys.management.arguments import find_organization, text
from apikeys.management.base import Command as Base
from apikeys.models import AuditChain, AuditCheck, Organization
from apikeys.models.audit_chain import NOBODY

NOT_AS_WRITTEN = 3


class Command(Base):
    """Verify the audit log."""

    scheduled = True
    help = (
        "Check that no entry of the audit log was changed, removed, added or moved since it was written: of all "
        "organizations, of one, or of an export as JSON Lines, which needs no database. Names the first that was."
    )
    exit_statuses = {
        0: "as written",
        1: "failed",
        2: "wrong usage",
        NOT_AS_WRITTEN: "an entry was changed, removed, added or moved",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--organization", type=text, metavar="SLUG", help="Check the entries of one organization.")
        what.add_argument("--export", type=text, metavar="FILE", help='Check an export as JSON Lines; "-" reads stdin.')
        parser.add_argument(
            "--filtered",
            action="store_true",
            help="With --export: entries may be left out, as by the filters of the page. Those that are there are "
            "checked, and that none is missing is not.",
        )
        self.add_json(parser)

    def is_whole(self, options: Mapping[str, Any]) -> bool:
        """Say whether every chain is checked."""
        return not options["organization"] and not options["export"]

    def handle(self, **options: Any) -> None:
        """Check it."""
        if options["filtered"] and not options["export"]:
            raise CommandError("--filtered is for an export: name it with --export FILE.", returncode=2)
        checks = self._export(options) if options["export"] else self._database(options)
        faults = {name: verdict.fault for name, verdict in checks.items() if verdict.fault}
        entries = sum(verdict.entries for verdict in checks.values())
        facts = {
            "as_written": not faults,
            "entries": entries,
            "faults": [
                {"in": name, "wrong": fault.wrong, "sequence": fault.sequence, "row": fault.entry}
                for name, fault in faults.items()
            ],
        }
        words = [f"{name}: {fault} What comes after it was not checked." for name, fault in faults.items()]
        if not faults:
            words = [f"{entries:,} {'entry is' if entries == 1 else 'entries are'} as written."]
        self.answer(options, facts, "\n".join(words))
        if faults:
            sys.exit(NOT_AS_WRITTEN)

    def _database(self, options: Mapping[str, Any]) -> dict[str, Verdict]:
        """Check chains, and keep what was found for the page."""
        slugs: dict[int, str] = dict(Organization.objects.values_list("pk", "slug"))
        numbers = [*sorted({*slugs, *AuditChain.objects.values_list("number", flat=True)} - {NOBODY}), NOBODY]
        if options["organization"]:
            numbers = [find_organization(options["organization"]).pk]
        found = {}
        with tqdm(total=_ends(numbers), unit=" entries", unit_scale=True, disable=None) as bar:
            for number in numbers:
                verdict = verify_chain(number, lambda rows: _counted(rows, bar))
                kept = {"checked_at": timezone.now(), "entries": verdict.entries, "fault": str(verdict.fault or "")}
                AuditCheck.objects.update_or_create(number=number, defaults=kept)
                name = "entries of no organization" if number == NOBODY else slugs.get(number, f"organization {number}")
                found[name] = verdict
        return found

    def _export(self, options: Mapping[str, Any]) -> dict[str, Verdict]:
        """Check a file."""
        name = options["export"]
        try:
            with (
                open(0, "rb", closefd=False) if name == "-" else Path(name).open("rb") as file,
                tqdm(unit=" entries", unit_scale=True, disable=None) as bar,
            ):
                return {name: follow(_counted(linked_in(file), bar), partial=True, filtered=options["filtered"])}
        except (OSError, ExportError) as error:
            raise CommandError(f"--export: {error}") from None


def _ends(numbers: list[int]) -> int:
    return sum(AuditChain.objects.filter(number__in=numbers).values_list("sequence", flat=True))


def _counted(rows: Iterator[Linked], bar: tqdm[Any]) -> Iterator[Linked]:
    for row in rows:
        bar.update()
        yield row
