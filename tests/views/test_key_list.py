"""The key list: what it shows, its filters, tabs, orders and pages, and what it answers to nonsense."""

import re
from datetime import timedelta
from itertools import chain
from operator import itemgetter
from urllib.parse import parse_qsl, urlencode

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import escape
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeys import tallies
from apikeys.filters import (
    AGE_CHOICES,
    EXPIRY_CHOICES,
    LAST_USED_CHOICES,
    RECENT_CHOICES,
    ROTATION_CHOICES,
    SILENCE_CHOICES,
    SORT_LABELS,
    TABS,
)
from apikeys.models import Actor, Outcome, PolicyRule, RevocationReason, Role
from apikeys.models.extremes import floor_minute
from tests.factories import (
    make_environment,
    make_event,
    make_exemption,
    make_expired_key,
    make_key,
    make_member,
    make_old_key,
    make_organization,
    make_policy,
    make_policy_exemption,
    make_revoked_key,
    make_rhythm,
    make_scope,
    make_user,
)
from tests.pages import HOSTILE, HTMX, age_limit, is_partial, is_whole_page, make_keys, soon, url

pytestmark = pytest.mark.django_db
NOW = timezone.now()
SORTS = [sign + name for name in SORT_LABELS for sign in ("", "-")]


@pytest.fixture
def visit(organization, viewer, client_of):
    """Return what asks for the list as a viewer."""
    client = client_of(viewer)

    def get(*, headers=None, **query):
        return client.get(url("key_list", organization, **query), headers=headers)

    return get


def names(response):
    return [key.name for key in response.context["keys"]]


def test_an_organization_without_keys_says_so(visit):
    response = visit()
    assert response.status_code == 200
    assert response.context["empty"] == "none"


def test_a_key_is_shown_by_name_purpose_owner_environment_and_fingerprint(organization, visit):
    key = make_key(organization, "checkout", purpose="Takes payments", owner_contact="shop@example.com").key
    response = visit()
    assert response.context["empty"] == ""
    for text in ["checkout", "Takes payments", "shop@example.com", "production", key.fingerprint]:
        assert text in response.text
    assert key.public_id in response.text  # the link to its page


def test_keys_of_other_organizations_are_not_shown(organization, visit):
    make_key(make_organization(), "theirs")
    assert names(visit()) == []


def test_usable_keys_come_before_dead_ones_and_the_newest_first(organization, visit):
    make_revoked_key(organization, "dead")
    make_key(organization, "older")
    make_expired_key(organization, "expired")
    make_key(organization, "newer")
    assert names(visit()) == ["newer", "older", "expired", "dead"]


def test_it_is_never_stored_and_differs_for_htmx(visit):
    response = visit()
    assert "no-store" in response["Cache-Control"]
    assert "HX-Request" in response["Vary"]


def test_htmx_gets_the_table_alone(organization, visit):
    make_key(organization, "checkout")
    response = visit(headers=HTMX, status="active", q="check")
    assert is_partial(response)
    assert 'id="key_table"' in response.text
    assert "checkout" in response.text
    assert is_whole_page(visit())


# Filters


@pytest.fixture
def keys(organization):
    """One key for each filter to find."""
    owner = make_member(organization, Role.OPERATOR, make_user("olga@example.com", name="Olga Owner"))
    make_scope(organization, "refunds:write")
    make_environment(organization, "eu", name="europe")
    make_key(organization, "plain")
    make_key(organization, "owned", owner=owner)
    make_key(organization, "refunds", scopes=["refunds:write", "orders:read"])
    make_key(organization, "europe", environment="eu")
    make_key(organization, "ends in 5 days", expires_at=soon(5))
    make_key(organization, "ends in 20 days", expires_at=soon(20))
    make_key(organization, "ends in 50 days", expires_at=soon(50))
    make_key(organization, "ends in 70 days", expires_at=soon(70))
    make_expired_key(organization, "ended")
    make_revoked_key(organization, "revoked")
    make_key(organization, "paused").key.pause(by=Actor.command())
    make_aged(organization, "old and never used", 120)
    for name, days in [("used today", 0), ("used 5 days ago", 5), ("used 40 days ago", 40), ("used long ago", 100)]:
        make_event(make_aged(organization, name, 200), ago=timedelta(days=days))
    make_event(make_aged(organization, "only refused", 200), outcome=Outcome.SCOPE_MISSING)
    quarterly = make_aged(organization, "quarterly", 400)
    make_event(quarterly, ago=timedelta(days=100))
    make_rhythm(quarterly, usual_gap=timedelta(days=92))
    make_exemption(make_aged(organization, "standby", 200))


