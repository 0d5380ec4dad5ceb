"""The verifier's WSGI face: it answers its own paths and hands every other request on to Django.

POST /v1/<organization>/verify      JSON, for services; names the outcome
any  /v1/<organization>/authorize   headers only, for gateways; refusals are alike
any  /v1/<organization>/authorize/<scope, or ->/<path>
                                    the same, for Envoy, which appends the original path and query
GET  /healthz                       whether this process serves
GET  /readyz                        whether its database does, too
GET  /metrics                       numbers for Prometheus, for those who may see them
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

from django.conf import settings

from apikeys import connections as connections  # noqa: PLC0414 - ends a thread's connection with the thread
from apikeys import logs, metrics, proxies, readiness
from apikeys.key_secret import redact
from apikeys.ledger import KeyRecord
from apikeys.models import Outcome
from apikeys.verification import Presented, Quota, StoreUnavailableError, Verdict

type Environ = dict[str, Any]
type StartResponse = Callable[..., Any]
type Application = Callable[[Environ, StartResponse], Any]

MAX_BODY: Final = 16 * 1024
MAX_SCOPE: Final = 64
MAX_USER_AGENT: Final = 200
MAX_METHOD: Final = 16
MAX_PATH: Final = 500
RETRY_AFTER_FAILURE: Final = "1"

_ROUTE = re.compile(
    r"/v1/(?P<organization>[a-z0-9-]{1,40})/(?P<face>verify|authorize(?:/(?P<scope>[^/]+)(?P<path>/.*))?)", re.DOTALL
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCOPE = re.compile(r"[a-z0-9][a-z0-9._:-]{0,62}[a-z0-9]")
_STATUS: Final = {
    Outcome.VALID: HTTPStatus.OK,
    Outcome.SCOPE_MISSING: HTTPStatus.FORBIDDEN,
    Outcome.NETWORK_DENIED: HTTPStatus.FORBIDDEN,
    Outcome.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
}
_STATUS_LINES: Final = {status: f"{status.value} {status.phrase}" for status in HTTPStatus}
_BODY_FIELDS: Final = ("key", "scope", "address", "user_agent", "method", "path")

log = logging.getLogger(__name__)


class BadRequestError(Exception):
    """The request to the verifier itself is wrong: the message of each field that is."""

    def __init__(self, errors: dict[str, str], status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(str(errors))
        self.errors = errors
        self.status = status


@dataclass(frozen=True, slots=True)
class Reply:
    """A response before it goes onto the wire."""

    status: HTTPStatus
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    kind: str = ""


def mount(django: Application) -> Application:
    """Return an application that answers the verifier's paths before Django's request cycle begins."""

    def application(environ: Environ, start_response: StartResponse) -> Any:
        logs.request_id.set(environ.get("HTTP_X_REQUEST_ID", ""))
        path = environ.get("PATH_INFO", "")
        if path.startswith("/v1/"):
            return _send(environ, start_response, _answer(environ, path))
        if answer := _OPERATIONS.get(path):
            return _send(environ, start_response, answer(environ))
        return django(environ, start_response)

    return application


def _send(environ: Environ, start_response: StartResponse, reply: Reply) -> Iterable[bytes]:
    kind = reply.kind or ("application/json" if reply.body[:1] == b"{" else "text/plain; charset=utf-8")
    start_response(
        _STATUS_LINES[reply.status],
        [
            ("Content-Type", kind),
            ("Content-Length", str(len(reply.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *reply.headers,
        ],
    )
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [reply.body]


def _answer(environ: Environ, path: str) -> Reply:
    route = _ROUTE.fullmatch(path)
    if route is None:
        return _nothing_here()
    try:
        if route["face"] == "verify":
            return _verify(environ, route["organization"])
        return _authorize(environ, route["organization"], _original(environ, route))
    except BadRequestError as error:
        return _json(error.status, {"errors": error.errors})
    except StoreUnavailableError as error:
        log.error("The verifier's database failed: %s", error.__cause__)
        unavailable = {"error": "The key could not be checked. Try again.", "outcome": None}
        return _json(HTTPStatus.SERVICE_UNAVAILABLE, unavailable, [("Retry-After", RETRY_AFTER_FAILURE)])


def _nothing_here() -> Reply:
    return _json(HTTPStatus.NOT_FOUND, {"error": "There is nothing here. Try /v1/<organization>/verify."})


# For those who run the server


def _health(_: Environ) -> Reply:
    return Reply(HTTPStatus.OK, body=b"ok\n")


def _readiness(_: Environ) -> Reply:
    missing = readiness.missing()
    if missing is None:
        return Reply(HTTPStatus.OK, body=b"ok\n")
    return Reply(HTTPStatus.SERVICE_UNAVAILABLE, body=f"not ready: {missing}\n".encode())


def _metrics(environ: Environ) -> Reply:
    if not metrics.may_read(environ):
        return _nothing_here()
    return Reply(HTTPStatus.OK, body=metrics.render(), kind=metrics.CONTENT_TYPE)


_OPERATIONS: Final[Mapping[str, Callable[[Environ], Reply]]] = {
    "/healthz": _health,
    "/readyz": _readiness,
    "/metrics": _metrics,
}


# For gateways


@dataclass(frozen=True, slots=True)
class Original:
    """The request that a gateway asks about, and the scope that its route needs."""

    scope: str
    method: str
    path: str


def _original(environ: Environ, route: re.Match[str]) -> Original:
    trusted = proxies.is_trusted(environ, settings.TRUSTED_PROXIES)
    method = _text(environ, "REQUEST_METHOD", MAX_METHOD)
    if route["path"] is None:
        told = _forwarded(environ, "METHOD", MAX_METHOD, trusted=trusted)
        path = _forwarded(environ, "URI", MAX_PATH, trusted=trusted)
        return Original(_scope_asked(environ), told or method, path.partition("?")[0])
    # Behind the scope, path and query are the client's own, and so would be a parameter called scope.
    scope = "" if route["scope"] == "-" else _valid_scope(route["scope"])
    return Original(scope, method, _decoded(route["path"], MAX_PATH) if trusted else "")


def _authorize(environ: Environ, organization: str, original: Original) -> Reply:
    verdict = metrics.verify(
        "authorize",
        Presented(
            credential=_credential(environ),
            organization=organization,
            scope=original.scope,
            address=proxies.client_address(environ, settings.TRUSTED_PROXIES),
            user_agent=_text(environ, "HTTP_USER_AGENT", MAX_USER_AGENT),
            method=original.method,
            path=original.path,
        ),
    )
    return Reply(_STATUS.get(verdict.outcome, HTTPStatus.UNAUTHORIZED), _gateway_headers(verdict, organization))


def _gateway_headers(verdict: Verdict, organization: str) -> list[tuple[str, str]]:
    # Each header that a gateway may copy is always set: one that is left out could be the client's own.
    passes = verdict.key if verdict.outcome is Outcome.VALID else None
    headers = [
        ("X-Key-Id", passes.public_id if passes else ""),
        ("X-Key-Organization", organization if passes else ""),
        ("X-Key-Environment", passes.environment if passes else ""),
        ("X-Key-Scopes", " ".join(passes.scopes) if passes else ""),
    ]
    return headers + _challenge(verdict, organization) + _quota_headers(verdict.quota)


def _challenge(verdict: Verdict, organization: str) -> list[tuple[str, str]]:
    """Return RFC 6750's WWW-Authenticate; the five refusals of status 401 have the same one."""
    if verdict.outcome in {Outcome.VALID, Outcome.RATE_LIMITED, Outcome.NETWORK_DENIED}:
        return []
    error = "insufficient_scope" if verdict.outcome is Outcome.SCOPE_MISSING else "invalid_token"
    return [("WWW-Authenticate", f'Bearer realm="{organization}", error="{error}"')]


