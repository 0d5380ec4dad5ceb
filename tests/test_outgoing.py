"""Posting to addresses that people type in: where it goes, and what is read of an answer."""

import ipaddress
import socket
import tracemalloc

import pytest

from apikeys import outgoing
from tests.ports import free_port
from tests.receiver import MEBIBYTE, babble, close_early, drip, flood, flood_headers, hang, receiver

LOCAL = [ipaddress.ip_network("127.0.0.0/8")]


def send(url, allowed=()):
    return outgoing.post(url, b"{}", {"Content-Type": "application/json"}, allowed=allowed)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0.0.0.0",  # noqa: S104 - nothing listens there
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:10.0.0.1]",
        "[fe80::1]",
        "[fc00::1]",
        "[64:ff9b::7f00:1]",
    ],
)
def test_an_address_that_is_not_public_is_refused(host):
    with pytest.raises(outgoing.OutgoingError):
        send(f"https://{host}/hook")


def test_what_a_setting_allows_is_reached():
    with receiver() as here:
        assert send(here.url, LOCAL) == 204
    assert [got.body for got in here.got] == [b"{}"]


def test_a_name_is_resolved_once_and_each_of_its_addresses_is_judged(monkeypatch):
    """A name that is public at first and private a moment later (DNS rebinding) is asked for once."""
    asked = []

    def resolve(host, port, *_, **__):
        asked.append(host)
        address = "1.1.1.1" if len(asked) == 1 else "127.0.0.1"
        public, private = ((socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in (address, "10.0.0.1"))
        return [public, private]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(outgoing.UnsafeAddressError):
        send("https://hooks.example.com/")
    assert asked == ["hooks.example.com"]


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 410, 500, 503])
def test_everything_but_success_is_told_with_its_status(status):
    with receiver() as here:
        here.status = status
        with pytest.raises(outgoing.OutgoingError) as caught:
            send(here.url, LOCAL)
    assert caught.value.status == status
    assert len(here.got) == 1


@pytest.mark.parametrize("behave", [hang, drip])
def test_whoever_does_not_come_to_an_end_is_cut_off(behave):
    with receiver() as here:
        here.behave = behave
        with pytest.raises(outgoing.OutgoingError, match=r"did not answer within 0\.5 seconds"):
            outgoing.post(here.url, b"{}", {}, allowed=LOCAL, deadline=0.5)


def test_of_a_gigabyte_little_is_read():
    with receiver() as here:
        here.behave = flood
        tracemalloc.start()
        assert send(here.url, LOCAL) == 200
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 4 * MEBIBYTE
    # What the buffers of the network took, not what it had to say.
    assert here.sent < 64 * MEBIBYTE


@pytest.mark.parametrize("behave", [flood_headers, close_early, babble])
def test_what_is_no_answer_is_told(behave):
    with receiver() as here:
        here.behave = behave
        with pytest.raises(
            outgoing.OutgoingError, match="closed the connection or answered something that is not HTTP"
        ):
            send(here.url, LOCAL)
    assert here.sent < 64 * MEBIBYTE


def test_a_redirect_to_this_machine_is_not_followed():
    with receiver() as inside, receiver() as here:
        here.status, here.headers = 307, {"Location": inside.url}
        with pytest.raises(outgoing.OutgoingError, match="307, a redirect, which is not followed"):
            send(here.url, LOCAL)
    assert inside.got == []


def test_the_wait_that_a_receiver_asks_for_is_told():
    with receiver() as here:
        here.status, here.headers = 429, {"Retry-After": "120"}
        with pytest.raises(outgoing.OutgoingError) as caught:
            send(here.url, LOCAL)
    assert caught.value.retry_after == 120


def test_who_listens_to_nothing_is_told_so():
    with pytest.raises(outgoing.OutgoingError, match="The connection was refused"):
        send(f"http://127.0.0.1:{free_port()}/", LOCAL)
