"""deploy/gateways/haproxy.cfg and haproxy.lua in a real HAProxy."""

import secrets
from collections.abc import Iterator

import pytest

from tests.factories import make_key
from tests.gateways.behaviour import GatewayBehaviour
from tests.gateways.servers import RECIPES, Gateway, find

pytestmark = pytest.mark.gateway


def started(prepared, change: str = "", to: str = "") -> Gateway:
    """Start the recipe, with something in its script replaced."""
    script = (RECIPES / "haproxy.lua").read_text()
    assert change in script
    socket = f"abns@keyadmin-{secrets.token_hex(4)}"  # abstract sockets are the whole machine's
    gateway = prepared("haproxy.cfg", {"abns@keyadmin": socket, "/etc/haproxy": "."})
    (gateway.folder / "haproxy.lua").write_text(
        (script.replace(change, to) if change else script).replace("abns@keyadmin", socket)
    )
    gateway.start([find("haproxy"), "-db", "-f", gateway.recipe])
    return gateway


@pytest.fixture(scope="module")
def gateway(prepared) -> Iterator[Gateway]:
    gateway = started(prepared)
    yield gateway
    gateway.stop()


class TestHaproxy(GatewayBehaviour):
    pass


@pytest.mark.parametrize(
    "statement", ['txn:set_var("txn.key_passed", true)', "local response = core.httpclient():get{"]
)
def test_a_script_that_fails_lets_nothing_through(prepared, api, protected, statement):
    gateway = started(prepared, statement, 'error("broken") ' + statement)
    answer = gateway.ask("GET", "/orders/", make_key(protected).secret.text)
    log = gateway.log()
    gateway.stop()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert "broken" in log
    assert not api.reached
