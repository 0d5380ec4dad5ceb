"""Callers, told apart by address, by network or by user agent."""

from datetime import UTC, datetime, timedelta

import pytest

from apikeys.callers import callers_of, network_of
from apikeys.models import UsageValue, UsageValues

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def value(address, agent, accepted, refused=0, days=0, *, total=100, is_new=False):
    at = NOW - timedelta(days=days)
    return UsageValue(f"{address}\n{agent}", accepted, refused, at, at, (accepted + refused) / total, is_new)


def found(*values, others=0, others_count=0, is_bounded=False):
    total = sum(one.count for one in values) + others_count
    return UsageValues(list(values), others, others_count, total, is_bounded)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.9", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "::/64"),
        ("", ""),
        ("nonsense", ""),
    ],
)
def test_the_network_of_an_address(address, network):
    assert network_of(address) == network


def test_an_address_with_another_agent_is_another_caller():
    callers = callers_of(found(value("203.0.113.9", "a", 60), value("203.0.113.9", "b", 40)), "address", 10)
    assert [(one.name, one.detail, one.share) for one in callers.shown] == [
        ("203.0.113.9", "a", 0.6),
        ("203.0.113.9", "b", 0.4),
    ]


def test_what_is_not_known_is_said():
    [caller] = callers_of(found(value("", "", 5)), "address", 10).shown
    assert (caller.name, caller.detail, caller.address) == ("unknown address", "no user agent", "")
    assert callers_of(found(value("", "", 5)), "network", 10).shown[0].name == "unknown address"
    assert callers_of(found(value("", "", 5)), "agent", 10).shown[0].name == "no user agent"


def test_a_group_begins_with_its_first_and_ends_with_its_last_and_is_new_when_all_of_it_is():
    values = found(
        value("203.0.113.1", "a", 30, 5, days=9),
        value("203.0.113.2", "a", 20, days=1, is_new=True),
        value("198.51.100.1", "b", 45, is_new=True),
    )
    first, second = callers_of(values, "network", 10).shown
    assert (first.name, first.detail, first.accepted, first.refused) == ("203.0.113.0/24", "2 addresses", 50, 5)
    assert (first.first_at, first.last_at) == (NOW - timedelta(days=9), NOW - timedelta(days=1))
    assert (first.is_new, second.is_new) == (False, True)
    assert first.share == pytest.approx(0.55)


def test_others_are_counted_with_their_share():
    values = found(*(value(f"192.0.2.{number}", "a", 10) for number in range(6)), others=4, others_count=40)
    callers = callers_of(values, "address", 2)
    assert (len(callers.shown), callers.others, callers.known) == (2, 8, 10)
    assert callers.others_share == pytest.approx(0.8)
    assert not callers.at_least
    assert callers_of(values, "agent", 2).at_least
    assert callers_of(found(value("", "", 1), is_bounded=True), "address", 2).at_least


def test_nobody_is_nobody():
    callers = callers_of(found(), "network", 10)
    assert (callers.shown, callers.others, callers.others_share) == ([], 0, 0)
