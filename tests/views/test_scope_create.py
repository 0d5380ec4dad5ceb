"""Adding a scope to the catalogue."""

import pytest

from apikeys.models import AuditAction
from tests.factories import make_organization, make_scope
from tests.pages import HOSTILE, HTMX, entries, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def create(organization, admin, client_of):
    client = client_of(admin)

    def post(name="refunds:write", description="Pay money back", headers=None):
        form = {"name": name, "description": description}
        return client.post(url("scope_create", organization), form, headers=headers)

    return post


def test_a_scope_is_added_and_recorded(organization, admin, create):
    response = create()
    assert response.status_code == 302
    assert response["Location"] == url("scope_list", organization)
    assert organization.scopes.get(name="refunds:write").description == "Pay money back"
    entry = entries(organization, AuditAction.SCOPE_CREATE)[-1]
    assert (entry.actor, entry.target_label) == (admin, "refunds:write")
    assert entry.changes == {"description": [None, "Pay money back"]}


def test_htmx_is_told_to_load_the_catalogue(organization, create):
    assert create(headers=HTMX)["HX-Redirect"] == url("scope_list", organization)


def test_another_organization_may_have_one_of_the_same_name(create):
    make_scope(make_organization(), "refunds:write")
    assert create().status_code == 302


BAD = {
    "no name": ({"name": ""}, "name"),
    "capitals": ({"name": "Refunds"}, "name"),
    "a space": ({"name": "refunds write"}, "name"),
    "one letter": ({"name": "r"}, "name"),
    "a name over its limit": ({"name": "r" * 65}, "name"),
    "a name with a NUL": ({"name": "re\0f"}, "name"),
    "a name that ends with a line break": ({"name": "refunds\n."}, "name"),
    "no description": ({"description": " "}, "description"),
    "a description over its limit": ({"description": "x" * 201}, "description"),
    "a description with a NUL": ({"description": "a\0b"}, "description"),
    "a description of two lines": ({"description": "a\nb"}, "description"),
}


@pytest.mark.parametrize(("form", "field"), BAD.values(), ids=BAD)
def test_bad_input_is_a_422_that_names_the_field_and_nothing_is_added(create, form, field):
    before = snapshot()
    response = create(**form)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert snapshot() == before


def test_a_name_that_is_taken_or_a_double_submit_says_so(organization, create):
    create()
    before = snapshot()
    response = create()
    assert response.status_code == 422
    assert "There is a scope with this name already." in response.text
    assert snapshot() == before


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_was_typed_is_shown_again_escaped(organization, create, text):
    response = create(name=text, description=text)
    assert response.status_code == 422 or text == "x" * 100
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_its_address_alone_leads_to_the_list_with_the_form(organization, admin, client_of):
    response = client_of(admin).get(url("scope_create", organization))
    assert (response.status_code, response["Location"]) == (302, url("scope_list", organization))
