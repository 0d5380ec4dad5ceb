"""A process that opens pages of one database and says how long each took: one line of JSON in, one out.

It calls keyadmin's own request handling, as a member who is signed in, without a server and a network between.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyadmin.settings")

import django

django.setup()

from django.db import connection  # noqa: E402
from django.http import QueryDict  # noqa: E402
from django.template import engines  # noqa: E402
from django.template.loader import get_template  # noqa: E402
from django.test import Client  # noqa: E402
from django.utils import timezone  # noqa: E402

import apikeys.models.counting_sql as sql  # noqa: E402
from apikeys import retention  # noqa: E402
from apikeys.flagging import left_out  # noqa: E402
from apikeys.models import ApiKey, Member, UsageHour, User  # noqa: E402
from apikeys.models.counting import RANKED_DAYS  # noqa: E402
from apikeys.models.key_age import ROTATE_SOON  # noqa: E402
from keyadmin.garbage import collect_seldom  # noqa: E402

SLUG: Final = "grown"
ADMIN: Final = "person1@example.org"
# What leads to a key's own page.
KEY_LINK: Final = re.compile(rb'href="/grown/keys/([0-9A-Za-z]{12})"')
# What leads to the list's next page.
NEXT_LINK: Final = re.compile(rb'href="(/grown/keys/\?[^"]*\bafter=[^"]*)"')

PLAIN: Final = engines["django"].from_string((Path(__file__).parent.parent / "peers" / "key_rows.html").read_text())


class Opener:
    """Opens pages as the organization's admin."""

    def __init__(self) -> None:
        self.client = Client(HTTP_HOST="localhost")
        self.client.force_login(User.objects.get(email=ADMIN))

    def page(self, path: str, target: str = "") -> dict[str, Any]:
        """Open a page, or the part of it with an id as htmx does.

        Returns its time (ms), statements, size, the keys that it lists, the address of the next page, and whether the
        numbers in its tabs come later.
        """
        headers = {"HX-Request": "true", "HX-Target": target} if target else None
        with counted() as statements:
            began = time.perf_counter()
            response = self.client.get(path, headers=headers)
            size = len(response.content)
            spent = time.perf_counter() - began
        following = NEXT_LINK.search(response.content)
        if response.status_code != 200:
            raise RuntimeError(f"{path}: {response.status_code}")
        return {
            "ms": spent * 1000,
            "statements": len(statements),
            "sql_ms": sum(statements) * 1000,
            "bytes": size,
            "rows": response.content.count(b'<td class="c-name">'),
            "keys": sorted({public_id.decode() for public_id in KEY_LINK.findall(response.content)}),
            "next": unescape(following[1].decode()) if following else "",
            "counts_later": b"counts=now" in response.content,
        }

    def floor(self, path: str, select: str, drawn_by: str) -> dict[str, Any]:
        """Run a SELECT, and render the rows of a page with what is there already; return the time (ms).

        ``drawn_by``: "keyadmin", or "plain", a template as somebody would write it.
        """
        query = QueryDict(path.partition("?")[2])
        context = self._rows(query)
        template = PLAIN if drawn_by == "plain" else get_template("components/_key_rows.html")
        began = time.perf_counter()
        with connection.cursor() as cursor:
            cursor.execute(select)
            rows = cursor.fetchall()
        template.render(context)
        return {"ms": (time.perf_counter() - began) * 1000, "rows": len(rows), "same": len(context["keys"])}

    def forget_settings(self) -> None:
        """Let PostgreSQL plan as it does for whoever does not say what parallel workers cost."""
        with connection.cursor() as cursor:
            cursor.execute("RESET parallel_setup_cost")

    def flag_sql(self) -> list[str]:
        """Return the SELECTs of the flagged rows, in plain columns, and what counts the silent keys that are not."""
        now = timezone.now()
        columns = ["organization__slug", "public_id", "prefix", "environment__code", "name", "owner__user__email"]
        columns += ["owner_contact", "created_at", "activity__last_used_at", "expires_at"]
        columns += ["rhythm__usual_gap", "exemption__until", "organization__max_key_age"]
        chosen = (
            (ApiKey.objects.unused(now), "quiet_since"),
            (ApiKey.objects.expiring(now, timedelta(days=60)), "expires_at"),
            (ApiKey.objects.to_rotate(now, ROTATE_SOON), "created_at"),
        )
        with connection.cursor() as cursor:
            selects = [
                cursor.mogrify(
                    *keys.order_by("organization_id", order, "pk").values_list(*columns).query.sql_with_params()
                )
                for keys, order in chosen
            ]
        with mogrified() as counting:
            left_out(ApiKey.objects.all(), now, None)
        return [*selects, *counting]

    def stream(self, selects: list[str]) -> dict[str, Any]:
        """Stream rows through psycopg and throw them away; return how long that takes."""
        connection.ensure_connection()
        began, rows = time.perf_counter(), 0
        with connection.connection.transaction():
            for select in selects:
                with connection.connection.cursor("benchmark") as cursor:
                    cursor.itersize = 5000
                    cursor.execute(select)
                    rows += sum(1 for _ in cursor)
        return {"seconds": time.perf_counter() - began, "rows": rows}

    def roll_up_sql(self) -> str:
        """Roll up, and return the SQL that did it."""
        with mogrified() as statements:
            for _ in UsageHour.objects.roll_up():
                statements += ["COMMIT", "BEGIN"]
        return ";\n".join(["BEGIN", *statements, "COMMIT"]) + ";\n"

    def least_roll_up_sql(self, since: str, until: str) -> str:
        """Return SQL that counts everything between two instants, a whole day at a time."""
        start, end = datetime.fromisoformat(since), datetime.fromisoformat(until)
        parts: list[str] = ["BEGIN"]
        with connection.cursor() as cursor:
            while start < end:
                midnight = start + timedelta(days=1)
                times = {"since": start, "until": min(midnight, end), "day": start.date(), "now": end}
                events = "apikeys_usageevent"
                wanted = [sql.rendered(sql.HOURS, events=events)]
                wanted += [
                    sql.rendered(sql.DAY, events=events, dimension=name, value=sql.value_sql(name))
                    for name in sql.VALUES
                ]
                wanted += [sql.rendered(sql.ORGANIZATION_HOURS), sql.rendered(sql.ORGANIZATION_DAY)]
                parts += [cursor.mogrify(statement, times) for statement in wanted]
                start = midnight
            for days in RANKED_DAYS:
                ends = {"days": days, "since": end - timedelta(days=days), "until": end}
                parts += [cursor.mogrify(sql.rendered(one), ends) for one in (sql.UNRANK, sql.RANK)]
        return ";\n".join([*parts, "COMMIT"]) + ";\n"

    def prune(self) -> dict[str, float]:
        """Remove what is too old; return how long that takes (ms)."""
        began = time.perf_counter()
        pruned = retention.prune()
        spent = (time.perf_counter() - began) * 1000
        if pruned.days != 1:
            raise RuntimeError(f"One day was to be removed, not {pruned}.")
        return {"ms": spent}

    def _rows(self, query: QueryDict) -> dict[str, Any]:
        from apikeys.filters import KeyFilter  # noqa: PLC0415
        from apikeys.paging import take_page  # noqa: PLC0415
        from apikeys.views.keys import with_usage  # noqa: PLC0415

        member = Member.objects.get(user__email=ADMIN, organization__slug=SLUG)
        listing = KeyFilter(query, member.organization.keys.for_list(), request=SimpleNamespace(member=member))
        if not listing.is_valid():
            raise RuntimeError(f"The list refuses {query.urlencode()}: {listing.errors}")
        keys = take_page(listing.parts(), query.get("after", "")).rows
        with_usage(keys)
        return {"keys": keys, "operates": True, "request": SimpleNamespace(member=member)}


@contextmanager
def mogrified() -> Iterator[list[str]]:
    """Collect each statement as it is sent."""
    statements: list[str] = []

    def wrapper(execute: Callable[..., Any], sql: str, parameters: Any, many: bool, context: Any) -> Any:
        statements.append(context["cursor"].mogrify(sql, parameters) if parameters else sql)
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(wrapper):
        yield statements


@contextmanager
def counted() -> Iterator[list[float]]:
    """Collect the seconds of each statement."""
    found: list[float] = []

    def wrapper(execute: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(*arguments)
        finally:
            found.append(time.perf_counter() - began)

    with connection.execute_wrapper(wrapper):
        yield found


def main() -> None:
    """Answer until the input ends, with garbage collected as seldom as in a server."""
    opener = Opener()
    collect_seldom()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(opener, name)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
