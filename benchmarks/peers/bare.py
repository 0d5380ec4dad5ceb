"""A WSGI function that does nothing: what the server itself can do."""

from collections.abc import Callable
from typing import Any


def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer 200."""
    start_response("200 OK", [("Content-Length", "0")])
    return []
