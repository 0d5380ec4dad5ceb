import pytest

from apikeys.models import ApiKey, AuditAction, AuditEntry, Outcome
from apikeys.verification import Presented, verify
from tests.commands.running import run
from tests.factories import make_key, make_revoked_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def issued(organization):
    return make_key(organization, "Nightly report")


def by(user):
    return ("--reason", "leaked", "--by", user.email.title())


def test_the_key_stops_and_the_log_says_who_and_why(issued, operator):
    ran = run("revoke_key", issued.key.public_id, *by(operator), "--note", "seen in a paste", "--json")
    assert ran.status == 0
    assert ran.json["id"] == issued.key.public_id
    assert ran.json["revoked_by"] == operator.email
    assert verify(Presented(issued.secret.text, "acme")).outcome is Outcome.REVOKED
    entry = AuditEntry.objects.get(action=AuditAction.KEY_REVOKE)
    assert (entry.actor, entry.via, entry.reason) == (operator, "command", "Suspected leak: seen in a paste")


@pytest.mark.parametrize("ellipsis", ["…", "..."])
def test_a_fingerprint_will_do(issued, operator, ellipsis):
    ran = run("revoke_key", issued.key.fingerprint.replace("…", ellipsis), *by(operator))
    assert ran.status == 0
    assert "Every request with it is refused from now on." in ran.out


def test_a_fingerprint_of_two_keys_is_refused(issued, operator):
    twin = ApiKey.objects.get(pk=issued.key.pk)
    public_id = issued.key.public_id
    twin.pk, twin.public_id = None, f"{public_id[:4]}0000{public_id[-4:]}"
    twin.save(force_insert=True)
    ran = run("revoke_key", issued.key.fingerprint, *by(operator))
    assert ran.status == 1
    assert "ID: several keys have this fingerprint." in ran.err
    assert not ApiKey.objects.filter(revoked_at__isnull=False).exists()


@pytest.mark.parametrize("from_stdin", [True, False])
def test_a_full_key_will_do_and_is_never_repeated(issued, operator, from_stdin):
    text = issued.secret.text
    if from_stdin:
        ran = run("revoke_key", "-", *by(operator), stdin=f"{text}\n")
    else:
        ran = run("revoke_key", text, *by(operator))
    assert ran.status == 0
    assert issued.secret.secret not in ran.out + ran.err


def test_a_mistyped_key_is_refused_and_not_repeated(issued, operator):
    ran = run("revoke_key", issued.secret.text + "x", *by(operator))
    assert ran.status == 1
    assert issued.secret.secret not in ran.out + ran.err
    assert "ID: this looks like a full key, but it is mistyped." in ran.err


def test_revoking_again_is_an_error_that_says_since_when(organization, operator):
    key = make_revoked_key(organization).key
    ran = run("revoke_key", key.public_id, *by(operator))
    assert ran.status == 1
    assert (
        f"was revoked already, at {key.revoked_at:%Y-%m-%d %H:%M:%S} UTC by command line. Nothing changed." in ran.err
    )


@pytest.mark.parametrize("given", ["", "abc", "x" * 12 + "\n", "ka_prod_4kT9…Q7b", "a" * 5000, "%"])
def test_what_is_no_id_is_refused(issued, operator, given):
    ran = run("revoke_key", given, *by(operator))
    assert ran.status == 1
    assert "ID: " in ran.err


def test_an_id_that_does_not_exist_is_refused(issued, operator):
    ran = run("revoke_key", "zzzzzzzzzzzz", *by(operator))
    assert (ran.status, ran.err) == (1, "CommandError: ID: there is no such key.")


def test_a_viewer_may_not(issued, viewer):
    ran = run("revoke_key", issued.key.public_id, *by(viewer))
    assert ran.status == 1
    assert "is viewer in acme; this needs operator or more." in ran.err
    assert not ApiKey.objects.filter(revoked_at__isnull=False).exists()


def test_an_admin_of_another_organization_may_not(issued, outsider):
    ran = run("revoke_key", issued.key.public_id, *by(outsider))
    assert ran.status == 1
    assert "is not a member of acme." in ran.err


def test_who_has_left_may_not(issued, operator):
    operator.is_active = False
    operator.save()
    assert run("revoke_key", issued.key.public_id, *by(operator)).status == 1


def test_a_note_over_its_limit_names_its_option(issued, operator):
    ran = run("revoke_key", issued.key.public_id, *by(operator), "--note", "a" * 501)
    assert ran.status == 1
    assert "--note: Ensure this value has at most 500 characters (it has 501)." in ran.err


def test_an_unknown_reason_is_wrong_usage(issued, operator):
    ran = run("revoke_key", issued.key.public_id, "--reason", "bored", "--by", operator.email)
    assert ran.status == 2
    assert "argument --reason" in ran.err
