import pytest

from apikeys.models import AuditAction, Role, SignOnDomain, Via
from tests.commands.running import run
from tests.factories import make_organization
from tests.pages import entries

pytestmark = pytest.mark.django_db


def test_it_maps_a_domain_and_says_how(organization):
    ran = run("map_domain", "Acme.Example", "--organization", "acme", "--role", "operator", "--json")
    assert ran.status == 0
    assert ran.json == {"domain": "acme.example", "organization": "acme", "role": "operator", "required": False}
    mapping = SignOnDomain.objects.get()
    assert (mapping.domain, mapping.organization, mapping.role) == ("acme.example", organization, Role.OPERATOR)
    [entry] = entries(organization, AuditAction.SIGN_ON_MAP)
    assert (entry.via, entry.target_label) == (Via.COMMAND, "acme.example")
    assert entry.changes == {"role": [None, "operator"], "is_required": [None, False]}


def test_in_words_and_as_viewer_unless_it_is_said(organization):
    ran = run("map_domain", "acme.example", "--organization", "acme", "--required")
    assert ran.out == "acme.example is mapped to acme as viewer; passwords are refused.\n"


def test_the_same_again_changes_nothing_and_another_way_changes_it(organization):
    for _ in range(2):
        assert run("map_domain", "acme.example", "--organization", "acme").status == 0
    assert run("map_domain", "acme.example", "--organization", "acme", "--role", "admin", "--required").status == 0
    _, second = entries(organization, AuditAction.SIGN_ON_MAP)
    assert second.changes == {"role": ["viewer", "admin"], "is_required": [False, True]}
    assert SignOnDomain.objects.get().is_required


def test_a_domain_of_another_organization_is_refused(organization):
    make_organization("elsewhere")
    run("map_domain", "acme.example", "--organization", "acme")
    ran = run("map_domain", "ACME.example", "--organization", "elsewhere")
    assert (ran.status, ran.err) == (1, "CommandError: DOMAIN: acme.example is mapped to acme; unmap it first.")
    assert SignOnDomain.objects.get().organization == organization


@pytest.mark.parametrize(
    "domain",
    [
        *("", "acme", "@acme.example", "kim@acme.example", "*.acme.example", "acme.example.", ".example", "a..b"),
        *("acme.example/x", "10.0.0.1", "münchen.example", "-acme.example", f"{'x' * 64}.example", "x." * 126 + "ab"),
    ],
)
def test_what_is_no_domain_is_refused(organization, domain):
    ran = run("map_domain", "--organization", "acme", "--", domain)
    assert ran.status == 1
    assert ran.err.startswith("CommandError: DOMAIN: ")
    assert not SignOnDomain.objects.exists()


@pytest.mark.parametrize("domain", ["acme.example", "a-b.c1.example", "xn--mnchen-3ya.example", "x.museum"])
def test_what_is_one_is_mapped(organization, domain):
    assert run("map_domain", domain, "--organization", "acme").status == 0


def test_an_organization_is_needed_and_has_to_exist(organization):
    assert run("map_domain", "acme.example").err == "CommandError: --organization: is needed to map a domain."
    assert "there is no organization 'nobody'" in run("map_domain", "acme.example", "--organization", "nobody").err
    assert run("map_domain", "acme.example", "--organization", "acme", "--role", "owner").status == 2


def test_without_a_domain_it_lists_what_is_mapped(organization):
    assert run("map_domain").out == "No domain is mapped.\n"
    make_organization("elsewhere")
    run("map_domain", "b.example", "--organization", "elsewhere")
    run("map_domain", "a.example", "--organization", "acme", "--required")
    assert run("map_domain").out.splitlines() == [
        "a.example is mapped to acme as viewer; passwords are refused",
        "b.example is mapped to elsewhere as viewer; passwords work too",
    ]
    assert [one["domain"] for one in run("map_domain", "--organization", "acme", "--json").json["domains"]] == [
        "a.example"
    ]
