"""Many keys at once: the index of trigrams takes an hour key by key, and a minute at the end."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def index_at_the_end() -> Iterator[None]:
    """Drop the index of trigrams, where there is one, and make it anew afterwards."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'key_by_text'")
        definitions = [definition for (definition,) in cursor.fetchall()]
        cursor.execute("DROP INDEX IF EXISTS key_by_text")
        yield
        for definition in definitions:
            cursor.execute(definition)