def make_aged(organization, name, days):
    key = make_old_key(organization, timedelta(days=days))
    key.name = name
    key.save(update_fields=["name"])
    return key


ALIVE = {"plain", "owned", "refunds", "europe", "paused", "old and never used", "only refused", "standby"}
ENDING = {f"ends in {days} days" for days in (5, 20, 50, 70)}
USED = {"used today", "used 5 days ago", "used 40 days ago", "used long ago", "quarterly"}
DEAD = {"ended", "revoked"}
OLD = {"old and never used", "only refused", "standby"}
FILTERS = {
    "everything": ({}, ALIVE | ENDING | USED | DEAD),
    "active": ({"status": "active"}, (ALIVE | ENDING | USED) - {"paused"}),
    "paused": ({"status": "paused"}, {"paused"}),
    "expired": ({"status": "expired"}, {"ended"}),
    "revoked": ({"status": "revoked"}, {"revoked"}),
    "expiring": ({"status": "expiring"}, ENDING - {"ends in 70 days"}),
    "unused": ({"status": "unused"}, {"old and never used", "only refused", "used long ago"}),
    "dormant": ({"silence": "dormant"}, {"used long ago"}),
    "never used for long": ({"silence": "never_used"}, {"old and never used", "only refused"}),
    "seasonal": ({"silence": "seasonal"}, {"quarterly"}),
    "not measurable": ({"silence": "not_measurable"}, set()),
    "what may be silent": ({"silence": "exempt"}, {"standby"}),
    "a kind of unused": ({"status": "unused", "silence": "dormant"}, {"used long ago"}),
    "an environment": ({"environment": "eu"}, {"europe"}),
    "a member": ({"owner": "olga@example.com"}, {"owned"}),
    "a scope": ({"scope": "refunds:write"}, {"refunds"}),
    "within 7 days": ({"expires": "7"}, {"ends in 5 days"}),
    "within 30 days": ({"expires": "30"}, {"ends in 5 days", "ends in 20 days"}),
    "within 60 days": ({"expires": "60"}, ENDING - {"ends in 70 days"}),
    "expiry in the past": ({"expires": "past"}, {"ended"}),
    "no expiry": ({"expires": "never"}, ALIVE | USED | {"revoked"}),
    "used in a day": ({"last_used": "1"}, {"used today"}),
    "used in a week": ({"last_used": "7"}, {"used today", "used 5 days ago"}),
    "used in a month": ({"last_used": "30"}, {"used today", "used 5 days ago"}),
    "used over a month ago": ({"last_used": "30+"}, {"used 40 days ago", "used long ago", "quarterly"}),
    "used over a quarter ago": ({"last_used": "90+"}, {"used long ago", "quarterly"}),
    "never used": ({"last_used": "never"}, ALIVE | ENDING | DEAD),
    "created this month": ({"created": "0-30"}, (ALIVE | ENDING | DEAD) - OLD),
    "created last quarter": ({"created": "30-90"}, set()),
    "created this year": ({"created": "90-365"}, (USED | OLD) - {"quarterly"}),
    "created long ago": ({"created": "365+"}, {"quarterly"}),
    "refused today": ({"refused": "1"}, {"only refused"}),
    "a closed account": ({"owner": "closed"}, set()),
    "a part of a name": ({"q": "REFUND"}, {"refunds"}),
    "a part of the owner's name": ({"q": "olga own"}, {"owned"}),
    "a part of the owner's address": ({"q": "olga@"}, {"owned"}),
    "two filters": ({"status": "active", "environment": "eu"}, {"europe"}),
    "filters that nothing passes": ({"status": "revoked", "environment": "eu"}, set()),
}


@pytest.mark.parametrize(("query", "found"), FILTERS.values(), ids=FILTERS)
def test_a_filter_keeps_what_it_says(keys, visit, query, found):
    response = visit(**query)
    assert response.status_code == 200
    assert {name for name in names(response) if not name.startswith("Key ")} == found


CHOICES = ["owner", "environment", "scope", "last_used"]


