"""Second factors where transactions really commit: two at the same moment, and what is mailed then."""

import pytest
from django.core import mail
from django.core.cache import cache

from apikeys.models import AuditAction, Role
from tests.factories import PASSWORD, make_member, make_user
from tests.factors import CODE, NEW_CODES, STEP, TOTP_OFF, add_passkey, code_of, give_password, set_up_app
from tests.pages import entries
from tests.passkey import Passkey
from tests.threads import run_together


@pytest.fixture
def settled(committed, client_of):
    """A member of an organization in a database where transactions really commit, with a client."""
    cache.clear()
    user = make_user(f"olga@{committed.slug}.example", password=PASSWORD)
    return make_member(committed, Role.ADMIN, user), client_of(user)


def test_a_code_sent_by_two_at_the_same_moment_signs_one_in(settled, clock):
    member, client = settled
    secret = set_up_app(client, clock)
    clock.on(STEP * 2)
    code = code_of(secret, clock)
    clients = [give_password(member.user.email)[0] for _ in range(2)]
    run_together(*(lambda one=one: one.post(CODE, {"code": code}) for one in clients))
    assert sorted("_auth_user_id" in one.session for one in clients) == [False, True]


def test_each_change_is_mailed_and_recorded(settled, clock):
    person, client = settled
    set_up_app(client, clock)
    client.post(NEW_CODES)
    add_passkey(client, Passkey())
    client.post(TOTP_OFF)
    subjects = ["An authenticator app was set up", "New recovery codes"]
    subjects += ["A passkey was added", "The authenticator app was turned off"]
    assert [message.subject for message in mail.outbox] == subjects
    assert {address for message in mail.outbox for address in message.to} == {person.user.email}
    assert "UTC" in mail.outbox[0].body
    added = [entry.reason for entry in entries(person.organization, AuditAction.FACTOR_ADD)]
    assert sorted(added) == ["authenticator app", "new recovery codes", "passkey Laptop", "recovery codes"]
