"""Rotating several keys at once: all of them or none."""

import uuid
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys import key_secret
from apikeys.models import ApiKey, AuditAction, Rotation, Session
from apikeys.views.revocation import MAX_BULK
from tests.factories import (
    make_actor,
    make_event,
    make_expired_key,
    make_key,
    make_member,
    make_old_key,
    make_organization,
    make_revoked_key,
    make_rotation,
    make_user,
)
from tests.pages import (
    HOSTILE,
    HTMX,
    entries,
    is_whole_page,
    make_keys,
    messages_of,
    rotate_form,
    snapshot,
    soon,
    url,
)

pytestmark = pytest.mark.django_db
BY = make_actor()
DAY = timedelta(days=1)


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


@pytest.fixture
def ask(organization, client):
    return lambda **query: client.get(url("key_bulk_rotate", organization, **query))


@pytest.fixture
def rotate(organization, client):
    def post(*keys, headers=None, **form):
        ids = [getattr(key, "public_id", key) for key in keys]
        return client.post(url("key_bulk_rotate", organization), rotate_form(key=ids) | form, headers=headers)

    return post


def stored(key):
    return ApiKey.objects.get(pk=key.pk)


def shown(response):
    return [row["key"].name for row in response.context["rows"]]


def secrets_of(response):
    return [one.issued.secret for one in response.context["started"]]


# Which keys


def test_the_selected_keys_are_shown_with_what_uses_each(organization, ask):
    first, second = make_key(organization, "first").key, make_key(organization, "second").key
    make_event(second, user_agent="shop/2")
    before = snapshot()
    response = ask(key=[first.public_id, second.public_id])
    assert is_whole_page(response)
    assert {row["key"].name: row["recent"].week for row in response.context["rows"]} == {"first": 0, "second": 1}
    assert "in use: 1 in the last day" in response.text
    assert "Start 2 rotations" in response.text
    for key in (first, second):
        assert f'<input type="hidden" name="key" value="{key.public_id}">' in response.text
    assert snapshot() == before


def test_the_list_sends_the_selected_ones_and_all_that_match_without_javascript(organization, client):
    make_key(organization, "checkout")
    address = url("key_bulk_rotate", organization)
    plain = client.get(url("key_list", organization)).text
    assert f'formaction="{address}"' in plain
    assert "Rotate all that match" not in plain
    filtered = client.get(url("key_list", organization, environment="prod")).text
    assert f'href="{address}?environment=prod' in filtered


def test_by_a_filter_every_usable_key_that_matches_is_shown(organization, ask):
    make_key(organization, "one", environment="stag")
    make_key(organization, "two", environment="stag")
    make_key(organization, "elsewhere", environment="prod")
    make_revoked_key(organization, "dead", environment="stag")
    make_expired_key(organization, "over", environment="stag")
    assert sorted(shown(ask(environment="stag"))) == ["one", "two"]


def test_by_a_filter_only_the_newest_of_a_lineage_is_shown(organization, ask):
    started = make_rotation(organization, make_key(organization, environment="stag").key)
    response = ask(environment="stag")
    assert response.status_code == 302
    started.rotation.finish(by=BY)
    assert [row["key"] for row in ask(environment="stag").context["rows"]] == [started.issued.key]


@pytest.mark.parametrize("query", [{}, {"reason": "compromise"}, {"tab": "all"}, {"sort": "name"}, {"page": "2"}])
def test_without_a_filter_nothing_is_chosen(organization, ask, query):
    make_key(organization)
    response = ask(**query)
    assert response["Location"] == "/acme/keys/"
    assert messages_of(response) == ["Select the keys to rotate, or filter the list first."]


def test_a_filter_that_matches_none_says_so(organization, ask):
    make_key(organization)
    assert messages_of(ask(environment="dev")) == ["No usable key matches these filters."]


@pytest.mark.parametrize("query", [{"environment": "nope"}, {"expires": "soon"}, {"created": "x" * 5000}])
def test_a_filter_that_is_bad_chooses_nothing(organization, ask, query):
    make_key(organization)
    response = ask(**query)
    assert response.status_code == 302
    assert messages_of(response) == ["Select the keys to rotate, or filter the list first."]


def test_more_than_the_limit_says_so(organization, ask, rotate):
    make_keys(organization, MAX_BULK + 1)
    [told] = messages_of(ask(environment="prod"))
    assert told == f"More than {MAX_BULK} keys match; at most so many can be rotated at once. Filter the list further."
    before = snapshot()
    [told, *_] = reversed(messages_of(rotate(*organization.keys.values_list("public_id", flat=True))))
    assert told == f"At most {MAX_BULK} keys can be rotated at once; {MAX_BULK + 2} were selected."
    assert snapshot() == before


