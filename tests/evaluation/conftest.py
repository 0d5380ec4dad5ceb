"""The clock of the tests of the evaluation."""

import pytest

from tests.evaluation.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stop the clock, at a Monday's noon."""
    return Clock(monkeypatch)
