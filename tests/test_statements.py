"""PostgreSQL's arrays as text: whatever a client sends comes back as it was."""

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeys.statements import array

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
HOSTILE = st.sampled_from(["", "NULL", "null", '"', '","', "\\", '\\"', "{}", "{", ",", " ", "a,b", "ü"])


@pytest.mark.django_db
@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS | HOSTILE | st.none(), max_size=6))
def test_an_array_comes_back_as_it_was(values):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no arrays")
    with connection.cursor() as cursor:
        cursor.execute("SELECT CAST(%s AS text[])", [array(values)])
        assert cursor.fetchone()[0] == values


def test_numbers_stand_as_their_text():
    assert array([1, 2]) == '{"1","2"}'
    assert array([]) == "{}"
