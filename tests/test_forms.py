"""Words and values of forms, without a database."""

from datetime import timedelta

import pytest

from apikeys.forms import span_words
from apikeys.models.key import PAUSES
from apikeys.rotation_forms import LINKS, OVERLAPS

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(), "less than a minute"),
        (timedelta(seconds=29), "less than a minute"),
        (timedelta(seconds=31), "1 minute"),
        (MINUTE, "1 minute"),
        (2 * MINUTE, "2 minutes"),
        (59 * MINUTE, "59 minutes"),
        (HOUR, "1 hour"),
        (90 * MINUTE, "90 minutes"),
        (2 * HOUR, "2 hours"),
        (2 * HOUR + 29 * MINUTE, "2 hours"),
        (23 * HOUR, "23 hours"),
        (DAY, "1 day"),
        (36 * HOUR, "36 hours"),
        (2 * DAY, "2 days"),
        (90 * DAY, "90 days"),
        (90 * DAY - timedelta(seconds=1), "90 days"),
        (1000 * DAY, "1,000 days"),
    ],
)
def test_a_length_of_time_is_told_in_its_largest_unit_that_fits(span, words):
    assert span_words(span) == words


@pytest.mark.parametrize("choices", [OVERLAPS[1:], LINKS, PAUSES], ids=["overlaps", "links", "pauses"])
def test_each_choice_of_a_length_has_words_of_its_own(choices):
    words = [span_words(choice) for choice in choices]
    assert len(set(words)) == len(choices)
    for choice, told in zip(choices, words, strict=True):
        number, unit = told.split()
        assert choice == int(number) * {"minute": MINUTE, "hour": HOUR, "day": DAY}[unit.removesuffix("s")]
