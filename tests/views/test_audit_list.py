"""The audit log's page."""

from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeys.models import Actor, AuditAction, AuditEntry, Via
from tests.factories import make_actor, make_key, make_organization, make_rotation
from tests.pages import HOSTILE, HTMX, entries, is_partial, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)

    def get(*, headers=None, **query):
        return client.get(url("audit_list", organization, **query), headers=headers)

    return get


def make_entries(organization, number):
    now = timezone.now()
    AuditEntry.objects.bulk_create(
        AuditEntry(
            organization=organization,
            at=now,
            actor_label=f"person{place}@example.com",
            via=Via.DASHBOARD,
            action=AuditAction.SIGN_IN,
        )
        for place in range(number)
    )


def actions(response):
    return [entry.action for entry in response.context["entries"]]


def test_it_says_who_did_what_to_what_from_where_newest_first(organization, operator, visit):
    key = make_key(organization, "checkout", by=operator).key
    key.pause(by=make_actor(operator))
    response = visit()
    assert response.status_code == 200
    assert is_whole_page(response)
    assert actions(response)[:3] == ["key.pause", "key.show", "key.issue"]
    for text in [operator.email, "paused the key", "checkout", "198.51.100.7", key.fingerprint]:
        assert text in response.text, text
    assert "no-store" in response["Cache-Control"]


def test_another_organizations_entries_are_not_shown(organization, visit):
    make_key(make_organization("elsewhere"), "theirs")
    assert {entry.organization_id for entry in visit().context["entries"]} == {organization.pk}


def test_htmx_gets_the_table_alone(organization, visit):
    response = visit(headers=HTMX, action="organization.create")
    assert is_partial(response)
    assert 'id="audit_table"' in response.text
    assert "HX-Request" in response["Vary"]


@pytest.fixture
def history(organization, operator):
    key = make_key(organization, "checkout", by=operator).key
    key.pause(by=Actor(label="bot", via=Via.COMMAND, address="2001:db8::9"))
    make_key(organization, "another", by=operator)
    return key


def test_the_filters_narrow_it_by_who_action_key_address_and_time(organization, history, visit):
    today = timezone.now().date()
    yesterday, tomorrow = today - timedelta(days=1), today + timedelta(days=1)
    visit()  # which is an entry
    everything = len(actions(visit()))
    expected = [
        ({"actor": "OPERATOR@"}, 4),
        ({"actor": "bot"}, 1),
        ({"action": "key.issue"}, 2),
        ({"key": history.public_id}, 3),
        ({"key": history.fingerprint}, 3),
        ({"key": "CHECK"}, 3),
        ({"address": "2001:DB8:0::9"}, 1),
        ({"address": "198.51.100.7"}, 4),
        ({"address": "198.51.100"}, 0),
        ({"since": today}, everything),
        ({"until": today}, everything),
        ({"until": yesterday}, 0),
        ({"since": yesterday, "until": tomorrow, "action": "key.pause"}, 1),
    ]
    for query, number in expected:
        response = visit(**query)
        assert (response.status_code, len(actions(response))) == (200, number), query


def test_all_generations_of_a_key_are_read_as_one_history(organization, visit):
    first = make_key(organization, "checkout").key
    second = make_rotation(organization, first)
    second.rotation.finish(by=make_actor())
    third = make_rotation(organization, second.issued.key).issued.key
    make_key(organization, "another")
    cancelled = make_rotation(organization, make_key(organization).key)
    cancelled.rotation.cancel(by=make_actor())
    lineage = {first.pk, second.issued.key.pk, third.pk}
    for key in (first, second.issued.key, third):
        response = visit(lineage=key.public_id)
        assert {entry.key_id for entry in response.context["entries"]} == lineage
        assert actions(response).count(AuditAction.ROTATION_START) == 2
    [chip] = response.context["chips"]
    assert (chip.label, chip.value, chip.remove_url) == ("All generations of", third.public_id, "/acme/audit/")
    alone = cancelled.issued.key
    assert {entry.key_id for entry in visit(lineage=alone.public_id).context["entries"]} == {alone.pk}


@pytest.mark.parametrize("value", ["zzzzzzzzzzzz", "%", "x", "<b>"])
def test_generations_of_no_key_are_none(organization, visit, value):
    make_key(organization)
    response = visit(lineage=value)
    assert (response.status_code, actions(response)) == (200, [])


def test_generations_of_another_organizations_key_are_none(organization, visit):
    theirs = make_key(make_organization("elsewhere")).key
    assert actions(visit(lineage=theirs.public_id)) == []


