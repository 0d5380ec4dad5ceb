"""A person at the dashboard: signs in, opens a page, fills in the form that it shows, and sends it."""

import http.client
import re
import time
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import NamedTuple
from urllib.parse import urlencode

from tests.factories import PASSWORD
from tests.guarantees.clients import ORGANIZATION, TIMEOUT

type Fields = dict[str, list[str]]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Page(NamedTuple):
    """What came back, and between which two instants it was asked for and there, as time.time_ns()."""

    status: int
    html: str
    sent: int
    arrived: int

    @property
    def told(self) -> str:
        """What a page says of faults, or how it begins."""
        return " ".join(re.findall(r'class="errorlist".*?</ul>', self.html, re.DOTALL)) or self.html[:500]


class _Reader(HTMLParser):
    """Finds each form of a page with the values that it would send, and the key that is shown once."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Fields] = []
        self.secret = ""
        self._list: list[str] = []
        self._text: list[str] = []
        self._first: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        name, value = found.get("name", ""), found.get("value", "")
        if found.get("id") == "secret":
            self.secret = value
        if tag == "form":
            self.forms.append({})
        elif name and self.forms:
            self._list = self.forms[-1].setdefault(name, [])
            self._text, self._first = [], None
            chosen = found.get("type") not in {"checkbox", "radio"} or "checked" in found
            if tag == "input" and chosen:
                self._list.append(value)
        elif tag == "option":
            self._first = self._first if self._first is not None else value
            if "selected" in found:
                self._list.append(value)

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._list.append("".join(self._text).removeprefix("\n"))
        elif tag == "select" and not self._list and self._first is not None:
            self._list.append(self._first)


class Dashboard:
    """An operator who has signed in."""

    def __init__(self, port: int, email: str = "operator@example.com") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        self._cookies: dict[str, str] = {}
        login = "/accounts/login/"
        answer = self._send("POST", login, {**self._form(login, "password"), "login": [email], "password": [PASSWORD]})
        assert answer.status == 302, answer.told

    def close(self) -> None:
        self._connection.close()

    def _send(self, method: str, path: str, fields: Fields | None = None) -> Page:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        body = urlencode(fields, doseq=True) if fields is not None else None
        sent = time.time_ns()
        self._connection.request(method, path, body, headers | (FORM if fields is not None else {}))
        answer = self._connection.getresponse()
        html = answer.read().decode()
        arrived = time.time_ns()
        for line in answer.headers.get_all("Set-Cookie", []):
            for name, cookie in SimpleCookie(line).items():
                self._cookies[name] = cookie.value
        return Page(answer.status, html, sent, arrived)

    def _form(self, path: str, field: str) -> Fields:
        answer = self._send("GET", path)
        assert answer.status == 200, (path, answer.status, answer.told)
        [form] = [form for form in _Reader(answer.html).forms if field in form and "csrfmiddlewaretoken" in form]
        return form

    def _change(self, path: str, field: str, expected: int, changes: Fields) -> Page:
        path = f"/{ORGANIZATION}/keys/{path}"
        answer = self._send("POST", path, {**self._form(path, field), **changes})
        assert answer.status == expected, (path, answer.status, answer.told)
        return answer

    # What an operator does to a key; each returns when it was asked for and done.

    def create(self, name: str) -> tuple[Page, str]:
        """Make a key with a scope; returns its text as well, which the page shows once."""
        terms = {"name": [name], "purpose": ["To be changed"], "scopes": ["orders:read"], "expires": ["never"]}
        answer = self._change("new", "expires_on", 200, {**terms, "owner": [""], "owner_contact": ["a@example.com"]})
        return answer, _Reader(answer.html).secret

    def pause(self, public_id: str) -> Page:
        return self._change(f"{public_id}/pause", "token", 302, {})

    def resume(self, public_id: str) -> Page:
        return self._change(f"{public_id}/resume", "token", 302, {})

    def edit(self, public_id: str, **changes: str | list[str]) -> Page:
        """Change what the edit form has under these names."""
        fields = {name: value if isinstance(value, list) else [value] for name, value in changes.items()}
        return self._change(f"{public_id}/edit", "expires_on", 302, fields)

    def regenerate(self, public_id: str) -> tuple[Page, str]:
        """Replace a key; returns the new one's text as well."""
        answer = self._change(f"{public_id}/regenerate", "token", 200, {})
        return answer, _Reader(answer.html).secret

    def revoke(self, public_id: str, name: str) -> Page:
        """Revoke a key; one that is in use asks for its name, as it does a person."""
        path = f"/{ORGANIZATION}/keys/{public_id}/revoke"
        for _ in range(2):
            form = self._form(path, "reason")
            typed = {"confirmation": [name]} if "confirmation" in form else {}
            answer = self._send("POST", path, {**form, "reason": ["leaked"], **typed})
            if answer.status != 422:  # the key came into use since its page was opened
                break
        assert answer.status == 302, (path, answer.status, answer.told)
        return answer
