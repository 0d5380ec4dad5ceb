"""The list of webhooks."""

import pytest
from django.utils import timezone

from tests.factories import make_actor, make_organization, make_webhook
from tests.pages import HOSTILE, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def test_without_any_it_says_what_they_are_for(organization, client, operator, client_of):
    text = client.get(url("webhook_list", organization)).text
    assert "No webhooks" in text
    assert url("webhook_create", organization) in text
    assert "An admin of Acme adds webhooks" in client_of(operator).get(url("webhook_list", organization)).text


def test_each_is_shown_with_its_host_and_state_and_nothing_that_may_be_a_secret(organization, client):
    make_webhook(organization, "On call", url="https://hooks.example.com/T0/very-secret-part", kinds=["abuse"])
    off = make_webhook(organization, "Chat", format="slack")
    off.switch_off(by=make_actor())
    failing = make_webhook(organization, "Old")
    failing.failing_since = timezone.now()
    failing.save()
    make_webhook(make_organization(), "Somebody else's")
    text = client.get(url("webhook_list", organization)).text
    for words in ("On call", "hooks.example.com", "1 kind", "Slack-compatible", "by <bdi>command line", "failing"):
        assert words in text
    assert "very-secret-part" not in text
    assert "whsec_" not in text
    assert "Somebody else" not in text


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_text(organization, client, name):
    make_webhook(organization, name)
    text = client.get(url("webhook_list", organization)).text
    assert "<script>alert" not in text
    assert "<img src=x" not in text


def test_viewers_do_not_see_it_and_have_no_tab(organization, viewer, client_of):
    client = client_of(viewer)
    assert client.get(url("webhook_list", organization)).status_code == 403
    assert url("webhook_list", organization) not in client.get(url("alert_list", organization)).text
