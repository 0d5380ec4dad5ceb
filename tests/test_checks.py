"""The checks of our own settings; tests/test_settings.py runs them as a start of the program does."""

import pytest

from apikeys.checks import (
    check_addresses,
    check_breached_passwords,
    check_cache,
    check_debug,
    check_peppers,
    check_places,
)
from tests.breached import write_folder, write_list

GOOD = bytes(range(32))
REDIS = "django.core.cache.backends.redis.RedisCache"
LOCMEM = "django.core.cache.backends.locmem.LocMemCache"

CASES = {
    "a good pepper": (check_peppers, {"KEY_PEPPERS": {1: GOOD}}, []),
    "a short pepper": (check_peppers, {"KEY_PEPPERS": {1: GOOD[:31]}}, ["apikeys.E001"]),
    "a long pepper of few bytes": (check_peppers, {"KEY_PEPPERS": {1: b"ab" * 32}}, ["apikeys.E001"]),
    "one of two is weak": (check_peppers, {"KEY_PEPPERS": {1: GOOD, 2: b"x"}}, ["apikeys.E001"]),
    "the public pepper": (
        check_peppers,
        {"KEY_PEPPERS": {1: b"development-only-pepper-not-a-secret-!-!"}, "PRODUCTION": True},
        ["apikeys.E002"],
    ),
    "the public pepper in development": (
        check_peppers,
        {"KEY_PEPPERS": {1: b"development-only-pepper-not-a-secret-!-!"}},
        [],
    ),
    "debug in production": (check_debug, {"DEBUG": True, "PRODUCTION": True}, ["apikeys.E003"]),
    "debug in development": (check_debug, {"DEBUG": True}, []),
    "an unshared cache": (check_cache, {"CACHES": {"default": {"BACKEND": LOCMEM}}}, ["apikeys.W004"]),
    "an unshared cache in production": (
        check_cache,
        {"CACHES": {"default": {"BACKEND": LOCMEM}}, "PRODUCTION": True},
        ["apikeys.E004"],
    ),
    "a shared cache": (check_cache, {"CACHES": {"default": {"BACKEND": REDIS}}, "PRODUCTION": True}, []),
    "an address without https": (
        check_addresses,
        {"BASE_URL": "http://keys.example.com", "ALLOWED_HOSTS": ["keys.example.com"], "PRODUCTION": True},
        ["apikeys.E005"],
    ),
    "any host": (
        check_addresses,
        {"BASE_URL": "https://keys.example.com", "ALLOWED_HOSTS": ["*"], "PRODUCTION": True},
        ["apikeys.E006"],
    ),
    "no database of places": (check_places, {"GEOIP_DATABASE": ""}, []),
    "a database of places that is away": (check_places, {"GEOIP_DATABASE": "/nowhere/a.mmdb"}, ["apikeys.W007"]),
    "the same in production": (
        check_places,
        {"GEOIP_DATABASE": "/nowhere/a.mmdb", "PRODUCTION": True},
        ["apikeys.W007"],
    ),
    "both in development": (check_addresses, {"BASE_URL": "http://x", "ALLOWED_HOSTS": ["*"]}, []),
}


@pytest.mark.parametrize(("check", "values", "expected"), CASES.values(), ids=CASES)
def test_a_check_finds_what_is_wrong_and_nothing_else(settings, check, values, expected):
    settings.PRODUCTION = False
    for name, value in values.items():
        setattr(settings, name, value)
    found = check()
    assert [message.id for message in found] == expected
    for message in found:
        assert any(name in message.msg for name in (*values, "CACHE_URL"))


def test_a_weak_pepper_is_told_by_number_and_not_by_value(settings):
    settings.KEY_PEPPERS = {7: b"hunter2"}
    [message] = check_peppers()
    assert "7" in message.msg
    assert "hunter2" not in message.msg + message.hint


def test_a_list_of_breached_passwords_that_can_be_used_is_none_to_tell_of(settings, tmp_path):
    settings.BREACHED_PASSWORDS = ""
    assert check_breached_passwords() == []
    settings.BREACHED_PASSWORDS = str(write_list(tmp_path / "list.txt", ["one", "two", "three"]))
    assert check_breached_passwords() == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _path: None, "cannot be read"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("password\nletmein\n"), "has a line that is no SHA-1 hash"),
        (lambda path: path.write_text(f"{'B' * 40}:1\n{'A' * 40}:1\n"), "is not ordered by hash"),
        (lambda path: write_folder(path, ["one"]), "cannot be read"),
    ],
    ids=["missing", "empty", "no list", "in no order", "a folder that lacks files"],
)
def test_a_list_of_breached_passwords_that_cannot_be_used_is_a_warning_that_says_why(settings, tmp_path, make, said):
    path = tmp_path / "list.txt"
    make(path)
    settings.BREACHED_PASSWORDS = str(path)
    [message] = check_breached_passwords()
    assert (message.id, message.is_serious()) == ("apikeys.W008", False)
    assert message.msg.startswith(f"BREACHED_PASSWORDS: {path} ")
    assert said in message.msg
    assert "docs/install.md" in message.hint
