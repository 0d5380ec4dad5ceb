"""All stylesheets as one file."""

import gzip
import re

from django.test import Client

PATH = "/assets/style.css"


def test_it_is_sent_to_everybody_without_asking_the_database():
    response = Client().get(PATH)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/css; charset=utf-8"
    assert "font" in response.text
    assert "Cookie" not in response.get("Vary", "")


def test_the_address_with_its_version_is_kept_for_a_year_and_any_other_is_asked_for_again(db):
    [address] = set(re.findall(rf'{PATH}\?v=[^"]+', Client().get("/accounts/login/").text))
    assert "immutable" in Client().get(address)["Cache-Control"]
    for other in (PATH, f"{PATH}?v=old", f"{PATH}?v="):
        assert Client().get(other)["Cache-Control"] == "no-cache"


def test_it_is_compressed_for_who_can_read_that():
    plain, packed = Client().get(PATH), Client().get(PATH, headers={"Accept-Encoding": "gzip, br"})
    assert packed["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.content) == plain.content
    assert "Accept-Encoding" in packed["Vary"]
    assert len(packed.content) < len(plain.content)


def test_it_is_not_for_post():
    assert Client().post(PATH).status_code == 405
