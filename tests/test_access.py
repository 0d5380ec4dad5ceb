"""Every address, as nobody, as an outsider and in every role: who may, who may not, and that it changes nothing."""

import copy
import re
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apikeys.models import AlertKind, AlertRule, ReviewReminder, Role
from tests import role_table
from tests.factories import (
    PASSWORD,
    make_actor,
    make_alert,
    make_delivery,
    make_environment,
    make_exemption,
    make_invitation,
    make_key,
    make_limited,
    make_member,
    make_organization,
    make_policy_exemption,
    make_review,
    make_rotation,
    make_scope,
    make_user,
    make_webhook,
)
from tests.held import rolled_back
from tests.pages import HTMX, age_proof, key_form, rotate_form, snapshot, soon
from tests.test_architecture import OURS, patterns

pytestmark = [pytest.mark.django_db, pytest.mark.any_engine]
ACCESS = {pattern.name: pattern.callback.access for _, pattern in OURS}
ROUTES = {pattern.name: route for route, pattern in OURS}
OF_AN_ORGANIZATION = [name for name in ACCESS if ACCESS[name].startswith("role:")]
OF_A_THING = re.compile(r":(public_id|pk|name|code|number)>")
# What a browser sends to each page that changes something; everything else changes nothing by POST.
FORMS = {
    "key_create": key_form(),
    "key_edit": key_form(name="renamed"),
    "key_narrow": {"scopes": ["orders:write"], "version": "1", "refuses": "0"},
    "key_pause": {},
    "key_resume": {},
    "key_exempt": {"reason": "stands by", "until": "90", "until_on": "", "seen": ""},
    "key_exempt_end": {},
    "policy_exempt": {"reason": "stands by", "until": "90", "until_on": "", "seen": ""},
    "policy_exempt_end": {},
    "policy_edit": {"owner_required": "on", "violations": "99"},
    "key_regenerate": {"token": str(uuid.uuid4())},
    "key_revoke": {"reason": "leaked"},
    "key_bulk_revoke": {"reason": "leaked"},
    "key_rotate": rotate_form(),
    "key_bulk_rotate": rotate_form(),
    "rotation_extend": {"end": "", "seen": ""},
    "rotation_finish": {},
    "rotation_cancel": {},
    "rotation_link": {"link_lasts": "60"},
    "scope_create": {"name": "new:read", "description": "Read new things"},
    "scope_edit": {"description": "Other words"},
    "scope_delete": {},
    "environment_create": {"name": "europe", "code": "eu", "kind": "other"},
    "environment_edit": {"name": "renamed", "kind": "other"},
    "environment_delete": {},
    "invitation_create": {"email": "new@example.com", "role": "viewer"},
    "invitation_resend": {},
    "invitation_withdraw": {},
    "member_leave": {},
    "member_edit": {"role": "operator"},
    "member_remove": {},
    "review_start": {"title": "Autumn review", "due_on": f"{soon():%Y-%m-%d}", "note": ""},
    "review_confirm": {"decision": "needed", "note": "", "seen": ""},
    "review_bulk_confirm": {"decision": "needed", "note": "", "seen": f"{soon().isoformat()}"},
    "review_remind": {},
    "review_close": {},
    "alert_acknowledge": {"until": "1", "until_on": "", "seen": ""},
    "alert_resolve": {"note": "It was us"},
    "alert_bulk_acknowledge": {"until": "1", "until_on": "", "seen": ""},
    "alert_bulk_resolve": {"note": "It was us"},
    "alert_rule_edit": {"is_on": "on", "when": "digest", "role": "viewer", "days": "30, 5"},
    "alert_rule_reset": {},
    "alert_settings_edit": {"digest_hour": "6", "digest_zone": "Europe/Berlin"},
    "alert_mails": {"alert_mail": "none"},
    "alert_mail_test": {},
    "webhook_create": {"name": "On call", "url": "https://hooks.example.com/x", "format": "standard"},
    "webhook_edit": {"name": "Renamed", "url": "https://hooks.example.com/x", "format": "standard"},
    "webhook_rotate": {},
    "webhook_delete": {},
    "webhook_switch": {"to": "off"},
    "webhook_test": {},
    "delivery_resend": {},
    "organization_edit": {"name": "Renamed", "key_prefix": "other"},
}
# What asks for the password again before it does what it is sent for.
PROVEN = {
    *("key_create", "key_regenerate", "key_revoke", "key_bulk_revoke", "key_rotate", "key_bulk_rotate"),
    *("rotation_extend", "rotation_finish", "rotation_cancel", "rotation_link"),
    *("invitation_create", "invitation_resend", "member_leave", "member_edit", "member_remove", "organization_edit"),
    *("policy_edit", "policy_exempt", "policy_exempt_end"),
    *("webhook_create", "webhook_edit", "webhook_rotate", "webhook_delete", "webhook_switch"),
}
PROVEN_TO_READ = {"audit_export"}
POST_ONLY = {"key_find", "alert_find", "review_find", "review_remind", "alert_rule_reset", "alert_mail_test"}
POST_ONLY |= {"invitation_resend", "invitation_withdraw"}
POST_ONLY |= {"webhook_switch", "webhook_test", "delivery_resend"}
FINDS = {"key_find", "alert_find", "review_find"}
LEAD_ON = {"key_bulk_revoke", "key_bulk_rotate", "alert_bulk_acknowledge", "alert_bulk_resolve"}
LEAD_ON |= {"scope_create", "invitation_create", "review_start", "review_bulk_confirm", "review_revoke"}
# Whoever does not own the key, and is no admin, may not.
OF_ITS_OWNER = {"review_confirm", "review_bulk_confirm"}
# What ends an exemption needs a key that has one.
ENDS = ("key_exempt_end", "policy_exempt_end")
# Asks, and changes nothing itself.
ASKS = {"prove"}
ANSWERED = [(name, "GET") for name in OF_AN_ORGANIZATION if name not in POST_ONLY]
ANSWERED += [(name, "POST") for name in OF_AN_ORGANIZATION if name in {*FORMS, *FINDS, *ASKS}]


