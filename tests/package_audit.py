"""Asks OSV (osv.dev) what is known of the faults of the locked packages: python -m tests.package_audit UV [URL].

Exits with 0 for none but those of audit-exceptions.txt, with 1 for others, and with 3 when it could not be asked in
time.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXCEPTIONS = ROOT / "audit-exceptions.txt"
SECONDS = 60
FOUND, NOT_ASKED = 1, 3
_LINE = re.compile(r"((?:PYSEC|GHSA|CVE|OSV)-[\w-]+) +(\S.{19,})")


def exceptions(text: str) -> dict[str, str]:
    """Return the reason of each exception. Raises ValueError for a line that has none."""
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            match = _LINE.fullmatch(line.strip())
            if match is None:
                raise ValueError(f"audit-exceptions.txt: {line!r} is no id and a reason of at least 20 letters.")
            found[match[1]] = match[2]
    return found


def audit(uv: str, service: str = "", text: str = "", seconds: float = SECONDS) -> tuple[int, str]:
    """Return how it ended, 0, FOUND or NOT_ASKED, and what uv says."""
    command = [uv, "audit", "--frozen", "--no-cache", "--preview-features", "audit-command"]
    command += ["--service-url", service] if service else []
    for name in exceptions(text):
        command += ["--ignore", name]
    settings = os.environ | {"UV_HTTP_TIMEOUT": "10", "UV_HTTP_RETRIES": "1"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return NOT_ASKED, f"uv audit did not end within {seconds} seconds."
    # uv says 1 of what it found, and 2 of what kept it from asking.
    return done.returncode if done.returncode in {0, FOUND} else NOT_ASKED, done.stdout + done.stderr


if __name__ == "__main__":
    status, told = audit(sys.argv[1], *sys.argv[2:3], text=EXCEPTIONS.read_text())
    print(told)
    sys.exit(status)
