"""The verifier's ASGI face: it answers its own paths on the event loop and hands every other request on to Django.

POST /v1/<organization>/verify      JSON, for services; names the outcome
any  /v1/<organization>/authorize   headers only, for gateways; refusals are alike
any  /v1/<organization>/authorize/<scope, or ->/<path>
                                    the same, for Envoy, which appends the original path and query
GET  /healthz                       whether this process serves
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote_to_bytes

from django.conf import settings

from apikeys import logs, metrics, proxies
from apikeys.key_secret import redact
from apikeys.ledger import KeyRecord
from apikeys.models import Outcome
from apikeys.models.text import BIDI_CONTROLS
from apikeys.verification import Presented, Quota, StoreUnavailableError, Verdict, averify

type Scope = dict[str, Any]
type Receive = Callable[[], Awaitable[dict[str, Any]]]
type Send = Callable[[dict[str, Any]], Awaitable[None]]
type Application = Callable[[Scope, Receive, Send], Awaitable[None]]
type Environ = dict[str, Any]
type Header = tuple[bytes, bytes]
type Verify = Callable[[Presented], Awaitable[Verdict]]

MAX_BODY: Final = 16 * 1024
MAX_SCOPE: Final = 64
MAX_USER_AGENT: Final = 200
MAX_METHOD: Final = 16
MAX_PATH: Final = 500
RETRY_AFTER_FAILURE: Final = b"1"
NOTHING_HERE: Final = b'{"error": "There is nothing here. Try /v1/<organization>/verify."}'
# A refused credential is answered at a whole multiple of this after it came, so that time does not tell why.
REFUSAL_SECONDS: Final = 0.05

_ROUTE = re.compile(
    r"/v1/(?P<organization>[a-z0-9-]{1,40})/(?P<face>verify|authorize(?:/(?P<scope>[^/]+)(?P<path>/.*))?)", re.DOTALL
)
_CONTROL = re.compile(rf"[\x00-\x1f\x7f-\x9f{BIDI_CONTROLS}]")
_SCOPE = re.compile(r"[a-z0-9][a-z0-9._:-]{0,62}[a-z0-9]")
_STATUS: Final = {
    Outcome.VALID: HTTPStatus.OK,
    Outcome.SCOPE_MISSING: HTTPStatus.FORBIDDEN,
    Outcome.NETWORK_DENIED: HTTPStatus.FORBIDDEN,
    Outcome.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
}
_JSON: Final = (b"content-type", b"application/json")
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
_ALWAYS: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_NO_KEY: Final = (
    (b"x-key-id", b""),
    (b"x-key-organization", b""),
    (b"x-key-environment", b""),
    (b"x-key-scopes", b""),
)
_BODY_FIELDS: Final = ("key", "scope", "address", "user_agent", "method", "path")

log = logging.getLogger(__name__)


class BadRequestError(Exception):
    """The request to the verifier itself is wrong: the message of each field that is."""

    def __init__(self, errors: dict[str, str], status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(str(errors))
        self.errors = errors
        self.status = status


class Reply(NamedTuple):
    """A response before it goes onto the wire."""

    status: HTTPStatus
    headers: Sequence[Header] = ()
    body: bytes = b""


def mount(pages: Application, verify: Verify = averify) -> Application:
    """Return an application that answers the verifier's paths by ``verify``, and every other one by ``pages``."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await pages(scope, receive, send)
            return
        environ = _environ(scope)
        logs.request_id.set(environ.get("HTTP_X_REQUEST_ID", ""))
        path = environ["PATH_INFO"]
        if path.startswith("/v1/"):
            await _send(send, environ, await _answer(_Request(environ, receive, verify), path))
        elif path == "/healthz":
            await _send(send, environ, Reply(HTTPStatus.OK, body=b"ok\n"))
        else:
            await pages(_unforged(scope), _unbroken(receive), send)

    return application


class _Request(NamedTuple):
    """A request to the verifier: its names and values as CGI has them, its body, and who judges."""

    environ: Environ
    receive: Receive
    verify: Verify


