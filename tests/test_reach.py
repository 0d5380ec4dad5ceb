"""Operators who are limited to environments: each verb refuses what is outside, and each page says so before."""

import inspect
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from apikeys.models import (
    Actor,
    Alert,
    ApiKey,
    AuditAction,
    KeyExemption,
    KeyTerms,
    MemberEnvironment,
    OutOfReachError,
    RevocationReason,
    Role,
    Rotation,
    RotationReason,
    RotationTerms,
)
from apikeys.models.exemption import ExemptionTerms
from tests.factories import (
    make_actor,
    make_alert,
    make_environment,
    make_exemption,
    make_invitation,
    make_key,
    make_limited,
    make_member,
    make_organization,
    make_rotation,
    make_user,
)
from tests.pages import entries, key_form, messages_of, rotate_form, snapshot, soon, url

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


class Made:
    """One of each thing of production, which an operator of staging may not touch, and what would be asked of it."""

    def __init__(self, organization):
        self.organization = organization
        self.member = make_limited(organization, "stag")
        self.key = make_key(organization, scopes=["orders:read", "orders:write"]).key
        self.paused = make_key(organization).key
        self.paused.pause(by=make_actor())
        self.exempt = make_key(organization).key
        self.exemption = make_exemption(self.exempt)
        self.rotation = make_rotation(organization).rotation
        self.awaited = make_rotation(organization, link_lasts=DAY).rotation
        self.alert = make_alert(organization, key=make_key(organization).key)
        self.environment = organization.environments.get(code="prod")
        self.terms = KeyTerms(name="other", purpose="other", scopes=list(self.key.scopes.all()), owner=self.member)
        self.new_terms = RotationTerms(RotationReason.REGULAR, DAY)
        self.silence = ExemptionTerms(self.member, "stands by", soon())


# (what it is a verb of, its name): what calls it.
VERBS = {
    (ApiKey, "issue"): lambda made, by: ApiKey.objects.issue(made.organization, made.environment, made.terms, by=by),
    (ApiKey, "edit"): lambda made, by: made.key.edit(made.terms, by=by),
    (ApiKey, "narrow"): lambda made, by: made.key.narrow(["orders:write"], by=by, version=made.key.version),
    (ApiKey, "pause"): lambda made, by: made.key.pause(by=by),
    (ApiKey, "resume"): lambda made, by: made.paused.resume(by=by),
    (ApiKey, "revoke"): lambda made, by: made.key.revoke(reason=RevocationReason.LEAKED, by=by),
    (ApiKey, "regenerate"): lambda made, by: made.key.regenerate(by=by),
    (Rotation, "start"): lambda made, by: Rotation.objects.start(made.key, made.new_terms, by=by),
    (Rotation, "send_link"): lambda made, by: made.awaited.send_link(DAY, by=by),
    (Rotation, "extend"): lambda made, by: made.rotation.extend(soon(), by=by),
    (Rotation, "finish"): lambda made, by: made.rotation.finish(by=by),
    (Rotation, "cancel"): lambda made, by: made.rotation.cancel(by=by),
    (KeyExemption, "grant"): lambda made, by: KeyExemption.objects.grant(made.key, made.silence, by=by),
    (KeyExemption, "end"): lambda made, by: made.exemption.end(by=by),
    (Alert, "acknowledge"): lambda made, by: made.alert.acknowledge(until=soon(3), by=by),
    (Alert, "resolve"): lambda made, by: made.alert.resolve(note="It was us", by=by),
    (Alert, "acknowledge_all"): lambda made, by: Alert.objects.acknowledge_all([made.alert], until=soon(3), by=by),
    (Alert, "resolve_all"): lambda made, by: Alert.objects.resolve_all([made.alert], note="It was us", by=by),
}
# Called inside of one of those, or not an operator's: an admin removes a member, an owner takes a key by a link.
WITHOUT = {
    (ApiKey, "hand_over"),
    (ApiKey, "pass_on"),
    (KeyExemption, "hand_over"),
    (KeyExemption, "pass_on"),
    (KeyExemption, "store"),
    (Rotation, "planned"),
    (Rotation, "issue"),
    (Rotation, "take"),
    (Rotation, "end_with"),
}


@pytest.fixture
def made(organization):
    return Made(organization)


def test_each_verb_that_somebody_calls_is_tried_here():
    found = set()
    for model in (ApiKey, Rotation, KeyExemption, Alert):
        for kind in (model, type(model.objects.all())):
            for name, verb in vars(kind).items():
                function = getattr(verb, "__func__", verb)
                is_public = inspect.isfunction(function) and not name.startswith("_")
                if is_public and "by" in inspect.signature(function).parameters:
                    found.add((model, name))
    assert found == set(VERBS) | WITHOUT


