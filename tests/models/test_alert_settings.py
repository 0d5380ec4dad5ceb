"""When the digest is due: at the same hour of the clock on each day, also when clocks are changed."""

from datetime import UTC, datetime

import pytest

from apikeys.models import AlertSettings


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("hour", "zone", "now", "due"),
    [
        (8, "UTC", "2026-11-27T07:59", "2026-11-27T08:00"),
        (8, "UTC", "2026-11-27T08:00", "2026-11-28T08:00"),
        (8, "Europe/Berlin", "2026-03-28T12:00", "2026-03-29T06:00"),
        (8, "Europe/Berlin", "2026-10-24T12:00", "2026-10-25T07:00"),
        # There is no 02:30 on this day, so 02:00 is 03:00; and on this day there are two of it, of which one is enough.
        (2, "Europe/Berlin", "2026-03-28T12:00", "2026-03-29T01:00"),
        (2, "Europe/Berlin", "2026-10-24T12:00", "2026-10-25T00:00"),
        (2, "Europe/Berlin", "2026-10-25T00:00", "2026-10-26T01:00"),
        (0, "Asia/Kolkata", "2026-11-27T18:29", "2026-11-27T18:30"),
        (8, "No/Where", "2026-11-27T07:59", "2026-11-27T08:00"),
    ],
)
def test_the_digest_is_due_at_its_hour_of_the_clock(hour, zone, now, due):
    assert AlertSettings(digest_hour=hour, digest_zone=zone).next_digest(at(now)) == at(due)
