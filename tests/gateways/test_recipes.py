"""What can be said of a recipe without its server: of Traefik's and Envoy's, which most machines have not."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.factories import make_key, make_organization, make_scope
from tests.gateways.servers import RECIPES
from tests.test_docs import ROOT

pytestmark = pytest.mark.any_engine

SCOPES = {"orders:read", "orders:write", "payments:write"}


@pytest.fixture
def committing() -> None:
    """These tests ask in a transaction of their own."""


def found(node: Any, name: str) -> Iterator[Any]:
    """Find every value with a name, however deep."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == name:
                yield value
            yield from found(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from found(value, name)


def read(recipe: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((RECIPES / recipe).read_text())
    return content


@pytest.mark.parametrize("recipe", sorted(RECIPES.iterdir()), ids=lambda path: path.name)
def test_each_recipe_is_told_of_on_a_page_of_its_own(recipe):
    pages = (ROOT / "docs/gateways").glob("*.md")
    assert any(f"deploy/gateways/{recipe.name}" in page.read_text() for page in pages)


def questions() -> dict[str, tuple[str, str]]:
    """Return what each recipe's middlewares ask, as path and query, for a request of GET /orders/7?page=2."""
    traefik = [urlsplit(address) for address in found(read("traefik.yml"), "address")]
    envoy = [prefix + "/orders/7" for prefix in found(read("envoy.yaml"), "path_prefix")]
    return {f"traefik {url.query or '-'}": (url.path, url.query) for url in traefik} | {
        f"envoy {path.split('/')[4]}": (path, "page=2") for path in envoy
    }


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "query"), questions().values(), ids=questions())
def test_the_verifier_understands_what_a_recipe_asks(verifier, path, query):
    northwind = make_organization("northwind")
    make_scope(northwind, "payments:write")
    all_scopes = make_key(northwind, scopes=sorted(SCOPES)).secret.text
    assert verifier.call("GET", path, {"Authorization": f"Bearer {all_scopes}"}, query=query).status == 200
    asked = next((scope for scope in SCOPES if scope in path + query), None)
    less = make_key(northwind, scopes=sorted(SCOPES - {asked})).secret.text
    status = 403 if asked else 200
    assert verifier.call("GET", path, {"Authorization": f"Bearer {less}"}, query=query).status == status


def test_traefik_s_routers_name_middlewares_and_services_that_exist():
    http = read("traefik.yml")["http"]
    for name, router in http["routers"].items():
        assert set(router["middlewares"]) <= set(http["middlewares"]), name
        assert router["service"] in http["services"], name
        asks = [used for used in router["middlewares"] if "forwardAuth" in http["middlewares"][used]]
        assert len(asks) == 1, name
        assert (router["middlewares"][0], router["middlewares"][-1]) == ("clean", "hide-key"), name


def test_envoy_s_routes_leave_one_question_each():
    recipe = read("envoy.yaml")
    [filters] = found(recipe, "http_filters")
    asking = {entry["name"] for entry in filters} - {"envoy.filters.http.router"}
    clusters = {cluster["name"] for cluster in recipe["static_resources"]["clusters"]}
    [routes] = found(recipe, "routes")
    for route in routes:
        assert len(asking - set(route["typed_per_filter_config"])) == 1, route
        assert set(route["typed_per_filter_config"]) <= asking
    assert set(found(recipe, "cluster")) <= clusters
    assert not any(found(recipe, "failure_mode_allow"))
