"""No organization reaches another's data: every address, form field, filter, cursor, export and the verifier."""

import ast
import copy
import re
from pathlib import Path

import django_filters
import pytest
from django import forms
from django.urls import resolve, reverse

from apikeys import alert_filters, filters, usage_forms, webhook_forms  # noqa: F401 - their forms are counted below
from apikeys.models import Organization, Role, UsageEvent
from tests.factories import (
    make_alert,
    make_delivery,
    make_environment,
    make_exemption,
    make_key,
    make_member,
    make_organization,
    make_rotation,
    make_scope,
    make_user,
)
from tests.held import rolled_back
from tests.pages import HTMX, edit_form, key_form, make_keys, rotate_form, snapshot, url
from tests.test_access import ANSWERED, OF_AN_ORGANIZATION, ROUTES, Things
from tests.test_architecture import OURS, ROOT

pytestmark = pytest.mark.django_db

# What an address holds beside an organization: the ids of its things, and words that are the same for everybody.
IDS = {"public_id", "number", "pk", "code", "name", "handle", "token"}
WORDS = {"kind", "table", "rule"}
ARGUMENT = re.compile(r"<\w+:(\w+)>")
WITH_IDS = [name for name in OF_AN_ORGANIZATION if IDS & set(ARGUMENT.findall(ROUTES[name]))]


class TheirThings(Things):
    """The same things of another organization; what people name is named otherwise there."""

    def __init__(self, organization):
        super().__init__(organization)
        make_scope(organization, "theirs:read")
        make_environment(organization, "them")

    def url(self, page, **other):
        return super().url(page, **({"name": "theirs:read", "code": "them"} | other))


# Both organizations are made once for all tests of this module: to make their things takes longer than most tests.


@pytest.fixture(scope="module")
def _both(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), rolled_back():
        acme = make_organization("acme", name="Acme", admin=make_user("founder@example.com"))
        outsider = make_user("outsider@example.com")
        theirs = make_organization("theirs", name="Theirs", admin=outsider)
        yield {"acme": acme, "outsider": outsider, "ours": Things(acme), "theirs": TheirThings(theirs)}


@pytest.fixture
def both(_both, db):
    """Copies, which a test may change as it may change the rows: those are put back after it."""
    return copy.deepcopy(_both)


@pytest.fixture
def organization(both):
    return both["acme"]


@pytest.fixture
def ours(both):
    return both["ours"]


@pytest.fixture
def outsider(both):
    return both["outsider"]


@pytest.fixture
def theirs(both):
    """The things of an organization of which nobody here but the outsider is a member."""
    return both["theirs"]


def test_every_argument_of_an_address_is_an_id_or_a_word():
    found = {argument for route, _ in OURS for argument in ARGUMENT.findall(route)}
    assert found - {"organization"} == IDS | WORDS, "say of a new one which it is"


# Addresses


def addresses(ours, theirs, name):
    """Return a page's addresses that hold another organization's slug, its ids, or both."""
    mine, their = resolve(ours.url(name)).kwargs, resolve(theirs.url(name)).kwargs
    for argument in IDS & set(mine):
        assert mine[argument] != their[argument], f"the example of {argument} tells the organizations not apart"
    tried = [their, mine | {"organization": "theirs"}]
    tried += [their | {"organization": "acme"}] if name in WITH_IDS else []
    return [reverse(name, kwargs=kwargs) for kwargs in tried]


@pytest.mark.parametrize("headers", [None, HTMX], ids=["page", "htmx"])
def test_no_address_with_anothers_slug_or_ids_is_there_and_nothing_changes(ours, theirs, admin, client_of, headers):
    client = client_of(admin)
    before = snapshot()
    wrong = []
    for name in OF_AN_ORGANIZATION:
        for address in addresses(ours, theirs, name):
            answers = [("GET", client.get(address, headers=headers)), ("GET", client.head(address, headers=headers))]
            sent = (ours.form(name), theirs.form(name))
            answers += [("POST", client.post(address, form, headers=headers)) for form in sent]
            for method, response in answers:
                expected = 404 if (name, method) in ANSWERED else 405
                told = response.text.replace(address, "")
                if response.status_code != expected or theirs.key.public_id in told or theirs.key.name in told:
                    wrong.append((method, address, response.status_code))
    assert wrong == []
    assert snapshot() == before


