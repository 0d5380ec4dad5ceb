"""The organization's rotations."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.models import Clock, Rotation
from apikeys.paging import PAGE_SIZE
from tests.factories import (
    make_actor,
    make_event,
    make_key,
    make_member,
    make_organization,
    make_overdue_rotation,
    make_rotation,
)
from tests.pages import HOSTILE, HTMX, is_partial, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db
BY = make_actor()
DAY = timedelta(days=1)


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)

    def get(*, headers=None, **query):
        return client.get(url("rotation_list", organization, **query), headers=headers)

    return get


def names(response):
    return [rotation.old_key.name for rotation in response.context["rotations"]]


def row_of(response, rotation):
    """Return what the list says of a rotation, as words."""
    [row] = [row for row in re.findall(r"<tr>.*?</tr>", response.text, re.DOTALL) if rotation.get_absolute_url() in row]
    return " ".join(re.sub(r"<[^>]+>", " ", row).split())


def make_ended(organization, number):
    """Write rotations of one key that have ended; no verb makes many at once."""
    key, now = make_key(organization).key, timezone.now()
    Rotation.objects.bulk_create(
        Rotation(
            organization=organization,
            old_key=key,
            reason="regular",
            overlap_seconds=0,
            clock=Clock.NOW,
            planned_end=now,
            started_at=now,
            started_by_label=f"person{place}@example.com",
            closed_at=now,
            ending="cancelled",
        )
        for place in range(number)
    )


def test_without_any_it_says_how_one_begins_to_who_may_begin_one(organization, operator, client_of, visit):
    response = visit()
    assert response.status_code == 200
    assert "No rotations yet" in response.text
    assert "An operator or an admin of Acme rotates keys" in response.text
    assert "Open a key and press Rotate" in client_of(operator).get(url("rotation_list", organization)).text


def test_those_that_run_are_shown_newest_first_with_what_matters(organization, visit):
    first = make_rotation(organization, make_key(organization, "checkout").key)
    second = make_rotation(organization, make_key(organization, "till").key, clock=Clock.FIRST_USE)
    make_event(first.rotation.old_key)
    before = snapshot()
    response = visit()
    assert is_whole_page(response)
    assert names(response) == ["till", "checkout"]
    told = row_of(response, first.rotation)
    assert first.rotation.old_key.fingerprint in told
    assert "Rotating now never now command line in 6 d" in told
    assert "or 7 days after the first use" in row_of(response, second.rotation)
    assert snapshot() == before


def test_each_state_has_a_word_of_its_own(organization, visit):
    running = make_rotation(organization).rotation
    overdue = make_overdue_rotation(organization).rotation
    awaited = make_rotation(organization, link_lasts=DAY).rotation
    unused = make_rotation(organization, link_lasts=DAY).rotation
    Rotation.objects.filter(pk=unused.pk).update(link_until=timezone.now())
    finished, cancelled = make_rotation(organization).rotation, make_rotation(organization).rotation
    finished.finish(by=BY)
    cancelled.cancel(by=BY)
    response = visit(show="all")
    assert " Rotating " in row_of(response, running)
    assert "Deadline passed" in row_of(response, overdue)
    assert "Waits for its owner its owner has a link" in row_of(response, awaited)
    assert "Waits for its owner its link was not used" in row_of(response, unused)
    assert "not taken" in row_of(response, awaited)
    assert "Finished" in row_of(response, finished)
    assert "Cancelled" in row_of(response, cancelled)


def test_the_tabs_part_them_and_count_each(organization, visit):
    make_rotation(organization, make_key(organization, "running").key)
    make_overdue_rotation(organization, make_key(organization, "over").key)
    make_rotation(organization, make_key(organization, "ended").key).rotation.finish(by=BY)
    assert names(visit()) == ["over", "running"]
    assert names(visit(show="ended")) == ["ended"]
    response = visit(show="all")
    assert names(response) == ["ended", "over", "running"]
    assert [(tab["label"], tab["count"], tab["current"]) for tab in response.context["tabs"]] == [
        ("Running", "2", False),
        ("Ended", "1", False),
        ("All", "3", True),
    ]
    assert '<a href="/acme/rotations/?show=ended"' in response.text


def test_a_tab_without_any_says_so(organization, visit):
    make_rotation(organization)
    assert "No rotation here" in visit(show="ended").text


def test_htmx_gets_the_table_alone(organization, visit):
    make_rotation(organization)
    response = visit(headers=HTMX)
    assert is_partial(response)
    assert 'id="rotation_table"' in response.text
    assert "HX-Request" in response["Vary"]


def test_a_page_ends_after_fifty_and_leads_to_the_next(organization, visit):
    make_ended(organization, PAGE_SIZE + 3)
    first = visit(show="ended")
    assert len(first.context["rotations"]) == PAGE_SIZE
    assert first.context["first_url"] == ""
    cursor = re.search(r"after=([^&]+)", first.context["next_url"])[1]
    second = visit(show="ended", after=cursor)
    found = [rotation.pk for page in (first, second) for rotation in page.context["rotations"]]
    assert len(found) == PAGE_SIZE + 3
    assert found == sorted(found, reverse=True)
    assert second.context["next_url"] == ""
    assert second.context["first_url"] == "/acme/rotations/?show=ended"


@pytest.mark.parametrize(
    "query",
    [
        {"show": "open"},
        {"show": "<script>alert(1)</script>"},
        {"show": "x" * 5000},
        {"after": "nonsense"},
        {"after": "W10="},
        {"after": "é" * 300},
        {"after": "eyJhIjoxfQ=="},
    ],
)
def test_a_damaged_address_is_a_422_that_leads_back(organization, visit, query):
    make_rotation(organization)
    for headers in (None, HTMX):
        response = visit(headers=headers, **query)
        assert response.status_code == 422
        assert "The address of this page is damaged" in response.text
        assert "<script>alert" not in response.text
        assert names(response) == []


def test_a_nul_in_the_address_is_a_400(visit):
    assert visit(after="\0").status_code == 400


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_names_are_escaped(organization, visit, client_of, text):
    make_rotation(organization, make_key(organization, text).key)
    response = visit()
    assert names(response) == [text]
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_another_organizations_rotations_are_not_shown(organization, visit):
    theirs = make_organization()
    make_rotation(theirs, make_key(theirs, "theirs").key)
    for show in ("", "ended", "all"):
        response = visit(show=show)
        assert "theirs" not in response.text
        assert {tab["count"] for tab in response.context["tabs"]} == {"0"}


def test_many_cost_no_more_queries_than_few(organization, visit):
    owner = make_member(organization)
    make_rotation(organization, make_key(organization, owner=owner).key)
    with CaptureQueriesContext(connection) as few:
        visit()
    for environment in ("prod", "stag"):
        for link in (None, DAY):
            key = make_key(organization, environment=environment, owner=owner).key
            make_rotation(organization, key, link_lasts=link)
            make_event(key)
    with CaptureQueriesContext(connection) as many:
        visit()
    assert len(many) == len(few)
