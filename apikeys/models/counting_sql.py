"""The statements of counting. What differs between the engines is in _ENGINES; times are parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from django.db import connection

from apikeys.models.among import AMONG

# So many values of a key, a day and a dimension are kept apart, and owners of an organization; the rest is OTHERS.
MOST_KEPT: Final = 200
OTHERS: Final = "\x1f"
# The median is of the gaps between so many of a key's newest hours.
MEDIAN_OF: Final = 200
RANKED: Final = 100
# A gap counts when it ended in so many days before the last use: older ones tell how a key was used once.
REMEMBERED_DAYS: Final = 400

_ENGINES: Final = {
    "postgresql": {
        "hour_of_at": "date_trunc('hour', at, 'UTC')",
        "day_of_hour": "FLOOR(EXTRACT(EPOCH FROM hour))::bigint / 86400",
        "day_of_at": "FLOOR(EXTRACT(EPOCH FROM at))::bigint / 86400",
        "among": AMONG["postgresql"],
        "by_bytes": 'COLLATE "C"',
        "host": "host(address)",
        "seconds": "CAST(EXTRACT(EPOCH FROM {0} - {1}) AS bigint)",
        "less": "LEAST",
        "greater": "GREATEST",
        # Rows are removed by their place: however few the planner believes in, it looks for each only once.
        "row": "ctid",
        "those": "ctid = ANY (ARRAY(",
        "end": "))",
        "unlocked": "FOR UPDATE SKIP LOCKED",
    },
    "sqlite": {
        "hour_of_at": "strftime('%%Y-%%m-%%d %%H:00:00', at)",
        "day_of_hour": "CAST(strftime('%%s', hour) AS integer) / 86400",
        "day_of_at": "CAST(strftime('%%s', substr(at, 1, 19)) AS integer) / 86400",
        "among": AMONG["sqlite"],
        "by_bytes": "",
        "host": "address",
        "seconds": "(CAST(strftime('%%s', {0}) AS integer) - CAST(strftime('%%s', {1}) AS integer))",
        "less": "MIN",
        "greater": "MAX",
        "row": "rowid",
        "those": "rowid IN (",
        "end": ")",
        "unlocked": "",
    },
}
# The value of an event in each dimension. No part can hold a control character, so it is told where one ends.
VALUES: Final = {
    "caller": "COALESCE({host}, '') || '\n' || user_agent",
    "scope": "scope",
    "endpoint": "method || ' ' || path",
}


# The requests of some keys by day (since 1970, UTC), in two parts that are to be added up.
DAILY: Final = """
SELECT key_id, {day_of_hour}, SUM(count) FROM apikeys_usagehour WHERE key_id {among} AND {rolled} GROUP BY 1, 2
UNION ALL
SELECT key_id, {day_of_at}, COUNT(*) FROM apikeys_usageevent WHERE key_id {among} AND ({raw}) GROUP BY 1, 2
"""

# How often some dead keys were presented, in two parts that are to be added up.
TRIES: Final = """
SELECT key_id, SUM(count) FROM apikeys_usagehour
WHERE key_id {among} AND outcome IN ('revoked', 'expired') AND {rolled} GROUP BY 1
UNION ALL
SELECT key_id, COUNT(*) FROM apikeys_usageevent
WHERE key_id {among} AND outcome IN ('revoked', 'expired') AND ({raw}) GROUP BY 1
"""
# The busiest values of a key, before them what was not kept apart, each with how many there are, and all requests.
BUSIEST_VALUES: Final = """
WITH counted AS (
    SELECT value, accepted, refused, first_at, last_at FROM apikeys_usageday
    WHERE key_id = %s AND dimension = %s AND {rolled}
    UNION ALL
    SELECT {value}, COUNT(*) FILTER (WHERE outcome = 'valid'), COUNT(*) FILTER (WHERE outcome <> 'valid'),
        MIN(at), MAX(at)
    FROM apikeys_usageevent WHERE key_id = %s AND ({raw}) GROUP BY 1
)
SELECT value, SUM(accepted), SUM(refused), MIN(first_at), MAX(last_at), COUNT(*) OVER (),
    SUM(SUM(accepted + refused)) OVER ()
