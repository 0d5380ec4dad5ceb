"""Starting worker.py, and asking it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


class Worker:
    """A process that opens pages of one database; further settings are environment variables."""

    def __init__(self, url: str, **settings: str) -> None:
        environment = os.environ | {"DATABASE_URL": url, "DEBUG": "false"} | settings
        command = [sys.executable, str(ROOT / "benchmarks" / "grown" / "worker.py")]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, name: str, *arguments: object) -> Any:
        """Let the process do something and return what it says."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("The worker has no pipes.")
        print(json.dumps([name, *arguments]), file=self.process.stdin, flush=True)
        if not (line := self.process.stdout.readline()):
            sys.exit(f"benchmark: {name} {arguments[:1]} failed (above).")
        return json.loads(line)

    def stop(self) -> None:
        """End the process."""
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()


def collect_static() -> None:
    """Collect the static files, as a deployment does: pages name them by their digests."""
    command = [sys.executable, "manage.py", "collectstatic", "--noinput", "--verbosity=0"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"DEBUG": "false"}, check=True)
