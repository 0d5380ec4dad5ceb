"""Starting to rotate a key: why, for how long both work, and who gets the new one."""

import logging
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from apikeys import key_secret
from apikeys.models import ApiKey, AuditAction, Clock, Ending, Rotation, RotationReason, Session
from apikeys.models.rotation import LONGEST_WAIT, MAX_LENGTH
from apikeys.rotation_forms import OVERLAPS, minutes_of
from tests.factories import (
    make_actor,
    make_event,
    make_expired_key,
    make_key,
    make_member,
    make_old_key,
    make_organization,
    make_overdue_rotation,
    make_revoked_key,
    make_rotation,
    make_user,
)
from tests.pages import HOSTILE, HTMX, entries, is_whole_page, messages_of, rotate_form, snapshot, soon, url

pytestmark = pytest.mark.django_db
BY = make_actor()
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


@pytest.fixture
def rotate(organization, client):
    def post(key, *, headers=None, **form):
        return client.post(url("key_rotate", organization, key.public_id), rotate_form(**form), headers=headers)

    return post


@pytest.fixture
def ask(organization, client):
    return lambda key, **query: client.get(url("key_rotate", organization, key.public_id, **query))


def stored(key):
    return ApiKey.objects.get(pk=key.pk)


def local(moment):
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M}"


def near(first, second):
    return abs(first - second) < MINUTE


# The form


def test_the_form_says_who_uses_the_key_and_changes_nothing(organization, ask):
    key = make_key(organization, "checkout").key
    make_event(key, address="192.0.2.1", user_agent="shop/2")
    before = snapshot()
    response = ask(key)
    assert is_whole_page(response)
    for told in ("checkout", key.fingerprint, "its end will break 1 caller", "192.0.2.1", "shop/2"):
        assert told in response.text, told
    assert 'method="post"' in response.text
    assert snapshot() == before


@pytest.mark.parametrize(
    ("reason", "overlap"),
    [
        ("", 7 * DAY),
        ("regular", 7 * DAY),
        ("expiry", 7 * DAY),
        ("compromise", timedelta()),
        ("incident", timedelta()),
        ("nonsense", 7 * DAY),
        ("<script>alert(1)</script>", 7 * DAY),
    ],
)
def test_somebody_else_may_have_the_key_so_there_is_no_overlap_unless_one_is_chosen(organization, ask, reason, overlap):
    response = ask(make_key(organization).key, reason=reason)
    assert f'<option value="{minutes_of(overlap)}" selected>' in response.text
    [current] = [one["label"] for one in response.context["reasons"] if one["current"]]
    assert current == RotationReason(reason if reason in RotationReason.values else "regular").label
    assert "<script>alert" not in response.text


def test_each_reason_is_a_link_that_chooses_it_without_javascript(organization, client, ask):
    response = ask(make_key(organization).key)
    for one in response.context["reasons"]:
        assert client.get(one["url"]).context["form"]["reason"].value() in RotationReason.values
        assert f'<a href="{one["url"]}"' in response.text


def test_the_new_keys_own_end_is_named_by_the_old_ones(organization, ask):
    assert "Never, as the old key" in ask(make_key(organization).key).text
    old = make_old_key(organization, 60 * DAY, expires_at=soon(30))
    assert "In 90 days, as long as the old key was to live" in ask(old).text


def test_the_link_names_who_would_get_it(organization, ask):
    owner = make_member(organization, user=make_user(name="Olga Owner"))
    assert "Olga Owner, by a link in a mail" in ask(make_key(organization, owner=owner).key).text


# What it does


