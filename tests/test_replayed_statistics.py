"""A replayed access log: every statistic is exactly what a pipeline of awk, sort and uniq finds in the log."""

import json
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import transaction
from django.db.models import F
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from apikeys.models import ApiKey, IssuedKey, Organization, Role, UsageEvent, UsageHour, UsageWatermark
from apikeys.models.series import floor_hour
from apikeys.models.usage import HOUR
from tests.factories import make_apart, make_expired_key, make_key, make_member, make_revoked_key
from tests.pages import url
from tests.serving import served
from tests.test_replay import line, replay

BURST = 7
SCOPES = "POST /v2/orders orders:write\n* /v2/ orders:read\n"
# A line of the log becomes: key, outcome, address, method, path, user agent, scope. Each client keeps its key, and
# what the keys are is said below, in log(): open, revoked, expired, limited, of one network.
FACTS = r"""
{
    split($1, client, " ")
    if (split($2, request, " ") < 2) next
    address = client[1]; method = request[1]; path = request[2]
    if (!(address in key)) key[address] = clients++ % 5
    scope = ""
    if (method == "POST" && index(path, "/v2/orders") == 1) scope = "orders:write"
    else if (index(path, "/v2/") == 1) scope = "orders:read"
    sub(/\?.*/, "", path)
    outcome = "valid"
    if (key[address] == 0 && scope == "orders:write") outcome = "scope_missing"
    if (key[address] == 1) outcome = "revoked"
    if (key[address] == 2) outcome = "expired"
    if (key[address] == 3 && ++taken > BURST) outcome = "rate_limited"
    if (key[address] == 4 && address !~ /^198\.51\.100\./) outcome = "network_denied"
    print key[address], outcome, address, method, path, $6, scope
}
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of some clients, with lines that are no requests among them."""
    folder = tmp_path_factory.mktemp("log")
    chance = random.Random(4)  # noqa: S311 - it makes a log, no secrets
    clients = [f"198.51.100.{number}" for number in range(9)] + [f"203.0.113.{number}" for number in range(9)]
    clients += ["2001:db8::3", "2001:db8:1::4"]
    chance.shuffle(clients)
    agents = ["curl/8.5.0", "Mozilla/5.0 (X11; Linux)", "orders-report/2.1"]
    targets = [f"/v2/orders/{number}?page={number}" for number in range(6)] + ["/v2/prices", "/healthz", "/"]
    lines = []
    for number in range(400):
        client = chance.choices(clients, range(1, len(clients) + 1))[0].encode()
        request = f"{chance.choice(['GET', 'GET', 'POST'])} {chance.choice(targets)} HTTP/1.1".encode()
        lines.append(line(client, number % 60, request, chance.choice(agents).encode()))
        if number % 50 == 0:
            lines.append(line(client, number % 60, b"-"))
    (folder / "access.log").write_bytes(b"".join(lines))
    (folder / "facts.awk").write_text(FACTS)
    (folder / "scopes").write_text(SCOPES)
    return folder / "access.log"


@pytest.fixture(scope="module")
def told(log: Path) -> Callable[[str], Counter[str]]:
    """Return what a pipeline over the log's facts counts, by what it counts."""

    def count(pipeline: str) -> Counter[str]:
        facts = f"awk -F'\"' -v OFS='\\t' -v BURST={BURST} -f {log.parent}/facts.awk {log}"
        ran = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{facts} | {pipeline} | LC_ALL=C sort | uniq -c"],
            check=True,
            capture_output=True,
            text=True,
        )
        counted = (row.lstrip().partition(" ") for row in ran.stdout.splitlines())
        return Counter({what: int(number) for number, _, what in counted})

    return count


@pytest.fixture(scope="module")
def committed(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Organization]:
    """As that of all tests; of this module, whose tests look at one replay."""
    with django_db_blocker.unblock():
        yield make_apart("replayed")


