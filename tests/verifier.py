"""Calls the whole WSGI application as a server does, with an environ of our making."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode
from wsgiref.headers import Headers

PEER = "127.0.0.1"


@dataclass(frozen=True)
class Answer:
    """What came back. Header names are found in any case."""

    status: int
    headers: Headers
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Verifier:
    """The verifier's client: ``verify`` and ``authorize`` for its two faces, ``call`` for anything at all."""

    def __init__(self, application: Callable[..., Any]) -> None:
        self._application = application

    def verify(
        self, organization: object, body: Mapping[str, object] | bytes | str, *, peer: str = PEER, **headers: str
    ) -> Answer:
        """Ask as a service does. A text is the key alone, a mapping the JSON body, bytes the body as it stands."""
        if isinstance(body, str):
            body = {"key": body}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.call("POST", f"/v1/{_slug(organization)}/verify", headers, content, peer=peer)

    def authorize(
        self,
        organization: object,
        key: str | None = None,
        *,
        scope: str | None = None,
        peer: str = PEER,
        **headers: str,
    ) -> Answer:
        """Ask as a gateway does; header names are written ``X_Api_Key="..."``."""
        if key is not None:
            headers.setdefault("Authorization", f"Bearer {key}")
        query = urlencode({"scope": scope}) if scope is not None else ""
        return self.call("GET", f"/v1/{_slug(organization)}/authorize", headers, query=query, peer=peer)

    def call(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        query: str = "",
        peer: str = PEER,
    ) -> Answer:
        """Send any request. Path and headers are text whose UTF-8 goes over the wire."""
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": _wire(path),
            "QUERY_STRING": query or "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": peer,
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": "application/json" if body else "",
            "HTTP_HOST": "localhost:8000",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        for name, value in (headers or {}).items():
            environ["HTTP_" + name.upper().replace("-", "_")] = _wire(value)
        return self._run(environ)

    def _run(self, environ: dict[str, Any]) -> Answer:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> None:
            started.append((status, headers))

        chunks = self._application(environ, start_response)
        try:
            body = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        [(status, headers)] = started
        return Answer(int(status.split()[0]), Headers(headers), body)


def _slug(organization: object) -> str:
    return quote(str(getattr(organization, "slug", organization)))


def _wire(text: str) -> str:
    # WSGI: each character of an environ's text is one byte of the wire.
    return text.encode("utf-8", "surrogateescape").decode("latin-1")
