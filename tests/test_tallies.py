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
from apikeys.filters import TABS, KeyFilter
from apikeys.models import KeyActivity
from apikeys.paging import COUNT_LIMIT, expected_count
from apikeys.tallies import counts_of, silence_links, summary_counts, tab_counts, take_long
from tests.factories import (
    copy_key,
    make_actor,
    make_exemption,
    make_expired_key,
    make_key,
    make_old_key,
    make_revoked_key,
    make_rhythm,
)
from tests.pages import make_keys, soon

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_remembered():
    caches["process"].clear()


@pytest.fixture
def listing(organization, viewer):
    """Return what lists the keys that a query asks for."""
    request = SimpleNamespace(member=viewer.memberships.get())
    return lambda query: KeyFilter(QueryDict(query), queryset=organization.keys.all(), request=request)


def multiply(key, number):
    """Copy a key so often, and tell PostgreSQL that there are many."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # Which takes a minute row by row, and comes back with the end of the test's transaction.
            cursor.execute("DROP INDEX IF EXISTS key_by_text")
        copy_key(key, number)


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
        assert (counts["revoked"], counts["expiring"], counts["paused"]) == ("1", "1", "0")
    assert tab_counts(listing(""))["soon"] == "1"


@pytest.mark.parametrize("query", ["", "environment=prod", "status=paused"])
def test_the_summary_tells_of_all_keys_whatever_is_filtered(organization, listing, query):
    make_revoked_key(organization)
    make_key(organization, expires_at=soon(5))
    make_key(organization, expires_at=soon(45))
    make_old_key(organization, timedelta(days=200))
    unused = str(organization.keys.unused().count())
    assert unused != "0"
    expected = {"": str(organization.keys.count()), "unused": unused, "soon": "1"}
    assert summary_counts(listing(query)) == expected
    assert {name: tab_counts(listing(""))[name] for name in expected} == expected


def test_the_summary_remembers_what_is_far_beyond_the_limit_and_nothing_else(organization, listing):
    multiply(make_key(organization, "many").key, COUNT_LIMIT + 1_000)
    assert summary_counts(listing("environment=prod")) == {"": "10,000+", "unused": "0", "soon": "0"}
    make_key(organization, expires_at=soon(5))
    assert summary_counts(listing("environment=prod")) == {"": "10,000+", "unused": "0", "soon": "1"}
    # Each of both remembers for itself.
    assert tab_counts(listing(""))["active"] == "10,000+"


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
    assert {tab: counts[tab] for tab in ("", "revoked", "expiring", "expired")} == {
        "": str(organization.keys.count()),
        "revoked": "1",
        "expiring": "2",
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


def test_keys_at_hand_are_counted_as_the_database_counts_them(organization, viewer, listing):
    make_keys(organization, 3)
    make_revoked_key(organization)
    make_expired_key(organization)
    make_key(organization, expires_at=soon(5))
    make_key(organization, expires_at=soon(45))
    make_key(organization).key.pause(by=make_actor())
    make_old_key(organization, timedelta(days=200))
    make_exemption(make_old_key(organization, timedelta(days=200)), viewer.memberships.get())
    KeyActivity.objects.filter(key=make_old_key(organization, timedelta(days=200))).update(last_used_at=timezone.now())
    counts = counts_of(list(organization.keys.for_list()))
    assert counts == {tab: number for tab, number in tab_counts(listing("")).items() if tab in TABS}
    assert "0" not in counts.values()


def test_numbers_wait_where_many_keys_are_to_be_looked_at_one_by_one(organization, listing, monkeypatch):
    make_keys(organization, 300)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE apikeys_apikey")
    monkeypatch.setattr(tallies, "AT_ONCE", 100)
    assert take_long(listing("environment=prod"), with_silences=False)
    # A search may find anything among them.
    assert take_long(listing("environment=prod&q=nothing"), with_silences=False)
    assert take_long(listing("status=unused"), with_silences=True)
    # All keys' tabs are counted by indexes, and what finds few, by these few.
    for query in ("", "status=paused", "expires=past", "q=nothing&expires=past"):
        assert not take_long(listing(query), with_silences=False)
    monkeypatch.setattr(tallies, "AT_ONCE", 1000)
    assert not take_long(listing("environment=prod"), with_silences=False)


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite does not tell what it expects")
def test_postgresql_is_asked_once_what_it_expects(organization, listing):
    make_keys(organization, 60)
    asked = listing("environment=prod")
    with CaptureQueriesContext(connection) as queries:
        take_long(asked, with_silences=False)
        tab_counts(asked)
    assert sum(one["sql"].startswith("EXPLAIN") for one in queries) == 1


def test_numbers_that_are_known_need_not_wait(organization, listing, monkeypatch):
    make_keys(organization, 12)
    monkeypatch.setattr(tallies, "AT_ONCE", 0)
    monkeypatch.setattr(tallies, "COUNT_LIMIT", 5)
    assert take_long(listing("q=Key"), with_silences=False)
    counts = tab_counts(listing("q=Key"))
    assert not take_long(listing("q=Key"), with_silences=False)
    assert tab_counts(listing("q=Key")) == counts


def test_each_kind_of_silence_is_counted_without_what_may_be_silent(organization, listing):
    for gap in (0, 0, 0, 92, 0):
        key = make_old_key(organization, timedelta(days=100))
        make_rhythm(key, usual_gap=timedelta(days=gap))
    make_exemption(key)

    def counts():
        return [link.count for link in silence_links(listing("silence=dormant"), "/", QueryDict())]

    assert counts() == ["3", "0", "1", "0", "1"]
    # Each has a limit of its own.
    old = make_old_key(organization, timedelta(days=100))
    multiply(old, COUNT_LIMIT - 4)
    assert counts() == ["10,000", "0", "1", "0", "1"]
    make_old_key(organization, timedelta(days=100))
    assert counts() == ["10,000+", "0", "1", "0", "1"]
