"""What Prometheus may read of this server: verifications by outcome, how long they took, failures, processes.

Several worker processes share a folder, PROMETHEUS_MULTIPROC_DIR: each writes its numbers to files there, and
whichever is asked adds them up. Without the variable a process tells of itself alone.
"""

from __future__ import annotations

import hmac
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Literal, cast

from django.conf import settings
from django.core.signals import got_request_exception
from django.db import DatabaseError, InterfaceError
from django.dispatch import receiver

from apikeys import proxies
from apikeys.models import Outcome
from apikeys.verification import Presented, StoreUnavailableError, Verdict


def _own_folder(shared: Path) -> Path:
    """Make the folder of this server's workers and remove those of servers that have ended.

    A server's workers are children of one process, whose id names the folder: so neither an earlier server's
    numbers nor another one's are told as ours, and a worker that died and came back goes on where it was.
    """
    own = shared / str(os.getppid())
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in shared.iterdir():
        if folder.name.isdecimal() and not _is_alive(int(folder.name)):
            shutil.rmtree(folder, ignore_errors=True)
    return own


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


_SHARED: Final = settings.PROMETHEUS_MULTIPROC_DIR
_FOLDER: Final = _own_folder(Path(_SHARED)) if _SHARED else None
if _FOLDER:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_FOLDER)

# prometheus_client reads the variable once, when it is imported.
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest  # noqa: E402
from prometheus_client.metrics import disable_created_metrics  # noqa: E402
from prometheus_client.metrics_core import CounterMetricFamily, Metric  # noqa: E402
from prometheus_client.multiprocess import MultiProcessCollector  # noqa: E402
from prometheus_client.process_collector import ProcessCollector  # noqa: E402
from prometheus_client.registry import Collector  # noqa: E402

# Two more lines a number, which several processes cannot tell anyway.
disable_created_metrics()  # type: ignore[no-untyped-call]

type Face = Literal["verify", "authorize"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
UNAVAILABLE: Final = "unavailable"
_FACES: Final = ("verify", "authorize")
_OUTCOMES: Final = (*Outcome.values, UNAVAILABLE)
# The event of one of these is written before it is told. Guesses at a secret are kept once a minute and
# caller, noise never.
_RECORDED: Final = frozenset(Outcome.values) - {Outcome.MALFORMED.value, Outcome.UNKNOWN.value}
_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
# What a proxy adds to a request that it hands on.
_HANDED_ON: Final = (*proxies.FORWARDED, "HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP")

_numbers = CollectorRegistry()
_verifications = Counter(
    "keyadmin_verifications_total",
    "Requests judged, by outcome (unavailable: answered with 503) and face of the verifier.",
    ["outcome", "face"],
    registry=_numbers,
)
_seconds = Histogram(
    "keyadmin_verification_seconds",
    "Time to judge and record a request, without that of the server around it.",
    ["face"],
    buckets=_BUCKETS,
    registry=_numbers,
)
_database_errors = Counter(
    "keyadmin_database_errors_total",
    "Requests that failed because the database did, by where.",
    ["where"],
    registry=_numbers,
)
# Looked up once: labels() takes longer than counting. Each is there from the start, so that a first error is an
# increase, which a counter that appears with 1 would not show.
_COUNTED: Final = {face: {outcome: _verifications.labels(outcome, face) for outcome in _OUTCOMES} for face in _FACES}
_TIMED: Final = {face: _seconds.labels(face) for face in _FACES}
_FAILED: Final = {where: _database_errors.labels(where) for where in ("verifier", "dashboard", "readiness")}


async def counted(face: Face, presented: Presented, verify: Callable[[Presented], Awaitable[Verdict]]) -> Verdict:
    """Judge a request by ``verify``, and count and time it."""
    begin = perf_counter()
    outcome = UNAVAILABLE
    try:
        verdict = await verify(presented)
        outcome = verdict.outcome.value
        return verdict
    except StoreUnavailableError:
        _FAILED["verifier"].inc()
        raise
    finally:
        _COUNTED[face][outcome].inc()
        _TIMED[face].observe(perf_counter() - begin)


def count_database_error(where: Literal["dashboard", "readiness"]) -> None:
    """Count a failure of the database outside of the verifier."""
    _FAILED[where].inc()


def may_read(environ: Mapping[str, Any]) -> bool:
    """Say whether a WSGI request may see the metrics: its real client is allowed, and knows the token if there is one.

    A request that a proxy handed on is its client's, not the proxy's; when the proxy is none that the settings
    trust, or does not say who the client is, nobody knows whose it is.
    """
    told = "HTTP_X_FORWARDED_FOR" in environ and proxies.is_trusted(environ, settings.TRUSTED_PROXIES)
    if not told and any(name in environ for name in _HANDED_ON):
        return False
    address = proxies.parse_address(proxies.client_address(environ, settings.TRUSTED_PROXIES) or "")
    if address is None or not proxies.is_in(address, settings.METRICS_ALLOWED):
        return False
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    sent = token.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b""
    return hmac.compare_digest(sent, settings.METRICS_TOKEN.encode()) if settings.METRICS_TOKEN else True


def render() -> bytes:
    """Return everything in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Server())
    return generate_latest(registry)


class _Server(Collector):
    """The numbers of all workers of this server together, and each worker's process."""

    def collect(self) -> Iterator[Metric]:
        numbers = list(self._numbers())
        yield from numbers
        yield _events_written(numbers)
        yield from _processes()

    @staticmethod
    def _numbers() -> Iterable[Metric]:
        if not _FOLDER:
            return _numbers.collect()
        return cast("Iterable[Metric]", MultiProcessCollector(None, str(_FOLDER)).collect())  # type: ignore[no-untyped-call]


def _events_written(numbers: Iterable[Metric]) -> CounterMetricFamily:
    # Added up here rather than counted at each request, which would cost another write.
    written = sum(
        sample.value
        for metric in numbers
        for sample in metric.samples
        if sample.name == "keyadmin_verifications_total" and sample.labels["outcome"] in _RECORDED
    )
    text = "Usage events committed, one for each request with a known key; guesses at a key's secret not counted."
    return CounterMetricFamily("keyadmin_events_written", text, value=written)


def _processes() -> Iterator[Metric]:
    """Yield memory, processor time and open files of each worker, labelled with its process id."""
    merged: dict[str, Metric] = {}
    for process in _workers():
        for metric in ProcessCollector(pid=partial(int, process), registry=None).collect():
            into = merged.setdefault(metric.name, metric)
            samples = [sample._replace(labels={"pid": str(process)}) for sample in metric.samples]
            into.samples = samples if into is metric else into.samples + samples
    yield from merged.values()


def _workers() -> list[int]:
    if not _FOLDER:
        return [os.getpid()]
    found = {int(path.stem.rpartition("_")[2]) for path in _FOLDER.glob("counter_*.db")}
    return sorted(process for process in found if _is_child_of(process, os.getppid()))


def _is_child_of(process: int, parent: int) -> bool:
    with suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]) == parent
    return False


@receiver(got_request_exception)
def _count_failed_page(**_: Any) -> None:
    # Django sends this while it handles the exception.
    if isinstance(sys.exc_info()[1], DatabaseError | InterfaceError):
        count_database_error("dashboard")
