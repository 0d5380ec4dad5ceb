"""The charts of the dashboard, as SVG with the same figures as a table: `{% load charts %}`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apikeys import charts
from apikeys.models import Outcome
from apikeys.templatetags.keyadmin import short_words

register = template.Library()

ROTATION_LABELS = {"old": "with the old key", "new": "with the new key", "refused": "refused"}


@register.inclusion_tag("components/_usage_chart.html")
def usage_chart(
    series: Any,
    marks: Sequence[charts.Mark] = (),
    measured_since: datetime | None = None,
    usual: charts.Usual | None = None,
) -> dict[str, object]:
    """Draw requests over time by outcome in the reader's time zone, with a legend and the same figures as a table."""
    zone = timezone.get_current_timezone()
    chart = charts.stacked_bars(
        [*series.starts, series.end],
        series.counts,
        dict(Outcome.choices),
        now=timezone.now(),
        zone=zone,
        marks=marks,
        measured_since=measured_since,
        usual=usual,
    )
    told = f"{chart.total:,} in all, {chart.refused:,} refused"
    return {**_shown(chart, told), "measured_since": measured_since}


def _shown(chart: charts.Chart, told: str) -> dict[str, object]:
    """Return what the template needs of a chart; ``told`` says in words what it shows."""
    ticks = [short_words(tick) for tick in reversed(chart.ticks)]
    return {"chart": chart, "ticks": ticks, "zone": timezone.get_current_timezone_name(), "told": told}


@register.inclusion_tag("components/_usage_chart.html")
def rotation_chart(
    edges: Sequence[datetime], counts: Mapping[str, Sequence[int]], marks: Sequence[charts.Mark] = ()
) -> dict[str, object]:
    """Draw the requests with the old and with the new key of a rotation, one above the other."""
    chart = charts.stacked_bars(
        edges,
        counts,
        ROTATION_LABELS,
        now=timezone.now(),
        zone=timezone.get_current_timezone(),
        marks=marks,
        stack=tuple(ROTATION_LABELS),
    )
    return _shown(chart, ", ".join(f"{layer.total:,} {layer.label}" for layer in chart.layers))


@register.simple_tag
def chart_hits(columns: Sequence[charts.Column]) -> SafeString:
    """Draw what is pointed at in a chart, a column a step, each with its words. A loop of the template takes longer."""
    rect = '<g class="chart-hit"><rect x="{}" width="1" height="100"><title>{}</title></rect></g>'
    return SafeString("".join(rect.format(column.x, escape(column.title)) for column in columns))


def _cells(numbers: Iterable[int]) -> SafeString:
    """Write whole numbers as cells of a table: hundreds, in which there is nothing to escape."""
    return SafeString("".join(f'<td class="num">{number:,}</td>' for number in numbers))


@register.simple_tag
def chart_table(chart: charts.Chart, zone: str) -> SafeString:
    """Write a chart's figures as a table."""
    head = format_html_join(
        "", '<th scope="col" class="num" data-outcome="{}">{}</th>', ((one.outcome, one.label) for one in chart.layers)
    )
    rows = format_html_join(
        "",
        '<tr><th scope="row">{}{}</th>{}</tr>',
        (
            (
                one.label,
                format_html_join("", "<small>{}</small>", ((note,) for note in one.notes)) if one.notes else "",
                _cells([*one.counts, one.total]),
            )
            for one in chart.columns
        ),
    )
    return format_html(
        '<table class="table dense"><thead><tr><th scope="col">{} ({})</th>{}<th scope="col" class="num">all</th></tr>'
        '</thead><tbody>{}</tbody><tfoot><tr><th scope="row">all</th>{}</tr></tfoot></table>',
        chart.unit.capitalize(),
        zone,
        head,
        rows,
        _cells([*(one.total for one in chart.layers), chart.total]),
    )


@register.inclusion_tag("components/_rhythm_chart.html")
def rhythm_chart(week: Sequence[Sequence[int]]) -> dict[str, object]:
    """Draw how many requests each hour of the week had, with the same figures as a table."""
    return {"cells": charts.week_cells(week), "week": list(zip(charts.WEEKDAYS, week, strict=True))}


@register.simple_tag
def week_hits(cells: Sequence[charts.Cell]) -> SafeString:
    """Draw the hours of a week, darker where there were more requests."""
    rect = '<g class="chart-hit h{}"><rect x="{}" y="{}" width="1" height="1"><title>{}</title></rect></g>'
    return SafeString("".join(rect.format(one.level, one.x, one.y, escape(one.title)) for one in cells))


@register.simple_tag
def week_table(week: Sequence[tuple[str, Sequence[int]]]) -> SafeString:
    """Write the hours of a week as a table."""
    head = format_html_join("", '<th scope="col" class="num">{}</th>', ((f"{hour:02}",) for hour in range(24)))
    rows = format_html_join("", '<tr><th scope="row">{}</th>{}</tr>', ((day, _cells(hours)) for day, hours in week))
    return format_html(
        '<table class="table dense"><thead><tr><th scope="col">Hour</th>{}</tr></thead><tbody>{}</tbody></table>',
        head,
        rows,
    )
