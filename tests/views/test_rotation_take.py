"""The owner's way to a new key: a link that is good once, and that only the owner's own click uses up."""

import logging
import re
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apikeys import key_secret
from apikeys.logs import JSONFormatter, RedactingFormatter
from apikeys.models import AuditAction, Clock, Role, Rotation, Session
from tests.factories import PASSWORD, make_actor, make_key, make_member, make_organization, make_rotation, make_user
from tests.pages import HOSTILE, entries, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db
BY = make_actor()
DAY = timedelta(days=1)


@pytest.fixture
def owner(organization):
    """The key's owner: a viewer, who may change nothing else."""
    return make_member(organization, Role.VIEWER, make_user("olga@example.com", name="Olga", password=PASSWORD))


@pytest.fixture
def old(organization, owner):
    return make_key(organization, "checkout", owner=owner)


@pytest.fixture
def handed(organization, old):
    return make_rotation(organization, old.key, link_lasts=DAY)


@pytest.fixture
def vendors(organization):
    """A rotation whose new key goes to somebody without an account."""
    return make_rotation(organization, make_key(organization, owner_contact="vendor@example.net").key, link_lasts=DAY)


@pytest.fixture
def client(owner, client_of):
    return client_of(owner)


def take_url(token):
    return reverse("rotation_take", args=[token])


def secret_of(response):
    return key_secret.parse(response.context["secret"])


def is_used_up(started):
    return Rotation.objects.get(pk=started.rotation.pk).new_key_id is not None


def test_opening_the_link_shows_what_is_to_be_taken_and_changes_nothing(client, handed, old):
    before = snapshot()
    for _ in range(3):
        response = client.get(take_url(handed.token))
        assert response.status_code == 200
        assert is_whole_page(response)
        for told in ("checkout", old.key.fingerprint, "Acme", "Show me the new key", "command line", "Both keys work"):
            assert told in response.text, told
        assert "no-store" in response["Cache-Control"]
    assert snapshot() == before
    assert not is_used_up(handed)


@pytest.mark.parametrize("signed_in", [True, False])
@pytest.mark.parametrize("method", ["get", "head"])
def test_a_robot_that_opens_links_uses_nothing_up(client, vendors, signed_in, method):
    robot = client if signed_in else Client()
    before = snapshot()
    for headers in ({"User-Agent": "Slackbot-LinkExpanding 1.0"}, {"Sec-Purpose": "prefetch"}, {"HX-Request": "true"}):
        assert getattr(robot, method)(take_url(vendors.token), headers=headers).status_code == 200
    assert snapshot() == before
    assert Client().post(take_url(vendors.token)).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_a_405_and_use_nothing_up(client, handed, method):
    assert client.generic(method, take_url(handed.token)).status_code == 405
    assert not is_used_up(handed)


def test_the_owner_takes_the_key_once_also_as_a_viewer(organization, verifier, owner, client, handed, old):
    response = client.post(take_url(handed.token))
    assert response.status_code == 200
    secret = secret_of(response)
    assert response.text.count(f'value="{secret.text}"') == 1
    assert "no-store" in response["Cache-Control"]
    assert "This is the only time it is shown." in response.text
    assert verifier.verify(organization, secret.text).json()["outcome"] == "valid"
    assert verifier.verify(organization, old.secret.text).json()["outcome"] == "valid"
    new = organization.keys.get(public_id=secret.public_id)
    assert new.replaces == old.key
    assert Rotation.objects.get().new_key == new
    [entry] = entries(organization, AuditAction.ROTATION_TAKE)
    assert (entry.actor, entry.key_id) == (owner.user, old.key.pk)
    assert entry.changes == {"new_key": [None, new.fingerprint]}


def test_what_was_shown_is_nowhere_else(client, handed):
    secret = secret_of(client.post(take_url(handed.token)))
    again = client.get(take_url(handed.token))
    rotation = client.get(handed.rotation.get_absolute_url())
    for text in (again.text, rotation.text, str(snapshot()), str([one.get_decoded() for one in Session.objects.all()])):
        assert secret.secret not in text
        assert handed.token not in text


def test_a_second_click_is_told_that_the_link_was_used(organization, client, handed):
    first = client.post(take_url(handed.token))
    before = snapshot()
    for response in (client.post(take_url(handed.token)), client.get(take_url(handed.token))):
        assert response.status_code == 410
        assert "This link is not good" in response.text
        assert secret_of(first).secret not in response.text
        assert "checkout" not in response.text
    assert snapshot() == before
    assert organization.keys.count() == 2


