"""Sending the owner another link to the new key."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import AuditAction, Rotation
from tests.factories import make_actor, make_key, make_member, make_organization, make_rotation, make_user
from tests.pages import HOSTILE, HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db
BY = make_actor()
DAY = timedelta(days=1)


@pytest.fixture
def owner(organization):
    return make_member(organization, user=make_user("olga@example.com", name="Olga Owner"))


@pytest.fixture
def handed(organization, owner):
    return make_rotation(organization, make_key(organization, "checkout", owner=owner).key, link_lasts=DAY)


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


@pytest.fixture
def send(organization, client):
    def post(rotation, *, headers=None, **form):
        form = {"link_lasts": "60"} | form
        return client.post(url("rotation_link", organization, rotation.pk), form, headers=headers)

    return post


def stored(rotation):
    return Rotation.objects.for_pages().get(pk=rotation.pk)


def token_in(mail):
    [line] = [line for line in mail.body.splitlines() if "/handover/" in line]
    return line.rpartition("/")[2]


def test_the_confirmation_says_to_whom_it_goes(organization, client, handed, mailoutbox):
    address = url("rotation_link", organization, handed.rotation.pk)
    before = snapshot()
    response = client.get(address)
    assert is_whole_page(response)
    assert "olga@example.com" in response.text
    assert "the one before is good no longer" in response.text
    assert is_partial(client.get(address, headers=HTMX))
    assert snapshot() == before
    assert mailoutbox == []


def test_a_new_link_is_sent_and_the_one_before_is_good_no_longer(organization, operator, handed, send, mailoutbox):
    response = send(handed.rotation)
    assert (response.status_code, response["Location"]) == (302, handed.rotation.get_absolute_url())
    assert messages_of(response) == ["A link to the new key was sent to olga@example.com."]
    [mail] = mailoutbox
    assert mail.to == ["olga@example.com"]
    token = token_in(mail)
    assert Rotation.objects.with_token(handed.token) is None
    found = Rotation.objects.with_token(token)
    assert found == handed.rotation
    assert found.link_is_good
    assert abs(found.link_until - timezone.now() - timedelta(hours=1)) < timedelta(minutes=1)
    entry = entries(organization, AuditAction.ROTATION_LINK)[-1]
    assert (entry.actor, entry.key_id) == (operator, handed.rotation.old_key_id)
    assert entry.changes["sent_to"] == [None, "olga@example.com"]
    assert token not in str(entry.changes)
    assert token not in str(response.headers) + str(messages_of(response))


def test_htmx_is_told_to_load_the_rotations_page(handed, send):
    assert send(handed.rotation, headers=HTMX)["HX-Redirect"] == handed.rotation.get_absolute_url()


def test_a_link_that_ran_out_can_be_sent_again(handed, send, mailoutbox):
    Rotation.objects.update(link_until=timezone.now() - DAY)
    send(handed.rotation)
    assert Rotation.objects.with_token(token_in(mailoutbox[0])).link_is_good


def test_it_goes_to_whoever_owns_the_key_now(organization, handed, send, mailoutbox):
    key = handed.rotation.old_key
    key.owner = make_member(organization, user=make_user("nora@example.com"))
    key.save(update_fields=["owner"])
    send(handed.rotation)
    assert mailoutbox[0].to == ["nora@example.com"]
    assert stored(handed.rotation).link_sent_to == "nora@example.com"


@pytest.mark.parametrize("lasts", ["", "0", "-60", "61", "abc", "99999999999", "60.0", "\0", "x" * 5000])
def test_a_time_that_is_no_choice_is_a_422_and_nothing_is_sent(handed, send, mailoutbox, lasts):
    before = snapshot()
    for headers in (None, HTMX):
        response = send(handed.rotation, headers=headers, link_lasts=lasts)
        assert response.status_code == 422
        assert list(response.context["form"].errors) == ["link_lasts"]
    assert snapshot() == before
    assert mailoutbox == []


def test_to_an_owner_without_a_mail_address_nothing_can_be_sent(handed, owner, send, mailoutbox):
    type(owner.user).objects.filter(pk=owner.user_id).update(email="")
    before = snapshot()
    response = send(handed.rotation)
    assert response.status_code == 422
    assert "has no mail address" in response.text
    assert snapshot() == before
    assert mailoutbox == []


def test_to_a_closed_account_nothing_is_sent(handed, owner, send, mailoutbox):
    type(owner.user).objects.filter(pk=owner.user_id).update(is_active=False)
    response = send(handed.rotation)
    assert response.status_code == 422
    assert "The account of Olga Owner is closed. Give the key another owner first." in response.text
    assert mailoutbox == []


@pytest.mark.parametrize("server", ["Unreachable", "Refusing"])
def test_a_mail_server_that_fails_is_told_and_the_link_can_be_sent_again(
    organization, client, handed, send, mail_server, mailoutbox, server
):
    mail_server(server)
    response = send(handed.rotation)
    assert response["Location"] == handed.rotation.get_absolute_url()
    told = "checkout: The mail to olga@example.com could not be sent. Send the link again from the rotation's page."
    assert messages_of(response) == [told]
    assert stored(handed.rotation).awaits_owner
    assert url("rotation_link", organization, handed.rotation.pk) in client.get(handed.rotation.get_absolute_url()).text
    mail_server("")
    send(handed.rotation)
    assert Rotation.objects.with_token(token_in(mailoutbox[0])).link_is_good


@pytest.mark.parametrize("method", ["get", "post"])
def test_once_the_key_was_taken_there_is_nothing_to_send(organization, client, handed, mailoutbox, method):
    handed.rotation.take(handed.token, by=BY)
    before = snapshot()
    response = getattr(client, method)(url("rotation_link", organization, handed.rotation.pk), {"link_lasts": "60"})
    assert response["Location"] == handed.rotation.get_absolute_url()
    assert "There is no key to take by a link" in messages_of(response)[0]
    assert snapshot() == before
    assert mailoutbox == []


def test_of_a_cancelled_rotation_nothing_is_sent(handed, send, mailoutbox):
    handed.rotation.cancel(by=BY)
    before = snapshot()
    assert send(handed.rotation).status_code == 302
    assert snapshot() == before
    assert mailoutbox == []


def test_of_a_key_that_was_shown_nothing_is_sent(organization, send, mailoutbox):
    rotation = make_rotation(organization).rotation
    before = snapshot()
    assert send(rotation).status_code == 302
    assert snapshot() == before
    assert mailoutbox == []


def test_after_the_old_keys_end_the_owner_can_still_be_sent_one(organization, send, mailoutbox):
    rotation = make_rotation(organization, overlap=timedelta(), link_lasts=DAY).rotation
    assert send(rotation).status_code == 302
    assert "The old key is refused already." in mailoutbox[0].body


def test_another_organizations_rotation_is_not_there(send, mailoutbox):
    theirs = make_rotation(make_organization(), link_lasts=DAY).rotation
    before = snapshot()
    assert send(theirs).status_code == 404
    assert snapshot() == before
    assert mailoutbox == []


def test_a_viewer_may_not(organization, viewer, client_of, handed, mailoutbox):
    client = client_of(viewer)
    before = snapshot()
    response = client.post(url("rotation_link", organization, handed.rotation.pk), {"link_lasts": "60"})
    assert response.status_code == 403
    assert snapshot() == before
    assert mailoutbox == []


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_names_are_escaped(organization, client, owner, text):
    rotation = make_rotation(organization, make_key(organization, text, owner=owner).key, link_lasts=DAY).rotation
    for headers in (None, HTMX):
        response = client.get(url("rotation_link", organization, rotation.pk), headers=headers)
        assert "<script>alert" not in response.text
        assert "<img src=x" not in response.text
