"""What an organization asks of its keys: in SQL and in Python the same, and kept by every verb."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from apikeys.models import (
    Actor,
    ApiKey,
    AuditAction,
    KeyScope,
    Policy,
    PolicyRule,
    PolicyTerms,
    RateLimit,
    RevocationReason,
    Role,
    Rotation,
    RotationReason,
    RotationTerms,
    StalePolicyError,
)
from apikeys.models.key_networks import NetworkSet
from apikeys.models.policy import digest
from apikeys.models.policy_rule import Standing
from tests.factories import (
    edit_key,
    make_actor,
    make_environment,
    make_key,
    make_member,
    make_old_key,
    make_organization,
    make_policy,
    make_policy_exemption,
    make_revoked_key,
    make_rotation,
    make_scope,
    make_user,
)
from tests.pages import entries, snapshot

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
BY = make_actor()


def scopes_of(organization, *names):
    return tuple(organization.scopes.filter(name__in=names))


def faults(error):
    return error.value.message_dict


# One definition


@pytest.fixture
def member(organization):
    return make_member(organization, Role.OPERATOR)


@pytest.fixture
def gone(organization):
    return make_member(organization, Role.OPERATOR, make_user(is_active=False))


def test_sql_and_python_say_the_same_of_each_rule_that_one_key_tells(organization, member, gone):
    """Every rule at, just within and just beyond its limit, on keys of every kind."""
    now = timezone.now()
    keys = [make_key(organization, owner=owner).key for owner in (member, gone, None)]
    keys += [make_key(organization, purpose="x" * length).key for length in (9, 10, 11)]
    for age, life in itertools.product((0, 45), (1, 29, 30, 31, 32, None)):
        key = make_old_key(organization, age * DAY)
        key.expires_at = key.created_at + life * DAY if life else None
        key.save(update_fields=["expires_at"])
        keys.append(key)
    edge = make_old_key(organization, DAY)
    day = edge.created_at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for end in (31 * DAY - timedelta(seconds=1), 31 * DAY):
        key = make_old_key(organization, DAY)
        key.created_at, key.pk, key.public_id = edge.created_at, None, f"edge{end.seconds:08}"[:12]
        key.expires_at = day + end
        key.save(force_insert=True)
        keys.append(key)
    networks = ([], ["10.0.0.0/8"], ["0.0.0.0/0"], ["10.0.0.0/8", "::/0"])
    keys += [
        make_key(organization, environment=environment, networks=some).key
        for environment, some in itertools.product(("prod", "dev"), networks)
    ]
    limits = [None, (10, 1, 10), (10, 1, 11), (11, 1, 10), (600, 60, 10), (601, 60, 10), (5, 1, 5), (36_001, 3600, 1)]
    keys += [make_key(organization, rate_limit=limit).key for limit in limits]
    unlimited = make_key(organization, rate_limit=(11, 1, 10)).key
    ApiKey.objects.filter(pk=unlimited.pk).update(rate_burst=None)
    terms = PolicyTerms(
        max_lifetime=30,
        expiry_required=True,
        least_purpose=10,
        owner_required=True,
        networks_required=True,
        max_rate=(10, 1),
    )
    conditions = terms.conditions(organization, now)
    seen = dict.fromkeys(conditions, 0)
    for key in ApiKey.objects.filter(pk__in=[*(key.pk for key in keys), unlimited.pk]):
        expected = set(terms.faults(Standing.of(key, (), key.expires_at)))
        found = {rule for rule, one in conditions.items() if ApiKey.objects.filter(one, pk=key.pk).exists()}
        assert found == expected, (key.created_at, key.expires_at, key.networks, key.limit)
        for rule in found:
            seen[rule] += 1
    assert all(seen.values())


def test_networks_overlap_as_their_addresses_do():
    some = NetworkSet(["10.1.0.0/16", "10.1.2.0/24", "192.0.2.7/32", "2001:db8::/32"])
    for text, overlaps in {
        "10.1.2.3/32": True,
        "10.0.0.0/8": True,
        "0.0.0.0/0": True,
        "10.2.0.0/16": False,
        "10.0.255.255/32": False,
        "192.0.2.6/32": False,
        "192.0.2.6/31": True,
        "2001:db8:1::/48": True,
        "2001:db9::/32": False,
        "::/0": True,
    }.items():
        assert some.overlaps(text) == overlaps, text
    assert not NetworkSet([]).overlaps("0.0.0.0/0")


# Issuing


ASKED = {
    "a lifetime": ({"max_lifetime": 30, "expiry_required": True}, {"expires_at": 32 * DAY}, "expires_at", "30 days"),
    "an expiry": ({"expiry_required": True}, {"expires_at": None}, "expires_at", "Every key must expire"),
    "a purpose": ({"least_purpose": 20}, {"purpose": "short"}, "purpose", "At least 20 characters"),
    "an owner": ({"owner_required": True}, {}, "owner", "A member whose account is open"),
    "networks": ({"networks_required": True}, {}, "networks", "at least one network"),
    "networks that are some": ({"networks_required": True}, {"networks": ["::/0"]}, "networks", "every address"),
    "a rate limit": ({"max_rate": (10, 1)}, {}, "rate_limit", "10 per second"),
    "a rate": ({"max_rate": (10, 1)}, {"rate_limit": (601, 60, 5)}, "rate_limit", "10 per second"),
    "a burst": ({"max_rate": (10, 1)}, {"rate_limit": (5, 1, 11)}, "rate_burst", "At most 10 at once"),
}


@pytest.mark.parametrize(("policy", "key", "field", "told"), ASKED.values(), ids=ASKED)
def test_a_key_that_violates_the_policy_is_not_issued(organization, policy, key, field, told):
    make_policy(organization, **policy)
    if key.get("expires_at"):
        key = key | {"expires_at": timezone.now() + key["expires_at"]}
    before = snapshot()
    with pytest.raises(ValidationError) as error:
        make_key(organization, **key)
    assert list(faults(error)) == [field]
    assert told in faults(error)[field][0]
    assert "by your organization's policy" in faults(error)[field][0]
    assert snapshot() == before


def test_a_key_that_does_all_that_is_asked_is_issued(organization, member):
    make_policy(
        organization,
        max_lifetime=30,
        expiry_required=True,
        least_purpose=20,
        owner_required=True,
        networks_required=True,
        environments_apart=True,
        max_rate=(10, 1),
        max_key_age=20,
        unused_after_days=10,
    )
    last = datetime.combine(timezone.now().astimezone(UTC).date() + 30 * DAY, datetime.max.time(), UTC)
    key = make_key(
        organization,
        purpose="p" * 20,
        owner=member,
        networks=["10.0.0.0/8"],
        rate_limit=(600, 60, 10),
        expires_at=last.replace(microsecond=0),
    ).key
    assert key.violations == []


def test_without_a_policy_nothing_is_asked_that_was_not_before(organization):
    assert Policy.objects.of(organization).full_terms() == PolicyTerms()
    assert make_key(organization).key.violations == []


def test_another_organizations_policy_asks_nothing_here(organization):
    make_policy(make_organization(), expiry_required=True)
    assert make_key(organization).key.expires_at is None


# Scopes that need an admin


@pytest.fixture
def guarded(organization):
    make_policy(organization, admin_scopes=scopes_of(organization, "orders:write"))


BOTH = ["orders:read", "orders:write"]


def test_an_operator_cannot_give_a_scope_that_needs_an_admin_and_an_admin_can(organization, guarded, operator, admin):
    with pytest.raises(ValidationError) as error:
        make_key(organization, scopes=BOTH, by=operator)
    assert faults(error) == {"scopes": ["An admin must give orders:write, by your organization's policy."]}
    key = make_key(organization, by=operator).key
    with pytest.raises(ValidationError):
        edit_key(key, scopes=scopes_of(organization, *BOTH), by=make_actor(operator))
    edit_key(key, scopes=scopes_of(organization, *BOTH), by=make_actor(admin))
    assert ApiKey.objects.get(pk=key.pk).scope_names == BOTH
    assert key.violations == []


def test_an_operator_may_leave_it_on_a_key_that_has_it_and_take_it_away_but_not_give_it_back(
    organization, guarded, operator, admin
):
    key = make_key(organization, scopes=BOTH, by=admin).key
    edit_key(key, name="renamed", by=make_actor(operator))
    edit_key(key, scopes=scopes_of(organization, "orders:read"), by=make_actor(operator))
    with pytest.raises(ValidationError):
        edit_key(key, scopes=scopes_of(organization, *BOTH), by=make_actor(operator))


def test_a_command_without_a_person_may_give_it_and_nobody_else_without_a_membership(organization, guarded, outsider):
    assert make_key(organization, scopes=BOTH).key.violations == []
    with pytest.raises(ValidationError):
        make_key(organization, scopes=BOTH, by=outsider)
    with pytest.raises(ValidationError):
        ApiKey.objects.issue(
            organization,
            organization.environments.get(code="prod"),
            make_key(organization, scopes=BOTH).key.terms,
            by=Actor(label="nobody", via="dashboard"),
        )


def test_keys_to_which_no_admin_gave_it_are_listed_until_an_admin_saves_them(organization, operator, admin):
    key = make_key(organization, scopes=BOTH, by=operator).key
    make_policy(organization, admin_scopes=scopes_of(organization, "orders:write"))
    assert key.violations == [PolicyRule.SCOPES]
    edit_key(key, by=make_actor(operator))
    assert key.violations == [PolicyRule.SCOPES]
    edit_key(key, by=make_actor(admin))
    assert key.violations == []
    entry = entries(organization, AuditAction.KEY_EDIT)[-1]
    assert entry.changes == {"scopes_given_by_an_admin": [[], ["orders:write"]]}


def test_a_key_that_takes_anothers_place_holds_it_as_the_other_did(organization, operator, admin):
    given, not_given = (make_key(organization, scopes=BOTH, by=who).key for who in (admin, operator))
    make_policy(organization, admin_scopes=scopes_of(organization, "orders:write"))
    by = make_actor(operator)
    for key, violations in ((given, []), (not_given, [PolicyRule.SCOPES])):
        rotated = Rotation.objects.start(key, rotation_terms(), by=by).issued.key
        assert rotated.violations == violations
        assert KeyScope.objects.filter(key=rotated, by_admin=True).count() == (0 if violations else 2)


# Environments apart


@pytest.fixture
def apart(organization):
    make_policy(organization, environments_apart=True)


def test_a_network_of_production_keys_may_use_no_others_and_the_other_way_round(organization, apart):
    make_key(organization, networks=["10.1.0.0/16"])
    for code, network in (("dev", "10.1.2.0/24"), ("stag", "10.0.0.0/8"), ("dev", "10.1.0.0/16")):
        with pytest.raises(ValidationError) as error:
            make_key(organization, environment=code, networks=["192.0.2.0/24", network])
        assert faults(error)["networks"][0].startswith(f"{network}: production keys may be used from there")
    dev = make_key(organization, environment="dev", networks=["10.2.0.0/16"]).key
    make_key(organization, environment="stag", networks=["10.2.0.0/16"])
    with pytest.raises(ValidationError) as error:
        make_key(organization, networks=["10.2.3.0/24"])
    assert "keys of other environments may be used from there" in faults(error)["networks"][0]
    with pytest.raises(ValidationError):
        edit_key(dev, networks=["10.1.0.0/16"])


def test_keys_that_ended_and_those_without_networks_share_nothing(organization, apart):
    make_revoked_key(organization, networks=["10.1.0.0/16"])
    make_key(organization)
    make_key(organization, environment="dev")
    make_key(organization, environment="dev", networks=["10.1.0.0/16"])


def test_keys_that_share_a_network_are_listed_on_both_sides(organization):
    shared = [make_key(organization, networks=["10.1.0.0/16"]).key]
    shared.append(make_key(organization, environment="dev", networks=["10.1.9.9/32", "192.0.2.0/24"]).key)
    europe = make_environment(organization, "eu", kind="production")
    shared.append(make_key(organization, environment=europe.code, networks=["10.0.0.0/8"]).key)
    for environment in ("prod", "dev"):
        make_key(organization, environment=environment)
        make_key(
            organization, environment=environment, networks=["172.16.1.0/24" if environment == "dev" else "::1/128"]
        )
    make_policy(organization, environments_apart=True)
    terms = Policy.objects.of(organization).full_terms()
    assert set(organization.keys.violating(terms, organization, timezone.now())) == set(shared)


# What violates it already


def rotation_terms(**changes):
    return RotationTerms(**{"reason": RotationReason.REGULAR, "overlap": 7 * DAY} | changes)


STRICT = {
    "max_lifetime": 30,
    "expiry_required": True,
    "least_purpose": 100,
    "owner_required": True,
    "networks_required": True,
    "max_rate": (10, 1),
}


@pytest.fixture
def lax(organization):
    """A key that violates everything that is asked since."""
    key = make_key(organization, rate_limit=(100, 1, 200)).key
    make_policy(organization, **STRICT)
    return key


def test_a_key_that_violates_it_already_may_be_changed_in_everything_else(organization, lax):
    assert set(lax.violations) == set(PolicyRule) & {
        PolicyRule.EXPIRY,
        PolicyRule.PURPOSE,
        PolicyRule.OWNER,
        PolicyRule.NETWORKS,
        PolicyRule.RATE,
    }
    edit_key(lax, name="renamed", scopes=scopes_of(organization, *BOTH))
    assert ApiKey.objects.get(pk=lax.pk).name == "renamed"


NO_WORSE = {
    "an end where there was none": {"expires_at": 3000 * DAY},
    "a lower limit": {"rate_limit": RateLimit(50, 1, 200)},
}


@pytest.mark.parametrize("changes", NO_WORSE.values(), ids=NO_WORSE)
def test_what_violates_it_less_than_before_may_be_saved(lax, changes):
    if span := changes.get("expires_at"):
        changes = {"expires_at": timezone.now() + span}
    edit_key(lax, **changes)


WORSE = {
    "another purpose that says too little": ({"purpose": "other"}, "purpose"),
    "another address as the owner": ({"owner_contact": "other@example.com"}, "owner"),
    "a higher limit": ({"rate_limit": RateLimit(101, 1, 200)}, "rate_limit"),
    "a higher burst": ({"rate_limit": RateLimit(9, 1, 201)}, "rate_burst"),
    "no limit": ({"rate_limit": None}, "rate_limit"),
    "every network": ({"networks": ["0.0.0.0/0"]}, "networks"),
}


@pytest.mark.parametrize(("changes", "field"), WORSE.values(), ids=WORSE)
def test_what_violates_it_otherwise_or_more_is_refused(lax, changes, field):
    before = snapshot()
    with pytest.raises(ValidationError) as error:
        edit_key(lax, **changes)
    assert list(faults(error)) == [field]
    assert snapshot() == before


def test_the_end_of_a_key_that_lives_too_long_may_come_nearer_and_not_move_away(organization):
    key = make_key(organization, expires_at=timezone.now() + 300 * DAY).key
    make_policy(organization, max_lifetime=30, expiry_required=True)
    assert key.violations == [PolicyRule.LIFETIME]
    for days in (301, None):
        with pytest.raises(ValidationError):
            edit_key(key, expires_at=timezone.now() + days * DAY if days else None)
    edit_key(key, expires_at=timezone.now() + 200 * DAY)
    edit_key(key, expires_at=timezone.now() + 29 * DAY)
    assert key.violations == []


def test_a_key_that_violates_it_can_be_paused_resumed_narrowed_and_revoked(organization):
    key = make_key(organization, scopes=BOTH).key
    make_policy(organization, **STRICT)
    assert key.pause(by=BY)
    assert key.resume(by=BY)
    key.narrow(["orders:write"], by=BY, version=key.version)
    key.revoke(reason=RevocationReason.LEAKED, by=BY)
    assert key.violations == []


# Rotating and regenerating, at three in the morning


def test_a_key_that_violates_everything_is_regenerated_and_ends_when_it_must(organization, lax):
    new = lax.regenerate(by=BY).key
    assert new.expires_at == PolicyTerms(**STRICT).latest_expiry(new.created_at)
    assert set(new.violations) == {PolicyRule.PURPOSE, PolicyRule.OWNER, PolicyRule.NETWORKS, PolicyRule.RATE}


def test_it_is_rotated_as_usual_and_the_new_key_ends_when_it_must(organization, lax):
    started = Rotation.objects.start(lax, rotation_terms(new_expires_at=lax.renewed_expiry), by=BY)
    assert started.issued.key.expires_at == PolicyTerms(**STRICT).latest_expiry(timezone.now())
    assert PolicyRule.EXPIRY not in started.issued.key.violations


def test_without_a_longest_lifetime_a_key_that_never_expires_is_replaced_by_such_a_key(organization):
    key = make_key(organization).key
    make_policy(organization, expiry_required=True)
    new = Rotation.objects.start(key, rotation_terms(new_expires_at=key.renewed_expiry), by=BY).issued.key
    assert new.expires_at is None
    assert new.violations == [PolicyRule.EXPIRY]


TOO_FAR = {"never": None, "a year": 365 * DAY}


@pytest.mark.parametrize("span", TOO_FAR.values(), ids=TOO_FAR)
def test_an_end_that_is_chosen_for_the_new_key_obeys_the_policy(organization, span):
    key = make_key(organization, expires_at=timezone.now() + 20 * DAY).key
    make_policy(organization, max_lifetime=30, expiry_required=True)
    before = snapshot()
    with pytest.raises(ValidationError) as error:
        Rotation.objects.start(key, rotation_terms(new_expires_at=timezone.now() + span if span else None), by=BY)
    assert list(faults(error)) == ["new_expires_at"]
    assert snapshot() == before


def test_a_link_sent_before_the_policy_became_stricter_still_gives_a_key(organization):
    key = make_key(organization, expires_at=timezone.now() + 300 * DAY).key
    handed = make_rotation(organization, key, new_expires_at=timezone.now() + 300 * DAY, link_lasts=DAY)
    make_policy(organization, **STRICT)
    new = handed.rotation.take(handed.token, by=Actor(label="team@example.com", via="dashboard")).key
    assert new.expires_at == PolicyTerms(**STRICT).latest_expiry(new.created_at)


def test_calling_a_rotation_off_gives_the_old_key_its_own_end_back_whatever_the_policy(organization):
    key = make_key(organization).key
    started = make_rotation(organization, key)
    make_policy(organization, **STRICT)
    started.rotation.cancel(by=BY)
    assert ApiKey.objects.get(pk=key.pk).expires_at is None


# Exemptions


def test_an_exempt_key_is_not_listed_and_may_be_changed_and_replaced(organization):
    key = make_key(organization).key
    make_policy(organization, max_lifetime=30, expiry_required=True)
    make_policy_exemption(key, PolicyRule.EXPIRY)
    make_policy_exemption(key, PolicyRule.LIFETIME)
    assert key.violations == []
    edit_key(key, expires_at=timezone.now() + 300 * DAY)
    new = Rotation.objects.start(
        ApiKey.objects.get(pk=key.pk), rotation_terms(new_expires_at=timezone.now() + 300 * DAY), by=BY
    ).issued.key
    assert new.violations == []
    assert set(new.policy_exemptions.values_list("rule", flat=True)) == {"expiry", "lifetime"}


def test_an_exemption_that_ran_out_ends_by_itself(organization):
    key = make_key(organization).key
    make_policy(organization, expiry_required=True)
    make_policy_exemption(key, PolicyRule.EXPIRY, until=-DAY)
    assert key.violations == [PolicyRule.EXPIRY]


def test_a_key_that_may_be_old_is_not_to_be_rotated(organization):
    key = make_old_key(organization, 100 * DAY)
    make_policy(organization, max_key_age=50)
    assert key.violations == [PolicyRule.AGE]
    key = ApiKey.objects.for_pages().get(pk=key.pk)
    assert key.is_rotation_due
    make_policy_exemption(key, PolicyRule.AGE)
    key = ApiKey.objects.for_pages().get(pk=key.pk)
    assert not key.is_rotation_due
    assert not organization.keys.to_rotate(organization=organization).exists()
    assert not ApiKey.objects.to_rotate().exists()
    assert key.violations == []


def test_a_key_that_is_being_rotated_is_not_told_as_too_old(organization):
    key = make_old_key(organization, 100 * DAY)
    make_policy(organization, max_key_age=50)
    make_rotation(organization, key)
    assert key.violations == []


# Changing it


def test_a_change_is_one_entry_with_before_and_after(organization):
    make_policy(organization, max_lifetime=90, expiry_required=True)
    scopes = scopes_of(organization, "orders:write")
    make_policy(organization, expiry_required=True, admin_scopes=scopes, max_rate=(100, 60), max_key_age=80)
    entry = entries(organization, AuditAction.POLICY_EDIT)[-1]
    assert entry.changes == {
        "max_lifetime": [90, None],
        "admin_scopes": [[], ["orders:write"]],
        "max_rate": [None, "100 per minute"],
        "max_key_age": [None, 80],
    }
    organization.refresh_from_db()
    assert organization.max_key_age == 80
    assert Policy.objects.of(organization).full_terms().admin_scopes == scopes
    before = snapshot()
    terms = Policy.objects.of(organization).full_terms()
    assert not Policy.objects.of(organization).edit(terms, by=BY, seen=digest(terms))
    assert snapshot() == before


NONSENSE = {
    "no day": ({"max_lifetime": 0, "expiry_required": True}, "max_lifetime"),
    "too many days": ({"max_lifetime": 3651, "expiry_required": True}, "max_lifetime"),
    "less than a day": ({"max_key_age": -1}, "max_key_age"),
    "no silence": ({"unused_after_days": 0}, "unused_after_days"),
    "no characters": ({"least_purpose": 0}, "least_purpose"),
    "a novel": ({"least_purpose": 201}, "least_purpose"),
    "no requests": ({"max_rate": (0, 1)}, "max_rate"),
    "too many requests": ({"max_rate": (1_000_001, 1)}, "max_rate"),
    "a period that is none": ({"max_rate": (10, 2)}, "max_rate_period"),
    "a lifetime of keys that need not end": ({"max_lifetime": 90}, "expiry_required"),
    "an age that no key reaches": (
        {"max_lifetime": 90, "expiry_required": True, "max_key_age": 91},
        "max_key_age",
    ),
    "a silence that no key lives through": (
        {"max_lifetime": 90, "expiry_required": True, "unused_after_days": 91},
        "unused_after_days",
    ),
}


@pytest.mark.parametrize(("terms", "field"), NONSENSE.values(), ids=NONSENSE)
def test_what_makes_no_sense_is_refused_and_named(organization, terms, field):
    before = snapshot()
    with pytest.raises(ValidationError) as error:
        make_policy(organization, **terms)
    assert list(faults(error)) == [field]
    assert snapshot() == before


def test_a_scope_of_another_organization_is_refused(organization):
    theirs = make_scope(make_organization(), "theirs:read")
    with pytest.raises(ValidationError) as error:
        make_policy(organization, admin_scopes=(theirs,))
    assert list(faults(error)) == ["admin_scopes"]


def test_two_admins_who_change_it_do_not_overwrite_each_other(organization):
    seen = digest(Policy.objects.of(organization).full_terms())
    Policy.objects.of(organization).edit(PolicyTerms(expiry_required=True), by=BY, seen=seen)
    with pytest.raises(StalePolicyError):
        Policy.objects.of(organization).edit(PolicyTerms(owner_required=True), by=BY, seen=seen)
    # Under Settings the age alone may have been changed.
    seen = digest(Policy.objects.of(organization).full_terms())
    organization.edit(name=organization.name, key_prefix="ka", max_key_age=200, by=BY)
    with pytest.raises(StalePolicyError):
        Policy.objects.of(organization).edit(PolicyTerms(), by=BY, seen=seen)


# Days until unused


def test_each_organization_says_after_how_many_days_of_silence_its_keys_are_unused(organization):
    other = make_organization()
    keys = {one: [make_old_key(one, age * DAY) for age in (20, 60, 100)] for one in (organization, other)}
    assert list(organization.keys.unused(organization=organization)) == keys[organization][2:]
    make_policy(organization, unused_after_days=30)
    organization.refresh_from_db()
    assert set(organization.keys.unused(organization=organization)) == set(keys[organization][1:])
    assert set(organization.keys.unused()) == set(keys[organization][1:])
    # Of all organizations at once each has its own days.
    assert set(ApiKey.objects.unused()) == {*keys[organization][1:], keys[other][2]}
    assert set(ApiKey.objects.unused(days=10)) == {*keys[organization], *keys[other]}
    for one, some in keys.items():
        for key in some:
            stored = ApiKey.objects.for_pages().get(pk=key.pk)
            assert stored.is_unused == ApiKey.objects.unused().filter(pk=key.pk).exists(), one