# A client's headers are of a few names, again and again.
@lru_cache(1024)
def _variable(name: bytes) -> str:
    """Return the name that CGI gives a header, nothing for one that would pass for another."""
    return "" if b"_" in name else "HTTP_" + name.decode("latin-1").upper().replace("-", "_")


def _environ(scope: Scope) -> Environ:
    """Return a request as CGI has it (PEP 3333): each character of a text is one byte of the wire."""
    path: str = scope["path"]
    if not path.isascii() or "%" in path:
        path = unquote_to_bytes(scope.get("raw_path") or path).decode("latin-1")
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": path,
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
    }
    if client := scope.get("client"):
        environ["REMOTE_ADDR"] = client[0]
    for name, value in scope["headers"]:
        variable = _variable(name)
        text = value.decode("latin-1")
        environ[variable] = f"{environ[variable]},{text}" if variable in environ else text
    return environ


def _unforged(scope: Scope) -> Scope:
    """Return a request without headers that WSGI could not tell from others, and with its query in ASCII."""
    headers = [(name, value) for name, value in scope["headers"] if b"_" not in name]
    query = scope["query_string"]
    if not query.isascii():
        query = re.sub(rb"[^\x00-\x7f]", lambda found: b"%%%02X" % found[0][0], query)
    return scope | {"headers": headers, "query_string": query}


def _unbroken(receive: Receive) -> Receive:
    """Return a body that fails when its client goes away, where WSGI would take the half for the whole."""

    async def received() -> dict[str, Any]:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("The client went away before the end of its request.")
        return message

    return received


async def _send(send: Send, environ: Environ, reply: Reply) -> None:
    status, own, body = reply
    kind = _JSON if body[:1] == b"{" else _TEXT
    headers = [kind, (b"content-length", b"%d" % len(body)), *_ALWAYS, *own]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    if environ["REQUEST_METHOD"] == "HEAD":
        body = b""
    await send({"type": "http.response.body", "body": body})


async def _answer(request: _Request, path: str) -> Reply:
    route = _ROUTE.fullmatch(path)
    if route is None:
        return Reply(HTTPStatus.NOT_FOUND, body=NOTHING_HERE)
    try:
        if route["face"] == "verify":
            return await _verify(request, route["organization"])
        return await _authorize(request, route)
    except BadRequestError as error:
        return _json(error.status, {"errors": error.errors})
    except StoreUnavailableError as error:
        log.error("The verifier's database failed: %s", error.__cause__, extra=logs.MAY_REPEAT)
        unavailable = {"error": "The key could not be checked. Try again.", "outcome": None}
        return _json(HTTPStatus.SERVICE_UNAVAILABLE, unavailable, [(b"retry-after", RETRY_AFTER_FAILURE)])


# For gateways


class Original(NamedTuple):
    """The request that a gateway asks about, and the scope that its route needs."""

    scope: str
    method: str
    path: str


def _original(environ: Environ, route: re.Match[str], trusted_proxies: Sequence[proxies.Network]) -> Original:
    trusted = proxies.is_trusted(environ, trusted_proxies)
    method = _text(environ, "REQUEST_METHOD", MAX_METHOD)
    if route["path"] is None:
        told = _forwarded(environ, "METHOD", MAX_METHOD, trusted=trusted)
        path = _forwarded(environ, "URI", MAX_PATH, trusted=trusted)
        return Original(_scope_asked(environ), told or method, path.partition("?")[0])
    # Behind the scope, path and query are the client's own, and so would be a parameter called scope.
    scope = "" if route["scope"] == "-" else _valid_scope(route["scope"])
    return Original(scope, method, _decoded(route["path"], MAX_PATH) if trusted else "")


async def _authorize(request: _Request, route: re.Match[str]) -> Reply:
    clock = asyncio.get_running_loop().time
    came_at = clock()
    environ, organization, trusted = request.environ, route["organization"], settings.TRUSTED_PROXIES
    original = _original(environ, route, trusted)
    presented = Presented(
        credential=_credential(environ),
        organization=organization,
        scope=original.scope,
        address=proxies.client_address(environ, trusted),
        user_agent=_text(environ, "HTTP_USER_AGENT", MAX_USER_AGENT),
        method=original.method,
        path=original.path,
    )
    verdict = await metrics.counted("authorize", presented, request.verify)
    status = _STATUS.get(verdict.outcome, HTTPStatus.UNAUTHORIZED)
    if status is HTTPStatus.UNAUTHORIZED:
        await asyncio.sleep(REFUSAL_SECONDS - (clock() - came_at) % REFUSAL_SECONDS)
    return Reply(status, _gateway_headers(verdict, organization))


