"""The file of breached passwords: what is in it is found, what is not is not, and what is no such file is told of."""

import hashlib
import os

import pytest

from apikeys.breached_passwords import PasswordListError, check_list, is_breached
from tests.breached import digest_of, lines_of, write_folder, write_list

pytestmark = pytest.mark.any_engine

MANY = [f"breached {number}" for number in range(10_000)]
BY_HASH = sorted(MANY, key=digest_of)
JUNK = hashlib.shake_128(b"junk").digest(100_000)
ABSENT = [f"nowhere {number}" for number in range(500)]
FORMS = {
    "as it is written on Windows": lambda text: text,
    "as it is written on Linux": lambda text: text.replace("\r\n", "\n"),
    "without the last line's end": lambda text: text.rstrip("\r\n"),
    "without counts": lambda text: "\n".join(line.partition(":")[0] for line in text.split("\n")),
    "in small letters": str.lower,
}


@pytest.fixture(scope="module", params=FORMS.values(), ids=FORMS)
def good(request, tmp_path_factory):
    """A list of 10,000 in each form that a line may have."""
    path = write_list(tmp_path_factory.mktemp("list") / "pwnedpasswords.txt", MANY)
    path.write_bytes(request.param(path.read_bytes().decode()).encode())
    return path


def test_each_password_of_the_list_is_found_from_the_first_to_the_last(good):
    check_list(good)
    for password in (BY_HASH[0], BY_HASH[5_000], BY_HASH[-1]):
        assert is_breached(good, password)
    assert all(is_breached(good, password) for password in MANY)


def test_a_password_that_is_not_in_the_list_is_not_found(good):
    before, after = min(ABSENT, key=digest_of), max(ABSENT, key=digest_of)
    assert not any(is_breached(good, password) for password in (before, after, *ABSENT))


def test_case_and_space_are_part_of_a_password(good):
    assert is_breached(good, "breached 1")
    assert not any(is_breached(good, one) for one in ("Breached 1", "breached 1 ", "breached1", ""))


@pytest.mark.parametrize("number", [1, 2, 3, 5, 76, 77, 78, 90, 100, 200])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_a_list_of_any_length_is_read_whole(tmp_path, number, end):
    path = write_list(tmp_path / "list.txt", MANY[:number], end or "\n")
    path.write_bytes(path.read_bytes() if end else path.read_bytes().rstrip(b"\n"))
    check_list(path)
    assert [is_breached(path, one) for one in MANY[: number + 20]] == [True] * number + [False] * 20


def test_a_list_of_40_gigabytes_is_searched_by_few_short_reads(tmp_path):
    """Nearly all of the file is a hole, and reading there is an error: only where the search must look are lines."""
    path = tmp_path / "huge.txt"
    greatest = f"{'F' * 40}:1\n".encode()
    place = 40 * 2**30
    with path.open("wb") as file:
        file.truncate(place)
        while place > 4096:
            place //= 2
            file.seek(place - 64)
            file.write(b"\n" + greatest * 10)
        file.seek(0)
        file.write(f"{digest_of(MANY[0])}:1\n".encode() + greatest * 200)
    assert path.stat().st_blocks * 512 < 2**20
    assert is_breached(path, MANY[0])
    assert not is_breached(path, MANY[1])
    with pytest.raises(PasswordListError, match="no SHA-1 hash"):
        check_list(path)


def test_a_folder_of_files_by_prefix_is_a_list_too(tmp_path):
    folder = write_folder(tmp_path / "pwnedpasswords", MANY[:200])
    assert all(is_breached(folder, one) for one in MANY[:200])
    lines = lines_of(MANY[:200])
    same = next(one for one in ABSENT + MANY[200:] if digest_of(one)[:2] == lines[0][:2])
    (folder / f"{digest_of(same)[:5]}.txt").touch()
    assert not is_breached(folder, same)


