"""Keyset paging: every row exactly once, in any order, and no cursor that breaks it."""

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeys.models import ApiKey, Scope
from apikeys.paging import BadCursorError, Column, Ordered, changed_url, count_text, take_page
from tests.factories import make_scope
from tests.pages import make_keys

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BY_NAME = [Column("name", str), Column("id", int)]
BY_TIME = [Column("created_at", datetime, descending=True), Column("id", int, descending=True)]


def cursor_of(*values, part=0):
    return base64.urlsafe_b64encode(json.dumps([part, *values]).encode()).decode().rstrip("=")


def walk(parts, size):
    found, cursor = [], ""
    while True:
        page = take_page(parts, cursor, size)
        assert len(page.rows) <= size
        found += page.rows
        if not page.cursor:
            return found
        cursor = page.cursor


ORDERS = {
    "one text up": [Column("name", str), Column("id", int)],
    "one text down": [Column("name", str, descending=True), Column("id", int)],
    "a time down": BY_TIME,
    "both, each its own way": [
        Column("name", str),
        Column("created_at", datetime, descending=True),
        Column("id", int, descending=True),
    ],
}


@pytest.mark.django_db
@pytest.mark.parametrize("size", [1, 2, 7, 50])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_the_pages_are_the_list(organization, order, size):
    def change(key, place):
        key.name, key.created_at = f"{place % 3}", NOW + timedelta(hours=place % 2)

    make_keys(organization, 20, change=change)
    rows = organization.keys.all()
    whole = list(rows.order_by(*(f"-{column.field}" if column.descending else column.field for column in order)))
    assert walk([Ordered(rows, order)], size) == whole


@pytest.mark.django_db
@pytest.mark.parametrize("size", [1, 2, 7, 50])
def test_parts_follow_one_another(organization, size):
    def change(key, place):
        key.revoked_at, key.revoked_reason = (NOW, "unused") if place % 3 else (None, "")

    make_keys(organization, 20, change=change)
    usable, dead = organization.keys.usable(), organization.keys.dead()
    parts = [Ordered(usable, BY_NAME), Ordered(organization.keys.none(), BY_NAME), Ordered(dead, [Column("id", int)])]
    whole = [*usable.order_by("name", "id"), *dead.order_by("id")]
    assert walk(parts, size) == whole


@pytest.mark.django_db
def test_a_page_that_is_full_reads_no_later_part(organization):
    make_keys(organization, 9)
    with CaptureQueriesContext(connection) as queries:
        take_page([Ordered(organization.keys.all(), BY_NAME)] * 2, "", 9)
    assert len(queries) == 1


@pytest.mark.django_db
def test_names_of_any_script_are_no_trouble(organization):
    names = ["مفتاح", "🔑", "é", "e\u0301", "ß", "'", '"', "\\", "%", "Z", "a", "Ö"]

    def change(key, place):
        key.name = names[place]

    make_keys(organization, len(names), change=change)
    assert len(set(walk([Ordered(organization.keys.all(), BY_NAME)], 2))) == len(names) + 1


@pytest.mark.django_db
def test_rows_that_are_added_or_gone_between_two_pages_move_no_other(organization):
    for name in ("bb:x", "dd:x", "ff:x"):
        make_scope(organization, name)
    parts = [Ordered(Scope.objects.filter(organization=organization, name__endswith=":x"), BY_NAME)]
    first = take_page(parts, "", 2)
    make_scope(organization, "aa:x")
    make_scope(organization, "ee:x")
    Scope.objects.get(name="dd:x").delete()
    assert [scope.name for scope in take_page(parts, first.cursor, 5).rows] == ["ee:x", "ff:x"]