def test_each_filter_that_is_on_has_a_chip(history, visit):
    chips = visit(action="key.pause", actor="bot").context["chips"]
    assert [(chip.label, chip.value) for chip in chips] == [("Who", "bot"), ("Action", "paused the key")]
    assert chips[0].remove_url == "/acme/audit/?action=key.pause"


BAD = {
    "an action": ({"action": "key.eat"}, "action"),
    "a day that is none": ({"since": "2026-02-30"}, "since"),
    "a day that is text": ({"until": "yesterday"}, "until"),
    "days in the wrong order": ({"since": "2026-01-02", "until": "2026-01-01"}, "until"),
    "a day that is still to come": ({"since": "9999-12-31"}, "since"),
    "a person over the limit": ({"actor": "x" * 255}, "actor"),
    "a key over the limit": ({"key": "x" * 101}, "key"),
    "generations of a key over the limit": ({"lineage": "x" * 13}, "lineage"),
    "an address over the limit": ({"address": "1" * 46}, "address"),
}


@pytest.mark.parametrize(("query", "field"), BAD.values(), ids=BAD)
def test_a_filter_value_that_does_not_exist_is_a_422_that_names_the_filter(visit, query, field):
    for headers in (None, HTMX):
        response = visit(headers=headers, **query)
        assert response.status_code == 422
        assert list(response.context["form"].errors) == [field]
        assert actions(response) == []


@pytest.mark.parametrize("cursor", ["x", "e30", "WyJ4Il0", "WzFlMTAwXQ", "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OV0", "é"])
def test_a_broken_cursor_is_a_422(visit, cursor):
    response = visit(after=cursor)
    assert response.status_code == 422
    assert response.context["bad_cursor"]


@pytest.mark.parametrize("query", ["actor=%00", "key=a%00b", "after=%00", "address=%00", "lineage=%00"])
def test_a_nul_is_a_400(organization, viewer, client_of, query):
    assert client_of(viewer).get(f"/acme/audit/?{query}").status_code == 400


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_people_typed_is_escaped(organization, visit, text):
    make_key(organization, text, purpose=text)
    AuditEntry.objects.record(
        AuditAction.SIGN_IN,
        by=Actor(label=text, via=Via.DASHBOARD, user_agent=text),
        organization=organization,
        target=text,
        reason=text,
        changes={text: [text, [text]]},
    )
    for response in (visit(), visit(actor=text, key=text), visit(action=text), visit(address=text[:45])):
        assert "<script>alert" not in response.text
        assert "<img src=x" not in response.text


def test_the_pages_show_each_entry_exactly_once(organization, viewer, client_of):
    make_entries(organization, 120)
    client, address, found = client_of(viewer), url("audit_list", organization), []
    client.get(address)  # which is an entry
    while address:
        response = client.get(address)
        found += [entry.pk for entry in response.context["entries"]]
        address = response.context["next_url"]
    assert found == [entry.pk for entry in reversed(entries(organization))]


def test_it_asks_the_database_the_same_number_of_questions_however_much_happened(organization, visit):
    visit()
    with CaptureQueriesContext(connection) as few:
        visit()
    make_entries(organization, 100)
    with CaptureQueriesContext(connection) as many:
        visit()
    assert len(many) == len(few) <= 12


def test_looking_again_leaves_no_entry(organization, visit):
    visit()
    before = snapshot()
    visit()
    assert snapshot() == before


def test_a_pasted_key_is_led_away_by_its_public_id(organization, visit):
    key, secret = make_key(organization)
    response = visit(key=secret.text, action="key.issue")
    assert response.status_code == 302
    assert response["Location"] == f"/acme/audit/?key={key.public_id}&action=key.issue"
    mistyped = visit(key=secret.text[:-1])
    assert mistyped.status_code == 302
    assert secret.secret[:12] not in mistyped["Location"]
    assert visit(key=secret.text[:-1], headers=HTMX).status_code == 302


NAMES = st.sampled_from(["actor", "action", "key", "address", "since", "until", "after", "x"])
VALUES = st.one_of(st.sampled_from([*AuditAction.values, "127.0.0.1", "2026-01-01", "0001-01-01"]), st.text())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_no_query_string_breaks_it(organization, viewer, visit, pairs):
    client = Client(raise_request_exception=False)
    client.force_login(viewer)
    query = urlencode([(name, value.encode("utf-8", "surrogatepass")) for name, value in pairs])
    assert client.get(f"/acme/audit/?{query}").status_code in {200, 302, 400, 422}
