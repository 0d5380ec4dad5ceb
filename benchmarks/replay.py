#!/usr/bin/env python
"""Replay an access log against a running verifier, so that its counts can be held against the log's lines.

    benchmarks/replay.py access.log --url http://localhost:8000 --organization northwind --keys keys.txt --speed max

The log is in the combined format, plain or gzipped. Each client address always presents the same key: the first
address the first key, the next address the next one, and round again. Each line becomes one request to the gateway
face, with the client's address, its user agent, method and path. Nothing is sent twice: a request without an answer
is reported, because nobody knows whether it was counted. The server must trust this machine as a proxy
(TRUSTED_PROXIES), as it does in development for requests from the same machine.

With --move-to clients move from their keys to new ones, as in a rotation: one after another in the order in which they
first appear, evenly between two parts of the log:

    benchmarks/replay.py access.log --organization northwind --keys old.txt --move-to new.txt --move-between 0.2 0.6

The summary counts by key and status: where all are 200, not one request was refused.

exit status: 0 every request was answered, 1 some were not (or by a 5xx), 2 wrong usage
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import ipaddress
import json
import queue
import re
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlencode, urlsplit

from tqdm import tqdm

# Bytes as they are: a log holds whatever clients sent. Apache and nginx write quotes and control bytes as \" and \xHH.
_LINE = re.compile(
    rb'(?P<client>\S+) \S+ .*?\[(?P<time>[^\]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" \d{3} \S+'
    rb' "(?:[^"\\]|\\.)*" "(?P<agent>(?:[^"\\]|\\.)*)"'
)
_REQUEST = re.compile(rb"(?P<method>[A-Za-z_-]{1,32}) (?P<target>\S.*?)(?: HTTP/[0-9.]+)?", re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_KEY = re.compile(r"(?P<public>[a-z][a-z0-9]{1,9}_[a-z][a-z0-9]{1,9}_[0-9A-Za-z]{12})_[0-9A-Za-z]{49}")
_PART = re.compile(r"0(?:\.[0-9]+)?|1(?:\.0+)?")
_SPEED = re.compile(r"(?P<factor>[0-9]+(?:\.[0-9]+)?)x")
# Longer than what the verifier keeps of each, and well below what servers accept.
MAX_VALUE = 2000
NAMED = 20
MOVE_BETWEEN = (0.25, 0.75)
# A connection that was idle for longer may have been closed by the server meanwhile; a new one costs little.
MAX_IDLE = 2.0
UNANSWERED = "no answer"


class MalformedLineError(Exception):
    """A line is not in the combined format; says what is missing."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One line of the log."""

    client: str
    at: datetime
    method: bytes
    target: bytes
    agent: bytes


@dataclass(frozen=True, slots=True)
class Key:
    """A key to present; only its public part is ever printed."""

    public: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """A line of the scope map: what needs which scope."""

    method: str
    prefix: str
    scope: str


def parse_line(line: bytes) -> Visit:
    """Return what a line says. Raises MalformedLineError."""
    match = _LINE.match(line)
    if not match:
        raise MalformedLineError("not in the combined format")
    request = _REQUEST.fullmatch(_unescape(match["request"]))
    if not request:
        raise MalformedLineError("no method and path in the request")
    try:
        at = datetime.strptime(match["time"].decode("ascii", "replace"), "%d/%b/%Y:%H:%M:%S %z")
    except ValueError:
        raise MalformedLineError("the time is not like 17/May/2015:10:05:03 +0000") from None
    client = match["client"].decode("latin-1")
    return Visit(client, at, request["method"], request["target"], _unescape(match["agent"]))


def _unescape(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]) if match[1] else match[2], text)


def _header(value: bytes) -> str:
    """Return bytes as http.client sends them again, without what no header may hold."""
    return _CONTROL.sub(b"", value)[:MAX_VALUE].decode("latin-1").strip()


class Keys:
    """Which client presents which key: in turn, in the order in which clients first appear.

    ``new`` are the keys that take their place, or none; ``moves`` is for each client the number of lines after which it
    presents its new one.
    """

    def __init__(self, keys: list[Key], new: list[Key], moves: dict[str, float]) -> None:
        self._keys = keys
        self._new = new
        self._moves = moves
        self._places: dict[str, int] = {}
        self.moved: set[str] = set()

    def of(self, client: str, line: int) -> Key:
        """Return the key of a client at a line of the log, counted from 1."""
        place = self._places.setdefault(client, len(self._places) % len(self._keys))
        if self._new and line > self._moves[client]:
            self.moved.add(client)
            return self._new[place]
        return self._keys[place]


