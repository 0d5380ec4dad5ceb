"""Group commit: what several threads want written at the same moment is written in one transaction.

A flush to disk costs more than everything else of a write, and one flush serves a whole group. Nobody waits for a
group to fill: who finds an idle lane leads at once, with what there is; who comes meanwhile is in the next group, led
by its first. Each caller returns when its own entry is committed. The idea is DeWitt et al., "Implementation
techniques for main memory database systems" (SIGMOD 1984), section 5.2.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence


class GroupAbortedError(Exception):
    """The thread that led the group was stopped; whether the group is written, nobody knows."""


class _Waiting[E, R]:
    """An entry whose thread waits until it is written, or until it is its turn to lead."""

    __slots__ = ("entry", "error", "group", "result", "wake")

    def __init__(self, entry: E) -> None:
        self.entry = entry
        self.result: R | None = None
        self.error: Exception | None = GroupAbortedError()
        self.group: list[_Waiting[E, R]] | None = None
        self.wake = threading.Lock()
        self.wake.acquire()


class GroupCommit[E, R]:
    """Hands entries in groups to ``write``, which commits all of a group or none and returns a result for each.

    At most ``lanes`` groups are under way at the same time, each in its leader's thread.
    """

    def __init__(self, write: Callable[[Sequence[E]], Sequence[R]], *, lanes: int = 1) -> None:
        self._write = write
        self._mutex = threading.Lock()
        self._pending: list[_Waiting[E, R]] = []
        self._idle_lanes = lanes

    def submit(self, entry: E) -> R:
        """Return the entry's result when it is committed; raises what the group's write raised."""
        mine = _Waiting[E, R](entry)
        with self._mutex:
            if self._idle_lanes:
                self._idle_lanes -= 1
                mine.group = [mine]
            else:
                self._pending.append(mine)
        if mine.group is None:
            mine.wake.acquire()
        if mine.group is not None:
            self._lead(mine.group)
        if mine.error is not None:
            raise mine.error
        return mine.result  # type: ignore[return-value] # set when there is no error

    def _lead(self, group: list[_Waiting[E, R]]) -> None:
        try:
            results = self._write([waiting.entry for waiting in group])
            for waiting, result in zip(group, results, strict=True):
                waiting.result, waiting.error = result, None
        except Exception as error:
            for waiting in group:
                waiting.error = error
        finally:
            self._hand_over()
            # The first is who leads.
            for waiting in group[1:]:
                waiting.wake.release()

    def _hand_over(self) -> None:
        with self._mutex:
            if not self._pending:
                self._idle_lanes += 1
                return
            group, self._pending = self._pending, []
        group[0].group = group
        group[0].wake.release()
