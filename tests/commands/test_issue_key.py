from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys import key_secret
from apikeys.models import ApiKey, AuditAction, AuditEntry, Outcome
from apikeys.verification import Presented, verify
from tests.commands.running import run
from tests.factories import make_policy

pytestmark = pytest.mark.django_db
USUAL = (
    *("--organization", "acme", "--name", "Nightly report", "--purpose", "Reads orders; in the vault"),
    *("--owner", "team@example.com", "--environment", "prod", "--scope", "orders:read", "--expires-in", "90d"),
)


@pytest.fixture(autouse=True)
def _organization(organization):
    return organization


def test_stdout_holds_the_key_alone_and_the_key_works():
    ran = run("issue_key", *USUAL)
    assert ran.status == 0
    secret = key_secret.parse(ran.out.strip())
    assert secret
    assert verify(Presented(ran.out.strip(), "acme", "orders:read")).outcome is Outcome.VALID
    assert ran.out.strip() not in ran.err
    assert f"id {secret.public_id}" in ran.err


def test_json_has_id_fingerprint_and_key():
    ran = run("issue_key", *USUAL, "--json")
    key = ApiKey.objects.get()
    assert ran.json["id"] == key.public_id
    assert ran.json["fingerprint"] == key.fingerprint
    assert key_secret.parse(ran.json["key"]).public_id == key.public_id
    assert ran.err == ""


def test_everything_that_is_asked_for_is_on_the_key(operator):
    ran = run(
        *("issue_key", *USUAL, "--owner", "Operator@Example.com", "--environment", "Staging"),
        *("--scope", "orders:write", "--scope", "orders:read", "--network", "10.0.0.0/8", "2001:db8::/32"),
        *("--network", "192.0.2.1", "--rate-limit", "50/minute", "--burst", "7", "--expires-in", "12h"),
    )
    assert ran.status == 0
    key = ApiKey.objects.get()
    assert key.owner.user == operator
    assert key.environment.code == "stag"
    assert key.scope_names == ["orders:read", "orders:write"]
    assert key.networks == ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"]
    assert key.limit == (50, 60, 7)
    assert abs(key.expires_at - timezone.now() - timedelta(hours=12)) < timedelta(minutes=1)


def test_never_is_for_ever():
    assert run("issue_key", *USUAL, "--expires-in", "never", "--json").json["expires_at"] is None


def test_who_is_no_member_is_a_contact(outsider):
    run("issue_key", *USUAL, "--owner", outsider.email)
    assert ApiKey.objects.get().owner_contact == outsider.email


def test_issuing_and_showing_are_in_the_audit_log():
    run("issue_key", *USUAL)
    actions = AuditEntry.objects.filter(key_id=ApiKey.objects.get().pk).values_list("action", "actor_label")
    assert set(actions) == {(AuditAction.KEY_ISSUE, "command line"), (AuditAction.KEY_SHOW, "command line")}


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--organization", "nowhere", "--organization: there is no organization 'nowhere'. There are: acme."),
        ("--environment", "moon", "--environment: acme has no environment 'moon'. There are: prod, stag, dev."),
        ("--scope", "tea:drink", "--scope: 'tea:drink' is not in acme's catalogue. There are: orders:read, orders:w"),
        ("--owner", "nobody", "--owner: Enter a valid email address."),
        ("--owner", "", "--owner: Name an owner"),
        ("--name", " ", "--name: This field cannot be blank."),
        ("--name", "a" * 101, "--name: Ensure this value has at most 100 characters (it has 101)."),
        ("--purpose", "a" * 501, "--purpose: Ensure this value has at most 500 characters (it has 501)."),
        ("--network", "10.0.0.1/8", "--network: '10.0.0.1/8' has host bits set. Did you mean 10.0.0.0/8?"),
        ("--network", "everywhere", "--network: 'everywhere' is not an address or a network"),
        ("--expires-in", "99999d", "--expires-in: The expiry must be before the end of the year 2100."),
        ("--burst", "3", "--burst: needs --rate-limit."),
    ],
)
def test_a_fault_names_its_option_and_no_key_is_made(option, value, said):
    ran = run("issue_key", *USUAL, option, value)
    assert ran.status == 1
    assert said in ran.err
    assert not ApiKey.objects.exists()
    assert not AuditEntry.objects.filter(action=AuditAction.KEY_ISSUE).exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--expires-in", value) for value in ("0d", "-1d", "90", "1.5d", "d", "999999d", "٣d", "soon", "")),
        *(("--rate-limit", value) for value in ("0/second", "50", "50/week", "1000001/second", "1e3/second", "")),
        *(("--burst", value) for value in ("0", "-1", "1000001", "x", "9" * 5000)),
        ("--name", "\udcff"),
    ],
)
def test_wrong_usage_exits_with_2_and_names_the_option(option, value):
    ran = run("issue_key", *USUAL, f"{option}={value}")
    assert ran.status == 2
    assert f"argument {option}: " in ran.err
    assert not ApiKey.objects.exists()


def test_what_the_policy_asks_is_asked_by_the_command_too_and_names_the_option(organization):
    make_policy(organization, max_lifetime=30, expiry_required=True, max_rate=(10, 1), owner_required=True)
    for options, option, told in (
        ((), "--expires-in", "At most 30 days"),
        (("--expires-in", "never"), "--expires-in", "Every key must expire"),
        ((), "--rate-limit", "at most 10 per second"),
        ((), "--owner", "A member whose account is open"),
    ):
        ran = run("issue_key", *USUAL, *options)
        assert ran.status == 1
        assert option in ran.err
        assert told in ran.err
    assert not ApiKey.objects.exists()


def test_it_acts_for_nobody_and_may_give_scopes_that_need_an_admin(organization):
    make_policy(organization, admin_scopes=tuple(organization.scopes.filter(name="orders:read")))
    assert run("issue_key", *USUAL).status == 0
    assert ApiKey.objects.get().violations == []