def offered(text):
    """Return which of some filters a page lets one set."""
    return [name for name in CHOICES if re.search(rf'<(select|input type="checkbox")[^>]* name="{name}"', text)]


FORM = {**HTMX, "HX-Target": "key_table_filters"}


def test_the_form_of_the_filters_comes_when_it_is_asked_for(organization, keys, visit):
    make_key(organization, "of a contact", owner_contact="shop@example.com")
    page = visit(environment="eu", sort="name")
    assert offered(page.text) == []
    assert page.context["filters_url"] == url("key_list", organization, environment="eu", sort="name", filters="open")
    assert f'href="{escape(page.context["filters_url"])}"' in page.text

    part = visit(environment="eu", sort="name", filters="open", headers=FORM)
    assert (part.status_code, offered(part.text)) == (200, CHOICES)
    assert re.match(r'\s*<details class="filters"\s+open', part.text)
    for text in ["Olga Owner", "shop@example.com", "europe", "refunds:write", "autofocus", "Clear all"]:
        assert text in part.text
    assert re.search(r'value="eu"\s+checked', part.text)
    assert "ends in 5 days" not in part.text


def test_without_its_form_a_page_asks_for_nothing_to_choose_from(organization, keys, visit):
    def statements(**query):
        with CaptureQueriesContext(connection) as queries:
            visit(**query)
        return len(queries)

    visit()
    # Environments, scopes, members and contacts.
    assert statements() == statements(filters="open") - 4


def test_without_htmx_a_page_shows_the_form_of_the_filters_and_its_links_do_not(organization, keys, visit):
    page = visit(status="active", filters="open")
    assert is_whole_page(page)
    assert offered(page.text) == CHOICES
    assert re.search(r'<details class="filters"\s+open', page.text)
    assert "filters=open" not in page.text
    assert page.context["export_query"] == "status=active"


@pytest.mark.parametrize("headers", [None, FORM], ids=["page", "form"])
def test_the_form_of_the_filters_is_there_where_one_of_them_makes_no_sense(visit, headers):
    page = visit(last_used="yesterday", headers=headers)
    assert page.status_code == 422
    assert offered(page.text) == CHOICES
    assert re.search(r'<details class="filters"\s+open', page.text)
    assert "Last used" in page.text


def test_dead_keys_that_are_still_tried_are_found(organization, visit):
    for name, make in (("revoked", make_revoked_key), ("expired", make_expired_key)):
        make_event(make(organization, f"{name} and tried").key, outcome=Outcome(name))
        make_event(make(organization, f"{name}, refused before").key, ago=timedelta(days=3), outcome=Outcome.PAUSED)
        make(organization, f"{name} and silent")
    make_event(make_key(organization, "alive").key, outcome=Outcome.SCOPE_MISSING)
    assert set(names(visit(tried="1"))) == {"revoked and tried", "expired and tried"}
    assert names(visit(tried="7", status="expired")) == ["expired and tried"]


def test_keys_for_which_nobody_answers_are_found(organization, visit):
    for name, active in (("kept", True), ("orphaned", False)):
        owner = make_member(organization, Role.OPERATOR, make_user(is_active=active))
        make_key(organization, name, owner=owner)
        make_revoked_key(organization, f"{name}, revoked", owner=owner)
    assert names(visit(owner="closed")) == ["orphaned"]


def test_every_choice_of_every_filter_is_answered(keys, visit):
    asked = [("status", value) for value in TABS if value]
    asked += [("expires", value) for value, _ in EXPIRY_CHOICES]
    asked += [("last_used", value) for value, _ in LAST_USED_CHOICES]
    asked += [("silence", value) for value, _ in SILENCE_CHOICES]
    asked += [("rotate", value) for value, _ in ROTATION_CHOICES]
    asked += [("created", value) for value, _ in AGE_CHOICES]
    asked += [(name, value) for name in ("refused", "tried") for value, _ in RECENT_CHOICES]
    for name, value in asked:
        assert visit(**{name: value}).status_code == 200, (name, value)


def test_several_environments_are_one_or_the_other(organization, visit):
    for code in ("prod", "stag", "dev"):
        make_key(organization, code, environment=code)
    assert set(names(visit(environment=["prod", "dev"]))) == {"prod", "dev"}


def test_a_contact_is_an_owner_to_filter_by(organization, visit):
    make_key(organization, "theirs", owner_contact="ops@example.com")
    make_key(organization, "another")
    assert names(visit(owner="ops@example.com")) == ["theirs"]


