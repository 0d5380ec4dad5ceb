"""The controls that are drawn faster: the same as Django's."""

import pytest
from django import forms
from django.test.html import parse_html

from apikeys.widgets import QuickSelect

CHOICES = [("", "Any"), ("a", "A <b>&"), ("'\"", "quotes"), (3, "a number")]


@pytest.mark.parametrize("value", [None, "", "a", "'\"", 3, "3", "not a choice"])
@pytest.mark.parametrize("attrs", [None, {"id": "id_owner", "required": True, "aria-label": 'a "label"'}])
def test_it_draws_what_django_draws(value, attrs):
    ours = QuickSelect(choices=CHOICES).render("owner", value, attrs)
    assert parse_html(ours) == parse_html(forms.Select(choices=CHOICES).render("owner", value, attrs))