def told_of(things):
    """Return texts that only one organization's pages hold."""
    organization = Organization.objects.get(slug=things.organization)
    yield f"/{organization.slug}/"
    yield from organization.keys.values_list("public_id", flat=True)
    yield from organization.members.exclude(user__email="outsider@example.com").values_list("user__email", flat=True)
    yield from (alert.code for alert in organization.alerts.all())
    yield from (str(delivery.pk) for delivery in organization.deliveries.all())
    yield from ("theirs:read", "environment them")


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_no_page_or_export_of_ours_holds_anything_of_theirs(ours, theirs, admin, client_of, kind):
    client, found = client_of(admin), []
    for name in OF_AN_ORGANIZATION:
        if (name, "GET") in ANSWERED:
            # With what a page shows only when it is asked for.
            response = client.get(ours.url(name, kind=kind), {"filters": "open"}, follow=True)
            assert response.status_code == 200, name
            told = response.getvalue().decode() if response.streaming else response.text
            found += [(name, text) for text in told_of(theirs) if text in told]
    assert found == []


def test_the_texts_that_are_looked_for_are_on_their_own_pages(theirs, outsider, client_of):
    client = client_of(outsider)
    told = "".join(
        client.get(theirs.url(name)).text for name in ("key_list", "member_list", "alert_list", "scope_list")
    )
    told += client.get(theirs.url("organization_edit")).text + client.get(theirs.url("delivery_list")).text
    told += client.get("/theirs/keys/", {"status": "paused"}).text
    assert [text for text in told_of(theirs) if text not in told] == []


def test_a_session_of_somebody_else_is_not_there(viewer, admin, client_of):
    client_of(viewer)
    before = snapshot()
    [one] = viewer.sessions.all()
    assert client_of(admin).post(reverse("session_end", args=[one.handle])).status_code == 404
    assert viewer.sessions.count() == 1
    assert snapshot()["apikeys.AuditEntry"] == before["apikeys.AuditEntry"]


# Fields of forms, and filters


def subclasses(model):
    for one in model.__subclasses__():
        yield from (one, *subclasses(one))


# Who sends another organization's ids in which field, below.
TAKE_IDS = {
    ("KeyForm", "environment"),
    ("KeyForm", "owner"),
    ("KeyForm", "scopes"),
    ("ExemptionForm", "owner"),
    ("MemberRemoveForm", "keys_to"),
    ("InvitationForm", "environments"),
    ("RoleForm", "environments"),
    ("PolicyForm", "admin_scopes"),
    ("KeyFilter", "environment"),
    ("KeyFilter", "scope"),
    ("AlertFilter", "environment"),
}


def test_every_field_that_takes_an_id_is_tried():
    of_forms = {
        (form.__name__, name)
        for form in subclasses(forms.Form)
        if form.__module__.startswith("apikeys.")
        for name, field in form.base_fields.items()
        if isinstance(field, forms.ModelChoiceField)
    }
    of_filters = {
        (listing.__name__, name)
        for listing in subclasses(django_filters.FilterSet)
        for name, one in listing.base_filters.items()
        if isinstance(one, django_filters.ModelChoiceFilter | django_filters.ModelMultipleChoiceFilter)
    }
    assert of_forms | of_filters == TAKE_IDS


def kept():
    """Return every row but those of sessions, which hold the message that says what was refused."""
    return {label: rows for label, rows in snapshot().items() if label != "apikeys.Session"}


def refused(response, field):
    """Say whether a form was refused at a field."""
    return response.status_code == 422 and field in response.context["form"].errors


@pytest.mark.parametrize("where", ["key_create", "key_edit"])
@pytest.mark.parametrize("field", ["environment", "owner", "scopes"])
def test_a_key_takes_nothing_of_theirs(ours, theirs, admin, client_of, where, field):
    form = key_form() if where == "key_create" else edit_form(ours.key)
    form[field] = {"environment": "them", "owner": str(theirs.member.pk), "scopes": ["theirs:read"]}[field]
    client = client_of(admin)
    before = snapshot()
    response = client.post(ours.url(where), form)
    if (where, field) == ("key_edit", "environment"):
        # Of an edit it is no field at all.
        ours.key.refresh_from_db()
        assert ours.key.environment.code == "prod"
        return
    assert refused(response, field)
    assert snapshot() == before