def test_as_many_as_the_limit_are_shown_in_a_bounded_number_of_queries(organization, ask):
    make_keys(organization, MAX_BULK - 1)
    assert len(shown(ask(environment="prod"))) == MAX_BULK
    ids = list(organization.keys.values_list("public_id", flat=True))
    with CaptureQueriesContext(connection) as few:
        ask(key=ids[:10])
    with CaptureQueriesContext(connection) as many:
        ask(key=ids[:60])
    # One query a key: whether it is in a rotation, read anew.
    assert len(many) - len(few) <= 50


def test_nothing_selected_says_so(rotate):
    response = rotate()
    assert response["Location"] == "/acme/keys/"
    assert messages_of(response) == ["No key was selected."]


@pytest.mark.parametrize("wrong", ["unknown", "", "\0", "a\0b", "x" * 5000, "\ufffd", "%", "é" * 12])
def test_with_an_id_among_them_that_is_none_nothing_is_started(organization, rotate, wrong):
    key = make_key(organization).key
    before = snapshot()
    response = rotate(key, wrong)
    assert response.status_code == 302
    assert messages_of(response) == ["One of the selected keys does not exist. Nothing was started."]
    assert snapshot() == before


def test_with_another_organizations_key_among_them_nothing_is_started(organization, rotate):
    ours, theirs = make_key(organization).key, make_key(make_organization(), "theirs").key
    before = snapshot()
    response = rotate(ours, theirs)
    assert messages_of(response) == ["One of the selected keys does not exist. Nothing was started."]
    assert snapshot() == before


def test_a_key_named_twice_is_one_key(organization, rotate):
    key = make_key(organization).key
    rotate(key, key)
    assert Rotation.objects.count() == 1


def test_keys_that_cannot_be_rotated_are_left_out_each_with_its_reason(organization, ask, rotate):
    good = make_key(organization, "good").key
    paused = make_key(organization, "paused").key
    paused.pause(by=BY)
    rotating = make_key(organization, "rotating").key
    make_rotation(organization, rotating)
    others = [make_revoked_key(organization, "dead").key, make_expired_key(organization, "over").key, paused, rotating]
    response = ask(key=[key.public_id for key in (good, *others)])
    assert shown(response) == ["good"]
    assert "4 left out" in response.text
    for told in ("dead is revoked.", "over has expired.", "paused is paused:", "rotating is being rotated already"):
        assert told in response.text, told
    rotate(good, *others)
    assert Rotation.objects.filter(old_key=good).exists()
    assert Rotation.objects.count() == 2


def test_when_none_can_be_rotated_it_says_so(organization, ask, rotate):
    dead = make_revoked_key(organization).key
    before = snapshot()
    for response in (ask(key=dead.public_id), rotate(dead)):
        assert response["Location"] == "/acme/keys/"
        assert "None of these keys can be rotated" in messages_of(response)[-1]
    assert snapshot() == before


# What it does


def test_each_gets_a_new_key_and_all_are_shown_once(organization, operator, client, verifier, rotate):
    olds = [make_key(organization, name) for name in ("one", "two", "three")]
    response = rotate(*(old.key for old in olds), note="Yearly")
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    secrets = secrets_of(response)
    assert len({secret.text for secret in secrets}) == 3
    for secret in secrets:
        assert response.text.count(secret.text) == 1
        assert verifier.verify(organization, secret.text).json()["outcome"] == "valid"
    for old in olds:
        assert verifier.verify(organization, old.secret.text).json()["outcome"] == "valid"
        assert old.secret.text not in response.text
        assert abs(stored(old.key).expires_at - timezone.now() - 7 * DAY) < timedelta(minutes=1)
    found = entries(organization, AuditAction.ROTATION_START)
    assert {entry.key_id for entry in found} == {old.key.pk for old in olds}
    assert {(entry.actor, entry.reason) for entry in found} == {(operator, "Yearly")}
    pages = [client.get(url("rotation_list", organization)).text, client.get(url("audit_list", organization)).text]
    sessions = [str(session.get_decoded()) for session in Session.objects.all()]
    for text in [*pages, *sessions, str(snapshot())]:
        assert not [secret for secret in secrets if secret.secret in text]


def test_each_keys_new_one_lives_as_long_as_its_old_one_was_to(organization, rotate, ask):
    short, forever = make_key(organization, expires_at=soon(60)).key, make_key(organization).key
    assert "As long after its start as its old key" in ask(key=[short.public_id, forever.public_id]).text
    rotate(short, forever)
    ends = {rotation.old_key_id: rotation.new_key.expires_at for rotation in Rotation.objects.all()}
    assert abs(ends[short.pk] - soon(60)) < timedelta(minutes=1)
    assert ends[forever.pk] is None


