"""What Northwind is made of: its services, its places, and whom it works with."""

from __future__ import annotations

from typing import Final

from apikeys.demo.cast import AIKO, MARA, TOMAS

PLATFORM = "platform@northwind.example"
SHOPS = "shops-it@northwind.example"
WAREHOUSES = "warehouse-it@northwind.example"
PARTNERS = "partners@northwind.example"
DATA = "data-team@northwind.example"
FINANCE = "finance-systems@northwind.example"

# name, what it does, scopes, owner, rhythm, requests a day in production
SERVICES: Final = (
    ("Order intake", "Takes orders from the web shop", "orders:write customers:read", TOMAS, "shop", 900),
    (
        "Storefront catalogue",
        "Shows products and prices in the web shop",
        "catalogue:read prices:read",
        TOMAS,
        "shop",
        1500,
    ),
    ("Storefront basket", "Checks stock while a basket is filled", "inventory:read prices:read", TOMAS, "shop", 700),
    (
        "Customer account pages",
        "Shows people their orders and invoices",
        "orders:read invoices:read",
        TOMAS,
        "shop",
        320,
    ),
    (
        "Mobile app backend",
        "Serves the iOS and Android apps",
        "catalogue:read orders:read orders:write",
        AIKO,
        "shop",
        800,
    ),
    ("Order book", "Keeps the state of every order", "orders:read orders:write", AIKO, "steady", 480),
    (
        "Warehouse sync",
        "Brings stock levels from the warehouses",
        "inventory:read inventory:write",
        WAREHOUSES,
        "steady",
        420,
    ),
    ("Label printing", "Prints shipment labels at the packing tables", "shipments:write", WAREHOUSES, "shift", 350),
    ("Returns desk", "Registers what comes back", "returns:write orders:read", WAREHOUSES, "shift", 90),
    (
        "Parcel tracking mails",
        "Mails people when a parcel moves",
        "shipments:read customers:read",
        PLATFORM,
        "steady",
        220,
    ),
    ("Price engine", "Computes tomorrow's prices", "prices:read prices:write", AIKO, "night", 160),
    ("Billing run", "Writes invoices for the day's shipments", "invoices:write shipments:read", FINANCE, "night", 240),
    ("Dunning letters", "Finds invoices that are overdue", "invoices:read customers:read", FINANCE, "morning", 25),
    ("Ledger export", "Hands invoices to the accounting system", "invoices:read", FINANCE, "night", 40),
    ("Bank matching", "Matches payments with invoices", "invoices:read invoices:write", FINANCE, "hourly", 48),
    ("Tax report", "Collects sales for the monthly tax report", "reports:read", FINANCE, "morning", 3),
    (
        "Data warehouse load",
        "Copies orders and stock to the data warehouse",
        "orders:read inventory:read",
        DATA,
        "night",
        280,
    ),
    ("Sales forecast", "Trains the forecast on last year's sales", "reports:read orders:read", DATA, "night", 30),
    ("Reporting dashboard", "Draws the charts of the morning meeting", "reports:read", DATA, "office", 120),
    ("Assortment planner", "Suggests what to list and delist", "catalogue:read reports:read", DATA, "office", 45),
    ("Replenishment", "Orders goods before they run out", "inventory:read orders:write", AIKO, "hourly", 96),
    ("Search index", "Keeps the search of the web shop up to date", "catalogue:read", PLATFORM, "hourly", 140),
    (
        "Product feed builder",
        "Builds the feeds for price comparison sites",
        "catalogue:read prices:read",
        PLATFORM,
        "hourly",
        72,
    ),
    ("Picture resizer", "Fetches product pictures", "catalogue:read", PLATFORM, "steady", 60),
    ("Address check", "Looks addresses up while they are typed", "customers:read", TOMAS, "shop", 260),
    ("Loyalty points", "Books points for orders", "orders:read customers:read", SHOPS, "shop", 130),
    ("Gift cards", "Redeems gift cards at the till", "orders:read", SHOPS, "shop", 70),
    (
        "Service desk",
        "Shows orders to whoever answers the phone",
        "orders:read customers:read returns:write",
        MARA,
        "office",
        210,
    ),
    ("Fraud screening", "Holds orders that look odd", "orders:read customers:read", AIKO, "shop", 240),
    ("Status page probe", "Asks every minute or so whether the API answers", "catalogue:read", PLATFORM, "hourly", 288),
    (
        "Nightly consistency check",
        "Compares orders with shipments",
        "orders:read shipments:read",
        PLATFORM,
        "night",
        55,
    ),
    ("Customer data export", "Answers requests for personal data", "customers:read orders:read", MARA, "office", 6),
    ("Supplier portal", "Shows suppliers their open orders", "orders:read inventory:read", PARTNERS, "office", 110),
    ("EDI bridge", "Turns EDIFACT messages into orders", "orders:write", PARTNERS, "hourly", 180),
)
SITES: Final = (*("Rotterdam", "Hamburg", "Gdańsk", "Lyon", "Zaragoza", "Bologna", "Graz", "Göteborg", "Brno", "Gent"),)
CITIES: Final = (
    *("Antwerp", "Aarhus", "Barcelona", "Basel", "Bergen", "Bilbao", "Bordeaux", "Bremen", "Bruges", "Cork"),
    *("Delft", "Dresden", "Dublin", "Eindhoven", "Florence", "Galway", "Geneva", "Groningen", "Kraków", "Leipzig"),
    *("Lille", "Linz", "Lisbon", "Lucerne", "Luxembourg", "Malmö", "Marseille", "Milan", "Münster", "Nantes"),
    *("Odense", "Oslo", "Ostrava", "Palermo", "Poznań", "Porto", "Prague", "Salzburg", "Sevilla", "Tampere"),
    *("Tartu", "Trieste", "Turku", "Utrecht", "Valencia", "Verona", "Vilnius", "Wrocław", "Zürich", "Łódź"),
    *("Aachen", "Debrecen", "Bolzano", "Braga", "Como", "Kiel", "Namur", "Oulu", "Pisa", "Uppsala"),
)
PARTNER_NAMES: Final = (
    *("Alder & Finch", "Baltic Timber", "Blue Kettle", "Bright Lantern", "Casa Oliva", "Corner Grocers", "Delta Foods"),
    *(
        "Dunmore Dairy",
        "Elm Street Books",
        "Fjord Outfitters",
        "Golden Hive",
        "Grey Harbour",
        "Hollow Oak",
        "Iris Home",
    ),
    *(
        "Juniper Kitchen",
        "Kestrel Cycles",
        "Lark & Sons",
        "Lemon Market",
        "Maple Toys",
        "Meadow Organics",
        "Mill & Stone",
    ),
    *("Nordlicht Lampen", "Old Quay", "Olive Branch", "Paper Crane", "Pebble Beach", "Quill Office", "Red Barn"),
    *("River Linen", "Rowan Garden", "Saffron Spice", "Silver Birch", "Spruce Furniture", "Tall Pine", "Thistle Wool"),
    *(
        "Tidewater Fish",
        "Umber Ceramics",
        "Velvet Coffee",
        "Walnut & Co",
        "Willow Pharmacy",
        "Yarrow Tea",
        "Zephyr Sails",
    ),
)
CARRIERS: Final = ("Swift Parcel", "Polar Post", "Via Nova", "Kurier Eins", "Canal Couriers", "Atlas Pallets")