def test_a_search_finds_a_key_by_public_id_and_by_fingerprint(organization, visit):
    key = make_key(organization, "wanted").key
    make_key(organization, "another")
    for text in [key.public_id, key.fingerprint, key.public_id[3:9], f"{key.prefix}_prod_{key.public_id}"]:
        assert names(visit(q=text)) == ["wanted"], text


@pytest.mark.parametrize("text", ["100%", "under_score", "back\\slash", "it's"])
def test_what_is_special_to_the_database_is_searched_as_it_stands(organization, visit, text):
    make_key(organization, f"has {text} in it")
    make_key(organization, "1000 underXscore backslash its")
    assert names(visit(q=text)) == [f"has {text} in it"]


def test_each_filter_that_is_on_has_a_chip_that_takes_it_off(organization, visit):
    response = visit(status="active", environment="prod", q="x", sort="name")
    chips = {chip.label: chip.remove_url for chip in response.context["chips"]}
    assert set(chips) == {"Search", "Status", "Environment"}
    assert chips["Environment"] == "/acme/keys/?status=active&q=x&sort=name"
    assert response.context["empty"] == "filtered"


def test_the_tabs_count_what_they_show_and_agree_with_each_key(organization, keys, visit):
    everything = {key.public_id: key for key in visit().context["keys"]}
    tabs = {tab["value"]: int(tab["count"]) for tab in visit().context["tabs"]}
    by_flag = {
        "expiring": {found for found, key in everything.items() if key.is_expiring},
        "unused": {found for found, key in everything.items() if key.is_unused},
    }
    for value in TABS:
        shown = {key.public_id for key in visit(status=value).context["keys"]}
        assert tabs[value] == len(shown), value
        if value in by_flag:
            assert shown == by_flag[value]
        elif value:
            assert shown == {found for found, key in everything.items() if key.status == value}


def test_the_tabs_count_under_the_other_filters(organization, visit):
    make_key(organization, environment="dev")
    make_revoked_key(organization, environment="dev")
    make_revoked_key(organization)
    tabs = {tab["value"]: tab["count"] for tab in visit(environment="dev", status="revoked").context["tabs"]}
    assert (tabs[""], tabs["active"], tabs["revoked"]) == ("2", "1", "1")


@pytest.fixture
def impatient(monkeypatch):
    """Let every number that can come after the page do so."""
    monkeypatch.setattr(tallies, "AT_ONCE", 0)


def test_of_many_keys_the_page_comes_before_the_numbers(organization, visit, impatient):
    make_keys(organization, 60)
    make_revoked_key(organization)
    response = visit(environment="prod")
    assert [tab["count"] for tab in response.context["tabs"]] == [""] * len(TABS)
    later = url("key_list", organization, environment="prod", counts="now")
    assert f'hx-get="{later.replace("&", "&amp;")}"' in response.text
    assert response.text.count("counts=now") == 2, "one for htmx, one for whom it is not"
    assert 'aria-busy="true"' in response.text
    # The summary tells of all keys at once.
    assert "62 keys in" in response.context["summary"]()

    numbers = visit(environment="prod", counts="now", headers=HTMX | {"HX-Target": "key_counts"})
    assert is_partial(numbers)
    assert "<table" not in numbers.text
    assert "counts=" not in numbers.text
    counts = {tab["value"]: tab["count"] for tab in numbers.context["tabs"]}
    assert (counts[""], counts["active"], counts["revoked"]) == ("62", "61", "1")

    # Without htmx the same address is the whole page, and what it leads to does not wait for numbers again.
    whole = visit(environment="prod", counts="now")
    assert is_whole_page(whole)
    assert whole.context["tabs"] == numbers.context["tabs"]
    assert "counts=" not in whole.text


def test_numbers_of_a_filter_that_makes_no_sense_are_a_422(visit, impatient):
    response = visit(environment="mars", counts="now", headers=HTMX | {"HX-Target": "key_counts"})
    assert response.status_code == 422


def test_keys_that_are_all_on_the_page_are_counted_there(organization, visit, impatient):
    make_keys(organization, 12)
    make_revoked_key(organization)
    with CaptureQueriesContext(connection) as queries:
        response = visit(environment="prod")
    assert not any("is_expired" in one["sql"] for one in queries)
    counts = {tab["value"]: tab["count"] for tab in response.context["tabs"]}
    assert (counts[""], counts["active"], counts["revoked"]) == ("14", "13", "1")
    assert "counts=now" not in response.text


