"""docs/security/roles.md: who may open each page, as the pages say: ``python -m tests.role_table`` writes it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
from django.urls import URLPattern, URLResolver, get_resolver

DOCUMENT = Path(__file__).parent.parent / "docs/security/roles.md"
BEGIN = "<!-- Written by python -m tests.role_table from the decorators of the views. -->\n"


def pages(resolver: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the address and the view of every page of an organization."""
    for entry in (resolver or get_resolver()).url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from pages(entry, route)
        elif isinstance(entry, URLPattern) and str(getattr(entry.callback, "access", "")).startswith("role:"):
            yield "/" + route, entry.callback


def table() -> str:
    """Return the table, from the least role to the greatest, then in the order of the addresses."""
    lines = [
        "| address | what it does | viewer | operator | admin | password again | by environment |",
        "|---|---|---|---|---|---|---|",
    ]
    order = {"viewer": 0, "operator": 1, "admin": 2}
    found = sorted(pages(), key=lambda one: (order[one[1].access.removeprefix("role:")], one[0]))
    for route, view in found:
        least = order[view.access.removeprefix("role:")]
        marks = " | ".join("yes" if place >= least else "" for place in range(3))
        address = route.replace("<slug:organization>", "ORG")
        for kind in ("str", "int", "slug", "uuid", "alert"):
            address = address.replace(f"<{kind}:", "<")
        what = (view.__doc__ or "").strip().splitlines()[0]
        asks = "yes" if getattr(view, "proven", False) else ""
        limited = "yes" if getattr(view, "in_reach", False) else ""
        lines.append(f"| `{address}` | {what} | {marks} | {asks} | {limited} |")
    return "\n".join(line.replace("|  |", "| |").replace("|  |", "| |") for line in lines) + "\n"


def written() -> str:
    """Return the document as it has to be."""
    return DOCUMENT.read_text().partition(BEGIN)[0] + BEGIN + "\n" + table()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyadmin.settings")
    django.setup()
    DOCUMENT.write_text(written())
