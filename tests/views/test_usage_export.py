"""Each table and chart of the Overview and of Usage as CSV and JSON."""

import csv
import io
import json
from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import AuditAction, Outcome, UsageWatermark
from apikeys.organization_tables import TABLES
from tests.factories import (
    make_event,
    make_expired_key,
    make_key,
    make_old_key,
    make_organization,
    make_revoked_key,
)
from tests.pages import HOSTILE, age_limit, day, entries, make_keys, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def export(organization, viewer, client_of):
    client = client_of(viewer)
    return lambda table, kind="json", **query: client.get(url("usage_export", organization, table, kind, **query))


@pytest.fixture
def page_of(organization, viewer, client_of):
    client = client_of(viewer)
    return lambda name, **query: client.get(url(name, organization, **query))


@pytest.fixture
def requests(organization):
    for number, key in enumerate((make_key(organization, "a").key, make_key(organization, "b").key)):
        for hours in range(number + 1):
            make_event(key, ago=timedelta(hours=hours))
    make_event(make_key(organization, "guessed").key, outcome=Outcome.UNKNOWN)
    make_event(make_revoked_key(organization, "dead").key, outcome=Outcome.REVOKED)
    make_event(make_expired_key(organization, "over").key, outcome=Outcome.EXPIRED)
    make_event(organization.keys.get(name="b"), outcome=Outcome.RATE_LIMITED)
    make_event(make_key(make_organization(), "theirs").key)


def rows(response):
    text = b"".join(response.streaming_content).decode()
    if response["Content-Type"] == "application/json":
        return json.loads(text)
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("span", ["24h", "7d", "30d", "90d", "13m"])
def test_an_export_holds_what_the_page_shows(page_of, export, requests, span):
    context = page_of("usage", range=span).context
    outcomes = rows(export("outcomes", range=span))
    assert [row["total"] for row in outcomes] == [
        sum(counts[place] for counts in context["series"].counts.values())
        for place in range(len(context["series"].starts))
    ]
    assert sum(row["valid"] for row in outcomes) == 3
    for name, parts in (("environments", context["environments"]), ("owners", context["owners"])):
        exported = [(row["accepted"], row["refused"], row["share"]) for row in rows(export(name, range=span))]
        assert exported == [(part.accepted, part.refused, part.share) for part in parts]
    for name, ranking in context["rankings"].items():
        exported = [
            (row["id"], row["number"], row["accepted"], row["refused"]) for row in rows(export(name, range=span))
        ]
        assert exported == [(one.key.public_id, one.number, one.accepted, one.refused) for one in ranking.rows]
        assert exported, name


def test_more_keys_are_in_it_than_fit_the_page(organization, page_of, export):
    for key in make_keys(organization, 30):
        make_event(key)
    assert len(page_of("usage").context["rankings"]["busiest"].rows) == 10
    assert len(rows(export("busiest"))) == 30


def test_keys_by_status_and_age_are_a_row_each(organization, export):
    make_key(organization)
    make_revoked_key(organization)
    make_old_key(organization, timedelta(days=400))
    found = {(row["status"], row["created"]): row["keys"] for row in rows(export("keys"))}
    assert len(found) == 16
    assert found["active", "in the last 30 days"] == 2
    assert found["revoked", "in the last 30 days"] == 1
    assert found["active", "more than a year ago"] == 1
    assert sum(found.values()) == organization.keys.count()


def test_what_needs_attention_is_a_row_a_key_and_all_of_them(organization, page_of, export):
    soon = timezone.now() + timedelta(days=3)
    for number in range(12):
        make_event(make_key(organization, f"key {number}", expires_at=soon + timedelta(hours=number)).key)
    make_event(make_expired_key(organization, "over").key, outcome=Outcome.EXPIRED)
    matters = page_of("overview").context["matters"]
    assert [(matter.group.name, matter.count) for matter in matters] == [
        ("expired_tried", "1"),
        ("ending_in_use_7", "12"),
    ]
    found = rows(export("attention"))
    assert [row["name"] for row in found] == ["over", *(f"key {number}" for number in range(12))]
    assert {row["risk"] for row in found} == {"high"}
    assert found[1]["at"] == soon.isoformat()


def test_keys_to_rotate_are_rows_with_by_when(organization, export):
    age_limit(organization, 30)
    key = make_old_key(organization, timedelta(days=40), name="old")
    make_event(key)
    [row] = rows(export("attention"))
    date = (key.created_at + timedelta(days=30)).isoformat()
    assert (row["risk"], row["name"], row["when"], row["at"]) == ("middle", "old", "Due", date)