def test_kinds_of_silence_may_come_after_the_page(organization, visit, impatient):
    make_old_key(organization, timedelta(days=200))
    first = visit(silence="never_used")
    assert [link.count for link in first.context["silences"]] == [""] * len(SILENCE_CHOICES)
    numbers = visit(silence="never_used", counts="now", headers=HTMX | {"HX-Target": "key_counts"})
    assert [link.count for link in numbers.context["silences"]] == ["1", "0", "0", "0", "0"]


def test_kinds_of_silence_are_told_apart_where_the_list_is_about_them(organization, keys, visit):
    assert visit().context["silences"] == []
    for query in ({"status": "unused"}, {"silence": "seasonal"}):
        links = {link.label: link for link in visit(**query).context["silences"]}
        assert {label: link.count for label, link in links.items()} == {
            "Never used": "2",
            "Dormant": "1",
            "Seasonal": "1",
            "Not measurable": "0",
            "May be silent": "1",
        }
        assert [label for label, link in links.items() if link.current] == [
            "Seasonal" for name in query if name == "silence"
        ]
    for link in links.values():
        response = visit(**dict(parse_qsl(link.url.partition("?")[2])))
        assert str(len(response.context["keys"])) == link.count


def test_kinds_of_silence_are_counted_under_the_other_filters(organization, visit):
    make_aged(organization, "found", 120)
    make_aged(organization, "another", 120)
    links = visit(status="unused", q="found").context["silences"]
    assert [link.count for link in links] == ["1", "0", "0", "0", "0"]
    assert "q=found" in links[0].url


def test_a_row_says_what_its_silence_means_and_why(organization, keys, visit):
    text = " ".join(visit().text.split())
    assert '<small class="line warn-text" title="Created 120 days ago, never used">never used</small>' in text
    assert 'title="Silent 100 days, no usual gap known">dormant</small>' in text
    assert 'title="Silent 100 days, longest usual gap 92 days: expected up to 138 days">seasonal</small>' in text
    assert ': Stands by for the day when the other one fails (Fay Founder)">may be silent</small>' in text


# By when keys should be rotated


@pytest.fixture
def aged(organization):
    """Keys of which each is as far from its time as its name says, where they may become 100 days old."""
    age_limit(organization, 100)
    for left in (-50, -1, 1, 13, 15, 29, 31):
        make_aged(organization, f"{left} days left", 100 - left)
    make_aged(organization, "revoked", 300).revoke(reason=RevocationReason.UNUSED, by=Actor.command())
    ended = make_aged(organization, "expired", 300)
    type(ended).objects.filter(pk=ended.pk).update(expires_at=NOW - timedelta(days=1))


ROTATION = {"due": [-1, -50], "soon": [13, 1], "30": [29, 15, 13, 1]}


@pytest.mark.parametrize(("choice", "left"), ROTATION.items(), ids=ROTATION)
def test_keys_to_rotate_are_found_and_counted(organization, aged, visit, choice, left):
    response = visit(rotate=choice)
    assert names(response) == [f"{days} days left" for days in left]
    tabs = {tab["value"]: tab["count"] for tab in response.context["tabs"]}
    assert (tabs[""], tabs["active"]) == (str(len(left)), str(len(left)))
    assert (tabs["expired"], tabs["revoked"]) == ("0", "0")
    assert names(visit(rotate=choice, status="revoked")) == []
    assert names(visit(rotate=choice, sort="created")) == [f"{days} days left" for days in reversed(left)]


def test_a_rotation_has_a_chip_that_takes_it_off(organization, aged, visit):
    [chip] = visit(rotate="due", sort="name").context["chips"]
    assert (chip.label, chip.value, chip.remove_url) == ("Rotation", "overdue", "/acme/keys/?sort=name")


def test_a_row_says_by_when_its_key_should_be_rotated_where_that_is_soon_or_past(organization, aged, visit):
    text = visit().text
    # Each is there twice: beside the creation, and where that is not shown below the expiry.
    assert text.count("rotate since <time") == 4
    assert text.count("rotate by <time") == 4
    # Never by colour alone.
    assert text.count('<small class="line rotation warn-text"><svg') == 4


