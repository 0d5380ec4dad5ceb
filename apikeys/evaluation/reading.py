"""Reading all before anything is written, in constant memory."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from itertools import batched
from typing import Final

_CHUNK: Final = 500
_MOST_IN_MEMORY: Final = 1 << 20


def read_first[Row](rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows when the last of them is read, so that no statement is read on while others write.

    On SQLite a connection that does so cannot begin to write once somebody else has written (SQLITE_BUSY_SNAPSHOT in
    https://www.sqlite.org/rescode.html), and on PostgreSQL it would hold its snapshot for as long.
    """
    with tempfile.SpooledTemporaryFile(_MOST_IN_MEMORY) as file:
        count = 0
        for some in batched(rows, _CHUNK, strict=False):
            pickle.dump(some, file, pickle.HIGHEST_PROTOCOL)
            count += 1
        file.seek(0)
        for _ in range(count):
            yield from pickle.load(file)  # noqa: S301 - what was written above
