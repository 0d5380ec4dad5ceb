"""What two people do at the same moment: one of them wins, the other is told, and nothing is half done."""

import uuid
from dataclasses import replace

from django.core.exceptions import ValidationError
from django.test import Client

from apikeys.models import (
    Actor,
    AlreadyIssuedError,
    ApiKey,
    AuditAction,
    AuditEntry,
    InUseError,
    KeyRevokedError,
    LastAdminError,
    Member,
    Organization,
    RevocationReason,
    Role,
    Scope,
    StaleKeyError,
    UsageHour,
)
from tests.factories import make_event, make_key, make_member, make_scope
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
