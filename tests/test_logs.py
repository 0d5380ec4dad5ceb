"""Logs and error reports hold no key, whatever they are given."""

import io
import json
import logging
import re
import subprocess
import sys

import pytest
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from apikeys import key_secret
from apikeys.logs import (
    MAY_REPEAT,
    JSONFormatter,
    RedactedExceptionReporter,
    RedactingFormatter,
    ThinningFilter,
    request_id,
    without_secrets,
)
from tests.factories import make_key
from tests.outage import away
from tests.test_settings import PRODUCTION, ROOT, environment_with

LINE = RedactingFormatter("{levelname} {message}", style="{")


def log_line(message, *values, error=None, formatter=LINE, **extra):
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    logger = logging.getLogger(__name__)
    logger.addHandler(handler)
    logger.error(message, *values, exc_info=error, extra=extra)
    logger.removeHandler(handler)
    return out.getvalue()


def log_json(message, *values, **options):
    line = log_line(message, *values, formatter=JSONFormatter(), **options)
    assert line.count("\n") == 1
    return json.loads(line)


WAYS = {
    "in the message": lambda text: log_line(f"The key {text} was sent."),
    "as a value": lambda text: log_line("The key %s was sent.", text),
    "in a value's repr": lambda text: log_line("The body was %r.", {"key": text, "scope": "x"}),
    "in bytes": lambda text: log_line("The body was %r.", text.encode()),
    "in an address": lambda text: log_line('"GET /v2/orders?key=%s&page=2 HTTP/1.1" 200', text),
    "in a header": lambda text: log_line("Authorization: Bearer %s", text),
    "twice": lambda text: log_line("%s %s", text, text),
    "in a traceback": lambda text: log_line("It failed.", error=raised(ValueError(f"no such key: {text}"))),
    "in a cause": lambda text: log_line("It failed.", error=raised(RuntimeError("x"), cause=KeyError(text))),
}


def raised(error, cause=None):
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
def test_a_log_line_keeps_the_public_part_alone(write):
    secret = key_secret.make("ka", "prod")
    line = write(secret.text)
    assert f"ka_prod_{secret.public_id}_[redacted]" in line
    assert secret.secret[:12] not in line
    assert secret.secret[-12:] not in line


@given(st.text(max_size=40), st.text(max_size=40), st.integers(12, 43))
def test_whatever_stands_around_a_key_or_half_of_it_its_secret_goes(before, after, length):
    secret = key_secret.make("ka", "prod")
    kept = secret.secret[:length]
    text = f"{before} {secret.prefix}_{secret.code}_{secret.public_id}_{kept} {after}"
    assert kept not in key_secret.redact(text)


@pytest.mark.parametrize("text", ["nothing of that kind", "ka_prod_4kT9…Q7bN", "a_b_c", "ka_prod_4kT9wX2mQ7bN", ""])
def test_a_line_without_a_secret_stays_as_it_is(text):
    assert log_line(text) == f"ERROR {text}\n"


def test_an_error_report_shows_neither_the_request_s_key_nor_a_variable_s():
    secret = key_secret.make("ka", "prod")
    request = RequestFactory().post(f"/acme/keys/find?q={secret.text}", {"q": secret.text, "x": f"a {secret.text} b"})
    try:
        text, listed, mapped = secret.text, [secret.text], {"secret": secret.text}
        raise RuntimeError(f"{text} {listed} {mapped}")
    except RuntimeError:
        reporter = RedactedExceptionReporter(request, *sys.exc_info())
    for report in (reporter.get_traceback_html(), reporter.get_traceback_text()):
        assert secret.public_id in report
        for start in range(0, 43 - 12, 6):
            assert secret.secret[start : start + 12] not in report


# As JSON

JSON_WAYS = {
    "in the message": lambda text: log_json(f"The key {text} was sent."),
    "as a value": lambda text: log_json("The key %s was sent.", text),
    "in bytes": lambda text: log_json("The body was %r.", text.encode()),
    "in a traceback": lambda text: log_json("It failed.", error=raised(ValueError(f"no such key: {text}"))),
    "in a cause": lambda text: log_json("It failed.", error=raised(RuntimeError("x"), cause=KeyError(text))),
    "in an extra": lambda text: log_json("It failed.", credential=text),
    "in an extra's name": lambda text: log_json("It failed.", headers={text: 1}),
    "in a list in a mapping": lambda text: log_json("It failed.", headers={"X-Api-Key": [b"", f"Bearer {text}"]}),
    "in a set of tuples": lambda text: log_json("It failed.", pairs={(1, text)}),
    "in an object": lambda text: log_json("It failed.", error_kept=ValueError(text)),
    "in bytes as an extra": lambda text: log_json("It failed.", body=text.encode()),
    "after a line's end": lambda text: log_json(f"one\n{text}\ttwo"),
    "after another alphabet": lambda text: log_json(f"Schlüssel: é{text}é"),
}


@pytest.mark.parametrize("write", JSON_WAYS.values(), ids=JSON_WAYS)
def test_no_field_keeps_a_secret(write):
    secret = key_secret.make("ka", "prod")
    line = json.dumps(write(secret.text))
    assert f"ka_prod_{secret.public_id}_[redacted]" in line
    assert secret.secret[:12] not in line
    assert secret.secret[-12:] not in line


