"""A table as a download, in the format that was asked for."""

from collections.abc import Iterable, Sequence

from django.http import Http404, StreamingHttpResponse

from apikeys.csv_export import csv_response
from apikeys.json_export import json_response

FORMATS = {"csv": csv_response, "json": json_response}


def export_response(
    kind: str, stem: str, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> StreamingHttpResponse:
    """Return ``stem.csv`` or ``stem.json`` of a header and rows; any other kind is a 404."""
    if kind not in FORMATS:
        raise Http404
    return FORMATS[kind](f"{stem}.{kind}", header, rows)
