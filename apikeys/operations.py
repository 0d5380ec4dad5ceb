"""What those who run the server ask it, answered before Django looks at the request's host.

GET /readyz    whether this process serves, and its database does, too
GET /metrics   numbers for Prometheus, for those who may see them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from apikeys import metrics, readiness
from apikeys.gateway import NOTHING_HERE

type Environ = dict[str, Any]
type StartResponse = Callable[..., Any]
type Application = Callable[[Environ, StartResponse], Iterable[bytes]]
type Reply = tuple[str, str, bytes]

TEXT: Final = "text/plain; charset=utf-8"


def mount(django: Application) -> Application:
    """Return a WSGI application that answers these paths, and everything else by Django."""

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        answer = _ANSWERS.get(environ.get("PATH_INFO", ""))
        if answer is None:
            return django(environ, start_response)
        status, kind, body = answer(environ)
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        start_response(status, [*headers, ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")])
        return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]

    return application


def _readiness(_: Environ) -> Reply:
    missing = readiness.missing()
    if missing is None:
        return "200 OK", TEXT, b"ok\n"
    return "503 Service Unavailable", TEXT, f"not ready: {missing}\n".encode()


def _metrics(environ: Environ) -> Reply:
    if not metrics.may_read(environ):
        # As the verifier's for a path that there is not.
        return "404 Not Found", "application/json", NOTHING_HERE
    return "200 OK", metrics.CONTENT_TYPE, metrics.render()


_ANSWERS: Final[Mapping[str, Callable[[Environ], Reply]]] = {"/readyz": _readiness, "/metrics": _metrics}
