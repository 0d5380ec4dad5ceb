"""deploy/gateways/envoy.yaml in a real Envoy."""

from collections.abc import Iterator

import pytest

from tests.gateways.behaviour import GatewayBehaviour
from tests.gateways.servers import Gateway, find

pytestmark = pytest.mark.gateway


@pytest.fixture(scope="module")
def gateway(prepared) -> Iterator[Gateway]:
    gateway = prepared("envoy.yaml")
    gateway.start([find("envoy"), "-c", gateway.recipe, "--disable-hot-restart", "--concurrency", "1", "-l", "warning"])
    yield gateway
    gateway.stop()


class TestEnvoy(GatewayBehaviour):
    pass
