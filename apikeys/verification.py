"""The hot path: may this request pass? Read the key, decide, record, answer; nothing is ever cached.

credential -> parse and checksum (no I/O) -> one look at the key -> decide (pure) -> record -> verdict
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, ProgrammingError, connection

from apikeys import key_secret, ledger
from apikeys.key_secret import KeySecret
from apikeys.ledger import KeyRecord, RequestRecord, Taken
from apikeys.models import Outcome, RateLimit, Status
from apikeys.models.key import status_at
from apikeys.proxies import is_in, parse_address

_ENDED: Final = {Status.REVOKED: Outcome.REVOKED, Status.EXPIRED: Outcome.EXPIRED, Status.PAUSED: Outcome.PAUSED}


class StoreUnavailableError(Exception):
    """The database could not be asked, or could not record: the request is neither accepted nor refused."""


@dataclass(frozen=True, slots=True)
class Presented:
    """A request to judge: what it presents, what it wants, and where it comes from."""

    credential: str = field(repr=False)
    organization: str
    scope: str = ""
    address: str | None = None
    user_agent: str = ""
    method: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Quota:
    """A rate limit after a request: what is left, and seconds until all of it, or one request, is back."""

    limit: RateLimit
    remaining: int
    reset: int
    retry_after: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer. ``key`` is None when no key of the organization has that public id and secret."""

    outcome: Outcome
    key: KeyRecord | None = None
    quota: Quota | None = None


def verify(presented: Presented) -> Verdict:
    """Judge a request and record it before returning.

    Raises StoreUnavailableError when the database cannot be read or written.
    """
    secret = key_secret.parse(presented.credential)
    if secret is None:
        return Verdict(Outcome.MALFORMED)
    try:
        key = _read_key(secret.public_id, presented.organization)
        return _judge(key, secret, presented) if key else Verdict(Outcome.UNKNOWN)
    except (DatabaseError, InterfaceError) as error:
        # The next request of this thread gets a new connection.
        connection.close()
        raise StoreUnavailableError from error


def _read_key(public_id: str, organization: str) -> KeyRecord | None:
    """Read a key, once more when the thread's connection died since it was last used, as at a restart of PostgreSQL.

    Only reading is repeated: of a write that failed nobody knows whether it was committed.
    """
    was_open = connection.connection is not None
    try:
        return ledger.read_key(public_id, organization)
    except (OperationalError, InterfaceError, ProgrammingError):
        if not was_open:
            raise
        connection.close()
        return ledger.read_key(public_id, organization)


def _judge(key: KeyRecord, secret: KeySecret, presented: Presented) -> Verdict:
    now = datetime.now(UTC)
    request = RequestRecord(
        now, presented.address, presented.user_agent, presented.method, presented.path, presented.scope
    )
    outcome = decide(key, secret, presented, now, settings.KEY_PEPPERS)
    if outcome is Outcome.UNKNOWN:
        ledger.record_guess(key, request)
        return Verdict(outcome)
    if outcome is Outcome.VALID and key.limit:
        quota = _quota(key.limit, ledger.take_and_record(key, key.limit, request))
        return Verdict(Outcome.RATE_LIMITED if quota.retry_after else outcome, key, quota)
    ledger.record(key, request, outcome)
    return Verdict(outcome, key)


def decide(
    key: KeyRecord, secret: KeySecret, presented: Presented, now: datetime, peppers: Mapping[int, bytes]
) -> Outcome:
    """Return what becomes of a request, but for its rate limit. Asks nobody.

    Who does not know the secret learns nothing else about the key.
    """
    if not key_secret.matches(secret, key.digest, key.pepper_number, peppers):
        return Outcome.UNKNOWN
    status = status_at(now, key.revoked_at, key.expires_at, key.paused_at)
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