def test_both_keys_work_and_the_new_one_is_shown_once(organization, verifier, rotate):
    old = make_key(organization, "checkout", networks=["127.0.0.0/8"], rate_limit=(5, 1, 9), expires_at=soon(60))
    response = rotate(old.key, note="Yearly")
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    text = response.context["secret"]
    rotation = Rotation.objects.get()
    assert rotation.get_absolute_url() in response.text
    assert old.secret.text not in response.text
    for secret in (old.secret.text, text):
        assert verifier.verify(organization, secret).json()["outcome"] == "valid"
    new = organization.keys.get(public_id=key_secret.parse(text).public_id)
    facts = {name: value for name, value in old.key.facts().items() if name != "expires_at"}
    assert new.facts() | facts == new.facts()
    assert (new.replaces, rotation.new_key, rotation.note) == (old.key, new, "Yearly")
    assert near(stored(old.key).expires_at, timezone.now() + 7 * DAY)


def test_it_is_recorded_by_whom_and_on_what_terms(organization, operator, rotate):
    old = make_key(organization).key
    before = len(entries(organization))
    rotate(old, note="Yearly")
    new = organization.keys.get(replaces=old)
    made = [(entry.action, entry.key_id, entry.actor) for entry in entries(organization)[before:]]
    assert made == [
        (AuditAction.ROTATION_START, old.pk, operator),
        (AuditAction.KEY_ISSUE, new.pk, operator),
        (AuditAction.KEY_SHOW, new.pk, operator),
    ]
    [entry] = entries(organization, AuditAction.ROTATION_START)
    assert entry.reason == "Yearly"
    assert entry.changes["why"] == [None, "Regular practice"]


def test_the_new_key_is_nowhere_but_on_that_page(organization, client, rotate, caplog):
    with caplog.at_level(logging.DEBUG):
        secret = key_secret.parse(rotate(make_key(organization).key).context["secret"])
    rotation = Rotation.objects.get()
    pages = [client.get(rotation.get_absolute_url()), client.get(rotation.old_key.get_absolute_url())]
    pages += [client.get(rotation.new_key.get_absolute_url()), client.get(url("audit_list", organization))]
    pages += [client.get(url("key_rotate", organization, rotation.old_key.public_id), follow=True)]
    sessions = [str(session.get_decoded()) for session in Session.objects.all()]
    for text in [*(page.text for page in pages), str(snapshot()), *sessions, caplog.text]:
        assert secret.secret not in text


@pytest.mark.parametrize("overlap", OVERLAPS[1:])
def test_both_work_for_as_long_as_is_chosen(organization, rotate, overlap):
    key = make_key(organization).key
    rotate(key, overlap=minutes_of(overlap))
    assert near(stored(key).expires_at, timezone.now() + overlap)


def test_without_overlap_the_old_key_is_refused_at_once(organization, verifier, rotate):
    old = make_key(organization)
    response = rotate(old.key, reason="compromise", overlap="0")
    assert response.status_code == 200
    assert verifier.verify(organization, old.secret.text).json()["outcome"] == "revoked"
    assert verifier.verify(organization, response.context["secret"]).json()["outcome"] == "valid"
    assert "The old key is refused since" in response.text
    assert Rotation.objects.get().ending == Ending.FINISHED


def test_the_clock_can_wait_for_the_first_use(organization, rotate):
    key = make_key(organization).key
    response = rotate(key, overlap="240", clock="first_use")
    assert near(stored(key).expires_at, timezone.now() + LONGEST_WAIT + 4 * HOUR)
    assert "for 4 hours after the first use of the new one" in response.text
    used = make_event(Rotation.objects.get().new_key)
    assert stored(key).expires_at == used.at + 4 * HOUR


def test_a_hard_end_is_the_latest(organization, rotate):
    key, end = make_key(organization).key, soon(3).replace(second=0, microsecond=0)
    rotate(key, latest=local(end))
    assert stored(key).expires_at == end
    other = make_key(organization).key
    rotate(other, latest=local(end), clock="first_use")
    assert stored(other).expires_at == end


def test_a_hard_end_is_read_in_the_time_zone_of_whoever_writes_it(organization, operator, rotate):
    type(operator).objects.filter(pk=operator.pk).update(time_zone="Asia/Tokyo")
    key, end = make_key(organization).key, soon(3).replace(second=0, microsecond=0)
    rotate(key, latest=local(end + 9 * HOUR))
    assert stored(key).expires_at == end


