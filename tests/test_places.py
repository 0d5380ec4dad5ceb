"""Where an address is, from a real database that is there, missing, damaged, hostile or replaced."""

import logging
import os
import random
from pathlib import Path

import pytest

from apikeys.checks import check_places
from apikeys.places import credit, place_of
from tests.place_database import BERLIN, FRANCE, LISBON, NETWORKS, SINGAPORE, UNKNOWN, record, write_places

pytestmark = pytest.mark.any_engine


@pytest.fixture
def database(tmp_path, settings):
    settings.GEOIP_DATABASE = str(tmp_path / "places.mmdb")
    return tmp_path / "places.mmdb"


@pytest.fixture
def places(database):
    return write_places(database)


PLACES = {
    BERLIN: "Berlin, Germany",
    f"::ffff:{BERLIN}": "Berlin, Germany",
    FRANCE: "France",
    SINGAPORE: "Singapore",
    LISBON: "Lisbon, Portugal",
    UNKNOWN: "",
    "2001:db8:18::1": "",
}


@pytest.mark.parametrize(("address", "place"), PLACES.items(), ids=PLACES)
def test_a_place_is_told_in_english_words(places, address, place):
    assert place_of(address) == place


NEAR = {
    "127.0.0.1": "this machine",
    "127.8.9.10": "this machine",
    "::1": "this machine",
    "::ffff:127.0.0.1": "this machine",
    "10.1.2.3": "private network",
    "172.31.255.255": "private network",
    "192.168.1.1": "private network",
    "169.254.1.1": "private network",
    "100.64.0.1": "private network",
    "100.127.255.255": "private network",
    "fd00::1": "private network",
    "fe80::1": "private network",
    "172.32.0.1": "",
    "100.128.0.1": "",
    "0.0.0.0": "",  # noqa: S104 - nothing is bound to it
    "::": "",
    "": "",
    "somewhere": "",
    "x" * 5000: "",
}


@pytest.mark.parametrize(("address", "place"), NEAR.items(), ids=lambda text: text[:40] or "nothing")
@pytest.mark.parametrize("path", ["", "/nowhere/places.mmdb"], ids=["without a database", "with one that is away"])
def test_what_is_near_needs_no_database(settings, caplog, path, address, place):
    settings.GEOIP_DATABASE = path
    assert place_of(address) == place


def test_an_address_that_nobody_knows_is_nowhere(places):
    assert place_of(None) == ""


def test_a_database_of_ipv4_alone_knows_no_ipv6_and_is_not_damaged(database, caplog):
    write_places(database, {"203.0.113.0/24": NETWORKS["203.0.113.0/24"]}, version=4)
    assert [place_of(BERLIN), place_of(LISBON)] == ["Berlin, Germany", ""]
    assert not caplog.records


# What the file says


HOSTILE = {
    "markup": ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    "lines": ("Berlin\r\nBcc: all@example.com\x85\u2028next", "Berlin Bcc: all@example.com next"),
    "control characters": ("Ber\0l\x1b[31min\x7f", "Berl[31min"),
    "what turns the direction": ("\u202eBer\u2066lin\u200b\ufeff", "Berlin"),
    "a long name": ("x" * 100_000, "x" * 59 + "…"),
    "a long name of nothing": ("\0" * 100_000 + "x", ""),
    "sixty letters": ("y" * 60, "y" * 60),
    "nothing": ("  \n ", ""),
    "a number": (7, ""),
    "a list": (["Berlin"], ""),
    "letters of any script": ("Zürich 東京 ירושלים", "Zürich 東京 ירושלים"),
}


