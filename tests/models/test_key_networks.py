"""The index of the networks of keys: what it holds, and what it finds."""

import random
from ipaddress import ip_address, ip_network

import pytest
from django.utils import timezone

from apikeys.models import ApiKey, KeyNetwork
from apikeys.models.key_terms import MAX_NETWORKS
from tests.factories import edit_key, make_actor, make_key, make_organization

pytestmark = pytest.mark.django_db

MANY = ["10.0.0.0/8", "10.0.0.0/9", "192.0.2.7/32", "0.0.0.0/0", "::/0", "2001:db8::/32", "2001:db8::1/128"]


def indexed(key):
    return sorted(str(row) for row in KeyNetwork.objects.filter(key=key, environment=key.environment))


def shared(organization, networks, *, production=True):
    return KeyNetwork.objects.shared(organization, networks, timezone.now(), production=production)


def test_it_holds_the_networks_that_a_key_has(organization):
    key = make_key(organization, networks=MANY).key
    assert indexed(key) == sorted(MANY)
    assert indexed(make_key(organization).key) == []

    new = ApiKey.objects.get(pk=key.pk).regenerate(by=make_actor()).key
    assert indexed(new) == sorted(MANY)

    edit_key(new, networks=["198.51.100.0/24", "10.0.0.0/8"])
    assert indexed(new) == ["10.0.0.0/8", "198.51.100.0/24"]
    edit_key(new, name="renamed")
    assert indexed(new) == ["10.0.0.0/8", "198.51.100.0/24"]
    edit_key(new, networks=[])
    assert indexed(new) == []


def test_it_holds_what_is_saved_in_any_way(organization):
    key = make_key(organization).key
    key.networks = ["10.1.0.0/16"]
    key.save(update_fields=["name"])
    assert indexed(key) == []
    key.save()
    assert indexed(key) == ["10.1.0.0/16"]
    ApiKey.objects.get(pk=key.pk).pause(by=make_actor())
    assert indexed(key) == ["10.1.0.0/16"]


def some_network(rng):
    """Return a network out of few addresses, so that many overlap, at times at the very end of all addresses."""
    bits = rng.choice([32, 128])
    base = rng.choice([0, (1 << bits) - 1, int(ip_address("10.0.0.0" if bits == 32 else "2001:db8::"))])
    length = rng.choice([*range(bits + 1), bits, bits - 8])
    first = (base ^ rng.getrandbits(rng.randrange(1, bits))) >> (bits - length) << (bits - length)
    return f"{ip_address(first) if bits == 32 else ip_address(first.to_bytes(16))}/{length}"


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_what_overlaps_as_addresses_do(organization, seed):
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    theirs = [some_network(rng) for _ in range(12)]
    make_key(organization, networks=theirs[:6])
    make_key(organization, networks=theirs[6:])
    make_key(organization, environment="dev", networks=MANY)
    others = [ip_network(text) for text in theirs]
    seen = set()
    for _ in range(50):
        text = some_network(rng)
        mine = ip_network(text)
        overlaps = any(mine.version == other.version and mine.overlaps(other) for other in others)
        assert shared(organization, [text]) == [text] * overlaps, (text, theirs)
        seen.add(overlaps)
    if "0.0.0.0/0" not in theirs and "::/0" not in theirs:
        assert seen == {False, True}


def test_it_tells_three_at_most_of_all_that_a_key_may_have(organization):
    make_key(organization, networks=["10.0.0.0/8"])
    make_key(organization, environment="dev", networks=["172.16.0.0/12"])
    make_key(make_organization(), networks=["0.0.0.0/0", "::/0"])
    mine = [f"{first}.0.{last}.0/24" for first in (9, 10, 172) for last in range(30)]
    assert shared(organization, mine) == ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"]
    assert shared(organization, [one for one in mine if not one.startswith("10.")]) == []
    assert shared(organization, ["172.20.0.0/14", "2001:db8::/32"], production=False) == ["172.20.0.0/14"]
    assert shared(organization, []) == []


def test_nothing_shared_is_two_queries_however_many_networks(organization, django_assert_num_queries):
    make_key(organization, networks=["10.0.0.0/8"])
    mine = [f"2001:db8:{number:x}::/64" for number in range(MAX_NETWORKS)]
    with django_assert_num_queries(2):
        assert shared(organization, mine) == []
