"""What /metrics tells, to whom, and that several processes add up."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings as django_settings
from django.db import connection
from prometheus_client.parser import text_string_to_metric_families

from apikeys import metrics
from apikeys.models import Outcome, UsageEvent
from keyadmin.environment import networks
from tests.factories import make_key, make_revoked_key
from tests.outage import away
from tests.serving import served, wait_until

TOKEN = "t0ken-of-the-monitoring"


def read(answer) -> dict[str, float]:
    """Return each number by its name and labels, as Prometheus itself reads them."""
    assert answer.status == 200, answer.body
    return {
        sample.name + str(sorted(sample.labels.items()) if sample.labels else ""): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def counted(outcome: str, face: str) -> str:
    return f"keyadmin_verifications_total{[('face', face), ('outcome', outcome)]}"


def grown(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return what has changed of the server's own counters."""
    return {
        name: value - before.get(name, 0)
        for name, value in after.items()
        if name.startswith("keyadmin_") and "_seconds" not in name and value != before.get(name)
    }


# What is told


def test_each_outcome_is_counted_by_face(organization, verifier):
    issued, revoked = make_key(organization), make_revoked_key(organization)
    before = read(verifier.call("GET", "/metrics"))
    verifier.verify(organization, issued.secret.text)
    verifier.authorize(organization, issued.secret.text)
    verifier.authorize(organization, issued.secret.text, scope="orders:write")
    verifier.authorize(organization, revoked.secret.text)
    verifier.authorize(organization, "noise")
    verifier.authorize(organization)
    assert grown(before, read(verifier.call("GET", "/metrics"))) == {
        counted("valid", "verify"): 1,
        counted("valid", "authorize"): 1,
        counted("scope_missing", "authorize"): 1,
        counted("revoked", "authorize"): 1,
        counted("malformed", "authorize"): 2,
        "keyadmin_events_written_total": 4,
    }


def test_the_events_told_are_those_in_the_database(organization, verifier):
    issued = make_key(organization, rate_limit=(1, 3600, 2))
    before = read(verifier.call("GET", "/metrics"))
    for _ in range(5):
        verifier.authorize(organization, issued.secret.text)
    written = grown(before, read(verifier.call("GET", "/metrics")))["keyadmin_events_written_total"]
    assert written == UsageEvent.objects.filter(key_id=issued.key.pk).count() == 5


def test_each_verification_is_timed(organization, verifier):
    issued = make_key(organization)
    name = f"keyadmin_verification_seconds_count{[('face', 'authorize')]}"
    before = read(verifier.call("GET", "/metrics"))
    verifier.authorize(organization, issued.secret.text)
    after = read(verifier.call("GET", "/metrics"))
    assert after[name] - before[name] == 1
    total = name.replace("_count", "_sum")
    assert 0 < after[total] - before[total] < 5


def test_a_failure_of_the_database_is_counted(committed, verifier):
    issued = make_key(committed)
    before = read(verifier.call("GET", "/metrics"))
    with away():
        assert verifier.authorize(committed, issued.secret.text).status == 503
    assert grown(before, read(verifier.call("GET", "/metrics"))) == {
        counted("unavailable", "authorize"): 1,
        f"keyadmin_database_errors_total{[('where', 'verifier')]}": 1,
    }


def test_a_page_that_fails_for_the_database_is_counted(committed, verifier, client_of):
    client = client_of(committed.members.get())
    client.raise_request_exception = False
    before = read(verifier.call("GET", "/metrics"))
    with connection.execute_wrapper(_fails):
        assert client.get(f"/{committed.slug}/keys/").status_code in {500, 503}
    failed = f"keyadmin_database_errors_total{[('where', 'dashboard')]}"
    assert grown(before, read(verifier.call("GET", "/metrics"))) == {failed: 1}


def _fails(execute, sql, *rest):
    return execute("SELECT nothing FROM nowhere", [], *rest[1:])


def test_labels_are_few_and_name_no_organization_and_no_key(organization, verifier):
    issued = make_key(organization)
    for slug in ("acme", "elsewhere", "nowhere-at-all"):
        verifier.authorize(slug, issued.secret.text)
        verifier.verify(slug, "noise")
    text = verifier.call("GET", "/metrics").body.decode()
    assert issued.key.public_id not in text
    assert "acme" not in text
    labels = {name: set(re.findall(rf'{name}="([^"]*)"', text)) for name in ("outcome", "face", "where")}
    assert labels == {
        "outcome": {*Outcome.values, "unavailable"},
        "face": {"verify", "authorize"},
        "where": {"verifier", "dashboard", "readiness"},
    }
    assert set(re.findall(r'[{,](\w+)="', text)) == {*labels, "le", "pid"}


def test_every_outcome_is_there_from_the_start(verifier):
    numbers = read(verifier.call("GET", "/metrics"))
    for outcome in (*Outcome.values, "unavailable"):
        for face in ("verify", "authorize"):
            assert counted(outcome, face) in numbers


# To whom

