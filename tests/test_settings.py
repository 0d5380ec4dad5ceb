"""Settings from the environment: each variable right, wrong and missing, as a start of the program sees it."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.database import setting_variables

pytestmark = pytest.mark.any_engine

ROOT = Path(__file__).resolve().parent.parent
PEPPER = "1:b2ZIHjfKsMrSBjyZxnTUQGJ0fNS1nmbAWyS3hKYYXQk="
PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "kX9-" + "r4nd0m-Text-of-Sixty-Characters-and-more-for-the-checks-of-Django",
    "KEY_PEPPERS": PEPPER,
    "BASE_URL": "https://keys.example.com",
    "DATABASE_URL": "sqlite:///{folder}/production.sqlite3",
}


def environment_with(tmp_path, variables):
    """Return the environment of a new process: these variables, none other of ours, and none of the tests' own."""
    left_out = {*setting_variables(), "DJANGO_SETTINGS_MODULE", "DJANGO_ALLOW_ASYNC_UNSAFE"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    given = {name: value.format(folder=tmp_path) for name, value in variables.items()}
    return {**environment, "DATABASE_URL": f"sqlite:///{tmp_path}/check.sqlite3", **given}


def start(tmp_path, *arguments, **variables):
    """Run manage.py as a new process."""
    environment = environment_with(tmp_path, variables)
    command = [sys.executable, "manage.py", *(arguments or ["check"])]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)


