"""What a policy leaves to choose from in the forms of keys."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.forms import KeyForm
from apikeys.models import ApiKey, RotationReason
from apikeys.rotation_forms import RotateForm
from tests.factories import make_key, make_old_key, make_policy
from tests.pages import edit_form, key_form, rotate_form, url

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


def choices(form):
    return [value for value, _ in form.fields["expires"].choices]


def test_without_a_policy_everything_is_offered_and_nothing_told(organization):
    form = KeyForm(organization=organization)
    assert choices(form) == ["30", "90", "180", "365", "date", "never"]
    assert "policy" not in "".join(str(field.help_text) for field in form.fields.values())
    assert form["expires"].value() == "90"


@pytest.mark.parametrize(
    ("days", "offered", "first"),
    [
        (400, ["30", "90", "180", "365", "date"], "90"),
        (180, ["30", "90", "180", "date"], "90"),
        (60, ["30", "date"], "30"),
        (7, ["date"], "date"),
    ],
)
def test_an_expiry_is_offered_as_far_as_it_may_be_and_the_first_one_obeys(organization, days, offered, first):
    make_policy(organization, max_lifetime=days, expiry_required=True)
    form = KeyForm(organization=organization)
    assert choices(form) == offered
    assert form["expires"].value() == first
    word = f"{days} days from now, by your organization's policy."
    assert form.fields["expires"].help_text == f"At most {word}"
    if first == "date":
        assert form["expires_on"].value() == (timezone.now() + days * DAY).date()


def test_of_a_key_that_exists_the_end_is_counted_from_its_creation(organization):
    make_policy(organization, max_lifetime=100, expiry_required=True)
    key = make_old_key(organization, 50 * DAY, expires_at=timezone.now() + 9 * DAY)
    form = KeyForm(organization=organization, key=ApiKey.objects.for_pages().get(pk=key.pk))
    assert choices(form) == ["30", "date"]
    latest = key.created_at + 100 * DAY
    assert f"until {latest:%-d %B %Y} at the latest" in form.fields["expires"].help_text


def test_a_key_that_never_expires_may_be_left_so(organization):
    key = make_key(organization).key
    make_policy(organization, expiry_required=True)
    assert "never" in choices(KeyForm(organization=organization, key=key))
    assert "never" not in choices(KeyForm(organization=organization))


def test_each_limit_is_told_beside_its_field(organization, client):
    make_policy(
        organization,
        least_purpose=30,
        owner_required=True,
        admin_scopes=tuple(organization.scopes.filter(name="orders:write")),
        networks_required=True,
        environments_apart=True,
        max_rate=(50, 60),
    )
    text = client.get(url("key_create", organization)).text.replace("&#x27;", "'")
    for told in (
        "At least 30 characters, by your organization's policy.",
        "It must be a member, by your organization's policy.",
        "Only an admin may give orders:write, by your organization's policy.",
        "A production key needs at least one, by your organization's policy.",
        "Production and other environments share none, by your organization's policy.",
        "At most 50 per minute, by your organization's policy.",
    ):
        assert told in text
    form = KeyForm(organization=organization)
    assert (form["rate_limit"].value(), form["rate_period"].value()) == (50, 60)


def test_a_form_that_was_open_before_is_told_the_field_and_the_limit(organization, client):
    make_policy(organization, max_lifetime=90, expiry_required=True)
    for expires, field in (("365", "expires"), ("never", "expires"), ("date", "expires_on")):
        day = (timezone.now() + 92 * DAY).date() if expires == "date" else ""
        response = client.post(url("key_create", organization), key_form(expires=expires, expires_on=day))
        assert response.status_code == 422
        [told] = response.context["form"].errors[field]
        assert told.startswith("At most 90 days from")
        assert "by your organization's policy" in told


def test_a_change_is_told_the_field_and_the_limit(organization, client):
    key = make_key(organization, rate_limit=(5, 1, 5)).key
    make_policy(organization, max_rate=(10, 1), owner_required=True)
    response = client.post(url("key_edit", organization, key.public_id), edit_form(key, rate_limit="11"))
    assert response.status_code == 422
    assert response.context["form"].errors == {"rate_limit": ["At most 10 per second, by your organization's policy."]}
    # What it violates already is no reason to refuse another change.
    assert client.post(url("key_edit", organization, key.public_id), edit_form(key, name="other")).status_code == 302


def test_rotating_as_usual_is_cut_to_the_longest_lifetime_and_says_so(organization, client):
    key = make_key(organization).key
    make_policy(organization, max_lifetime=90, expiry_required=True, max_rate=(10, 1))
    form = RotateForm(None, keys=[key], reason=RotationReason.COMPROMISE)
    assert dict(form.fields["expires"].choices)["same"] == "In 90 days: as late as it may"
    assert choices(form) == ["same", "30", "90", "date"]
    address = url("key_rotate", organization, key.public_id)
    for chosen in ("365", "never"):
        refused = client.post(address, rotate_form(expires=chosen))
        assert refused.status_code == 422
        assert refused.context["form"].errors["expires"] == ["At most 90 days from now, by your organization's policy."]
    response = client.post(address, rotate_form(reason="compromise", overlap="0"))
    assert response.status_code == 200
    new = response.context["key"]
    assert new.expires_at - new.created_at < 91 * DAY


def test_many_are_rotated_at_once_each_cut_to_the_longest_lifetime(organization, client):
    keys = [make_key(organization, expires_at=timezone.now() + days * DAY).key for days in (30, 300)]
    make_policy(organization, max_lifetime=90, expiry_required=True)
    form = RotateForm(None, keys=keys, reason=RotationReason.REGULAR)
    words = "As long after its start as its old key, at most 90 days"
    assert dict(form.fields["expires"].choices)["same"] == words
    sent = rotate_form(key=[key.public_id for key in keys], overlap="1440")
    assert client.post(url("key_bulk_rotate", organization), sent).status_code == 200
    spans = [(new.expires_at - new.created_at) // DAY for new in organization.keys.filter(replaces__in=keys)]
    assert sorted(spans) in ([29, 90], [30, 90])


def test_regenerating_says_when_the_new_key_must_end(organization, client):
    key = make_key(organization).key
    address = url("key_regenerate", organization, key.public_id)
    assert "policy lets it" not in client.get(address).text
    make_policy(organization, max_lifetime=90, expiry_required=True)
    assert "policy lets it" in client.get(address).text