def test_the_overlap_never_lengthens_the_old_keys_own_expiry(organization, rotate):
    own = soon(2)
    key = make_key(organization, expires_at=own).key
    rotate(key, overlap=minutes_of(90 * DAY), expires="365")
    assert stored(key).expires_at == own


@pytest.mark.parametrize(("finishes", "by_itself"), [("deadline", False), ("safe", True)])
def test_it_finishes_as_is_chosen(organization, rotate, finishes, by_itself):
    rotate(make_key(organization).key, finishes=finishes)
    assert Rotation.objects.get().finishes_when_safe == by_itself


def test_the_new_keys_end_is_as_chosen(organization, rotate):
    def end_of(**form):
        old = make_old_key(organization, 60 * DAY, expires_at=soon(30))
        rotate(old, **form)
        return Rotation.objects.get(old_key=old).new_key.expires_at

    assert near(end_of(expires="same"), timezone.now() + 90 * DAY)
    assert near(end_of(expires="180"), timezone.now() + 180 * DAY)
    assert end_of(expires="never") is None
    assert end_of(expires="date", expires_on="2099-12-31") == datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_htmx_gets_the_same_page(organization, rotate):
    """The form is no dialog: htmx is not asked to send it."""
    response = rotate(make_key(organization).key, headers=HTMX)
    assert is_whole_page(response)
    assert "no-store" in response["Cache-Control"]


# A key in use


@pytest.mark.parametrize("typed", ["", "Checkout", "check", "\0", "x" * 300, "<script>alert(1)</script>"])
def test_a_key_in_use_does_not_end_at_once_before_its_name_is_typed(organization, ask, rotate, typed):
    key = make_key(organization, "checkout").key
    make_event(key, address="192.0.2.1")
    text = ask(key, reason="compromise").text
    for told in ("its end will break 1 caller", "192.0.2.1", "Type checkout to confirm", "the old key ends at once"):
        assert told in text, told
    before = snapshot()
    response = rotate(key, reason="compromise", overlap="0", confirmation=typed)
    assert response.status_code == 422
    assert list(response.context["form"].errors) == ["confirmation"]
    assert "<script>alert" not in response.text
    assert snapshot() == before
    assert rotate(key, reason="compromise", overlap="0", confirmation="checkout").status_code == 200
    assert stored(key).revoked_at


@pytest.mark.parametrize("form", [{"overlap": "60"}, {"overlap": "0", "clock": "first_use"}])
def test_with_time_to_move_the_name_is_not_asked(organization, rotate, form):
    key = make_key(organization).key
    make_event(key)
    assert rotate(key, reason="compromise", **form).status_code == 200


def test_of_an_idle_key_the_name_is_not_asked(organization, ask, rotate):
    key = make_key(organization).key
    make_event(key, ago=8 * DAY)
    assert "to confirm" not in ask(key, reason="compromise").text
    assert rotate(key, reason="compromise", overlap="0").status_code == 200


# By a link


def test_by_a_link_nobody_sees_the_key_and_the_owner_gets_a_mail(organization, client, rotate, mailoutbox):
    owner = make_member(organization, user=make_user("olga@example.com"))
    key = make_key(organization, "checkout", owner=owner).key
    response = rotate(key, handover="link", link_lasts="60")
    rotation = Rotation.objects.get()
    assert (response.status_code, response["Location"]) == (302, rotation.get_absolute_url())
    assert messages_of(response) == ["A link to the new key was sent to olga@example.com."]
    assert organization.keys.count() == 1
    assert near(rotation.link_until, timezone.now() + HOUR)
    [mail] = mailoutbox
    assert (mail.to, mail.subject) == (["olga@example.com"], "A new API key for checkout")
    [line] = [line for line in mail.body.splitlines() if "/handover/" in line]
    token = line.rpartition("/")[2]
    assert Rotation.objects.with_token(token) == rotation
    for text in (client.get(rotation.get_absolute_url()).text, str(response.headers), str(snapshot())):
        assert token not in text