def test_a_record_is_one_object_with_its_fields_first():
    told = log_json("%s failed\nand again", "It", attempt=2, where={"host": "db"}, level="mine")
    assert list(told)[:4] == ["time", "level", "logger", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", told.pop("time"))
    assert told == {
        "level": "error",
        "logger": __name__,
        "event": "It failed\nand again",
        "attempt": 2,
        "where": {"host": "db"},
    }


def test_what_may_come_with_every_request_is_written_once_a_second_and_counted(monkeypatch):
    now = 50.0
    monkeypatch.setattr("apikeys.logs.time.monotonic", lambda: now)
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(ThinningFilter())
    handler.setFormatter(JSONFormatter())
    logger = logging.getLogger("thinned")
    logger.addHandler(handler)

    def told():
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        out.seek(0)
        out.truncate()
        assert all(line.keys() == {"time", "level", "logger", "event"} for line in lines)
        return [line["event"] for line in lines]

    for number in range(4):
        logger.error("It failed: %s%%", number, extra=MAY_REPEAT)
        logger.error("It is %s.", number)
    assert told() == ["It failed: 0%", "It is 0.", "It is 1.", "It is 2.", "It is 3."]
    now = 51.0
    for number in range(4, 6):
        logger.error("It failed: %s%%", number, extra=MAY_REPEAT)
    logger.error("Another: %s", 1, extra=MAY_REPEAT)
    assert told() == ["It failed: 4% (3 more like this since the last such line)", "Another: 1"]
    now = 52.5
    logger.error("It failed: %s%%", 6, extra=MAY_REPEAT)
    assert told() == ["It failed: 6% (1 more like this since the last such line)"]


def test_an_exception_and_a_stack_have_fields_of_their_own():
    told = log_json("It failed.", error=raised(ValueError("no")))
    assert told["event"] == "It failed."
    assert told["exception"].startswith("Traceback")
    assert told["exception"].endswith("ValueError: no")


def test_text_that_is_none_is_told_all_the_same():
    assert log_json("a \ud800 b")["event"] == "a \\ud800 b"


def test_an_error_of_the_verifier_names_the_request(verifier, committed, caplog):
    issued = make_key(committed)
    with away():
        assert verifier.verify(committed, issued.secret.text, X_Request_Id="4bf92f3577b34da6").status == 503
    [record] = [record for record in caplog.records if record.name == "apikeys.gateway"]
    told = json.loads(JSONFormatter().format(record))
    assert (told["level"], told["logger"], told["request_id"]) == ("error", "apikeys.gateway", "4bf92f3577b34da6")


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, 'a","level":"x', "café", "ka\n"])
def test_a_request_id_that_is_none_is_left_out(sent):
    token = request_id.set(sent)
    assert "request_id" not in log_json("It failed.")
    request_id.reset(token)


def test_the_next_request_has_its_own_id_or_none(verifier):
    verifier.call("GET", "/healthz", {"X-Request-Id": "one"})
    assert request_id.get() == "one"
    verifier.call("GET", "/healthz")
    assert request_id.get() == ""


@pytest.mark.parametrize(
    ("variables", "is_json"),
    [
        ({}, False),
        ({"LOG_FORMAT": "json"}, True),
        ({"LOG_FORMAT": "JSON"}, True),
        (PRODUCTION, True),
        (PRODUCTION | {"LOG_FORMAT": "line"}, False),
    ],
)
def test_production_logs_json_unless_told_otherwise(tmp_path, variables, is_json):
    program = "import django, logging; django.setup(); logging.getLogger('x').warning('hello')"
    environment = environment_with(tmp_path, variables) | {"DJANGO_SETTINGS_MODULE": "keyadmin.settings"}
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    if is_json:
        assert json.loads(ran.stderr)["event"] == "hello"
    else:
        assert ran.stderr.endswith(" WARNING x hello\n")


@pytest.mark.parametrize(
    "address",
    [
        "/handover/QcG30GCMpc4YdtSJB8Dun9M2zauIDAFgsOAOOayFOtg",
        "/accounts/login/?next=/handover/QcG30GCMpc4YdtSJB8Dun9M2zauIDAFgsOAOOayFOtg",
        "/accounts/login/?next=%2Fhandover%2FQcG30GCMpc4YdtSJB8Dun9M2zauIDAFgsOAOOayFOtg",
        "/invitation/QcG30GCMpc4YdtSJB8Dun9M2zauIDAFgsOAOOayFOtg",
        "/accounts/login/?next=%2Finvitation%2FQcG30GCMpc4YdtSJB8Dun9M2zauIDAFgsOAOOayFOtg",
        "/accounts/password/reset/key/3-d1v2xq-QcG30GCMpc4YdtSJB8Dun9M2zauIDAFg/",
    ],
)
def test_a_link_that_works_once_is_in_no_log(address):
    told = without_secrets(f"Forbidden: {address}")
    assert "QcG30GCMpc4" not in told
    assert told.startswith("Forbidden: /")
    assert "[redacted]" in told