FROM counted GROUP BY value ORDER BY value = {others} DESC, SUM(accepted + refused) DESC, value {by_bytes} LIMIT %s
"""


def rendered(statement: str, keys: Sequence[int] | None = None, **parts: str) -> str:
    """Return a statement for the engine in use, about some keys or, with None, about all of them."""
    engine = dict(_ENGINES[connection.vendor])
    seconds = engine.pop("seconds")
    listed = "" if keys is None else f"({', '.join(str(int(key)) for key in keys)})"
    organizations = f"(SELECT organization_id FROM apikeys_apikey WHERE id IN {listed})"  # noqa: S608 - of numbers
    return statement.format(
        **engine,
        **parts,
        gap=seconds.format("hour", "LAG(hour) OVER (PARTITION BY key_id ORDER BY hour)"),
        gap_now=seconds.format("excluded.last_hour", "apikeys_keyrhythm.last_hour"),
        age=seconds.format("last_hour", "first_hour"),
        age_now=seconds.format("excluded.last_hour", "apikeys_keyrhythm.first_hour"),
        since_gap=seconds.format("last_hour", "hour"),
        since_longest=seconds.format("last_hour", "longest_gap_at"),
        since_second=seconds.format("last_hour", "second_gap_at"),
        remembered=str(REMEMBERED_DAYS * 86_400),
        of_ids=f"AND id IN {listed}" if listed else "",
        of_keys=f"AND key_id IN {listed}" if listed else "",
        of_organizations=f"AND organization_id IN {organizations}" if listed else "",
        most=MOST_KEPT,
        others=f"'{OTHERS}'",
        median_of=MEDIAN_OF,
        ranked=RANKED,
    )


def value_sql(dimension: str) -> str:
    """Return the expression of an event's value in a dimension, for the engine in use."""
    return VALUES[dimension].format(host=_ENGINES[connection.vendor]["host"])


OLDEST_WRITER: Final = """
SELECT clock_timestamp(), (
    SELECT MIN(a.xact_start) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.relation = 'apikeys_usageevent'::regclass AND l.mode = 'RowExclusiveLock' AND l.pid <> pg_backend_pid()
)
"""
FIRST_EVENT: Final = "SELECT MIN(at) FROM apikeys_usageevent WHERE at >= %(since)s AND at < %(until)s"
ANY_EVENT: Final = "SELECT 1 FROM apikeys_usageevent WHERE at >= %(since)s AND at < %(until)s LIMIT 1"
ANY_HOUR: Final = "SELECT 1 FROM apikeys_usagehour WHERE hour = %(since)s LIMIT 1"
# A note that somebody holds belongs to an event that is not committed yet, and stays.
FORGET_NOTES: Final = """
DELETE FROM apikeys_latehour WHERE {those}
    SELECT {row} FROM apikeys_latehour WHERE hour >= %(since)s AND hour < %(until)s {unlocked}
{end}
"""

# Of one key: counts are added to what is there.