@pytest.mark.django_db
def test_the_last_page_has_no_cursor_and_an_empty_list_is_one_page(organization):
    assert take_page([Ordered(ApiKey.objects.none(), BY_NAME)], "").rows == []
    make_keys(organization, 9)
    assert take_page([Ordered(organization.keys.all(), BY_NAME)], "", 10).cursor == ""
    assert take_page([Ordered(organization.keys.all(), BY_NAME)], "", 9).cursor != ""


@pytest.mark.django_db
def test_a_page_never_skips_rows_by_number(organization):
    make_keys(organization, 9)
    cursor = take_page([Ordered(organization.keys.all(), BY_NAME)], "", 3).cursor
    with CaptureQueriesContext(connection) as queries:
        take_page([Ordered(organization.keys.all(), BY_NAME)], cursor, 3)
    [query] = queries
    assert "OFFSET" not in query["sql"]
    assert "COUNT" not in query["sql"]


BAD = {
    "not base64": "%",
    "not JSON": base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    "not a list": cursor_of()[:-1] + "0",
    "too few values": cursor_of("a"),
    "too many values": cursor_of("a", 1, 1),
    "a number for a text": cursor_of(1, 1),
    "a text for a number": cursor_of("a", "1"),
    "true for a number": cursor_of("a", True),
    "a fraction for a number": cursor_of("a", 1.5),
    "nothing for a text": cursor_of(None, 1),
    "a list for a text": cursor_of(["a"], 1),
    "a number over 64 bits": cursor_of("a", 2**63),
    "a number under 64 bits": cursor_of("a", -(2**63) - 1),
    "a NUL": cursor_of("a\0", 1),
    "half a character": cursor_of("a\ud800", 1),
    "a part that is not there": cursor_of("a", 1, part=1),
    "a part before the first": cursor_of("a", 1, part=-1),
    "true for a part": cursor_of("a", 1, part=True),
}


@pytest.mark.django_db
@pytest.mark.parametrize("cursor", BAD.values(), ids=BAD)
def test_a_damaged_cursor_is_refused(organization, cursor):
    with pytest.raises(BadCursorError):
        take_page([Ordered(organization.keys.all(), BY_NAME)], cursor)


@pytest.mark.django_db
@pytest.mark.parametrize("time", ["now", "2026-01-01", "2026-01-01T00:00:00", "0001-01-01T00:00:00+23:00", 5, None])
def test_a_time_that_is_none_is_refused(organization, time):
    with pytest.raises(BadCursorError):
        take_page([Ordered(organization.keys.all(), BY_TIME)], cursor_of(time, 1))


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=6)


@pytest.mark.django_db
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()), JSON.map(cursor_of)))
def test_any_cursor_gives_a_page_or_is_refused(organization, cursor):
    for order in (BY_NAME, BY_TIME):
        with suppress(BadCursorError):
            assert take_page([Ordered(organization.keys.all(), order)], cursor).rows == []


@pytest.mark.django_db
def test_a_count_is_exact_up_to_its_limit_and_never_reads_on(organization):
    make_keys(organization, 11)
    assert count_text(organization.keys.all()) == "12"
    assert count_text(organization.keys.all(), limit=12) == "12"
    assert count_text(organization.keys.all(), limit=11) == "11+"
    with CaptureQueriesContext(connection) as queries:
        count_text(organization.keys.all(), limit=1000)
    assert "LIMIT 1001" in queries[0]["sql"]


@pytest.mark.parametrize(
    ("query", "changes", "expected"),
    [
        ("", {}, "/keys/"),
        ("a=1&after=x", {}, "/keys/?a=1"),
        ("after=x", {}, "/keys/"),
        ("a=1&a=2", {"b": "3"}, "/keys/?a=1&a=2&b=3"),
        ("a=1&b=2", {"a": None}, "/keys/?b=2"),
        ("a=1", {"a": "é&="}, "/keys/?a=%C3%A9%26%3D"),
    ],
)
def test_an_address_is_changed_without_its_cursor(query, changes, expected):
    assert changed_url("/keys/", QueryDict(query), **changes) == expected