def test_a_folder_is_looked_over_by_samples_of_its_files(tmp_path):
    folder = tmp_path / "pwnedpasswords"
    folder.mkdir()
    for prefix in (*(f"{digit:X}0000" for digit in range(16)), "FFFFF"):
        (folder / f"{prefix}.txt").write_text("".join(f"{digit}{'0' * 34}:3\r\n" for digit in "13A"))
    check_list(folder)
    (folder / "70000.txt").write_text("".join(f"{digit}{'0' * 34}:3\r\n" for digit in "3A1"))
    with pytest.raises(PasswordListError, match="is not ordered by hash"):
        check_list(folder)
    (folder / "70000.txt").unlink()
    with pytest.raises(PasswordListError, match="cannot be read"):
        check_list(folder)


def unsorted(path):
    path.write_text("\n".join(f"{digest_of(one)}:1" for one in MANY))


def last_first(path):
    path.write_text("\n".join(reversed(lines_of(MANY[:2]))))


def ntlm(path):
    path.write_text("".join(f"{line[:32]}:1\n" for line in lines_of(MANY)))


def cut_short(path):
    text = write_list(path, (f"breached {number}" for number in range(40_000))).read_bytes()
    path.write_bytes(text[: len(text) // 45 * 30])


def second_half(path):
    text = write_list(path, (f"breached {number}" for number in range(40_000))).read_bytes()
    path.write_bytes(text[text.index(b"\n", len(text) // 3) + 1 :])


BAD = {
    "nothing": (lambda _path: None, "cannot be read (No such file or directory)"),
    "an empty file": (lambda path: path.touch(), "is empty"),
    "a list in no order": (unsorted, "is not ordered by hash"),
    "two lines in the wrong order": (last_first, "is not ordered by hash"),
    "binary junk": (lambda path: path.write_bytes(JUNK), "no SHA-1 hash"),
    "zeros": (lambda path: path.write_bytes(bytes(100_000)), "no SHA-1 hash"),
    "one long line": (lambda path: path.write_bytes(b"A" * 100_000), "no SHA-1 hash"),
    "passwords as they are": (lambda path: path.write_text("\n".join(MANY)), "no SHA-1 hash"),
    "hashes of another kind": (ntlm, "no SHA-1 hash"),
    "a file with a mark at its beginning": (lambda path: path.write_text("\ufeff" + lines_of(MANY)[0]), "no SHA-1"),
    "a download that ended early": (cut_short, "is not whole"),
    "the end of a list": (second_half, "is not whole"),
    "an empty folder": (lambda path: path.mkdir(), "cannot be read (No such file or directory)"),
    "a pipe": (os.mkfifo, "is no file"),
    "a link that leads nowhere": (lambda path: path.symlink_to("nowhere"), "cannot be read"),
    "a link to itself": (lambda path: path.symlink_to(path), "cannot be read"),
}


@pytest.mark.parametrize(("make", "said"), BAD.values(), ids=BAD)
def test_what_is_no_such_list_is_told_of(tmp_path, make, said):
    path = tmp_path / "list.txt"
    make(path)
    with pytest.raises(PasswordListError) as caught:
        check_list(path)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["binary junk", "zeros", "one long line", "hashes of another kind", "a pipe"])
def test_a_search_in_what_is_no_list_ends_with_that_error_too(tmp_path, name):
    path = tmp_path / "list.txt"
    BAD[name][0](path)
    with pytest.raises(PasswordListError):
        is_breached(path, "whatever")


def test_no_error_tells_of_the_hash(tmp_path):
    folder = write_folder(tmp_path / "pwnedpasswords", MANY[:3])
    for path in (folder, tmp_path / "nowhere"):
        with pytest.raises(PasswordListError) as caught:
            is_breached(path, "a password that nobody knows")
        assert str(caught.value) == "cannot be read (No such file or directory)"
        assert digest_of("a password that nobody knows")[:5] not in str(caught.value)