def plan_moves(log: Path, between: tuple[float, float], lines: int) -> dict[str, float]:
    """Return after how many lines each client of a log moves: the first at one part of it, the last at another."""
    clients: dict[str, None] = {}
    with open_log(log) as content:
        for line in content:
            with suppress(MalformedLineError):
                clients[parse_line(line).client] = None
    begin, end = (part * lines for part in between)
    step = (end - begin) / max(1, len(clients) - 1)
    return {client: begin + step * number for number, client in enumerate(clients)}


@dataclass(slots=True)
class Summary:
    """What happened, added up by one thread at a time."""

    lines: int = 0
    malformed: int = 0
    malformed_lines: list[dict[str, Any]] = field(default_factory=list)
    host_names: int = 0
    clients_moved: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    keys: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    failures: Counter[str] = field(default_factory=Counter)
    latest: float = 0.0
    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reject(self, error: MalformedLineError) -> None:
        """Count the line that was just read as malformed."""
        self.malformed += 1
        if len(self.malformed_lines) < NAMED:
            self.malformed_lines.append({"line": self.lines, "reason": str(error)})

    def count(self, key: Key, status: str) -> None:
        """Count an answer; call it with the lock held."""
        self.statuses[status] += 1
        self.keys[key.public][status] += 1

    @property
    def sent(self) -> int:
        """How many requests were sent."""
        return self.statuses.total()

    @property
    def ok(self) -> bool:
        """Whether every request was answered, and by a verdict."""
        return not any(status == UNANSWERED or status.startswith("5") for status in self.statuses)

    def facts(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "lines": self.lines,
            "sent": self.sent,
            "statuses": dict(sorted(self.statuses.items())),
            "malformed": self.malformed,
            "malformed_lines": self.malformed_lines,
            "host_names": self.host_names,
            "clients_moved": self.clients_moved,
            "failures": dict(self.failures),
            "keys": {public: dict(sorted(counts.items())) for public, counts in self.keys.items()},
            "seconds": round(self.seconds, 3),
            "per_second": round(self.sent / self.seconds, 1) if self.seconds else None,
            "latest_seconds": round(self.latest, 3),
        }

    def words(self) -> str:
        """Return it for people."""
        rate = self.sent / self.seconds if self.seconds else 0
        told = [f"{self.lines:,} lines, {self.sent:,} requests in {self.seconds:.1f} s ({rate:,.0f}/s)"]
        told += [f"  {MEANINGS.get(status, status):<32} {count:>9,}" for status, count in sorted(self.statuses.items())]
        told += [f"  {'malformed lines, not sent':<32} {self.malformed:>9,}"] if self.malformed else []
        told += [f"    line {item['line']}: {item['reason']}" for item in self.malformed_lines]
        if self.host_names:
            told.append(f"  {self.host_names:,} lines name a host, not an address: recorded as from here")
        if self.clients_moved:
            many = f"{self.clients_moved:,} clients moved to their new keys"
            told.append(f"  {many if self.clients_moved > 1 else '1 client moved to its new key'}")
        told += [f"  {count:,} times: {error}" for error, count in self.failures.most_common(5)]
        if self.latest >= 1:
            told.append(f"  up to {self.latest:.1f} s behind the log's own timing: the server did not keep up")
        told.append("by key")
        told += [
            f"  {public:<36} {counts.total():>9,}   {', '.join(f'{s}: {n:,}' for s, n in sorted(counts.items()))}"
            for public, counts in self.keys.items()
        ]
        return "\n".join(told)


MEANINGS = {
    "200": "200 accepted",
    "401": "401 refused",
    "403": "403 scope or network",
    "429": "429 rate limit hit",
    "503": "503 not checked",
    UNANSWERED: "no answer, counted or not",
}


