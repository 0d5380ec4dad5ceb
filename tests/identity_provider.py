"""An OpenID Connect provider on this machine: a real one from PyPI, behind which a test can make it lie.

It signs ID tokens with a key of its own, so that a test can change what they say; and it holds the client to its
secret and to PKCE, which the provider itself lets pass.
"""

import base64
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import jwt
import oidc_provider_mock
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT, SECRET = "keyadmin-tests", "a secret of: many+characters"
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)

type Claims = dict[str, Any]


def sign(claims: Claims, kid: str = "first") -> str:
    """Return an ID token as it should be; a provider with one key may leave the key's number out."""
    return jwt.encode(claims, _KEY, algorithm="RS256", headers={"kid": kid} if kid else None)


class IdentityProvider:
    """A running provider. ``lie`` changes an ID token's claims, ``sign`` makes the token of them."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._challenges: dict[str, str] = {}
        self.url = ""
        self.authorized: list[dict[str, str]] = []
        self.redeemed: list[dict[str, str]] = []
        self.tell_the_truth()

    def tell_the_truth(self) -> None:
        """Undo what a test changed."""
        self.lie: Callable[[Claims], object] = lambda claims: None
        self.sign: Callable[[Claims], str] = sign
        self.user_info: Callable[[Claims], Claims] = lambda claims: claims
        self.discovery: Claims = {}
        self.broken: set[str] = set()
        self.redirecting: set[str] = set()

    def know(self, subject: str, **claims: Any) -> str:
        """Let somebody exist there, and return their subject."""
        requests.put(f"{self.url}/users/{subject}", json=claims, timeout=5).raise_for_status()
        return subject

    def consent(self, address: str, subject: str) -> str:
        """Do what a person does in their browser: choose who they are; return where they are sent back to."""
        answer = requests.post(address, data={"sub": subject}, allow_redirects=False, timeout=5)
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]

    def deny(self, address: str) -> str:
        """Refuse, as a person does."""
        answer = requests.post(address, data={"action": "deny"}, allow_redirects=False, timeout=5)
        return answer.headers["Location"]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        path, body = environ["PATH_INFO"], environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if path in self.redirecting:
            start_response("302 Found", [("Location", f"{self.url}/elsewhere{path}"), ("Content-Length", "0")])
            return [b""]
        environ["PATH_INFO"] = path = path.removeprefix("/elsewhere")
        if path in self.broken:
            return _answer(start_response, "500 Internal Server Error", b"it holds a-code-or-a-token")
        if path == "/oauth2/authorize" and environ["REQUEST_METHOD"] == "POST":
            self.authorized.append(dict(parse_qsl(environ["QUERY_STRING"])))
        if path == "/oauth2/token" and not self._is_our_client(environ, body):
            return _answer(start_response, "401 Unauthorized", b'{"error": "invalid_client"}')
        status, headers, content = self._inner(environ)
        if path == "/oauth2/authorize" and "Location" in headers:
            self._keep_challenge(headers["Location"])
        content = self._changed(path, content) if status.startswith("200") else content
        headers["Content-Length"] = str(len(content))
        start_response(status, list(headers.items()))
        return [content]

    def _inner(self, environ: dict[str, Any]) -> tuple[str, dict[str, str], bytes]:
        seen: list[Any] = []
        body = self._application(environ, lambda status, headers, exc_info=None: seen.extend((status, dict(headers))))
        content = b"".join(body)
        if hasattr(body, "close"):
            body.close()
        return seen[0], seen[1], content

    def _changed(self, path: str, content: bytes) -> bytes:
        if path == "/jwks":
            key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(_KEY.public_key()))
            return json.dumps({"keys": [key | {"kid": "first", "use": "sig", "alg": "RS256"}]}).encode()
        if path == "/.well-known/openid-configuration":
            return json.dumps(json.loads(content) | self.discovery).encode()
        if path == "/userinfo":
            return json.dumps(self.user_info(json.loads(content))).encode()
        if path == "/oauth2/token":
            answer = json.loads(content)
            claims = jwt.decode(answer["id_token"], options={"verify_signature": False})
            self.lie(claims)
            answer["id_token"] = self.sign(claims)
            return json.dumps(answer).encode()
        return content

    def _keep_challenge(self, location: str) -> None:
        code = parse_qs(urlsplit(location).query).get("code")
        if code:
            self._challenges[code[0]] = self.authorized[-1]["code_challenge"]

    def _is_our_client(self, environ: dict[str, Any], body: bytes) -> bool:
        form = dict(parse_qsl(body.decode()))
        self.redeemed.append(form)
        given = base64.b64decode(environ.get("HTTP_AUTHORIZATION", "").removeprefix("Basic ")).decode()
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return given == f"{CLIENT}:{SECRET}" and self._challenges.get(form.get("code", "")) == challenge


def _answer(start_response: Any, status: str, content: bytes) -> list[bytes]:
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
    return [content]


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Write nothing."""


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    """Run a provider as long as the test needs it."""
    provider = IdentityProvider(oidc_provider_mock.app())
    server = make_server("127.0.0.1", 0, provider, WSGIServer, _Quiet)
    provider.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
