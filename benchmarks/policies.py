#!/usr/bin/env python
"""What do a policy, step-up and entries of readings cost a request of the dashboard?

Starts a PostgreSQL of its own, makes an organization with many keys, and times, in turns, the whole request that issues
a key: as it is; without the question of step-up; with a password because the last proof is old; with every rule of a
policy; and with every rule but "separate keys per environment". Then the page Members, with and without the entry that
somebody has read it, and counting and listing the keys that violate a policy. Prints medians and ratios, and the same
as JSON last.

    python benchmarks/policies.py --keys 100000 --runs 40
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.grown.worker_process import collect_static  # noqa: E402
from tests.postgresql import PostgreSQL  # noqa: E402

PASSWORD = "a pass phrase of the benchmark"  # noqa: S105 - of nobody
# Every tenth key has a network of its own, one in a thousand one that another environment has too.
NETWORKS = """
UPDATE apikeys_apikey SET networks = jsonb_build_array(
    '10.' || id % 200 || '.' || (id / 200) % 250 || CASE id % 1000 WHEN 0 THEN '.0/24' ELSE '.' || id % 250 || '/32' END
) WHERE id % 10 = 0
"""


def prepare(server: PostgreSQL, keys: int) -> Any:
    """Make the tables and the keys, and return the organization."""
    os.environ["DATABASE_URL"] = server.make_database("benchmark")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyadmin.settings")
    os.environ["DEBUG"] = "false"
    import django  # noqa: PLC0415 - the settings read the environment
    from django.core.management import call_command  # noqa: PLC0415

    django.setup()
    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)
    from django.db import connection, transaction  # noqa: PLC0415

    from apikeys.models import ApiKey, KeyNetwork, Organization  # noqa: PLC0415

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute((ROOT / "benchmarks/grown/data.sql").read_text(), {"keys": keys})
        cursor.execute(NETWORKS)
        KeyNetwork.objects.index(ApiKey.objects.exclude(networks=[]))
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    return Organization.objects.get(slug="grown")


def median(action: Callable[[], object], runs: int) -> float:
    """Return the median of an action's time, in milliseconds."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        action()
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=40)
    options = parser.parse_args()
    collect_static()
    server = PostgreSQL(durable=True)
    try:
        measure(prepare(server, options.keys), options)
    finally:
        server.stop()


def measure(organization: Any, options: argparse.Namespace) -> None:
    """Time everything and print it."""
    from django.test import Client  # noqa: PLC0415
    from django.utils import timezone  # noqa: PLC0415

    from apikeys.models import Actor, Policy, PolicyTerms, Role  # noqa: PLC0415

    admin = organization.members.filter(role=Role.ADMIN).first() or organization.members.first()
    admin.role = Role.ADMIN
    admin.save(update_fields=["role"])
    admin.user.set_password(PASSWORD)
    admin.user.save()
    client = Client(SERVER_NAME="localhost")
    client.force_login(admin.user)
    scopes = list(organization.scopes.all())
    rules = {
        "max_lifetime": 365,
        "expiry_required": True,
        "least_purpose": 10,
        "owner_required": True,
        "admin_scopes": tuple(scopes[:1]),
        "networks_required": True,
        "max_rate": (100, 1),
    }
    cases = {
        "no policy": PolicyTerms(),
        "no step-up": PolicyTerms(),
        "with a password": PolicyTerms(),
        "every rule but one": PolicyTerms(**rules),
        "every rule": PolicyTerms(**rules, environments_apart=True),
    }
    address = f"/{organization.slug}/keys/new"

    def issue(case: str) -> None:
        form = {"name": "checkout", "purpose": "Takes payments in the shop", "environment": "prod", "expires": "90"}
        form |= {"owner": admin.pk, "scopes": [scopes[0].name], "networks": "203.0.113.0/24", "rate_period": 1}
        form |= {"rate_limit": 50, "token": str(uuid.uuid4())}
        if case == "with a password":
            form["proof_password"] = PASSWORD
        response = client.post(address, form)
        if response.status_code != HTTPStatus.OK or "The key" not in response.text:
            raise RuntimeError(response.text[-3000:])

    found: dict[str, list[float]] = {name: [] for name in cases}
    issue("no policy")
    for _ in range(options.runs):
        for name, terms in cases.items():
            Policy.objects.of(organization).edit(terms, by=Actor.command())
            if name == "with a password":
                forget_proof(client)
            with unasked() if name == "no step-up" else nullcontext():
                found[name].append(median(partial(issue, name), 1))
    medians = {name: statistics.median(times) for name, times in found.items()}
    told: dict[str, float] = {}
    for name, value in medians.items():
        told[name] = round(value, 1)
        print(f"issuing a key, {name:20} {value:7.1f} ms  {value / medians['no policy']:.2f} times")
    told |= measure_reading(client, f"/{organization.slug}/members/", options.runs)
    organization.refresh_from_db()
    terms, now, keys = Policy.objects.of(organization).full_terms(), timezone.now(), organization.keys
    told["count"] = round(median(lambda: keys.count_violations(terms, organization, now), 5), 1)
    print(f"counting the violations of {keys.count():,} keys, every rule: {told['count']:.0f} ms")
    for rule in ("violating", "networks", "separation", "rate"):
        told[rule] = round(median(lambda: client.get(f"/{organization.slug}/keys/?policy={rule}"), 5), 1)  # noqa: B023
        print(f"the key list, policy={rule}: {told[rule]:.0f} ms")
    told["list"] = round(median(lambda: client.get(f"/{organization.slug}/keys/"), 5), 1)
    print(f"the key list without a filter: {told['list']:.0f} ms")
    print(json.dumps(told))


@contextmanager
def unasked() -> Iterator[None]:
    """Let every form pass without looking for a proof."""
    from apikeys.views import proving  # noqa: PLC0415

    asks = proving.is_proven
    proving.is_proven = lambda request: True  # noqa: ARG005
    try:
        yield
    finally:
        proving.is_proven = asks


def forget_proof(client: Any) -> None:
    """Make the last proof of who is signed in one of long ago, and forget how many were given."""
    from django.core.cache import cache  # noqa: PLC0415

    session = client.session
    session["proven_at"] = 0
    session.save()
    cache.clear()


def measure_reading(client: Any, address: str, runs: int) -> dict[str, float]:
    """Time a page whose reading is an entry of the audit log, the first time in an hour and later."""
    from django.core.cache import caches  # noqa: PLC0415

    found: dict[str, list[float]] = {"first": [], "later": []}
    for _ in range(runs):
        caches["process"].clear()
        for times in found.values():
            times.append(median(lambda: client.get(address).content, 1))
    first, later = (statistics.median(times) for times in found.values())
    print(f"the page Members, again              {later:7.1f} ms  1.00 times")
    print(f"first in an hour, with its entry     {first:7.1f} ms  {first / later:.2f} times")
    return {"members": round(later, 1), "members, first": round(first, 1)}


if __name__ == "__main__":
    main()
