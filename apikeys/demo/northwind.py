"""The keys of Northwind, a wholesaler with shops, warehouses and partners: some 400 of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from apikeys.demo.cast import AIKO, MARA, TOMAS
from apikeys.demo.northwind_names import (
    CARRIERS,
    CITIES,
    DATA,
    FINANCE,
    PARTNER_NAMES,
    PARTNERS,
    PLATFORM,
    SERVICES,
    SHOPS,
    SITES,
    WAREHOUSES,
)
from apikeys.demo.plans import HOME, STRANGERS, Attempts, Exemption, Plan, Revocation
from apikeys.demo.rotations import ROTATIONS
from apikeys.models import Outcome, RateLimit, RevocationReason


def plans(rng: random.Random) -> list[Plan]:
    """Return all of them, in no order."""
    found = [
        *_special(),
        *_now_and_then(),
        *_services(rng),
        *_warehouses(rng),
        *_shops(rng),
        *_partners(rng),
        *_carriers(rng),
        *_people(rng),
    ]
    rotated = [plan for rotation in ROTATIONS for plan in rotation.plans()]
    return [*found, *_predecessors(rng, found), *rotated]


def _special() -> Iterator[Plan]:
    """Yield the keys with a story."""
    search = Plan(
        "Storefront search",
        "Suggests products while people type. Kept in Vault under shop/storefront-search.",
        *(
            "prod",
            ("catalogue:read",),
            TOMAS,
            410,
            "shop",
            650,
            ("10.20.4.21", "10.20.4.22"),
            "storefront-search/3.8.0",
        ),
        created_by=TOMAS,
        quiet_since=5.6,
        revoked=Revocation(5.6, RevocationReason.LEAKED, "Found in a public code snippet.", MARA),
        attempts=(
            Attempts(Outcome.REVOKED, 75, 5.6, 0, "steady", STRANGERS, "python-requests/2.32.3"),
            Attempts(Outcome.REVOKED, 9, 4.9, 0, "hourly", STRANGERS[1:3], "curl/8.5.0"),
            Attempts(Outcome.VALID, 40, 6.4, 5.6, "shop", STRANGERS[:2], "python-requests/2.32.3", "catalogue:read"),
        ),
    )
    yield search
    yield replace(
        search,
        age=5.7,
        expires_in=359,
        quiet_since=0,
        revoked=None,
        attempts=(),
        replaces=search.label,
        created_by=MARA,
    )
    yield Plan(
        "Price feed v1",
        "Old price feed of the tills. Tills move to the price engine; ask shops-it before it is revoked.",
        *("prod", ("prices:read",), SHOPS, 1030, "hourly", 420, ("10.30.1.9",), "pricefeed/1.4.2 (perl)"),
        created_by=MARA,
        quiet_since=34,
        fades=True,
    )
    yield Plan(
        "Delivery slot lookup",
        "Offers delivery slots at the checkout. Kept in the shop's settings.",
        *("prod", ("shipments:read",), TOMAS, 260, "shop", 520, ("10.20.4.31", "10.20.4.32"), "checkout/5.2.0"),
        expires_in=105,
        limit=RateLimit(30, 60, 40),
        grows=True,
        attempts=(
            Attempts(Outcome.RATE_LIMITED, 190, 41, 0, "shop", ("10.20.4.31",), "checkout/5.2.0", "shipments:read"),
        ),
    )
    yield Plan(
        "Works council report",
        "Counts orders per shift for the works council. Stored on Sam's team drive.",
        *("prod", ("reports:read",), DATA, 140, "morning", 4, ("10.40.2.15",), "R/4.5.1 httr/1.4.7"),
        expires_in=40,
        attempts=(Attempts(Outcome.SCOPE_MISSING, 3, 30, 0, "morning", ("10.40.2.15",), "", "customers:read"),),
    )
    yield Plan(
        "Payroll commission export",
        "Sums up commissions for payroll. Works from the finance network only.",
        *("prod", ("invoices:read",), FINANCE, 320, "morning", 12, ("10.50.0.12",), "commission-export/2.0"),
        expires_in=45,
        networks=("10.50.0.0/24",),
        attempts=(Attempts(Outcome.NETWORK_DENIED, 2, 12, 0, "office", (HOME,), "curl/8.9.1", "invoices:read"),),
    )
    ends = ((0.8, "Trade fair tablets"), (4.6, "Black Friday load test"), (11.5, "Outlet stock feed"))
    for number, (days, name) in enumerate((*ends, (24.3, "Catalogue print run"), (49.2, "Christmas pop-up shop"))):
        yield Plan(
            name,
            "Made for a while, and to end by itself. Kept on the devices of the team that uses it.",
            *("prod", ("catalogue:read", "inventory:read"), AIKO, 60 + 7 * number, "shop", 55, (f"10.60.{number}.4",)),
            user_agent="okhttp/4.12.0",
            expires_in=days,
            created_by=AIKO,
        )
    yield Plan(
        "Order webhook relay",
        "Hands orders on to the shops' own systems. Kept in Vault under prod/order-relay.",
        *("prod", ("orders:read",), PLATFORM, 190, "steady", 260, ("10.20.4.61",), "order-relay/1.12.0"),
        expires_in=170,
        created_by=TOMAS,
        # It is asked again and again for the same orders.
        attempts=(Attempts(Outcome.VALID, 16_000, 0.13, 0.045, "hourly", ("10.20.4.61",), "order-relay/1.12.0"),),
    )
    yield Plan(
        "Loyalty points sync",
        "Books points of the tills to customers. Kept in the settings of the loyalty service.",
        *("prod", ("customers:read",), DATA, 240, "hourly", 480, ("10.20.4.71",), "loyalty-sync/4.0.2"),
        expires_in=200,
        created_by=AIKO,
        quiet_since=0.5,
    )
    for name, days in (("Advent calendar app", 11), ("Summer sale microsite", 74), ("Voucher campaign", 23)):
        yield Plan(
            name,
            "For one campaign; the agency keeps it in its deployment settings.",
            *(
                "prod",
                ("catalogue:read", "prices:read"),
                "studio@brightpixel.example",
                days + 120,
                "shop",
                60,
                ("192.0.2.71",),
            ),
            user_agent="axios/1.7.9",
            expires_in=-days,
            attempts=(Attempts(Outcome.EXPIRED, 14, days, 0, "shop", ("192.0.2.71",), "axios/1.7.9"),),
        )
    yield Plan(
        "Marketplace connector",
        "Lists products on marketplaces. Paused while the marketplace's bug is looked into.",
        *("prod", ("catalogue:read", "orders:write"), PARTNERS, 210, "hourly", 96, ("192.0.2.150",), "mp-connect/0.9"),
        expires_in=155,
        paused=2.4,
        quiet_since=2.4,
        attempts=(Attempts(Outcome.PAUSED, 96, 2.4, 0, "hourly", ("192.0.2.150",), "mp-connect/0.9"),),
    )


def _now_and_then() -> Iterator[Plan]:
    """Yield keys that are silent for long, each for another reason."""
    told = "Runs when a quarter is closed. Kept in the vault of the finance systems."
    for name, quiet, does in (
        ("VAT return", 97, "Files the VAT return"),
        ("Stocktake export", 118, "Exports stock levels for the stocktake"),
        ("Quarterly price audit", 160, "Compares prices with those of a year ago"),
    ):
        yield Plan(
            *(name, f"{does}. {told}", "prod", ("invoices:read", "inventory:read"), FINANCE, 600, "office"),
            per_day=40,
            addresses=("10.50.0.21",),
            user_agent="ledger-close/4.2",
            expires_in=220,
            created_by=MARA,
            quiet_since=quiet,
            every=91,
        )
    spare = "Stands by in the second data centre. Kept in its vault, sealed."
    for name, until in (("Standby order intake", 250), ("Standby till server", 20)):
        yield Plan(
            *(name, spare, "prod", ("orders:read", "orders:write"), TOMAS, 410),
            expires_in=300,
            created_by=MARA,
            exemption=Exemption(MARA, "Takes over when the first data centre fails; tried out once a year", until),
        )


def _services(rng: random.Random) -> Iterator[Plan]:
    for number, (name, does, scopes, owner, rhythm, per_day) in enumerate(SERVICES):
        slug = name.lower().replace(" ", "-")
        for environment, part in (("prod", 1.0), ("stag", 0.02), ("dev", 0.008)):
            if environment == "dev" and number % 3 == 2:
                continue
            third = {"prod": 20, "stag": 120, "dev": 220}[environment]
            plan = Plan(
                name,
                f"{does}. Kept in Vault under {environment}/{slug}.",
                environment,
                tuple(scopes.split()),
                owner,
                rng.uniform(30, 1080),
                rhythm if environment == "prod" else "office",
                0.75 * per_day * part + (2 if environment != "prod" else 0),
                tuple(f"10.{third}.{number}.{host}" for host in range(11, 12 + min(3, int(per_day * part) // 150))),
                f"{slug}/{rng.randint(1, 6)}.{rng.randint(0, 20)}.{rng.randint(0, 9)}",
                rng.choice([None, *(rng.uniform(62, 360) for _ in range(4))]),
                grows=number % 4 == 0,
            )
            if name in {"Order intake", "Mobile app backend"} and environment == "prod":
                wrong = Attempts(Outcome.UNKNOWN, 6, 3.5, 0, "steady", STRANGERS[3:], "Go-http-client/1.1")
                moved = Attempts(Outcome.VALID, 40, 0.7, 0, rhythm, (f"10.21.{number}.5",), "", plan.scopes[0])
                plan = replace(plan, attempts=(wrong, moved), limit=RateLimit(200, 1, 400))
            yield plan


def _warehouses(rng: random.Random) -> Iterator[Plan]:
    for number, site in enumerate(SITES):
        for gate in range(1, rng.randint(4, 6)):
            yield Plan(
                f"Scanner gateway {site} {gate}",
                f"Hand scanners of hall {gate} in {site} book goods in and out. On the gateway, in /etc/scanner.",
                *("prod", ("inventory:read", "inventory:write"), WAREHOUSES, rng.uniform(90, 900), "shift"),
                per_day=rng.uniform(12, 45),
                addresses=(f"10.{70 + number}.{gate}.2",),
                user_agent="scangate/7.1 (linux; arm)",
                expires_in=rng.choice([None, rng.uniform(65, 330)]),
                networks=(f"10.{70 + number}.0.0/16",),
                limit=RateLimit(20, 1, 60) if gate == 1 else None,
            )


def _shops(rng: random.Random) -> Iterator[Plan]:
    for number, city in enumerate(CITIES):
        yield Plan(
            f"Tills {city}",
            f"The tills in {city} read prices and book sales. On the till server, readable by its service alone.",
            *("prod", ("prices:read", "orders:write", "returns:write"), SHOPS, rng.uniform(40, 1060), "batches"),
            per_day=rng.uniform(6, 30),
            addresses=(f"10.{120 + number % 80}.{number}.10",),
            user_agent="tillserver/2026.9",
            expires_in=rng.choice([None, *(rng.uniform(70, 390) for _ in range(3))]),
            networks=(f"10.{120 + number % 80}.{number}.0/24",),
        )


def _partners(rng: random.Random) -> Iterator[Plan]:
    scopes = (("catalogue:read", "prices:read"), ("orders:read", "shipments:read"), ("inventory:read",))
    agents = ("Java/21.0.4", "GuzzleHttp/7", "python-requests/2.32.3", "axios/1.7.9", "Go-http-client/2.0")
    for number, partner in enumerate(PARTNER_NAMES):
        contact = f"it@{''.join(c for c in partner.lower() if c.isalnum())}.example"
        for environment in ("prod", "sand") if number % 4 else ("prod",):
            quiet = rng.choice([0, 0, 0, 0, 0, 0, rng.uniform(95, 420)])
            never = number % 13 == 5
            yield Plan(
                f"Partner feed {partner}",
                f"{partner} reads what it sells of ours{' in the sandbox' if environment == 'sand' else ''}. "
                "Handed over through the partner portal; they keep it.",
                *(environment, rng.choice(scopes), contact if number % 2 else PARTNERS),
                age=rng.uniform(100, 700) + quiet,
                rhythm=rng.choice(["hourly", "hourly", "office", "night", "steady"]),
                per_day=0 if never else rng.uniform(4, 40) * (1 if environment == "prod" else 0.3),
                addresses=(f"192.0.2.{number + 1}", f"192.0.2.{number + 101}")[: rng.randint(1, 2)],
                user_agent=rng.choice(agents),
                expires_in=rng.choice([None, None, rng.uniform(63, 300)]),
                limit=RateLimit(rng.choice([5, 10, 20]), 1, 40),
                quiet_since=quiet,
            )


# It shares a network of its two environments, and may for a while.
EXEMPT = f"Carrier {CARRIERS[0]}"


def _carriers(rng: random.Random) -> Iterator[Plan]:
    for number, carrier in enumerate(CARRIERS):
        for environment in ("prod", "stag"):
            yield Plan(
                f"Carrier {carrier}",
                f"{carrier} fetches shipments and reports where they are. They keep it in their own vault.",
                *(environment, ("shipments:read", "shipments:write"), PARTNERS, rng.uniform(120, 800), "steady"),
                per_day=rng.uniform(60, 140) if environment == "prod" else 3,
                addresses=(f"192.0.2.{200 + number}",),
                user_agent=f"{carrier.split()[0].lower()}-edi/3.{number}",
                expires_in=rng.uniform(70, 340),
                networks=("192.0.2.192/26",),
            )


def _people(rng: random.Random) -> Iterator[Plan]:
    """Yield what people made for themselves: used now and then, for a while, or never."""
    uses = ("local development", "Postman", "debugging the checkout", "load test", "hackathon", "notebook")
    revoked = Revocation(0, RevocationReason.UNUSED, "", "")
    for owner, name in ((TOMAS, "Tomás"), (AIKO, "Aiko"), (MARA, "Mara")):
        for number, use in enumerate(uses):
            age = rng.uniform(15, 640)
            quiet = rng.choice([0, age * rng.random(), age])
            ended = rng.random() < 0.35
            yield Plan(
                f"{name}, {use}",
                f"For {name}'s own machine ({use}); not for anything that customers see.",
                *("dev", ("catalogue:read", "orders:read"), owner, age, "office"),
                per_day=0 if quiet == age else 5,
                addresses=(f"203.0.113.{40 + number}",),
                user_agent=rng.choice(["PostmanRuntime/7.43.0", "curl/8.9.1", "HTTPie/3.2.4"]),
                expires_in=None if ended else rng.choice([None, rng.uniform(20, 170)]),
                created_by=owner,
                quiet_since=quiet,
                revoked=replace(revoked, days_ago=quiet * rng.uniform(0.2, 0.9), by=owner) if ended and quiet else None,
            )
    for number, service in enumerate(SERVICES[::2]):
        yield Plan(
            f"CI: {service[0].lower()} contract tests",
            "Runs against staging at every merge. Kept as a masked variable of the pipeline.",
            *("stag", tuple(service[2].split()), PLATFORM, rng.uniform(60, 700), "office"),
            per_day=rng.uniform(6, 24),
            addresses=tuple(f"10.200.0.{10 + (number + step) % 6}" for step in range(3)),
            user_agent="ci-runner/17.5",
            expires_in=rng.uniform(64, 300),
        )


def _predecessors(rng: random.Random, found: list[Plan]) -> Iterator[Plan]:
    """Yield keys that were rotated away by hand; a few clients never noticed."""
    candidates = [plan for plan in found if plan.age > 150 and plan.age < 800 and not plan.revoked and plan.per_day > 8]
    for number, plan in enumerate(rng.sample(candidates, 74)):
        old = plan.predecessor(
            plan.age - rng.uniform(2, 9), plan.age + rng.uniform(180, 365), rng.choice([TOMAS, AIKO])
        )
        if number < 4:
            tries = Attempts(Outcome.REVOKED, 5, 60, 0, plan.rhythm, plan.addresses[:1], plan.user_agent)
            old = replace(old, attempts=(tries,))
        yield old
