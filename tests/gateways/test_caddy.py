"""deploy/gateways/Caddyfile in a real Caddy."""

import os
from collections.abc import Iterator

import pytest

from tests.gateways.behaviour import GatewayBehaviour
from tests.gateways.servers import Gateway, find

pytestmark = pytest.mark.gateway
# No port of its own for its administration, and nothing left in a home folder.
AROUND = """{{
    admin off
    storage file_system {folder}
}}
import {recipe}
"""


@pytest.fixture(scope="module")
def gateway(prepared) -> Iterator[Gateway]:
    gateway = prepared("Caddyfile")
    around = gateway.folder / "around"
    around.write_text(AROUND.format(folder=gateway.folder, recipe=gateway.recipe))
    home = {"HOME": str(gateway.folder), "XDG_DATA_HOME": str(gateway.folder), "XDG_CONFIG_HOME": str(gateway.folder)}
    gateway.start([find("caddy"), "run", "--adapter", "caddyfile", "--config", around], env=os.environ | home)
    yield gateway
    gateway.stop()


class TestCaddy(GatewayBehaviour):
    pass