class Things:
    """One of each thing of an organization, to put into addresses and forms."""

    def __init__(self, organization):
        self.organization = organization.slug
        self.key = make_key(organization, scopes=["orders:read", "orders:write"]).key
        self.paused = make_key(organization).key
        self.paused.paused_at = self.key.created_at
        self.paused.save()
        self.exempt = make_key(organization).key
        make_exemption(self.exempt)
        make_policy_exemption(self.exempt)
        make_scope(organization, "spare:read")
        make_environment(organization, "spare")
        self.member = make_member(organization, Role.VIEWER, make_user())
        self.rotation = make_rotation(organization).rotation
        handed = make_rotation(organization, link_lasts=timedelta(days=1))
        self.awaited, self.token = handed.rotation, handed.token
        self.invitation, self.way_in = make_invitation(organization)
        self.alert = make_alert(organization)
        self.webhook = make_webhook(organization)
        self.delivery = make_delivery(organization, sent_at=timezone.now())
        self.review = make_review(organization)
        ReviewReminder.objects.update(at=timezone.now() - timedelta(days=2))
        rule = AlertRule.objects.one(organization, AlertKind.EXPIRY)
        rule.edit(replace(rule.terms, is_urgent=True), by=make_actor())

    def url(self, page, **other):
        key = self.key_of(page)
        known = {
            "organization": self.organization,
            "public_id": key.public_id,
            "code": "spare",
            "pk": self.pk(page),
            "name": "spare:read",
            "number": self.number(page),
            "rule": "expiry",
            "token": self.way_in if page == "invitation_take" else self.token,
            "table": "outcomes",
            "kind": "csv",
        } | other
        asked = re.findall(r"<\w+:(\w+)>", ROUTES[page])
        return reverse(page, kwargs={argument: known[argument] for argument in asked})

    def key_of(self, page):
        return {"key_resume": self.paused, **dict.fromkeys(ENDS, self.exempt)}.get(page, self.key)

    def pk(self, page):
        return self.delivery.pk if page.startswith("delivery_") else self.member.pk

    def number(self, page):
        if page.startswith("alert_"):
            return self.alert.pk
        if page.startswith("invitation_"):
            return self.invitation.pk
        if page.startswith("webhook_"):
            return self.webhook.pk
        if page.startswith("review_"):
            return self.review.pk
        return self.awaited.pk if page == "rotation_link" else self.rotation.pk

    def form(self, name):
        form = dict(FORMS.get(name, {}))
        if name in {"key_bulk_revoke", "key_bulk_rotate", "review_bulk_confirm"}:
            form["key"] = [self.key.public_id]
        if name in {"alert_bulk_acknowledge", "alert_bulk_resolve"}:
            form["alert"] = [self.alert.code]
        if name == "key_exempt":
            form["owner"] = self.member.pk
        if name == "key_exempt_end":
            form["seen"] = self.exempt.exemption.changed_at.isoformat()
        if name == "policy_exempt_end":
            form["seen"] = self.exempt.policy_exemptions.get().changed_at.isoformat()
        if name == "rotation_extend":
            form |= {"end": f"{soon():%Y-%m-%dT%H:%M}", "seen": self.rotation.deadline.isoformat()}
        return form


