"""docs/security/asvs.md: each requirement of levels 1 and 2 has its row, and what a row names exists."""

import re

import pytest
from django.conf import settings

from tests.test_architecture import ROOT

pytestmark = pytest.mark.any_engine

TEXT = (ROOT / "docs/security/asvs.md").read_text()
ROWS = [line for line in TEXT.splitlines() if line.startswith("| V")]
IDS = [name for row in ROWS for name in re.findall(r"\bV\d+\.\d+\.\d+\b", row.split("|")[1])]
# Of each section of ASVS 5.0.0 the numbers of its requirements of level 1 and 2.
REQUIRED = {
    "1.1": "1 2",
    "1.2": "1 2 3 4 5 6 7 8 9",
    "1.3": "1 2 3 4 5 6 7 8 9 10 11",
    "1.4": "1 2 3",
    "1.5": "1 2",
    "2.1": "1 2 3",
    "2.2": "1 2 3",
    "2.3": "1 2 3 4",
    "2.4": "1",
    "3.2": "1 2",
    "3.3": "1 2 3 4",
    "3.4": "1 2 3 4 5 6",
    "3.5": "1 2 3 4 5",
    "3.7": "1 2",
    "4.1": "1 2 3",
    "4.2": "1",
    "4.3": "1 2",
    "4.4": "1 2 3 4",
    "5.1": "1",
    "5.2": "1 2 3",
    "5.3": "1 2",
    "5.4": "1 2 3",
    "6.1": "1 2 3",
    "6.2": "1 2 3 4 5 6 7 8 9 10 11 12",
    "6.3": "1 2 3 4",
    "6.4": "1 2 3 4",
    "6.5": "1 2 3 4 5",
    "6.6": "1 2 3",
    "6.8": "1 2 3 4",
    "7.1": "1 2 3",
    "7.2": "1 2 3 4",
    "7.3": "1 2",
    "7.4": "1 2 3 4 5",
    "7.5": "1 2",
    "7.6": "1 2",
    "8.1": "1 2",
    "8.2": "1 2 3",
    "8.3": "1",
    "8.4": "1",
    "9.1": "1 2 3",
    "9.2": "1 2 3 4",
    "10.1": "1 2",
    "10.2": "1 2",
    "10.3": "1 2 3 4",
    "10.4": "1 2 3 4 5 6 7 8 9 10 11",
    "10.5": "1 2 3 4 5",
    "10.6": "1 2",
    "10.7": "1 2 3",
    "11.1": "1 2",
    "11.2": "1 2 3",
    "11.3": "1 2 3",
    "11.4": "1 2 3 4",
    "11.5": "1",
    "11.6": "1",
    "12.1": "1 2 3",
    "12.2": "1 2",
    "12.3": "1 2 3 4",
    "13.1": "1",
    "13.2": "1 2 3 4 5",
    "13.3": "1 2",
    "13.4": "1 2 3 4 5",
    "14.1": "1 2",
    "14.2": "1 2 3 4",
    "14.3": "1 2 3",
    "15.1": "1 2 3",
    "15.2": "1 2 3",
    "15.3": "1 2 3 4 5 6 7",
    "16.1": "1",
    "16.2": "1 2 3 4 5",
    "16.3": "1 2 3 4",
    "16.4": "1 2 3",
    "16.5": "1 2 3",
    "17.1": "1",
    "17.2": "1 2 3 4",
    "17.3": "1 2",
}
ANSWERS = ("met", "not met", "partly met", "operator", "none")


def test_each_requirement_has_one_row():
    required = {f"V{section}.{number}" for section, numbers in REQUIRED.items() for number in numbers.split()}
    assert required - set(IDS) == set()
    assert sorted(IDS) == sorted(set(IDS))


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip()[:20] for row in ROWS])
def test_a_row_says_how_and_what_it_names_exists(row):
    *_, how, _ = row.split("|")
    assert how.strip().startswith(ANSWERS), row
    for name in re.findall(r"`([^`]+)`", how):
        if name.startswith(("tests/", "docs/", "static/")):
            assert (ROOT / name).is_file(), name
        elif name.isupper():
            assert hasattr(settings, name), name
    # What is met is met by something; none and what is the operator's need no test.
    if how.strip().startswith(("not met", "partly met")):
        assert len(how) > 40, "an honest row says why"