def _quota_headers(quota: Quota | None) -> list[tuple[str, str]]:
    """Return the fields of draft-ietf-httpapi-ratelimit-headers, nothing for a key without a limit."""
    if quota is None:
        return []
    requests, period, _burst = quota.limit
    headers = [
        ("RateLimit-Policy", f'"key";q={requests};w={period}'),
        ("RateLimit", f'"key";r={quota.remaining};t={quota.reset}'),
    ]
    if quota.retry_after:
        headers.append(("Retry-After", str(quota.retry_after)))
    return headers


def _credential(environ: Environ) -> str:
    scheme, _, value = environ.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return str(value.strip())
    return str(environ.get("HTTP_X_API_KEY", "").strip())


def _scope_asked(environ: Environ) -> str:
    """Return the scope that the gateway's route needs, from its address, which no client can change."""
    return _scope_of(environ.get("QUERY_STRING", ""))


# A gateway's routes ask for the same few scopes again and again.
@lru_cache(1024)
def _scope_of(query: str) -> str:
    asked = parse_qs(query, keep_blank_values=True)
    if unknown := sorted(set(asked) - {"scope"}):
        raise BadRequestError({redact(unknown[0])[:50]: "is not a parameter; there is only scope."})
    values = asked.get("scope", [])
    if len(values) > 1:
        raise BadRequestError({"scope": "is given more than once."})
    return _valid_scope(values[0] if values else "")