# The cast and the things are made once for all tests of this module: to make them takes most of their time.


@pytest.fixture(scope="module")
def _made(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), rolled_back():
        organization = make_organization("acme", name="Acme", admin=make_user("founder@example.com"))
        made = {"organization": organization, "outsider": make_user("outsider@example.com")}
        make_organization("elsewhere", admin=made["outsider"])
        for role in Role.values:
            made[role] = make_member(organization, Role(role), make_user(f"{role}@example.com")).user
        yield made | {"things": Things(organization)}


@pytest.fixture
def made(_made, db):
    """Copies, which a test may change as it may change the rows: those are put back after it."""
    return copy.deepcopy(_made)


@pytest.fixture
def organization(made):
    return made["organization"]


@pytest.fixture
def viewer(made):
    return made["viewer"]


@pytest.fixture
def operator(made):
    return made["operator"]


@pytest.fixture
def admin(made):
    return made["admin"]


@pytest.fixture
def outsider(made):
    return made["outsider"]


@pytest.fixture
def things(made, request):
    found = made["things"]
    if "review_start" in request.node.name:
        # There is one open review at a time.
        found.review.close(by=make_actor())
    return found


def send(client, method, things, name, headers=None):
    if method == "POST":
        return client.post(things.url(name), things.form(name), headers=headers)
    return client.get(things.url(name), headers=headers)


def needed(name):
    return Role(ACCESS[name].removeprefix("role:"))


@pytest.fixture
def cast(viewer, operator, admin, client_of):
    """A client for each role."""
    return {Role.VIEWER: client_of(viewer), Role.OPERATOR: client_of(operator), Role.ADMIN: client_of(admin)}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", OF_AN_ORGANIZATION)
def test_nobody_is_led_to_the_sign_in(things, name, method):
    before = snapshot()
    response = send(Client(), method, things, name)
    assert response.status_code == 302
    assert response["Location"].startswith("/accounts/login/?next=")
    refreshed = send(Client(), method, things, name, HTMX)
    assert (refreshed.status_code, refreshed["HX-Refresh"]) == (200, "true")
    assert b"<form" not in refreshed.content
    assert snapshot() == before


@pytest.mark.parametrize(("name", "method"), ANSWERED)
def test_to_an_outsider_nothing_is_there(things, outsider, client_of, name, method):
    client = client_of(outsider)
    before = snapshot()
    for headers in (None, HTMX):
        response = send(client, method, things, name, headers)
        assert response.status_code == 404
        assert things.key.name not in response.text
    assert snapshot() == before


@pytest.mark.parametrize(("name", "method"), ANSWERED)
def test_a_role_too_low_is_refused_and_changes_nothing(things, cast, name, method):
    before = snapshot()
    for role, client in cast.items():
        if not role.includes(needed(name)):
            for headers in (None, HTMX):
                response = send(client, method, things, name, headers)
                assert response.status_code == 403
                assert needed(name) in response.text
    assert snapshot() == before


@pytest.mark.parametrize(("name", "method"), ANSWERED)
def test_the_role_that_is_needed_and_each_above_it_is_answered(things, cast, name, method):
    for role, client in cast.items():
        if role.includes(needed(name)):
            response = send(client, method, things, name)
            leads_on = name in LEAD_ON or method == "POST"
            answers = {200, 302, 303, 404, 422} if leads_on else {200}
            of_its_owner = name in OF_ITS_OWNER and role != Role.ADMIN
            assert response.status_code in (answers | {403} if of_its_owner else answers)


