"""Who is who at the provider: what two people do at once, what was before, and what the database refuses."""

import importlib
from datetime import timedelta

import pytest
from django.apps import apps
from django.db import IntegrityError, transaction
from django.utils import timezone

from apikeys.models import (
    Actor,
    Asserted,
    AuditAction,
    AuditEntry,
    FormerMember,
    Refusal,
    Role,
    SignOnDomain,
    SignOnIdentity,
    SignOnRefusedError,
    User,
    Via,
)
from tests.factories import make_member, make_organization, make_user
from tests.threads import run_together

BY = Actor(label="kim", via=Via.DASHBOARD)


def make_person(domain, subject="kim"):
    return Asserted("https://login.example", subject, f"kim@{domain}", is_verified=True)


def admit(person):
    return lambda: SignOnIdentity.objects.admit(person, by=BY)


def map_domain(organization, domain, **more):
    terms = {"role": Role.VIEWER, "is_required": False} | more
    return SignOnDomain.objects.map(domain, organization=organization, by=BY, **terms)


def test_two_first_sign_ins_of_one_person_make_one_account(committed):
    domain = f"{committed.slug}.example"
    map_domain(committed, domain)
    users = run_together(*[admit(make_person(domain))] * 3)
    assert [type(user) for user in users] == [User] * 3
    assert len({user.pk for user in users}) == 1
    assert SignOnIdentity.objects.filter(user=users[0]).count() == 1
    added = AuditEntry.objects.filter(
        organization=committed, action=AuditAction.MEMBER_ADD, target_label=f"kim@{domain}"
    )
    assert added.count() == 1


def test_two_people_who_come_with_one_address_are_not_one(committed):
    domain = f"{committed.slug}.example"
    map_domain(committed, domain)
    results = run_together(admit(make_person(domain, "first")), admit(make_person(domain, "second")))
    assert sorted(type(result).__name__ for result in results) == ["SignOnRefusedError", "User"]
    [refused] = [result for result in results if isinstance(result, SignOnRefusedError)]
    assert refused.why == Refusal.OTHER_IDENTITY


def test_two_organizations_cannot_get_one_domain(committed):
    other = make_organization(f"other-{committed.slug}"[:40].rstrip("-"))
    domain = f"{committed.slug}.example"
    results = run_together(lambda: map_domain(committed, domain), lambda: map_domain(other, domain))
    assert sum(isinstance(result, SignOnDomain) for result in results) == 1


def test_the_database_keeps_one_identity_of_an_account_and_one_account_of_an_identity(organization):
    kim, eve = make_user(), make_user()
    SignOnIdentity.objects.create(issuer="https://a.example", subject="1", user=kim, email=kim.email)
    for user, subject in ((kim, "2"), (eve, "1")):
        with pytest.raises(IntegrityError), transaction.atomic():
            SignOnIdentity.objects.create(issuer="https://a.example", subject=subject, user=user, email=kim.email)
    SignOnIdentity.objects.create(issuer="https://b.example", subject="1", user=kim, email=kim.email)
    SignOnIdentity.objects.create(issuer="https://a.example", subject="ONE", user=eve, email=eve.email)


def test_what_is_refused_leaves_nothing(organization):
    map_domain(organization, "acme.example")
    make_user("kim@acme.example", is_active=False)
    with pytest.raises(SignOnRefusedError):
        SignOnIdentity.objects.admit(make_person("acme.example"), by=BY)
    assert not SignOnIdentity.objects.exists()


def test_an_upgrade_remembers_who_was_removed_before(organization):
    gone, back = (make_member(organization, user=make_user()).user for _ in range(2))
    for user in (gone, back):
        user.memberships.get().remove(by=BY)
    make_member(organization, user=back)
    elsewhere = make_organization("elsewhere")
    FormerMember.objects.all().delete()
    migration = importlib.import_module("apikeys.migrations.0030_single_sign_on")
    migration.remember_who_was_removed(apps, None)
    [former] = FormerMember.objects.all()
    assert (former.organization, former.user) == (organization, gone)
    assert timezone.now() - former.removed_at < timedelta(minutes=1)
    assert map_domain(elsewhere, "else.example").join(gone, by=BY)
    assert map_domain(organization, "acme.example").join(gone, by=BY) is False


def test_an_account_name_is_cut_to_what_one_may_have(organization):
    map_domain(organization, "acme.example")
    person = Asserted("https://login.example", "kim", "Kim@ACME.example", is_verified=True, name="  x" * 200)
    user = SignOnIdentity.objects.admit(person, by=BY)
    assert (len(user.name), user.email) == (99, "kim@acme.example")
