"""Calls the whole ASGI application as a server does, with a scope of our making, in the thread of the test.

So a test sees what it has not committed; how the server's event loop asks the database is shown by real servers.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode
from wsgiref.headers import Headers

from a2wsgi.wsgi import build_environ
from asgiref.sync import async_to_sync, sync_to_async

from apikeys import gateway, operations, verification
from apikeys.gateway import Application, Receive, Scope, Send

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

    def __init__(self, pages: operations.Application) -> None:
        self._application = gateway.mount(_in_this_thread(pages), sync_to_async(verification.verify))

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
        fields = [(name.replace("_", "-"), value) for name, value in (headers or {}).items()]
        fields += [("Host", "localhost:8000"), ("Content-Length", str(len(body)))]
        if body:
            fields.append(("Content-Type", "application/json"))
        unescaped, wire = path.encode("utf-8", "surrogateescape"), quote(path.encode("utf-8", "surrogateescape"))
        scope: Scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unescaped.decode("utf-8", "replace"),
            "raw_path": wire.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("utf-8", "surrogateescape")) for name, value in fields],
            "server": ("localhost", 8000),
            "client": (peer, 50000) if peer else None,
        }
        return async_to_sync(self._run)(scope, body)

    async def _run(self, scope: Scope, body: bytes) -> Answer:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._application(scope, receive, send)
        [start] = [message for message in sent if message["type"] == "http.response.start"]
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
        return Answer(start["status"], Headers(headers), b"".join(message.get("body", b"") for message in sent))


def _in_this_thread(pages: operations.Application) -> Application:
    """Return a WSGI application as an ASGI one, as a2wsgi does, but without its threads."""

    def run(environ: dict[str, Any]) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> None:
            fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
            sent.append({"type": "http.response.start", "status": int(status[:3]), "headers": fields})

        chunks = pages(environ, start_response)
        try:
            sent.append({"type": "http.response.body", "body": b"".join(chunks)})
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        return sent

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        environ = build_environ(scope, io.BytesIO((await receive())["body"]))
        for message in await sync_to_async(run)(environ):
            await send(message)

    return application


def _slug(organization: object) -> str:
    return quote(str(getattr(organization, "slug", organization)))
