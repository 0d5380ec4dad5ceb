"""Checks a chain of audit entries, from the database or from an export, and names the first that is not as written.

The chain is a hash chain as in RFC 9162's and Schneier and Kelsey's (1999) logs, without their trees: each link holds
the hash of its entry and of the link before it. docs/audit-log.md specifies it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import IO, Any, Final, NamedTuple

import orjson
from django.db.models import Count, Max, Subquery, TextField
from django.db.models.functions import Cast, Coalesce
from django.utils import timezone

from apikeys.audit_signing import Checkpoint, CheckpointError, kept
from apikeys.models import AuditChain, AuditCheck, AuditEntry, AuditLink
from apikeys.models.audit_chain import COLUMNS, GENESIS, content_of, hash_of, line_of, link_of

# How far entries may have been renumbered for it to be told that some are missing, and not only that one is wrong.
_RENUMBERED: Final = 10_000
_MAX_LINE: Final = 1_000_000
_ROWS: Final = 2000


class Wrong(StrEnum):
    """What is wrong with an entry."""

    CHANGED = "changed"
    MISSING = "missing"
    INSERTED = "inserted"
    REORDERED = "reordered"


@dataclass(frozen=True, slots=True)
class Fault:
    """The first entry of a chain that is not as it was written; ``entry`` is its id in the database, where known."""

    wrong: Wrong
    sequence: int | None
    entry: int | None = None
    # The last of those that it may be, where a checkpoint does not tell which.
    until: int | None = None
    # Said instead, where it is no entry.
    told: str = ""

    def __str__(self) -> str:
        if self.told:
            return self.told
        if self.until:
            told = f"no longer lead to the checkpoint of entry {self.until:,}: one of them was {self.wrong.value}."
            return f"Entries {self.sequence:,} to {self.until:,} {told}"
        place = f"Entry {self.sequence:,}" if self.sequence else "An entry that is not in the chain"
        row = f" (row {self.entry})" if self.entry else ""
        return f"{place}{row} {'is' if self.wrong is Wrong.MISSING else 'was'} {self.wrong.value}."


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found: how many entries hold, up to which link, and the first fault."""

    entries: int
    hash: str
    fault: Fault | None = None


class Linked(NamedTuple):
    """An entry with its link: ``written`` is the hash of its content that was kept beside it, where there is one."""

    sequence: int
    previous: str
    hash: str
    content_hash: str
    written: str = ""
    entry: int | None = None

    def stands_at(self, sequence: int) -> bool:
        """Say whether its link was made for that place."""
        return self.hash == link_of(sequence, self.previous, self.content_hash)


class ExportError(Exception):
    """A file that is no export of an audit log; the message names the line."""


def verify_chain(
    number: int,
    seen: Callable[[Iterator[Linked]], Iterator[Linked]] = iter,
    known: Mapping[int, str] = MappingProxyType({}),
) -> Verdict:
    """Check an organization's chain, by its id, or that of NOBODY, in the database: in constant memory.

    Entries may be written meanwhile: those that came after its begin are left to the next check. ``seen`` passes on
    what is read, to show how far it is. ``known`` has the hashes of checkpoints, by their places.
    """
    head = AuditChain.objects.filter(number=number).first()
    end = head.sequence if head else AuditLink.objects.filter(chain=number).aggregate(end=Max("sequence"))["end"] or 0
    verdict = follow(seen(linked_of(number, end)), known)
    if verdict.fault:
        return verdict
    if end > verdict.entries or (end and not head):
        # Without its head a chain does not tell what else it had.
        return replace(verdict, fault=Fault(Wrong.MISSING, verdict.entries + 1))
    if head and head.hash != verdict.hash:
        return replace(verdict, fault=Fault(Wrong.CHANGED, end))
    return replace(verdict, fault=_outside(number))


def linked_of(number: int, until: int) -> Iterator[Linked]:
    """Yield what the database holds of a chain, in its order. An entry without its link, or the reverse, is no row."""
    # As text: orjson reads it in a third of the time that Django takes.
    changes = Cast("entry__changes", TextField())
    columns = ("entry_id", "sequence", "previous", "hash", "entry__content_hash")
    contents = (changes if one == "changes" else f"entry__{one}" for one in COLUMNS.values())
    rows = AuditLink.objects.filter(chain=number, sequence__lte=until).order_by("sequence")
    row: tuple[Any, ...]
    for row in rows.values_list(*columns, *contents).iterator(chunk_size=_ROWS):
        entry, sequence, previous, link, written = row[:5]
        yield Linked(sequence, previous, link, _hash_or_nothing(row[5:]), written, entry)


def check_chain(
    number: int, seen: Callable[[Iterator[Linked]], Iterator[Linked]] = iter, more: Iterable[Checkpoint] = ()
) -> Verdict:
    """Check a chain, also against its checkpoints and ``more`` of them, and keep what was found for the page."""
    try:
        # First: one that is made meanwhile may be of an entry that is left to the next check.
        known = {one.sequence: one.hash for one in kept(number)}
    except CheckpointError as error:
        verdict = Verdict(0, GENESIS, Fault(Wrong.CHANGED, None, told=str(error)))
    else:
        known |= {one.sequence: one.hash for one in more if one.organization == number}
        verdict = verify_chain(number, seen, known)
    fault = str(verdict.fault or "")[:200]
    found = {"checked_at": timezone.now(), "entries": verdict.entries, "fault": fault}
    AuditCheck.objects.update_or_create(number=number, defaults=found)
    return verdict


