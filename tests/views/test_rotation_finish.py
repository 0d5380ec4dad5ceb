"""Ending a rotation: the old key is revoked, when it is safe or when somebody says so."""

import re
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client

from apikeys.models import ApiKey, AuditAction, Ending, Outcome, RevocationReason, Rotation, RotationReason, UsageHour
from tests.factories import (
    make_actor,
    make_event,
    make_key,
    make_old_key,
    make_organization,
    make_overdue_rotation,
    make_rotation,
)
from tests.pages import HOSTILE, HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, soon, url

pytestmark = pytest.mark.django_db
BY = make_actor()
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


@pytest.fixture
def old(organization):
    return make_key(organization, "checkout")


@pytest.fixture
def finish(organization, client):
    def post(rotation, *, headers=None, **form):
        return client.post(url("rotation_finish", organization, rotation.pk), form, headers=headers)

    return post


def stored(thing):
    return type(thing)._default_manager.get(pk=thing.pk)


def test_the_confirmation_is_a_page_and_for_htmx_a_dialog(organization, client, old):
    make_event(old.key)
    rotation = make_rotation(organization, old.key).rotation
    address = url("rotation_finish", organization, rotation.pk)
    before = snapshot()
    response = client.get(address)
    assert is_whole_page(response)
    assert old.key.fingerprint in response.text
    assert is_partial(client.get(address, headers=HTMX))
    assert snapshot() == before


def asked(client, rotation):
    """Return what the confirmation says, in words."""
    text = client.get(url("rotation_finish", rotation.organization, rotation.pk)).text
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def counts(words):
    return re.findall(r"Still on the old key (\d+) On both keys (\d+) Moved (\d+)", words)


def test_while_it_is_not_safe_the_page_says_why_and_what_breaks_and_asks_for_the_name(organization, client, old):
    make_event(old.key, address="192.0.2.1", user_agent="shop/2")
    words = asked(client, make_rotation(organization, old.key).rotation)
    for told in ("Not safe yet", "This will break 1 caller that has not moved", "192.0.2.1", "shop/2"):
        assert told in words, told
    assert "Type checkout to confirm" in words
    assert "Safe to finish" not in words
    assert counts(words) == [("1", "0", "0")]


def test_those_that_have_moved_do_not_break(organization, client, old):
    """Three callers used the old key this week; one of them still needs it, and one needs both."""
    new = make_old_key(organization, DAY)
    for number in (1, 2, 3):
        make_event(old.key, ago=2 * HOUR, address=f"192.0.2.{number}", user_agent="shop/2")
    rotation = make_rotation(organization, old.key).rotation
    Rotation.objects.filter(pk=rotation.pk).update(new_key=new)
    make_event(new, ago=HOUR, address="192.0.2.2")
    make_event(new, ago=HOUR, address="192.0.2.3", user_agent="shop/2")
    make_event(new, ago=HOUR, address="192.0.2.2", user_agent="shop/2")
    make_event(old.key, ago=MINUTE, address="192.0.2.3", user_agent="shop/2")
    words = asked(client, rotation)
    assert "This will break 1 caller that has not moved, and refuse some requests of 1 on both keys" in words
    assert counts(words) == [("1", "1", "2")]
    assert "192.0.2.1 shop/2" in words
    assert "192.0.2.3 shop/2 both keys, old key" in words
    assert "192.0.2.2" not in words
    assert "Type checkout to confirm" in words


def test_only_callers_on_both_keys_break_nobody_wholly_and_the_name_is_asked(organization, client, old):
    new = make_old_key(organization, DAY)
    rotation = make_rotation(organization, old.key).rotation
    Rotation.objects.filter(pk=rotation.pk).update(new_key=new)
    make_event(new, ago=HOUR)
    make_event(old.key, ago=MINUTE)
    words = asked(client, rotation)
    assert "This will refuse some requests of 1 on both keys" in words
    assert "will break" not in words
    assert "Type checkout to confirm" in words


def test_when_all_have_moved_but_the_old_key_was_used_just_now_the_name_is_asked(organization, client, old):
    make_event(old.key, ago=HOUR, address="192.0.2.1")
    started = make_rotation(organization, old.key)
    make_event(started.issued.key, address="192.0.2.1")
    words = asked(client, started.rotation)
    assert "Not safe yet" in words
    assert "Nobody is known to need the old key, but it was used too lately to be sure" in words
    assert "will break" not in words
    assert "Type checkout to confirm" in words


def test_when_it_is_safe_nothing_is_asked(organization, client, old):
    make_event(old.key, ago=3 * DAY, address="192.0.2.1")
    started = make_rotation(organization, old.key)
    make_event(started.issued.key, address="192.0.2.1")
    words = asked(client, started.rotation)
    assert "Safe to finish" in words
    assert "This breaks nobody: every caller has moved" in words
    assert "to confirm" not in words
    assert "will break" not in words


