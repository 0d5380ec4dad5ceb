"""Organizations, members and their catalogue."""

import pytest
from django.core.exceptions import ValidationError

from apikeys.models import (
    Actor,
    AuditAction,
    AuditEntry,
    Environment,
    InUseError,
    LastAdminError,
    Organization,
    OwnsKeysError,
    Role,
    Scope,
    User,
)
from apikeys.models.organization import MOST_KEY_AGE, RESERVED_SLUGS
from tests.factories import make_key, make_member, make_organization, make_scope, make_user

pytestmark = pytest.mark.django_db
BY = Actor.command()


def test_a_new_organization_has_an_admin_and_three_environments():
    organization = Organization.objects.found(name="Acme", slug="acme", admin=make_user(), by=BY)
    assert [environment.code for environment in organization.environments.all()] == ["prod", "stag", "dev"]
    assert organization.members.get().role == Role.ADMIN


@pytest.mark.parametrize(
    "slug", [*sorted(RESERVED_SLUGS)[:5], "v1", "accounts", "static", "Ümlaut", "a", "-a", "a b", ""]
)
def test_a_slug_that_is_ours_or_no_slug_is_refused(slug):
    with pytest.raises(ValidationError) as caught:
        Organization.objects.found(name="Acme", slug=slug, admin=make_user(), by=BY)
    assert list(caught.value.message_dict) == ["slug"]


def test_a_slug_is_taken_once():
    taken = make_organization()
    with pytest.raises(ValidationError) as caught:
        Organization.objects.found(name="Again", slug=taken.slug, admin=make_user(), by=BY)
    assert "slug" in caught.value.message_dict


def test_one_address_is_one_person_whatever_its_case():
    User.objects.create_user("Someone@Example.com")
    assert User.objects.get_by_natural_key("SOMEONE@example.COM").email == "someone@example.com"


def test_a_person_is_a_member_once(organization):
    member = make_member(organization)
    with pytest.raises(ValidationError):
        organization.add_member(member.user, Role.ADMIN, by=BY)


def test_the_last_admin_stays(organization, admin):
    member = admin.memberships.get(organization=organization)
    founder = organization.members.get(user__email="founder@example.com")
    founder.remove(by=BY)
    with pytest.raises(LastAdminError):
        member.change_role(Role.VIEWER, by=BY)
    with pytest.raises(LastAdminError):
        member.remove(by=BY)
    make_member(organization, role=Role.ADMIN)
    member.change_role(Role.VIEWER, by=BY)
    assert AuditEntry.objects.get(organization=organization, action=AuditAction.MEMBER_EDIT).changes == {
        "role": ["admin", "viewer"]
    }


def test_a_member_who_leaves_hands_over_their_keys(organization):
    leaver, heir, stranger = make_member(organization), make_member(organization), make_member(make_organization())
    key = make_key(organization, owner=leaver, owner_contact="").key
    for nobody in (None, leaver, stranger):
        with pytest.raises(OwnsKeysError):
            leaver.remove(by=BY, keys_to=nobody)
    leaver.remove(by=BY, keys_to=heir)
    key.refresh_from_db()
    assert key.owner == heir
    assert not organization.members.filter(pk=leaver.pk).exists()


def test_a_scope_that_a_key_holds_stays(organization):
    scope = make_scope(organization)
    make_key(organization, scopes=[scope.name])
    with pytest.raises(InUseError):
        scope.remove(by=BY)
    assert Scope.objects.filter(pk=scope.pk).exists()
    assert not AuditEntry.objects.filter(organization=organization, action=AuditAction.SCOPE_DELETE).exists()


@pytest.mark.parametrize("name", ["", "x", "Orders", "orders read", ":read", "read:", "x" * 65, "naïve", "a\0b"])
def test_a_bad_scope_name_is_refused(organization, name):
    with pytest.raises(ValidationError) as caught:
        Scope.objects.add(Scope(organization=organization, name=name, description="Read"), by=BY)
    assert list(caught.value.message_dict) == ["name"]


def test_an_environment_of_their_own_is_part_of_a_keys_text(organization):
    environment = Environment(organization=organization, code="sbx", name="sandbox", kind="other")
    Environment.objects.add(environment, by=BY)
    assert make_key(organization, environment="sbx").secret.text.startswith("ka_sbx_")


def test_editing_an_organization_records_before_and_after(organization):
    old = organization.name
    organization.edit(name="New name", key_prefix="nn", max_key_age=180, by=BY)
    entry = AuditEntry.objects.get(organization=organization, action=AuditAction.ORGANIZATION_EDIT)
    assert entry.changes == {"name": [old, "New name"], "key_prefix": ["ka", "nn"], "max_key_age": [None, 180]}
    with pytest.raises(ValidationError):
        organization.edit(name="New name", key_prefix="1Bad", max_key_age=180, by=BY)


@pytest.mark.parametrize("days", [1, MOST_KEY_AGE, None])
def test_keys_may_become_so_old_or_as_old_as_they_like(organization, days):
    organization.edit(name=organization.name, key_prefix="ka", max_key_age=days, by=BY)
    organization.refresh_from_db()
    assert organization.max_key_age == days


@pytest.mark.parametrize("days", [0, -1, MOST_KEY_AGE + 1])
def test_an_age_that_is_none_is_refused_with_its_limits(organization, days):
    with pytest.raises(ValidationError) as caught:
        organization.edit(name=organization.name, key_prefix="ka", max_key_age=days, by=BY)
    assert caught.value.message_dict == {"max_key_age": ["Between 1 and 3,650 days, or empty for no limit."]}
    organization.refresh_from_db()
    assert organization.max_key_age is None
