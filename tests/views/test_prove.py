"""Step-up: the page that asks for the password again, and what goes on afterwards."""

import re
import time
from datetime import timedelta
from html import unescape

import pytest
from django.core.cache import cache
from django.core.signals import got_request_exception
from django.test import Client
from django.views.debug import SafeExceptionReporterFilter

from apikeys.models import ApiKey, AuditAction, AuditEntry, Role
from tests.factories import PASSWORD, make_key, make_member, make_user
from tests.pages import HTMX, age_proof, is_partial, is_whole_page, key_form, snapshot, url

pytestmark = pytest.mark.django_db
STALE = 15 * 60 + 1


@pytest.fixture(autouse=True)
def no_limit_from_before(db):
    """Limits are counted in the cache, which other tests fill too."""
    cache.clear()


@pytest.fixture
def person(organization):
    return make_member(organization, Role.ADMIN, make_user("olga@example.com", password=PASSWORD))


@pytest.fixture
def client(person, client_of):
    return age_proof(client_of(person), STALE)


def recorded(action):
    return AuditEntry.objects.filter(action=action).count()


@pytest.mark.parametrize(
    ("seconds", "asked"), [(0, False), (15 * 60 - 30, False), (STALE, True), (-30, False), (-3600, True)]
)
def test_it_is_asked_when_the_proof_is_too_long_ago_or_of_the_future(organization, client, seconds, asked):
    age_proof(client, seconds)
    response = client.post(url("key_create", organization), key_form())
    assert (response.status_code == 422) is asked
    assert ("Confirm that it is you" in response.text) is asked


def test_the_setting_says_how_long_a_proof_holds(organization, client, settings):
    settings.STEP_UP_MINUTES = 16
    assert "Confirm that it is you" not in client.post(url("key_create", organization), key_form()).text


def test_signing_in_is_a_proof(organization, person):
    client = Client()
    client.post("/accounts/login/", {"login": person.user.email, "password": PASSWORD})
    assert (
        client.post(
            url("key_revoke", organization, make_key(organization).key.public_id), {"reason": "leaked"}
        ).status_code
        == 302
    )


def test_a_session_from_before_this_was_asked_is_no_proof(organization, client):
    session = client.session
    del session["proven_at"]
    session.save()
    assert client.post(url("key_create", organization), key_form()).status_code == 422


def waiting(response):
    """Return the form that a page asks the password for, as a browser sends it again."""
    [form] = [one for one in response.text.split("<form")[1:] if 'name="proof_password"' in one]
    action = re.search(r'action="([^"]*)"', form)
    assert action
    values: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden"\s+name="([^"]*)"\s+value="([^"]*)"', form):
        if name != "csrfmiddlewaretoken":
            values.setdefault(name, []).append(unescape(value))
    return unescape(action[1]), values


def test_the_form_waits_whole_and_is_acted_on_with_the_password(organization, client):
    form = key_form(name="checkout", scopes=["orders:read", "orders:write"])
    response = client.post(url("key_create", organization), form)
    assert is_whole_page(response)
    assert "no-store" in response["Cache-Control"]
    assert not ApiKey.objects.filter(name="checkout").exists()
    action, fields = waiting(response)
    assert action == url("key_create", organization)
    assert fields == {name: value if isinstance(value, list) else [str(value)] for name, value in form.items()}
    done = client.post(action, fields | {"proof_password": PASSWORD})
    assert done.status_code in {200, 302}
    key = ApiKey.objects.get(name="checkout")
    assert {scope.name for scope in key.scopes.all()} == {"orders:read", "orders:write"}
    assert recorded(AuditAction.PROOF) == 1
    assert PASSWORD not in done.text
    # The next one is not asked for.
    assert client.post(url("key_revoke", organization, key.public_id), {"reason": "leaked"}).status_code == 302


def test_in_a_dialog_it_is_asked_in_the_dialog(organization, client):
    key = make_key(organization).key
    address = url("key_revoke", organization, key.public_id)
    response = client.post(address, {"reason": "leaked"}, headers=HTMX)
    assert is_partial(response)
    assert f'hx-post="{address}"' in response.text
    done = client.post(address, {"reason": "leaked", "proof_password": PASSWORD}, headers=HTMX)
    assert done["HX-Redirect"] == key.get_absolute_url()
    key.refresh_from_db()
    assert key.revoked_at