HOURS: Final = """
INSERT INTO apikeys_usagehour (key_id, hour, outcome, count)
SELECT key_id, {hour_of_at} AS hour_of_at, outcome, COUNT(*) FROM {events}
WHERE at >= %(since)s AND at < %(until)s {of_keys}
GROUP BY key_id, hour_of_at, outcome
ON CONFLICT (key_id, hour, outcome) DO UPDATE SET count = apikeys_usagehour.count + excluded.count
"""
DAY: Final = """
INSERT INTO apikeys_usageday (key_id, dimension, day, value, accepted, refused, first_at, last_at)
SELECT key_id, '{dimension}', %(day)s, CASE WHEN place <= {most} THEN value_of_event ELSE {others} END AS kept,
       SUM(accepted), SUM(refused), MIN(first_at), MAX(last_at)
FROM (
    SELECT key_id, {value} AS value_of_event, COUNT(CASE WHEN outcome = 'valid' THEN 1 END) AS accepted,
           COUNT(CASE WHEN outcome <> 'valid' THEN 1 END) AS refused, MIN(at) AS first_at, MAX(at) AS last_at,
           ROW_NUMBER() OVER (PARTITION BY key_id ORDER BY COUNT(*) DESC, {value}) AS place
    FROM {events} WHERE at >= %(since)s AND at < %(until)s {of_keys} GROUP BY key_id, value_of_event
) ranked
GROUP BY key_id, kept
ON CONFLICT (key_id, dimension, day, value) DO UPDATE SET
    accepted = apikeys_usageday.accepted + excluded.accepted,
    refused = apikeys_usageday.refused + excluded.refused,
    first_at = {less}(apikeys_usageday.first_at, excluded.first_at),
    last_at = {greater}(apikeys_usageday.last_at, excluded.last_at)
"""


def add_and_remove() -> str:
    """Return HOURS and DAY as one statement of PostgreSQL, of events that it deletes."""
    parts = [HOURS.replace("{events}", "gone")]
    parts += [
        DAY.replace("{events}", "gone").replace("{dimension}", name).replace("{value}", value)
        for name, value in VALUES.items()
    ]
    gone = "DELETE FROM apikeys_usageevent WHERE at >= %(since)s AND at < %(until)s {of_keys} RETURNING *"
    steps = ", ".join(f"step{number} AS ({part})" for number, part in enumerate(parts))
    return f"WITH gone AS ({gone}), {steps} SELECT 1"


FORGET_HOURS: Final = "DELETE FROM apikeys_usagehour WHERE hour >= %(since)s AND hour < %(until)s {of_keys}"
FORGET_DAY: Final = "DELETE FROM apikeys_usageday WHERE day = %(day)s {of_keys}"
FORGET_EVENTS: Final = (
    "DELETE FROM apikeys_usageevent WHERE at >= %(since)s AND at < %(until)s AND rowid > %(after)s {of_keys}"
)

# At the end of a day: what was kept in each of its hours may be more than is kept of a day. All of the day is ranked,
# without a join: a planner believes that a new day has one row, and would look through all of it again for each.
_RANKED_VALUES: Final = """
    SELECT {row} AS at_row, key_id, dimension, day, value, accepted, refused, first_at, last_at,
           ROW_NUMBER() OVER (PARTITION BY key_id, dimension ORDER BY accepted + refused DESC, value) AS place
    FROM apikeys_usageday WHERE day = %(day)s AND value <> {others}
"""
FOLD: Final = f"""
INSERT INTO apikeys_usageday (key_id, dimension, day, value, accepted, refused, first_at, last_at)
SELECT key_id, dimension, day, {{others}}, SUM(accepted), SUM(refused), MIN(first_at), MAX(last_at)
FROM ({_RANKED_VALUES}) ranked WHERE place > {{most}} GROUP BY key_id, dimension, day
ON CONFLICT (key_id, dimension, day, value) DO UPDATE SET
    accepted = apikeys_usageday.accepted + excluded.accepted,
    refused = apikeys_usageday.refused + excluded.refused,
    first_at = {{less}}(apikeys_usageday.first_at, excluded.first_at),
    last_at = {{greater}}(apikeys_usageday.last_at, excluded.last_at)
"""  # noqa: S608 - of constants
FORGET_FOLDED: Final = f"""
DELETE FROM apikeys_usageday WHERE {{those}}
    SELECT at_row FROM ({_RANKED_VALUES}) ranked WHERE place > {{most}}
{{end}}
"""  # noqa: S608 - of constants

# Of organizations, from the hours of their keys.

