"""A small database of places in MaxMind's format, as a real one is laid out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet

BERLIN = "203.0.113.9"
FRANCE = "198.51.100.7"
SINGAPORE = "192.0.2.77"
LISBON = "2001:db8:17::1"
UNKNOWN = "8.8.8.8"


def record(country: Any = None, city: Any = None) -> dict[str, Any]:
    """Return what a database says of a network, names in German beside the English ones."""
    told = {"country": country, "city": city}
    named = {part: {"names": {"de": "anders", "en": name}} for part, name in told.items() if name is not None}
    return {"continent": {"code": "EU"}, **named}


NETWORKS = {
    "203.0.113.0/24": record("Germany", "Berlin"),
    "198.51.100.0/24": record("France"),
    "192.0.2.0/24": record("Singapore", "Singapore"),
    "2001:db8:17::/48": record("Portugal", "Lisbon"),
}


def write_places(
    path: Path, networks: Mapping[str, Any] = NETWORKS, *, kind: str = "GeoLite2-City", version: int = 6
) -> Path:
    """Write a database, beside its place first and then into it, as programs that keep one up to date do."""
    writer = MMDBWriter(version, kind, languages=["de", "en"], description="A test", ipv4_compatible=version == 6)
    for network, told in networks.items():
        writer.insert_network(IPSet([network]), told)
    beside = path.with_name(f"{path.name}.new")
    writer.to_db_file(str(beside))
    beside.replace(path)
    return path
