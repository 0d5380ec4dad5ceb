"""The list of Pwned Passwords as a file on this machine: whether a password is in it, and whether it can be used.

Two forms, as haveibeenpwned-downloader writes them. One text file, each line ``SHA1:COUNT`` and all in the order of the
hashes, of some 40 GB; or a folder of 16^5 such files, ``00000.txt`` to ``FFFFF.txt``, named by the first five digits of
the hashes whose other 35 are in it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_DIGITS: Final = 40
_PREFIX: Final = 5
# No line is longer than the half of this: a hash, a colon, a count and the line's end.
_PIECE: Final = 128
# What is left of a file is read at once when it is no longer than this.
_BLOCK: Final = 4096
_SAMPLES: Final = 64
# A list of this size has hashes from the first to the last: some 20,000 by chance have them all.
_WHOLE: Final = 1_000_000
_LINE: Final = re.compile(r"([0-9A-Fa-f]{35,40})(?::[0-9]{1,20})?\r?")


class PasswordListError(Exception):
    """The list cannot be used; the message goes on after its name, and tells nothing of a password or its hash."""


def is_breached(path: Path, password: str) -> bool:
    """Say whether a password is in the list. Raises PasswordListError."""
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
    try:
        if path.is_dir():
            return _holds(_part(path, digest[:_PREFIX]), digest[_PREFIX:])
        return _holds(path, digest)
    except OSError as error:
        # Its own text names the file, and in a folder that tells how the hash begins.
        raise PasswordListError(f"cannot be read ({error.strerror})") from None


def check_list(path: Path) -> None:
    """Look at samples of the list, whether it is what it should be. Raises PasswordListError."""
    try:
        if path.is_dir():
            for number in (*range(0, 16**_PREFIX, 16 ** (_PREFIX - 1)), 16**_PREFIX - 1):
                _look_over(_part(path, f"{number:0{_PREFIX}X}"), _DIGITS - _PREFIX)
        else:
            _look_over(path, _DIGITS)
    except OSError as error:
        raise PasswordListError(f"cannot be read ({error.strerror})") from None


def _part(folder: Path, prefix: str) -> Path:
    return folder / f"{prefix}.txt"


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    if path.exists() and not path.is_file():
        raise PasswordListError("is no file")  # a pipe would be waited for
    with path.open("rb", buffering=0) as file:
        yield file.fileno()


def _holds(path: Path, wanted: str) -> bool:
    """Find a hash by halving the file: some 25 short reads in 40 GB."""
    with _opened(path) as file:
        low, high = 0, os.fstat(file).st_size
        while high - low > _BLOCK:
            line = _line_from(file, (low + high) // 2, len(wanted))
            if line is None:
                raise PasswordListError("has become shorter while it was read")
            start, digest = line
            low, high = (start, high) if digest <= wanted else (low, start)
        rest = os.pread(file, high - low, low).decode("latin-1")
    return any(_digest_of(line, len(wanted)) == wanted for line in rest.split("\n") if line)


def _look_over(path: Path, digits: int) -> None:
    with _opened(path) as file:
        size = os.fstat(file).st_size
        if not size:
            raise PasswordListError("is empty")
        # The last one finds the last line, whatever the size.
        places = sorted([*(size * number // _SAMPLES for number in range(_SAMPLES)), max(0, size - _PIECE // 2)])
        found = [line[1] for place in places if (line := _line_from(file, place, digits))]
    if found != sorted(found):
        raise PasswordListError("is not ordered by hash")
    if digits == _DIGITS and size >= _WHOLE and not (found[0].startswith("00") and found[-1].startswith("FF")):
        raise PasswordListError("is not whole: hashes are missing at its beginning or its end")


def _line_from(file: int, place: int, digits: int) -> tuple[int, str] | None:
    """Return where the first line begins that begins at a byte or after it, and its hash; None after the last line."""
    # The byte before tells whether a line begins right here.
    before = max(place - 1, 0)
    piece = os.pread(file, _PIECE, before)
    cut = piece.find(b"\n") + 1 if place else 0
    if place and not cut and len(piece) == _PIECE:
        raise _no_list()
    line = piece[cut:].partition(b"\n")[0] if cut or not place else b""
    return (before + cut, _digest_of(line.decode("latin-1"), digits)) if line else None


def _digest_of(line: str, digits: int) -> str:
    found = _LINE.fullmatch(line)
    if not found or len(found[1]) != digits:
        raise _no_list()
    return found[1].upper()


def _no_list() -> PasswordListError:
    return PasswordListError("has a line that is no SHA-1 hash with its count")