@pytest.mark.parametrize("name", FORMS)
def test_each_form_of_these_tests_changes_something_so_that_a_refusal_proves_something(things, admin, client_of, name):
    client = client_of(admin)
    before = snapshot()
    assert send(client, "POST", things, name).status_code in {200, 302}
    assert snapshot() != before


@pytest.mark.parametrize("name", OF_AN_ORGANIZATION)
def test_a_method_that_a_page_does_not_have_is_a_405(things, admin, client_of, name):
    client = client_of(admin)
    methods = {method for answered, method in ANSWERED if answered == name}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - methods:
        assert client.generic(method, things.url(name)).status_code == 405


@pytest.mark.parametrize("name", [name for name in OF_AN_ORGANIZATION if OF_A_THING.search(ROUTES[name])])
def test_a_thing_of_another_organization_is_not_there(things, admin, outsider, client_of, name):
    theirs = Things(make_organization("theirs", admin=outsider))
    scope = make_scope(outsider.memberships.first().organization, "other:read")
    environment = make_environment(outsider.memberships.first().organization, "other")
    key = theirs.key_of(name)
    others = {"name": scope.name, "code": environment.code, "number": theirs.number(name)}
    address = things.url(name, public_id=key.public_id, pk=theirs.pk(name), **others)
    client = client_of(admin)
    before = snapshot()
    for headers in (None, HTMX):
        assert client.get(address, headers=headers).status_code == (405 if name in POST_ONLY else 404)
        if name in FORMS:
            assert client.post(address, things.form(name), headers=headers).status_code == 404
    assert snapshot() == before


@pytest.mark.parametrize("name", OF_AN_ORGANIZATION)
def test_no_page_of_an_organization_is_stored_and_each_differs_for_htmx(things, admin, client_of, name):
    response = client_of(admin).get(things.url(name))
    if response.status_code != 405:
        assert "no-store" in response["Cache-Control"]
        assert "private" in response["Cache-Control"]
        assert "HX-Request" in response["Vary"]


@pytest.mark.parametrize("name", [name for name, access in ACCESS.items() if access.startswith("public: ")])
def test_a_public_page_is_there_for_everybody(things, viewer, client_of, name):
    assert Client().get(things.url(name)).status_code == 200
    # To somebody else an invitation says so.
    assert client_of(viewer).get(things.url(name)).status_code == (403 if name == "invitation_take" else 200)


def test_only_what_the_sign_in_page_needs_and_the_ways_in_by_a_link_are_public():
    found = {name for name, access in ACCESS.items() if access.startswith("public: ")}
    assert found == {"stylesheet", "script", "rotation_take", "invitation_take"}


ACCOUNT_PAGES = [(route, pattern.name) for route, pattern in patterns() if route.startswith("accounts/")]


@pytest.mark.parametrize("name", [name for _, name in ACCOUNT_PAGES])
def test_an_account_page_answers_everybody_and_shows_nothing_of_an_organization(things, viewer, client_of, name):
    kwargs = {"account_reset_password_from_key": {"uidb36": "1", "key": "no-such-key"}}
    kwargs |= {of: {"pk": 1} for of in ("mfa_edit_webauthn", "mfa_remove_webauthn")}
    address = reverse(name, kwargs=kwargs.get(name))
    for client in (Client(raise_request_exception=False), client_of(viewer)):
        for response in (client.get(address), client.post(address, {})):
            # Of a factor that they do not have there is nothing.
            # And single sign-on is off here.
            absent = {404} if name.startswith(("mfa_", "sign_on")) else set()
            assert response.status_code in {200, 302, 403, 405} | absent
            assert things.key.name not in response.text


@pytest.mark.parametrize("path", ["/nothing", "/acme", "/acme/nothing/", "/acme/keys", "/accounts/email/", "/admin/"])
def test_an_address_that_is_none_is_not_there_for_anybody(things, viewer, client_of, path):
    for client in (Client(), client_of(viewer)):
        assert client.get(path).status_code in {301, 302, 404}


def test_a_person_with_a_closed_account_is_signed_out(things, viewer, client_of):
    client = client_of(viewer)
    assert client.get(things.url("key_list")).status_code == 200
    viewer.is_active = False
    viewer.save()
    assert client.get(things.url("key_list"))["Location"].startswith("/accounts/login/")


