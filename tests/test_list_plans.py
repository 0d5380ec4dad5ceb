"""How the databases find what the key list shows: by an index, never by reading all keys or events."""

from itertools import pairwise
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.models import KeyRhythm, Organization, Role, Scope
from apikeys.models.usage import DAY
from benchmarks.grown.lists import cases
from benchmarks.grown.trigrams import index_at_the_end
from tests.factories import make_environment, make_key, make_member, make_organization, make_user
from tests.held import rolled_back
from tests.pages import HTMX, age_limit, make_keys, url

# Before what commits: the keys are those of every organization that there is.
pytestmark = pytest.mark.django_db

DATA = Path(__file__).parent.parent / "benchmarks" / "grown" / "data.sql"
# Enough that PostgreSQL would rather not read all of them.
KEYS = 20_000
# Most of them belong to somebody else: of a table that is one organization's, half is soonest read as it lies.
OTHERS = """
SET LOCAL session_replication_role = replica;
INSERT INTO apikeys_organization (name, slug, key_prefix, created_at) VALUES ('Other', 'other', 'ka', now());
UPDATE apikeys_apikey SET organization_id = (SELECT id FROM apikeys_organization WHERE slug = 'other') WHERE id % 5 > 0;
UPDATE apikeys_keyactivity SET organization_id = (SELECT id FROM apikeys_organization WHERE slug = 'other')
    WHERE key_id % 5 > 0;
INSERT INTO apikeys_usageevent (key_id, at, nonce, outcome, address, user_agent, method, path, scope)
    SELECT id, date_trunc('day', now(), 'UTC') + id * interval '1 microsecond', id, 'valid', '192.0.2.1', '', 'GET',
        '', ''
    FROM apikeys_apikey;
SET LOCAL session_replication_role = origin
"""
LARGE = ("apikeys_apikey", "apikeys_keyactivity", "apikeys_keyscope", "apikeys_usageevent", "apikeys_usagehour")
QUERIES = {case.name: case.query for case in cases()}


@pytest.fixture(scope="module")
def _grown(django_db_setup, django_db_blocker):
    """Make the keys once, in a transaction that is rolled back after this module."""
    with django_db_blocker.unblock(), rolled_back():
        (_grow_postgresql if connection.vendor == "postgresql" else _grow_sqlite)()
        yield


def _grow_sqlite():
    made = make_organization("grown", admin=make_user("person1@example.org"))
    age_limit(made, 1000)
    for code in ("eu", "lab"):
        make_environment(made, code, name=code)
    for scope in ("orders:read", "reports:delete"):
        Scope.objects.get_or_create(organization=made, name=scope, defaults={"description": scope})
    for address in ("person3@example.org", "person50@example.org"):
        make_member(made, Role.VIEWER, make_user(address))
    make_key(made, owner_contact="team9@example.org")
    make_keys(made, 200)


def _grow_postgresql():
    """Make them with the statistics that its planner decides by."""
    with connection.cursor() as cursor:
        with index_at_the_end():
            cursor.execute(DATA.read_text(), {"keys": KEYS})
            for statement in OTHERS.strip().split(";\n"):
                cursor.execute(statement)
            # PostgreSQL makes no index while checks are put off.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ANALYZE")
        # As on a disk without moving parts: docs/performance.md.
        cursor.execute("SET LOCAL random_page_cost = 1.1")


@pytest.fixture
def grown(_grown, django_db_blocker):
    """An organization with many keys."""
    with django_db_blocker.unblock(), rolled_back():
        yield Organization.objects.get(slug="grown")


def plan_of(sql):
    """Return the lines of a statement's plan."""
    with connection.cursor() as cursor:
        cursor.execute(
            ("EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN ") + sql.replace("%", "%%")
        )
        return [str(row[-1]) for row in cursor.fetchall()]


def small_tables():
    """Return the partitions of a few pages, as of days to come: an index finds nothing faster there."""
    if connection.vendor == "sqlite":
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class"
            " WHERE relname LIKE 'apikeys_usageevent%' AND pg_relation_size(oid) < 10 * 8192"
        )
        return {name for (name,) in cursor.fetchall()}


def reads_all(line, small):
    """Say whether a line of a plan reads a whole large table."""
    words = line.replace('"', " ").split()
    if connection.vendor == "postgresql":
        table = words[words.index("on") + 1] if "Seq Scan on" in line else ""
        return table.startswith(LARGE) and table not in small
    return words[0] == "SCAN" and any(word in words for word in LARGE) and "INDEX" not in words