def test_without_a_maximum_age_no_row_tells_of_it_and_no_filter_is_offered(organization, aged, visit):
    assert 'name="rotate"' in visit(filters="open").text
    age_limit(organization, None)
    text = visit(filters="open").text
    assert "rotate since" not in text
    assert "rotate by" not in text
    assert 'name="rotate"' not in text
    # An address that was kept still says what it filters by.
    response = visit(rotate="due")
    assert (response.status_code, names(response)) == (200, [])
    assert [chip.label for chip in response.context["chips"]] == ["Rotation"]


def test_a_maximum_age_costs_the_list_no_query_and_no_join(organization, viewer, client_of):
    client, address = client_of(viewer), url("key_list", organization)
    make_aged(organization, "old", 120)

    def statements(query=""):
        with CaptureQueriesContext(connection) as queries:
            assert client.get(address + query).status_code == 200
        return [one["sql"] for one in queries]

    client.get(address)
    without = statements()
    age_limit(organization, 100)
    limited = statements()
    assert len(limited) == len(without)
    assert sum("max_key_age" in sql for sql in limited) == sum("max_key_age" in sql for sql in without)
    rows = [sql for sql in statements("?rotate=due") if "sort_order" in sql and "COUNT(" not in sql]
    assert rows
    assert not [sql for sql in rows if "apikeys_organization" in sql.partition("WHERE")[0]]


# Policies


def test_keys_that_violate_the_policy_are_found_by_rule_and_together(organization, visit):
    make_key(organization, "endless")
    make_key(organization, "exempt and fast")
    make_key(organization, "fine", expires_at=timezone.now() + timedelta(days=5), rate_limit=(5, 1, 5))
    make_revoked_key(organization, "revoked")
    assert names(visit(policy="violating")) == []
    make_policy(organization, expiry_required=True, max_rate=(10, 1))
    make_policy_exemption(organization.keys.get(name="exempt and fast"), PolicyRule.EXPIRY)
    assert names(visit(policy="violating")) == ["exempt and fast", "endless"]
    assert names(visit(policy="expiry")) == ["endless"]
    assert names(visit(policy="owner")) == []
    make_policy(organization, environments_apart=True)
    assert names(visit(policy="separation")) == []
    make_policy(organization, expiry_required=True, max_rate=(10, 1))
    response = visit(policy="violating")
    [chip] = response.context["chips"]
    assert (chip.label, chip.value) == ("Policy", "violates a rule")
    counts = {tab["value"]: tab["count"] for tab in response.context["tabs"]}
    assert (counts[""], counts["active"], counts["revoked"]) == ("2", "2", "0")


# Nonsense

BAD = {
    "a policy": {"policy": "odd"},
    "a status": {"status": "deleted"},
    "an environment": {"environment": "mars"},
    "one of two environments": {"environment": ["prod", "mars"]},
    "an owner": {"owner": "nobody@example.com"},
    "a scope": {"scope": "moon:walk"},
    "an expiry": {"expires": "8"},
    "a last use": {"last_used": "soon"},
    "a silence": {"silence": "golden"},
    "an age": {"created": "30-"},
    "a refusal": {"refused": "7+"},
    "a try": {"tried": "never"},
    "a rotation": {"rotate": "14"},
    "an order": {"sort": "digest"},
    "a search over its limit": {"q": "x" * 201},
}


@pytest.mark.parametrize("query", BAD.values(), ids=BAD)
def test_a_filter_value_that_does_not_exist_is_a_422_that_names_the_filter(organization, visit, query):
    make_key(organization)
    for headers in (None, HTMX):
        response = visit(headers=headers, **query)
        assert response.status_code == 422
        assert names(response) == []
        assert set(response.context["form"].errors) == set(query)


def test_another_organizations_environment_scope_or_owner_is_no_filter_value(organization, outsider, visit):
    theirs = outsider.memberships.get().organization
    make_environment(theirs, "secret1")
    make_scope(theirs, "secret:scope")
    for query in ({"environment": "secret1"}, {"scope": "secret:scope"}, {"owner": outsider.email}):
        response = visit(**query)
        assert response.status_code == 422
        assert "Elsewhere" not in response.text