def test_by_a_link_a_key_that_may_be_leaked_ends_at_once_all_the_same(organization, verifier, rotate, mailoutbox):
    old = make_key(organization, "checkout")
    rotate(old.key, reason="compromise", overlap="0", handover="link")
    assert verifier.verify(organization, old.secret.text).json()["outcome"] == "revoked"
    assert "The old key is refused already." in mailoutbox[0].body
    assert Rotation.objects.for_pages().get().link_is_good


def test_an_owner_without_a_mail_address_gets_no_link(organization, rotate, mailoutbox):
    owner = make_member(organization, user=make_user(name="Olga Owner"))
    type(owner.user).objects.filter(pk=owner.user_id).update(email="")
    key = make_key(organization, owner=owner).key
    before = snapshot()
    response = rotate(key, handover="link")
    assert response.status_code == 422
    told = "Olga Owner has no mail address. Show the new key here instead."
    assert response.context["form"].errors == {"link_lasts": [told]}
    assert snapshot() == before
    assert mailoutbox == []
    assert rotate(key).status_code == 200


def test_an_owner_with_a_closed_account_gets_no_link(organization, rotate, mailoutbox):
    owner = make_member(organization, user=make_user(name="Olga Owner"))
    key = make_key(organization, owner=owner).key
    type(owner.user).objects.filter(pk=owner.user_id).update(is_active=False)
    response = rotate(key, handover="link")
    assert "The account of Olga Owner is closed." in response.context["form"].errors["link_lasts"][0]
    assert mailoutbox == []


@pytest.mark.parametrize("server", ["Unreachable", "Refusing"])
def test_a_mail_server_that_fails_is_told_and_the_rotation_stays(
    organization, client, rotate, mail_server, mailoutbox, server
):
    mail_server(server)
    key = make_key(organization, "checkout").key
    response = rotate(key, handover="link")
    rotation = Rotation.objects.get()
    assert response["Location"] == rotation.get_absolute_url()
    told = "checkout: The mail to team@example.com could not be sent. Send the link again from the rotation's page."
    assert messages_of(response) == [told]
    assert rotation.awaits_owner
    mail_server("")
    client.post(url("rotation_link", organization, rotation.pk), {"link_lasts": "60"})
    assert len(mailoutbox) == 1


# Sent again, by two, and of keys that cannot be


@pytest.mark.parametrize(
    "form", [{}, {"overlap": "0"}, {"handover": "link"}, {"overlap": "0", "handover": "link"}, {"clock": "first_use"}]
)
def test_the_same_form_again_makes_no_second_key_and_leads_to_the_rotation(organization, rotate, mailoutbox, form):
    """The answer to the first may have been lost; with it the only showing of the key."""
    key, token = make_key(organization).key, str(uuid.uuid4())
    first = rotate(key, token=token, **form)
    rotation = Rotation.objects.get()
    before, mails = snapshot(), len(mailoutbox)
    second = rotate(key, token=token, **form)
    assert (second.status_code, second["Location"]) == (302, rotation.get_absolute_url())
    [told] = [message for message in messages_of(second) if "sent before" in message]
    assert "there is one new key" in told
    assert ("It was shown once." in told) == ("handover" not in form)
    assert ("cancel the rotation" in told) == ("handover" not in form and rotation.is_open)
    if "handover" not in form:
        assert key_secret.parse(first.context["secret"]).secret not in second.text
    assert snapshot() == before
    assert len(mailoutbox) == mails


def test_another_start_is_refused_and_leads_to_the_first(organization, client, rotate):
    key = make_key(organization, "checkout").key
    rotate(key)
    rotation = Rotation.objects.get()
    before = snapshot()
    for response in (rotate(key), client.get(url("key_rotate", organization, key.public_id))):
        assert (response.status_code, response["Location"]) == (302, rotation.get_absolute_url())
        assert "checkout is being rotated already: this is the rotation." in messages_of(response)
    assert rotate(key, headers=HTMX)["HX-Redirect"] == rotation.get_absolute_url()
    assert snapshot() == before


