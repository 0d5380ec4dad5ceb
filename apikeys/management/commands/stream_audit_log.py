"""stream_audit_log: hand audit entries on as they happen, to a syslog server or a pipe."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from apikeys.audit_stream import TargetError, follow, stream, target_of
from apikeys.management.arguments import text
from apikeys.management.base import Command as Base


class Command(Base):
    """Stream the audit log."""

    help = (
        "Hand the entries of every organization's audit log on within seconds, each at least once and in order: "
        'to a syslog server (RFC 5424), or as JSON Lines to standard output ("-"). Goes on where it stopped. Runs '
        "until it is ended; a receiver that is away is tried again."
    )
    exit_statuses = {0: "ended by SIGTERM or SIGINT, or with --once done", 1: "failed", 2: "wrong usage"}

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "target", type=text, metavar="TARGET", help="tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT or -."
        )
        parser.add_argument(
            "--name",
            type=text,
            default="",
            metavar="NAME",
            help="Under which it is kept how far this receiver has got; default: the target.",
        )
        parser.add_argument("--once", action="store_true", help="Hand on what is new, and end.")

    def handle(self, **options: Any) -> None:
        """Stream them."""
        try:
            target = target_of(options["target"])
        except TargetError as error:
            raise CommandError(f"TARGET {error}", returncode=2) from None
        name = (options["name"] or options["target"])[:100]
        try:
            if options["once"]:
                sent = stream(name, target)
                self.stderr.write(f"{sent:,} entries were handed on.")
                return
            ended = threading.Event()

            def end(_number: int, _frame: FrameType | None) -> None:
                ended.set()

            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, end)
            follow(name, target, self.stderr.write, ends=ended.is_set)
        except OSError as error:
            raise CommandError(f"{options['target']}: {error}") from None
        finally:
            target.close()
