"""deploy/gateways/traefik.yml in a real Traefik, and what Traefik does otherwise than the others."""

import time
from collections.abc import Iterator

import pytest

from tests.factories import make_key
from tests.gateways.behaviour import GatewayBehaviour
from tests.gateways.servers import START_SECONDS, Api, Gateway, Tap, find

pytestmark = pytest.mark.gateway
STATIC = """
entryPoints:
  web: {{ address: "127.0.0.1:{port}" }}
providers:
  file: {{ filename: {recipe} }}
global: {{ checkNewVersion: false, sendAnonymousUsage: false }}
"""


@pytest.fixture(scope="module")
def gateway(prepared) -> Iterator[Gateway]:
    gateway = prepared("traefik.yml", {"api.example.com": "127.0.0.1"})
    static = gateway.folder / "static.yml"
    static.write_text(STATIC.format(port=gateway.port, recipe=gateway.recipe))
    gateway.start([find("traefik"), "--configFile", static])
    deadline = time.monotonic() + START_SECONDS
    while gateway.ask("GET", "/orders/").status == 404 and time.monotonic() < deadline:
        time.sleep(0.05)  # it listens before it has read its routes
    yield gateway
    gateway.stop()


class TestTraefik(GatewayBehaviour):
    # Hands nothing of the verifier's answer to the caller when a request passes.
    def test_a_key_over_its_limit_gets_a_429_that_says_when(self, gateway: Gateway, api: Api, protected):
        secret = make_key(protected, rate_limit=(1, 3600, 1)).secret.text
        first, second = gateway.ask("GET", "/orders/", secret), gateway.ask("GET", "/orders/", secret)
        assert (first.status, second.status) == (200, 429)
        assert second.headers.get_all("RateLimit-Policy") == ['"key";q=1;w=3600']
        assert 3500 < int(second.headers["Retry-After"]) <= 3600

    # Has a 500 of its own, which cannot be told from the API's.
    def test_a_verifier_that_is_away_is_a_503(self, gateway: Gateway, api: Api, protected, line: Tap):
        secret = make_key(protected).secret.text
        with line.cut():
            assert gateway.ask("GET", "/orders/", secret).status == 500
        assert not api.reached
        assert gateway.ask("GET", "/orders/", secret).status == 200

    # Waits for half a minute, too long for a test.
    test_a_verifier_that_does_not_answer_is_a_503 = None