def test_a_caller_that_is_not_expected_back_hinders_nothing(organization, client, old):
    make_event(old.key, ago=3 * DAY, address="192.0.2.1")
    started = make_rotation(organization, old.key)
    make_event(started.issued.key, address="192.0.2.2")
    words = asked(client, started.rotation)
    assert "Safe to finish" in words
    assert "This should break nobody: no caller that has not moved is expected back" in words
    assert counts(words) == [("1", "0", "1")]
    assert "to confirm" not in words


def test_a_caller_that_was_only_ever_refused_with_both_keys_has_nothing_to_lose(organization, client, old):
    started = make_rotation(organization, old.key)
    make_event(started.issued.key, address="192.0.2.2")
    for key in (old.key, started.issued.key):
        make_event(key, address="192.0.2.1", outcome=Outcome.NETWORK_DENIED)
    words = asked(client, started.rotation)
    assert "Safe to finish" in words
    assert "to confirm" not in words


def test_more_callers_than_fit_are_counted(organization, client, old):
    for number in range(7):
        make_event(old.key, address=f"192.0.2.{number}")
    words = asked(client, make_rotation(organization, old.key).rotation)
    assert "This will break 7 callers that have not moved" in words
    assert "and 2 more" in words


def test_afterwards_it_says_how_many_had_not_moved(organization, old, finish):
    for number in range(2):
        make_event(old.key, address=f"192.0.2.{number}")
    response = finish(make_rotation(organization, old.key).rotation, confirmation="checkout")
    assert messages_of(response) == [
        "The old key of checkout is revoked. 2 callers had not moved. Who still tries it is below."
    ]


def test_the_old_key_is_refused_at_once_and_the_new_one_goes_on(organization, operator, verifier, old, finish):
    started = make_rotation(organization, old.key)
    response = finish(started.rotation)
    assert (response.status_code, response["Location"]) == (302, started.rotation.get_absolute_url())
    assert messages_of(response) == ["The old key of checkout is revoked. Who still tries it is below."]
    assert verifier.verify(organization, old.secret.text).json()["outcome"] == "revoked"
    assert verifier.verify(organization, started.issued.secret.text).json()["outcome"] == "valid"
    found = stored(started.rotation)
    assert (found.ending, found.closed_by_label) == (Ending.FINISHED, operator.email)
    [finished] = entries(organization, AuditAction.ROTATION_FINISH)
    [revoked] = entries(organization, AuditAction.KEY_REVOKE)
    assert (finished.actor, finished.key_id) == (revoked.actor, revoked.key_id) == (operator, old.key.pk)
    assert started.issued.key.fingerprint in revoked.reason


@pytest.mark.parametrize(
    ("reason", "written"),
    [
        (RotationReason.REGULAR, RevocationReason.REPLACED),
        (RotationReason.EXPIRY, RevocationReason.REPLACED),
        (RotationReason.COMPROMISE, RevocationReason.LEAKED),
        (RotationReason.INCIDENT, RevocationReason.INCIDENT),
    ],
)
def test_why_it_was_rotated_is_why_it_is_revoked(organization, old, finish, reason, written):
    finish(make_rotation(organization, old.key, reason=reason).rotation)
    assert stored(old.key).revoked_reason == written


def test_htmx_is_told_to_load_the_rotations_page(organization, old, finish):
    rotation = make_rotation(organization, old.key).rotation
    assert finish(rotation, headers=HTMX)["HX-Redirect"] == rotation.get_absolute_url()


@pytest.mark.parametrize("typed", [None, "", "Checkout", "check", "\0", "x" * 300, "<script>alert(1)</script>"])
def test_a_key_in_use_is_not_ended_before_its_name_is_typed(organization, old, finish, typed):
    make_event(old.key)
    rotation = make_rotation(organization, old.key).rotation
    before = snapshot()
    for headers in (None, HTMX):
        response = finish(rotation, headers=headers, **({} if typed is None else {"confirmation": typed}))
        assert response.status_code == 422
        assert list(response.context["form"].errors) == ["confirmation"]
        assert "<script>alert" not in response.text
    assert snapshot() == before
    assert finish(rotation, confirmation="checkout").status_code == 302
    assert stored(old.key).revoked_at


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_any_name_can_be_typed_and_is_escaped(organization, client, finish, name):
    key = make_key(organization, name).key
    make_event(key)
    rotation = make_rotation(organization, key).rotation
    for headers in (None, HTMX):
        text = client.get(url("rotation_finish", organization, rotation.pk), headers=headers).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
    assert finish(rotation, confirmation=name).status_code == 302
    assert stored(key).revoked_at


def test_finishing_twice_finishes_once_and_says_by_whom(organization, operator, old, finish):
    rotation = make_rotation(organization, old.key).rotation
    finish(rotation)
    before = snapshot()
    response = finish(rotation)
    assert response["Location"] == rotation.get_absolute_url()
    [told] = messages_of(response)
    assert "finished" in told
    assert operator.email in told
    assert snapshot() == before


