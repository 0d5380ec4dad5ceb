"""Who tries what they may not is told of in the log: ASVS 5, V16.3.2."""

import logging

import pytest

from apikeys.logs import JSONFormatter, RedactingFormatter
from apikeys.models import Role
from tests.factories import make_key, make_member, make_organization, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def kim(organization):
    return make_member(organization, Role.VIEWER, make_user("kim@example.com"))


@pytest.fixture
def told(caplog):
    """Return what the log says of refusals, a text each."""
    caplog.set_level(logging.INFO)
    return lambda: [one for one in caplog.records if one.name == "apikeys.views.errors"]


def test_a_role_that_does_not_suffice(organization, kim, client_of, told):
    key = make_key(organization).key
    path = f"/acme/keys/{key.public_id}/revoke"
    assert client_of(kim).post(path, REMOTE_ADDR="192.0.2.7").status_code == 403
    (line,) = told()
    assert line.levelno == logging.WARNING
    wanted = f"Refused kim@example.com at 192.0.2.7: POST {path}: This needs the role operator or more."
    assert line.getMessage() == wanted
    assert (line.person, line.address, line.method, line.path) == ("kim@example.com", "192.0.2.7", "POST", path)


def test_an_environment_out_of_reach(organization, client_of, told):
    operator = make_member(organization, Role.OPERATOR, make_user("oli@example.com"))
    operator.environments.set(organization.environments.filter(code="dev"))
    key = make_key(organization).key
    path = f"/acme/keys/{key.public_id}/revoke"
    assert client_of(operator).get(path).status_code == 403
    (line,) = told()
    assert line.getMessage().startswith(
        f"Refused oli@example.com at 127.0.0.1: GET /acme/keys/{key.public_id}/revoke: "
    )


def test_what_belongs_to_others(organization, kim, client_of, told):
    theirs = make_organization()
    key = make_key(theirs).key
    client, paths = client_of(kim), [f"/{theirs.slug}/keys/", f"/acme/keys/{key.public_id}", "/acme/keys/AAAAAAAAAAAA"]
    assert [client.get(path).status_code for path in paths] == [404, 404, 404]
    wanted = [f"Refused kim@example.com at 127.0.0.1: GET {path}: there is nothing of theirs" for path in paths]
    assert [line.getMessage() for line in told()] == wanted


def test_what_no_page_has_and_who_is_not_signed_in_make_no_line(kim, client, client_of, told):
    assert client_of(kim).get("/wp-login.php/x/y/z").status_code == 404
    assert client.get("/acme/keys/").status_code == 302
    assert client.post("/acme/keys/new").status_code == 302
    assert client_of(kim).get("/acme/keys/").status_code == 200
    assert told() == []


@pytest.mark.parametrize("formatter", [RedactingFormatter("%(levelname)s %(message)s"), JSONFormatter()])
def test_a_path_makes_no_line_of_its_own_and_holds_no_key(organization, kim, client_of, told, formatter):
    secret = make_key(organization).secret.text
    client = client_of(kim)
    assert client.get(f"/acme/keys/{secret}").status_code == 404
    assert client.get("/acme/keys/x%0AERROR%20all%20is%20lost").status_code == 404
    lines = [formatter.format(line) for line in told()]
    assert len(lines) == 2
    assert not [line for line in lines if "\n" in line or secret in line]
