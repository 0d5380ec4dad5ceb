"""The client's address: forwarded headers count only behind proxies that the settings trust."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apikeys import proxies

TRUSTED = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1")]


def address(peer, forwarded=None):
    environ = {"REMOTE_ADDR": peer}
    if forwarded is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded
    return proxies.client_address(environ, TRUSTED)


def test_a_client_cannot_forge_its_address():
    assert address("203.0.113.9", "198.51.100.1") == "203.0.113.9"


def test_a_trusted_proxy_speaks_for_its_client():
    assert address("10.0.0.1", "203.0.113.9") == "203.0.113.9"


def test_what_the_client_put_before_the_proxys_entry_is_not_believed():
    assert address("10.0.0.1", "198.51.100.1, 203.0.113.9") == "203.0.113.9"


def test_a_chain_of_trusted_proxies_is_walked_back():
    assert address("10.0.0.1", "198.51.100.1, 203.0.113.9, 10.0.0.2") == "203.0.113.9"


def test_a_client_whose_entry_cannot_be_read_is_unknown_and_not_the_proxy():
    assert address("10.0.0.1", "203.0.113.9, unknown, 10.0.0.2") is None
    assert address("10.0.0.1", "") is None
    assert address("10.0.0.1", "203.0.113.9, ") is None


def test_a_trusted_peer_that_forwards_for_nobody_is_the_client():
    assert address("10.0.0.1") == "10.0.0.1"
    assert address("10.0.0.1", "10.0.0.2, 10.0.0.3") == "10.0.0.2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("::ffff:203.0.113.9", "203.0.113.9"), ("2001:db8::1", "2001:db8::1"), ("fe80::1%eth0", None), ("", None)],
)
def test_addresses_of_both_families_are_read(text, expected):
    found = proxies.parse_address(text)
    assert (str(found) if found else None) == expected


@given(st.text(max_size=100))
def test_a_hostile_header_is_never_an_error_nor_the_proxy(header):
    assert address("10.0.0.1", header) != "10.0.0.1"
