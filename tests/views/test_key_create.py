"""Making a key, and the one page that shows it."""

import uuid
from datetime import datetime, timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeys import key_secret
from apikeys.models import ApiKey, AuditAction, AuditEntry, Role
from tests.factories import make_environment, make_member, make_organization, make_scope, make_user
from tests.pages import HOSTILE, entries, is_whole_page, key_form, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def create(organization, operator, client_of):
    client = client_of(operator)

    def post(**changes):
        return client.post(url("key_create", organization), key_form(**changes))

    return post


def test_the_form_offers_what_the_organization_has(organization, operator, client_of):
    make_scope(make_organization(), "theirs:read")
    response = client_of(operator).get(url("key_create", organization))
    assert response.status_code == 200
    assert is_whole_page(response)
    for text in ["orders:read", "Read orders", "production", "staging", "Operator Person"]:
        assert text in response.text
    assert "theirs:read" not in response.text


def test_a_key_is_made_as_asked_and_shown_once(organization, operator, create):
    member = operator.memberships.get()
    response = create(
        name="  checkout ",
        environment="stag",
        owner=member.pk,
        owner_contact="",
        scopes=["orders:read", "orders:write"],
        expires="date",
        expires_on=(timezone.now() + timedelta(days=10)).date().isoformat(),
        networks="10.0.0.0/8\n\n 192.0.2.7 ",
        rate_limit="100",
        rate_period="60",
        rate_burst="20",
    )
    assert response.status_code == 200
    key = organization.keys.get()
    assert (key.name, key.environment.code, key.owner, key.owner_contact) == ("checkout", "stag", member, "")
    assert key.scope_names == ["orders:read", "orders:write"]
    assert key.networks == ["10.0.0.0/8", "192.0.2.7/32"]
    assert key.limit == (100, 60, 20)
    assert key.expires_at.time() == datetime.max.time().replace(microsecond=0)
    assert key.created_by == operator
    secret = key_secret.parse(response.context["secret"])
    assert secret.public_id == key.public_id
    assert response.text.count(secret.text) >= 1


def test_the_shown_key_works_at_the_verifier(organization, create, verifier):
    text = create().context["secret"]
    assert verifier.verify(organization, {"key": text, "scope": "orders:read"}).status == 200


def test_the_page_that_shows_a_key_is_stored_nowhere(create):
    response = create()
    assert "no-store" in response["Cache-Control"]
    assert "private" in response["Cache-Control"]
    assert response["Referrer-Policy"] == "same-origin"


def test_issue_and_showing_are_recorded(organization, operator, create):
    create()
    key = organization.keys.get()
    issued, shown = AuditEntry.objects.filter(key_id=key.pk).order_by("id")
    assert (issued.action, shown.action) == (AuditAction.KEY_ISSUE, AuditAction.KEY_SHOW)
    for entry in (issued, shown):
        assert (entry.actor, entry.via, entry.address) == (operator, "dashboard", "127.0.0.1")
        assert entry.key_fingerprint == key.fingerprint
    assert issued.changes["scopes"] == [None, ["orders:read"]]


@pytest.mark.parametrize(("choice", "days"), [("30", 30), ("90", 90), ("180", 180), ("365", 365)])
def test_a_preset_expiry_counts_from_now(organization, create, choice, days):
    create(expires=choice)
    left = organization.keys.get().expires_at - timezone.now()
    assert timedelta(days=days, minutes=-1) < left <= timedelta(days=days)


def test_a_key_may_never_expire_and_any_date_beside_it_is_ignored(organization, create):
    create(expires="never", expires_on="2030-01-01")
    assert organization.keys.get().expires_at is None


def test_a_double_submit_makes_one_key_and_shows_it_once(organization, create):
    token = str(uuid.uuid4())
    first, second = create(token=token), create(token=token)
    assert "secret" in first.context
    assert second.status_code == 200
    assert first.context["secret"] not in second.text
    assert second.context["key"] == organization.keys.get()
    assert len(entries(organization, AuditAction.KEY_SHOW)) == 1


def test_two_forms_make_two_keys_of_one_name(organization, create):
    create()
    create()
    first, second = organization.keys.all()
    assert first.name == second.name
    assert first.fingerprint != second.fingerprint


