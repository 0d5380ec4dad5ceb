"""How the dashboard writes times, numbers, states and charts: `{% load keyadmin %}`."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from django import template
from django.forms import BaseForm
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from lucide.templatetags.lucide import lucide

from apikeys import charts
from apikeys.forms import span_words
from apikeys.models import ApiKey, JobState, Member, Outcome, Rotation
from apikeys.permissions import InEnvironment
from apikeys.places import place_of

register = template.Library()

ISO_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d\Z")

UNITS = (
    (timedelta(days=730), timedelta(days=365), "y"),
    (timedelta(hours=48), timedelta(days=1), "d"),
    (timedelta(minutes=60), timedelta(hours=1), "h"),
    (timedelta(seconds=60), timedelta(minutes=1), "min"),
    (timedelta(0), timedelta(seconds=1), "s"),
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
BADGES = {
    "active": ("good", "check"),
    "paused": ("mute", "pause"),
    "expired": ("mute", "clock"),
    "revoked": ("bad", "circle-x"),
    "valid": ("good", "check"),
    "scope_missing": ("warn", "circle-slash"),
    "network_denied": ("warn", "circle-slash"),
    "rate_limited": ("warn", "hourglass"),
    "malformed": ("bad", "circle-x"),
    "unknown": ("bad", "circle-x"),
}

JOB_BADGES = {
    JobState.WORKS: ("good", "check"),
    JobState.LATE: ("warn", "clock-alert"),
    JobState.FAILED: ("bad", "circle-x"),
    JobState.NEVER: ("warn", "circle-dashed"),
}


@lru_cache(maxsize=256)
def _icon(name: str, size: int) -> SafeString:
    drawn: str = lucide(name, size=size, aria_hidden="true")
    # The package's class repeats the name of every icon on the page and nothing refers to it.
    return mark_safe(drawn.replace(f' class="lucide lucide-{name}"', "").replace("\n", ""))  # noqa: S308


@register.filter
def operates(member: Member, thing: InEnvironment) -> bool:
    """Say whether a member may touch a key, its rotation or an alert of it."""
    return member.operates(thing.environment)


@register.filter
def place(address: str | None) -> str:
    """Say where an address is, "Berlin, Germany"; nothing where nobody knows."""
    return place_of(address)


@register.simple_tag
def icon(name: str, size: int = 16) -> SafeString:
    """Draw a decorative icon; the words beside it carry the meaning."""
    return _icon(str(name), size)


def gap_words(span: timedelta) -> str:
    """Say a length of time in its largest fitting unit: "45 s", "3 min", "6 d"."""
    for least, unit, name in UNITS:
        if span >= least:
            return f"{span // unit} {name}"
    return "0 s"


def ago_words(moment: datetime, now: datetime) -> str:
    """Say a moment relative to now: "now", "2 min ago", "in 6 d"."""
    if abs(now - moment) < timedelta(seconds=5):
        return "now"
    if moment > now:
        return f"in {gap_words(moment - now)}"
    return f"{gap_words(now - moment)} ago"


def _time(moment: datetime, written: str, more: str = "") -> SafeString:
    """Write an instant: exactly in its title, in UTC and, where they differ, in the reader's time zone.

    Lists write three in each row: strftime(), and escaping what holds digits and the names of months and zones alone,
    would take as long as all else of them.
    """
    utc, zone = moment.astimezone(UTC), timezone.get_current_timezone()
    told = f"{_second(utc)} UTC"
    if (name := zone.tzname(None) or str(zone)) != "UTC":
        told += f"\n{_second(moment.astimezone(zone))} {name}"
    machine = utc.replace(tzinfo=None).isoformat(timespec="seconds")
    return SafeString(f'<time datetime="{machine}Z" title="{told}"{more}>{written}</time>')


def _second(local: datetime) -> str:
    return f"{_date(local)}, {local.time().isoformat(timespec='seconds')}"


def _date(local: datetime) -> str:
    return f"{local.day} {MONTHS[local.month - 1]} {local.year:04}"


@register.filter
def ago(moment: datetime | None, nothing: str = "never") -> SafeString:
    """Write a moment in relative words with the exact instant beside it; `nothing` when there is none."""
    if not moment:
        return format_html('<span class="faint">{}</span>', nothing)
    return _time(moment, ago_words(moment, timezone.now()), " data-ago")


@register.filter
def due(moment: datetime) -> SafeString:
    """Say when something is due, or was."""
    return format_html("{} due {}", "is" if moment > timezone.now() else "was", ago(moment))


@register.filter
def day(moment: datetime | None, nothing: str = "Never") -> SafeString:
    """Write a moment as its day, with the year when it is not this one; `nothing` when there is none."""
    if not moment:
        return format_html('<span class="faint">{}</span>', nothing)
    return _day(moment, timezone.get_current_timezone())


@register.filter
def exact(moment: datetime) -> SafeString:
    """Write a moment to the minute, in the reader's time zone, as what must not be missed is written."""
    local = timezone.localtime(moment)
    same_year = local.year == timezone.localtime().year
    return _time(moment, local.strftime("%-d %b, %H:%M" if same_year else "%-d %b %Y, %H:%M"))


