"""Where the machine's own Chromium is: the tests download no browser."""

import shutil
from pathlib import Path

INSTALL = "apt-get install -y chromium (Debian, Ubuntu) or brew install --cask google-chrome (macOS)"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


class NotInstalledError(Exception):
    """There is no Chromium on this machine."""


def find() -> str:
    """Return the path of a Chromium or Chrome."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    for path in APPLICATIONS:
        if Path(path).exists():
            return path
    raise NotInstalledError(f"Chromium is not installed: {INSTALL}")
