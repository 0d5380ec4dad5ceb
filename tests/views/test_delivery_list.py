"""The log of what was sent."""

import pytest
from django.utils import timezone

from tests.factories import make_alert, make_delivery, make_organization, make_webhook
from tests.pages import HTMX, is_partial, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


@pytest.fixture
def deliveries(organization):
    webhook = make_webhook(organization, "On call")
    now = timezone.now()
    return {
        "waiting": make_delivery(organization, email="ada@example.com"),
        "retrying": make_delivery(organization, webhook, attempts=2),
        "sent": make_delivery(organization, webhook, attempts=1, sent_at=now),
        "failed": make_delivery(organization, email="ben@example.com", attempts=10, failed_at=now),
    }


def shown(response):
    return {delivery.pk for delivery in response.context["deliveries"]}


def test_without_any_it_says_so(organization, client):
    assert "Nothing was sent yet" in client.get(url("delivery_list", organization)).text


@pytest.mark.parametrize("state", ["waiting", "retrying", "sent", "failed"])
def test_they_are_filtered_by_state(organization, client, deliveries, state):
    assert shown(client.get(url("delivery_list", organization, state=state))) == {deliveries[state].pk}


def test_they_are_filtered_by_channel_and_recipient(organization, client, deliveries):
    mails = {deliveries["waiting"].pk, deliveries["failed"].pk}
    assert shown(client.get(url("delivery_list", organization, channel="mail"))) == mails
    assert shown(client.get(url("delivery_list", organization, to="ADA@"))) == {deliveries["waiting"].pk}
    assert len(shown(client.get(url("delivery_list", organization, to="on call")))) == 2
    response = client.get(url("delivery_list", organization, to="nobody"))
    assert "Nothing matches" in response.text


def test_another_organization_is_not_shown(organization, client):
    make_delivery(make_organization(), email="theirs@example.com")
    assert "theirs@example.com" not in client.get(url("delivery_list", organization)).text


def test_it_tells_which_alert(organization, client):
    make_webhook(organization)
    alert = make_alert(organization)
    assert alert.code in client.get(url("delivery_list", organization)).text


def test_pages_follow_one_another_without_a_gap(organization, client):
    made = {make_delivery(organization).pk for _ in range(120)}
    seen, address = [], url("delivery_list", organization)
    while address:
        response = client.get(address)
        seen += [delivery.pk for delivery in response.context["deliveries"]]
        address = response.context["next_url"]
    assert (len(seen), set(seen)) == (120, made)


@pytest.mark.parametrize("query", [{"state": "odd"}, {"channel": "pigeon"}, {"after": "odd"}, {"to": "x" * 300}])
def test_a_filter_that_is_none_is_told(organization, client, query):
    assert client.get(url("delivery_list", organization, **query)).status_code == 422


def test_htmx_gets_the_table(organization, client, deliveries):
    assert is_partial(client.get(url("delivery_list", organization), headers=HTMX))


def test_statements_do_not_grow_with_rows(organization, client, django_assert_max_num_queries):
    for number in range(30):
        make_delivery(organization, make_webhook(organization) if number < 15 else None)
    with django_assert_max_num_queries(14):
        client.get(url("delivery_list", organization))
