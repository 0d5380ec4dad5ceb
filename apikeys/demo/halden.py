"""The keys of Halden Freight, a small forwarder: some 40 of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

from apikeys.demo.cast import INGRID, JONAS
from apikeys.demo.plans import Plan, Revocation
from apikeys.models import RateLimit, RevocationReason

DISPATCH = "dispatch@halden.example"
DEPOTS = ("Halden", "Drammen", "Moss", "Karlstad", "Esbjerg", "Kiel")
SERVICES = (
    ("Track and trace", "Shows consignments on the web site", "tracking:read", JONAS, "steady", 160),
    (
        "Booking desk",
        "Books freight space for customers who call",
        "bookings:read bookings:write",
        DISPATCH,
        "office",
        70,
    ),
    ("Customs filing", "Files declarations before a lorry reaches the border", "customs:write", INGRID, "steady", 24),
    ("Rate calculator", "Quotes prices on the web site", "rates:read", JONAS, "office", 90),
    (
        "Driver app",
        "Reports pick-up and delivery from the lorries",
        "tracking:write tracking:read",
        DISPATCH,
        "shift",
        180,
    ),
    ("Invoice run", "Collects what was carried, for invoices", "bookings:read", INGRID, "night", 20),
    (
        "Northwind shipments",
        "Takes over consignments of Northwind",
        "bookings:write tracking:read",
        DISPATCH,
        "hourly",
        48,
    ),
)


def plans(rng: random.Random) -> list[Plan]:
    """Return all of them, in no order."""
    return [*_services(rng), *_depots(rng)]


def _services(rng: random.Random) -> Iterator[Plan]:
    for number, (name, does, scopes, owner, rhythm, per_day) in enumerate(SERVICES):
        slug = name.lower().replace(" ", "-")
        for environment in ("prod", "stag", "dev"):
            production = environment == "prod"
            yield Plan(
                name,
                f"{does}. Kept in the settings of {slug}.",
                *(environment, tuple(scopes.split()), owner, rng.uniform(60, 620), rhythm if production else "office"),
                per_day=per_day if production else rng.choice([0, 3]),
                addresses=(f"172.20.{number}.{10 if production else 30}",),
                user_agent=f"{slug}/{rng.randint(1, 3)}.{rng.randint(0, 9)}",
                expires_in=rng.choice([None, rng.uniform(8, 55), rng.uniform(65, 330)]),
                limit=RateLimit(10, 1, 20) if number % 3 == 0 and production else None,
            )


def _depots(rng: random.Random) -> Iterator[Plan]:
    for number, depot in enumerate(DEPOTS):
        for kind, scopes, per_day in (("gate", "tracking:write", 30), ("stock screen", "depots:read", 48)):
            yield Plan(
                f"Depot {depot} {kind}",
                f"The {kind} in {depot}. On the depot's computer.",
                *("prod", (scopes,), DISPATCH, rng.uniform(60, 630), "shift" if kind == "gate" else "hourly"),
                per_day=per_day,
                addresses=(f"172.21.{number}.5",),
                user_agent="depotbox/1.9",
                networks=(f"172.21.{number}.0/24",),
                expires_in=rng.uniform(64, 330),
            )
        age, ended = rng.uniform(300, 630), rng.uniform(20, 200)
        yield Plan(
            f"Depot {depot} old terminal",
            "The terminal from before the depot boxes.",
            *("prod", ("depots:read",), DISPATCH, age, "shift"),
            addresses=(f"172.21.{number}.9",),
            quiet_since=ended + 1,
            revoked=Revocation(ended, RevocationReason.UNUSED, "Terminal scrapped.", JONAS),
        )
