import pytest

from apikeys.models import AuditAction, SignOnIdentity, Via
from tests.commands.running import run
from tests.factories import make_member, make_user
from tests.pages import entries

pytestmark = pytest.mark.django_db


@pytest.fixture
def kim(organization):
    kim = make_member(organization, user=make_user("kim@acme.example")).user
    SignOnIdentity.objects.create(issuer="https://login.example", subject="1", user=kim, email=kim.email)
    return kim


def test_it_forgets_who_a_person_is_at_the_provider(organization, kim):
    ran = run("unlink_sign_on", "KIM@acme.example")
    assert ran.out == "The account of kim@acme.example is unlinked.\n"
    assert not SignOnIdentity.objects.exists()
    [entry] = entries(organization, AuditAction.SIGN_ON_UNLINK)
    assert (entry.via, entry.target_label) == (Via.COMMAND, "kim@acme.example")


def test_as_json(kim):
    assert run("unlink_sign_on", "kim@acme.example", "--json").json == {"email": "kim@acme.example", "unlinked": 1}


def test_who_is_not_linked_or_not_here_is_refused(organization, kim):
    run("unlink_sign_on", "kim@acme.example")
    assert run("unlink_sign_on", "kim@acme.example").err.endswith(
        "EMAIL: the account of kim@acme.example is not linked."
    )
    assert run("unlink_sign_on", "no@acme.example").err.endswith("EMAIL: there is no account of no@acme.example.")
    assert len(entries(organization, AuditAction.SIGN_ON_UNLINK)) == 1
