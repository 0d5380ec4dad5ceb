"""What usage is looked at: a span of time, and which requests of it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Final

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.utils import timezone
from django.utils.text import Truncator

from apikeys.models import Outcome, UsageWatermark
from apikeys.models.series import RANGES
from apikeys.paging import changed_url
from apikeys.ranges import DEFAULT_RANGE, RangeError, TimeRange, check_days, day_words
from apikeys.request_log import Wanted
from apikeys.widgets import DAY_OPTIONS

NAMED: Final = {"since", "until", "caller"}
MAX_FAULT: Final = 160


class RangeForm(forms.Form):
    """One of the usual spans of time, or the days of another one; two days win."""

    range = forms.ChoiceField(
        choices=[(one.name, one.label) for one in RANGES.values()],
        required=False,
        error_messages={"invalid_choice": f"Choose one of {', '.join(RANGES)}: there is no range %(value)s."},
    )
    since = forms.DateField(label="From", **DAY_OPTIONS)
    until = forms.DateField(label="To", **DAY_OPTIONS)

    # The span of time, of a form without faults.
    chosen: TimeRange | None = None

    @property
    def wanted(self) -> Wanted:
        """Which single requests are meant: all."""
        return Wanted(span=self.chosen)

    def __init__(self, data: QueryDict, known: UsageWatermark | None = None) -> None:
        super().__init__(data, auto_id=f"id_{type(self).__name__.lower()}_%s")
        self.now, self.zone, self.known = timezone.now(), timezone.get_current_timezone(), known or UsageWatermark()

    def clean(self) -> dict[str, Any]:
        """Make the span of time."""
        found = super().clean() or self.cleaned_data
        if self.errors:
            return found
        since, until = found["since"], found["until"]
        if since is None and until is None:
            self.chosen = self.without_days(found["range"])
        elif since is None:
            self.add_error("since", "Choose the first day as well.")
        else:
            self.chosen = self._between(since, until or self._day(self.now))
        return found

    def usual(self, name: str) -> TimeRange:
        """Return one of the usual spans of time."""
        return TimeRange.usual(name, self.now, self.zone)

    def without_days(self, name: str) -> TimeRange | None:
        """Return what is meant when no day is named."""
        return self.usual(name or DEFAULT_RANGE)

    def _between(self, since: date, until: date) -> TimeRange | None:
        recorded = self._day(self.known.recording_since) if self.known.recording_since else None
        try:
            check_days(since, until, today=self._day(self.now), recorded_since=recorded)
        except RangeError as error:
            self.add_error(error.field, str(error))
            return None
        return TimeRange.between(since, until, self.zone)

    def _day(self, at: datetime) -> date:
        return at.astimezone(self.zone).date()

    @property
    def faults(self) -> list[str]:
        """What is wrong, each with the name of its field; what somebody made up is not repeated at length."""
        return [
            Truncator(f"{self.fields[name].label}: {error}" if name in NAMED else str(error)).chars(MAX_FAULT)
            for name, errors in self.errors.items()
            for error in errors
        ]

    def links(self, path: str, query: QueryDict) -> list[dict[str, Any]]:
        """Return the usual spans of time as links that keep what else the address says."""
        name = self.chosen.name if self.chosen else ""
        return [
            {
                "label": one.label,
                "url": changed_url(path, query, range=one.name, since=None, until=None),
                "current": one.name == name,
            }
            for one in RANGES.values()
        ]


class RequestFilterForm(RangeForm):
    """Which single requests are shown: of an outcome, of a caller, of a span of time; any when nothing is chosen."""

    outcome = forms.ChoiceField(
        choices=[("", "Any outcome")] + [one for one in Outcome.choices if one[0] != Outcome.MALFORMED],
        required=False,
        error_messages={"invalid_choice": "There is no outcome %(value)s."},
    )
    caller = forms.CharField(
        required=False,
        max_length=200,
        label="Caller",
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Address or user agent"}),
    )

    field_order = ["outcome", "caller", "range", "since", "until"]

    # Whether more was asked for than is kept of single requests.
    is_cut = False

    def __init__(self, data: QueryDict, known: UsageWatermark | None = None) -> None:
        super().__init__(data, known)
        field = self.fields["range"]
        field.choices = [("", "Any time"), *field.choices]  # type: ignore[attr-defined]

    def clean_caller(self) -> str:
        """Refuse what no database can compare with."""
        caller: str = self.cleaned_data["caller"]
        if any("\ud800" <= character <= "\udfff" for character in caller):
            raise ValidationError("This text holds half a character.")
        return caller

    def _between(self, since: date, until: date) -> TimeRange | None:
        """Return the span of time as far as single requests of it are kept."""
        kept = self._day(self.known.raw_from) if self.known.raw_from else since
        self.is_cut = since < kept
        if not self.is_cut or until < since:
            return super()._between(since, until)
        if until < kept:
            days = f"{settings.EVENT_RETENTION_DAYS} days"
            self.add_error("until", f"Single requests are kept for {days}: the first day is {day_words(kept)}.")
            return None
        return super()._between(kept, until)

    def without_days(self, name: str) -> TimeRange | None:
        """Return what is meant when no day is named: any time, unless a usual span of time is."""
        span = self.usual(name) if name else None
        kept = self.known.raw_from
        self.is_cut = span is not None and kept is not None and span.since < kept
        return span

    @property
    def wanted(self) -> Wanted:
        """What a form without faults asks for."""
        return Wanted(self.cleaned_data["outcome"], self.cleaned_data["caller"], self.chosen)

    @property
    def is_open_ended(self) -> bool:
        """Whether requests that are still to come may belong to it."""
        return self.is_valid() and (self.chosen is None or self.chosen.until > self.now)
