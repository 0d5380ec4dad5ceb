"""verify_audit_log: check that the audit log is as it was written."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser
from tqdm import tqdm

from apikeys.audit_proof import ExportError, Linked, Verdict, check_chain, follow, linked_in
from apikeys.audit_signing import Checkpoint, CheckpointError, check_key, checkpoints_in, public_keys
from apikeys.management.arguments import find_organization, text
from apikeys.management.base import Command as Base
from apikeys.models import AuditChain, Organization
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
        parser.add_argument(
            "--checkpoints",
            type=text,
            metavar="FILE",
            help="Check also that it leads to the checkpoints in a file, a line each, as checkpoint_audit_log mails "
            "them; those that the database has are checked in any case.",
        )
        parser.add_argument(
            "--key",
            type=text,
            action="append",
            metavar="KEY",
            help="With --checkpoints: the public key that signed them, in base64; may be given several times. Without "
            "it: the keys of this installation.",
        )
        self.add_json(parser)

    def is_whole(self, options: Mapping[str, Any]) -> bool:
        """Say whether every chain is checked."""
        return not options["organization"] and not options["export"]

    def handle(self, **options: Any) -> None:
        """Check it."""
        if options["filtered"] and not options["export"]:
            raise CommandError("--filtered is for an export: name it with --export FILE.", returncode=2)
        if options["key"] and not options["checkpoints"]:
            raise CommandError("--key is for checkpoints: name them with --checkpoints FILE.", returncode=2)
        checks = self._export(options) if options["export"] else self._database(options)
        faults = {name: verdict.fault for name, verdict in checks.items() if verdict.fault}
        entries = sum(verdict.entries for verdict in checks.values())
        facts = {
            "as_written": not faults,
            "entries": entries,
            "faults": [
                {
                    "in": name,
                    "wrong": fault.wrong,
                    "sequence": fault.sequence,
                    "until": fault.until,
                    "row": fault.entry,
                    "told": str(fault),
                }
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
        found, checkpoints = {}, _checkpoints(options)
        with tqdm(total=_ends(numbers), unit=" entries", unit_scale=True, disable=None) as bar:
            for number in numbers:
                verdict = check_chain(number, lambda rows: _counted(rows, bar), checkpoints)
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
                known = {one.sequence: one.hash for one in _checkpoints(options)}
                rows = _counted(linked_in(file), bar)
                return {name: follow(rows, known, partial=True, filtered=options["filtered"])}
        except (OSError, ExportError) as error:
            raise CommandError(f"--export: {error}") from None


def _checkpoints(options: Mapping[str, Any]) -> list[Checkpoint]:
    if not options["checkpoints"]:
        return []
    try:
        trusted = [check_key(key) for key in options["key"] or ()] or public_keys()
    except ValueError as error:
        raise CommandError(f"--key {error}") from None
    try:
        with Path(options["checkpoints"]).open("rb") as file:
            return list(checkpoints_in(file, trusted))
    except (OSError, CheckpointError) as error:
        raise CommandError(f"--checkpoints: {error}") from None


def _ends(numbers: list[int]) -> int:
    return sum(AuditChain.objects.filter(number__in=numbers).values_list("sequence", flat=True))


def _counted(rows: Iterator[Linked], bar: tqdm[Any]) -> Iterator[Linked]:
    for row in rows:
        bar.update()
        yield row