def test_nobody_of_theirs_answers_for_a_silence(ours, theirs, admin, client_of):
    client = client_of(admin)
    before = snapshot()
    response = client.post(ours.url("key_exempt"), ours.form("key_exempt") | {"owner": theirs.member.pk})
    assert refused(response, "owner")
    assert snapshot() == before


def test_nobody_of_theirs_takes_over_keys(organization, ours, theirs, admin, client_of):
    leaving = make_member(organization, Role.OPERATOR)
    make_exemption(make_key(organization, owner=leaving).key, leaving)
    client = client_of(admin)
    before = snapshot()
    response = client.post(ours.url("member_remove", pk=leaving.pk), {"keys_to": theirs.member.pk})
    assert refused(response, "keys_to")
    assert snapshot() == before


@pytest.mark.parametrize("where", ["invitation_create", "member_edit"])
def test_nobody_is_limited_to_an_environment_of_theirs(ours, theirs, admin, client_of, where):
    client = client_of(admin)
    before = kept()
    response = client.post(ours.url(where), ours.form(where) | {"role": "operator", "environments": ["them"]})
    assert refused(response, "environments")
    assert kept() == before


@pytest.mark.parametrize("where", ["policy_preview", "policy_edit"])
def test_no_policy_names_a_scope_of_theirs(ours, theirs, admin, client_of, where):
    client = client_of(admin)
    before = kept()
    send = client.get if where == "policy_preview" else client.post
    response = send(ours.url(where), ours.form("policy_edit") | {"admin_scopes": ["theirs:read"]})
    assert refused(response, "admin_scopes")
    assert kept() == before


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize(
    "where", ["key_bulk_revoke", "key_bulk_rotate", "alert_bulk_acknowledge", "alert_bulk_resolve"]
)
def test_a_choice_of_several_with_one_of_theirs_does_nothing(ours, theirs, admin, client_of, where, method):
    name, mine, their = (
        ("key", ours.key.public_id, theirs.key.public_id)
        if where.startswith("key")
        else ("alert", ours.alert.code, theirs.alert.code)
    )
    client = client_of(admin)
    before = kept()
    for chosen in ([mine, their], [their]):
        form = ours.form(where) | {name: chosen}
        response = getattr(client, method)(ours.url(where), form)
        assert response.status_code == 302
        told = client.get(response["Location"]).text
        assert theirs.key.name not in told
    assert kept() == before


@pytest.mark.parametrize(
    ("where", "query"),
    [
        ("key_list", {"environment": "them"}),
        ("key_list", {"scope": "theirs:read"}),
        ("alert_list", {"environment": "them"}),
    ],
)
def test_a_filter_knows_nothing_of_theirs(ours, theirs, admin, client_of, where, query):
    response = client_of(admin).get(ours.url(where), query)
    assert refused(response, next(iter(query)))


# The page and the filters of text, and of owners, of each list.
SEARCHES = {
    "KeyFilter": ("key_list", {"q", "owner"}),
    "AlertFilter": ("alert_list", {"q", "owner"}),
    "AuditFilter": ("audit_list", {"actor", "address", "key", "lineage"}),
    "DeliveryFilter": ("delivery_list", {"to"}),
    "ReviewFilter": ("review_detail", {"q", "owner"}),
}


def test_every_filter_that_takes_any_text_is_tried():
    found = {
        listing.__name__: {
            name
            for name, one in listing.base_filters.items()
            if type(one) is django_filters.CharFilter or name == "owner"
        }
        for listing in subclasses(django_filters.FilterSet)
        if listing.base_filters
    }
    assert found == {name: names for name, (_, names) in SEARCHES.items()}


@pytest.mark.parametrize(("where", "names"), SEARCHES.values(), ids=SEARCHES)
def test_a_search_finds_nothing_of_theirs(ours, theirs, admin, client_of, where, names):
    """By owner, key, lineage, code, recipient, address."""
    asked = [theirs.member.user.email, theirs.key.public_id, theirs.key.fingerprint, theirs.key.name]
    asked += [theirs.alert.code, theirs.webhook.name]
    client = client_of(admin)
    for text in asked:
        for name in names:
            told = client.get(ours.url(where), {name: text, "status": "all"} if name == "q" else {name: text}).text
            assert "/theirs/" not in told
            assert theirs.key.public_id not in told.replace(text, "")