@pytest.mark.parametrize(("name", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_a_name_becomes_one_short_line(database, caplog, name, shown):
    write_places(database, {"203.0.113.0/24": record("Germany", name)})
    assert place_of(BERLIN) == ", ".join([*filter(None, [shown]), "Germany"])
    assert not caplog.records


SHAPES = {
    "text": "Berlin",
    "a list": ["Berlin"],
    "a city of text": {"city": "Berlin"},
    "no names": {"city": {"geoname_id": 1}},
    "names of text": {"city": {"names": "Berlin"}},
    "names in a list": {"city": {"names": ["Berlin"]}},
    "no English name": {"city": {"names": {"de": "Köln"}}},
}


@pytest.mark.parametrize("told", SHAPES.values(), ids=SHAPES)
def test_a_record_of_another_shape_is_no_place(database, caplog, told):
    write_places(database, {"203.0.113.0/24": told})
    assert place_of(BERLIN) == ""
    assert not caplog.records
    [message] = check_places()
    assert "tells of no cities or countries, and calls itself 'GeoLite2-City'" in message.msg


# What becomes of the file


def test_another_file_in_its_place_is_read_without_a_restart(places):
    assert place_of(BERLIN) == "Berlin, Germany"
    write_places(places, {"203.0.113.0/24": record("Germany", "Hamburg")})
    assert place_of(BERLIN) == "Hamburg, Germany"


def test_a_file_that_is_written_over_is_read_anew(places, tmp_path):
    assert place_of(BERLIN) == "Berlin, Germany"
    other = write_places(tmp_path / "other.mmdb", {"203.0.113.0/24": record("Germany", "Munich")})
    inode = places.stat().st_ino
    places.write_bytes(other.read_bytes())
    assert places.stat().st_ino == inode
    assert place_of(BERLIN) == "Munich, Germany"


def test_a_file_that_is_cut_short_while_it_is_open_ends_no_process(places, caplog):
    assert place_of(BERLIN) == "Berlin, Germany"
    os.truncate(places, 40)
    assert place_of(BERLIN) == ""
    assert len(caplog.records) == 1


def test_a_file_that_goes_and_comes_back_is_told_of_each_time_it_goes(places, caplog):
    for _ in range(2):
        assert place_of(BERLIN) == "Berlin, Germany"
        places.unlink()
        assert [place_of(BERLIN), place_of(FRANCE), place_of(LISBON)] == ["", "", ""]
        write_places(places)
    assert place_of(BERLIN) == "Berlin, Germany"
    assert len(caplog.records) == 2


def test_it_is_opened_once(places):
    def held():
        return [one.name for one in Path("/proc/self/fd").iterdir() if one.resolve() == places]

    place_of(BERLIN)
    first = held()
    assert [place_of(one) for one in (FRANCE, LISBON)] == ["France", "Lisbon, Portugal"]
    assert held() == first
    assert len(first) == 1


def missing(path):
    pass


def a_folder(path):
    path.mkdir()


def a_pipe(path):
    os.mkfifo(path)


def empty(path):
    path.touch()


def text(path):
    path.write_text("<html>Sign in to download</html>" * 1000)


def half(path):
    whole = write_places(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def without_its_beginning(path):
    whole = write_places(path).read_bytes()
    path.write_bytes(whole[-(len(whole) // 3) :])


def a_marker_alone(path):
    path.write_bytes(b"\xab\xcd\xefMaxMind.com")


def a_marker_and_noise(path):
    path.write_bytes(b"\xab\xcd\xefMaxMind.com" + random.Random(1).randbytes(5000))  # noqa: S311 - noise, no secret


def a_loop_of_links(path):
    path.symlink_to(path)


BROKEN = [
    *(missing, a_folder, a_pipe, empty, text, half, without_its_beginning),
    *(a_marker_alone, a_marker_and_noise, a_loop_of_links),
]


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_what_is_no_database_is_found_at_the_start_and_logged_once(database, caplog, make):
    make(database)
    [message] = check_places()
    assert message.id == "apikeys.W007"
    assert message.msg.startswith(f"GEOIP_DATABASE: {database} cannot be used: ")
    assert [place_of(BERLIN), place_of(FRANCE), place_of("127.0.0.1")] == ["", "", "this machine"]
    assert credit() is None
    [told] = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert told.getMessage().startswith(f"GEOIP_DATABASE: {database}: ")


def test_damage_anywhere_breaks_nothing_and_is_logged_once_a_file(places, caplog):
    whole, chance = places.read_bytes(), random.Random(17)  # noqa: S311 - it damages files
    for number in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 3, 30])):
            damaged[chance.randrange(len(whole))] = chance.randrange(256)
        # Of another size each time: no file system's clock need be fine enough.
        places.write_bytes(damaged + bytes(number))
        caplog.clear()
        check_places()
        found = [place_of(one) for one in (BERLIN, FRANCE, SINGAPORE, LISBON, UNKNOWN)] * 2
        assert all(isinstance(one, str) and one.isprintable() and len(one) <= 122 for one in found)
        assert len(caplog.records) <= 1


def test_a_good_database_is_found_to_be_one(places):
    assert check_places() == []


def test_none_at_all_is_right_too(settings):
    settings.GEOIP_DATABASE = ""
    assert check_places() == []


def test_a_database_of_something_else_is_found_at_the_start(database):
    asn = {"203.0.113.0/24": {"autonomous_system_number": 64500, "autonomous_system_organization": "Example"}}
    write_places(database, asn, kind="GeoLite2-ASN\n")
    [message] = check_places()
    assert message.msg.endswith(" it tells of no cities or countries, and calls itself 'GeoLite2-ASN'.")
    assert place_of(BERLIN) == ""


CREDITS = {
    "GeoLite2-City": "https://www.maxmind.com",
    "GeoLite2-Country": "https://www.maxmind.com",
    "DBIP-City-Lite": "https://db-ip.com",
    "GeoIP2-City": None,
    "<script>": None,
}


@pytest.mark.parametrize(("kind", "link"), CREDITS.items(), ids=CREDITS)
def test_whose_data_it_is_is_told_where_the_licence_asks_for_it(database, kind, link):
    write_places(database, kind=kind)
    found = credit()
    assert (found[1] if found else None) == link
