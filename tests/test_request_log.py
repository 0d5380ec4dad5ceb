"""Single requests, newest first: pages without gaps or repeats, and a limit to how many are looked through."""

from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from apikeys import request_log
from apikeys.models import Outcome, UsageEvent
from apikeys.paging import BadCursorError
from apikeys.request_log import Wanted, take_requests
from tests.factories import make_events, make_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def key(organization):
    return make_key(organization).key


def fill(key, count, *, outcome=lambda number: "valid", at=lambda number: timedelta(seconds=number)):
    now = timezone.now()
    make_events(
        UsageEvent(key_id=key.pk, at=now - at(number), outcome=outcome(number), address="192.0.2.1", path=f"/{number}")
        for number in range(count)
    )


def read_all(key, wanted, size=20):
    pages, cursor = [], ""
    while True:
        found = take_requests(key, wanted, cursor, size)
        pages.append(found)
        if not (cursor := found.cursor):
            return pages


def test_pages_hold_every_request_once_also_of_one_microsecond(key):
    fill(key, 95, at=lambda number: timedelta(seconds=number // 40))
    pages = read_all(key, Wanted())
    assert [len(page.events) for page in pages] == [20, 20, 20, 20, 15]
    assert len({event.path for page in pages for event in page.events}) == 95


def test_a_rare_outcome_is_looked_for_only_so_far_and_then_on_from_there(key, monkeypatch):
    monkeypatch.setattr(request_log, "LOOKED_THROUGH", 50)
    fill(
        key,
        200,
        outcome=lambda number: "paused" if number % 90 == 60 else "valid",
        at=lambda n: timedelta(seconds=n // 7),
    )
    pages = read_all(key, Wanted(outcome=Outcome.PAUSED))
    assert [event.path for page in pages for event in page.events] == ["/60", "/150"]
    assert pages[0].events == []
    assert pages[0].looked_to is not None
    assert pages[-1].looked_to is None


def test_what_is_not_narrowed_is_never_looked_for(key, monkeypatch):
    monkeypatch.setattr(request_log, "LOOKED_THROUGH", 5)
    fill(key, 30)
    assert [len(page.events) for page in read_all(key, Wanted())] == [20, 10]


@given(st.text(max_size=60))
def test_no_cursor_is_a_fault(text):
    with pytest.raises(BadCursorError):
        request_log._decode(text)


@pytest.mark.parametrize(
    "cursor",
    [
        "2026-11-24T10:00:00_1",
        "2026-11-24T10:00:00+00:00_-1",
        f"2026-11-24T10:00:00+00:00_{2**70}",
        "9999-12-31T23:59:59-14:00_1",
    ],
)
def test_a_cursor_that_looks_like_one_is_checked(cursor):
    with pytest.raises(BadCursorError):
        request_log._decode(cursor)