@pytest.mark.parametrize("verb", VERBS.values(), ids=[f"{model.__name__}.{name}" for model, name in VERBS])
def test_a_verb_refuses_what_is_outside_of_the_limit_and_changes_nothing(made, verb):
    before = snapshot()
    with pytest.raises(OutOfReachError, match="production is not one of them"):
        verb(made, make_actor(made.member.user))
    with pytest.raises(OutOfReachError):
        verb(made, Actor.command(made.member.user))
    assert snapshot() == before


@pytest.mark.parametrize("verb", VERBS.values(), ids=[f"{model.__name__}.{name}" for model, name in VERBS])
def test_a_verb_does_it_for_an_operator_of_that_environment(made, verb):
    before = snapshot()
    verb(made, make_actor(make_limited(made.organization, "prod", "dev").user))
    assert snapshot() != before


def test_without_a_limit_an_operator_may_touch_all(made):
    made.key.pause(by=make_actor(make_member(made.organization, Role.OPERATOR).user))
    made.exempt.pause(by=make_actor(make_member(made.organization, Role.ADMIN).user))
    made.paused.resume(by=Actor.scheduled())


def test_a_limit_in_one_organization_says_nothing_of_another(made):
    other = make_organization("other")
    make_member(other, Role.OPERATOR, made.member.user)
    make_key(other).key.pause(by=make_actor(made.member.user))


def test_an_environment_that_is_added_later_is_outside_of_every_limit(made):
    make_environment(made.organization, "eu")
    key = make_key(made.organization, environment="eu").key
    with pytest.raises(OutOfReachError):
        key.pause(by=make_actor(made.member.user))


def test_whoever_owns_a_key_takes_the_new_one_by_the_link_whatever_their_limit(organization, client_of):
    owner = make_limited(organization, "stag")
    handed = make_rotation(organization, make_key(organization, owner=owner).key, link_lasts=DAY)
    response = client_of(owner).post(reverse("rotation_take", args=[handed.token]))
    assert response.status_code == 200
    assert response.context["secret"]


def test_who_is_limited_may_leave_with_keys_of_elsewhere(organization):
    leaving, staying = make_limited(organization, "stag"), make_member(organization)
    key = make_key(organization, owner=leaving).key
    leaving.remove(by=make_actor(leaving.user), keys_to=staying)
    key.refresh_from_db()
    assert key.owner == staying


# The limit itself


@pytest.fixture
def edit(organization, admin, client_of):
    client = client_of(admin)
    return lambda member, **form: client.post(url("member_edit", organization, member.pk), form)


def test_an_admin_sets_the_limit_and_the_entry_tells_it(organization, operator, edit, client_of):
    member = operator.memberships.get()
    response = edit(member, role="operator", environments=["stag", "dev"])
    assert "limited to staging, development" in messages_of(response)[-1]
    [entry] = entries(organization, AuditAction.MEMBER_EDIT)
    assert entry.changes == {"environments": ["all", "development, staging"]}
    client = client_of(operator)
    key = make_key(organization).key
    assert client.get(url("key_revoke", organization, key.public_id)).status_code == 403
    edit(member, role="operator")
    assert entries(organization, AuditAction.MEMBER_EDIT)[-1].changes == {
        "environments": ["development, staging", "all"]
    }
    assert client.get(url("key_revoke", organization, key.public_id)).status_code == 200


@pytest.mark.parametrize("role", ["viewer", "admin"])
def test_with_another_role_the_limit_is_lost_and_the_entry_tells_that(organization, edit, role):
    member = make_limited(organization, "stag")
    edit(member, role=role, environments=["stag"])
    assert entries(organization, AuditAction.MEMBER_EDIT)[-1].changes == {
        "role": ["operator", role],
        "environments": ["staging", "all"],
    }
    assert not MemberEnvironment.objects.exists()


def test_environments_of_elsewhere_are_refused(organization, operator, edit):
    make_environment(make_organization("other"), "theirs")
    before = snapshot()
    response = edit(operator.memberships.get(), role="operator", environments=["theirs"])
    assert response.status_code == 422
    assert "environments" in response.context["form"].errors
    assert snapshot() == before


def test_an_environment_that_limits_somebody_is_not_deleted(organization, admin, client_of):
    member = make_limited(organization, "dev")
    client, address = client_of(admin), url("environment_delete", organization, "dev")
    assert "1 operator or invitation is limited to it" in client.get(address).text
    before = snapshot()
    assert "change that under Members first" in messages_of(client.post(address))[-1]
    assert snapshot() == before
    member.change_role(Role.OPERATOR, environments=[], by=make_actor())
    client.post(address)
    assert not organization.environments.filter(code="dev").exists()


def test_the_members_page_shows_it(organization, viewer, client_of):
    make_limited(organization, "stag", "dev")
    make_invitation(organization)
    text = " ".join(client_of(viewer).get(url("member_list", organization)).text.split())
    assert "only <bdi>staging</bdi>" in text


