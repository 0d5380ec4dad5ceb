"""What alerts say: what was seen against what was expected, what it means and what to do; on pages and in mails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, NamedTuple

from apikeys.models import Alert, AlertKind, Silence


class Meaning(NamedTuple):
    """What a kind of alert means, and what to do about it."""

    means: str
    to_do: str


type Words = Callable[[Mapping[str, Any], tzinfo], str]

_HOUR: Final = timedelta(hours=1)


def seen(alert: Alert, zone: tzinfo = UTC) -> str:
    """Return what was seen, in a few words; times are those of a zone."""
    return _SEEN[AlertKind(alert.kind)](alert.facts, zone)


def expected(alert: Alert, zone: tzinfo = UTC) -> str:
    """Return what was expected instead, in a few words."""
    return _EXPECTED[AlertKind(alert.kind)](alert.facts, zone)


def _number(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name)
    return value if isinstance(value, int) else 0


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _instant(facts: Mapping[str, Any], name: str) -> datetime | None:
    try:
        return datetime.fromisoformat(facts.get(name) or "")
    except (TypeError, ValueError):
        return None


def _day(facts: Mapping[str, Any], name: str, zone: tzinfo) -> str:
    at = _instant(facts, name)
    return at.astimezone(zone).strftime("%-d %B %Y") if at else "an unknown day"


def _moment(facts: Mapping[str, Any], name: str, zone: tzinfo) -> str:
    at = _instant(facts, name)
    return at.astimezone(zone).strftime("%-d %B, %H:%M %Z") if at else "an unknown time"


def _hour(facts: Mapping[str, Any], zone: tzinfo) -> str:
    """Return the hour of an alert, or those together up to it: "between 14:00 and 15:00 CET on 3 March"."""
    at = _instant(facts, "hour")
    if at is None:
        return "in an unknown hour"
    start = (at - _HOUR * (max(1, _number(facts, "together")) - 1)).astimezone(zone)
    end = (at + _HOUR).astimezone(zone)
    return f"between {start:%H:%M} and {end:%H:%M %Z} on {start:%-d %B}"


def _abuse_seen(facts: Mapping[str, Any], zone: tzinfo) -> str:
    told = [
        (_number(facts, "revoked"), "with the revoked key"),
        (_number(facts, "wrong_secrets"), "with a wrong secret"),
        (_number(facts, "network_denied"), "from a network that is not allowed"),
        (_number(facts, "scope_missing"), "for a scope that it does not hold"),
    ]
    first, *more = [(count, what) for count, what in told if count] or [(0, "refused")]
    words = ", ".join([f"{_plural(first[0], 'request')} {first[1]}", *(f"{count:,} {what}" for count, what in more)])
    return f"{words}, {_hour(facts, zone)}"


def _unusual_seen(facts: Mapping[str, Any], zone: tzinfo) -> str:
    so_far = "" if facts.get("is_complete", True) else " so far"
    count = _number(facts, "count")
    told = _plural(count, "request") if count else "No request"
    return f"{told}{so_far} {_hour(facts, zone)}"


def _unusual_expected(facts: Mapping[str, Any], zone: tzinfo) -> str:
    at = _instant(facts, "hour")
    on = f" on a {at.astimezone(zone):%A}" if at else ""
    return f"usually {_number(facts, 'low'):,} to {_number(facts, 'high'):,}{on}"


def _unused_seen(facts: Mapping[str, Any], zone: tzinfo) -> str:
    since = _day(facts, "since", zone)
    return f"never used since {since}" if facts.get("silence") == Silence.NEVER_USED else f"last used on {since}"


def _unused_expected(facts: Mapping[str, Any], _zone: tzinfo) -> str:
    gap = _number(facts, "usual_gap_hours")
    usual = (
        f"; its longest usual gap is {_plural(gap // 24, 'day') if gap >= 72 else _plural(gap, 'hour')}" if gap else ""
    )
    return f"a use within {_plural(_number(facts, 'days'), 'day')}{usual}"


def _expiry_seen(facts: Mapping[str, Any], zone: tzinfo) -> str:
    days = _number(facts, "days")
    return f"ends on {_moment(facts, 'expires_at', zone)}, within {'a day' if days == 1 else f'{days:,} days'}"


def _job_seen(facts: Mapping[str, Any], zone: tzinfo) -> str:
    worked = _moment(facts, "worked_at", zone) if facts.get("worked_at") else ""
    error = f"; its last run failed: {facts['error']}" if facts.get("error") else ""
    return f"{facts.get('job')} {f'succeeded last on {worked}' if worked else 'has never succeeded'}{error}"


def _job_expected(facts: Mapping[str, Any], _zone: tzinfo) -> str:
    minutes = _number(facts, "limit_seconds") // 60
    return (
        f"a run that succeeds every {_plural(minutes // 60, 'hour') if minutes >= 180 else _plural(minutes, 'minute')}"
    )


_SEEN: Final[Mapping[AlertKind, Words]] = {
    AlertKind.ABUSE: _abuse_seen,
    AlertKind.EXPIRED_USED: lambda facts, zone: (
        f"{_plural(_number(facts, 'requests'), 'request')} refused in the last day, the last {_hour(facts, zone)}"
    ),
    AlertKind.UNUSUAL_USAGE: _unusual_seen,
    AlertKind.RATE_LIMITED: lambda facts, zone: (
        f"{_plural(_number(facts, 'refused'), 'request')} beyond the limit {_hour(facts, zone)}, "
        f"in {_plural(_number(facts, 'hours'), 'hour')} of a day"
    ),
    AlertKind.EXPIRY: _expiry_seen,
    AlertKind.NEW_NETWORK: lambda facts, zone: (
        f"used from {facts.get('address')} in {facts.get('network')} on {_moment(facts, 'at', zone)}"
    ),
    AlertKind.OWNER_GONE: lambda facts, _zone: f"the account of {facts.get('owner')} is closed",
    AlertKind.ROTATION_DUE: lambda facts, zone: f"should have been rotated by {_day(facts, 'rotate_by', zone)}",
    AlertKind.UNUSED: _unused_seen,
    AlertKind.JOB_LATE: _job_seen,
    AlertKind.WEBHOOK_OFF: lambda facts, zone: (
        f"{facts.get('name')} at {facts.get('host')} has failed since {_moment(facts, 'failing_since', zone)}: "
        f"{facts.get('error')}"
    ),
}
_EXPECTED: Final[Mapping[AlertKind, Words]] = {
    AlertKind.ABUSE: lambda _facts, _zone: "none that the key does not allow",
    AlertKind.EXPIRED_USED: lambda facts, zone: f"none since its end on {_day(facts, 'expired_at', zone)}",
    AlertKind.UNUSUAL_USAGE: _unusual_expected,
    AlertKind.RATE_LIMITED: lambda _facts, _zone: "requests within the limit",
    AlertKind.EXPIRY: lambda _facts, _zone: "a later end, or a new key in use before it",
    AlertKind.NEW_NETWORK: lambda _facts, _zone: "the networks of the 90 days before",
    AlertKind.OWNER_GONE: lambda _facts, _zone: "somebody who answers for the key",
    AlertKind.ROTATION_DUE: lambda facts, _zone: (
        f"a key that is at most {_plural(_number(facts, 'max_key_age'), 'day')} old"
    ),
    AlertKind.UNUSED: _unused_expected,
    AlertKind.JOB_LATE: _job_expected,
    AlertKind.WEBHOOK_OFF: lambda _facts, _zone: "one delivery that succeeds within five days",
}
# Of each kind: what it means, and what to do.
MEANING: Final[Mapping[AlertKind, Meaning]] = {
    AlertKind.ABUSE: Meaning(
        "Somebody presents this key and is refused. A caller that was accepted before was probably forgotten when the "
        "key was changed; one that never was may be trying a key that leaked.",
        "Look who it is. Move a caller of yours to the new key. If you do not know the caller, rotate or revoke the "
        "key: a revoked one cannot come back, and every attempt stays on its page.",
    ),
    AlertKind.EXPIRED_USED: Meaning(
        "The key has reached its end, and somebody's requests have failed since then.",
        "Tell the owner, and give the caller a new key. If the end was meant, say so when you resolve this.",
    ),
    AlertKind.UNUSUAL_USAGE: Meaning(
        "The number of accepted requests in an hour is outside of what this key's own days and weeks let expect.",
        "More than usual may be a new release, a loop or a stolen key: look at the callers. Fewer or none may be a "
        "service that is down or that has moved to another key.",
    ),
    AlertKind.RATE_LIMITED: Meaning(
        "Requests were refused because the key's rate limit was reached, again and again.",
        "Raise the limit if the traffic is wanted; otherwise ask the owner to send less.",
    ),
    AlertKind.EXPIRY: Meaning(
        "From its end on the key is refused, and whoever still uses it fails.",
        "Rotate the key, or move its end. If nobody needs it any more, let it end.",
    ),
    AlertKind.NEW_NETWORK: Meaning(
        "The key was accepted from a network that it was not used from in the 90 days before.",
        "Ask the owner whether that is theirs. If not, pause or revoke the key; networks can be limited on its page.",
    ),
    AlertKind.OWNER_GONE: Meaning(
        "Nobody answers for this key any more.",
        "Name another owner, or revoke the key if nobody needs it.",
    ),
    AlertKind.ROTATION_DUE: Meaning(
        "The longer a key is in use, the more places have held it.",
        "Rotate it: both keys work until its callers have moved.",
    ),
    AlertKind.UNUSED: Meaning(
        "Nobody would miss this key; whoever finds it has a way in.",
        "Revoke it. If it is kept for a reason, exempt it until a day, with that reason.",
    ),
    AlertKind.JOB_LATE: Meaning(
        "What this command does is not done: usage is not counted, alerts are not raised or not sent, or rotations do "
        "not end.",
        "Look at its timer or cron line and at its log on the server.",
    ),
    AlertKind.WEBHOOK_OFF: Meaning(
        "Its receiver did not accept anything for days, so it is told of nothing any more.",
        "Mend the receiver, send a test, and switch the webhook on again.",
    ),
}
