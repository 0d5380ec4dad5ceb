"""A limit lets exactly as many requests pass as it says, whichever processes they reach at once."""

import time
from collections import Counter

import pytest

from tests.guarantees.clients import Asked, load

pytestmark = pytest.mark.guarantee

WORKERS = 3
# A scope that the keys lack, or an address outside, would decide before the limit does.
TERMS = {"scopes": ["orders:read", "orders:write"]}


def outcomes(store, key: int) -> Counter[str]:
    rows = store.rows(f"SELECT outcome, count(*) FROM apikeys_usageevent WHERE key_id = {key} GROUP BY outcome")
    return Counter(dict(rows))


def seconds_of(requests: list[Asked]) -> tuple[float, float]:
    """Return the least and the most time that can lie between the first and the last judgement."""
    sent, arrived = [request.sent for request in requests], [request.arrived for request in requests]
    return (max(sent) - min(arrived)) / 1e9, (max(arrived) - min(sent)) / 1e9


def check_answers(requests: list[Asked]) -> None:
    assert {request.status for request in requests} == {200, 429}
    assert all(int(request.retry_after) >= 1 for request in requests if request.status == 429)


@pytest.mark.parametrize("burst", [1, 50])
def test_exactly_the_burst_passes_at_once(start, note, burst):
    server = start(workers=WORKERS)
    targets = server.stage.targets(4, rate_limit=[1, 86400, burst], **TERMS)
    with load(server.port) as clients:
        clients.show(targets)
        clients.go(1600)
        while not clients.is_done:
            time.sleep(0.05)
        requests = clients.collect()
    check_answers(requests)
    for target in targets:
        asked = [request for request in requests if request.key == target.number]
        passed = sum(request.status == 200 for request in asked)
        assert passed == burst, f"{passed} of {len(asked)}"
        assert outcomes(server.store, target.number) == {"valid": burst, "rate_limited": len(asked) - burst}
    note(f"exact limits: of {len(requests)} requests at once exactly {burst} passed on each of {len(targets)} keys")


# A burst of two seconds: nothing that became free is lost unless a busy machine asks nothing for so long.
@pytest.mark.parametrize(("rate", "burst"), [(20, 40), (100, 200)])
def test_over_time_burst_and_rate_pass(start, note, rate, burst):
    server = start(workers=WORKERS)
    [target] = server.stage.targets(1, rate_limit=[rate, 1, burst], **TERMS)
    with load(server.port) as clients:
        clients.show([target])
        time.sleep(1)
        clients.go()
        time.sleep(6)
        requests = clients.collect()
    check_answers(requests)
    passed = sum(request.status == 200 for request in requests)
    shortest, longest = seconds_of(requests)
    least, most = burst + rate * shortest - 1, burst + rate * longest
    assert least <= passed <= most
    assert outcomes(server.store, target.number)["valid"] == passed
    note(
        f"exact limits: {rate} a second, burst {burst}: {passed} of {len(requests)} passed in {longest:.2f} s "
        f"(burst + rate x time, less one: {least:.1f} to {most:.1f})"
    )


def test_the_state_of_a_limit_is_one_number(start):
    server = start()
    limited, free = server.stage.targets(1, rate_limit=[10, 1, 10], **TERMS) + server.stage.targets(1, **TERMS)
    with load(server.port) as clients:
        clients.show([limited, free])
        clients.go(200)
        while not clients.is_done:
            time.sleep(0.05)
        clients.collect()
    rows = dict(server.store.rows("SELECT key_id, limited_until FROM apikeys_keyactivity"))
    assert rows.keys() == {limited.number, free.number}
    assert isinstance(rows[limited.number], int)
    assert rows[free.number] is None, "a key without a limit pays nothing for it"