ORGANIZATION_HOURS: Final = """
INSERT INTO apikeys_organizationhour (organization_id, hour, environment_id, outcome, count)
SELECT organization_id, hour, environment_id, outcome, SUM(count)
FROM apikeys_usagehour JOIN apikeys_apikey ON id = key_id
WHERE hour >= %(since)s AND hour < %(until)s {of_organizations}
GROUP BY organization_id, hour, environment_id, outcome
"""
ORGANIZATION_DAY: Final = """
WITH sums AS (
    SELECT organization_id, COALESCE(owner_id, 0) AS member, owner_contact AS contact,
           SUM(CASE WHEN outcome = 'valid' THEN count ELSE 0 END) AS accepted,
           SUM(CASE WHEN outcome = 'valid' THEN 0 ELSE count END) AS refused
    FROM apikeys_usagehour JOIN apikeys_apikey ON id = key_id
    WHERE hour >= %(since)s AND hour < %(until)s {of_organizations}
    GROUP BY organization_id, member, contact
), ranked AS (
    SELECT organization_id, member, contact, accepted, refused,
           ROW_NUMBER() OVER (PARTITION BY organization_id ORDER BY accepted + refused DESC, member, contact) AS place
    FROM sums
)
INSERT INTO apikeys_organizationday (organization_id, day, owner_member_id, owner_contact, accepted, refused)
SELECT organization_id, %(day)s, CASE WHEN place <= {most} THEN member ELSE 0 END AS kept_member,
       CASE WHEN place <= {most} THEN contact ELSE {others} END AS kept_contact, SUM(accepted), SUM(refused)
FROM ranked GROUP BY organization_id, kept_member, kept_contact
ON CONFLICT (organization_id, day, owner_member_id, owner_contact) DO UPDATE SET
    accepted = apikeys_organizationday.accepted + excluded.accepted,
    refused = apikeys_organizationday.refused + excluded.refused
"""
FORGET_ORGANIZATION_HOURS: Final = (
    "DELETE FROM apikeys_organizationhour WHERE hour >= %(since)s AND hour < %(until)s {of_organizations}"
)
FORGET_ORGANIZATION_DAY: Final = "DELETE FROM apikeys_organizationday WHERE day = %(day)s {of_organizations}"

# Rhythms.

# A new gap is one of the longest two or none of them; the longest alone is usual when it takes up half of the time.
_LONGEST_NOW: Final = "{greater}(apikeys_keyrhythm.longest_gap, {gap_now})"
_SECOND_NOW: Final = """CASE WHEN {gap_now} >= apikeys_keyrhythm.longest_gap THEN apikeys_keyrhythm.longest_gap
        ELSE {greater}(apikeys_keyrhythm.second_gap, {gap_now}) END"""