def test_a_member_who_was_removed_finds_nothing_at_once(things, viewer, admin, client_of):
    client = client_of(viewer)
    make_member(make_organization("other"), Role.VIEWER, viewer)
    client_of(admin).post(reverse("member_remove", args=["acme", viewer.memberships.get(organization__slug="acme").pk]))
    assert client.get(things.url("key_list")).status_code == 404
    assert client.get("/other/keys/").status_code == 200


# Operators who are limited to environments
IN_REACH = {pattern.name for _, pattern in OURS if getattr(pattern.callback, "in_reach", False)}
BY_THEIR_FORM = {name for name in IN_REACH if not OF_A_THING.search(ROUTES[name])}
# These name no key in their address: what they then show is for tests/test_reach.py.
ASKED_FOR_NOTHING = {(name, "GET") for name in BY_THEIR_FORM}
OF_OPERATORS = [name for name in OF_AN_ORGANIZATION if ACCESS[name] == "role:operator"]


@pytest.fixture
def limited(things, organization, client_of):
    """A client of an operator who may touch none of the things: all of them are of production."""
    return client_of(make_limited(organization, "spare"))


@pytest.mark.parametrize("name", OF_OPERATORS)
def test_whatever_an_operator_changes_asks_for_their_limit(things, operator, client_of, name):
    is_read_only = client_of(operator).post(things.url(name), {}).status_code == 405
    assert name in IN_REACH or is_read_only, f"{name} changes something: let it be in_reach"
    assert not (name in IN_REACH and is_read_only)


@pytest.mark.parametrize(
    ("name", "method"), [one for one in ANSWERED if one[0] in IN_REACH and one not in ASKED_FOR_NOTHING]
)
def test_an_operator_is_refused_what_is_outside_of_their_limit(things, limited, name, method):
    # Nobody is asked for a password who may not anyway, but where only the form says of which environment it is.
    client = limited if name in BY_THEIR_FORM else age_proof(limited, DAY)
    before = snapshot()
    for headers in (None, HTMX):
        response = send(client, method, things, name, headers)
        assert response.status_code == 403
        assert "limited to some environments, and production is not one of them" in response.text
    assert snapshot() == before


@pytest.mark.parametrize("name", sorted(IN_REACH))
def test_an_operator_may_do_all_of_that_within_their_limit(things, organization, client_of, name):
    client = client_of(make_limited(organization, "prod", "dev"))
    before = snapshot()
    assert send(client, "POST", things, name).status_code in {200, 302}
    assert snapshot() != before


# Step-up: what asks for the password again
DAY = 24 * 3600


def test_what_asks_for_the_password_again_is_what_this_table_says():
    marked = {pattern.name for _, pattern in OURS if getattr(pattern.callback, "proven", False)}
    assert marked == PROVEN | PROVEN_TO_READ


@pytest.mark.parametrize("name", sorted(FORMS))
def test_a_form_of_somebody_who_showed_it_long_ago_waits_for_the_password_or_needs_none(things, proving, name):
    client = age_proof(proving, DAY)
    before = snapshot()
    for headers in (None, HTMX):
        if name in PROVEN:
            response = send(client, "POST", things, name, headers)
            assert response.status_code == 422
            assert "Confirm that it is you" in response.text
            assert snapshot() == before
    form = things.form(name) | ({"proof_password": PASSWORD} if name in PROVEN else {})
    assert client.post(things.url(name), form).status_code in {200, 302}
    assert snapshot() != before


@pytest.fixture
def proving(admin, client_of):
    """A client of an admin who has a password."""
    cache.clear()  # limits are counted there, by people whom other tests make anew
    admin.set_password(PASSWORD)
    admin.save()
    return client_of(admin)


@pytest.mark.parametrize("name", sorted(PROVEN))
def test_a_role_too_low_is_refused_and_not_asked(things, cast, name):
    for role, client in cast.items():
        if not role.includes(needed(name)):
            assert send(age_proof(client, DAY), "POST", things, name).status_code == 403


def test_the_table_of_roles_in_the_docs_is_that_of_the_pages():
    assert role_table.DOCUMENT.read_text() == role_table.written(), "run: python -m tests.role_table"