@register.filter
def expiry_day(moment: datetime) -> SafeString:
    """Write the day on which a key expires: in UTC, as it was chosen."""
    return _day(moment, UTC)


def _day(moment: datetime, zone: tzinfo) -> SafeString:
    local = moment.astimezone(zone)
    same_year = local.year == timezone.now().astimezone(zone).year
    return _time(moment, f"{local.day} {MONTHS[local.month - 1]}" if same_year else _date(local))


@register.simple_tag
def expiry(key: ApiKey) -> SafeString:
    """Write when a key expires; a usable key that never does is called out, a revoked one has nothing to say."""
    if key.revoked_at:
        return format_html('<span class="faint" title="{}">—</span>', "Revoked: the expiry does not matter any more")
    if key.expires_at:
        return expiry_day(key.expires_at)
    told = "Never expires: only a revocation ends this key"
    return format_html('<span class="never" title="{}">{}Never</span>', told, icon("infinity", 14))


@register.filter
def words(name: str) -> str:
    """Write the name of a field in words: `rate_limit` is "rate limit"."""
    return str(name).replace("_", " ")


@register.filter
def fact(value: object) -> str:
    """Write a value out of an audit entry: a list with commas, an instant in UTC, nothing as "nothing"."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        value = ", ".join(str(item) for item in value)
    text = "" if value is None else str(value)
    if ISO_INSTANT.match(text):
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%-d %b %Y, %H:%M UTC")
    return text or "nothing"


@register.filter
def gap(span: timedelta | None) -> str:
    """Write a length of time in words: "3 min"."""
    return gap_words(span) if span is not None else ""


@register.filter
def span(length: timedelta) -> str:
    """Write a chosen length of time in full words: "7 days"."""
    return span_words(length)


def short_words(number: int) -> str:
    """Shorten a count to three digits: 950, "12.4 k", "1.84 M"."""
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if number >= size * 0.9995:
            scaled = number / size
            places = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            digits = f"{scaled:.{places}f}"
            return f"{digits.rstrip('0').rstrip('.') if places else digits} {unit}"
    return str(number)


@register.filter
def short(number: int | None) -> SafeString | str:
    """Write a count short, with the exact figure in its title where the two differ."""
    count = number or 0
    if count < 1000:
        return str(count)
    return format_html('<span title="{}">{}</span>', f"{count:,}", short_words(count))


@register.filter
def percent(share: float | None) -> str:
    """Write a share of one as a percentage; what is there is never written as 0 %."""
    value = (share or 0) * 100
    if 0 < value < 0.1:
        return "< 0.1 %"
    if value in {0, 100}:
        return f"{value:.0f} %"
    return f"{min(value, 99.9):.1f} %" if value < 10 or value > 99 else f"{value:.0f} %"


@register.filter
def signed_percent(share: float) -> str:
    """Write a change as a percentage with its sign: "+12 %"."""
    value = round(share * 100)
    return f"+{value:,} %" if value > 0 else f"\u2212{-value:,} %" if value else "\u00b10 %"


@lru_cache(maxsize=64)
def _badge(kind: str, image: str, word: str) -> SafeString:
    return format_html('<span class="badge {}">{}{}</span>', kind, _icon(image, 14), word)


@register.simple_tag
def status_badge(key: Any) -> SafeString:
    """Show a key's status with icon, word and colour; where it ends by itself soon, an active key says when instead."""
    status = str(key.status)
    if status == "active" and key.is_expiring:
        return _badge("warn", "clock", f"Expires {ago_words(key.expires_at, timezone.now())}")
    kind, image = BADGES.get(status, ("mute", "circle-dashed"))
    if status == "paused" and key.paused_until:
        return _badge(kind, image, f"Paused, {gap_words(key.paused_until - timezone.now())}")
    return _badge(kind, image, status.capitalize())


@register.simple_tag
def status_name(status: str) -> SafeString:
    """Name a status with its icon and colour, where it is not that of one key."""
    return _badge(*BADGES[status], status.capitalize())


