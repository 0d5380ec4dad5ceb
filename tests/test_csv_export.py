"""CSV that a spreadsheet opens without running anything, and that is read again as it was."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apikeys.csv_export import csv_response, defuse


def written(header, rows):
    return b"".join(csv_response("x.csv", header, rows).streaming_content).decode()


def read(text):
    return list(csv.reader(io.StringIO(text, newline="")))


def test_a_response_is_a_download_in_utf_8():
    response = csv_response("acme-keys.csv", ["a"], [])
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"] == 'attachment; filename="acme-keys.csv"'
    assert response["X-Content-Type-Options"] == "nosniff"


def test_lines_end_as_rfc_4180_says():
    assert written(["a", "b"], [[1, None], ['say "hi"', "x,y"]]) == 'a,b\r\n1,\r\n"say ""hi""","x,y"\r\n'


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", '=cmd|" /C calc"!A0'])
def test_what_could_be_a_formula_becomes_text(cell):
    assert defuse(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["a=1", "", "مفتاح", "🔑", 5, -5, 1.5, True])
def test_everything_else_stays_as_it_is(cell):
    assert defuse(cell) == cell


def test_nothing_is_an_empty_cell():
    assert defuse(None) == ""


CELLS = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2)))
def test_any_text_is_read_again_and_none_begins_like_a_formula(rows):
    found = read(written(["a", "b"], rows))[1:]
    assert found == [[defuse(cell) for cell in row] for row in rows]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in found for cell in row)


def test_rows_are_written_as_they_are_read():
    taken = []

    def rows():
        for number in range(3):
            taken.append(number)
            yield [number]

    stream = iter(csv_response("x.csv", ["n"], rows()))
    assert next(stream) == b"n\r\n"
    assert taken == []
    next(stream)
    assert taken == [0]
