"""The collected static files, which every server of a checkout serves from the same folder."""

import fcntl
from pathlib import Path

import django
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command


def collect_static() -> None:
    """Collect them, unless they are: what a suite beside this one serves, or collects, must not be written anew."""
    settings.VAR_DIR.mkdir(exist_ok=True)
    with (settings.VAR_DIR / "static.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _are_collected():
            call_command("collectstatic", interactive=False, verbosity=0)


def _are_collected() -> bool:
    manifest = Path(settings.STATIC_ROOT) / "staticfiles.json"
    # A package's files may be older than its installation, which the folder of all packages tells.
    sources = [Path(django.__file__).parent.parent]
    sources += [Path(storage.path(path)) for finder in get_finders() for path, storage in finder.list([])]
    return manifest.exists() and max(source.stat().st_mtime for source in sources) < manifest.stat().st_mtime
