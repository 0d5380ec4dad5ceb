"""The mails that tell of alerts, as a mail server gets them."""

import re
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import (
    Alert,
    AlertKind,
    AlertMail,
    AlertSettings,
    ApiKey,
    Delivery,
    DeliveryState,
    Role,
    Sighting,
)
from apikeys.sending import send_now
from tests.factories import make_actor, make_alert, make_key, make_member, make_organization
from tests.mailbox import mail_server
from tests.pages import url
from tests.ports import free_port

pytestmark = pytest.mark.django_db
BY = make_actor()
DAY = timedelta(days=1)


@pytest.fixture
def mailbox(settings):
    with mail_server() as made:
        settings.MAILERS = made.mailers
        settings.DEFAULT_FROM_EMAIL = "keyadmin <alerts@keys.example.com>"
        yield made


@pytest.fixture
def send(mailbox):
    """Return what sends all mails that wait, whether due or not, and returns them by their recipient."""

    def send_all():
        del mailbox.mails[:]
        for delivery in Delivery.objects.open().filter(last_event__isnull=True):
            newest = Alert.objects.filter(organization=delivery.organization_id).latest("events__pk")
            Delivery.objects.filter(pk=delivery.pk).update(last_event=newest.events.latest("pk").pk)
            delivery.refresh_from_db()
            send_now(delivery)
        return {mail["To"]: mail for mail in mailbox.mails}

    return send_all


def parts(mail):
    """Return the text of a mail's plain and HTML part."""
    plain, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    return plain, html


def founder(organization):
    return organization.members.get(user__email="founder@example.com")


def test_both_parts_say_what_was_seen_of_which_key_and_how_to_find_it(organization, send, client_of):
    issued = make_key(organization, "Order sync", owner=founder(organization))
    alert = make_alert(organization, AlertKind.UNUSUAL_USAGE, issued.key)
    mail = send()["founder@example.com"]
    assert mail["Subject"] == "[Acme] Urgent: Unusual usage: Order sync"
    assert mail["From"] == "keyadmin <alerts@keys.example.com>"
    assert mail["Auto-Submitted"] == "auto-generated"
    for part in parts(mail):
        assert "Order sync" in part
        assert issued.key.fingerprint in part
        assert alert.code in part
        assert "4,120 requests" in part
        assert "usually 300 to 900" in part
        assert "because you are an admin of Acme" in part
        assert "To change that: In keyadmin: Alerts, then My mails." in part
        # Nothing to press, and nothing to use.
        assert not re.search(r"https?:|www\.|href|<img|localhost", part)
        assert issued.key.public_id not in part
    found = client_of(founder(organization)).post(url("alert_find", organization), {"q": alert.code})
    assert found["Location"] == alert.get_absolute_url()


def test_a_name_is_no_markup_no_link_and_no_second_header(organization, send):
    key = make_key(organization, owner=founder(organization)).key
    name = "<b>x</b> https://evil.example/login www.evil.example \r\nBcc: other@example.com"
    ApiKey.objects.filter(pk=key.pk).update(name=name)
    make_alert(organization, AlertKind.EXPIRY, ApiKey.objects.get(pk=key.pk), level=7)
    mail = send()["founder@example.com"]
    assert mail["Bcc"] is None
    assert "\n" not in mail["Subject"]
    plain, html = parts(mail)
    for part in (plain, html, mail["Subject"]):
        assert "https[:]//evil.example" in part
        assert "https://" not in part
        assert "www.evil" not in part
    assert "&lt;b&gt;x" in html
    assert "<b>x" in plain


def test_a_second_attempt_is_the_same_mail(organization, send, mailbox):
    make_alert(organization, AlertKind.EXPIRY, make_key(organization, owner=founder(organization)).key)
    send()
    delivery = Delivery.objects.get()
    delivery.resend(by=BY)
    delivery.refresh_from_db()
    send_now(delivery)
    first, second = mailbox.mails
    assert first["Message-ID"] == second["Message-ID"] == f"<{delivery.pk}@keys.example.com>"
    assert parts(first) == parts(second)


def test_who_is_told_what_and_why(organization, send):
    """Admins and operators of abuse, owners of their own keys, whoever is named as owner, and nobody else."""
    operator, viewer, owner = (make_member(organization, role) for role in (Role.OPERATOR, Role.VIEWER, Role.VIEWER))
    mine = make_alert(organization, AlertKind.ABUSE, make_key(organization, "mine", owner=owner).key)
    named = make_key(organization, "named", owner_contact="team@elsewhere.example").key
    other = make_alert(organization, AlertKind.ABUSE, named)
    elsewhere = make_alert(make_organization(), AlertKind.ABUSE)
    mails = send()
    told = {address: tuple(one.code in parts(mail)[0] for one in (mine, other)) for address, mail in mails.items()}
    everything = {"founder@example.com", operator.user.email}
    assert {address for address, codes in told.items() if codes == (True, True)} == everything
    assert told[owner.user.email] == (True, False)
    assert told["team@elsewhere.example"] == (False, True)
    assert viewer.user.email not in told
    assert not any(elsewhere.code in parts(mails[address])[0] for address in everything)
    assert "because you own these API keys of Acme." in parts(mails[owner.user.email])[0]
    text = parts(mails["team@elsewhere.example"])[0]
    assert "because you are named as the owner of these API keys of Acme." in text
    assert "Ask an admin of Acme to name somebody else." in text


