"""JSON files, streamed row by row: an array of objects, each line one of them."""

import json
from collections.abc import Iterable, Iterator, Sequence

from django.http import StreamingHttpResponse

from apikeys.http import download


def json_response(file_name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> StreamingHttpResponse:
    """Return a JSON download (RFC 8259) of rows as objects, with the header's names for their values."""
    return download(file_name, "application/json", _lines(header, rows))


def _lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    before = "[\n"
    for row in rows:
        told = dict(zip(header, row, strict=True))
        yield before + json.dumps(told, ensure_ascii=False, separators=(", ", ": "))
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"
