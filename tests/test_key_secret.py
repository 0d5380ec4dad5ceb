"""The text of a key: made, parsed, hashed, compared and redacted without a database."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apikeys import key_secret

PEPPER = b"p" * 32


def test_a_key_has_the_format_that_the_documentation_states():
    text = key_secret.make("ka", "prod").text
    assert re.fullmatch(r"ka_prod_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}[0-9A-Za-z]{6}", text)


def test_parse_gives_back_what_make_made():
    key = key_secret.make("acme", "stag")
    assert key_secret.parse(key.text) == key


def test_two_keys_are_never_alike():
    keys = [key_secret.make("ka", "prod") for _ in range(1000)]
    assert len({key.public_id for key in keys}) == len({key.secret for key in keys}) == 1000


@given(position=st.integers(0, 68), replacement=st.sampled_from(string.ascii_letters + string.digits))
def test_one_wrong_character_is_found_by_the_checksum(position, replacement):
    text = key_secret.make("ka", "prod").text
    changed = text[:position] + replacement + text[position + 1 :]
    assert key_secret.parse(changed) is None or changed == text


@given(st.text(max_size=200))
def test_noise_is_never_a_key_and_never_an_error(text):
    assert key_secret.parse(text) is None


@given(st.binary(max_size=200))
def test_bytes_read_as_latin_1_are_never_an_error(content):
    assert key_secret.parse(content.decode("latin-1")) is None


@pytest.mark.parametrize("change", ["{} ", " {}", "{}\n", "{}\0", "{0}{0}", "\ufeff{}"])
def test_a_key_with_anything_around_it_is_malformed(change):
    assert key_secret.parse(change.format(key_secret.make("ka", "prod").text)) is None


def test_the_digest_depends_on_every_part_and_on_the_pepper():
    key = key_secret.make("ka", "prod")
    other_id = key_secret.KeySecret(key.prefix, key.code, key_secret.make_public_id(), key.secret)
    digests = {
        key_secret.digest(key, PEPPER),
        key_secret.digest(key, b"q" * 32),
        key_secret.digest(other_id, PEPPER),
        key_secret.digest(key_secret.KeySecret("kb", key.code, key.public_id, key.secret), PEPPER),
    }
    assert len(digests) == 4
    assert all(len(digest) == 32 for digest in digests)


def test_a_key_matches_under_its_own_pepper_only():
    key = key_secret.make("ka", "prod")
    kept = key_secret.digest(key, PEPPER)
    assert key_secret.matches(key, kept, 1, {1: PEPPER, 2: b"q" * 32})
    assert not key_secret.matches(key, kept, 2, {1: PEPPER, 2: b"q" * 32})
    assert not key_secret.matches(key, kept, 3, {1: PEPPER})


def test_a_fingerprint_shows_both_ends_of_the_public_id():
    assert key_secret.fingerprint("ka", "prod", "4kT9wX2mQ7bN") == "ka_prod_4kT9…Q7bN"


def test_the_repr_of_a_key_does_not_hold_its_secret():
    key = key_secret.make("ka", "prod")
    assert key.secret not in repr(key)
    assert key.secret not in f"{key}"


@given(st.text(max_size=50), st.text(max_size=50))
def test_redacting_takes_the_secret_out_of_any_text(before, after):
    key = key_secret.make("ka", "prod")
    redacted = key_secret.redact(f"{before} {key.text} {after}")
    assert key.secret not in redacted
    assert key.public_id in redacted


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_key_cut_short_still_counts_as_one(cut):
    text = key_secret.make("ka", "prod").text[:-cut]
    assert key_secret.looks_like_key(f"  {text}")
    assert not key_secret.looks_like_key("ka_prod_4kT9…Q7bN")
    assert not key_secret.looks_like_key("checkout gateway")
