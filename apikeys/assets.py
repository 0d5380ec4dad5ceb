"""The stylesheet and the script: the files of static/css and static/js, each folder sent as one.

There is no build step; the files are joined in the order of their names and compressed once a process.
"""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings


@dataclass(frozen=True, slots=True)
class Bundle:
    """The joined files of a folder."""

    content: bytes
    compressed: bytes
    version: str


def bundle(kind: str) -> Bundle:
    """Return the bundle of "css" or "js"; read anew at every call in debug mode."""
    return _read(kind) if settings.DEBUG else _read_once(kind)


def _read(kind: str) -> Bundle:
    files = sorted((Path(settings.BASE_DIR) / "static" / kind).rglob(f"*.{kind}"))
    content = b"\n".join(file.read_bytes() for file in files)
    return Bundle(content, gzip.compress(content, mtime=0), hashlib.sha256(content).hexdigest()[:12])


_read_once = cache(_read)
