"""Logs and error reports that cannot hold a key, or a link that is the right to one, whatever they are given."""

import json
import logging
import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from textwrap import indent
from typing import Any, Final

from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter

from apikeys.key_secret import redact

# X-Request-ID of the request that this thread answers, as it came: perhaps of a client's making.
request_id: ContextVar[str] = ContextVar("request_id", default="")

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_BUT_LINES: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_LINE_ENDS: Final = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# What every record has is no extra; "request" and "sock" are objects that Django adds and the message is about.
_NO_EXTRA: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request", "sock", "may_repeat"}

# The ``extra`` of what every request may log, thousands of times a second: ThinningFilter lets one a second pass.
MAY_REPEAT: Final = {"may_repeat": True}


# Whoever has one of these addresses may use it once: the way to a new key, into an organization, to a new password.
_LINK: Final = re.compile(
    r"(?P<path>(?:/|%2[Ff])(?:handover|invitation|accounts(?:/|%2[Ff])password(?:/|%2[Ff])reset(?:/|%2[Ff])key)(?:/|%2[Ff]))"
    r"[A-Za-z0-9_-]{8,}"
)


def without_secrets(text: str) -> str:
    """Return a text in which no key and no link can be used."""
    return _LINK.sub(r"\g<path>[redacted]", redact(text))


class ThinningFilter(logging.Filter):
    """Lets a message that MAY_REPEAT pass once a second; it then says how many like it were left out before."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is to be written."""
        if not getattr(record, "may_repeat", False):
            return True
        now, message = time.monotonic(), str(record.msg)
        if now - self._passed.get(message, now - 1) < 1:
            self._left_out[message] = self._left_out.get(message, 0) + 1
            return False
        self._passed[message] = now
        if count := self._left_out.pop(message, 0):
            record.msg = f"{record.getMessage()} ({count} more like this since the last such line)"
            record.args = None
        return True


class RedactingFormatter(logging.Formatter):
    """Formats a record, its traceback included, and takes the secrets out of it.

    What came from outside makes no line of its own: in the message control characters are written as escapes, and a
    traceback is indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return without_secrets(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line without its traceback."""
        record.message = _CONTROL.sub(lambda found: repr(found[0])[1:-1], record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return a traceback."""
        return indent(_CONTROL_BUT_LINES.sub("", super().formatException(ei)), "  ", lambda _line: True)


class JSONFormatter(logging.Formatter):
    """Formats a record as one line of JSON, and takes the secret out of every text in it.

    time, level, logger and event; request_id, exception and stack where there are any; then the record's extras.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        # Later names win: an extra that is named like a field of ours does not replace it.
        fields = {name: value for name, value in vars(record).items() if name not in _NO_EXTRA}
        fields |= {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if found := _REQUEST_ID.fullmatch(request_id.get()):
            fields["request_id"] = found[0]
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        first = ("time", "level", "logger", "event", "request_id")
        ordered = {name: fields[name] for name in (*first, *fields) if name in fields}
        # JSON allows these three in a text, and others take them for the end of a line.
        return json.dumps(_redacted(ordered), ensure_ascii=False).translate(_LINE_ENDS)


def _redacted(value: Any) -> Any:
    """Return a value as JSON can tell it, each text in it without the secret of a key."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {without_secrets(str(name)): _redacted(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(inner) for inner in value]
    text = value if isinstance(value, str) else repr(value)
    # Half a surrogate pair, from a path or a header that is no text, cannot be written as UTF-8.
    return without_secrets(text.encode("utf-8", "backslashreplace").decode())


class RedactedExceptionReporter(ExceptionReporter):
    """Django's error report without the secret of any key."""

    def get_traceback_html(self) -> SafeString:
        """Return the page that developers see."""
        return SafeString(without_secrets(super().get_traceback_html()))

    def get_traceback_text(self) -> SafeString:
        """Return the text that is mailed."""
        return SafeString(without_secrets(super().get_traceback_text()))
