"""Adding an environment of the organization's own."""

import pytest

from apikeys.models import AuditAction
from tests.factories import make_environment, make_organization
from tests.pages import HOSTILE, HTMX, entries, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db
FORM = {"name": "europe", "code": "eu", "kind": "production"}


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


@pytest.fixture
def create(organization, client):
    return lambda headers=None, **form: client.post(
        url("environment_create", organization), FORM | form, headers=headers
    )


def test_the_form_is_a_page(organization, client):
    assert is_whole_page(client.get(url("environment_create", organization)))


def test_an_environment_is_added_and_recorded(organization, admin, create):
    response = create()
    assert response["Location"] == url("organization_edit", organization)
    made = organization.environments.get(code="eu")
    assert (made.name, made.kind) == ("europe", "production")
    [entry] = entries(organization, AuditAction.ENVIRONMENT_CREATE)
    assert (entry.actor, entry.target_label) == (admin, "europe")
    assert entry.changes == {"name": [None, "europe"], "kind": [None, "production"]}


def test_htmx_is_told_to_load_the_settings(organization, create):
    assert create(headers=HTMX)["HX-Redirect"] == url("organization_edit", organization)


def test_another_organization_may_have_the_same(create):
    make_environment(make_organization(), "eu", name="europe")
    assert create().status_code == 302


BAD = {
    "no name": ({"name": ""}, "name"),
    "a name over its limit": ({"name": "x" * 41}, "name"),
    "a name with a NUL": ({"name": "a\0"}, "name"),
    "a name that turns direction": ({"name": "a\u202eb"}, "name"),
    "no code": ({"code": ""}, "code"),
    "a code in capitals": ({"code": "EU"}, "code"),
    "a code of one letter": ({"code": "e"}, "code"),
    "a code that begins with a digit": ({"code": "1e"}, "code"),
    "a code over its limit": ({"code": "e" * 11}, "code"),
    "a code with an underscore": ({"code": "e_u"}, "code"),
    "an unknown kind": ({"kind": "lunar"}, "kind"),
    "no kind": ({"kind": ""}, "kind"),
}


@pytest.mark.parametrize(("form", "field"), BAD.values(), ids=BAD)
def test_bad_input_is_a_422_that_names_the_field_and_nothing_is_added(create, form, field):
    before = snapshot()
    response = create(**form)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert snapshot() == before


@pytest.mark.parametrize(("form", "word"), [({"code": "prod"}, "code"), ({"name": "production"}, "name")])
def test_a_code_or_a_name_that_is_taken_says_so(create, form, word):
    before = snapshot()
    response = create(**form)
    assert response.status_code == 422
    assert f"There is an environment with this {word} already." in response.text
    assert snapshot() == before


def test_an_empty_form_is_told_what_is_missing(organization, client):
    response = client.post(url("environment_create", organization), {})
    assert response.status_code == 422
    assert set(response.context["form"].errors) == {"name", "code", "kind"}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_was_typed_is_shown_again_escaped(create, text):
    response = create(name=text, code=text)
    assert response.status_code == 422
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text