def _hash_or_nothing(values: Sequence[Any]) -> str:
    try:
        content = content_of(values)
        content["changes"] = orjson.loads(content["changes"])
        return hash_of(content)
    except (TypeError, ValueError):
        # What was written had a hash: it says something else now.
        return ""


def _outside(number: int) -> Fault | None:
    """Find an entry that stands after the end of its chain, or in none."""
    end = AuditChain.objects.filter(number=number).values("sequence")
    # A statement sees one state of the database: what is written meanwhile is in it with its link, or not at all.
    after = AuditLink.objects.filter(chain=number, sequence__gt=Coalesce(Subquery(end), 0)).order_by("sequence").first()
    if after:
        return Fault(Wrong.INSERTED, after.sequence, after.entry_id)
    entries = AuditEntry.objects.filter(organization=number or None)
    counted = entries.order_by().values("organization").annotate(entries=Count("pk")).values("entries")
    if AuditChain.objects.filter(number=number, sequence=Coalesce(Subquery(counted), 0)).exists():
        return None
    unlinked = entries.filter(link=None).order_by("pk").first()
    return Fault(Wrong.INSERTED, None, unlinked.pk) if unlinked else None


def follow(
    entries: Iterable[Linked],
    known: Mapping[int, str] = MappingProxyType({}),
    *,
    partial: bool = False,
    filtered: bool = False,
) -> Verdict:
    """Check that each entry hashes to its link, and each link holds the one before it.

    A ``partial`` chain may begin later than with its first entry, and where it is ``filtered`` any may be left out.
    Each of ``known`` has the hash that its entry had once.
    """
    rows = iter(entries)
    done, expected, previous, held = 0, 1, GENESIS, 0
    for row in rows:
        if row.sequence > expected and (filtered or (partial and not done)):
            expected, previous, held = row.sequence, row.previous, max(held, row.sequence - 1)
        if fault := _fault(row, expected, previous, rows):
            return Verdict(done, previous, fault)
        if row.sequence in known:
            if known[row.sequence] != row.hash:
                return Verdict(done, previous, Fault(Wrong.CHANGED, held + 1, until=row.sequence))
            held = row.sequence
        done, expected, previous = done + 1, row.sequence + 1, row.hash
    if known and max(known) >= expected and not filtered:
        return Verdict(done, previous, Fault(Wrong.MISSING, expected))
    return Verdict(done, previous)


def _fault(row: Linked, expected: int, previous: str, rest: Iterator[Linked]) -> Fault | None:
    if row.sequence > expected:
        return Fault(Wrong.MISSING, expected)
    if row.sequence < expected:
        # Once more, or later than its place.
        return Fault(Wrong.INSERTED, row.sequence, row.entry)
    if not row.stands_at(row.sequence):
        return Fault(_diagnose(row, previous, rest), row.sequence, row.entry)
    if row.previous != previous:
        # It is as it was written, and what stands before it is not what stood there.
        return Fault(Wrong.CHANGED, max(1, row.sequence - 1))
    if row.written not in {"", row.content_hash}:
        return Fault(Wrong.CHANGED, row.sequence, row.entry)
    return None


def _diagnose(row: Linked, previous: str, rest: Iterable[Linked]) -> Wrong:
    """Say what happened at a place whose entry was not written there, by where it was, and by what stands later."""
    places = range(max(1, row.sequence - _RENUMBERED), row.sequence + _RENUMBERED)
    was_at = next((place for place in places if row.stands_at(place)), None)
    if was_at and was_at < row.sequence:
        return Wrong.INSERTED
    for other in rest:
        belongs = link_of(row.sequence, previous, other.content_hash)
        if belongs == row.hash or row.written == other.content_hash:
            # The link is that of this place, and its entry stands elsewhere.
            return Wrong.REORDERED
        if belongs == other.hash:
            return Wrong.REORDERED if was_at else Wrong.INSERTED
    return Wrong.MISSING if was_at else Wrong.CHANGED


# An export


def linked_in(file: IO[bytes]) -> Iterator[Linked]:
    """Yield the entries of an export as JSON Lines. Raises ExportError where a line is none."""
    number = 0
    while line := file.readline(_MAX_LINE + 1):
        number += 1
        if not line.strip():
            continue
        try:
            yield _linked(line)
        except (TypeError, ValueError, RecursionError) as error:
            raise ExportError(f"Line {number} is no entry of an audit log: {error}") from error


def _linked(line: bytes) -> Linked:
    if len(line) > _MAX_LINE:
        raise ValueError(f"it is longer than {_MAX_LINE:,} bytes")
    # A number that is written in another way has another hash; as a fraction or as no number it is none of ours.
    told = json.loads(line, parse_float=_refuse, parse_constant=_refuse, object_pairs_hook=_once)
    if not isinstance(told, dict):
        raise ValueError("it is no JSON object")
    link: dict[str, Any] = {name: told.pop(name, None) for name in ("sequence", "previous", "hash")}
    if type(link["sequence"]) is not int or not all(isinstance(link[name], str) for name in ("previous", "hash")):
        raise ValueError('it has no "sequence", "previous" and "hash"')
    return Linked(link["sequence"], link["previous"], link["hash"], hash_of(told))


def _refuse(text: str) -> Any:
    raise ValueError(f"{text[:40]} is no whole number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it names something twice")
    return found


def exported(entries: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """Yield JSON Lines of (sequence, previous, hash, values in the order of COLUMNS)."""
    for sequence, previous, link, *values in entries:
        yield json.dumps(line_of(sequence, previous, link, values), ensure_ascii=False) + "\n"