BAD = {
    "no name": ({"name": ""}, "name"),
    "a name of spaces": ({"name": "   "}, "name"),
    "a name over its limit": ({"name": "x" * 101}, "name"),
    "a name with a line break": ({"name": "a\nb"}, "name"),
    "a name with a NUL": ({"name": "a\0b"}, "name"),
    "a name that turns direction": ({"name": "a\u202eb"}, "name"),
    "no purpose": ({"purpose": ""}, "purpose"),
    "a purpose over its limit": ({"purpose": "x" * 501}, "purpose"),
    "a purpose with a NUL": ({"purpose": "a\0b"}, "purpose"),
    "no environment": ({"environment": ""}, "environment"),
    "an unknown environment": ({"environment": "mars"}, "environment"),
    "an environment with a NUL": ({"environment": "pr\0od"}, "environment"),
    "no scope": ({"scopes": []}, "scopes"),
    "an unknown scope": ({"scopes": ["moon:walk"]}, "scopes"),
    "an unknown scope beside a known": ({"scopes": ["orders:read", "moon:walk"]}, "scopes"),
    "a scope with a NUL": ({"scopes": ["orders\0read"]}, "scopes"),
    "nobody who owns it": ({"owner_contact": ""}, "owner"),
    "an owner that is no number": ({"owner": "olga"}, "owner"),
    "an owner that is not there": ({"owner": "999999"}, "owner"),
    "an owner over 64 bits": ({"owner": "9" * 30}, "owner"),
    "an owner with a NUL": ({"owner": "\0"}, "owner"),
    "a contact that is no address": ({"owner_contact": "the team"}, "owner_contact"),
    "an expiry that is no choice": ({"expires": "31"}, "expires"),
    "no expiry": ({"expires": ""}, "expires"),
    "a date that is missing": ({"expires": "date"}, "expires_on"),
    "a date in the past": ({"expires": "date", "expires_on": "2020-01-01"}, "expires_on"),
    "a date beyond 2100": ({"expires": "date", "expires_on": "2101-01-01"}, "expires_on"),
    "the last date": ({"expires": "date", "expires_on": "9999-12-31"}, "expires_on"),
    "the first date": ({"expires": "date", "expires_on": "0001-01-01"}, "expires_on"),
    "a date that is none": ({"expires": "date", "expires_on": "2027-02-30"}, "expires_on"),
    "a network with host bits": ({"networks": "10.0.0.1/8"}, "networks"),
    "a network that is none": ({"networks": "localhost"}, "networks"),
    "too many networks": ({"networks": "\n".join(f"10.0.{n}.0/24" for n in range(51))}, "networks"),
    "networks over their limit": ({"networks": "10.0.0.0/8\n" * 500}, "networks"),
    "a limit of nothing": ({"rate_limit": "0"}, "rate_limit"),
    "a limit below nothing": ({"rate_limit": "-1"}, "rate_limit"),
    "a limit over the limit": ({"rate_limit": "1000001"}, "rate_limit"),
    "a limit that is no number": ({"rate_limit": "many"}, "rate_limit"),
    "a period that is none": ({"rate_limit": "5", "rate_period": "7"}, "rate_period"),
    "a burst without a limit": ({"rate_burst": "5"}, "rate_limit"),
    "a burst of nothing": ({"rate_limit": "5", "rate_burst": "0"}, "rate_burst"),
    "a token that is none": ({"token": "again"}, "token"),
}


@pytest.mark.parametrize(("changes", "field"), BAD.values(), ids=BAD)
def test_bad_input_is_a_422_that_names_the_field_and_nothing_is_done(organization, create, changes, field):
    before = snapshot()
    response = create(**changes)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert snapshot() == before


def test_an_owner_and_a_contact_are_one_too_many(organization, operator, create):
    response = create(owner=operator.memberships.get().pk)
    assert response.status_code == 422
    assert "owner_contact" in response.context["form"].errors


def test_all_faults_are_told_at_once_and_what_was_typed_stays(create):
    response = create(name="", scopes=[], purpose="Kept in the vault of the shop", networks="10.0.0.1/8")
    assert {"name", "scopes", "networks"} <= set(response.context["form"].errors)
    assert "Kept in the vault of the shop" in response.text
    assert "10.0.0.0/8" in response.text