def read(tmp_path, *names, **variables):
    """Return the values that settings have with these variables."""
    program = (
        "import json; from keyadmin import settings as s; "
        f"print(json.dumps({{name: getattr(s, name) for name in {list(names)!r}}}, default=repr))"
    )
    environment = {**environment_with(tmp_path, variables), "DJANGO_SETTINGS_MODULE": "keyadmin.settings"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


BAD = {
    "an environment": {"ENVIRONMENT": "prod"},
    "a flag": {"DEBUG": "maybe"},
    "peppers without numbers": {"KEY_PEPPERS": "c2VjcmV0"},
    "a pepper of number 0": {"KEY_PEPPERS": "0:c2VjcmV0"},
    "a pepper twice": {"KEY_PEPPERS": f"{PEPPER},{PEPPER}"},
    "a pepper that is no base64": {"KEY_PEPPERS": "1:%%%"},
    "an invitation that lasts too long": {"INVITATION_DAYS": "31"},
    "an address without a scheme": {"BASE_URL": "keys.example.com"},
    "an address with a path": {"BASE_URL": "https://example.com/keys"},
    "a proxy that is no network": {"TRUSTED_PROXIES": "10.0.0.1/8"},
    "a proxy that is a name": {"TRUSTED_PROXIES": "localhost"},
    "a database of another kind": {"DATABASE_URL": "mysql://localhost/x"},
    "a database without a name": {"DATABASE_URL": "postgres://localhost"},
    "a database without a path": {"DATABASE_URL": "sqlite://"},
    "a cache of another kind": {"CACHE_URL": "cloud://x"},
    "mail by pigeon": {"EMAIL_URL": "pigeon://roof"},
    "mail without a host": {"EMAIL_URL": "smtp://"},
    "tombstones in a folder that is not there": {"TOMBSTONE_FILE": "/nowhere/at/all/tombstones"},
    "tombstones without a path": {"TOMBSTONE_FILE": "tombstones"},
    "tombstones in a folder": {"TOMBSTONE_FILE": str(ROOT)},
    "places without a path": {"GEOIP_DATABASE": "GeoLite2-City.mmdb"},
    "an issuer without its client": {"OIDC_ISSUER": "https://login.example.com"},
    "a client without its issuer": {"OIDC_CLIENT_ID": "keyadmin"},
    "a client's secret alone": {"OIDC_CLIENT_SECRET": "secret"},
    "a word of which each password is made": {"PASSWORD_WORDS": "Rosinante, it"},
    "a list of breached passwords without a path": {"BREACHED_PASSWORDS": "pwnedpasswords.txt"},
    "scopes without an address": {"OIDC_SCOPES": "openid profile"},
    "sessions of no hours": {"SESSION_HOURS": "0"},
    "sessions that may be left for a month": {"SESSION_IDLE_MINUTES": "43200"},
    "no minutes between proofs": {"STEP_UP_MINUTES": "0"},
    "days that are none": {"UNUSED_AFTER_DAYS": "many"},
    "no days": {"UNUSED_AFTER_DAYS": "0"},
    "no threads for pages": {"PAGE_THREADS": "0"},
    "too many days": {"UNUSED_AFTER_DAYS": "3651"},
    "days below nothing": {"UNUSED_AFTER_DAYS": "-5"},
    "requests kept for less than a week": {"EVENT_RETENTION_DAYS": "6"},
    "deliveries kept for less than a week": {"DELIVERY_RETENTION_DAYS": "6"},
    "a network with a host's bits": {"WEBHOOK_ALLOWED_NETWORKS": "10.0.0.1/8"},
    "a level that is none": {"LOG_LEVEL": "CHATTY"},
    "a log of another format": {"LOG_FORMAT": "xml"},
    "metrics for a name": {"METRICS_ALLOWED": "prometheus.example.com"},
    "HSTS of text": {"HSTS_SECONDS": "year"} | PRODUCTION,
    "HSTS too long": {"HSTS_SECONDS": "63072001"} | PRODUCTION,
    "subdomains perhaps": {"HSTS_SUBDOMAINS": "perhaps"} | PRODUCTION,
    "a redirect perhaps": {"SSL_REDIRECT": "perhaps"} | PRODUCTION,
}


@pytest.mark.parametrize("variables", BAD.values(), ids=BAD)
def test_a_bad_value_stops_the_start_with_the_name_of_its_variable(tmp_path, variables):
    done = start(tmp_path, **variables)
    assert done.returncode != 0
    [name] = [name for name in variables if PRODUCTION.get(name) != variables[name]]
    last = done.stderr.strip().splitlines()[-1]
    assert name in last
    assert "ImproperlyConfigured" in last


def test_every_variable_has_a_bad_value_above_or_takes_any_text():
    tried = {name for variables in BAD.values() for name in variables}
    free = {"SECRET_KEY", "SECRET_KEY_FALLBACKS", "ALLOWED_HOSTS", "DEFAULT_FROM_EMAIL"}
    free |= {"OIDC_NAME", "OIDC_VERIFIED_CLAIM"}
    free |= {"METRICS_TOKEN", "PROMETHEUS_MULTIPROC_DIR"}
    assert set(setting_variables()) == tried | free


def test_without_any_variable_development_works(tmp_path):
    done = start(tmp_path)
    assert (done.returncode, done.stderr) == (0, "System check identified no issues (0 silenced).\n") or (
        done.returncode == 0 and "no issues" in done.stdout
    )


@pytest.mark.parametrize("name", ["SECRET_KEY", "KEY_PEPPERS"])
def test_production_does_not_start_without_a_secret(tmp_path, name):
    for value in ({}, {name: ""}, {name: "  "}):
        variables = {key: text for key, text in PRODUCTION.items() if key != name} | value
        done = start(tmp_path, **variables)
        assert done.returncode != 0
        assert f"{name} is not set" in done.stderr


def test_production_with_all_of_it_passes_the_checks_for_deployment(tmp_path):
    done = start(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert done.returncode == 0, done.stderr


def test_production_is_strict(tmp_path):
    found = read(
        tmp_path,
        *("DEBUG", "ALLOWED_HOSTS", "TRUSTED_PROXIES", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE"),
        *("SESSION_COOKIE_NAME", "SECURE_SSL_REDIRECT", "SECURE_HSTS_SECONDS", "CSRF_TRUSTED_ORIGINS"),
        **PRODUCTION,
    )
    assert found == {
        "DEBUG": False,
        "ALLOWED_HOSTS": ["keys.example.com"],
        "TRUSTED_PROXIES": [],
        "SESSION_COOKIE_SECURE": True,
        "CSRF_COOKIE_SECURE": True,
        "SESSION_COOKIE_NAME": "__Host-sessionid",
        "SECURE_SSL_REDIRECT": True,
        "SECURE_HSTS_SECONDS": 31536000,
        "CSRF_TRUSTED_ORIGINS": ["https://keys.example.com"],
    }


ERRORS = {
    "apikeys.E001": {"KEY_PEPPERS": "1:c2hvcnQ="},
    "apikeys.E001 of one repeated byte": {"KEY_PEPPERS": f"1:{'QUFB' * 12}"},
    "apikeys.E002": {"KEY_PEPPERS": "1:ZGV2ZWxvcG1lbnQtb25seS1wZXBwZXItbm90LWEtc2VjcmV0LSEtIQ=="},
    "apikeys.E003": {"DEBUG": "true"},
    "apikeys.E004": {"CACHE_URL": "locmemcache://"},
    "apikeys.E004 of none": {"CACHE_URL": "dummycache://"},
    "apikeys.E005": {"BASE_URL": "http://keys.example.com"},
    "apikeys.E006": {"ALLOWED_HOSTS": "*"},
}


@pytest.mark.parametrize(("code", "variables"), ERRORS.items(), ids=ERRORS)
def test_production_that_is_unsafe_fails_the_checks_by_number_and_name(tmp_path, code, variables):
    done = start(tmp_path, **(PRODUCTION | variables))
    [name] = variables
    assert done.returncode != 0
    assert code.partition(" ")[0] in done.stderr or f"{name}: " in done.stderr
    assert name in done.stderr


def test_a_database_of_places_that_is_missing_is_told_of_and_stops_nothing(tmp_path):
    path = f"{tmp_path}/away/GeoLite2-City.mmdb"
    done = start(tmp_path, GEOIP_DATABASE=path)
    assert done.returncode == 0
    assert f"(apikeys.W007) GEOIP_DATABASE: {path} cannot be used: No such file or directory." in done.stderr


def test_no_secret_is_printed_when_a_start_fails(tmp_path):
    secret = "dG9wLXNlY3JldC1wZXBwZXItdGhhdC1pcy1sb25nLWVub3VnaA"
    done = start(tmp_path, **(PRODUCTION | {"KEY_PEPPERS": f"1:{secret}%"}))
    assert done.returncode != 0
    assert secret not in done.stderr.splitlines()[-1]


def test_mail_settings_are_read_from_one_address(tmp_path):
    found = read(tmp_path, "MAILERS", EMAIL_URL="smtp+tls://us%40er:p%3Ass@mail.example.com")["MAILERS"]["default"]
    options = found["OPTIONS"]
    assert (options["host"], options["port"], options["use_tls"]) == ("mail.example.com", 587, True)
    assert (options["username"], options["password"]) == ("us@er", "p:ss")


def test_a_word_may_be_in_any_case(tmp_path):
    assert read(tmp_path, "LOG_LEVEL", LOG_LEVEL="debug") == {"LOG_LEVEL": "DEBUG"}


def test_peppers_are_numbered_and_the_highest_signs(tmp_path):
    found = read(tmp_path, "KEY_PEPPERS", KEY_PEPPERS=f"{PEPPER}, 7:c2Vjb25kLXBlcHBlci1vZi0zMi1ieXRlcy1hbmQtbW9yZQ==")
    assert {number: len(ast.literal_eval(text)) for number, text in found["KEY_PEPPERS"].items()} == {"1": 32, "7": 34}


CLIENT = {"OIDC_CLIENT_ID": "keyadmin", "OIDC_CLIENT_SECRET": "secret"}
ISSUERS = ["login.example.com", "ftp://login.example.com", "https://", "https://login.example.com/?a=b"]
ISSUERS += ["https://me@login.example.com", "https://login.example.com/#a", f"https://login.example.com/{'x' * 255}"]


@pytest.mark.parametrize("issuer", ISSUERS)
def test_an_issuer_that_is_none_stops_the_start(tmp_path, issuer):
    done = start(tmp_path, OIDC_ISSUER=issuer, **CLIENT)
    assert done.returncode != 0
    assert "OIDC_ISSUER must look like" in done.stderr.splitlines()[-1]


def test_an_insecure_issuer_is_for_development_alone(tmp_path):
    issuer = {"OIDC_ISSUER": "http://localhost:9400"}
    assert start(tmp_path, **issuer, **CLIENT).returncode == 0
    assert "OIDC_ISSUER must look like" in start(tmp_path, **issuer, **CLIENT, **PRODUCTION).stderr


def test_half_a_provider_is_told_with_what_is_missing_and_no_secret(tmp_path):
    last = start(tmp_path, OIDC_ISSUER="https://login.example.com", OIDC_CLIENT_SECRET="s3cr3t").stderr.splitlines()[-1]
    assert last.endswith("are set together or not at all; missing: OIDC_CLIENT_ID.")
    assert "s3cr3t" not in last


def test_a_list_of_breached_passwords_is_looked_into_once_it_is_named(tmp_path):
    name = "apikeys.password_validators.BreachedPasswordValidator"
    for value in ({}, {"BREACHED_PASSWORDS": " "}):
        found = read(tmp_path, "AUTH_PASSWORD_VALIDATORS", **value)["AUTH_PASSWORD_VALIDATORS"]
        assert name not in [one["NAME"] for one in found]
    found = read(tmp_path, "AUTH_PASSWORD_VALIDATORS", BREACHED_PASSWORDS="/srv/pwnedpasswords.txt")
    assert {"NAME": name, "OPTIONS": {"path": "/srv/pwnedpasswords.txt"}} in found["AUTH_PASSWORD_VALIDATORS"]


def test_a_list_of_breached_passwords_that_is_away_is_told_of_and_stops_neither_commands_nor_pages(tmp_path):
    variables = PRODUCTION | {"BREACHED_PASSWORDS": "{folder}/away/pwnedpasswords.txt"}
    done = start(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **variables)
    assert done.returncode != 0
    assert "(apikeys.W008) BREACHED_PASSWORDS: " in done.stderr
    done = start(tmp_path, "migrate", **variables)
    assert done.returncode == 0
    assert "apikeys.W008" in done.stderr
    program = "import django; django.setup(); from apikeys.readiness import missing; print(missing())"
    environment = environment_with(tmp_path, variables) | {"DJANGO_SETTINGS_MODULE": "keyadmin.settings"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "None\n"


def test_words_of_ones_own_are_a_list(tmp_path):
    found = read(tmp_path, "PASSWORD_WORDS", PASSWORD_WORDS=" Rosinante, Elm Street 5,,ZAP ")
    assert found == {"PASSWORD_WORDS": ["Rosinante", "Elm Street 5", "ZAP"]}