def test_a_pasted_key_of_theirs_is_unknown(ours, theirs, admin, client_of):
    secret = make_key(Organization.objects.get(slug="theirs")).secret
    response = client_of(admin).post(ours.url("key_find"), {"q": secret.text})
    assert response["Location"] == "/acme/keys/?lookup=unknown"
    assert client_of(admin).post(ours.url("alert_find"), {"q": theirs.alert.code})["Location"].startswith("/acme/")


def test_a_form_token_of_theirs_leads_to_nothing_of_theirs(ours, theirs, outsider, admin, client_of):
    """What makes a form do nothing twice belongs to the organization as well."""
    made, started = key_form(), rotate_form()
    assert client_of(outsider).post(theirs.url("key_create"), made).status_code == 200
    assert client_of(outsider).post(theirs.url("key_rotate"), started).status_code == 200
    response = client_of(admin).post(ours.url("key_create"), made)
    assert "/theirs/" not in response.text
    assert Organization.objects.get(slug="acme").keys.filter(name=made["name"]).count() == 1
    response = client_of(admin).post(ours.url("key_rotate"), started)
    assert response.status_code == 200
    assert "/theirs/" not in response.text


# Cursors


def many(organization):
    """Make more than a page of each list."""
    make_keys(organization, 51)
    for _ in range(51):
        make_delivery(organization)
        make_alert(organization)
        make_rotation(organization)


def test_a_cursor_of_theirs_shows_nothing_of_theirs(ours, outsider, admin, client_of):
    theirs = Organization.objects.get(slug="theirs")
    many(theirs)
    followed = 0
    for where in ("key_list", "alert_list", "audit_list", "delivery_list", "rotation_list"):
        for query in ({}, {"status": "all"}, {"show": "all"}, {"sort": "name"}, {"sort": "-last_used"}):
            found = client_of(outsider).get(url(where, theirs), query)
            if not found.context.get("next_url"):
                continue
            followed += 1
            cursor = re.search(r"after=([^&]+)", found.context["next_url"])[1]
            response = client_of(admin).get(ours.url(where), query | {"after": cursor})
            assert response.status_code in {200, 422}
            assert "/theirs/" not in response.text
            for public_id in theirs.keys.values_list("public_id", flat=True):
                assert public_id not in response.text
    assert followed >= 8


# The verifier


@pytest.mark.parametrize("scope", [None, "orders:read"])
def test_a_key_of_theirs_is_unknown_to_the_verifier_and_leaves_no_trace(ours, theirs, verifier, scope):
    issued = make_key(Organization.objects.get(slug="theirs"))
    text = issued.secret.text
    answer = verifier.verify("acme", {"key": text, "scope": scope or ""})
    assert (answer.status, answer.json()["outcome"], answer.json()["key"]) == (401, "unknown", None)
    answers = [verifier.authorize("acme", text, scope=scope), verifier.authorize("acme", X_Api_Key=text)]
    answers += [verifier.call("GET", f"/v1/acme/authorize/{scope or '-'}/x", {"Authorization": f"Bearer {text}"})]
    for answer in answers:
        assert answer.status == 401
        assert {answer.headers[name] for name in ("x-key-id", "x-key-organization", "x-key-scopes")} == {""}
    assert not UsageEvent.objects.filter(key_id=issued.key.pk).exists()
    # It is their key, and works where it belongs.
    assert verifier.verify("theirs", text).status == 200


# By construction: what a view reads begins with the member's organization