def test_somebody_without_an_account_takes_it_without_signing_in(organization, verifier, vendors):
    nobody = Client()
    assert nobody.get(take_url(vendors.token)).status_code == 200
    response = nobody.post(take_url(vendors.token))
    assert verifier.verify(organization, secret_of(response).text).json()["outcome"] == "valid"
    assert "/acme/" not in response.text, "no way into the dashboard"
    assert entries(organization, AuditAction.ROTATION_TAKE)[0].actor is None


def test_a_form_from_elsewhere_takes_nothing(vendors):
    strict = Client(enforce_csrf_checks=True)
    assert strict.post(take_url(vendors.token)).status_code == 403
    assert not is_used_up(vendors)
    page = strict.get(take_url(vendors.token))
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
    assert strict.post(take_url(vendors.token), {"csrfmiddlewaretoken": token}).status_code == 200


@pytest.mark.parametrize("role", Role)
def test_another_person_is_refused_and_does_not_use_it_up(organization, client_of, client, handed, role):
    other = make_member(organization, role, make_user("other@example.com"))
    others = client_of(other)
    before = snapshot()
    for method in ("get", "head", "post"):
        response = getattr(others, method)(take_url(handed.token))
        assert response.status_code == 403
    response = others.post(take_url(handed.token))
    assert "The new key is for Olga alone. You are signed in as other@example.com. The link was not used up." in (
        response.text
    )
    assert snapshot() == before
    assert client.post(take_url(handed.token)).status_code == 200


def test_who_started_the_rotation_is_another_person_too(organization, operator, client_of, old):
    client = client_of(operator)
    form = {"reason": "regular", "overlap": "10080", "clock": "now", "finishes": "deadline", "expires": "same"}
    client.post(url("key_rotate", organization, old.key.public_id), form | {"handover": "link", "link_lasts": "60"})
    rotation = Rotation.objects.get()
    token = rotation.send_link(DAY, by=BY)
    assert client.post(take_url(token)).status_code == 403
    assert not Rotation.objects.get().new_key_id


@pytest.mark.parametrize("method", ["get", "post"])
def test_who_is_not_signed_in_signs_in_and_comes_back(handed, method):
    nobody = Client()
    before = snapshot()
    response = getattr(nobody, method)(take_url(handed.token))
    assert response.status_code == 302
    assert response["Location"] == f"/accounts/login/?next={take_url(handed.token)}"
    assert snapshot() == before
    form = {"login": "olga@example.com", "password": PASSWORD, "next": take_url(handed.token)}
    response = nobody.post("/accounts/login/", form, follow=True)
    assert response.redirect_chain[-1][0] == take_url(handed.token)
    assert "Show me the new key" in response.text
    assert nobody.post(take_url(handed.token)).status_code == 200


def test_a_link_whose_time_is_over_is_not_good(client, handed, organization):
    Rotation.objects.update(link_until=timezone.now())
    before = snapshot()
    for method in ("get", "post"):
        response = getattr(client, method)(take_url(handed.token))
        assert response.status_code == 410
        assert "Ask who sent it to send another." in response.text
    assert snapshot() == before


def test_a_link_that_was_replaced_is_not_good_and_the_newer_one_is(client, handed):
    newer = handed.rotation.send_link(DAY, by=BY)
    assert client.get(take_url(handed.token)).status_code == 410
    assert client.post(take_url(handed.token)).status_code == 410
    assert client.post(take_url(newer)).status_code == 200


def test_of_a_cancelled_rotation_the_link_is_not_good(client, handed):
    handed.rotation.cancel(by=BY)
    assert client.post(take_url(handed.token)).status_code == 410


def test_after_the_old_key_ended_the_link_is_good_and_says_so(organization, verifier, client, handed):
    handed.rotation.finish(by=BY)
    assert "The old key is refused since" in client.get(take_url(handed.token)).text
    secret = secret_of(client.post(take_url(handed.token)))
    assert verifier.verify(organization, secret.text).json()["outcome"] == "valid"


def test_the_clock_from_the_first_use_waits_for_the_taken_key(organization, client, old):
    handed = make_rotation(organization, old.key, clock=Clock.FIRST_USE, link_lasts=DAY)
    assert "after the first use of the new one" in client.get(take_url(handed.token)).text
    client.post(take_url(handed.token))
    assert Rotation.objects.for_pages().get().clock_waits