CURSORS = {
    "no base64": "%%%",
    "not ascii": "ключ",
    "no JSON": "bm90IGpzb24",
    "no list": "e30",
    "too short": "WzFd",
    "a text for a number": "WyJ4IiwieCIsIngiXQ",
    "a time without a zone": "WzAsIjIwMjYtMDEtMDFUMDA6MDA6MDAiLDFd",
    "a time before all time": "WzAsIjAwMDEtMDEtMDFUMDA6MDA6MDArMjM6NTkiLDFd",
    "a time after all time": "WzAsIjk5OTktMTItMzFUMjM6NTk6NTktMjM6NTkiLDFd",
    "a number over 64 bits": "WzAsIjIwMjYtMDEtMDFUMDA6MDA6MDArMDA6MDAiLDkyMjMzNzIwMzY4NTQ3NzU4MDhd",
    "deep brackets": "W1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tb",
    "very long": "W" * 5000,
}


@pytest.mark.parametrize("cursor", CURSORS.values(), ids=CURSORS)
def test_a_broken_cursor_is_a_422_and_leads_back_to_the_first_page(organization, visit, cursor):
    make_key(organization)
    response = visit(after=cursor)
    assert response.status_code == 422
    assert response.context["bad_cursor"]
    assert response.context["first_url"] == "/acme/keys/"


def test_a_cursor_of_another_order_is_broken(organization, visit):
    make_keys(organization, 60)
    after = visit(sort="name").context["next_url"].partition("after=")[2]
    assert visit(sort="-created", after=after).status_code == 422


def test_a_cursor_with_half_a_character_is_broken(organization, visit):
    make_key(organization)
    response = visit(sort="name", after="WzAsIlx1ZDgwMCIsMV0")  # [0,"\ud800",1]
    assert response.status_code == 422


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_and_searches_are_escaped(organization, visit, text):
    make_key(organization, text, purpose=text)
    for response in (visit(), visit(q=text[:90]), visit(status=text), visit(sort=text), visit(after=text)):
        assert "<script>alert" not in response.text
        assert "<img src=x" not in response.text
    assert names(visit(q=text[:90])) == [text]


@pytest.mark.parametrize("query", ["q=%00", "%00=x", "after=%00", "q=a%00b", "status=%00", "environment=%00"])
def test_a_nul_in_the_query_is_a_400(organization, viewer, client_of, query):
    response = client_of(viewer).get(f"/acme/keys/?{query}")
    assert response.status_code == 400
    assert "NUL" in response.text


def test_a_nul_in_the_path_is_a_400_or_a_404(organization, viewer, client_of):
    for path in ["/acme/keys/%00", "/ac%00me/keys/", "/acme/keys/abc%00/edit"]:
        assert client_of(viewer).get(path).status_code in {400, 404}


@pytest.mark.parametrize("query", ["q=%FF%FE", "status=%C3%28", "%FF=1", "after=%80", "q=%ED%A0%80"])
def test_bytes_that_are_no_utf_8_are_no_fault_of_ours(organization, viewer, client_of, query):
    make_key(organization)
    assert client_of(viewer).get(f"/acme/keys/?{query}").status_code in {200, 422}