PUBLIC = "203.0.113.9"
READERS = {
    "the machine itself": ("127.0.0.1", {}, True),
    "the machine itself by IPv6": ("::1", {}, True),
    "anybody": (PUBLIC, {}, False),
    "a neighbour": ("10.0.0.7", {}, False),
    "nobody knows who, by a Unix socket": ("", {}, False),
    "anybody through a trusted proxy": ("127.0.0.1", {"X-Forwarded-For": PUBLIC}, False),
    "who says to be the machine, through a trusted proxy": (
        "127.0.0.1",
        {"X-Forwarded-For": f"127.0.0.1, {PUBLIC}"},
        False,
    ),
    "the machine through its proxy": ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, True),
    "who says to be the machine": (PUBLIC, {"X-Forwarded-For": "127.0.0.1"}, False),
    "through a proxy that does not say for whom": ("127.0.0.1", {"X-Forwarded-Proto": "https"}, False),
    "through a proxy with a header of its own": ("127.0.0.1", {"X-Real-IP": PUBLIC}, False),
    "through a proxy that names itself": ("127.0.0.1", {"Via": "1.1 varnish"}, False),
    "through a proxy with the standard's header": ("127.0.0.1", {"Forwarded": f"for={PUBLIC}"}, False),
    "an unreadable client": ("127.0.0.1", {"X-Forwarded-For": "café"}, False),
}


@pytest.mark.parametrize(("peer", "headers", "allowed"), READERS.values(), ids=READERS)
def test_who_may_read(verifier, peer, headers, allowed):
    answer = verifier.call("GET", "/metrics", headers, peer=peer)
    assert answer.status == (200 if allowed else 404)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via"])
def test_behind_a_proxy_that_is_not_trusted_nobody_reads(verifier, settings, header):
    # As in production until TRUSTED_PROXIES is set: the proxy on the same machine must not count as a reader.
    settings.TRUSTED_PROXIES = []
    assert verifier.call("GET", "/metrics", {header: "127.0.0.1"}).status == 404
    assert verifier.call("GET", "/metrics").status == 200


def test_a_refusal_is_the_404_of_any_unknown_path(verifier):
    refused, unknown = verifier.call("GET", "/metrics", peer=PUBLIC), verifier.call("GET", "/v1/nothing")
    told = {name.lower(): value for name, value in refused.headers.items()}
    assert (refused.status, told, refused.body) == (404, dict(unknown.headers.items()), unknown.body)


def test_other_networks_can_be_allowed(verifier, settings):
    settings.METRICS_ALLOWED = [*networks("NOT_SET", "10.0.0.0/8")]
    assert verifier.call("GET", "/metrics", peer="10.0.0.7").status == 200
    assert verifier.call("GET", "/metrics", {"X-Forwarded-For": "10.0.0.7"}).status == 200
    assert verifier.call("GET", "/metrics").status == 404


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        ("", 404),
        (TOKEN, 404),
        (f"Bearer {TOKEN}x", 404),
        (f"Bearer {TOKEN[:-1]}", 404),
        ("Bearer ", 404),
        ("Bearer é", 404),
    ],
)
def test_a_token_is_needed_where_one_is_set(verifier, settings, sent, status):
    settings.METRICS_TOKEN = TOKEN
    assert verifier.call("GET", "/metrics", {"Authorization": sent} if sent else {}).status == status
    assert verifier.call("GET", "/metrics", {"Authorization": sent}, peer=PUBLIC).status == 404


def test_what_is_told_is_text_that_nobody_keeps(verifier):
    answer = verifier.call("GET", "/metrics", {"Host": "10.9.8.7"})
    assert answer.headers["Content-Type"] == metrics.CONTENT_TYPE
    assert answer.headers["Cache-Control"] == "no-store"
    assert verifier.call("HEAD", "/metrics").body == b""


# Several processes


def test_workers_add_up_and_a_server_before_leaves_nothing(committed, tmp_path):
    issued = make_key(committed)
    folder = tmp_path / "metrics"
    for _ in range(2):
        with served(workers=2, threads=2, PROMETHEUS_MULTIPROC_DIR=str(folder)) as server:
            ask_both_workers(server, committed, issued.secret.text, folder)
            numbers = read(server.call("GET", "/metrics"))
            assert [path.name for path in folder.iterdir()] == [str(server.process.pid)]
            assert numbers[counted("valid", "authorize")] == numbers["keyadmin_events_written_total"] == 60
            workers = server.workers()
            assert len(workers) == 2
            for worker in workers:
                assert numbers[f"process_resident_memory_bytes{[('pid', str(worker))]}"] > 10_000_000
            # Whichever worker is asked.
            for _ in range(6):
                assert read(server.call("GET", "/metrics"))[counted("valid", "authorize")] == 60


def ask_both_workers(server, organization, key, folder):
    wait_until(lambda: len(list(folder.glob(f"{server.process.pid}/counter_*.db"))) == 2)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.authorize(organization, key).status, range(60)))
    assert answers == [200] * 60


def test_one_process_needs_no_folder():
    assert django_settings.PROMETHEUS_MULTIPROC_DIR == ""
    assert b"process_resident_memory_bytes" in metrics.render()
