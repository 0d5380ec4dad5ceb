"""Who is refused at the gateway face learns nothing of why: not by the answer, and not by the time that it takes.

The time is compared with what the same comparison says of two groups of the same kind. Requests of all kinds are sent
in random order over several connections, each of which has one request under way. For each pair of kinds, the effect is
the probability that a request of the one kind takes longer than one of the other (the A of Vargha and Delaney, which is
the U of Mann and Whitney divided by the number of pairs): 0.5 says that time tells nothing. Five standard errors of U,
and half a percent, are allowed to be noise; two groups of one kind must stay within that as well, or the measurement is
void. Without a load the answers wait for the same instant after each request's arrival; with one, their groups.
"""

import asyncio
import random
import statistics
import time
from bisect import bisect_left, bisect_right
from itertools import combinations

import pytest

from apikeys import key_secret
from tests.guarantees.clients import Wire, authorize_request, load
from tests.guarantees.harness import Server

pytestmark = pytest.mark.guarantee

CONNECTIONS = 32


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
    order = [(kind, number % 2) for kind in kinds for number in range(count)]
    random.shuffle(order)
    requests = {kind: [authorize_request(text) for text in texts] for kind, texts in kinds.items()}
    took: dict[str, list[int]] = {kind: [] for kind in kinds}

    async def ask_in_turn(warm_up: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        while order:
            kind, number = order.pop()
            began = time.perf_counter_ns()
            writer.write(requests[kind][number])
            head = await reader.readuntil(b"\r\n\r\n")
            ended = time.perf_counter_ns()
            assert head.startswith(b"HTTP/1.1 401 ")
            if warm_up:
                warm_up -= 1
                order.insert(0, (kind, number))
            else:
                took[kind].append(ended - began)
        writer.close()

    async def ask_together() -> None:
        await asyncio.gather(*(ask_in_turn(5) for _ in range(CONNECTIONS)))

    asyncio.run(ask_together())
    return took


def longer(these: list[int], those: list[int]) -> float:
    """Return the probability that one of these is longer than one of those; ties count half."""
    ordered = sorted(those)
    above = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in these)
    return above / 2 / len(these) / len(those)


def noise(count: int) -> float:
    """Return how far chance alone may carry ``longer`` from 0.5 with so many samples of each."""
    return 5 * ((2 * count + 1) / (12 * count * count)) ** 0.5 + 0.005


@pytest.mark.parametrize("clients", [0, 4], ids=["alone", "under load"])
def test_time_does_not_tell_why(start, note, pytestconfig, clients):
    count = pytestconfig.getoption("--guarantee-samples")
    server = start()
    kinds = make_kinds(server)
    kinds["revoked, again"] = kinds["revoked"]
    with load(server.port, processes=1, threads=max(clients, 1)) as others:
        if clients:
            others.show(server.stage.targets(50))
            others.go()
        took = sample(server, kinds, count)
    medians = {kind: statistics.median(values) / 1_000_000 for kind, values in took.items()}
    title = f"uniform refusal, {clients} other clients"
    note(
        f"{title}: {count:,} samples of each kind, medians in ms: "
        + ", ".join(f"{kind} {median:.2f}" for kind, median in medians.items())
    )
    pairs = {(a, b): longer(took[a], took[b]) for a, b in combinations(kinds, 2)}
    note(
        f"{title}: how likely the one takes longer than the other, noise 0.5 +- {noise(count):.3f}: "
        + ", ".join(f"{a} / {b} {value:.3f}" for (a, b), value in pairs.items())
    )
    assert not {pair: value for pair, value in pairs.items() if abs(value - 0.5) > noise(count)}