def test_an_empty_form_is_told_what_is_missing(organization, operator, client_of):
    response = client_of(operator).post(url("key_create", organization), {})
    assert response.status_code == 422
    assert {"name", "purpose", "environment", "scopes", "expires"} <= set(response.context["form"].errors)


def test_nothing_of_another_organization_can_be_chosen(organization, outsider, create):
    theirs = outsider.memberships.get()
    make_environment(theirs.organization, "mars")
    make_scope(theirs.organization, "theirs:read")
    fields = {"environment": "mars", "scopes": ["theirs:read"], "owner": theirs.pk}
    for field, value in fields.items():
        response = create(**{field: value})
        assert response.status_code == 422
        assert field in response.context["form"].errors
    assert not organization.keys.exists()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_any_name_and_purpose_are_kept_as_typed_and_escaped(organization, create, text):
    response = create(name=text, purpose=text)
    assert response.status_code == 200
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text
    assert organization.keys.get().name == text
    again = create(name=text, purpose=text, scopes=[])
    assert again.status_code == 422
    assert "<script>alert" not in again.text


def test_bytes_that_are_no_utf_8_are_no_fault_of_ours(organization, operator, client_of):
    client = client_of(operator)
    body = b"name=%FF%FE&purpose=x&environment=%80&owner_contact=%C3%28"
    response = client.post(url("key_create", organization), body, content_type="application/x-www-form-urlencoded")
    assert response.status_code == 422
    assert not organization.keys.exists()


def test_a_form_without_its_token_from_this_site_is_refused(organization, operator):
    client = Client(enforce_csrf_checks=True)
    client.force_login(operator)
    assert client.post(url("key_create", organization), key_form()).status_code == 403
    assert not organization.keys.exists()


def test_a_database_that_fails_in_the_middle_leaves_nothing_and_shows_nothing(organization, operator):
    client = Client(raise_request_exception=False)
    client.force_login(operator)
    before = snapshot()

    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT") and "apikeys_auditentry" in sql:
            raise OperationalError("disk full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(full):
        response = client.post(url("key_create", organization), key_form())
    assert response.status_code == 503
    assert not key_secret.looks_like_key(response.text)
    assert snapshot() == before


TEXTS = st.one_of(st.text(max_size=20), st.text(alphabet="\0\n\u202e<>'\"x0-9", max_size=120), st.text(max_size=600))
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "name": TEXTS,
        "purpose": TEXTS,
        "environment": st.one_of(st.sampled_from(["prod", "dev"]), TEXTS),
        "owner": TEXTS,
        "owner_contact": st.one_of(st.emails(), TEXTS),
        "scopes": st.lists(st.one_of(st.sampled_from(["orders:read", "orders:write"]), TEXTS), max_size=4),
        "expires": st.one_of(st.sampled_from(["30", "date", "never"]), TEXTS),
        "expires_on": st.one_of(st.dates().map(str), TEXTS),
        "networks": st.one_of(st.ip_addresses(network="10.0.0.0/8").map(str), TEXTS),
        "rate_limit": st.one_of(st.integers().map(str), TEXTS),
        "rate_period": st.one_of(st.sampled_from(["1", "60"]), TEXTS),
        "rate_burst": st.one_of(st.integers().map(str), TEXTS),
        "token": TEXTS,
        "version": TEXTS,
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
def test_no_form_data_break_it_and_a_key_is_made_or_a_field_is_named(organization, operator, changes):
    client = Client(raise_request_exception=False)
    client.force_login(operator)
    before = ApiKey.objects.count()
    response = client.post(url("key_create", organization), key_form(**changes))
    made = ApiKey.objects.count() - before
    assert (response.status_code, made) in {(200, 1), (422, 0)}
    if not made:
        assert response.context["form"].errors


def test_a_member_of_the_organization_can_be_the_owner(organization, create):
    member = make_member(organization, Role.VIEWER, make_user(name="<b>Olga</b>"))
    response = create(owner=member.pk, owner_contact="")
    assert response.status_code == 200
    assert organization.keys.get().owner == member
    assert "<b>Olga</b>" not in response.text