def test_by_links_each_owner_gets_one_and_nobody_sees_a_key(organization, rotate, mailoutbox):
    owner = make_member(organization, user=make_user("olga@example.com"))
    keys = [make_key(organization, "one", owner=owner).key, make_key(organization, "two", owner=owner).key]
    keys.append(make_key(organization, "three", owner_contact="vendor@example.net").key)
    response = rotate(*keys, handover="link")
    assert response["Location"] == "/acme/rotations/"
    assert messages_of(response) == ["3 links to new keys were sent to 2 owners."]
    assert sorted(mail.to[0] for mail in mailoutbox) == ["olga@example.com", "olga@example.com", "vendor@example.net"]
    assert len({mail.body for mail in mailoutbox}) == 3
    assert organization.keys.count() == 3


def test_by_links_to_one_owner_the_address_is_named(organization, rotate, mailoutbox):
    owner = make_member(organization, user=make_user("olga@example.com"))
    response = rotate(*(make_key(organization, owner=owner).key for _ in range(2)), handover="link")
    assert messages_of(response) == ["2 links to new keys were sent to olga@example.com."]


def test_a_mail_that_fails_names_its_key_and_stops_no_other(organization, rotate, mail_server, mailoutbox):
    mail_server("Choosy")
    good = make_key(organization, "good", owner_contact="vendor@example.net").key
    bad = make_key(organization, "bad", owner_contact="gone@nowhere.example").key
    told = messages_of(rotate(good, bad, handover="link"))
    assert told == [
        "A link to the new key was sent to vendor@example.net.",
        "bad: The mail to gone@nowhere.example could not be sent. Send the link again from the rotation's page.",
    ]
    assert len(mailoutbox) == 1
    assert Rotation.objects.count() == 2


def test_with_one_owner_without_a_mail_address_nothing_is_started(organization, rotate, mailoutbox):
    owner = make_member(organization, user=make_user(name="Olga Owner"))
    keys = [make_key(organization).key, make_key(organization, owner=owner).key]
    type(owner.user).objects.filter(pk=owner.user_id).update(email="")
    before = snapshot()
    response = rotate(*keys, handover="link")
    assert response.status_code == 422
    assert "Olga Owner has no mail address." in response.context["form"].errors["link_lasts"][0]
    assert snapshot() == before
    assert mailoutbox == []


def test_an_end_after_the_own_expiry_of_one_of_them_starts_nothing(organization, rotate):
    keys = [make_key(organization).key, make_key(organization, expires_at=soon(5)).key]
    before = snapshot()
    response = rotate(*keys, latest=f"{soon(6):%Y-%m-%dT%H:%M}")
    assert response.status_code == 422
    assert list(response.context["form"].errors) == ["latest"]
    assert snapshot() == before


@pytest.mark.parametrize("typed", ["", "rotate 3 keys", "rotate", "\0"])
def test_keys_in_use_do_not_end_at_once_before_it_is_typed(organization, rotate, typed):
    first, second = make_key(organization).key, make_key(organization).key
    make_event(second)
    before = snapshot()
    response = rotate(first, second, reason="compromise", overlap="0", confirmation=typed)
    assert response.status_code == 422
    assert list(response.context["form"].errors) == ["confirmation"]
    assert snapshot() == before
    response = rotate(first, second, reason="compromise", overlap="0", confirmation="rotate 2 keys")
    assert response.status_code == 200
    assert [stored(key).status for key in (first, second)] == ["revoked", "revoked"]


def test_one_key_in_use_is_one_key(organization, rotate):
    key = make_key(organization).key
    make_event(key)
    assert rotate(key, overlap="0", confirmation="rotate 1 key").status_code == 200


@pytest.mark.parametrize("query", [{"reason": "compromise"}, {"reason": "incident"}])
def test_for_a_suspected_leak_there_is_no_overlap_unless_one_is_chosen(organization, ask, query):
    response = ask(key=make_key(organization).key.public_id, **query)
    assert '<option value="0" selected>' in response.text