def _valid_scope(scope: str) -> str:
    if scope and not _SCOPE.fullmatch(scope):
        raise BadRequestError({"scope": f"must be the name of a scope of 2 to {MAX_SCOPE} characters."})
    return scope


def _forwarded(environ: Environ, name: str, most: int, *, trusted: bool) -> str:
    if not trusted:
        return ""
    return _text(environ, f"HTTP_X_ORIGINAL_{name}", most) or _text(environ, f"HTTP_X_FORWARDED_{name}", most)


def _text(environ: Environ, name: str, most: int) -> str:
    return _decoded(str(environ.get(name, "")), most)


def _decoded(raw: str, most: int) -> str:
    """Return a text of WSGI as people wrote it: UTF-8 where it is, no control characters, cut at a length."""
    raw = raw[: 4 * most]
    if raw.isascii() and raw.isprintable():
        return redact(raw)[:most]
    try:
        text = raw.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:
        text = raw
    return _clean(text, most)


def _clean(text: str, most: int) -> str:
    # A client may have put its key into the address of a request, and events are kept.
    return redact(_CONTROL.sub("", text.encode("utf-8", "replace").decode()))[:most]


# For services


def _verify(environ: Environ, organization: str) -> Reply:
    if environ.get("REQUEST_METHOD") != "POST":
        return _json(HTTPStatus.METHOD_NOT_ALLOWED, {"error": "Use POST."}, [("Allow", "POST")])
    body = _body(environ)
    address = proxies.client_address(environ, settings.TRUSTED_PROXIES)
    if body.get("address"):
        address = _claimed_address(environ, body["address"])
    verdict = metrics.verify(
        "verify",
        Presented(
            credential=body["key"],
            organization=organization,
            scope=_valid_scope(body.get("scope", "")),
            address=address,
            user_agent=_clean(body.get("user_agent", ""), MAX_USER_AGENT)
            or _text(environ, "HTTP_USER_AGENT", MAX_USER_AGENT),
            method=_clean(body.get("method", ""), MAX_METHOD),
            path=_clean(body.get("path", ""), MAX_PATH).partition("?")[0],
        ),
    )
    answer = {"outcome": verdict.outcome.value, "organization": organization, "key": _facts(verdict.key)}
    headers = _challenge(verdict, organization) + _quota_headers(verdict.quota)
    return _json(_STATUS.get(verdict.outcome, HTTPStatus.UNAUTHORIZED), answer, headers)


def _body(environ: Environ) -> dict[str, str]:
    content = environ["wsgi.input"].read(MAX_BODY + 1)
    if len(content) > MAX_BODY:
        raise BadRequestError({"body": f"is larger than {MAX_BODY} bytes."}, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise BadRequestError({"body": "is not JSON in UTF-8."}) from None
    if not isinstance(body, dict):
        raise BadRequestError({"body": "must be a JSON object."})
    errors = {redact(name)[:50]: "is not a field." for name in body if name not in _BODY_FIELDS}
    errors |= {name: "must be a string." for name in _BODY_FIELDS if not isinstance(body.get(name, ""), str)}
    if "key" not in body:
        errors["key"] = "is required."
    if errors:
        raise BadRequestError(errors)
    return body


def _claimed_address(environ: Environ, text: str) -> str:
    # Behind a proxy the peer is always the proxy: it is the client who must be trusted to speak for others.
    client = proxies.parse_address(proxies.client_address(environ, settings.TRUSTED_PROXIES) or "")
    if client is None or not proxies.is_in(client, settings.TRUSTED_PROXIES):
        raise BadRequestError({"address": "is believed only from a service in TRUSTED_PROXIES."})
    address = proxies.parse_address(text)
    if address is None:
        raise BadRequestError({"address": "must be an IPv4 or IPv6 address."})
    return str(address)


def _facts(key: KeyRecord | None) -> dict[str, object] | None:
    if key is None:
        return None
    return {
        "id": key.public_id,
        "name": key.name,
        "environment": key.environment,
        "scopes": key.scopes,
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
    }


def _json(status: HTTPStatus, answer: Mapping[str, object], headers: list[tuple[str, str]] | None = None) -> Reply:
    return Reply(status, headers or [], json.dumps(answer).encode())