@pytest.mark.parametrize("token", ["x", "a" * 43, "\u00e9", "x" * 3000, "%00", "..", "<script>alert(1)</script>"])
def test_a_link_that_never_was_is_not_good_and_says_no_more(client, handed, token):
    before = snapshot()
    for one in (client, Client()):
        for method in ("get", "post"):
            response = getattr(one, method)(f"/handover/{token}")
            assert response.status_code in {400, 404, 410}
            assert "checkout" not in response.text
            assert "<script>alert" not in response.text
    assert snapshot() == before


def test_one_letter_of_another_case_is_another_link(client, handed):
    place = next(place for place, letter in enumerate(handed.token) if letter.isalpha())
    token = handed.token[:place] + handed.token[place].swapcase() + handed.token[place + 1 :]
    assert client.post(take_url(token)).status_code == 410
    assert not is_used_up(handed)


def test_an_owner_who_is_signed_in_elsewhere_too_is_the_owner(owner, client, handed):
    make_organization("second", admin=owner.user)
    assert client.post(take_url(handed.token)).status_code == 200


def test_a_new_end_that_has_passed_meanwhile_is_told_and_uses_nothing_up(client, handed):
    """The new key's own end was chosen at the start: a key that is dead at its birth is made for nobody."""
    Rotation.objects.update(new_expires_at=timezone.now() - DAY)
    response = client.post(take_url(handed.token))
    assert response.status_code == 422
    assert "Show me the new key" in response.text
    assert not is_used_up(handed)


def test_a_database_that_fails_on_the_way_uses_nothing_up(owner, handed):
    client = Client(raise_request_exception=False)
    client.force_login(owner.user)

    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT") and AuditAction.ROTATION_TAKE in map(str, params):
            raise OperationalError("disk full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(full):
        response = client.post(take_url(handed.token))
    assert response.status_code == 503
    assert not key_secret.looks_like_key(response.text)
    assert not is_used_up(handed)
    assert client.post(take_url(handed.token)).status_code == 200


def test_no_log_holds_a_link_that_is_good(vendors, caplog):
    """Neither when the database fails, nor when our code does, nor when a form comes from elsewhere."""
    formatters = [RedactingFormatter("{levelname} {message}", style="{"), JSONFormatter()]

    def fail(error):
        def execute(call, sql, params, many, context):
            if "apikeys_rotation" in sql:
                raise error
            return call(sql, params, many, context)

        return execute

    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    with caplog.at_level(logging.DEBUG):
        for error in (OperationalError("disk full"), RuntimeError("nobody has thought of this")):
            with connection.execute_wrapper(fail(error)):
                assert client.get(take_url(vendors.token)).status_code in {500, 503}
        assert client.post(take_url(vendors.token)).status_code == 403
    lines = [formatter.format(record) for record in caplog.records for formatter in formatters]
    assert any("/handover/" in line for line in lines), "nothing was logged of it"
    assert not [line for line in lines if vendors.token in line]


def test_times_are_told_in_the_owners_time_zone(owner, client, handed):
    owner.user.time_zone = "Asia/Tokyo"
    owner.user.save()
    told = handed.rotation.link_until + timedelta(hours=9)
    assert f"{told:%-d %b}, {told:%H:%M}" in client.get(take_url(handed.token)).text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_names_are_escaped(organization, owner, client, client_of, text):
    organization.name = text
    organization.save()
    type(owner.user).objects.filter(pk=owner.user_id).update(name=text)
    handed = make_rotation(organization, make_key(organization, text, owner=owner).key, link_lasts=DAY)
    other = client_of(make_member(organization, user=make_user()))
    for response in (client.get(take_url(handed.token)), other.get(take_url(handed.token))):
        assert "<script>alert" not in response.text
        assert "<img src=x" not in response.text
    response = client.post(take_url(handed.token))
    assert secret_of(response)
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_who_has_no_account_is_named_by_the_address_that_got_the_mail(organization, vendors):
    response = Client().post(take_url(vendors.token))
    new = organization.keys.get(public_id=secret_of(response).public_id)
    assert new.created_by_label == "vendor@example.net"
    [entry] = entries(organization, AuditAction.ROTATION_TAKE)
    assert (entry.actor, entry.actor_label) == (None, "vendor@example.net")
