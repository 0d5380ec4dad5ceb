"""What our commands share: one answer, in words or as JSON, and exit statuses that --help states."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, ClassVar

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser, DjangoHelpFormatter
from django.db import DatabaseError, InterfaceError

from apikeys.models import JobRun


class _HelpFormatter(DjangoHelpFormatter):
    """Keeps the lines of the list of exit statuses."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if not text.startswith("exit status:"):
            return super()._fill_text(text, width, indent)
        return "\n".join(indent + line for line in text.splitlines())


class Command(BaseCommand):
    """A command of keyadmin. Of a scheduled one each run is kept, so that the Overview tells when it stops running."""

    scheduled: ClassVar[bool] = False
    job_run: JobRun | None = None
    exit_statuses: ClassVar[Mapping[int, str]] = {0: "done", 1: "nothing was changed", 2: "wrong usage"}

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return the parser, with the exit statuses below its options."""
        statuses = "\n".join(f"  {status}  {meaning}" for status, meaning in self.exit_statuses.items())
        kwargs.setdefault("formatter_class", _HelpFormatter)
        return super().create_parser(prog_name, subcommand, epilog=f"exit status:\n{statuses}", **kwargs)

    def add_json(self, parser: CommandParser) -> None:
        """Add --json."""
        parser.add_argument("--json", action="store_true", help="Print JSON instead of words.")

    def is_whole(self, options: Mapping[str, Any]) -> bool:  # noqa: ARG002 - for those that can do a part
        """Say whether a run does all that a scheduled one does, and is kept as one."""
        return True

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run it; a database that fails is told in a line, not in a traceback."""
        try:
            with ExitStack() as stack:
                if self.scheduled and self.is_whole(options):
                    self.job_run = stack.enter_context(JobRun.objects.record(type(self).__module__.rpartition(".")[2]))
                return super().execute(*args, **options)
        except (DatabaseError, InterfaceError) as error:
            if options.get("traceback"):
                raise
            raise CommandError(f"The database failed: {str(error).strip()}") from error

    def answer(self, options: Mapping[str, Any], facts: Mapping[str, object], words: str) -> None:
        """Print what was done, and keep it of a scheduled run. Without words it prints nothing, no line."""
        if self.job_run:
            self.job_run.done = words
        if told := json.dumps(facts, ensure_ascii=False) if options["json"] else words:
            self.stdout.write(told)
