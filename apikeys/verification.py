"""The hot path: may this request pass? Read the key, decide, record, answer; nothing is ever cached.

credential -> parse and checksum (no I/O) -> one look at the key -> decide (pure) -> record -> verdict
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, cast

import psycopg
from django.conf import settings
from django.db import DatabaseError, InterfaceError

from apikeys import blocking, key_secret, ledger
from apikeys.key_secret import KeySecret
from apikeys.lanes import Groups
from apikeys.ledger import Entry, KeyRecord, RequestRecord, Taken
from apikeys.models import Outcome, RateLimit, Status
from apikeys.models.key_status import status_at
from apikeys.proxies import is_in, parse_address
from apikeys.statements import Steps

_ENDED: Final = {Status.REVOKED: Outcome.REVOKED, Status.EXPIRED: Outcome.EXPIRED, Status.PAUSED: Outcome.PAUSED}


class StoreUnavailableError(Exception):
    """The database could not be asked, or could not record: the request is neither accepted nor refused."""


class Presented(NamedTuple):
    """A request to judge: what it presents, what it wants, and where it comes from."""

    credential: str
    organization: str
    scope: str = ""
    address: str | None = None
    user_agent: str = ""
    method: str = ""
    path: str = ""

    def __repr__(self) -> str:
        """Leave out the credential."""
        return f"<Presented to {self.organization} by {self.address}>"


class Quota(NamedTuple):
    """A rate limit after a request: what is left, and seconds until all of it, or one request, is back."""

    limit: RateLimit
    remaining: int
    reset: int
    retry_after: int = 0


class Verdict(NamedTuple):
    """The answer. ``key`` is None when no key of the organization has that public id and secret."""

    outcome: Outcome
    key: KeyRecord | None = None
    quota: Quota | None = None


def verify(presented: Presented) -> Verdict:
    """Judge a request and record it before returning, on Django's connection of this thread.

    Raises StoreUnavailableError when the database cannot be read or written.
    """
    try:
        return blocking.run(lambda: judge([presented]))[0]
    except (DatabaseError, InterfaceError) as error:
        raise StoreUnavailableError from error


async def averify(presented: Presented) -> Verdict:
    """Judge a request and record it before returning, together with others that the event loop has at this moment.

    Raises StoreUnavailableError when the database cannot be read or written.
    """
    try:
        return await _groups.submit(presented)
    except (DatabaseError, InterfaceError, psycopg.Error, OSError) as error:
        if key_secret.parse(presented.credential) is None:
            return Verdict(Outcome.MALFORMED)
        raise StoreUnavailableError from error


def judge(group: Sequence[Presented]) -> Steps[list[Verdict]]:
    """Judge and record the requests of one moment together: one reading, one writing, however many they are.

    A key that was changed while it was judged is read and judged again.
    """
    secrets = [key_secret.parse(presented.credential) for presented in group]
    verdicts = [None if secret else Verdict(Outcome.MALFORMED) for secret in secrets]
    while waiting := [number for number, verdict in enumerate(verdicts) if verdict is None]:
        requests = [_Request(group[number], cast(KeySecret, secrets[number])) for number in waiting]
        judged = yield from _judged(requests)
        for number, verdict in zip(waiting, judged, strict=True):
            verdicts[number] = verdict
    return cast(list[Verdict], verdicts)


class _Request(NamedTuple):
    presented: Presented
    secret: KeySecret


def _judged(requests: Sequence[_Request]) -> Steps[list[Verdict | None]]:
    """Return a verdict for each, None where the key was changed meanwhile."""
    keys = yield from ledger.read_keys({request.secret.public_id for request in requests})
    now, peppers = datetime.now(UTC), settings.KEY_PEPPERS
    entries = [_entry(request, keys.get(request.secret.public_id), now, peppers) for request in requests]
    taken = iter((yield from ledger.write([entry for entry in entries if entry is not None])))
    return [_verdict(entry, next(taken)) if entry else Verdict(Outcome.UNKNOWN) for entry in entries]


def _entry(request: _Request, key: KeyRecord | None, now: datetime, peppers: Mapping[int, bytes]) -> Entry | None:
    """Return what is to be written of a request, None when its organization has no such key."""
    presented = request.presented
    if key is None or key.organization != presented.organization:
        return None
    record = RequestRecord(
        now, presented.address, presented.user_agent, presented.method, presented.path, presented.scope
    )
    outcome = decide(key, request.secret, presented, now, peppers)
    return Entry(key, record, outcome, key.limit if outcome is Outcome.VALID else None)


def _verdict(entry: Entry, taken: Taken | None) -> Verdict | None:
    if entry.outcome is Outcome.UNKNOWN:
        return Verdict(entry.outcome)
    if entry.limit is None or taken is None:
        return Verdict(entry.outcome, entry.key)
    if taken.is_outdated:
        return None
    quota = _quota(entry.limit, taken)
    return Verdict(entry.outcome if taken.passes else Outcome.RATE_LIMITED, entry.key, quota)


def decide(
    key: KeyRecord, secret: KeySecret, presented: Presented, now: datetime, peppers: Mapping[int, bytes]
) -> Outcome:
    """Return what becomes of a request, but for its rate limit. Asks nobody.

    Who does not know the secret learns nothing else about the key.
    """
    if not key_secret.matches(secret, key.digest, key.pepper_number, peppers):
        return Outcome.UNKNOWN
    status = status_at(now, key.revoked_at, key.expires_at, key.paused_at, key.paused_until)
    if status is not Status.ACTIVE:
        return _ENDED[status]
    if key.networks and not _is_allowed(presented.address, key.networks):
        return Outcome.NETWORK_DENIED
    if presented.scope and presented.scope not in key.scopes:
        return Outcome.SCOPE_MISSING
    return Outcome.VALID


def _is_allowed(address: str | None, networks: Sequence[str]) -> bool:
    found = parse_address(address or "")
    return found is not None and is_in(found, [ipaddress.ip_network(network) for network in networks])


def _quota(limit: RateLimit, taken: Taken) -> Quota:
    interval = timedelta(seconds=limit.period) / limit.requests
    room = interval * (limit.burst - 1) - taken.ahead
    return Quota(
        limit,
        remaining=max(0, room // interval + 1) if taken.passes else 0,
        reset=max(0, math.ceil(taken.ahead.total_seconds())),
        retry_after=0 if taken.passes else max(1, math.ceil(-room.total_seconds())),
    )


_groups: Final = Groups(judge)
