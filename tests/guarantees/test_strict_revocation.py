"""No request that starts after a change commits is judged by the state before it, on any worker process.

Several worker processes answer several clients while two operators change keys in the dashboard, at random moments in
random order. When a change commits is known only to within a window: it lies between the sending of the form and the
answer to it. So a request that starts after the answer must be judged by the new state, one that was answered before
the form was sent by the old one, and one that overlaps the window may be judged by either.
"""

import random
import secrets
import threading
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final

import pytest

from tests.guarantees.clients import INSIDE, Asked, Load, Target, load
from tests.guarantees.dashboard import Dashboard, Page
from tests.guarantees.harness import Server

pytestmark = pytest.mark.guarantee

WORKERS, OPERATORS, KEYS_EACH = 3, 2, 4
NETWORK = "198.51.100.0/24"
# Nobody gets a second request past the one, nobody is ever stopped by the other.
LIMITS: Final = {
    "none": {"rate_limit": "", "rate_burst": ""},
    "tiny": {"rate_limit": "1", "rate_period": "86400", "rate_burst": "1"},
    "wide": {"rate_limit": "1000000", "rate_period": "1", "rate_burst": "1000000"},
}
STATUS: Final = {"valid": 200, "scope_missing": 403, "network_denied": 403, "rate_limited": 429}
SOON = 100_000_000


@dataclass(frozen=True)
class State:
    """What a key is; ``outcomes`` says in this test's own words what that means for a request."""

    scopes: tuple[str, ...] = ("orders:read",)
    networks: str = ""
    limit: str = "none"
    paused: bool = False
    expired: bool = False
    revoked: bool = False

    def outcomes(self, scope: str, address: str) -> set[str]:
        if self.revoked:
            return {"revoked"}
        if self.expired:
            return {"expired"}
        if self.paused:
            return {"paused"}
        if self.networks and address != INSIDE:
            return {"network_denied"}
        if scope and scope not in self.scopes:
            return {"scope_missing"}
        return {"valid", "rate_limited"} if self.limit == "tiny" else {"valid"}


@dataclass(frozen=True)
class Change:
    """A state, and the window of time in which it came into force."""

    begin: int
    end: int
    state: State
    verb: str


@dataclass
class Subject:
    """A key under test with everything that was done to it."""

    target: Target
    name: str
    history: list[Change]
    rests_until: int = 0

    @property
    def public_id(self) -> str:
        return self.target.text.split("_")[2]

    @property
    def state(self) -> State:
        return self.history[-1].state

    def became(self, verb: str, page: Page, **changes: object) -> None:
        self.history.append(Change(page.sent, page.arrived, replace(self.state, **changes), verb))


@dataclass
class Registry:
    """Every key there is, and which of them the clients are to present."""

    clients: Load
    subjects: list[Subject] = field(default_factory=list)
    shown: list[Target] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, text: str, name: str, page: Page, state: State) -> Subject:
        with self.lock:
            subject = Subject(Target(len(self.subjects), text), name, [Change(0, page.arrived, state, "create")])
            self.subjects.append(subject)
            self.shown.append(subject.target)
            self.clients.show(self.shown)
        return subject

    def drop(self, subject: Subject) -> None:
        with self.lock:
            self.shown.remove(subject.target)
            self.clients.show(self.shown)