def test_what_is_over_when_it_is_sent_is_not_told(organization, send, mailbox):
    owner = founder(organization)
    over, still = (make_alert(organization, AlertKind.EXPIRY, make_key(organization, owner=owner).key) for _ in "ab")
    over.resolve(note="Prolonged", by=BY)
    [plain, _] = parts(send()["founder@example.com"])
    assert still.code in plain
    assert over.code not in plain
    make_alert(organization, AlertKind.EXPIRY, make_key(organization, owner=owner).key).resolve(note="Too", by=BY)
    assert send() == {}
    assert Delivery.objects.latest("created_at").state == DeliveryState.SENT


def test_who_wants_no_mail_by_then_or_has_left_gets_none(organization, send):
    quiet, left, gone = (make_member(organization, Role.ADMIN) for _ in range(3))
    make_alert(organization, AlertKind.ABUSE)
    type(quiet).objects.filter(pk=quiet.pk).update(alert_mail=AlertMail.NONE)
    gone.user.is_active = False
    gone.user.save()
    left.remove(by=BY)
    assert not {one.user.email for one in (quiet, left, gone)} & set(send())


def test_the_digest_and_what_does_not_wait_are_two_mails(organization, mailbox, send):
    owner = founder(organization)
    key = make_key(organization, owner=owner).key
    urgent, other = (make_alert(organization, kind, key) for kind in (AlertKind.ABUSE, AlertKind.EXPIRY))
    send()
    first, second = sorted(mailbox.mails, key=lambda mail: urgent.code not in parts(mail)[0])
    assert "that should not wait" in parts(first)[0]
    assert "Urgent" in first["Subject"]
    assert other.code not in parts(first)[0]
    assert "since the last digest" in parts(second)[0]
    assert urgent.code not in parts(second)[0]


def test_urgent_mails_are_due_at_once_and_others_with_the_digest(organization):
    before = timezone.now()
    make_alert(organization, AlertKind.ABUSE, make_key(organization, owner=founder(organization)).key)
    assert Delivery.objects.get().due_at <= timezone.now()
    make_alert(organization, AlertKind.EXPIRY, make_key(organization, owner=founder(organization)).key)
    digest = Delivery.objects.get(is_urgent=False)
    assert digest.due_at == AlertSettings.objects.of(organization).next_digest(digest.created_at)
    assert before < digest.due_at <= before + DAY + timedelta(hours=2)


def test_a_server_that_is_down_is_tried_again(organization, settings, mailbox):
    working = settings.MAILERS
    options = working["default"]["OPTIONS"] | {"port": free_port()}
    settings.MAILERS = {"default": working["default"] | {"OPTIONS": options}}
    make_alert(organization, AlertKind.ABUSE, make_key(organization, owner=founder(organization)).key)
    delivery = Delivery.objects.get()
    delivery.last_event = Alert.objects.get().events.get().pk
    send_now(delivery)
    assert delivery.state == DeliveryState.RETRYING
    assert delivery.log.get().error == "The mail server failed: [Errno 111] Connection refused"
    settings.MAILERS = working
    send_now(delivery)
    assert delivery.state == DeliveryState.SENT
    assert len(mailbox.mails) == 1


def test_a_server_that_hangs_is_not_waited_for_long(organization, mailbox):
    mailbox.hanging.add("founder@example.com")
    make_alert(organization, AlertKind.ABUSE, make_key(organization, owner=founder(organization)).key)
    delivery = Delivery.objects.get()
    delivery.last_event = Alert.objects.get().events.get().pk
    began = time.monotonic()
    send_now(delivery)
    assert time.monotonic() - began < 20
    assert delivery.state == DeliveryState.RETRYING
    assert "timed out" in delivery.log.get().error


def test_twenty_thousand_alerts_are_one_short_mail(organization, send, mailbox):
    now = timezone.now()
    sightings = [
        Sighting(None, now, {"job": f"job {number}", "limit_seconds": 60}, subject=f"job {number}")
        for number in range(20_000)
    ]
    Alert.objects.raise_all(organization, AlertKind.JOB_LATE, sightings, now=now)
    assert Delivery.objects.count() == 1
    mail = send()["founder@example.com"]
    assert len(mailbox.mails) == 1
    assert mail["Subject"].endswith(" and 19,999 more")
    for part in parts(mail):
        assert part.count("Scheduled job not running") <= 22
        assert len(part) < 20_000
        assert "20,000" in part
        assert "and 19,980 more, in keyadmin under Alerts." in part
