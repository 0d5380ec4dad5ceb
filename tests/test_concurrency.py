"""What two people do at the same moment: one of them wins, the other is told, and nothing is half done."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from apikeys.models import (
    AccountExistsError,
    Actor,
    AlreadyIssuedError,
    ApiKey,
    AuditAction,
    AuditEntry,
    Ending,
    Environment,
    InUseError,
    Invitation,
    InvitationOverError,
    KeyRevokedError,
    LastAdminError,
    Member,
    Organization,
    RevocationReason,
    Role,
    Rotation,
    RotationOverError,
    Scope,
    StaleKeyError,
    StaleRotationError,
    UsageHour,
    User,
)
from tests.factories import (
    make_actor,
    make_environment,
    make_event,
    make_invitation,
    make_key,
    make_member,
    make_rotation,
    make_scope,
    make_user,
)
from tests.pages import rotate_form, url
from tests.threads import run_together

BY = Actor.command()


def entries(key, action):
    return AuditEntry.objects.filter(key_id=key.pk, action=action).count()


def kinds(results):
    return sorted(type(result).__name__ for result in results)


def test_a_key_is_revoked_once(committed):
    key = make_key(committed).key

    def revoke():
        ApiKey.objects.for_pages().get(pk=key.pk).revoke(reason=RevocationReason.LEAKED, by=BY)

    results = run_together(revoke, revoke, revoke, revoke)
    assert kinds(results) == [KeyRevokedError.__name__] * 3 + ["NoneType"]
    assert entries(key, AuditAction.KEY_REVOKE) == 1


def test_a_form_sent_twice_at_once_makes_one_key(committed):
    admin = committed.members.get().user
    form = {
        "name": "twice",
        "purpose": "Sent twice",
        "environment": "prod",
        "owner": committed.members.get().pk,
        "scopes": "orders:read",
        "expires": "90",
        "token": str(uuid.uuid4()),
    }

    def send():
        client = Client()
        client.force_login(admin)
        return client.post(f"/{committed.slug}/keys/new", form).status_code

    assert run_together(send, send, send) == [200, 200, 200]
    assert committed.keys.filter(name="twice").count() == 1


def test_one_key_takes_the_place_of_a_regenerated_one(committed):
    key = make_key(committed).key

    def regenerate():
        return ApiKey.objects.for_pages().get(pk=key.pk).regenerate(by=BY, form_token=uuid.uuid4())

    results = run_together(regenerate, regenerate, regenerate)
    assert kinds(results) == ["IssuedKey", KeyRevokedError.__name__, KeyRevokedError.__name__]
    assert key.replaced_by_keys.count() == 1


def test_a_token_serves_one_regeneration(committed):
    key, token = make_key(committed).key, uuid.uuid4()

    def regenerate():
        return ApiKey.objects.for_pages().get(pk=key.pk).regenerate(by=BY, form_token=token)

    assert kinds(run_together(regenerate, regenerate)) == [AlreadyIssuedError.__name__, "IssuedKey"]


def rotating(organization, **form):
    """Return how to start a rotation of one key by form, each time in a client of its own."""
    key, admin = make_key(organization).key, organization.members.get().user

    def send():
        client = Client()
        client.force_login(admin)
        return client.post(url("key_rotate", organization, key.public_id), rotate_form(**form))

    return key, send


@pytest.mark.parametrize("overlap", ["10080", "0"])
def test_of_two_starts_of_a_rotation_the_second_is_led_away_and_makes_no_key(committed, overlap):
    key, send = rotating(committed, overlap=overlap)
    answers = run_together(send, send, send)
    assert sorted(answer.status_code for answer in answers) == [200, 302, 302]
    rotation = Rotation.objects.for_pages().get(old_key=key)
    if overlap != "0":
        assert {answer["Location"] for answer in answers if answer.status_code == 302} == {rotation.get_absolute_url()}
    assert committed.keys.count() == 2
    assert entries(key, AuditAction.ROTATION_START) == 1


def test_a_rotation_form_sent_twice_at_once_makes_one_key_and_leads_to_its_rotation(committed):
    key, send = rotating(committed, token=str(uuid.uuid4()), overlap="0")
    answers = run_together(send, send, send)
    assert sorted(answer.status_code for answer in answers) == [200, 302, 302]
    rotation = Rotation.objects.for_pages().get(old_key=key)
    assert {answer["Location"] for answer in answers if answer.status_code == 302} == {rotation.get_absolute_url()}
    assert committed.keys.count() == 2


def test_a_rotation_is_finished_or_cancelled_once(committed):
    rotation = make_rotation(committed).rotation

    def end(verb):
        return lambda: getattr(Rotation.objects.for_pages().get(pk=rotation.pk), verb)(by=BY)

    results = run_together(end("finish"), end("cancel"), end("finish"), end("cancel"))
    assert kinds(results) == ["NoneType"] + [RotationOverError.__name__] * 3
    old, new = (ApiKey.objects.get(pk=pk) for pk in (rotation.old_key_id, rotation.new_key_id))
    assert (old.revoked_at is None) != (new.revoked_at is None), "one key is left, and only one"


def test_a_rotation_that_is_finished_and_extended_at_once_is_finished(committed):
    """Whoever is first: an extension before it is overtaken, one after it is refused."""
    rotation = make_rotation(committed).rotation
    end = timezone.now() + timedelta(days=20)

    def finish():
        Rotation.objects.for_pages().get(pk=rotation.pk).finish(by=BY)

    def extend():
        Rotation.objects.for_pages().get(pk=rotation.pk).extend(end, by=BY)

    finished, extended = run_together(finish, extend)
    assert finished is None
    assert extended is None or isinstance(extended, RotationOverError)
    old = ApiKey.objects.get(pk=rotation.old_key_id)
    assert old.revoked_at
    assert (old.expires_at == end) == (extended is None)
    assert entries(old, AuditAction.ROTATION_EXTEND) == (extended is None)


def test_of_two_extensions_from_the_same_end_the_later_is_refused(committed):
    rotation = make_rotation(committed).rotation
    seen = rotation.deadline

    def extend(days):
        end = timezone.now() + timedelta(days=days)
        return lambda: Rotation.objects.for_pages().get(pk=rotation.pk).extend(end, by=BY, seen=seen)

    assert kinds(run_together(extend(20), extend(30))) == ["NoneType", StaleRotationError.__name__]


def test_a_link_that_is_opened_twice_at_once_makes_one_key(committed):
    started = make_rotation(committed, link_lasts=timedelta(days=1))

    def take():
        return Client().post(f"/handover/{started.token}").status_code

    assert sorted(run_together(take, take, take)) == [200, 410, 410]
    assert committed.keys.count() == 2


def test_a_link_that_is_taken_while_the_rotation_is_cancelled_leaves_no_key_that_works_unseen(committed):
    started = make_rotation(committed, link_lasts=timedelta(days=1))

    def take():
        return Client().post(f"/handover/{started.token}").status_code

    def cancel():
        Rotation.objects.for_pages().get(pk=started.rotation.pk).cancel(by=BY)

    taken, cancelled = run_together(take, cancel)
    assert cancelled is None
    assert taken in {200, 410}
    rotation = Rotation.objects.for_pages().get(pk=started.rotation.pk)
    assert rotation.is_called_off
    assert rotation.old_key.is_usable
    assert rotation.new_key is None or rotation.new_key.revoked_at


def test_a_key_is_rotated_or_revoked_or_first_the_one_then_the_other(committed):
    key = make_key(committed).key

    def start():
        return make_rotation(committed, ApiKey.objects.for_pages().get(pk=key.pk))

    def revoke():
        ApiKey.objects.for_pages().get(pk=key.pk).revoke(reason=RevocationReason.LEAKED, by=BY)

    started, revoked = run_together(start, revoke)
    assert revoked is None
    if isinstance(started, KeyRevokedError):
        assert committed.keys.count() == 1
    else:
        assert Rotation.objects.get(old_key=key).ending == Ending.OLD_REVOKED
        assert ApiKey.objects.get(pk=started.rotation.new_key_id).is_usable


def test_of_two_edits_of_one_version_the_later_is_refused(committed):
    key = make_key(committed).key

    def edit(name):
        stored = ApiKey.objects.for_pages().get(pk=key.pk)
        terms = stored.terms
        stored.edit(type(terms)(**{**{f: getattr(terms, f) for f in terms.__slots__}, "name": name}), by=BY, version=1)

    results = run_together(lambda: edit("first"), lambda: edit("second"))
    assert kinds(results) == ["NoneType", StaleKeyError.__name__]
    assert entries(key, AuditAction.KEY_EDIT) == 1


def test_two_admins_who_remove_each_other_leave_one(committed):
    first = committed.members.get()
    second = make_member(committed, Role.ADMIN)

    def remove(member):
        Member.objects.select_related("organization", "user").get(pk=member.pk).remove(by=BY)

    results = run_together(lambda: remove(first), lambda: remove(second))
    assert kinds(results) == [LastAdminError.__name__, "NoneType"]
    assert committed.members.filter(role=Role.ADMIN).count() == 1


def _anew(member):
    return Member.objects.select_related("organization", "user").get(pk=member.pk)


@pytest.mark.parametrize("meanwhile", ["each other", "themselves", "one of each"])
def test_two_last_admins_who_step_down_or_leave_at_once_leave_one(committed, meanwhile):
    first, second = committed.members.get(), make_member(committed, Role.ADMIN)
    calls = {
        "each other": [
            lambda: _anew(second).change_role(Role.VIEWER, by=make_actor(first.user)),
            lambda: _anew(first).change_role(Role.OPERATOR, by=make_actor(second.user)),
        ],
        "themselves": [
            lambda: _anew(first).remove(by=make_actor(first.user)),
            lambda: _anew(second).remove(by=make_actor(second.user)),
        ],
        "one of each": [
            lambda: _anew(first).remove(by=make_actor(first.user)),
            lambda: _anew(second).change_role(Role.VIEWER, by=make_actor(first.user)),
        ],
    }
    results = run_together(*calls[meanwhile])
    assert kinds(results) == [LastAdminError.__name__, "NoneType"]
    assert committed.members.filter(role=Role.ADMIN).count() == 1


def test_an_invitation_that_is_accepted_twice_at_once_makes_one_account_and_one_member(committed):
    email = f"{committed.slug}-new@example.com"
    sent = make_invitation(committed, email)

    def accept():
        invitation = Invitation.objects.with_token(sent.token)
        return invitation.accept_as_new(sent.token, name="", password="plum orbit canyon", by=BY)

    results = run_together(accept, accept, accept)
    assert sum(isinstance(result, Member) for result in results) == 1
    assert {type(one) for one in results} <= {Member, AccountExistsError, InvitationOverError}
    assert User.objects.filter(email=email).count() == 1
    assert committed.members.filter(user__email=email).count() == 1


def test_an_invitation_that_is_accepted_by_one_account_twice_at_once_makes_one_member(committed):
    user = make_user(f"{committed.slug}-known@example.com")
    sent = make_invitation(committed, user.email)
    results = run_together(
        *[lambda: Invitation.objects.with_token(sent.token).accept(sent.token, by=make_actor(user))] * 2
    )
    assert kinds(results) == [InvitationOverError.__name__, "Member"]
    assert user.memberships.count() == 1


def test_an_invitation_that_is_withdrawn_as_it_is_accepted_is_one_or_the_other(committed):
    user = make_user(f"{committed.slug}-torn@example.com")
    sent = make_invitation(committed, user.email)
    withdrawn, accepted = run_together(
        lambda: Invitation.objects.with_token(sent.token).withdraw(by=BY),
        lambda: Invitation.objects.with_token(sent.token).accept(sent.token, by=make_actor(user)),
    )
    assert isinstance(withdrawn, InvitationOverError) != isinstance(accepted, InvitationOverError)
    assert user.memberships.exists() == isinstance(accepted, Member)


def test_two_admins_who_invite_one_address_at_once_send_one_link(committed):
    email = f"{committed.slug}-twice@example.com"
    results = run_together(*[lambda: make_invitation(committed, email)] * 2)
    assert kinds(results) == ["SentInvitation", "ValidationError"]
    assert committed.invitations.filter(email=email).count() == 1


def test_an_environment_that_is_deleted_as_it_limits_somebody_leaves_no_operator_without_a_limit(committed):
    environment = make_environment(committed)
    member = make_member(committed, Role.OPERATOR)
    deleted, limited = run_together(
        lambda: Environment.objects.select_related("organization").get(pk=environment.pk).remove(by=BY),
        lambda: _anew(member).change_role(Role.OPERATOR, environments=[environment], by=BY),
    )
    if isinstance(deleted, InUseError):
        assert limited is None
        assert list(member.environments.all()) == [environment]
    else:
        assert isinstance(limited, ValidationError)


def test_a_scope_cannot_be_deleted_while_a_key_takes_it(committed):
    scope = make_scope(committed)

    def delete():
        Scope.objects.select_related("organization").get(pk=scope.pk).remove(by=BY)

    def issue():
        return make_key(Organization.objects.get(pk=committed.pk), scopes=[scope.name])

    deleted, issued = run_together(delete, issue)
    if isinstance(deleted, InUseError):
        assert issued.key.scope_names == [scope.name]
    else:
        assert deleted is None
        # The key is not made without its scope: the verb refuses, or the factory did not find it any more.
        assert isinstance(issued, ValidationError | Scope.DoesNotExist)
        assert not committed.keys.exists()


def test_a_scope_cannot_be_deleted_while_an_edit_takes_it(committed):
    key, scope = make_key(committed).key, make_scope(committed)

    def delete():
        Scope.objects.select_related("organization").get(pk=scope.pk).remove(by=BY)

    def edit():
        stored = ApiKey.objects.for_pages().get(pk=key.pk)
        stored.edit(replace(stored.terms, scopes=[scope]), by=BY)

    deleted, edited = run_together(delete, edit)
    if isinstance(deleted, InUseError):
        assert edited is None
        assert ApiKey.objects.get(pk=key.pk).scope_names == [scope.name]
    else:
        assert deleted is None
        assert isinstance(edited, ValidationError)
        assert ApiKey.objects.get(pk=key.pk).scope_names == ["orders:read"]


def test_a_name_is_added_once(committed):
    def add():
        organization = Organization.objects.get(pk=committed.pk)
        return Scope.objects.add(Scope(organization=organization, name="same:name", description="Same"), by=BY)

    assert kinds(run_together(add, add, add)) == ["Scope", ValidationError.__name__, ValidationError.__name__]


def test_rolling_up_twice_at_once_counts_each_request_once(committed):
    from datetime import timedelta  # noqa: PLC0415

    key = make_key(committed).key
    for hours in range(2, 8):
        make_event(key, ago=timedelta(hours=hours))
    list(UsageHour.objects.roll_up())
    results = run_together(*[lambda: list(UsageHour.objects.roll_up())] * 3)
    assert kinds(results) == ["list"] * 3
    assert sum(UsageHour.objects.filter(key_id=key.pk).values_list("count", flat=True)) <= 6
