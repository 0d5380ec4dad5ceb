import pytest

from apikeys.models import AuditAction, SignOnDomain
from tests.commands.running import run
from tests.pages import entries

pytestmark = pytest.mark.django_db


def test_it_unmaps_a_domain_and_keeps_what_it_was(organization):
    run("map_domain", "acme.example", "--organization", "acme", "--required")
    ran = run("unmap_domain", "ACME.example")
    assert ran.out == "acme.example is unmapped from acme. Passwords of it work.\n"
    assert not SignOnDomain.objects.exists()
    [entry] = entries(organization, AuditAction.SIGN_ON_UNMAP)
    assert entry.changes == {"role": ["viewer", None], "is_required": [True, None]}


def test_as_json(organization):
    run("map_domain", "acme.example", "--organization", "acme")
    assert run("unmap_domain", "acme.example", "--json").json == {"domain": "acme.example", "organization": "acme"}


def test_a_domain_that_is_not_mapped_is_refused(organization):
    ran = run("unmap_domain", "acme.example")
    assert (ran.status, ran.err) == (
        1,
        "CommandError: DOMAIN: acme.example is not mapped. `map_domain` lists what is.",
    )
