"""Findings as a table, as JSON lines and as CSV, batch by batch: a million of them need no more memory than ten.

Several formats of a million lines are read from a database in seconds, so that each microsecond a line shows:
benchmarks/flag_keys.py measures it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Final

from apikeys.csv_export import defuse
from apikeys.flagging import Due, Finding, Flag, Quiet
from apikeys.key_secret import fingerprint
from apikeys.models.silence import UNUSED

_CSV_HEADER: Final = (
    "flag,days,kind,silent_days,usual_gap_hours,exempt_until,"
    "organization,id,fingerprint,name,environment,owner,created_at,last_used_at,expires_at,rotate_by,days_left\r\n"
)
_QUOTED = re.compile('[",\r\n]')
# A column cannot know what is yet to come, so that it has a width of its own; longer values are cut.
_ORGANIZATION, _KEY, _NAME, _OWNER, _DAY = 16, 20, 34, 30, 10
_COLUMNS: Final = "  ".join(
    [
        *("ORGANIZATION".ljust(_ORGANIZATION), "KEY".ljust(_KEY), "NAME".ljust(_NAME), "OWNER".ljust(_OWNER)),
        *("LAST USED".ljust(_DAY), "EXPIRES"),
    ]
)
_MORE_COLUMNS: Final = {
    Flag.UNUSED: "     KIND        SILENT  USUAL GAP",
    Flag.EXPIRING: "",
    Flag.ROTATE: "     ROTATE BY",
}
_TITLES: Final = {
    Flag.UNUSED: "Unused for more than",
    Flag.EXPIRING: "Expiring within",
    Flag.ROTATE: "To be rotated by now or within",
}
# Shorter gaps are told in hours.
_DAYS_FROM: Final = 72
_NOT_QUIET: Final = '"kind": null, "silent_days": null, "usual_gap_hours": null, "exempt_until": null, '
_NOT_DUE: Final = '"rotate_by": null, "days_left": null'
_KINDS: Final = {kind.value: kind.label.ljust(10) for kind in UNUSED}
_NEVER: Final = "never".ljust(_DAY)
# Latin, Greek and Cyrillic letters, which take one column each.
_NARROW = re.compile("[ -~\u00a1-\u00ac\u00ae-\u02ff\u0370-\u0482\u048a-\u052f]*")


@dataclass(frozen=True, slots=True)
class Format:
    """How findings are written: what comes first, what comes before those of a kind, and some of them."""

    opening: str
    heading: Callable[[Flag, int | None], str]
    lines: Callable[[Sequence[Finding]], str]


def _json_lines(findings: Sequence[Finding]) -> str:
    # By hand, at a third of json.dumps' time; name and owner alone can hold what needs quoting.
    quote = encode_basestring_ascii
    return "".join(
        [
            f'{{"flag": "{flag.value}", "days": {days}, {_quiet_json(quiet) if quiet else _NOT_QUIET}'
            f'"organization": "{slug}", "id": "{public_id}", '
            f'"fingerprint": "{fingerprint(prefix, code, public_id)}", "name": {quote(name)}, '
            f'"environment": "{code}", "owner": {quote(owner)}, "created_at": "{made}", '
            f'"last_used_at": {f'"{used}"' if used else "null"}, '
            f'"expires_at": {f'"{end}"' if end else "null"}, {_due_json(due) if due else _NOT_DUE}}}\n'
            for flag, days, quiet, due, slug, public_id, prefix, code, name, owner, made, used, end in findings
        ]
    )


def _quiet_json(quiet: Quiet) -> str:
    kind, days, gap, exempt = quiet
    return (
        f'"kind": "{kind}", "silent_days": {days}, "usual_gap_hours": {"null" if gap is None else gap}, '
        f'"exempt_until": {f'"{exempt}"' if exempt else "null"}, '
    )


def _due_json(due: Due) -> str:
    return f'"rotate_by": "{due.rotate_by}", "days_left": {due.days_left}'


def _csv_lines(findings: Sequence[Finding]) -> str:
    # By hand as well, at half of csv.writer's time.
    return "".join(
        [
            f"{flag.value},{days},{_quiet_cells(quiet) if quiet else ',,,'},{slug},{public_id},"
            f"{fingerprint(prefix, code, public_id)},{_cell(name)},{code},{_cell(owner)},{made},{used or ''},"
            f"{end or ''},{f'{due.rotate_by},{due.days_left}' if due else ','}\r\n"
            for flag, days, quiet, due, slug, public_id, prefix, code, name, owner, made, used, end in findings
        ]
    )


def _quiet_cells(quiet: Quiet) -> str:
    kind, days, gap, exempt = quiet
    return f"{kind},{days},{'' if gap is None else gap},{exempt or ''}"


def _cell(text: str) -> str:
    """Return a text as a cell of CSV (RFC 4180) that no spreadsheet takes for a formula."""
    safe = str(defuse(text))
    return '"' + safe.replace('"', '""') + '"' if _QUOTED.search(safe) else safe


def _table_lines(findings: Sequence[Finding]) -> str:
    return "".join(
        [
            f"{fit(slug, _ORGANIZATION)}  {fit(fingerprint(prefix, code, public_id), _KEY)}  {fit(name, _NAME)}  "
            f"{fit(owner, _OWNER)}  {used[:10] if used else _NEVER}  {end[:10] if end else _NEVER}  "
            f"{_quiet_columns(quiet) if quiet else _due_columns(days, due) if due else f'within {_days(days)}'}\n"
            for _, days, quiet, due, slug, public_id, prefix, code, name, owner, _, used, end in findings
        ]
    )


def _quiet_columns(quiet: Quiet) -> str:
    kind, days, gap, exempt = quiet
    told = f"{_KINDS[kind]}  {days:4} d  {'' if gap is None else _gap(gap):>9}"
    return f"{told}  exempt until {exempt[:10]}" if exempt else told.rstrip()


def _due_columns(days: int, due: Due) -> str:
    left = f"{due.days_left} d left" if days else f"overdue {-due.days_left} d"
    return f"{due.rotate_by[:10]}  {left}"


def _gap(hours: int) -> str:
    return f"{hours} h" if hours < _DAYS_FROM else f"{hours // 24} d"


def _table_heading(flag: Flag, days: int | None) -> str:
    return f"\n{_TITLES[flag]} {_days(days)}\n{_COLUMNS}{_MORE_COLUMNS[flag]}\n"


def _no_heading(_flag: Flag, _days: int | None) -> str:
    return ""


def days_words(days: int | None) -> str:
    """Say a limit in words; None is that of each organization."""
    return "the days of each organization" if days is None else f"{days} days"


def _days(days: int | None) -> str:
    return "1 day" if days == 1 else days_words(days)


def fit(text: str, width: int) -> str:
    """Return a text that takes exactly some columns of a terminal: filled up, or cut with an ellipsis."""
    if text.isascii() or _NARROW.fullmatch(text.replace("…", "", 1)):
        return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"
    widths = [_columns(character) for character in text]
    if (taken := sum(widths)) <= width:
        return text + " " * (width - taken)
    taken = end = 0
    while taken + widths[end] < width:
        taken += widths[end]
        end += 1
    return f"{text[:end]}…{' ' * (width - taken - 1)}"


@lru_cache(4096)
def _columns(character: str) -> int:
    """Return how many columns a terminal gives a character: wide ones two, those that join another none."""
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


TABLE: Final = Format("", _table_heading, _table_lines)
JSON: Final = Format("", _no_heading, _json_lines)
CSV: Final = Format(_CSV_HEADER, _no_heading, _csv_lines)