class Sender(threading.Thread):
    """Sends requests over one connection, each once."""

    def __init__(self, replay: Replay) -> None:
        super().__init__(daemon=True)
        self._replay = replay
        self._connection = connect(replay.url)
        self._used = 0.0

    def run(self) -> None:
        """Send until there is nothing more."""
        while (item := self._replay.queue.get()) is not None:
            visit, key = item
            self._replay.count(key, self._send(visit, key))

    def _send(self, visit: Visit, key: Key) -> str:
        if time.monotonic() - self._used > MAX_IDLE:
            self._connection.close()
        try:
            self._connection.request("GET", self._replay.path(visit), headers=self._replay.headers(visit, key))
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            with self._replay.summary.lock:
                self._replay.summary.failures[f"{type(error).__name__}: {error}"[:200]] += 1
            return UNANSWERED
        self._used = time.monotonic()
        return str(response.status)


def connect(url: str) -> http.client.HTTPConnection:
    """Return a connection to the server; it is opened by its first request."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=30)


class Replay:
    """One run."""

    def __init__(self, options: argparse.Namespace, bar: tqdm[Any], moves: dict[str, float]) -> None:
        self.url = options.url
        self.bar = bar
        self.summary = Summary()
        self.queue: queue.Queue[tuple[Visit, Key] | None] = queue.Queue(4 * options.concurrency)
        self._options = options
        self._keys = Keys(options.keys, options.move_to, moves)
        self._began = 0.0
        self._first: datetime | None = None

    def run(self) -> Summary:
        """Send every line and return what became of them; stops early, but in order, on Ctrl-C."""
        senders = [Sender(self) for _ in range(self._options.concurrency)]
        self._began = time.monotonic()
        for sender in senders:
            sender.start()
        with suppress(KeyboardInterrupt):
            for visit in self._visits():
                self._wait(visit.at)
                self.queue.put((visit, self._keys.of(visit.client, self.summary.lines)))
        for _ in senders:
            self.queue.put(None)
        for sender in senders:
            sender.join()
        self.summary.seconds = time.monotonic() - self._began
        self.summary.clients_moved = len(self._keys.moved)
        return self.summary

    def _visits(self) -> Iterator[Visit]:
        with open_log(self._options.log) as log:
            for line in log:
                self.summary.lines += 1
                try:
                    yield parse_line(line)
                except MalformedLineError as error:
                    self.summary.reject(error)
                    self.bar.update()

    def _wait(self, at: datetime) -> None:
        if self._options.speed is None:
            return
        self._first = self._first or at
        due = self._began + (at - self._first).total_seconds() / self._options.speed
        left = due - time.monotonic()
        if left > 0:
            time.sleep(left)
        self.summary.latest = max(self.summary.latest, -left)

    def count(self, key: Key, status: str) -> None:
        """Count an answer."""
        with self.summary.lock:
            self.summary.count(key, status)
            self.bar.update()

    def path(self, visit: Visit) -> str:
        """Return the verifier's address for a request, with the scope that it needs."""
        method, target = visit.method.decode("latin-1"), visit.target.decode("latin-1")
        rules = (rule for rule in self._options.scope_map if rule.method in {"*", method})
        scope = next((rule.scope for rule in rules if target.startswith(rule.prefix)), "")
        query = f"?{urlencode({'scope': scope})}" if scope else ""
        return f"/v1/{self._options.organization}/authorize{query}"

    def headers(self, visit: Visit, key: Key) -> dict[str, str]:
        """Return the headers that a gateway would send for a request."""
        headers = {"Authorization": f"Bearer {key.text}"}
        if not self._options.forward:
            return headers
        headers |= {
            "User-Agent": _header(visit.agent),
            "X-Original-Method": _header(visit.method),
            "X-Original-URI": _header(visit.target),
        }
        try:
            headers["X-Forwarded-For"] = str(ipaddress.ip_address(visit.client))
        except ValueError:
            with self.summary.lock:
                self.summary.host_names += 1
        return headers