@pytest.fixture
def plans(grown, client_of):
    """Return what opens a page of the list and returns the plans of its statements, by their SQL."""
    client = client_of(grown.members.get(user__email="person1@example.org"))

    def explain(query):
        with CaptureQueriesContext(connection) as captured:
            response = client.get(url("key_list", grown) + f"?{query}")
            if response.context["counts_url"]:
                client.get(response.context["counts_url"], headers=HTMX | {"HX-Target": "key_counts"})
        assert response.status_code == 200
        texts = [one["sql"] for one in captured if one["sql"].lstrip().startswith(("SELECT", "WITH"))]
        found = {text: plan_of(text) for text in texts if any(table in text for table in LARGE)}
        next_url = response.context["next_url"]
        return found, next_url

    return explain


def assert_by_index(found):
    assert found
    small = small_tables()
    for sql, plan in found.items():
        bad = [line for line in plan if reads_all(line, small)]
        assert not bad, "\n".join([sql, *plan])


def test_no_page_of_the_list_reads_all_keys_or_events(plans):
    for query in QUERIES.values():
        found, next_url = plans(query)
        assert_by_index(found)
        if next_url:
            assert_by_index(plans(next_url.partition("?")[2])[0])


ORDERS = {
    "sort=created": "key_newest",
    "sort=-created": "key_newest",
    "sort=name": "key_by_lower_name",
    "sort=-name": "key_by_lower_name",
    "sort=expires": "key_by_end",
    "sort=-expires": "key_by_end",
    "sort=last_used": "activity_by_last_use",
    "sort=-last_used": "activity_by_last_use",
}


NEVER_USED = """"last_used_minute" = '1970"""


@pytest.mark.parametrize("query", ORDERS)
def test_each_order_is_that_of_an_index(plans, query):
    found, next_url = plans(query)
    later, _ = plans(next_url.partition("?")[2])
    for page in (found, later):
        parts = {sql: plan for sql, plan in page.items() if "sort_order" in sql and "COUNT(" not in sql}
        assert parts
        for sql, rows in parts.items():
            assert any(ORDERS[query] in line for line in rows), "\n".join(rows)
            # Nothing is sorted but, on PostgreSQL, what has the same place in the index; and the keys that were never
            # used, of which there may be so few that they are soonest sorted.
            if connection.vendor == "sqlite" or NEVER_USED not in sql:
                assert not any(line.strip().startswith(("Sort  (", "->  Sort  (")) for line in rows), "\n".join(rows)
                assert not any("USE TEMP B-TREE FOR ORDER BY" in line for line in rows), "\n".join(rows)


def test_a_rare_text_is_found_by_its_trigrams_or_among_the_organizations_keys(plans):
    found, _ = plans("q=zanzibar")
    rows = next(plan for sql, plan in found.items() if "sort_order" in sql)
    index = {"postgresql": "key_by_text", "sqlite": "organization_id=?"}[connection.vendor]
    assert any(index in line for line in rows), "\n".join(rows)


@pytest.mark.parametrize("query", ["status=expired", "expires=past"])
def test_expired_keys_are_told_by_an_index_alone(plans, query):
    found, _ = plans(query)
    rows = next(plan for sql, plan in found.items() if "sort_order" in sql)
    index, condition = {"postgresql": ("key_newest", "COALESCE(expires_at"), "sqlite": ("key_by_end", "<expr><?")}[
        connection.vendor
    ]
    assert any(index in line and condition in line + after for line, after in pairwise(rows)), "\n".join(rows)


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite goes by the keys' own index")
def test_keys_with_long_gaps_that_are_not_silent_are_told_by_an_index_alone(grown, plans):
    old, now = timezone.now() - 400 * DAY, timezone.now()
    rhythms = [
        KeyRhythm(key=key, first_hour=old, last_hour=now, usual_gap=120 * 86_400, computed_at=now)
        for key in grown.keys.only("pk")
    ]
    KeyRhythm.objects.bulk_create(rhythms, ignore_conflicts=True)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE apikeys_keyrhythm")
    found, _ = plans("silence=seasonal")
    rows = next(plan for sql, plan in found.items() if "sort_order" in sql)
    index, condition = "rhythm_by_gap_and_last_hour", "(last_hour <"
    assert any(index in line and condition in after for line, after in pairwise(rows)), "\n".join(rows)


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite reads nothing in parallel")
def test_what_takes_milliseconds_is_not_read_in_parallel():
    with connection.cursor() as cursor:
        cursor.execute("SELECT setting::int, boot_val::int FROM pg_settings WHERE name = 'parallel_setup_cost'")
        assert cursor.fetchone() == (10_000, 1000)