READING = [*(ROOT / "apikeys/views").glob("*.py")]
READING += [ROOT / "apikeys" / f"{name}.py" for name in ("filters", "alert_filters", "forms", "webhook_forms")]
READING += [ROOT / "apikeys" / f"{name}.py" for name in ("usage_forms", "rotation_forms", "alert_forms", "widgets")]
READING += [ROOT / "apikeys" / f"{name}.py" for name in ("member_forms", "policy_forms", "review_forms")]
READING += [ROOT / "apikeys" / f"{name}.py" for name in ("review_filters", "sign_on_forms")]
# What reads or writes beside that, with what keeps it inside of the organization.
WRITES = "writes, and what it is given is the organization's"
OF_KEY = "takes a key, or ids of keys, that were found in the organization"
OF_ORGANIZATION = "takes the organization"
ALLOWED = {
    "AuditEntry.record": WRITES,
    "ApiKey.issue": WRITES,
    "KeyExemption.grant": WRITES,
    "Rotation.start": WRITES,
    "Alert.acknowledge_all": WRITES,
    "Alert.resolve_all": WRITES,
    "Scope.add": WRITES,
    "Environment.add": WRITES,
    "Invitation.invite": WRITES,
    "PolicyExemption.grant": WRITES,
    "Review.start": WRITES,
    "Invitation.with_token": "the link itself is the right to it, and bound to an address",
    "SignOnDomain.requires": "of an address's domain, whosever it is",
    "SignOnIdentity.admit": "the deployment's own mapping of domains says where somebody joins",
    "Member.select_related": "the person's own memberships, to lead them to one",
    "Rotation.with_token": "the link itself is the right to it, whoever opens it",
    "JobRun.recording": "of the installation; it names nothing of an organization",
    "JobRun.report": "of the installation; it names nothing of an organization",
    "AuditCheck.filter": "by the organization's id, which is its number",
    "AuditEntry.filter": "of the organization, or by the id of a key that was found in it",
    "Alert.filter": "by the key of an alert that was found in the organization",
    "ApiKey.fetch_named": OF_KEY,
    "ApiKey.all": "narrows to the keys of items of a review that was found in the organization",
    "ApiKey.for_list": "narrows to the keys of items of a review that was found in the organization",
    "ApiKey.filter": "by what a list of the organization's keys holds",
    "Policy.of": OF_ORGANIZATION,
    "ApiKey.contacts_of": OF_ORGANIZATION,
    "UsageDay.usage_of": OF_KEY,
    "UsageHour.attempts_since_end": OF_KEY,
    "UsageHour.daily": OF_KEY,
    "UsageHour.series_of": OF_KEY,
    "UsageHour.totals": OF_KEY,
    "UsageEvent.of": OF_KEY,
    "Rotation.newest_of": OF_KEY,
    "Rotation.open_of": OF_KEY,
    "Alert.open_of": OF_KEY,
    "OrganizationHour.series_between": OF_ORGANIZATION,
    "AlertSettings.of": OF_ORGANIZATION,
    "AlertRule.of": OF_ORGANIZATION,
    "AlertRule.one": OF_ORGANIZATION,
    "AlertRule.urgent_kinds": OF_ORGANIZATION,
}
MANAGED = re.compile(r"(\w+)\.(?:objects|_default_manager|_base_manager)\.(\w+)")
FOUND_IN_OURS = re.compile(
    r"get_object_or_404\((?:request\.member\.organization\.|(?:key|review)\.|"
    r"(?:mine|scopes|environments|rotations|members|reviews)\b)"
)
FILTERED = re.compile(r"\.filter\(organization=(request\.member\.)?organization\)")


def managers_in(path: Path):
    """Yield (Model.method, the expression or statement it stands in) of each use of a model's manager."""
    for node in ast.walk(ast.parse(path.read_text())):
        # Of what holds other statements its own head alone.
        if not isinstance(node, ast.stmt) or isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Try):
            continue
        parts = [getattr(node, name, None) for name in ("test", "iter")] if hasattr(node, "body") else [node]
        for part in filter(None, parts):
            for found in MANAGED.finditer(ast.unparse(part)):
                yield ".".join(found.groups()), ast.unparse(part)


USED = {(name, statement) for path in READING for name, statement in managers_in(path)}


@pytest.mark.parametrize(("name", "statement"), sorted(USED), ids=[name for name, _ in sorted(USED)])
def test_what_pages_read_begins_with_the_organization(name, statement):
    assert name in ALLOWED or FILTERED.search(statement), statement


def test_no_reason_is_left_over():
    assert set(ALLOWED) <= {name for name, _ in USED}


@pytest.mark.parametrize("path", READING, ids=lambda path: path.stem)
def test_no_page_finds_a_thing_by_its_model_alone_or_by_sql(path):
    told = path.read_text()
    assert not re.search(r"get_object_or_404\([A-Z]", told)
    assert not re.search(r"\.raw\(|connection\.cursor|\.extra\(select", told)
    assert told.count("get_object_or_404(") == len(FOUND_IN_OURS.findall(told))
