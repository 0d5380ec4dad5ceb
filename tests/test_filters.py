"""The filters, as querysets: flags mean the same in SQL and in Python, and each edge lies where it says."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.conf import settings as django_settings
from django.http import QueryDict
from django.utils import timezone

from apikeys.filters import TABS, KeyFilter, in_tab
from apikeys.models import ApiKey, KeyActivity
from apikeys.models.extremes import floor_minute
from apikeys.models.key_status import EXPIRING_WITHIN
from apikeys.paging import take_page
from apikeys.tallies import tab_counts
from tests.factories import make_actor, make_key, make_old_key, make_rhythm, make_rotation
from tests.pages import age_limit, make_keys

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


@pytest.fixture
def viewing(organization, viewer):
    """What the filters need of a request: whose list it is."""
    return SimpleNamespace(member=viewer.memberships.get())


def filtered(viewing, organization, query, **options):
    return KeyFilter(QueryDict(query), queryset=organization.keys.all(), request=viewing, **options)


def test_without_filters_every_key_is_kept(organization, viewing):
    make_key(organization)
    listing = filtered(viewing, organization, "")
    assert listing.is_valid()
    assert listing.qs.count() == 1
    assert listing.sort_name == "-created"


def test_tabs_are_a_partition_by_status_and_two_flags(organization, viewing):
    now = filtered(viewing, organization, "").now

    def change(key, place):
        key.created_at = now - timedelta(days=200)
        key.revoked_at = now if place & 1 else None
        key.revoked_reason = "unused" if place & 1 else ""
        key.paused_at = now if place & 2 else None
        key.expires_at = [None, now - DAY, now + DAY, now + 90 * DAY][(place >> 2) % 4]

    make_keys(organization, 32, change=change, used=lambda place: now - (91 if place & 16 else 1) * DAY)
    keys = organization.keys.all()
    by_tab = {tab: set(in_tab(keys, tab, now)) for tab in TABS}
    statuses = [by_tab[tab] for tab in ("active", "paused", "expired", "revoked")]
    assert sum(map(len, statuses)) == len(by_tab[""]) == 33
    assert set().union(*statuses) == by_tab[""]
    dead = by_tab["revoked"] | by_tab["expired"]
    assert not dead & (by_tab["expiring"] | by_tab["unused"])
    for key in ApiKey.objects.select_related("activity"):
        assert (key in by_tab["expiring"]) == key.is_expiring
        assert (key in by_tab["unused"]) == key.is_unused
        assert key in by_tab[key.status]


@pytest.mark.parametrize(
    ("offset", "expiring", "expired"),
    [(-SECOND, False, True), (timedelta(), False, True), (SECOND, True, False)],
)
def test_a_key_expires_at_its_instant(organization, viewing, offset, expiring, expired):
    listing = filtered(viewing, organization, "")
    ApiKey.objects.filter(pk=make_key(organization).key.pk).update(expires_at=listing.now + offset)
    assert in_tab(organization.keys.all(), "expiring", listing.now).exists() == expiring
    assert in_tab(organization.keys.all(), "expired", listing.now).exists() == expired


@pytest.mark.parametrize(("offset", "found"), [(timedelta(), True), (SECOND, False)])
def test_expiring_ends_at_its_border(organization, viewing, offset, found):
    listing = filtered(viewing, organization, "")
    ApiKey.objects.filter(pk=make_key(organization).key.pk).update(expires_at=listing.now + EXPIRING_WITHIN + offset)
    assert in_tab(organization.keys.all(), "expiring", listing.now).exists() == found


@pytest.mark.parametrize(("offset", "found"), [(timedelta(), False), (-SECOND, True)])
def test_unused_begins_after_its_border(organization, viewing, offset, found):
    listing = filtered(viewing, organization, "")
    border = floor_minute(listing.now) - timedelta(days=django_settings.UNUSED_AFTER_DAYS)
    key = make_old_key(organization, timedelta(days=200))
    KeyActivity.objects.filter(key=key).update(last_used_at=border + offset)
    assert in_tab(organization.keys.all(), "unused", listing.now).exists() == found


@pytest.mark.parametrize(
    ("query", "offset", "found"),
    [
        ("expires=7", 7 * DAY, True),
        ("expires=7", 7 * DAY + SECOND, False),
        ("expires=7", timedelta(), False),
        ("expires=past", timedelta(), True),
        ("expires=past", SECOND, False),
    ],
)
def test_an_expiry_is_found_up_to_its_border(organization, viewing, query, offset, found):
    listing = filtered(viewing, organization, query)
    ApiKey.objects.filter(pk=make_key(organization).key.pk).update(expires_at=listing.now + offset)
    assert listing.qs.exists() == found


@pytest.mark.parametrize(
    ("query", "ago", "found"),
    [
        ("last_used=7", 7 * DAY, True),
        ("last_used=7", 7 * DAY + SECOND, False),
        ("last_used=30%2B", 30 * DAY, False),
        ("last_used=30%2B", 30 * DAY + SECOND, True),
        ("last_used=never", timedelta(), False),
    ],
)
def test_a_last_use_is_found_up_to_its_border_which_is_a_whole_minute(organization, viewing, query, ago, found):
    listing = filtered(viewing, organization, query)
    used_at = floor_minute(listing.now) - ago
    key = make_old_key(organization, timedelta(days=200))
    KeyActivity.objects.filter(key=key).update(last_used_at=used_at)
    assert listing.qs.filter(pk=key.pk).exists() == found


@pytest.mark.parametrize(
    ("query", "left", "found"),
    [
        ("rotate=due", timedelta(), True),
        ("rotate=due", SECOND, False),
        ("rotate=soon", timedelta(), False),
        ("rotate=soon", SECOND, True),
        ("rotate=soon", 14 * DAY, True),
        ("rotate=soon", 14 * DAY + SECOND, False),
        ("rotate=30", timedelta(), False),
        ("rotate=30", 30 * DAY, True),
        ("rotate=30", 30 * DAY + SECOND, False),
    ],
)
def test_a_rotation_is_found_up_to_its_border(organization, viewing, query, left, found):
    organization = viewing.member.organization
    age_limit(organization, 60)
    listing = filtered(viewing, organization, query)
    key = make_old_key(organization, timedelta())
    listing.now = key.created_at + 60 * DAY - left
    assert listing.is_valid()
    assert (key in listing.qs) == found


def test_the_newest_of_each_lineage_is_found_alone(organization, viewing):
    """Also while both keys work; when the rotation is called off, the old key is the newest again."""
    alone, first, called_off = (make_key(organization).key for _ in range(3))
    second = make_rotation(organization, first)
    second.rotation.finish(by=make_actor())
    third = make_rotation(organization, second.issued.key).issued.key
    cancelled = make_rotation(organization, called_off)
    cancelled.rotation.cancel(by=make_actor())
    awaited = make_rotation(organization, link_lasts=DAY).rotation.old_key
    found = filtered(viewing, organization, "generation=newest")
    assert found.is_valid()
    assert set(found.qs) == {alone, third, called_off, cancelled.issued.key, awaited}


@pytest.mark.parametrize("value", ["oldest", "NEWEST", "1", "x" * 500])
def test_no_other_generation_can_be_asked_for(organization, viewing, value):
    assert list(filtered(viewing, organization, f"generation={value}").form.errors) == ["generation"]


@pytest.mark.parametrize("after_use", [timedelta(seconds=1), 5 * DAY])
def test_a_key_that_expired_after_its_last_use_is_found_by_it(organization, viewing, after_use):
    """The filter says of every key that it did not expire before it was used."""
    listing = filtered(viewing, organization, "last_used=7")
    used_at = floor_minute(listing.now) - 7 * DAY
    key = make_key(organization).key
    KeyActivity.objects.filter(key=key).update(last_used_at=used_at)
    ApiKey.objects.filter(pk=key.pk).update(expires_at=used_at + after_use)
    assert list(listing.qs) == [key]
    assert list(in_tab(listing.qs, "expired", listing.now)) == [key]


@pytest.mark.parametrize("sort", ["created", "-created", "name", "-name", "expires", "-expires", "last_used"])
def test_seasonal_keys_are_paged_in_order_though_no_index_gives_it(organization, viewing, sort):
    for days in (400, 500, 450):
        make_rhythm(make_old_key(organization, timedelta(days=days)), usual_gap=92 * DAY)
    for key in organization.keys.all():
        KeyActivity.objects.filter(key=key).update(last_used_at=timezone.now() - 100 * DAY)
    seasonal, every = (
        filtered(viewing, organization, query) for query in (f"silence=seasonal&sort={sort}", f"sort={sort}")
    )
    assert seasonal.is_valid()
    assert every.is_valid()
    found, cursor = [], ""
    while cursor or not found:
        page = take_page(seasonal.parts(), cursor, 1)
        found += page.rows
        cursor = page.cursor
    assert found == [key for key in take_page(every.parts(), "").rows if key in found]
    assert len(found) == len(set(found)) == 3


def test_a_fingerprint_finds_its_key_by_both_ends(organization, viewing):
    key = make_key(organization).key
    make_key(organization)
    start, end = key.public_id[:4], key.public_id[-4:]
    for text in (key.fingerprint, f"{start}…{end}", f"prod_{start}…{end}"):
        query = QueryDict(mutable=True)
        query["q"] = text
        assert list(KeyFilter(query, queryset=organization.keys.all(), request=viewing).qs) == [key]


def test_an_owner_can_be_chosen_among_members_and_contacts_each_once(organization, viewing):
    make_key(organization, owner_contact="ops@example.com")
    make_key(organization, owner_contact="ops@example.com")
    choices = [value for value, _ in filtered(viewing, organization, "").filters["owner"].extra["choices"]()]
    assert sorted(choices) == ["closed", "founder@example.com", "ops@example.com", "viewer@example.com"]


QUERIES = (
    *("", "q=zanzibar", "status=unused", "environment=prod&environment=stag", "owner=closed", "scope=orders:read"),
    *("expires=30", "created=0-30&sort=name", "last_used=never", "silence=dormant&status=unused", "generation=newest"),
    *("rotate=due", "policy=any", "refused=7", "tried=1", "status=nonsense", "expires=nonsense&q=zanzibar"),
)


@pytest.mark.parametrize("query", QUERIES)
def test_without_its_form_it_finds_the_same(organization, viewing, query):
    make_key(organization)
    whole, asked = (filtered(viewing, organization, query, asked_only=only) for only in (False, True))
    whole.now = asked.now
    assert asked.is_valid() == whole.is_valid()
    assert asked.errors == whole.errors
    assert asked.is_on() == whole.is_on()
    assert asked.chips("/", QueryDict(query)) == whole.chips("/", QueryDict(query))
    if asked.is_valid():
        assert str(asked.qs.query) == str(whole.qs.query)
        assert [str(part.in_order().query) for part in asked.parts()] == [
            str(part.in_order().query) for part in whole.parts()
        ]
        assert tab_counts(asked) == tab_counts(whole)
