"""A key's newest requests."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import KeyActivity, Outcome, UsageWatermark
from tests.factories import make_event, make_key, make_organization, make_revoked_key
from tests.pages import HOSTILE, HTMX, day, is_partial, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)

    def get(key, *, headers=None, **query):
        return client.get(url("key_requests", organization, key.public_id, **query), headers=headers)

    return get


def test_the_newest_twenty_come_first(organization, visit):
    key = make_key(organization).key
    for minutes in range(25):
        make_event(key, ago=timedelta(minutes=minutes), path=f"/orders/{minutes}")
    shown = [event.path for event in visit(key).context["requests"].events]
    assert shown == [f"/orders/{minutes}" for minutes in range(20)]


def test_it_says_what_was_asked_from_where_and_what_became_of_it(organization, visit):
    key = make_key(organization).key
    make_event(key, outcome=Outcome.SCOPE_MISSING, address="2001:db8::7", method="DELETE", path="/v2/orders/7")
    text = visit(key).text
    for told in ["scope missing", "2001:db8::7", "DELETE", "/v2/orders/7", "orders-report/2.1"]:
        assert told in text


def test_an_outcome_narrows_it(organization, visit):
    key = make_key(organization).key
    make_event(key)
    make_event(key, outcome=Outcome.UNKNOWN)
    assert [event.outcome for event in visit(key, outcome="unknown").context["requests"].events] == ["unknown"]
    assert list(visit(key, outcome="paused").context["requests"].events) == []
    assert len(visit(key, outcome="").context["requests"].events) == 2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("203.0.113.9", {"/a"}),
        ("203.0.", {"/a"}),
        ("2001:db8", {"/b"}),
        ("CURL", {"/a", "/c"}),
        ("%", set()),
        ("'; --", set()),
    ],
)
def test_a_text_narrows_it_to_callers_by_address_or_agent(organization, visit, text, found):
    key = make_key(organization).key
    make_event(key, address="203.0.113.9", user_agent="curl/8", path="/a")
    make_event(key, address="2001:db8::7", user_agent="", path="/b")
    make_event(key, address=None, user_agent="curl/7", path="/c")
    assert {event.path for event in visit(key, caller=text).context["requests"].events} == found


def test_a_span_of_time_narrows_it_and_one_that_has_ended_is_not_looked_at_again(organization, visit):
    key = make_key(organization).key
    make_event(key, path="/now")
    make_event(key, at=day(2026, 10, 4), path="/then")
    paths = {
        name: [event.path for event in visit(key, range=name).context["requests"].events] for name in ("7d", "90d")
    }
    assert paths == {"7d": ["/now"], "90d": ["/now", "/then"]}
    assert "data-poll" in visit(key, range="7d").text
    response = visit(key, since="2026-10-04", until="2026-10-04")
    assert [event.path for event in response.context["requests"].events] == ["/then"]
    assert "data-poll" not in response.text


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"outcome": "refused"}, "There is no outcome refused."),
        ({"outcome": "<script>"}, "There is no outcome &lt;script&gt;."),
        ({"range": "2d"}, "there is no range 2d"),
        ({"since": "2026-10-05", "until": "2026-10-04"}, "It ends before it begins"),
        ({"caller": "x" * 201}, "at most 200 characters"),
        ({"before": "odd"}, "a place in the list that cannot be one"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_by_name(organization, visit, query, told):
    key = make_key(organization).key
    make_event(key, path="/secret-of-the-event")
    for headers in (None, HTMX):
        response = visit(key, headers=headers, **query)
        assert response.status_code == 422
        assert told in response.text
        assert "/secret-of-the-event" not in response.text


@pytest.fixture
def kept_from():
    """Single requests were removed up to a midnight ten days ago."""
    day = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=10)
    watermark = UsageWatermark.read()
    watermark.raw_from = day
    watermark.save()
    return day.date()


def test_what_is_no_longer_kept_is_said_and_not_called_nothing(organization, visit, kept_from):
    key = make_key(organization).key
    make_event(key, path="/kept")
    before = kept_from - timedelta(days=3)
    response = visit(key, since=before, until=kept_from - timedelta(days=1))
    assert response.status_code == 422
    assert "To: Single requests are kept for 35 days: the first day is" in response.text
    for query in ({"since": before}, {"range": "30d"}, {"since": "2001-01-01"}):
        response = visit(key, **query)
        assert response.status_code == 200
        assert "single requests are kept for 35 days, since" in response.text
        assert [event.path for event in response.context["requests"].events] == ["/kept"]
    assert "single requests are kept" not in visit(key, range="7d").text
    assert "single requests are kept" not in visit(key, since=kept_from).text


def test_a_key_whose_requests_are_only_counted_is_not_called_one_without(organization, visit):
    new, old = make_key(organization).key, make_key(organization).key
    KeyActivity.objects.filter(key=old).update(last_used_at=timezone.now() - timedelta(days=90))
    assert "No request yet. The next one appears here." in visit(new).text
    assert "No request in the last 35 days. Single ones are kept for so long" in visit(old).text


def test_a_pasted_key_is_taken_out_of_the_address(organization, visit):
    key, secret = make_key(organization)
    response = visit(key, caller=secret.text, outcome="valid")
    assert response["Location"] == f"{url('key_requests', organization, key.public_id)}?outcome=valid"


def test_older_requests_are_a_link_away_until_there_are_none(organization, visit, client_of, viewer):
    key = make_key(organization).key
    for minutes in range(45):
        make_event(key, ago=timedelta(minutes=minutes), path=f"/orders/{minutes}")
    seen, response = [], visit(key, outcome="valid")
    while True:
        seen += [event.path for event in response.context["requests"].events]
        if not (older := response.context["older_url"]):
            break
        response = client_of(viewer).get(older)
        assert "data-poll" not in response.text
        assert response.context["newest_url"] == f"{url('key_requests', organization, key.public_id)}?outcome=valid"
    assert seen == [f"/orders/{minutes}" for minutes in range(45)]


def test_htmx_gets_the_table_alone(organization, visit):
    for key in (make_key(organization).key, make_revoked_key(organization).key):
        make_event(key)
        response = visit(key, headers=HTMX)
        assert is_partial(response)
        assert 'id="key_requests"' in response.text
        assert is_whole_page(visit(key))


def test_the_page_of_a_dead_key_is_told_of_each_attempt(organization, visit):
    key = make_revoked_key(organization).key
    assert "Nobody has tried it since then." in visit(key, headers=HTMX).text
    make_event(key, outcome=Outcome.REVOKED, address="203.0.113.99")
    text = visit(key, headers=HTMX).text
    assert "1 request refused since then." in text
    assert text.count('<code class="anywhere">203.0.113.99<') == 2
    assert 'hx-swap-oob="true"' not in visit(make_key(organization).key, headers=HTMX).text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_callers_send_is_escaped(organization, visit, text):
    key = make_key(organization).key
    make_event(key, user_agent=text, path=f"/{text}")
    response = visit(key, headers=HTMX)
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_looking_changes_nothing(organization, visit):
    key = make_key(organization).key
    visit(key)
    before = snapshot()
    visit(key)
    assert snapshot() == before


def test_another_organizations_key_is_not_there(organization, visit):
    assert visit(make_key(make_organization()).key).status_code == 404
