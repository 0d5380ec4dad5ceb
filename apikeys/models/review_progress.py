"""How far a review is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class ReviewProgress:
    """How many keys of a review, or of one owner in it, stand how. What ended unanswered needs no answer."""

    open: int = 0
    unneeded: int = 0
    needed: int = 0
    ended: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.open + self.unneeded + self.needed + self.ended

    @property
    def done(self) -> int:
        """Those that need no answer any more."""
        return self.total - self.open

    @property
    def share(self) -> float:
        """The part that is done."""
        return self.done / self.total if self.total else 0.0


class OwnerProgress(NamedTuple):
    """How far the keys of one owner are. ``answers`` is whether the owner can: a member whose account is open."""

    address: str
    label: str
    answers: bool
    progress: ReviewProgress