@pytest.fixture(scope="module")
def keys(committed: Organization, log: Path) -> list[IssuedKey]:
    """Keys of an organization with which the log has been replayed."""
    member = make_member(committed, Role.OPERATOR)
    both = ["orders:read", "orders:write"]
    keys = [
        make_key(committed, "open", scopes=["orders:read"], owner=member),
        make_revoked_key(committed, "revoked"),
        make_expired_key(committed, "expired", owner_contact="shop@example.com"),
        make_key(committed, "limited", scopes=both, rate_limit=(1, 3600, BURST), environment="dev"),
        make_key(committed, "of a network", scopes=both, networks=["198.51.100.0/24"], owner=member),
    ]
    texts = ",".join(issued.secret.text for issued in keys)
    with served() as server:
        ran = replay(
            f"http://127.0.0.1:{server.port}",
            *(log, committed.slug, texts),
            *("--scope-map", str(log.parent / "scopes"), "--concurrency", "1"),
        )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["malformed"] == 8
    return keys


@pytest.fixture
def client(committed: Organization) -> Client:
    client = Client()
    client.force_login(committed.members.get(role=Role.ADMIN).user)
    return client


@pytest.fixture(scope="module", params=["as it comes", "rolled up"])
def moment(request: pytest.FixtureRequest, keys: list[IssuedKey]) -> None:
    """Look at the figures while their hour runs, and when it is three hours ago and rolled up."""
    if request.param == "rolled up":
        events = UsageEvent.objects.filter(key_id__in=[issued.key.pk for issued in keys])
        events.update(at=F("at") - 3 * HOUR)
        hour = floor_hour(timezone.now()) - 5 * HOUR
        with transaction.atomic():
            mark = UsageWatermark.locked()
            mark.move(min(mark.until or hour, hour))
        assert list(UsageHour.objects.roll_up())
        assert UsageHour.objects.filter(key_id=keys[0].key.pk).exists()


@pytest.mark.usefixtures("moment")
def test_every_figure_of_the_organization_is_that_of_the_log(committed, client, keys, told):
    for page in ("usage", "overview"):
        context = client.get(url(page, committed)).context
        assert context["series"].by_outcome == told("cut -f2"), page
        assert context["series"].total == sum(told("cut -f1").values())
    context = client.get(url("usage", committed)).context

    def ranked(name: str) -> Counter[str]:
        numbers = {issued.key.pk: str(place) for place, issued in enumerate(keys)}
        return Counter({numbers[one.key.pk]: one.number for one in context["rankings"][name].rows})

    assert ranked("busiest") == told("cut -f1")
    assert ranked("tried") == told("grep -P '\\t(revoked|expired)\\t' | cut -f1")
    assert ranked("refused") == told("grep -P '\\t(scope_missing|rate_limited|network_denied)\\t' | cut -f1")
    assert ranked("guessed") == Counter()
    environments = told(
        """awk -F'\\t' '{print ($1 == 3 ? "dev" : "prod"), ($2 == "valid" ? "accepted" : "refused")}'"""
    )
    assert _parts(context["environments"]) == environments
    owners = told(
        """awk -F'\\t' '{
            who = $1 == 0 || $1 == 4 ? "OWNER" : $1 == 2 ? "shop@example.com" : "team@example.com"
            print who, ($2 == "valid" ? "accepted" : "refused")
        }'""".replace("OWNER", keys[0].key.owner.user.email)
    )
    assert _parts(context["owners"]) == owners
    for table, parts in (("environments", environments), ("owners", owners)):
        rows = _exported(client, url("usage_export", committed, table, "json"))
        found = {f"{next(iter(row.values()))} {side}": row[side] for row in rows for side in ("accepted", "refused")}
        assert Counter({what: number for what, number in found.items() if number}) == parts
    steps = _exported(client, url("usage_export", committed, "outcomes", "json", range="24h"))
    assert {name: sum(row[name] for row in steps) for name in told("cut -f2")} == told("cut -f2")


