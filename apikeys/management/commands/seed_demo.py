"""seed_demo: two organizations with keys, people and thirteen months of requests, to look around in."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import CommandError
from django.core.management.base import CommandParser
from tqdm import tqdm

from apikeys import demo
from apikeys.demo.cast import MARA, NORTHWIND, PASSWORD, PEOPLE
from apikeys.management.arguments import whole_number
from apikeys.management.base import Command as Base


class Command(Base):
    """Seed the demo."""

    help = "Fill an empty database with demo data. Run again it keeps what is there. Refused in production."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--seed",
            type=whole_number(0, 2**32),
            default=1,
            metavar="N",
            help="Another number, other data; default: 1.",
        )

    def handle(self, **options: Any) -> None:
        """Make it, unless it is there."""
        if settings.PRODUCTION:
            raise CommandError("Demo data has a known password: it is not for ENVIRONMENT=production.")
        if demo.exists():
            self.stdout.write("The demo data is there already; it is kept as it is.")
        else:
            self._seed(options["seed"])
        self.stdout.write(_closing())

    def _seed(self, number: int) -> None:
        try:
            # disable=None: no bar where stderr is not a terminal.
            made = demo.seed(number, lambda work: tqdm(work, desc="13 months of requests", unit=" keys", disable=None))
        except demo.UsageExistsError:
            raise CommandError("There are requests in this database already. Seed an empty one.") from None
        self.stdout.write(
            f"Made {made.keys} keys, {made.requests:,} requests, {made.alerts} alerts "
            f"and {made.audit_entries:,} entries of the audit log."
        )


def _closing() -> str:
    others = ", ".join(person.email for person in PEOPLE if person.email != MARA)
    return f"""
Sign in at {settings.BASE_URL} as {MARA} with {PASSWORD}
(so can {others}).

To ask the verifier, make a key, which is shown once, and present it:
  KEY=$(./dev manage issue_key --organization {NORTHWIND.slug} --name "First try" \\
    --purpose "To see what the verifier says" --owner {MARA} --environment dev --scope orders:read --expires-in 1d)
  curl -i -H "Authorization: Bearer $KEY" "{settings.BASE_URL}/v1/{NORTHWIND.slug}/authorize?scope=orders:read\""""