def _gateway_headers(verdict: Verdict, organization: str) -> list[Header]:
    # Each header that a gateway may copy is always set: one that is left out could be the client's own.
    key = verdict.key
    if key is None or verdict.outcome is not Outcome.VALID:
        return [*_NO_KEY, *_challenge(verdict, organization), *_quota_headers(verdict.quota)]
    return [
        (b"x-key-id", key.public_id.encode()),
        (b"x-key-organization", organization.encode()),
        (b"x-key-environment", key.environment.encode()),
        (b"x-key-scopes", " ".join(key.scopes).encode()),
        *_quota_headers(verdict.quota),
    ]


def _challenge(verdict: Verdict, organization: str) -> list[Header]:
    """Return RFC 6750's WWW-Authenticate; the five refusals of status 401 have the same one."""
    if verdict.outcome in {Outcome.VALID, Outcome.RATE_LIMITED, Outcome.NETWORK_DENIED}:
        return []
    error = "insufficient_scope" if verdict.outcome is Outcome.SCOPE_MISSING else "invalid_token"
    return [(b"www-authenticate", f'Bearer realm="{organization}", error="{error}"'.encode())]


def _quota_headers(quota: Quota | None) -> list[Header]:
    """Return the fields of draft-ietf-httpapi-ratelimit-headers, nothing for a key without a limit."""
    if quota is None:
        return []
    requests, period, _burst = quota.limit
    headers = [
        (b"ratelimit-policy", b'"key";q=%d;w=%d' % (requests, period)),
        (b"ratelimit", b'"key";r=%d;t=%d' % (quota.remaining, quota.reset)),
    ]
    if quota.retry_after:
        headers.append((b"retry-after", b"%d" % quota.retry_after))
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
    raw = environ.get(name)
    return _decoded(raw, most) if raw else ""


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


async def _verify(request: _Request, organization: str) -> Reply:
    environ = request.environ
    if environ["REQUEST_METHOD"] != "POST":
        return _json(HTTPStatus.METHOD_NOT_ALLOWED, {"error": "Use POST."}, [(b"allow", b"POST")])
    body = _fields(await _body(request.receive))
    address = proxies.client_address(environ, settings.TRUSTED_PROXIES)
    if body.get("address"):
        address = _claimed_address(environ, body["address"])
    presented = Presented(
        credential=body["key"],
        organization=organization,
        scope=_valid_scope(body.get("scope", "")),
        address=address,
        user_agent=_clean(body.get("user_agent", ""), MAX_USER_AGENT)
        or _text(environ, "HTTP_USER_AGENT", MAX_USER_AGENT),
        method=_clean(body.get("method", ""), MAX_METHOD),
        path=_clean(body.get("path", ""), MAX_PATH).partition("?")[0],
    )
    verdict = await metrics.counted("verify", presented, request.verify)
    answer = {"outcome": verdict.outcome.value, "organization": organization, "key": _facts(verdict.key)}
    headers = _challenge(verdict, organization) + _quota_headers(verdict.quota)
    return _json(_STATUS.get(verdict.outcome, HTTPStatus.UNAUTHORIZED), answer, headers)


async def _body(receive: Receive) -> bytes:
    content = b""
    more = True
    while more:
        message = await receive()
        content += message.get("body", b"")
        if len(content) > MAX_BODY:
            too_large = {"body": f"is larger than {MAX_BODY} bytes."}
            raise BadRequestError(too_large, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        more = message.get("more_body", False)
    return content


def _fields(content: bytes) -> dict[str, str]:
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


def _json(status: HTTPStatus, answer: Mapping[str, object], headers: Sequence[Header] = ()) -> Reply:
    return Reply(status, headers, json.dumps(answer).encode())
