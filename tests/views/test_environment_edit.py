"""Changing an environment's name and kind."""

import pytest

from apikeys.models import AuditAction
from tests.factories import make_environment, make_organization
from tests.pages import HTMX, entries, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def test_the_form_shows_what_is(organization, client):
    response = client.get(url("environment_edit", organization, "stag"))
    assert is_whole_page(response)
    assert response.context["form"].initial == {"name": "staging", "kind": "staging"}


def test_a_change_is_saved_and_recorded_with_before_and_after(organization, admin, client):
    form = {"name": "rehearsal", "kind": "other", "code": "other"}
    response = client.post(url("environment_edit", organization, "stag"), form, headers=HTMX)
    assert response["HX-Redirect"] == url("organization_edit", organization)
    changed = organization.environments.get(code="stag")
    assert (changed.name, changed.kind) == ("rehearsal", "other")
    [entry] = entries(organization, AuditAction.ENVIRONMENT_EDIT)
    assert entry.actor == admin
    assert entry.changes == {"name": ["staging", "rehearsal"], "kind": ["staging", "other"]}


def test_saving_the_same_records_nothing(organization, client):
    before = snapshot()
    client.post(url("environment_edit", organization, "stag"), {"name": "staging", "kind": "staging"})
    assert snapshot() == before


BAD = [
    ({}, "name"),
    ({"name": "", "kind": "other"}, "name"),
    ({"name": "x" * 41, "kind": "other"}, "name"),
    ({"name": "a\0", "kind": "other"}, "name"),
    ({"name": "x", "kind": "lunar"}, "kind"),
]


@pytest.mark.parametrize(("form", "field"), BAD)
def test_bad_input_is_a_422_that_names_the_field(organization, client, form, field):
    before = snapshot()
    response = client.post(url("environment_edit", organization, "stag"), form)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert snapshot() == before


def test_a_name_that_is_taken_says_so(organization, client):
    response = client.post(url("environment_edit", organization, "stag"), {"name": "production", "kind": "other"})
    assert response.status_code == 422
    assert "There is an environment with this name already." in response.text


@pytest.mark.parametrize("code", ["mars", "unknown", "%00", "x" * 300])
def test_an_environment_that_is_not_the_organizations_is_not_there(organization, client, code):
    make_environment(make_organization(), "mars")
    form = {"name": "x", "kind": "other"}
    assert client.get(f"/acme/settings/environments/{code}/edit").status_code in {400, 404}
    assert client.post(f"/acme/settings/environments/{code}/edit", form).status_code in {400, 404}
