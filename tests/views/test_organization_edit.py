"""The organization's settings."""

import pytest

from apikeys.models import AuditAction
from tests.factories import make_key
from tests.pages import HOSTILE, HTMX, entries, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


@pytest.fixture
def edit(organization, client):
    return lambda headers=None, **form: client.post(
        url("organization_edit", organization), {"name": "Acme", "key_prefix": "ka"} | form, headers=headers
    )


def test_it_shows_the_name_the_prefix_and_the_environments_with_their_keys(organization, client):
    make_key(organization, environment="dev")
    before = snapshot()
    response = client.get(url("organization_edit", organization))
    assert is_whole_page(response)
    initial = {"name": "Acme", "key_prefix": "ka", "max_key_age": None, "checkpoint_mail": ""}
    assert response.context["form"].initial == initial | {"requires_second_factor": False}
    counts = {environment.code: environment.key_count for environment in response.context["environments"]}
    assert list(counts.items()) == [("prod", 0), ("stag", 0), ("dev", 1)]
    assert snapshot() == before


def test_a_change_is_saved_and_recorded_and_keys_that_exist_keep_their_prefix(organization, admin, edit, verifier):
    old = make_key(organization)
    response = edit(name="Acme Corporation", key_prefix="acme")
    assert response["Location"] == url("organization_edit", organization)
    organization.refresh_from_db()
    [entry] = entries(organization, AuditAction.ORGANIZATION_EDIT)
    assert entry.actor == admin
    assert entry.changes == {"name": ["Acme", "Acme Corporation"], "key_prefix": ["ka", "acme"]}
    assert make_key(organization).secret.text.startswith("acme_prod_")
    assert verifier.verify(organization, old.secret.text).status == 200


def test_htmx_is_told_to_load_the_page(organization, edit):
    assert edit(HTMX, name="Other")["HX-Redirect"] == url("organization_edit", organization)


def test_saving_the_same_records_nothing(edit):
    before = snapshot()
    assert edit().status_code == 302
    assert snapshot() == before


BAD = {
    "no name": ({"name": " "}, "name"),
    "a name over its limit": ({"name": "x" * 101}, "name"),
    "a name with a NUL": ({"name": "a\0"}, "name"),
    "a name of two lines": ({"name": "a\nb"}, "name"),
    "no prefix": ({"key_prefix": ""}, "key_prefix"),
    "a prefix in capitals": ({"key_prefix": "KA"}, "key_prefix"),
    "a prefix with an underscore": ({"key_prefix": "k_a"}, "key_prefix"),
    "a prefix over its limit": ({"key_prefix": "k" * 11}, "key_prefix"),
    "no day": ({"max_key_age": "0"}, "max_key_age"),
    "less than a day": ({"max_key_age": "-1"}, "max_key_age"),
    "more than ten years": ({"max_key_age": "3651"}, "max_key_age"),
    "a part of a day": ({"max_key_age": "1.5"}, "max_key_age"),
    "an age in words": ({"max_key_age": "half a year"}, "max_key_age"),
    "no address": ({"checkpoint_mail": "audit"}, "checkpoint_mail"),
    "an address over its limit": ({"checkpoint_mail": "a" * 250 + "@example.org"}, "checkpoint_mail"),
    "an address of two lines": ({"checkpoint_mail": "a@example.org\nBcc: b@example.org"}, "checkpoint_mail"),
    "a number of many digits": ({"max_key_age": "9" * 5000}, "max_key_age"),
}


@pytest.mark.parametrize(("form", "field"), BAD.values(), ids=BAD)
def test_bad_input_is_a_422_that_names_the_field_and_the_page_keeps_the_old_name(edit, form, field):
    before = snapshot()
    response = edit(**form)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert response.context["organization"].name == "Acme"
    assert snapshot() == before


@pytest.mark.parametrize("age", ["0", "-1", "3651", "1.5", "half a year"])
def test_a_bad_age_is_told_with_its_limits_beside_the_name_of_the_field(edit, age):
    text = edit(max_key_age=age).text
    assert ">Maximum key age</a>: Between 1 and 3,650 days, or empty for no limit.</li>" in text


def test_the_maximum_age_is_explained_saved_recorded_and_taken_off_again(organization, client, edit):
    told = "Days after which a key should be rotated. Empty: no limit."
    assert told in client.get(url("organization_edit", organization)).text
    for text, days in (("180", 180), ("3650", 3650), ("", None)):
        assert edit(max_key_age=text).status_code == 302
        organization.refresh_from_db()
        assert organization.max_key_age == days
    changes = [entry.changes["max_key_age"] for entry in entries(organization, AuditAction.ORGANIZATION_EDIT)]
    assert changes == [[None, 180], [180, 3650], [3650, None]]


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_who_is_no_admin_sets_no_age(organization, role, request, client_of):
    client = client_of(request.getfixturevalue(role))
    before = snapshot()
    form = {"name": "Acme", "key_prefix": "ka", "max_key_age": "180"}
    assert client.post(url("organization_edit", organization), form).status_code == 403
    assert snapshot() == before


def test_the_slug_stays_whatever_is_sent(organization, edit):
    edit(slug="v1", name="Other")
    organization.refresh_from_db()
    assert (organization.slug, organization.name) == ("acme", "Other")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_any_name_is_kept_and_escaped_on_every_page(organization, client, edit, text):
    assert edit(name=text).status_code == 302
    for name in ("organization_edit", "key_list", "audit_list", "member_list", "scope_list"):
        response = client.get(url(name, organization))
        assert "<script>alert" not in response.text
        assert "<img src=x" not in response.text


def test_who_is_mailed_the_checkpoints_is_saved_and_recorded(organization, client, edit):
    assert "Mail checkpoints of the audit log to" in client.get(url("organization_edit", organization)).text
    assert edit(checkpoint_mail="audit@example.net").status_code == 302
    organization.refresh_from_db()
    assert organization.checkpoint_mail == "audit@example.net"
    [entry] = entries(organization, AuditAction.ORGANIZATION_EDIT)
    assert entry.changes == {"checkpoint_mail": ["", "audit@example.net"]}