def test_scheduled_jobs_are_a_row_each(export):
    assert {row["state"] for row in rows(export("jobs"))} == {"never"}


@pytest.mark.parametrize("page", ["overview", "usage"])
def test_every_table_of_a_page_has_its_links(organization, page_of, export, requests, page):
    text = page_of(page, range="7d").text
    tables = {
        "overview": {"outcomes", "busiest", "keys", "attention", "jobs"},
        "usage": set(TABLES) - {"attention", "jobs"},
    }
    for table in tables[page]:
        for kind in ("csv", "json"):
            address = url("usage_export", organization, table, kind)
            assert f'href="{address}' in text, table
    if page == "usage":
        assert f'href="{url("usage_export", organization, "busiest", "csv")}?range=7d"' in text
    assert f'href="{url("key_export", organization, "json")}?status=active&amp;sort=last_used"' in text


@pytest.mark.parametrize("table", TABLES)
def test_csv_and_json_hold_the_same(export, requests, table):
    written, told = rows(export(table, "csv")), rows(export(table, "json"))
    assert len(written) == len(told) > 0
    for row, other in zip(written, told, strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in other.items()}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_an_organization_without_keys_has_tables_without_faults(export, table, kind):
    assert export(table, kind).status_code == 200
    assert rows(export(table, kind)) is not None


def test_nothing_of_another_organization_is_in_any(export, requests):
    for table in TABLES:
        assert "theirs" not in json.dumps(rows(export(table)))


@pytest.mark.parametrize(
    ("table", "query", "told"),
    [
        ("outcomes", {}, "outcomes, 30 d, CSV"),
        ("busiest", {"range": "13m"}, "busiest, 13 months, CSV"),
        ("owners", {"since": "2026-10-04", "until": "2026-10-05"}, "owners, 4 Oct to 5 Oct 2026, CSV"),
        ("attention", {"range": "7d"}, "attention, now, CSV"),
    ],
)
def test_an_export_is_recorded_with_what_it_holds(organization, viewer, export, table, query, told):
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": day(2026, 1, 1)})
    rows(export(table, "csv", **query))
    [entry] = entries(organization, AuditAction.USAGE_EXPORT)
    assert (entry.actor, entry.key_id, entry.reason) == (viewer, None, told)


def test_the_file_is_named_after_what_it_holds(export):
    assert export("busiest", range="7d")["Content-Disposition"] == 'attachment; filename="acme-busiest-7d.json"'
    assert export("jobs")["Content-Disposition"] == 'attachment; filename="acme-jobs.json"'
    assert "no-store" in export("jobs")["Cache-Control"]


@pytest.mark.parametrize(("table", "kind"), [("nothing", "csv"), ("owners", "xlsx"), ("owners", "CSV"), ("..", "csv")])
def test_a_table_or_format_that_does_not_exist_is_not_there_and_records_nothing(export, table, kind):
    before = snapshot()
    assert export(table, kind).status_code == 404
    assert snapshot() == before


@pytest.mark.parametrize(
    ("table", "query", "status"),
    [
        ("outcomes", {"since": "2026-10-05", "until": "2026-10-01"}, 422),
        ("owners", {"range": "always"}, 422),
        ("busiest", {"since": "2026-10-04", "until": "2026-10-05"}, 200),
    ],
)
def test_a_range_that_cannot_be_exported_leads_to_the_page_that_says_so(
    organization, viewer, client_of, export, table, query, status
):
    client = client_of(viewer)
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": day(2026, 1, 1)})
    make_key(organization)
    before = snapshot()
    response = export(table, **query)
    assert response["Location"].startswith(url("usage", organization))
    shown = client.get(response["Location"])
    assert shown.status_code == status
    assert status == 422 or "Which keys stood out is kept for" in shown.text
    assert snapshot() == before


@pytest.mark.parametrize("text", [*HOSTILE.values(), "=1+1", "@x"])
def test_no_name_is_a_formula_and_none_is_lost(organization, export, text):
    make_event(make_key(organization, text).key)
    [row] = rows(export("busiest", "csv"))
    assert row["name"].removeprefix("'") == text
    assert not row["name"].startswith(("=", "@"))


def test_another_organizations_usage_is_not_there(organization, outsider, client_of):
    assert client_of(outsider).get(url("usage_export", organization, "busiest", "csv")).status_code == 404