class Operator:
    """Somebody who changes keys of their own, one after the other, without ever resting."""

    def __init__(self, server: Server, registry: Registry, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a test's choice, to be repeated
        self._dashboard = Dashboard(server.port)
        self._server, self._registry = server, registry
        self._keys: list[Subject] = []
        self.error: BaseException | None = None

    def begin(self) -> None:
        while len(self._keys) < KEYS_EACH:
            self._create()

    def run(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                self._change(self._random.choice(self._keys))
                time.sleep(self._random.uniform(0, 0.02))
        except BaseException as error:
            self.error = error
        finally:
            self._dashboard.close()

    def _create(self) -> None:
        name = f"key {secrets.token_hex(4)}"
        page, text = self._dashboard.create(name)
        self._keys.append(self._registry.add(text, name, page, State()))

    def _change(self, subject: Subject) -> None:
        if time.time_ns() < subject.rests_until:
            return
        state = subject.state
        if state.revoked:
            self._keys.remove(subject)
            self._registry.drop(subject)
            self._create()
            return
        verbs = [self._revoke, self._regenerate]
        if state.expired:
            verbs = [self._revoke, self._prolong, self._prolong]
        elif state.paused:
            verbs += [self._resume] * 6
        else:
            edits = [self._scopes, self._networks, self._limit]
            verbs += [self._pause, self._pause, self._rehearse, self._expire, *edits, *edits]
        self._random.choice(verbs)(subject)

    def _revoke(self, subject: Subject) -> None:
        subject.became("revoke", self._dashboard.revoke(subject.public_id, subject.name), revoked=True)

    def _regenerate(self, subject: Subject) -> None:
        page, text = self._dashboard.regenerate(subject.public_id)
        new = self._registry.add(text, subject.name, page, replace(subject.state, paused=False))
        subject.became("regenerate", page, revoked=True)
        self._keys.append(new)

    def _pause(self, subject: Subject) -> None:
        subject.became("pause", self._dashboard.pause(subject.public_id), paused=True)

    def _resume(self, subject: Subject) -> None:
        subject.became("resume", self._dashboard.resume(subject.public_id), paused=False)

    def _rehearse(self, subject: Subject) -> None:
        """Pause the key until an instant that is known exactly, at which nobody does anything."""
        sent = time.time_ns()
        with self._registry.lock:
            until = self._server.stage.do("rehearse", subject.public_id, self._random.uniform(0.2, 0.8))
        arrived = time.time_ns()
        subject.history.append(Change(sent, arrived, replace(subject.state, paused=True), "rehearse"))
        subject.history.append(Change(until, max(until, arrived), replace(subject.state, paused=False), "come back"))
        subject.rests_until = until + 1_000_000

    def _scopes(self, subject: Subject) -> None:
        choices = [("orders:read",), ("orders:write",), ("orders:read", "orders:write")]
        scopes = self._random.choice([choice for choice in choices if choice != subject.state.scopes])
        subject.became("scopes", self._dashboard.edit(subject.public_id, scopes=list(scopes)), scopes=scopes)

    def _networks(self, subject: Subject) -> None:
        networks = "" if subject.state.networks else NETWORK
        subject.became("networks", self._dashboard.edit(subject.public_id, networks=networks), networks=networks)

    def _limit(self, subject: Subject) -> None:
        limit = self._random.choice([name for name in LIMITS if name != subject.state.limit])
        subject.became("limit", self._dashboard.edit(subject.public_id, **LIMITS[limit]), limit=limit)

    def _prolong(self, subject: Subject) -> None:
        subject.became("prolong", self._dashboard.edit(subject.public_id, expires="never"), expired=False)

    def _expire(self, subject: Subject) -> None:
        """Let the key expire at an instant that is known exactly, whatever the edit took."""
        with self._registry.lock:
            at = self._server.stage.do("expire", subject.public_id, self._random.uniform(0.2, 0.8))
        subject.history.append(Change(at, max(at, time.time_ns()), replace(subject.state, expired=True), "expire"))
        subject.rests_until = at + 1_000_000


class Judge:
    """Compares each answer with what the states say that were in force, or may have been, when it was given."""

    def __init__(self, subject: Subject, requests: list[Asked]) -> None:
        self._history = subject.history
        self._begins = [change.begin for change in subject.history]
        self._ends = [change.end for change in subject.history]
        self._requests = requests
        self.faults: list[str] = []
        self.decisive = self.soon_after = 0

    def judge(self) -> None:
        for request in self._requests:
            # From the state that was surely in force when it was sent to the newest that it may have seen.
            first = max(0, bisect_left(self._ends, request.sent) - 1)
            last = bisect_right(self._begins, request.arrived) - 1
            self.decisive += first == last
            self.soon_after += first == last and request.sent - self._ends[first] < SOON and first > 0
            allowed = [change.state for change in self._history[first : last + 1]]
            if not any(_fits(request, state) for state in allowed):
                self.faults.append(f"{request} while {self._history[first : last + 1]}")
        self._judge_limits()

    def _judge_limits(self) -> None:
        """Of a limit of one request a day one passes, however often the key is changed otherwise.

        When the same limit is set again on the same day, it knows that one has passed.
        """
        tiny: list[Change] = []
        first = True
        for change in [*self._history, None]:
            if change and change.state.limit == "tiny":
                tiny.append(change)
            elif tiny:
                self._judge_limit(tiny[0], change, first=first)
                tiny, first = [], False

    def _judge_limit(self, since: Change, until: Change | None, *, first: bool) -> None:
        begin, end = (until.begin, until.end) if until else (2**63, 2**63)
        within = [r for r in self._requests if r.sent > since.end and r.arrived < begin]
        around = [r for r in self._requests if r.arrived >= since.begin and r.sent <= end]
        passed = [request for request in within if request.status == 200]
        if len(passed) > 1:
            self.faults.append(f"{passed} passed a limit of one, {since} until {until}")
        if first and any(r.status == 429 for r in within) and not any(r.status == 200 for r in around):
            self.faults.append(f"no request passed a limit of one, {since} until {until}")


def _fits(request: Asked, state: State) -> bool:
    outcomes = state.outcomes(request.scope, request.address)
    if request.outcome:
        return request.outcome in outcomes and request.status == STATUS.get(request.outcome, 401)
    return request.status in {STATUS.get(outcome, 401) for outcome in outcomes}


def test_each_answer_is_by_the_state_in_force(start, note, pytestconfig):
    seed = pytestconfig.getoption("--guarantee-seed") or secrets.token_hex(4)
    print("seed", seed)
    server = start(workers=WORKERS)
    with load(server.port, processes=2, threads=5, seed=seed) as clients:
        registry = Registry(clients)
        operators = [Operator(server, registry, f"{seed} {number}") for number in range(OPERATORS)]
        for operator in operators:
            operator.begin()
        stop = threading.Event()
        threads = [threading.Thread(target=operator.run, args=[stop]) for operator in operators]
        began = time.monotonic()
        clients.go(pytestconfig.getoption("--guarantee-requests"))
        for thread in threads:
            thread.start()
        while not clients.is_done and not any(operator.error for operator in operators):
            time.sleep(0.1)
        took = time.monotonic() - began
        stop.set()
        for thread in threads:
            thread.join()
        requests = clients.collect()
    for operator in operators:
        if operator.error:
            raise operator.error
    by_key: dict[int, list[Asked]] = {}
    for request in requests:
        by_key.setdefault(request.key, []).append(request)
    judges = [Judge(subject, by_key.get(subject.target.number, [])) for subject in registry.subjects]
    for judge in judges:
        judge.judge()
    faults = [fault for judge in judges for fault in judge.faults]
    decisive, soon = (sum(getattr(judge, name) for judge in judges) for name in ("decisive", "soon_after"))
    verbs = Counter(change.verb for subject in registry.subjects for change in subject.history)
    note(
        f"strict revocation: {len(requests):,} requests to {WORKERS} workers in {took:.0f} s "
        f"({len(requests) / took:,.0f}/s), seed {seed}; {sum(verbs.values()) - verbs['create']} changes "
        f"({', '.join(f'{count} {verb}' for verb, count in sorted(verbs.items()))}); "
        f"{decisive:,} requests outside of every window, {soon:,} of them sent within 0.1 s after a change; "
        f"{len(faults)} violations"
    )
    assert not faults, "\n".join(faults[:10])
    assert len(requests) >= pytestconfig.getoption("--guarantee-requests")
    assert decisive > 0.8 * len(requests)
