"""Tables as files: JSON beside CSV, with the same rows in both."""

import csv
import io
import json

import pytest
from django.http import Http404
from hypothesis import given
from hypothesis import strategies as st

from apikeys.exports import export_response

HEADER = ("name", "count", "at")


def written(kind, rows, header=HEADER):
    return b"".join(export_response(kind, "acme-usage", header, rows).streaming_content).decode()


def test_a_json_response_is_a_download():
    response = export_response("json", "acme-usage", HEADER, [])
    assert response["Content-Type"] == "application/json"
    assert response["Content-Disposition"] == 'attachment; filename="acme-usage.json"'
    assert response["X-Content-Type-Options"] == "nosniff"


def test_rows_are_objects_with_the_same_values_as_in_csv():
    rows = [["checkout", 12, None], ["مفتاح 🔑", 0, "2026-11-23T14:00:00+00:00"]]
    assert json.loads(written("json", rows)) == [dict(zip(HEADER, row, strict=True)) for row in rows]
    read = list(csv.reader(io.StringIO(written("csv", rows), newline="")))
    assert read == [list(HEADER), ["checkout", "12", ""], ["مفتاح 🔑", "0", "2026-11-23T14:00:00+00:00"]]


def test_no_rows_are_an_empty_array():
    assert json.loads(written("json", [])) == []


def test_a_row_is_sent_before_the_next_one_is_made():
    made = []

    def rows():
        for number in range(3):
            made.append(number)
            yield ["x", number, None]

    sent = iter(export_response("json", "x", HEADER, rows()).streaming_content)
    next(sent)
    assert made == [0]


def test_a_format_that_does_not_exist_is_not_there():
    with pytest.raises(Http404):
        export_response("xlsx", "acme-usage", HEADER, [])


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.integers(), st.none())))
def test_any_text_survives_the_way_through_json(rows):
    assert [tuple(row.values()) for row in json.loads(written("json", rows))] == rows
