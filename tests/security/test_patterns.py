"""No regular expression takes long, whatever text it is given: 20,000 characters cost each of them little."""

import ast
import importlib
import pkgutil
import re
import time

import pytest
from django.core.validators import RegexValidator
from django.urls import get_resolver

import apikeys
from apikeys import models
from tests.test_architecture import ROOT, patterns

pytestmark = pytest.mark.any_engine

MAKERS = {"compile", "match", "search", "fullmatch", "sub", "split", "findall", "finditer", "subn"}
# Of processor time: a pattern that doubles with each character, or grows with the cube, needs years.
SECONDS = 1.0
SIZES = (20, 30, 200, 2_000, 20_000)
# What makes patterns try again: repeated parts, with an end that does not fit.
PARTS = [
    "a",
    "0",
    " ",
    "-",
    "_",
    ".",
    "/",
    ":",
    "ka_prod_",
    "Aa0",
    "a-",
    "a.",
    "a:",
    "\t ",
    "%2F",
    "é",
    "/handover/",
    "a a",
]
ENDS = ["", "!", "\n", "\0", "é!"]


def compiled():
    """Yield (name, pattern) of each pattern that a module of ours holds, or a field of ours is checked by."""
    for module in pkgutil.walk_packages(apikeys.__path__, "apikeys."):
        if ".migrations" not in module.name and ".demo" not in module.name:
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, re.Pattern):
                    yield f"{module.name}.{name}", value
                if isinstance(value, RegexValidator):
                    yield f"{module.name}.{name}", value.regex
    for field in models.Organization._meta.get_fields():
        for validator in getattr(field, "validators", []):
            if isinstance(validator, RegexValidator):
                yield f"Organization.{field.name}", validator.regex
    for route, pattern in patterns(get_resolver()):
        yield route, re.compile(getattr(pattern.pattern, "_regex", None) or pattern.pattern.regex.pattern)


FOUND = {name: pattern for name, pattern in compiled() if isinstance(pattern.pattern, str)}


@pytest.mark.parametrize("name", FOUND)
def test_a_pattern_takes_no_time_that_grows_beyond_its_text(name):
    pattern = FOUND[name]
    for part in PARTS:
        for end in ENDS:
            for size in SIZES:
                text = (part * size)[:size] + end
                began = time.process_time()
                pattern.search(text)
                pattern.fullmatch(text)
                took = time.process_time() - began
                assert took < SECONDS, (part, end, size, took)


def test_the_patterns_that_matter_are_among_them():
    assert len(FOUND) > 60
    assert any("key_secret" in name for name in FOUND)
    assert any("gateway" in name for name in FOUND)
    assert any("Organization.slug" in name for name in FOUND)


@pytest.mark.parametrize("path", [*(ROOT / "apikeys").rglob("*.py")], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pattern_is_made_of_what_a_request_says(path):
    """Each is a constant: of text, or of other constants."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {f"re.{name}" for name in MAKERS}:
            names = {name.id for name in ast.walk(node.args[0]) if isinstance(name, ast.Name)}
            assert all(name.lstrip("_").isupper() for name in names), f"{path.name}: {ast.unparse(node)}"