# Of gaps as long as each other the newest is kept: it is remembered longest.
RHYTHM_GOES_ON: Final = f"""
INSERT INTO apikeys_keyrhythm
    (key_id, first_hour, last_hour, longest_gap, second_gap, usual_gap, gaps, computed_at)
SELECT key_id, hour, hour, 0, 0, 0, 0, %(now)s FROM apikeys_usagehour WHERE hour = %(since)s AND outcome = 'valid'
ON CONFLICT (key_id) DO UPDATE SET
    last_hour = excluded.last_hour,
    longest_gap = {_LONGEST_NOW},
    longest_gap_at = CASE WHEN {{gap_now}} >= apikeys_keyrhythm.longest_gap THEN excluded.last_hour
        ELSE apikeys_keyrhythm.longest_gap_at END,
    second_gap = {_SECOND_NOW},
    second_gap_at = CASE WHEN {{gap_now}} >= apikeys_keyrhythm.longest_gap THEN apikeys_keyrhythm.longest_gap_at
        WHEN {{gap_now}} >= apikeys_keyrhythm.second_gap THEN excluded.last_hour
        ELSE apikeys_keyrhythm.second_gap_at END,
    usual_gap = CASE WHEN 2 * {_LONGEST_NOW} >= {{less}}({{age_now}}, {{remembered}}) THEN {_LONGEST_NOW}
        ELSE {_SECOND_NOW} END,
    gaps = apikeys_keyrhythm.gaps + CASE WHEN {{gap_now}} > 3600 THEN 1 ELSE 0 END,
    computed_at = excluded.computed_at
WHERE apikeys_keyrhythm.last_hour < excluded.last_hour
"""  # noqa: S608 - of constants
# From all that is kept, also of the keys that a key replaces: its rhythm is theirs.
RHYTHM: Final = """
WITH RECURSIVE sources (key_id, source_id) AS (
    SELECT id, id FROM apikeys_apikey WHERE 1 = 1 {of_ids}
    UNION ALL
    SELECT sources.key_id, replaces_id FROM sources JOIN apikeys_apikey ON id = source_id WHERE replaces_id IS NOT NULL
), hours AS (
    SELECT sources.key_id, hour FROM sources JOIN apikeys_usagehour u ON u.key_id = source_id AND outcome = 'valid'
), gaps AS (
    SELECT key_id, hour, {gap} AS gap FROM hours
), ends AS (
    SELECT key_id, MIN(hour) AS first_hour, MAX(hour) AS last_hour, COUNT(CASE WHEN gap > 3600 THEN 1 END) AS gaps
    FROM gaps GROUP BY key_id
), placed AS (
    SELECT key_id, gap, hour, ROW_NUMBER() OVER (PARTITION BY key_id ORDER BY gap DESC, hour DESC) AS place
    FROM gaps JOIN ends USING (key_id) WHERE gap > 0 AND {since_gap} < {remembered}
), longest AS (
    SELECT key_id, MAX(CASE WHEN place = 1 THEN gap END) AS longest_gap,
           MAX(CASE WHEN place = 1 THEN hour END) AS longest_gap_at,
           COALESCE(MAX(CASE WHEN place = 2 THEN gap END), 0) AS second_gap,
           MAX(CASE WHEN place = 2 THEN hour END) AS second_gap_at
    FROM placed WHERE place <= 2 GROUP BY key_id
)
INSERT INTO apikeys_keyrhythm (
    key_id, first_hour, last_hour, longest_gap, longest_gap_at, second_gap, second_gap_at, usual_gap, gaps, computed_at
)
SELECT key_id, first_hour, last_hour, COALESCE(longest_gap, 0), longest_gap_at, COALESCE(second_gap, 0), second_gap_at,
       COALESCE(CASE WHEN 2 * longest_gap >= {less}({age}, {remembered}) THEN longest_gap ELSE second_gap END, 0),
       gaps, %(now)s
FROM ends LEFT JOIN longest USING (key_id) WHERE 1 = 1
ON CONFLICT (key_id) DO UPDATE SET
    first_hour = excluded.first_hour, last_hour = excluded.last_hour, longest_gap = excluded.longest_gap,
    longest_gap_at = excluded.longest_gap_at, second_gap = excluded.second_gap, second_gap_at = excluded.second_gap_at,
    usual_gap = excluded.usual_gap, gaps = excluded.gaps, computed_at = excluded.computed_at
"""
# Keys of which a gap is to be forgotten that was the longest or the second longest.
FORGETFUL: Final = """
SELECT key_id FROM apikeys_keyrhythm
WHERE last_hour >= %(since)s AND ({since_longest} >= {remembered} OR {since_second} >= {remembered})
"""
ANY_RHYTHM: Final = "SELECT 1 FROM apikeys_keyrhythm LIMIT 1"
ANY_USE: Final = "SELECT 1 FROM apikeys_usagehour WHERE outcome = 'valid' LIMIT 1"
# PostgreSQL reads the newest hours of each key by the primary key; a window would read all of them.
_NEWEST: Final = {
    "postgresql": """
    SELECT r.key_id, u.hour FROM apikeys_keyrhythm r CROSS JOIN LATERAL (
        SELECT h.hour FROM apikeys_usagehour h WHERE h.key_id = r.key_id AND h.outcome = 'valid'
        ORDER BY h.hour DESC LIMIT {median_of}
    ) u WHERE r.last_hour >= %(since)s AND r.gaps > 0
    """,
    "sqlite": """
    SELECT key_id, hour FROM (
        SELECT h.key_id, h.hour, ROW_NUMBER() OVER (PARTITION BY h.key_id ORDER BY h.hour DESC) AS place
        FROM apikeys_usagehour h JOIN apikeys_keyrhythm r ON r.key_id = h.key_id
        WHERE h.outcome = 'valid' AND r.last_hour >= %(since)s AND r.gaps > 0
    ) newest WHERE place <= {median_of}
    """,
}
# Materialized: a planner that knows of no more than a few rows would find the medians anew for each of them.
MEDIANS: Final = {
    vendor: f"""
WITH medians AS MATERIALIZED (
    SELECT key_id, gap FROM (
        SELECT key_id, gap, ROW_NUMBER() OVER (PARTITION BY key_id ORDER BY gap) AS place,
               COUNT(*) OVER (PARTITION BY key_id) AS gaps
        FROM (SELECT key_id, {{gap}} AS gap FROM ({newest}) newest_hours) some_gaps WHERE gap > 3600
    ) placed WHERE place = (gaps + 1) / 2
)
UPDATE apikeys_keyrhythm SET median_gap = medians.gap FROM medians WHERE medians.key_id = apikeys_keyrhythm.key_id
"""  # noqa: S608 - of constants
    for vendor, newest in _NEWEST.items()
}