def open_log(path: Path) -> BinaryIO:
    """Open a log, gzipped or not."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


# Arguments


def _speed(text: str) -> float | None:
    match = _SPEED.fullmatch(text)
    if text != "max" and (not match or not float(match["factor"])):
        raise argparse.ArgumentTypeError("must read like 10x, 0.5x or max")
    return float(match["factor"]) if match else None


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
        raise argparse.ArgumentTypeError("must look like http://localhost:8000")
    return text


def _organization(text: str) -> str:
    if not re.fullmatch("[a-z0-9-]{1,40}", text):
        raise argparse.ArgumentTypeError("must be an organization's slug")
    return text


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return path


def _keys(text: str) -> list[Key]:
    if text == "-":
        given = sys.stdin.read().split()
    elif "," not in text and not _KEY.fullmatch(text):
        given = _file(text).read_text().split()
    else:
        given = text.split(",")
    found = []
    for number, key in enumerate(given, 1):
        if not (match := _KEY.fullmatch(key.strip())):
            # Not repeated: it may be a key but for a typing error.
            raise argparse.ArgumentTypeError(f"entry {number} is not a whole key")
        found.append(Key(match["public"], key.strip()))
    if not found:
        raise argparse.ArgumentTypeError("no key is given")
    return found


def _part(text: str) -> float:
    if not _PART.fullmatch(text):
        raise argparse.ArgumentTypeError("must be two parts of the log from 0 to 1, like 0.25 0.75")
    return float(text)


def _scope_map(text: str) -> list[Rule]:
    rules = []
    for number, line in enumerate(_file(text).read_text().splitlines(), 1):
        words = line.split()
        if words and not line.startswith("#"):
            if len(words) != 3:
                raise argparse.ArgumentTypeError(f"line {number} must read: METHOD PATH-PREFIX SCOPE")
            rules.append(Rule(*words))
    return rules


def _concurrency(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 256")
    return int(text)


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("log", type=_file, metavar="LOG", help="An access log in the combined format; .gz is read as such.")
    add("--url", type=_url, default="http://localhost:8000", help="Where the server is; default: %(default)s.")
    add("--organization", type=_organization, required=True, metavar="SLUG", help="Whose keys they are.")
    add("--keys", type=_keys, required=True, help="A file with a key a line, - for stdin, or KEY,KEY,...")
    add("--move-to", type=_keys, default=[], metavar="FILE", help="New keys: the n-th replaces the n-th of --keys.")
    add(
        "--move-between",
        type=_part,
        nargs=2,
        metavar=("FROM", "TO"),
        help="Between which parts of the log, from 0 to 1, clients move to them; default: 0.25 0.75.",
    )
    add("--speed", type=_speed, default=None, help="10x the log's own timing, or max; default: max.")
    add("--scope-map", type=_scope_map, default=[], metavar="FILE", help="Lines of METHOD PATH-PREFIX SCOPE; * is any.")
    add("--concurrency", type=_concurrency, default=4, metavar="N", help="Connections; default: %(default)s.")
    add(
        "--forward",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="Tell the verifier each line's client address, user agent, method and path, as a gateway does.",
    )
    add("--json", action="store_true", help="Print the summary as JSON.")
    options = parser.parse_args()
    if options.move_to or options.move_between:
        _check_moves(parser, options)
    return options


def _check_moves(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not options.move_to:
        parser.error("argument --move-between: needs --move-to, which names the new keys")
    if len(options.move_to) != len(options.keys):
        told = f"{len(options.move_to)} new for {len(options.keys)} of --keys"
        parser.error(f"argument --move-to: there must be a new key for each old one, not {told}")
    for number, (old, new) in enumerate(zip(options.keys, options.move_to, strict=True), 1):
        if old.public == new.public:
            parser.error(f"argument --move-to: entry {number} is the key that it is to replace")
    options.move_between = options.move_between or MOVE_BETWEEN
    if options.move_between[0] > options.move_between[1]:
        parser.error("argument --move-between: FROM must not be after TO")


def main() -> int:
    """Replay, and print what happened."""
    options = arguments()
    try:
        probe = connect(options.url)
        probe.request("GET", "/healthz")
        status = probe.getresponse().status
        probe.close()
    except (OSError, http.client.HTTPException) as error:
        print(f"{options.url} does not answer: {error}", file=sys.stderr)
        return 1
    if status != http.HTTPStatus.OK:
        print(f"{options.url}/healthz answers {status}: that is not keyadmin.", file=sys.stderr)
        return 1
    with open_log(options.log) as log:
        total = sum(1 for _ in log)
    moves = plan_moves(options.log, options.move_between, total) if options.move_to else {}
    # disable=None: no bar where stderr is not a terminal.
    with tqdm(total=total, unit=" lines", disable=None) as bar:
        summary = Replay(options, bar, moves).run()
    print(json.dumps(summary.facts()) if options.json else summary.words())
    return 0 if summary.ok else 1


if __name__ == "__main__":
    sys.exit(main())