def test_the_new_key_of_a_running_rotation_is_not_rotated(organization, rotate):
    started = make_rotation(organization, make_key(organization, "checkout").key)
    before = snapshot()
    response = rotate(started.issued.key)
    assert response["Location"] == started.rotation.get_absolute_url()
    assert messages_of(response) == ["checkout is the new key of this rotation. Finish or cancel that first."]
    assert snapshot() == before


def pause(organization, name):
    issued = make_key(organization, name)
    issued.key.pause(by=BY)
    return issued


def over(organization, name):
    make_overdue_rotation(organization, key := make_key(organization, name).key)
    return type("Issued", (), {"key": key})


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (make_revoked_key, "checkout is revoked. A new key can be created; this one cannot be rotated."),
        (
            make_expired_key,
            "checkout has expired. Give it a later expiry under Edit, then rotate it, or create a new key.",
        ),
        (pause, "checkout is paused: nobody could be seen to move. Resume it, then rotate it."),
        (over, "checkout is being rotated already: this is the rotation."),
    ],
)
def test_a_key_that_does_not_work_is_not_rotated_and_it_says_what_to_do(organization, client, rotate, make, told):
    key = make(organization, "checkout").key
    before = snapshot()
    for response in (client.get(url("key_rotate", organization, key.public_id)), rotate(key)):
        assert response.status_code == 302
        assert response["Location"].startswith(("/acme/keys/", "/acme/rotations/"))
        assert messages_of(response)[-1] == told
    assert snapshot() == before


# Bad input

BAD = {
    "no reason": ({"reason": ""}, "reason"),
    "a reason that is none": ({"reason": "bored"}, "reason"),
    "a reason that is written by us": ({"reason": "cancelled"}, "reason"),
    "no overlap": ({"overlap": ""}, "overlap"),
    "an overlap that is no choice": ({"overlap": "61"}, "overlap"),
    "an overlap that is negative": ({"overlap": "-60"}, "overlap"),
    "an overlap that is text": ({"overlap": "a week"}, "overlap"),
    "an overlap without end": ({"overlap": "9" * 400}, "overlap"),
    "an overlap with a NUL": ({"overlap": "60\0"}, "overlap"),
    "no clock": ({"clock": ""}, "clock"),
    "a clock that is none": ({"clock": "later"}, "clock"),
    "an end in the past": ({"latest": "2020-01-01T10:00"}, "latest"),
    "an end that is no day": ({"latest": "2026-02-30T10:00"}, "latest"),
    "an end that is text": ({"latest": "tomorrow"}, "latest"),
    "an end with a NUL": ({"latest": "2099-01-01T10:00\0"}, "latest"),
    "an end in the first year": ({"latest": "0001-01-01T00:00"}, "latest"),
    "an end in the last year": ({"latest": "9999-12-31T23:59"}, "latest"),
    "an end too far away": ({"latest": local(timezone.now() + MAX_LENGTH + 2 * DAY)}, "latest"),
    "an end after the old key's own": ({"latest": local(timezone.now() + 101 * DAY)}, "latest"),
    "no finish": ({"finishes": ""}, "finishes"),
    "a finish that is none": ({"finishes": "never"}, "finishes"),
    "no expiry": ({"expires": ""}, "expires"),
    "an expiry that is no choice": ({"expires": "31"}, "expires"),
    "an expiry on no date": ({"expires": "date"}, "expires_on"),
    "an expiry on a day that is none": ({"expires": "date", "expires_on": "2026-02-30"}, "expires_on"),
    "an expiry in the past": ({"expires": "date", "expires_on": "2020-01-01"}, "expires"),
    "an expiry before the old key's end": ({"expires": "30", "overlap": minutes_of(90 * DAY)}, "expires"),
    "an expiry before the clock's latest": ({"expires": "30", "clock": "first_use"}, "expires"),
    "an expiry after the year 2100": ({"expires": "date", "expires_on": "2101-01-01"}, "expires"),
    "an expiry in the last year": ({"expires": "date", "expires_on": "9999-12-31"}, "expires"),
    "no handover": ({"handover": ""}, "handover"),
    "a handover that is none": ({"handover": "sms"}, "handover"),
    "a link without a time": ({"handover": "link", "link_lasts": ""}, "link_lasts"),
    "a link for a time that is no choice": ({"handover": "link", "link_lasts": "61"}, "link_lasts"),
    "a note over its limit": ({"note": "x" * 501}, "note"),
    "a note with a NUL": ({"note": "a\0b"}, "note"),
    "a note with a bell": ({"note": "bell\a"}, "note"),
    "a note with a line": ({"note": "two\nlines"}, "note"),
    "a note turned around": ({"note": "a\u202eb"}, "note"),
    "a token that is none": ({"token": "again"}, "token"),
    "a token with a NUL": ({"token": "\0"}, "token"),
}


