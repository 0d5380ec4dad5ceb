"""Deleting an environment that no key was made for."""

import pytest

from apikeys.models import AuditAction
from tests.factories import make_environment, make_organization, make_revoked_key
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def test_the_confirmation_is_a_page_and_for_htmx_a_dialog(organization, client):
    before = snapshot()
    address = url("environment_delete", organization, "dev")
    assert is_whole_page(client.get(address))
    assert is_partial(client.get(address, headers=HTMX))
    assert snapshot() == before


def test_an_unused_environment_is_deleted_and_that_recorded(organization, admin, client):
    response = client.post(url("environment_delete", organization, "dev"))
    assert response["Location"] == url("organization_edit", organization)
    assert not organization.environments.filter(code="dev").exists()
    [entry] = entries(organization, AuditAction.ENVIRONMENT_DELETE)
    assert (entry.actor, entry.target_label) == (admin, "development")


def test_an_environment_of_a_key_even_a_dead_one_stays(organization, client):
    make_revoked_key(organization, environment="dev")
    before = snapshot()
    response = client.post(url("environment_delete", organization, "dev"), headers=HTMX)
    assert response["HX-Redirect"] == url("organization_edit", organization)
    assert "stays" in messages_of(response)[0]
    assert snapshot() == before


def test_a_double_submit_finds_nothing(organization, client):
    client.post(url("environment_delete", organization, "dev"))
    assert client.post(url("environment_delete", organization, "dev")).status_code == 404


@pytest.mark.parametrize("code", ["mars", "unknown", "%00"])
def test_an_environment_that_is_not_the_organizations_is_not_there(organization, client, code):
    theirs = make_environment(make_organization(), "mars")
    assert client.post(f"/acme/settings/environments/{code}/delete").status_code in {400, 404}
    theirs.refresh_from_db()