# What pages show and refuse


@pytest.fixture
def limited(organization, client_of):
    return client_of(make_limited(organization, "stag"))


def test_a_form_offers_only_what_is_within_and_refuses_the_rest_by_name(organization, limited):
    assert [
        code for code, _ in limited.get(url("key_create", organization)).context["form"].fields["environment"].choices
    ] == ["stag"]
    before = snapshot()
    response = limited.post(url("key_create", organization), key_form(environment="prod"))
    assert response.status_code == 403
    assert "production is not one of them" in response.text
    assert snapshot() == before
    assert limited.post(url("key_create", organization), key_form(environment="stag")).status_code == 200


def test_pages_of_what_is_outside_show_no_buttons_and_say_why(organization, limited):
    made = Made(organization)
    pages = {
        made.key.get_absolute_url(): ("key_revoke", "key_edit", "key_rotate"),
        made.rotation.get_absolute_url(): ("rotation_finish", "rotation_cancel"),
        made.alert.get_absolute_url(): ("alert_resolve", "alert_acknowledge"),
    }
    for address, names in pages.items():
        text = limited.get(address).text
        assert "You operate keys of <bdi>staging</bdi> only; this is of <bdi>production</bdi>." in text
        for name in names:
            assert f"/{name.partition('_')[2]}" not in text.replace("/acme/alerts/resolve", ""), name


def test_lists_let_only_what_is_within_be_selected(organization, limited):
    outside, within = make_key(organization).key, make_key(organization, environment="stag").key
    alerts = [make_alert(organization, key=key) for key in (outside, within)]
    keys = limited.get(url("key_list", organization)).text
    assert f'value="{within.public_id}"' in keys
    assert f'value="{outside.public_id}"' not in keys
    text = limited.get(url("alert_list", organization)).text
    assert [f'value="{alert.code}"' in text for alert in alerts] == [False, True]


BULKS = [
    ("key_bulk_revoke", {"reason": "unused"}),
    ("key_bulk_rotate", rotate_form()),
]


@pytest.mark.parametrize(("name", "form"), BULKS)
def test_keys_outside_are_left_out_and_named_before_anything_happens(organization, limited, name, form):
    outside, within = make_key(organization, "theirs").key, make_key(organization, "ours", environment="stag").key
    chosen = [outside.public_id, within.public_id]
    page = limited.get(url(name, organization), {"key": chosen})
    assert page.status_code == 200
    assert "theirs" in page.text
    assert "It is of production, which your role does not include." in page.text
    assert f'name="key" value="{outside.public_id}"' not in page.text
    assert f'name="key" value="{within.public_id}"' in page.text
    assert limited.post(url(name, organization), form | {"key": chosen}).status_code in {200, 302}
    assert {entry.key_id for entry in entries(organization) if entry.action in {"key.revoke", "rotation.start"}} == {
        within.pk
    }


@pytest.mark.parametrize("name", ["alert_bulk_acknowledge", "alert_bulk_resolve"])
def test_alerts_outside_are_left_out_and_named_before_anything_happens(organization, limited, name):
    outside, within = (
        make_alert(organization, key=make_key(organization, environment=code).key) for code in ("prod", "stag")
    )
    chosen = {"alert": [outside.code, within.code]}
    assert "It is of production, which your role does not include." in limited.get(url(name, organization), chosen).text
    form = {"until": "1", "until_on": "", "seen": "", "note": "It was us"}
    assert limited.post(url(name, organization), form | chosen).status_code == 302
    outside.refresh_from_db()
    within.refresh_from_db()
    assert (outside.acknowledged_at, outside.resolved_at) == (None, None)
    assert within.acknowledged_at or within.resolved_at


@pytest.mark.parametrize("name", ["key_bulk_revoke", "key_bulk_rotate", "alert_bulk_acknowledge", "alert_bulk_resolve"])
def test_where_all_are_outside_it_is_a_403(organization, limited, name):
    made = Made(organization)
    for method in ("get", "post"):
        response = getattr(limited, method)(
            url(name, organization), {"key": made.key.public_id, "alert": made.alert.code}
        )
        assert response.status_code == 403
        assert "production is not one of them" in response.text


@pytest.mark.parametrize("command", ["revoke_key", "rotate_key"])
def test_a_command_in_their_name_is_refused_too(organization, command):
    member = make_limited(organization, "stag", user=make_user("limited@example.com"))
    key = make_key(organization).key
    options = {"reason": "unused"} if command == "revoke_key" else {"reason": "regular"}
    before = snapshot()
    with pytest.raises(CommandError, match="limited to other environments than prod"):
        call_command(command, key.public_id, by=member.user.email, **options)
    assert snapshot() == before
