"""Who is refused at the gateway face learns nothing of why: not by the answer, and not by the time that it takes.

The time is compared with what the same comparison says of two groups of the same kind. Requests of all kinds are sent
one at a time in random order over one connection. For each pair of kinds, the effect is the probability that a request
of the one kind takes longer than one of the other (the A of Vargha and Delaney, which is the U of Mann and Whitney
divided by the number of pairs): 0.5 says that time tells nothing. Five standard errors of U, and half a percent, are
allowed to be noise; two groups of one kind must stay within that as well, or the measurement is void.

docs/guarantees.md says which differences there are, and what they tell to whom.
"""

import random
import statistics
import time
from bisect import bisect_left, bisect_right
from itertools import combinations

import pytest

from apikeys import key_secret
from tests.guarantees.clients import Wire, authorize_request
from tests.guarantees.harness import Server

pytestmark = pytest.mark.guarantee


# Whoever presents the whole of a key that ended does not learn how it ended.
ALIKE = ["revoked", "expired", "paused", "revoked, again"]


def make_kinds(server: Server) -> dict[str, list[str]]:
    """Return texts to present, of each kind of refusal; each kind is two keys, so that no one row is special."""
    stage = server.stage
    kinds: dict[str, list[str]] = {}
    for _ in range(2):
        real, revoked, expired, paused = stage.key(), stage.key(), stage.do("expired"), stage.key()
        stage.do("revoke", revoked["public_id"])
        stage.do("pause", paused["public_id"])
        other = key_secret.make("ka", "prod")
        wrong = key_secret.KeySecret("ka", "prod", real["public_id"], other.secret)
        for kind, text in {
            "malformed": real["text"][:-1] + ("0" if real["text"][-1] != "0" else "1"),
            "unknown id": other.text,
            "wrong secret": wrong.text,
            "revoked": revoked["text"],
            "expired": expired["text"],
            "paused": paused["text"],
        }.items():
            kinds.setdefault(kind, []).append(text)
    return kinds


def without_date(head: bytes) -> bytes:
    return b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"date:"))


@pytest.mark.parametrize("scope", ["", "orders:read", "nothing:known"])
def test_each_refusal_is_the_same_to_the_byte(start, scope):
    server = start()
    wire = Wire(server.port)
    try:
        texts = [text for kind in make_kinds(server).values() for text in kind]
        texts += ["", "nonsense", "ka_prod_", texts[0][:-6], "Ж" * 40, "x" * 5000]
        replies = [wire.ask(authorize_request(text, scope)) for text in texts for _ in range(2)]
    finally:
        wire.close()
    assert {reply.status for reply in replies} == {401}
    assert len({without_date(reply.head) for reply in replies}) == 1
    assert {reply.body for reply in replies} == {b""}


def sample(server: Server, kinds: dict[str, list[str]], count: int) -> dict[str, list[int]]:
    """Return how many ns each request took, of each kind."""
    order = [kind for kind in kinds for _ in range(count)]
    random.shuffle(order)
    requests = {kind: [authorize_request(text) for text in texts] for kind, texts in kinds.items()}
    took: dict[str, list[int]] = {kind: [] for kind in kinds}
    wire = Wire(server.port)
    try:
        for request in [request for both in requests.values() for request in both] * 20:
            wire.ask(request)
        for number, kind in enumerate(order):
            request = requests[kind][number % 2]
            began = time.perf_counter_ns()
            reply = wire.ask(request)
            took[kind].append(time.perf_counter_ns() - began)
            assert reply.status == 401
    finally:
        wire.close()
    return took


def longer(these: list[int], those: list[int]) -> float:
    """Return the probability that one of these is longer than one of those; ties count half."""
    ordered = sorted(those)
    above = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in these)
    return above / 2 / len(these) / len(those)


def noise(count: int) -> float:
    """Return how far chance alone may carry ``longer`` from 0.5 with so many samples of each."""
    return 5 * ((2 * count + 1) / (12 * count * count)) ** 0.5 + 0.005


def test_time_does_not_tell_why(start, note, pytestconfig):
    count = pytestconfig.getoption("--guarantee-samples")
    server = start()
    kinds = make_kinds(server)
    kinds["revoked, again"] = kinds["revoked"]
    took = sample(server, kinds, count)
    medians = {kind: statistics.median(values) / 1000 for kind, values in took.items()}
    note(
        f"uniform refusal: {count:,} samples of each kind, medians in microseconds: "
        + ", ".join(f"{kind} {median:.0f}" for kind, median in medians.items())
    )
    pairs = {(a, b): longer(took[a], took[b]) for a, b in combinations(kinds, 2)}
    note(
        f"uniform refusal: how likely the one takes longer than the other, noise 0.5 +- {noise(count):.3f}: "
        + ", ".join(f"{a} / {b} {value:.3f}" for (a, b), value in pairs.items())
    )
    told = {pair: pairs[pair] for pair in combinations(ALIKE, 2) if abs(pairs[pair] - 0.5) > noise(count)}
    assert not told
