"""Who is in the demo: two organizations, six people, and what keys can be made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from apikeys.models import Role

PASSWORD: Final = "northwind-demo-1"  # noqa: S105 - the demo refuses to be seeded in production


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who signs in, and from where."""

    email: str
    name: str
    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class House:
    """An organization: its people's roles, its catalogue, and its own environments beside the usual three."""

    slug: str
    name: str
    key_prefix: str
    age_days: int
    roles: dict[str, Role]
    scopes: dict[str, str]
    environments: dict[str, str]
    max_key_age: int | None = None
    admin_scopes: tuple[str, ...] = ()


_FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
_CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)
_SAFARI = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/26.1 Safari/605.1.15"
)

MARA: Final = "mara@northwind.example"
TOMAS: Final = "tomas@northwind.example"
AIKO: Final = "aiko@northwind.example"
SAM: Final = "sam@northwind.example"
INGRID: Final = "ingrid@halden.example"
JONAS: Final = "jonas@halden.example"

PEOPLE: Final = (
    Person(MARA, "Mara Lindqvist", "203.0.113.40", _SAFARI),
    Person(TOMAS, "Tomás Ferreira", "203.0.113.41", _FIREFOX),
    Person(AIKO, "Aiko Tanaka", "203.0.113.42", _CHROME),
    Person(SAM, "Sam Okafor", "203.0.113.77", _CHROME),
    Person(INGRID, "Ingrid Solheim", "192.0.2.18", _SAFARI),
    Person(JONAS, "Jonas Brandt", "192.0.2.23", _FIREFOX),
)

NORTHWIND: Final = House(
    "northwind",
    "Northwind",
    "nw",
    1120,
    {MARA: Role.ADMIN, TOMAS: Role.OPERATOR, AIKO: Role.OPERATOR, SAM: Role.VIEWER},
    {
        "catalogue:read": "Read products, pictures and categories.",
        "customers:read": "Read customers' names and delivery addresses.",
        "inventory:read": "Read stock levels of every warehouse.",
        "inventory:write": "Book stock in, out and between warehouses.",
        "invoices:read": "Read invoices and credit notes.",
        "invoices:write": "Create invoices and credit notes.",
        "orders:read": "Read orders and their status.",
        "orders:write": "Place, change and cancel orders.",
        "prices:read": "Read price lists and discounts.",
        "prices:write": "Change price lists and discounts.",
        "reports:read": "Read sales and stock reports.",
        "returns:write": "Register returns and refunds.",
        "shipments:read": "Follow shipments and their labels.",
        "shipments:write": "Create shipments and print labels.",
    },
    {"sand": "partner sandbox"},
    730,
    ("prices:write",),
)
HALDEN: Final = House(
    "halden",
    "Halden Freight",
    "hf",
    640,
    {INGRID: Role.ADMIN, JONAS: Role.OPERATOR, MARA: Role.VIEWER},
    {
        "bookings:read": "Read bookings of freight space.",
        "bookings:write": "Book and cancel freight space.",
        "customs:write": "File customs declarations.",
        "depots:read": "Read what stands in each depot.",
        "rates:read": "Read freight rates.",
        "tracking:read": "Follow consignments.",
        "tracking:write": "Report where a consignment is.",
    },
    {},
)
HOUSES: Final = (NORTHWIND, HALDEN)

# What a request for a scope looks like; {} becomes a number.
REQUESTS: Final = {
    "catalogue:read": ("GET", "/v2/products/{}"),
    "customers:read": ("GET", "/v2/customers/{}"),
    "inventory:read": ("GET", "/v2/stock/{}"),
    "inventory:write": ("POST", "/v2/stock/movements"),
    "invoices:read": ("GET", "/v2/invoices/{}"),
    "invoices:write": ("POST", "/v2/invoices"),
    "orders:read": ("GET", "/v2/orders/{}"),
    "orders:write": ("POST", "/v2/orders"),
    "prices:read": ("GET", "/v2/prices"),
    "prices:write": ("PUT", "/v2/prices/{}"),
    "reports:read": ("GET", "/v2/reports/sales"),
    "returns:write": ("POST", "/v2/returns"),
    "shipments:read": ("GET", "/v2/shipments/{}"),
    "shipments:write": ("POST", "/v2/shipments"),
    "bookings:read": ("GET", "/bookings/{}"),
    "bookings:write": ("POST", "/bookings"),
    "customs:write": ("POST", "/customs/declarations"),
    "depots:read": ("GET", "/depots/{}/stock"),
    "rates:read": ("GET", "/rates"),
    "tracking:read": ("GET", "/consignments/{}"),
    "tracking:write": ("POST", "/consignments/{}/events"),
}
