"""Mail to people: what it says, and that a mail that is not sent stops nothing."""

import logging
import re
from datetime import UTC, timedelta

import pytest

from apikeys.models import Clock, Rotation
from apikeys.notifiers import send_key_links
from tests.factories import make_key, make_member, make_organization, make_rotation, make_user
from tests.pages import HOSTILE

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def hand_over(organization):
    """Start a rotation whose new key goes to somebody by a link, as (rotation, token)."""

    def start(name="checkout", *, address="olga@example.com", contact="", **terms):
        owner = None if contact else make_member(organization, user=make_user(address))
        key = make_key(organization, name, owner=owner, owner_contact=contact).key
        started = make_rotation(organization, key, link_lasts=DAY, **terms)
        return started.rotation, started.token

    return start


def test_the_mail_holds_the_link_and_says_of_what_by_whom_and_until_when(settings, hand_over, mailoutbox):
    settings.BASE_URL = "https://keys.example.com"
    rotation, token = hand_over()
    assert send_key_links([(rotation, token)]) == []
    [mail] = mailoutbox
    assert (mail.to, mail.cc, mail.bcc) == (["olga@example.com"], [], [])
    assert mail.subject == "A new API key for checkout"
    lines = mail.body.splitlines()
    assert f"https://keys.example.com/handover/{token}" in lines
    assert lines[0] == f"command line rotates the API key checkout ({rotation.old_key.fingerprint}) of Acme."
    assert f"until {rotation.link_until.astimezone(UTC):%-d %B %Y, %H:%M} UTC." in mail.body
    assert f"Both keys work until {rotation.deadline.astimezone(UTC):%-d %B %Y, %H:%M} UTC." in mail.body
    assert mail.content_subtype == "plain"


def test_the_mail_holds_no_key(organization, hand_over, mailoutbox):
    rotation, token = hand_over()
    send_key_links([(rotation, token)])
    assert not re.search(rf"{organization.key_prefix}_prod_[0-9A-Za-z]{{12}}_", str(mailoutbox[0].message()))


def test_a_clock_that_waits_is_told(hand_over, mailoutbox):
    rotation, token = hand_over(clock=Clock.FIRST_USE, overlap=timedelta(hours=4))
    send_key_links([(rotation, token)])
    assert "The old key works until 4 hours after the first use of the new one, and until" in mailoutbox[0].body


def test_that_the_old_key_is_refused_already_is_told(hand_over, mailoutbox):
    rotation, token = hand_over(overlap=timedelta())
    send_key_links([(rotation, token)])
    assert "The old key is refused already." in mailoutbox[0].body
    assert "Both keys work" not in mailoutbox[0].body


def test_a_contact_without_an_account_gets_it_too(hand_over, mailoutbox):
    send_key_links([hand_over(contact="vendor@example.net")])
    assert mailoutbox[0].to == ["vendor@example.net"]


def test_each_owner_gets_their_own_link_alone(hand_over, mailoutbox):
    links = [hand_over("one", address="one@example.com"), hand_over("two", address="two@example.com")]
    send_key_links(links)
    for (_, token), mail, address in zip(links, mailoutbox, ["one@example.com", "two@example.com"], strict=True):
        assert mail.to == [address]
        assert token in mail.body
        assert mail.body.count("/handover/") == 1


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_any_name_arrives_as_it_is(hand_over, mailoutbox, name):
    send_key_links([hand_over(name)])
    [mail] = mailoutbox
    assert mail.body.splitlines()[0].startswith(f"command line rotates the API key {name} (")
    assert mail.subject.startswith(f"A new API key for {name[:50]}")
    assert "\n" not in mail.subject
    assert mail.message().as_bytes()


@pytest.mark.parametrize("server", ["Unreachable", "Refusing"])
def test_a_server_that_fails_is_answered_and_logged_without_the_link(
    hand_over, mail_server, mailoutbox, caplog, server
):
    mail_server(server)
    rotation, token = hand_over()
    with caplog.at_level(logging.DEBUG):
        assert send_key_links([(rotation, token)]) == [rotation]
    assert f"The mail of rotation {rotation.pk} was not sent" in caplog.text
    assert token not in caplog.text
    assert "olga@example.com" not in caplog.text
    assert mailoutbox == []


def test_one_mail_that_fails_stops_no_other(hand_over, mail_server, mailoutbox):
    mail_server("Choosy")
    bad = hand_over("bad", address="bad@nowhere.example")
    links = [hand_over("one", address="one@example.com"), bad, hand_over("two", address="two@example.com")]
    assert send_key_links(links) == [bad[0]]
    assert [mail.to for mail in mailoutbox] == [["one@example.com"], ["two@example.com"]]


def test_without_links_nothing_is_sent(mailoutbox):
    assert send_key_links([]) == []
    assert mailoutbox == []


def test_the_database_holds_no_token(hand_over):
    _, token = hand_over()
    [digest] = Rotation.objects.values_list("link_digest", flat=True)
    assert token.encode() not in bytes(digest)


def test_two_organizations_are_named_each(mailoutbox):
    for name in ("Acme", "Elsewhere"):
        started = make_rotation(make_organization(name=name), link_lasts=DAY)
        send_key_links([(started.rotation, started.token)])
    assert [mail.body.splitlines()[0].rpartition(" of ")[2] for mail in mailoutbox] == ["Acme.", "Elsewhere."]