@pytest.mark.parametrize("password", ["", "wrong", PASSWORD + " ", PASSWORD.upper(), "x" * 1001, "a\0b"])
def test_a_wrong_password_changes_nothing_and_is_recorded(organization, client, password):
    key = make_key(organization).key
    response = client.post(
        url("key_revoke", organization, key.public_id),
        {"reason": "leaked", "note": 'a "note"', "proof_password": password},
    )
    assert response.status_code == 422
    _, fields = waiting(response)
    assert fields["note"] == ['a "note"']
    assert not password or password not in response.text
    key.refresh_from_db()
    assert not key.revoked_at
    assert recorded(AuditAction.PROOF_FAILED) == (password in {"wrong", PASSWORD + " ", PASSWORD.upper()})


def test_guessing_ends_soon_in_every_session(organization, person, client, client_of):
    key = make_key(organization).key
    for number in range(10):
        guesser = client if number % 2 else age_proof(client_of(person), STALE)
        form = {"reason": "leaked", "proof_password": f"guess {number}"}
        assert guesser.post(url("key_revoke", organization, key.public_id), form).status_code == 422
    form = {"reason": "leaked", "proof_password": PASSWORD}
    assert client.post(url("key_revoke", organization, key.public_id), form).status_code == 429
    key.refresh_from_db()
    assert not key.revoked_at
    assert recorded(AuditAction.PROOF_FAILED) == 10


def test_somebody_elses_password_is_none(organization, client):
    make_member(organization, Role.ADMIN, make_user("eve@example.com", password="another horse staple"))
    form = {"reason": "leaked", "proof_password": "another horse staple"}
    assert client.post(url("key_revoke", organization, make_key(organization).key.public_id), form).status_code == 422


def test_a_proof_gives_the_session_a_new_key(organization, client):
    before = client.cookies["sessionid"].value
    old = Client()
    old.cookies["sessionid"] = before
    form = {"reason": "leaked", "proof_password": PASSWORD}
    assert client.post(url("key_revoke", organization, make_key(organization).key.public_id), form).status_code == 302
    assert client.cookies["sessionid"].value != before
    assert old.get(url("key_list", organization)).status_code == 302
    assert client.get(url("key_list", organization)).status_code == 200


def test_a_field_of_that_name_is_no_proof_where_none_is_needed(organization, client):
    age_proof(client, 0)
    form = {"reason": "leaked", "proof_password": "wrong"}
    assert client.post(url("key_revoke", organization, make_key(organization).key.public_id), form).status_code == 302


def test_what_waits_is_no_markup(organization, client):
    hostile = '"><script>alert(1)</script>'
    response = client.post(url("key_create", organization), {hostile: hostile, "name": hostile})
    assert "<script>alert" not in response.text


# What is read


def test_an_export_of_the_audit_log_is_asked_for_and_goes_on(organization, client):
    address = url("audit_export", organization, "csv", action="key.issue")
    response = client.get(address)
    assert response.status_code == 302
    asking = client.get(response["Location"])
    assert is_whole_page(asking)
    before = snapshot()
    assert client.post(response["Location"], {"proof_password": "wrong"}).status_code == 422
    assert AuditEntry.objects.filter(action=AuditAction.AUDIT_EXPORT).count() == 0
    assert before != snapshot()
    done = client.post(response["Location"], {"proof_password": PASSWORD})
    assert (done.status_code, done["Location"]) == (302, address)
    assert client.get(address).status_code == 200


@pytest.mark.parametrize(
    "after",
    ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "", "\\\\evil.example", "https:evil.example"],
)
def test_it_leads_nowhere_else(organization, client, after):
    response = client.post(url("prove", organization, next=after), {"proof_password": PASSWORD})
    assert (response.status_code, response["Location"]) == (302, url("overview", organization))


def test_a_proof_holds_for_the_time_after_it_was_given(organization, client):
    age_proof(client, timedelta(days=1).total_seconds())
    client.post(url("prove", organization), {"proof_password": PASSWORD})
    assert time.time() - client.session["proven_at"] < 60


def test_no_error_report_holds_the_password(organization, client, monkeypatch):
    seen = []

    def report(request, **_facts):
        seen.append(SafeExceptionReporterFilter().get_post_parameters(request))

    def fail(*_arguments, **_options):
        raise RuntimeError("boom")

    monkeypatch.setattr("apikeys.step_up.ratelimit.consume", fail)
    client.raise_request_exception = False
    got_request_exception.connect(report)
    try:
        form = {"reason": "leaked", "proof_password": PASSWORD}
        address = url("key_revoke", organization, make_key(organization).key.public_id)
        assert client.post(address, form).status_code == 500
    finally:
        got_request_exception.disconnect(report)
    [told] = seen
    assert told["reason"] == "leaked"
    assert PASSWORD not in str(told)
