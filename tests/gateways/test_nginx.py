"""deploy/gateways/nginx.conf in a real nginx."""

import getpass
from collections.abc import Iterator

import pytest

from tests.gateways.behaviour import GatewayBehaviour
from tests.gateways.servers import Gateway, find

pytestmark = pytest.mark.gateway
# What the machine's own nginx.conf has around the recipe.
AROUND = """
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {recipe};
}}
"""


@pytest.fixture(scope="module")
def gateway(prepared) -> Iterator[Gateway]:
    gateway = prepared("nginx.conf")
    around = gateway.folder / "around.conf"
    around.write_text(AROUND.format(user=getpass.getuser(), folder=gateway.folder, recipe=gateway.recipe))
    gateway.start([find("nginx"), "-e", "stderr", "-p", gateway.folder, "-c", around])
    yield gateway
    gateway.stop()


class TestNginx(GatewayBehaviour):
    pass
