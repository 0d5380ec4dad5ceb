"""Exempting a key from a rule of the policy."""

from datetime import UTC, datetime, time, timedelta

import pytest
from django.utils import timezone

from apikeys.models import AuditAction, PolicyExemption, PolicyRule
from tests.factories import make_expired_key, make_key, make_policy, make_policy_exemption, make_revoked_key
from tests.pages import HOSTILE, HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def key(organization):
    key = make_key(organization, "standby").key
    make_policy(organization, expiry_required=True)
    return key


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


@pytest.fixture
def exempt(organization, client, key):
    def send(headers=None, of=key, rule="expiry", **changes):
        form = {"reason": "Embedded in a device", "until": "90", "until_on": "", "seen": ""} | changes
        return client.post(url("policy_exempt", organization, of.public_id, rule), form, headers=headers)

    return send


def today():
    return timezone.now().astimezone(UTC).date()


def test_the_form_is_a_page_and_for_htmx_a_dialog(organization, client, key):
    before = snapshot()
    address = url("policy_exempt", organization, key.public_id, "expiry")
    response = client.get(address)
    assert is_whole_page(response)
    assert "Expiry required: <bdi>every key expires</bdi>" in response.text
    assert is_partial(client.get(address, headers=HTMX))
    assert "which the policy does not ask now" in client.get(address.replace("expiry", "owner")).text
    assert snapshot() == before


def test_it_says_by_whom_why_and_until_when_and_ends_the_violation(organization, key, admin, exempt, client):
    assert key.violations == [PolicyRule.EXPIRY]
    response = exempt()
    assert response["Location"] == key.get_absolute_url()
    found = PolicyExemption.objects.get(key=key)
    assert (found.rule, found.reason, found.changed_by) == ("expiry", "Embedded in a device", admin)
    assert found.until == datetime.combine(today() + 90 * DAY, time(23, 59, 59), UTC)
    assert messages_of(response) == [f"standby is exempt until {found.until:%-d %b %Y}: expiry required."]
    [entry] = entries(organization, AuditAction.POLICY_EXEMPT)
    assert (entry.actor, entry.key_id) == (admin, key.pk)
    assert entry.changes["rule"] == [None, "never expires"]
    assert entry.changes["reason"] == [None, "Embedded in a device"]
    assert key.violations == []
    text = client.get(key.get_absolute_url()).text
    assert "Embedded in a device" in text
    assert url("policy_exempt_end", organization, key.public_id, "expiry") in text


def test_from_a_list_one_goes_back_to_it_and_nowhere_else(organization, key, exempt):
    back = url("policy_preview", organization) + "?expiry_required=on"
    assert exempt(next=back)["Location"] == back
    for seen, place in enumerate(("https://evil.example/", "//evil.example/acme/", "/other/keys/")):
        now = PolicyExemption.objects.get(key=key).changed_at.isoformat()
        response = exempt(next=place, reason=f"again {seen}", seen=now)
        assert response["Location"] == key.get_absolute_url()


def test_it_can_be_changed_and_a_change_unseen_is_shown_first(key, exempt):
    exempt()
    before = snapshot()
    stale = exempt(reason="Another")
    assert stale.status_code == 422
    assert "changed the exemption since you opened this form" in stale.text
    assert snapshot() == before
    assert exempt(reason="Another", seen=stale.context["form"].data["seen"]).status_code == 302
    assert PolicyExemption.objects.get(key=key).reason == "Another"
    same = snapshot()
    assert exempt(reason="Another").status_code == 302
    assert snapshot() == same


def test_one_that_ran_out_can_be_granted_anew(key, exempt):
    old = make_policy_exemption(key, until=-DAY)
    assert exempt(seen=old.changed_at.isoformat()).status_code == 302
    assert key.violations == []


BAD = {
    "yesterday": ({"until": "date", "until_on": (datetime.now(UTC) - DAY).date()}, "until_on"),
    "beyond two years": ({"until": "date", "until_on": (datetime.now(UTC) + 733 * DAY).date()}, "until_on"),
    "the end of time": ({"until": "date", "until_on": "9999-12-31"}, "until_on"),
    "no day": ({"until": "date"}, "until_on"),
    "a length that is not offered": ({"until": "9000"}, "until"),
    "no reason": ({"reason": " "}, "reason"),
    "a reason over its limit": ({"reason": "x" * 201}, "reason"),
    "a reason of two lines": ({"reason": "a\nb"}, "reason"),
    "a NUL": ({"reason": "a\0b"}, "reason"),
    "a damaged form": ({"seen": "yesterday"}, "seen"),
}


@pytest.mark.parametrize(("form", "field"), BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_a_422_that_names_the_field(exempt, form, field):
    before = snapshot()
    for headers in (None, HTMX):
        response = exempt(headers, **form)
        assert response.status_code == 422
        assert field in response.context["form"].errors
    assert snapshot() == before


@pytest.mark.parametrize("reason", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_reason_is_text(organization, key, exempt, client, reason):
    assert exempt(reason=reason).status_code == 302
    for page in (key.get_absolute_url(), url("policy_exemptions", organization)):
        text = client.get(page).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text


def test_a_rule_that_is_none_is_not_there(organization, client, key):
    assert client.get(url("policy_exempt", organization, key.public_id, "odd")).status_code == 404
    assert client.get(url("policy_exempt_end", organization, key.public_id, "odd")).status_code == 404


def test_a_dead_key_cannot_be_exempted(organization, exempt):
    for dead in (make_expired_key, make_revoked_key):
        make_policy(organization)
        key = dead(organization).key
        response = exempt(of=key)
        assert response["Location"] == key.get_absolute_url()
        assert "asks nothing of it any more" in messages_of(response)[-1]
    assert not PolicyExemption.objects.exists()