def test_after_the_deadline_it_is_written_down_as_what_it_was(organization, client, finish):
    rotation = make_overdue_rotation(organization, make_key(organization, "checkout").key).rotation
    make_event(rotation.old_key, ago=2 * HOUR)
    ended = rotation.old_key.expires_at
    words = asked(client, rotation)
    assert "to confirm" not in words, "nobody is refused who is not refused already"
    assert "will break" not in words
    assert "is refused since" in words
    assert finish(rotation).status_code == 302
    assert stored(rotation).ending == Ending.DEADLINE
    assert stored(rotation.old_key).revoked_at == ended


def test_one_that_finished_by_itself_says_so(organization, old, finish):
    rotation = make_rotation(organization, old.key).rotation
    rotation.finish(by=BY, ending=Ending.SAFE)
    assert messages_of(finish(rotation)) == ["This rotation finished by itself."]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda rotation: rotation.cancel(by=BY), "cancelled"),
        (lambda rotation: rotation.old_key.revoke(reason=RevocationReason.LEAKED, by=BY), "the old key was revoked"),
        (lambda rotation: rotation.new_key.revoke(reason=RevocationReason.LEAKED, by=BY), "the new key was revoked"),
    ],
)
def test_one_that_ended_otherwise_says_how_and_by_whom(organization, old, finish, end, words):
    rotation = make_rotation(organization, old.key).rotation
    end(rotation)
    before = snapshot()
    response = finish(rotation)
    [told] = messages_of(response)
    assert told.startswith("This rotation is over:")
    assert words in told
    assert "by command line" in told
    assert snapshot() == before


def test_finished_while_somebody_has_the_form_to_extend_it_open(organization, client, old, finish):
    """Two people: the one who is second is led to what the first one did."""
    rotation = make_rotation(organization, old.key).rotation
    form = {"end": f"{soon(20):%Y-%m-%dT%H:%M}", "seen": rotation.deadline.isoformat()}
    finish(rotation)
    response = client.post(url("rotation_extend", organization, rotation.pk), form)
    assert response["Location"] == rotation.get_absolute_url()
    assert "finished" in messages_of(response)[0]
    assert stored(old.key).revoked_at


def test_extended_while_somebody_has_the_form_to_finish_it_open(organization, old, finish):
    rotation = make_rotation(organization, old.key).rotation
    rotation.extend(soon(20), by=BY)
    assert finish(rotation).status_code == 302
    assert stored(rotation).ending == Ending.FINISHED


def test_a_rotation_whose_key_nobody_took_yet_can_be_finished_too(organization, finish):
    key = make_key(organization).key
    started = make_rotation(organization, key, link_lasts=DAY)
    assert finish(started.rotation).status_code == 302
    assert stored(key).revoked_note == "Its owner gets a new key by a link"
    assert Rotation.objects.for_pages().get(pk=started.rotation.pk).link_is_good


def test_a_paused_old_key_can_be_finished(organization, old, finish):
    rotation = make_rotation(organization, old.key).rotation
    stored(old.key).pause(by=BY)
    assert finish(rotation).status_code == 302
    assert stored(old.key).status == "revoked"


def test_a_database_that_fails_on_the_way_leaves_both_keys_working(organization, operator, verifier, old):
    started = make_rotation(organization, old.key)
    client = Client(raise_request_exception=False)
    client.force_login(operator)

    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT") and AuditAction.KEY_REVOKE in map(str, params):
            raise OperationalError("disk full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(full):
        assert client.post(url("rotation_finish", organization, started.rotation.pk)).status_code == 503
    assert stored(started.rotation).is_open
    for secret in (old.secret, started.issued.secret):
        assert verifier.verify(organization, secret.text).json()["outcome"] == "valid"


def test_another_organizations_rotation_is_not_there(finish):
    theirs = make_rotation(make_organization()).rotation
    before = snapshot()
    assert finish(theirs).status_code == 404
    assert snapshot() == before


def test_a_viewer_may_not(organization, viewer, client_of, old):
    rotation = make_rotation(organization, old.key).rotation
    client = client_of(viewer)
    before = snapshot()
    assert client.post(url("rotation_finish", organization, rotation.pk)).status_code == 403
    assert snapshot() == before
    assert ApiKey.objects.get(pk=old.key.pk).is_usable


def test_a_caller_that_comes_once_a_month_is_asked_for_too(organization, client, old, finish):
    for days in (70, 40, 10):
        make_event(old.key, ago=days * DAY, address="192.0.2.30", user_agent="monthly/1")
    for _ in UsageHour.objects.roll_up():
        pass
    started = make_rotation(organization, old.key)
    make_event(started.issued.key)
    response = finish(started.rotation)
    assert response.status_code == 422
    assert "may come back" in " ".join(response.text.split())
    assert stored(old.key).is_usable
    assert finish(started.rotation, confirmation="checkout").status_code == 302
