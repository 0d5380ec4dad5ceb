"""The numbers in the key list's tabs: exact while that is cheap, and said to be more beyond."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core.cache import caches
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys import tallies
from apikeys.filters import KeyFilter
from apikeys.models import KeyActivity
from apikeys.paging import COUNT_LIMIT, expected_count
from apikeys.tallies import tab_counts
from tests.factories import make_exemption, make_expired_key, make_key, make_old_key, make_revoked_key
from tests.pages import make_keys, soon

pytestmark = pytest.mark.django_db
COLUMNS = """
    organization_id, environment_id, name, purpose, owner_contact, networks, rate_period, prefix, digest, pepper_number,
    created_at, created_by_label, revoked_by_label, revoked_reason, revoked_note, version
"""


@pytest.fixture(autouse=True)
def nothing_remembered():
    caches["process"].clear()


@pytest.fixture
def listing(organization, viewer):
    """Return what lists the keys that a query asks for."""
    request = SimpleNamespace(member=viewer.memberships.get())
    return lambda query: KeyFilter(QueryDict(query), queryset=organization.keys.all(), request=request)


def multiply(key, number):
    """Copy a key so often, by the database alone."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # Which takes a minute row by row, and comes back with the end of the test's transaction.
            cursor.execute("DROP INDEX IF EXISTS key_by_text")
        cursor.execute(
            f"""
            WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < %s)
            INSERT INTO apikeys_apikey ({COLUMNS}, public_id)
            SELECT {COLUMNS}, CAST(100000000000 + number AS text) FROM apikeys_apikey, numbers WHERE id = %s
            """,
            [number, key.pk],
        )
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE apikeys_apikey, apikeys_keyactivity")


def test_up_to_the_limit_it_is_exact(organization, listing):
    multiply(make_key(organization, "many").key, COUNT_LIMIT - 1)
    counts = tab_counts(listing(""))
    assert (counts[""], counts["active"], counts["revoked"]) == ("10,000", "10,000", "0")
    assert tab_counts(listing("environment=prod"))[""] == "10,000"


def test_beyond_the_limit_it_says_that_there_are_more(organization, listing):
    multiply(make_key(organization, "many").key, COUNT_LIMIT)
    make_revoked_key(organization, "one")
    make_key(organization, "soon", expires_at=soon(5))
    for query in ("", "environment=prod"):
        counts = tab_counts(listing(query))
        assert (counts[""], counts["active"]) == ("10,000+", "10,000+")
        # Each tab has a limit of its own.
        assert (counts["revoked"], counts["expiring"], counts["soon"], counts["paused"]) == ("1", "1", "1", "0")


def test_of_a_search_that_finds_more_every_number_is_a_least_one(organization, listing):
    multiply(make_key(organization, "many").key, COUNT_LIMIT)
    counts = tab_counts(listing("q=many"))
    assert counts[""] == counts["active"] == "10,000+"
    assert counts["revoked"] == "0+"


@pytest.mark.parametrize("query", ["", "q=Key", "environment=prod", "created=0-30"])
def test_it_takes_one_statement_for_all_tabs(organization, listing, query):
    make_keys(organization, 12)
    asked = listing(query)
    asked.is_valid()
    asked.without("status")
    with CaptureQueriesContext(connection) as queries:
        tab_counts(asked)
    counting = [one for one in queries if "COUNT(" in one["sql"]]
    assert len(counting) == 1


@pytest.mark.parametrize("query", ["", "environment=prod", "q=many"])
def test_what_is_far_beyond_the_limit_is_counted_once_a_minute(organization, listing, query):
    multiply(make_key(organization, "many").key, COUNT_LIMIT + 1_000)
    make_revoked_key(organization, "one of many")
    first = tab_counts(listing(query))
    make_revoked_key(organization, "another of many")
    with CaptureQueriesContext(connection) as queries:
        again = tab_counts(listing(query))
    assert first[""] == again[""] == first["active"] == again["active"] == "10,000+"
    if query.startswith("q="):
        assert not any("COUNT(" in one["sql"] for one in queries)
    else:
        # What is told exactly is counted each time.
        assert (first["revoked"], again["revoked"]) == ("1", "2")
    assert tab_counts(listing("created=0-30"))["revoked"] == "2"


@pytest.mark.parametrize("wide", [0, tallies._WIDE])
@pytest.mark.parametrize("query", ["", "environment=prod"])
def test_counted_together_or_apart_the_numbers_are_the_same(organization, listing, query, wide, monkeypatch):
    monkeypatch.setattr(tallies, "_WIDE", wide)
    make_revoked_key(organization)
    make_key(organization, expires_at=soon(5))
    make_key(organization, expires_at=soon(45))
    make_old_key(organization, timedelta(days=200))
    counts = tab_counts(listing(query))
    assert {tab: counts[tab] for tab in ("", "revoked", "expiring", "soon", "expired")} == {
        "": str(organization.keys.count()),
        "revoked": "1",
        "expiring": "2",
        "soon": "1",
        "expired": "0",
    }
    assert counts["unused"] == str(organization.keys.unused().count())


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite does not tell what it expects")
def test_a_choice_that_postgresql_expects_to_be_wide_is_not_read_to_find_out(organization, listing, monkeypatch):
    make_keys(organization, 300)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE apikeys_apikey")
    assert 200 < expected_count(organization.keys.all()) < 400
    assert expected_count(organization.keys.filter(name="nothing has this name")) < 10
    monkeypatch.setattr(tallies, "_WIDE", 100)
    with CaptureQueriesContext(connection) as queries:
        assert tab_counts(listing("environment=prod"))[""] == str(organization.keys.count())
    assert not any("is_expiring" in one["sql"] for one in queries)
    with CaptureQueriesContext(connection) as queries:
        tab_counts(listing("expires=7"))
    assert any("is_expiring" in one["sql"] for one in queries)


@pytest.mark.parametrize(
    "query",
    [
        "silence=never_used",
        "silence=exempt",
        "owner=closed",
        "tried=7",
        "expires=past",
        "expires=never",
        "last_used=30",
    ],
)
def test_tabs_that_need_no_look_would_have_been_empty(organization, viewer, listing, query, monkeypatch):
    make_keys(organization, 9)
    make_old_key(organization, timedelta(days=200))
    make_exemption(make_old_key(organization, timedelta(days=200)), viewer.memberships.get())
    make_key(organization, owner=viewer.memberships.get())
    KeyActivity.objects.filter(key=make_old_key(organization, timedelta(days=200))).update(last_used_at=timezone.now())
    viewer.is_active = False
    viewer.save()
    for tried in (make_revoked_key(organization).key, make_expired_key(organization).key):
        KeyActivity.objects.filter(key=tried).update(last_refused_at=timezone.now())
    monkeypatch.setattr(tallies, "COUNT_LIMIT", 0)
    asked = listing(query)
    counts = tab_counts(asked)
    assert int(counts[""]) > 0
    assert asked.empty_tabs()
    monkeypatch.setattr(KeyFilter, "empty_tabs", lambda self: set())
    assert tab_counts(listing(query)) == counts
