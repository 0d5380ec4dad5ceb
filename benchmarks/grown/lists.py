"""The key list's pages that are measured, each with the SELECT of its rows as somebody would write it by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

USABLE: Final = "k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())"
EXPIRED: Final = "k.revoked_at IS NULL AND k.expires_at <= now()"
SILENT: Final = "k.created_at < now() - interval '90 days' AND a.last_used_at < now() - interval '90 days'"
NEVER: Final = "k.created_at < now() - interval '90 days' AND a.last_used_at IS NULL"
GAP: Final = "EXTRACT(epoch FROM now() - COALESCE(a.last_used_at, k.created_at)) * 2 {} COALESCE(r.usual_gap, 0) * 3"
NOT_EXEMPT: Final = "(x.until IS NULL OR x.until <= now())"
SELECT: Final = """
SELECT k.*, e.code, e.name, e.kind, u.name, u.email, u.is_active, a.last_used_at, a.last_refused_at, r.usual_gap,
    x.until,
    ARRAY(SELECT s.name FROM apikeys_keyscope ks JOIN apikeys_scope s ON s.id = ks.scope_id WHERE ks.key_id = k.id)
FROM apikeys_apikey k JOIN apikeys_environment e ON e.id = k.environment_id
LEFT JOIN apikeys_member m ON m.id = k.owner_id LEFT JOIN apikeys_user u ON u.id = m.user_id
{activity} JOIN apikeys_keyactivity a ON a.key_id = k.id
LEFT JOIN apikeys_keyrhythm r ON r.key_id = k.id LEFT JOIN apikeys_keyexemption x ON x.key_id = k.id
WHERE k.organization_id = (SELECT id FROM apikeys_organization WHERE slug = 'grown') AND {where}
ORDER BY {order} LIMIT 51
"""
NEWEST: Final = "k.created_at DESC, k.id DESC"
LATEST_USE: Final = "a.last_used_at DESC, k.id DESC"


class Case(NamedTuple):
    """A page of the list: its group and name, its query string, and the hand-written SELECT's conditions and order.

    ``small_query``: what asks for the same page of the small database, where that is something else.
    """

    group: str
    name: str
    query: str
    where: str = USABLE
    order: str = NEWEST
    small_query: str = ""

    @property
    def select(self) -> str:
        """The whole SELECT."""
        by_use = "a." in self.where or "a." in self.order
        inner = by_use and "a.last_used_at IS NULL" not in self.where and "NULLS" not in self.order
        return SELECT.format(where=self.where, order=self.order, activity="" if inner else "LEFT")


def cases() -> Iterator[Case]:
    """Yield the pages that need to know nothing of the data."""
    yield Case("first page", "first page", "")
    yield from _tabs()
    yield from _filters()
    yield Case("sort", "sort=name", "sort=name", order="lower(k.name), k.id")
    yield Case("sort", "sort=-name", "sort=-name", order="lower(k.name) DESC, k.id DESC")
    yield Case("sort", "sort=created", "sort=created", order="k.created_at, k.id")
    yield Case("sort", "sort=-created", "sort=-created")
    yield Case("sort", "sort=last_used", "sort=last_used", f"{USABLE} AND a.last_used_at IS NULL", "k.id")
    yield Case("sort", "sort=-last_used", "sort=-last_used", order=LATEST_USE)
    soon = f"{USABLE} AND k.expires_at > now()"
    yield Case("sort", "sort=expires", "sort=expires", soon, "k.expires_at, k.id")
    yield Case("sort", "sort=-expires", "sort=-expires", f"{USABLE} AND k.expires_at IS NULL", "k.id DESC")
    for words in ("zanzibar", "checkout", "Archer", "person30@"):
        like = f"ILIKE '%{words}%'"
        columns = ("k.name", "k.purpose", "k.public_id", "k.owner_contact", "u.name", "u.email")
        either = " OR ".join(f"{column} {like}" for column in columns)
        yield Case("search", f"q={words}", f"q={words}", f"{USABLE} AND ({either})")


def _tabs() -> Iterator[Case]:
    unused = f"({SILENT} OR {NEVER}) AND {GAP.format('>')} AND {NOT_EXEMPT}"
    soon = "k.expires_at <= now() + interval '60 days'"
    yield Case("status", "status=active", "status=active", f"{USABLE} AND k.paused_at IS NULL")
    yield Case("status", "status=expiring", "status=expiring", f"{USABLE} AND {soon}")
    yield Case("status", "status=unused", "status=unused", f"{USABLE} AND {unused}")
    yield Case("status", "status=paused", "status=paused", f"{USABLE} AND k.paused_at IS NOT NULL")
    yield Case("status", "status=expired", "status=expired", EXPIRED)
    yield Case("status", "status=revoked", "status=revoked", "k.revoked_at IS NOT NULL")


def _filters() -> Iterator[Case]:
    group = "filter"
    for code in ("prod", "eu", "lab"):
        of = f"{USABLE} AND e.code = '{code}'"
        yield Case(group, f"environment={code}", f"environment={code}", of)
    for email in ("person3@example.org", "person50@example.org"):
        yield Case(group, f"owner={email}", f"owner={email}", f"{USABLE} AND u.email = '{email}'")
    contact = "team9@example.org"
    yield Case(group, "owner=team9", f"owner={contact}", f"{USABLE} AND k.owner_contact = '{contact}'")
    yield Case(group, "owner=closed", "owner=closed", f"{USABLE} AND NOT u.is_active")
    for scope in ("orders:read", "reports:delete"):
        held = (
            "EXISTS (SELECT 1 FROM apikeys_keyscope h JOIN apikeys_scope g ON g.id = h.scope_id"
            f" WHERE h.key_id = k.id AND g.name = '{scope}')"
        )
        yield Case(group, f"scope={scope}", f"scope={scope}", f"{USABLE} AND {held}")
    for days in (7, 30, 60):
        soon = f"{USABLE} AND k.expires_at <= now() + interval '{days} days'"
        yield Case(group, f"expires={days}", f"expires={days}", soon)
    yield Case(group, "expires=past", "expires=past", EXPIRED)
    yield Case(group, "expires=never", "expires=never", f"{USABLE} AND k.expires_at IS NULL")
    for age, condition in (
        ("0-30", "k.created_at > now() - interval '30 days'"),
        ("90-365", "k.created_at BETWEEN now() - interval '365 days' AND now() - interval '90 days'"),
        ("365%2B", "k.created_at < now() - interval '365 days'"),
    ):
        yield Case(group, f"created={age}", f"created={age}", f"{USABLE} AND {condition}")
    for days in (1, 30, 395):
        used = f"{USABLE} AND a.last_used_at >= now() - interval '{days} days'"
        yield Case(group, f"last_used={days}", f"last_used={days}", used)
    long_ago = f"{USABLE} AND a.last_used_at < now() - interval '90 days'"
    yield Case(group, "last_used=90+", "last_used=90%2B", long_ago)
    yield Case(group, "last_used=never", "last_used=never", f"{USABLE} AND a.last_used_at IS NULL")
    for kind, condition in (
        ("never_used", f"{NEVER} AND {GAP.format('>')} AND {NOT_EXEMPT}"),
        ("dormant", f"{SILENT} AND {GAP.format('>')} AND {NOT_EXEMPT}"),
        ("seasonal", f"({SILENT} OR {NEVER}) AND {GAP.format('<=')} AND {NOT_EXEMPT}"),
        ("exempt", "x.until > now()"),
    ):
        yield Case(group, f"silence={kind}", f"silence={kind}", f"{USABLE} AND {condition}")
    # Keys may become 1,000 days old.
    old = "k.created_at <= now() - interval '1000 days'"
    yield Case(group, "rotate=due", "rotate=due", f"{USABLE} AND {old}")
    soon = f"k.created_at <= now() - interval '986 days' AND NOT {old}"
    yield Case(group, "rotate=soon", "rotate=soon", f"{USABLE} AND {soon}")
    for days in (1, 30):
        refused = f"{USABLE} AND a.last_refused_at >= now() - interval '{days} days'"
        yield Case(group, f"refused={days}", f"refused={days}", refused)
    tried = (
        "a.last_refused_at >= now() - interval '7 days' AND ((k.revoked_at IS NOT NULL AND a.last_refused_at >"
        f" k.revoked_at) OR ({EXPIRED} AND a.last_refused_at > k.expires_at))"
    )
    yield Case(group, "tried=7", "tried=7", tried)
