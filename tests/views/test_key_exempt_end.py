"""Ending the exemption of a key."""

from datetime import timedelta

import pytest

from apikeys.models import AuditAction, ExemptionTerms, KeyExemption
from tests.factories import make_actor, make_exemption, make_old_key, make_organization
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def key(organization):
    return make_old_key(organization, 200 * DAY, name="standby")


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


@pytest.fixture
def end(organization, client):
    return lambda key, seen, headers=None: client.post(
        url("key_exempt_end", organization, key.public_id),
        {"seen": seen.isoformat() if seen else ""},
        headers=headers,
    )


def test_the_confirmation_says_what_is_ended(organization, client, key):
    make_exemption(key, reason="Spare for the tills")
    before = snapshot()
    response = client.get(url("key_exempt_end", organization, key.public_id))
    assert is_whole_page(response)
    assert "Spare for the tills" in response.text
    assert "counts as unused again at once. Never used: created 200 days ago" in response.text
    assert is_partial(client.get(url("key_exempt_end", organization, key.public_id), headers=HTMX))
    assert snapshot() == before


def test_the_key_counts_as_unused_at_once_and_the_end_is_recorded(organization, operator, key, end):
    exemption = make_exemption(key)
    response = end(key, exemption.changed_at)
    assert response["Location"] == key.get_absolute_url()
    assert list(organization.keys.unused()) == [key]
    [entry] = entries(organization, AuditAction.KEY_EXEMPT_END)
    assert (entry.actor, entry.key_id) == (operator, key.pk)


def test_a_double_submit_does_it_once(organization, key, end):
    seen = make_exemption(key).changed_at
    end(key, seen)
    before = snapshot()
    response = end(key, seen, HTMX)
    assert response["HX-Redirect"] == key.get_absolute_url()
    assert any("no exemption that runs" in message for message in messages_of(response))
    assert snapshot() == before


def test_what_somebody_changed_meanwhile_is_shown_before_it_is_ended(organization, key, end):
    exemption = make_exemption(key)
    terms = ExemptionTerms(exemption.owner, "Longer than that", exemption.until + 30 * DAY)
    KeyExemption.objects.grant(key, terms, by=make_actor(), seen=exemption.changed_at)
    before = snapshot()
    response = end(key, exemption.changed_at)
    assert response.status_code == 422
    assert "Longer than that" in response.text
    assert snapshot() == before
    new = KeyExemption.objects.get(pk=key.pk)
    assert response.context["form"]["seen"].value() == new.changed_at.isoformat()
    assert end(key, new.changed_at).status_code == 302


@pytest.mark.parametrize("until", [None, -DAY])
def test_without_one_that_runs_there_is_nothing_to_end(organization, client, key, end, until):
    if until:
        make_exemption(key, until=until)
    before = snapshot()
    for response in (client.get(url("key_exempt_end", organization, key.public_id)), end(key, None)):
        assert response["Location"] == key.get_absolute_url()
    assert snapshot() == before


def test_a_viewer_may_not_end_it(organization, viewer, key, client_of):
    make_exemption(key)
    client = client_of(viewer)
    before = snapshot()
    assert client.post(url("key_exempt_end", organization, key.public_id)).status_code == 403
    assert snapshot() == before


def test_another_organizations_key_is_not_there(end):
    theirs = make_old_key(make_organization(), 200 * DAY)
    seen = make_exemption(theirs).changed_at
    assert end(theirs, seen).status_code == 404
    assert KeyExemption.objects.get(pk=theirs.pk).is_running