NAMES = st.sampled_from(["q", "status", "environment", "owner", "scope", "expires", "last_used", "sort", "after", "x"])
VALUES = st.one_of(
    st.sampled_from([*TABS, *SORTS, "prod", "orders:read", "7", "30+", "never", "past", "team@example.com"]),
    st.text(max_size=30),
    st.text(max_size=300),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_no_query_string_breaks_the_list(organization, visit, viewer, pairs):
    client = Client(raise_request_exception=False)
    client.force_login(viewer)
    query = urlencode([(name, value.encode("utf-8", "surrogatepass")) for name, value in pairs])
    assert client.get(f"/acme/keys/?{query}").status_code in {200, 302, 400, 422}


# A key as the search text


def test_a_key_in_the_address_is_led_away_before_it_is_shown(organization, visit):
    key, secret = make_key(organization)
    response = visit(q=secret.text)
    assert response.status_code == 302
    assert response["Location"] == f"/acme/keys/?q={key.public_id}&lookup=found"
    shown = visit(q=key.public_id, lookup="found")
    assert len(names(shown)) == 1


# Orders and pages


def test_every_order_can_be_asked_for_and_turned(organization, visit):
    make_keys(organization, 3)
    for sort in SORTS:
        response = visit(sort=sort)
        assert response.status_code == 200
        [column] = [column for column in response.context["columns"] if column["direction"]]
        assert column["direction"] == ("desc" if sort.startswith("-") else "asc")
    first = visit(sort="name")
    assert names(first)[:3] == ["Key 000", "Key 001", "Key 002"]


def test_keys_used_within_a_minute_are_in_the_order_of_their_use(organization, viewer, client_of):
    minute, seconds = floor_minute(NOW), [place * 7 % 60 for place in range(60)]
    keys = make_keys(organization, 60, used=lambda place: minute + timedelta(seconds=seconds[place]))
    ordered = [key.public_id for _, key in sorted(zip(seconds, keys, strict=True), key=itemgetter(0))]
    [never] = set(organization.keys.values_list("public_id", flat=True)) - set(ordered)
    client = client_of(viewer)
    assert list(chain.from_iterable(walk(client, organization, sort="last_used"))) == [never, *ordered]
    assert list(chain.from_iterable(walk(client, organization, sort="-last_used"))) == [*reversed(ordered), never]


def walk(client, organization, **query):
    """Return the public ids of every page, page by page, as its links lead."""
    found, address = [], url("key_list", organization, **query)
    while address:
        response = client.get(address)
        assert response.status_code == 200
        found.append([key.public_id for key in response.context["keys"]])
        address = response.context["next_url"]
    return found


def different(key, place):
    key.expires_at = NOW + timedelta(hours=place - 20)
    if place % 7 == 0:
        key.revoked_at, key.revoked_reason = NOW, "unused"


def alike(key, place):
    key.name, key.created_at = ("same", "SAME")[place % 2], NOW
    key.expires_at = NOW + timedelta(days=3) if place % 3 else None


SHAPES = {
    "all different": (different, lambda place: NOW - timedelta(minutes=place) if place % 4 else None),
    "all alike, some without a value": (alike, lambda place: NOW if place % 3 else None),
}


@pytest.mark.parametrize(("change", "used"), SHAPES.values(), ids=SHAPES)
def test_the_pages_of_every_order_show_each_key_exactly_once(organization, viewer, client_of, change, used):
    make_keys(organization, 119, change=change, used=used)
    client = client_of(viewer)
    everything = sorted(organization.keys.values_list("public_id", flat=True))
    assert len(everything) == 120
    for sort in SORTS:
        pages = walk(client, organization, sort=sort)
        assert [len(page) for page in pages] == [50, 50, 20], sort
        assert sorted(chain.from_iterable(pages)) == everything, sort


def test_a_page_keeps_the_filters_and_leads_back_to_the_first(organization, visit):
    make_keys(organization, 60)
    following = visit(environment="prod", sort="name").context["next_url"]
    assert "environment=prod" in following
    assert "sort=name" in following
    response = visit(environment="prod", sort="name", after=following.partition("after=")[2])
    assert response.context["first_url"] == "/acme/keys/?environment=prod&sort=name"


def test_it_asks_the_database_the_same_number_of_questions_for_2_keys_and_for_60(organization, viewer, client_of):
    client = client_of(viewer)
    address = url("key_list", organization)
    make_revoked_key(organization)
    client.get(address)
    with CaptureQueriesContext(connection) as few:
        client.get(address)
    make_keys(organization, 60, change=different, used=lambda place: NOW)
    with CaptureQueriesContext(connection) as many:
        assert len(client.get(address).context["keys"]) == 50
    assert len(many) == len(few)
    assert len(few) <= 30


def test_nor_does_it_ask_more_for_each_key_that_may_be_silent(organization, viewer, client_of):
    client = client_of(viewer)

    def opened(number):
        for _ in range(number):
            make_exemption(make_old_key(organization, timedelta(days=200)))
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url("key_list", organization, silence="exempt")).context["keys"]
        return len(queries)

    client.get(url("key_list", organization))
    assert opened(1) == opened(5)


def test_an_address_with_too_many_fields_is_refused_in_words_and_without_settings(organization, viewer):
    client = Client(raise_request_exception=False)
    client.force_login(viewer)
    query = "&".join(f"a{number}=1" for number in range(1001))
    response = client.get(f"{url('key_list', organization)}?{query}")
    assert response.status_code == 400
    assert "more than 1,000 fields, in its address or its form" in response.text
    assert "DATA_UPLOAD" not in response.text