def _parts(parts) -> Counter[str]:
    found = Counter({f"{one.code} accepted": one.accepted for one in parts})
    return +(found + Counter({f"{one.code} refused": one.refused for one in parts}))


@pytest.mark.usefixtures("moment")
def test_every_figure_of_the_key_list_is_that_of_the_log(committed, client, keys, told):
    listed = {key.pk: key for key in client.get(url("key_list", committed)).context["keys"]}
    for place, issued in enumerate(keys):
        key = listed[issued.key.pk]
        assert sum(key.sparkline) == told("cut -f1")[str(place)]
        if key.is_dead:
            assert key.attempts_since == told("cut -f1")[str(place)]


@pytest.mark.usefixtures("moment")
def test_every_figure_of_each_key_is_that_of_the_log(committed, client, keys, told):
    for place, issued in enumerate(keys):
        _check_key(committed, client, issued.key, told, place)


def _check_key(
    committed: Organization, client: Client, key: ApiKey, told: Callable[[str], Counter[str]], place: int
) -> None:
    mine = f"grep -P '^{place}\\t'"
    context = client.get(key.get_absolute_url()).context
    assert context["series"].by_outcome == told(f"{mine} | cut -f2")
    assert sum(map(sum, context["week"])) == told(f"{mine} | cut -f2")["valid"]
    if key.is_dead:
        assert context["retired_attempts"] == told("cut -f1")[str(place)]
    if not key.revoked_at:
        evidence = client.get(url("key_revoke", committed, key.public_id)).context["evidence"]
        assert evidence.recent.day == evidence.recent.week == told(f"{mine} | cut -f2")["valid"]

    def export(table: str, **query: str) -> list[dict[str, object]]:
        return _exported(client, url("key_usage_export", committed, key.public_id, table, "json", **query))

    def sides(rows: list[dict[str, object]], *names: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for row in rows:
            what = "\t".join(str(row[name]) for name in names)
            found += Counter({f"{what}\t{side}": row[side] for side in ("accepted", "refused")})
        return found

    side = """awk -F'\\t' -v OFS='\\t' '{print %s, ($2 == "valid" ? "accepted" : "refused")}'"""
    callers = told(f"{mine} | {side % '$3, $6'}")
    assert sides(export("callers"), "address", "user_agent") == callers
    assert sides(export("callers", callers="agent"), "agent") == told(f"{mine} | {side % '$6'}")
    network = r"sed -E 's/^([0-9]+\.[0-9]+\.[0-9]+)\.[0-9]+/\1.0\/24/; s/^(.*::)[0-9]+/\1\/64/'"
    assert sides(export("callers", callers="network"), "network") == told(f"{mine} | {side % '$3'} | {network}")
    assert sides(export("endpoints"), "method", "path") == told(f"{mine} | {side % '$4, $5'}")
    scopes = told(f"{mine} | awk -F'\\t' '$7' | {side % '$7'}")
    assert sides(export("scopes"), "scope") == scopes
    assert context["scopes"].unscoped == sum(told(f"{mine} | awk -F'\\t' '!$7'").values())
    if key.ended_at and UsageEvent.objects.of(key).earliest("at").at > key.ended_at:
        assert sides(export("tries"), "address", "user_agent") == callers
    fields = ("outcome", "address", "method", "path", "user_agent", "scope")
    requests = Counter("\t".join(str(row[name]) for name in fields) for row in export("requests"))
    assert requests == told(f"{mine} | cut -f2-")
    steps = export("outcomes", range="24h")
    assert sum(row["total"] for row in steps) == told("cut -f1")[str(place)]


def _exported(client: Client, address: str) -> list[dict[str, object]]:
    response = client.get(address)
    assert response.status_code == 200
    found: list[dict[str, object]] = json.loads(b"".join(response.streaming_content))
    return found
