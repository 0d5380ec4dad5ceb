"""Form controls of our own."""

from __future__ import annotations

from datetime import date
from html import escape
from typing import Any, Final

from django import forms
from django.forms.utils import flatatt
from django.utils.html import format_html
from django.utils.safestring import SafeString


class QuickSelect(forms.Select):
    """A list to choose from, the same as Django's, which renders two templates for each of hundreds of options."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:  # noqa: ARG002 - as Django calls it
        """Draw it."""
        chosen = self.format_value(value)
        own = self.build_attrs(self.attrs, {"name": name, **(attrs or {})})
        options = [self._option(str(of), str(label), is_chosen=str(of) in chosen) for of, label in self.choices]
        return format_html("<select{}>\n{}</select>", flatatt(own), SafeString("\n".join([*options, ""])))

    @staticmethod
    def _option(value: str, label: str, *, is_chosen: bool) -> str:
        # Python's own escaping: Django's, of so many short texts, took most of the time.
        selected = " selected" if is_chosen else ""
        return f'<option value="{escape(value)}"{selected}>{escape(label)}</option>'


class DayInput(forms.DateInput):
    """A field for a day. What is none is left out: browsers show nothing for it, and complain."""

    def format_value(self, value: object) -> str | None:
        """Return a day as the browser expects it."""
        text = super().format_value(value)
        try:
            return date.fromisoformat(text).isoformat() if text else None
        except ValueError:
            return None


# What a field for a day is made with.
DAY_OPTIONS: Final[dict[str, Any]] = {
    "required": False,
    "widget": DayInput(format="%Y-%m-%d", attrs={"type": "date"}),
    "input_formats": ["%Y-%m-%d"],
    "error_messages": {"invalid": "This is no day. Write one like 2026-11-30."},
}
