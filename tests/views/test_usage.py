"""The usage of an organization: what happened, which keys stand out, and the way to exactly those keys."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.breakdown import RANKED_DAYS
from apikeys.models import Outcome, Role, UsageEvent, UsageHour, UsageWatermark
from apikeys.models.series import RANGES, floor_hour
from tests.factories import (
    make_event,
    make_events,
    make_expired_key,
    make_key,
    make_member,
    make_old_key,
    make_organization,
    make_revoked_key,
    make_user,
)
from tests.pages import HOSTILE, HTMX, day, is_partial, is_whole_page, make_keys, soon, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)
    return lambda headers=None, **query: client.get(url("usage", organization, **query), headers=headers)


@pytest.fixture
def listed(organization, viewer, client_of):
    """Return what the key list shows for a query, as names in its order."""
    client = client_of(viewer)

    def get(query):
        response = client.get(f"{url('key_list', organization)}?{query}")
        assert response.status_code == 200
        return [key.name for key in response.context["keys"]]

    return get


@pytest.fixture
def busy(organization, operator):
    """Keys of all kinds with requests of all kinds, and as many of another organization."""
    for place in (organization, make_organization("other")):
        member = make_member(place, Role.VIEWER, make_user())
        made = {
            "reports": make_key(place, "reports", owner=member).key,
            "sync": make_key(place, "sync", environment="dev", owner_contact="sync@example.com").key,
            "dead": make_revoked_key(place, "dead").key,
            "over": make_expired_key(place, "over", environment="dev").key,
            "idle": make_key(place, "idle").key,
        }
        for number in range(6):
            make_event(made["reports"], ago=timedelta(hours=number))
        for number in range(3):
            make_event(made["sync"], ago=timedelta(hours=30 * number))
        make_event(made["reports"], outcome=Outcome.SCOPE_MISSING)
        make_event(made["sync"], outcome=Outcome.UNKNOWN)
        for _ in range(2):
            make_event(made["dead"], outcome=Outcome.REVOKED)
        make_event(made["over"], outcome=Outcome.EXPIRED)


def ranked(response):
    return {
        name: [(one.key.name, one.number) for one in found.rows] for name, found in response.context["rankings"].items()
    }


# What happened


def test_requests_are_counted_by_outcome_for_each_range(organization, busy, visit):
    now = timezone.now()
    for name, one in RANGES.items():
        response = visit(range=name)
        events = UsageEvent.objects.filter(
            key_id__in=organization.keys.values("pk"), at__gte=one.edges(now)[0]
        ).values_list("outcome", flat=True)
        assert response.context["series"].by_outcome == {
            outcome: list(events).count(outcome) for outcome in Outcome.values if outcome in events
        }, name
        assert len(response.context["series"].starts) == one.count


def test_figures_are_the_same_rolled_up_or_not(organization, busy, visit):
    def figures():
        context = visit().context
        parts = [(one.label, one.accepted, one.refused) for one in [*context["environments"], *context["owners"]]]
        return context["series"].by_outcome, ranked(visit()), parts

    before = figures()
    list(UsageHour.objects.roll_up(timezone.now() + timedelta(hours=2)))
    assert figures() == before


def test_keys_that_stand_out_are_ranked_by_what_they_stand_out_by(busy, visit):
    assert ranked(visit()) == {
        "busiest": [("reports", 7), ("sync", 4), ("dead", 2), ("over", 1)],
        "tried": [("dead", 2), ("over", 1)],
        "refused": [("reports", 1)],
        "guessed": [("sync", 1)],
    }


def test_shares_are_of_all_requests_in_the_chart(busy, visit):
    context = visit().context
    assert context["series"].total == 14
    assert [share for _, share in context["rankings"]["busiest"].shares] == [7 / 14, 4 / 14, 2 / 14, 1 / 14]
    for parts in (context["environments"], context["owners"]):
        assert sum(one.count for one in parts) == 14
        assert sum(one.share for one in parts) == pytest.approx(1)


def test_requests_are_told_by_environment_and_owner(organization, busy, visit):
    context = visit().context
    environments = {one.code: (one.accepted, one.refused) for one in context["environments"]}
    assert set(environments) == {one.code for one in organization.environments.all()}
    assert set(environments.values()) == {(6, 3), (3, 2), (0, 0)}
    assert (environments["prod"], environments["dev"]) == ((6, 3), (3, 2))
    owners = {one.code: (one.accepted, one.refused) for one in context["owners"]}
    assert owners["sync@example.com"] == (3, 1)
    assert owners["team@example.com"] == (0, 3)
    assert (6, 1) in owners.values()


# The way to the keys


@pytest.mark.parametrize("span", RANKED_DAYS)
def test_the_keys_that_were_used_tried_and_refused_are_those_of_the_list(busy, visit, listed, span):
    rankings = visit(range=span).context["rankings"]
    for name in ("busiest", "tried", "refused"):
        assert str(len(listed(rankings[name].query))) == rankings[name].count, name
    assert {one.key.name for one in rankings["tried"].rows} == set(listed(rankings["tried"].query)) == {"dead", "over"}
    used = {one.key.name for one in rankings["busiest"].rows if one.accepted}
    assert used == set(listed(rankings["busiest"].query)) == {"reports", "sync"}
    assert {one.key.name for one in rankings["refused"].rows} <= set(listed(rankings["refused"].query))


def test_a_key_that_was_given_a_new_end_is_not_dead_any_more(organization, visit, listed):
    make_event(make_key(organization, "extended", expires_at=soon(30)).key, outcome=Outcome.EXPIRED)
    tried = visit().context["rankings"]["tried"]
    assert (tried.rows, tried.count, listed(tried.query)) == ([], "0", [])


def test_an_environment_leads_to_its_keys(organization, busy, visit, listed):
    for part in visit().context["environments"]:
        names = set(organization.keys.filter(environment__code=part.code).values_list("name", flat=True))
        assert set(listed(part.query)) == names


def test_an_owner_leads_to_the_keys_of_that_owner(organization, busy, visit, listed):
    parts = visit().context["owners"]
    assert len(parts) == 3
    for part in parts:
        assert set(listed(part.query)) == {key.name for key in organization.keys.all() if _address(key) == part.code}


def _address(key):
    return key.owner.user.email if key.owner else key.owner_contact


def test_an_owner_beyond_the_choices_of_the_list_leads_there_as_well(organization, visit, listed):
    def change(key, place):
        key.owner_contact = f"team{place:03}@example.com"

    keys = make_keys(organization, 250, change=change)
    make_event(keys[-1])
    [part] = visit().context["owners"]
    assert listed(part.query) == [keys[-1].name]


def test_each_status_and_age_leads_to_exactly_the_keys_that_it_counts(organization, busy, visit, listed):
    for days in (60, 400):
        make_old_key(organization, timedelta(days=days))
    context = visit().context
    cells = [cell for row in context["ages"] for cell in row.cells]
    assert len(cells) == 16
    for one in [*cells, *({"query": row["query"], "count": row["count"]} for row in context["statuses"])]:
        query, count = (one["query"], one["count"]) if isinstance(one, dict) else (one.query, one.count)
        assert str(len(listed(query))) == count, query
    assert sum(int(cell.count) for cell in cells) == organization.keys.count()


def test_the_quietest_keys_are_the_first_of_the_list(organization, visit, listed):
    used = {0: None, 1: timedelta(days=3), 2: timedelta(days=200), 3: timedelta(minutes=1)}
    make_keys(organization, 30, used=lambda place: (ago := used.get(place % 4)) and timezone.now() - ago)
    make_revoked_key(organization)
    response = visit()
    shown = [key.name for key in response.context["quietest"]]
    everything = listed(response.context["quietest_query"])
    assert shown == everything[: len(shown)]
    assert len(shown) == 10
    assert len(everything) == 31


# Ranges


def test_any_days_are_shown_without_the_ranks_that_are_not_kept_of_them(busy, visit):
    today = timezone.now().date()
    response = visit(since=str(today - timedelta(days=6)), until=str(today))
    assert response.context["series"].total == 14
    assert response.context["rankings"] == {}
    assert "Which keys stood out is kept for the spans of time above" in response.text
    assert sum(one.count for one in response.context["environments"]) == 14


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"since": "2026-10-05", "until": "2026-10-01"}, "It ends before it begins"),
        ({"since": "2999-01-01", "until": "2999-01-02"}, "is still to come"),
        ({"since": "2000-01-01", "until": "2026-01-02"}, "Counts are kept for 25 months"),
        ({"since": "2026-01-01", "until": "2026-01-02"}, "Nothing was measured before"),
        ({"since": "9999-99-99"}, "This is no day"),
        ({"until": "2026-10-01"}, "Choose the first day as well"),
        ({"range": "<script>"}, "there is no range &lt;script&gt;"),
        ({"range": "1000y"}, "there is no range 1000y"),
    ],
)
def test_a_range_that_cannot_be_shown_is_explained_and_shows_no_figures(organization, visit, query, said):
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": day(2026, 10, 1)})
    make_key(organization)
    response = visit(**query)
    assert response.status_code == 422
    assert said in response.text
    assert "Busiest keys" not in response.text
    assert 'role="alert"' in response.text


def test_an_unknown_time_zone_is_utc(organization, viewer, client_of):
    make_event(make_key(organization).key)
    client = client_of(viewer)
    client.cookies["zone"] = "Mars/Olympus"
    response = client.get(url("usage", organization))
    assert response.context["zone"] == "UTC"


def test_days_are_those_of_the_reader(organization, viewer, visit):
    viewer.choose_time_zone("Asia/Tokyo")
    make_event(make_key(organization).key)
    response = visit()
    assert response.context["zone"] == "Asia/Tokyo"
    assert {start.hour for start in response.context["series"].starts} == {15}


# None, few, hostile


def test_an_organization_without_keys_is_shown_the_way_to_the_first(organization, visit):
    response = visit()
    assert "There are no keys yet" in response.text
    assert f'href="{url("overview", organization)}"' in response.text


def test_keys_without_a_request_have_a_page_without_faults(organization, visit):
    make_key(organization)
    response = visit()
    assert response.status_code == 200
    assert "No requests in this time" in response.text
    assert all(not found.rows for found in response.context["rankings"].values())
    assert response.context["owners"] == []


def test_what_was_not_measured_is_told(organization, visit):
    yesterday = timezone.now() - timedelta(days=1)
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": yesterday})
    make_event(make_key(organization).key)
    assert "measured since" in visit().text
    assert "not measured before" in visit().text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_are_escaped(organization, visit, text):
    make_event(make_key(organization, text).key)
    make_event(make_revoked_key(organization, text).key, outcome=Outcome.REVOKED)
    response = visit()
    assert [one.key.name for one in response.context["rankings"]["busiest"].rows] == [text, text]
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_htmx_gets_what_depends_on_the_span_alone(busy, visit):
    response = visit(HTMX, range="7d")
    assert is_partial(response)
    assert response.content.lstrip().startswith(b'<div class="grid" id="usage_figures">')
    assert "Quietest keys" not in response.text
    assert is_whole_page(visit(range="7d"))


def test_it_is_in_the_navigation(organization, visit):
    text = visit().text
    assert text.index('href="/acme/keys/"') < text.index('href="/acme/usage/"') < text.index('href="/acme/audit/"')


def test_another_organizations_usage_is_not_there(organization, outsider, client_of):
    assert client_of(outsider).get(url("usage", organization)).status_code == 404


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_it_only_reads(organization, admin, client_of, method):
    assert getattr(client_of(admin), method)(url("usage", organization)).status_code == 405


@pytest.mark.parametrize("span", [*RANKED_DAYS, ""])
def test_it_takes_a_fixed_number_of_queries(organization, busy, visit, span):
    today = str(timezone.now().date())
    query = {"range": span} if span else {"since": today, "until": today}
    list(UsageHour.objects.roll_up())
    make_event(organization.keys.get(name="reports"))
    with CaptureQueriesContext(connection) as few:
        visit(**query)
    keys = make_keys(organization, 300, used=lambda place: timezone.now())
    hour = floor_hour(timezone.now())
    make_events(
        UsageEvent(key_id=key.pk, at=hour - timedelta(hours=back), outcome=outcome)
        for key in keys
        for back, outcome in enumerate([Outcome.VALID, Outcome.RATE_LIMITED, Outcome.UNKNOWN])
    )
    list(UsageHour.objects.roll_up())
    with CaptureQueriesContext(connection) as many:
        visit(**query)
    assert len(many) == len(few)
