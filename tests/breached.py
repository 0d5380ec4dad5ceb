"""Lists of breached passwords, as haveibeenpwned-downloader writes them."""

import hashlib


def digest_of(password):
    return hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()


def lines_of(passwords):
    """Return the lines of a list, in its order: the hash, and how often it was seen."""
    return [f"{digest}:{number % 97 + 1}" for number, digest in enumerate(sorted(map(digest_of, passwords)))]


def write_list(path, passwords, end="\r\n"):
    """Write the one file."""
    path.write_bytes("".join(line + end for line in lines_of(passwords)).encode())
    return path


def write_folder(folder, passwords):
    """Write the other form: a file for each of the prefixes, all 16^5 of them being there in earnest."""
    folder.mkdir()
    for line in lines_of(passwords):
        with (folder / f"{line[:5]}.txt").open("a", newline="\r\n") as file:
            file.write(line[5:] + "\n")
    return folder