# The keys of each organization that stand out, by kind. Sums of each key are made once for all kinds.

RANKS: Final = {
    "busiest": "accepted + refused",
    "tried": "tried",
    "guessed": "guessed",
    "refused": "denied",
}
UNRANK: Final = "DELETE FROM apikeys_busiestkey WHERE days = %(days)s"
_SUMS: Final = """
    SELECT key_id, MAX(hour) AS last_hour,
           SUM(CASE WHEN outcome = 'valid' THEN count ELSE 0 END) AS accepted,
           SUM(CASE WHEN outcome = 'valid' THEN 0 ELSE count END) AS refused,
           SUM(CASE WHEN outcome IN ('revoked', 'expired') THEN count ELSE 0 END) AS tried,
           SUM(CASE WHEN outcome = 'unknown' THEN count ELSE 0 END) AS guessed,
           SUM(CASE WHEN outcome IN ('scope_missing', 'network_denied', 'rate_limited', 'paused')
               THEN count ELSE 0 END) AS denied
    FROM apikeys_usagehour WHERE hour >= %(since)s AND hour < %(until)s GROUP BY key_id
"""
_PLACED: Final = " UNION ALL ".join(
    f"""
    SELECT organization_id, '{kind}' AS kind, key_id, accepted, refused, {number} AS number, last_hour,
           ROW_NUMBER() OVER (PARTITION BY organization_id ORDER BY {number} DESC, key_id) AS place
    FROM of_organizations WHERE {number} > 0
    """  # noqa: S608 - of constants
    for kind, number in RANKS.items()
)
RANK: Final = f"""
WITH sums AS ({_SUMS}), of_organizations AS (
    SELECT organization_id, sums.* FROM sums JOIN apikeys_apikey ON id = key_id
)
INSERT INTO apikeys_busiestkey (organization_id, kind, days, key_id, rank, number, accepted, refused, last_hour)
SELECT organization_id, kind, %(days)s, key_id, place, number, accepted, refused, last_hour
FROM ({_PLACED}) placed WHERE place <= {{ranked}}
"""  # noqa: S608 - of constants
