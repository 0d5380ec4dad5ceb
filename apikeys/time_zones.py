"""Time zones by name: those of the system, and of the tzdata package where the system has none."""

from __future__ import annotations

import zoneinfo
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

UTC: Final = ZoneInfo("UTC")


def find_zone(name: str) -> ZoneInfo | None:
    """Return the time zone of a name like "Europe/Berlin", whatever its case; None when there is none."""
    known = _names().get(name.strip().lower())
    return ZoneInfo(known) if known else None


def zone_names() -> list[str]:
    """Return the names to choose from, in order: places, and UTC."""
    return sorted(name for name in _names().values() if name == "UTC" or _is_place(name))


def _is_place(name: str) -> bool:
    return "/" in name and not name.startswith(("Etc/", "SystemV/", "US/"))


@cache
def _names() -> dict[str, str]:
    return {name.lower(): name for name in zoneinfo.available_timezones()}