def test_another_reason_keeps_the_keys_that_are_chosen(organization, client, ask, rotate):
    keys = [make_key(organization, "one").key, make_key(organization, "two").key]
    refused = rotate(*keys, note="bell\a")
    for response in (ask(key=[key.public_id for key in keys]), ask(environment="prod"), refused):
        [link] = [one["url"] for one in response.context["reasons"] if one["label"] == "Suspected compromise"]
        assert sorted(shown(client.get(link))) == ["one", "two"]


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"reason": "bored"}, "reason"),
        ({"overlap": "61"}, "overlap"),
        ({"latest": "2020-01-01T10:00"}, "latest"),
        ({"expires": "date"}, "expires_on"),
        ({"expires": "30", "overlap": "129600"}, "expires"),
        ({"handover": "link", "link_lasts": "61"}, "link_lasts"),
        ({"note": "a\0b"}, "note"),
        ({"note": "bell\a"}, "note"),
        ({"token": "\0"}, "token"),
    ],
)
def test_bad_input_is_a_422_that_names_the_field_and_starts_nothing(organization, rotate, form, field):
    keys = [make_key(organization).key for _ in range(2)]
    before = snapshot()
    for headers in (None, HTMX):
        response = rotate(*keys, headers=headers, **form)
        assert response.status_code == 422
        assert list(response.context["form"].errors) == [field]
        assert len(shown(response)) == 2
    assert snapshot() == before


@pytest.mark.parametrize("form", [{}, {"overlap": "0"}, {"handover": "link"}])
def test_the_same_form_again_makes_no_second_keys_and_leads_to_the_rotations(organization, rotate, mailoutbox, form):
    keys, token = [make_key(organization).key for _ in range(2)], str(uuid.uuid4())
    first = rotate(*keys, token=token, **form)
    before, mails = snapshot(), len(mailoutbox)
    second = rotate(*keys, token=token, **form)
    assert second["Location"] == "/acme/rotations/?show=all"
    assert "This form was sent before" in messages_of(second)[-1]
    if "handover" not in form:
        assert not [secret for secret in secrets_of(first) if secret.secret in second.text]
    assert snapshot() == before
    assert len(mailoutbox) == mails


def test_a_database_that_fails_at_the_second_key_starts_nothing(organization, operator):
    keys = [make_key(organization).key for _ in range(2)]
    client = Client(raise_request_exception=False)
    client.force_login(operator)
    seen = []

    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT") and "apikeys_rotation" in sql:
            seen.append(sql)
            if len(seen) == 2:
                raise OperationalError("disk full")
        return execute(sql, params, many, context)

    form = rotate_form(key=[key.public_id for key in keys])
    with connection.execute_wrapper(full):
        response = client.post(url("key_bulk_rotate", organization), form)
    assert response.status_code == 503
    assert not key_secret.looks_like_key(response.text)
    assert len(seen) == 2
    assert not Rotation.objects.exists()
    assert organization.keys.count() == 2
    assert [stored(key).expires_at for key in keys] == [None, None]


def test_a_viewer_may_not(organization, viewer, client_of):
    key = make_key(organization).key
    client = client_of(viewer)
    before = snapshot()
    address = url("key_bulk_rotate", organization)
    assert client.get(address, {"key": key.public_id}).status_code == 403
    assert client.post(address, rotate_form(key=[key.public_id])).status_code == 403
    assert snapshot() == before
    text = client.get(url("key_list", organization, environment="prod")).text
    assert address not in text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_names_are_escaped(organization, ask, rotate, text):
    owner = make_member(organization, user=make_user(name=text))
    key = make_key(organization, text, owner=owner).key
    dead = make_revoked_key(organization, text).key
    for response in (ask(key=[key.public_id, dead.public_id]), rotate(key, dead, note="bell\a"), rotate(key, dead)):
        assert "<script>alert" not in response.text
        assert "<img src=x" not in response.text
    assert Rotation.objects.count() == 1


def test_a_key_that_somebody_pauses_meanwhile_stops_all_and_the_form_is_opened_anew(organization, rotate):
    keys = [make_key(organization, name).key for name in ("one", "two")]
    done = []

    def pausing(execute, sql, params, many, context):
        if 'INSERT INTO "apikeys_rotation"' in sql and not done:
            done.append(keys[0].pause(by=BY))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(pausing):
        response = rotate(*keys)
    assert messages_of(response) == ["One of these keys was changed meanwhile; nothing was started. Look again."]
    assert all(key.public_id in response["Location"] for key in keys)
    assert done
    assert Rotation.objects.count() == 0
    assert organization.keys.count() == 2


def test_all_production_keys_older_than_180_days_are_rotated_by_one_form(organization, ask, rotate):
    old = [make_old_key(organization, days * DAY, name=f"old {days}", environment="prod") for days in (181, 400)]
    make_old_key(organization, 400 * DAY, name="old in staging", environment="stag")
    make_old_key(organization, 179 * DAY, name="young", environment="prod")
    response = ask(created="180+", environment="prod")
    assert sorted(shown(response)) == ["old 181", "old 400"]
    rotate(*old)
    assert {rotation.old_key for rotation in Rotation.objects.all()} == set(old)