@register.simple_tag
def rotation_badge(rotation: Rotation) -> SafeString:
    """Say with icon, word and colour in which state a rotation is."""
    if rotation.is_called_off:
        return _badge("mute", "undo-2", "Cancelled")
    if rotation.closed_at:
        return _badge("good", "check", "Finished")
    if rotation.is_overdue:
        return _badge("warn", "clock-alert", "Deadline passed")
    if rotation.awaits_owner:
        return _badge("warn", "mail", "Waits for its owner")
    return _badge("warn" if rotation.clock_waits else "good", "refresh-ccw", "Rotating")


@register.filter
def item(things: Mapping[int, Any], name: int) -> Any:
    """Return one of some things, by its number."""
    return things[name]


@register.simple_tag
def job_badge(state: Any) -> SafeString:
    """Say with icon, word and colour how a scheduled job is doing."""
    kind, image = JOB_BADGES[state]
    return _badge(kind, image, JobState(state).label.capitalize())


@register.simple_tag
def silence_label(key: ApiKey) -> SafeString:
    """Say in a word what the silence of a key means, and that it may be silent; the reason is its title."""
    silence = key.silence
    if exemption := key.exemption_now:
        told = f"until {exemption.until.astimezone(UTC):%-d %b %Y}: {exemption.reason} ({exemption.owner})"
        return format_html('<small class="line" title="{}">may be silent</small>', told)
    if silence is None:
        return mark_safe("")
    css = "line warn-text" if silence.is_unused else "line"
    return format_html('<small class="{}" title="{}">{}</small>', css, silence.reason.capitalize(), silence.label)


@register.simple_tag
def rotation_label(key: ApiKey) -> SafeString:
    """Say by when a key should be rotated, where that is soon or past."""
    if key.is_rotation_due:
        since = day(key.rotate_by)
        return format_html(
            '<small class="line rotation warn-text">{}rotate since {}</small>', icon("clock-alert", 12), since
        )
    if key.is_rotation_soon:
        return format_html('<small class="line rotation">rotate by {}</small>', day(key.rotate_by))
    return mark_safe("")


@register.simple_tag
def outcome_badge(outcome: str) -> SafeString:
    """Show the outcome of a request with icon, word and colour."""
    kind, image = BADGES.get(str(outcome), ("mute", "circle-dashed"))
    if outcome in {"expired", "paused"}:
        kind, image = "warn", "circle-slash"
    return _badge(kind, image, Outcome(outcome).label)


@register.simple_tag
def environment(env: Any) -> SafeString:
    """Name an environment, with a dot in the colour of its kind."""
    return format_html('<span class="env {}"><i></i><bdi>{}</bdi></span>', env.kind, env.name)


@register.simple_tag
def sparkline(counts: Sequence[int]) -> SafeString:
    """Draw a row of bars, one per day; its words are for those who do not see it."""
    width = max(len(counts), 1) * 3
    path = charts.sparkline_path(counts)
    total = sum(counts)
    words = f"{short_words(total)} requests in {len(counts)} days" if total else "no requests"
    css = "spark" if path else "spark flat"
    return SafeString(
        f'<svg class="{css}" viewBox="0 0 {width} 20" width="{width}" height="20" role="img" aria-label="{words}">'
        f'<path d="{path or f"M0 19.5h{width}"}"/></svg>'
    )


@register.simple_tag
def share_bar(share: float) -> SafeString:
    """Draw a share of one as a thin bar; the percentage stands beside it."""
    return format_html(
        '<svg class="share" viewBox="0 0 100 6" preserveAspectRatio="none" width="64" height="6" '
        'aria-hidden="true"><rect width="{}" height="6"/></svg>',
        round(min(max(share, 0), 1) * 100, 1),
    )


@register.inclusion_tag("components/_column.html")
def sortable(columns: Sequence[Mapping[str, str]], name: str, css: str = "") -> dict[str, object]:
    """Write the header cell of a sortable column: a link, and the direction for those who listen."""
    column = next(
        (column for column in columns if column["name"] == name), {"label": words(name).capitalize(), "url": ""}
    )
    return {"column": column, "css": css}


@register.simple_tag
def carried(form: BaseForm, owner: str, *left_out: str) -> SafeString:
    """Write the form's values as hidden inputs that belong to the form whose id is `owner`."""
    pairs = []
    for bound in form:
        value = bound.value()
        values = value if isinstance(value, list | tuple) else [value]
        if bound.name not in left_out:
            pairs += [(bound.html_name, item, owner) for item in values if item not in {None, ""}]
    return format_html_join("", '<input type="hidden" name="{}" value="{}" form="{}">', pairs)
