"""Adding a person to the organization."""

import re

import pytest
from django.db import OperationalError, connection
from django.test import Client

from apikeys.models import AuditAction, User
from tests.factories import make_user
from tests.pages import HTMX, entries, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def add(organization, admin, client_of):
    client = client_of(admin)

    def post(headers=None, **form):
        form = {"email": "new@example.com", "name": "Nora New", "role": "operator"} | form
        return client.post(url("member_add", organization), form, headers=headers)

    return post


def test_a_new_person_gets_an_account_a_role_and_a_mail_to_choose_a_password(organization, admin, add, mailoutbox):
    response = add()
    assert response["Location"] == url("member_list", organization)
    user = User.objects.get(email="new@example.com")
    assert (user.name, user.memberships.get().role, user.has_usable_password()) == ("Nora New", "operator", False)
    entry = entries(organization, AuditAction.MEMBER_ADD)[-1]
    assert (entry.actor, entry.target_label, entry.changes) == (admin, "new@example.com", {"role": [None, "operator"]})
    [mail] = mailoutbox
    assert mail.to == ["new@example.com"]
    assert re.search(r"http\S+/accounts/password/reset/key/\S+", mail.body)


def test_a_person_with_an_account_gets_a_role_and_no_mail(organization, add, mailoutbox):
    user = make_user("known@example.com", name="Kim Known")
    assert add(email="KNOWN@example.com ", name="Other").status_code == 302
    user.refresh_from_db()
    assert (user.name, user.memberships.get().role) == ("Kim Known", "operator")
    assert mailoutbox == []


def test_htmx_is_told_to_load_the_members(organization, add):
    assert add(headers=HTMX)["HX-Redirect"] == url("member_list", organization)


def test_a_double_submit_says_that_they_are_a_member(organization, add, mailoutbox):
    add()
    before = snapshot()
    response = add()
    assert response.status_code == 422
    assert "This person is a member already." in response.text
    assert snapshot() == before
    assert len(mailoutbox) == 1


BAD = {
    "no address": ({"email": ""}, "email"),
    "no address at all": ({"email": "nora"}, "email"),
    "an address over its limit": ({"email": f"{'x' * 250}@example.com"}, "email"),
    "an address with a NUL": ({"email": "no\0ra@example.com"}, "email"),
    "two lines": ({"email": "nora@example.com\nbcc: all@example.com"}, "email"),
    "a name over its limit": ({"name": "x" * 101}, "name"),
    "a name with a NUL": ({"name": "a\0"}, "name"),
    "a name of two lines": ({"name": "a\nb"}, "name"),
    "no role": ({"role": ""}, "role"),
    "an unknown role": ({"role": "owner"}, "role"),
}


@pytest.mark.parametrize(("form", "field"), BAD.values(), ids=BAD)
def test_bad_input_is_a_422_that_names_the_field_and_nobody_is_added(add, mailoutbox, form, field):
    before = snapshot()
    response = add(**form)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert snapshot() == before
    assert mailoutbox == []


def test_a_database_that_fails_at_the_entry_leaves_no_account_and_sends_no_mail(organization, admin, mailoutbox):
    client = Client(raise_request_exception=False)
    client.force_login(admin)

    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT") and "apikeys_auditentry" in sql:
            raise OperationalError("disk full")
        return execute(sql, params, many, context)

    form = {"email": "new@example.com", "name": "", "role": "viewer"}
    with connection.execute_wrapper(full):
        assert client.post(url("member_add", organization), form).status_code == 503
    assert not User.objects.filter(email="new@example.com").exists()
    assert mailoutbox == []


def test_its_address_alone_leads_to_the_list_with_the_form(organization, admin, client_of):
    response = client_of(admin).get(url("member_add", organization))
    assert (response.status_code, response["Location"]) == (302, url("member_list", organization))