@pytest.mark.parametrize(("form", "field"), BAD.values(), ids=BAD)
def test_bad_input_is_a_422_that_names_the_field_and_changes_nothing(organization, rotate, mailoutbox, form, field):
    key = make_key(organization, expires_at=soon(100)).key
    before = snapshot()
    response = rotate(key, **form)
    assert response.status_code == 422
    assert list(response.context["form"].errors) == [field]
    assert 'role="alert"' in response.text
    assert snapshot() == before
    assert mailoutbox == []


def test_a_form_that_lacks_everything_is_a_422(organization, client):
    key = make_key(organization).key
    before = snapshot()
    response = client.post(url("key_rotate", organization, key.public_id), {})
    assert response.status_code == 422
    assert {"reason", "overlap", "clock", "finishes", "expires", "handover"} <= set(response.context["form"].errors)
    assert snapshot() == before


def test_what_was_typed_is_kept(organization, rotate):
    response = rotate(make_key(organization).key, note="Yearly", latest="2020-01-01T10:00", clock="first_use")
    assert 'value="Yearly"' in response.text
    assert 'value="2020-01-01T10:00"' in response.text


def test_a_database_that_fails_on_the_way_leaves_one_working_key(organization, operator, verifier):
    key, secret = make_key(organization)
    client = Client(raise_request_exception=False)
    client.force_login(operator)

    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT") and AuditAction.KEY_SHOW in map(str, params):
            raise OperationalError("disk full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(full):
        response = client.post(url("key_rotate", organization, key.public_id), rotate_form())
    assert response.status_code == 503
    assert not key_secret.looks_like_key(response.text)
    assert not Rotation.objects.exists()
    assert stored(key).expires_at is None
    assert organization.keys.count() == 1
    assert verifier.verify(organization, secret.text).status == 200


# Who may


def test_another_organizations_key_is_not_there(organization, ask, rotate):
    theirs = make_key(make_organization()).key
    before = snapshot()
    assert ask(theirs).status_code == rotate(theirs).status_code == 404
    assert snapshot() == before


def test_a_viewer_may_not(organization, viewer, client_of):
    key = make_key(organization).key
    client = client_of(viewer)
    before = snapshot()
    address = url("key_rotate", organization, key.public_id)
    assert client.get(address).status_code == client.post(address, rotate_form()).status_code == 403
    assert snapshot() == before


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_names_owners_and_callers_are_escaped_and_a_name_can_be_typed(organization, ask, rotate, text):
    owner = make_member(organization, user=make_user(name=text))
    key = make_key(organization, text, owner=owner).key
    make_event(key, user_agent=text)
    for response in (
        ask(key, reason="compromise"),
        rotate(key, overlap="0", confirmation="no", note=text),
        rotate(key, overlap="0", confirmation=text, note=text),
    ):
        assert "<script>alert" not in response.text
        assert "<img src=x" not in response.text
    rotation = Rotation.objects.get()
    assert (rotation.note, rotation.clock) == (text, Clock.NOW)
