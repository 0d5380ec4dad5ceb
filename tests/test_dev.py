"""./dev answers a wrong call at once, before it installs anything."""

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.any_engine

DEV = Path(__file__).parent.parent / "dev"


def dev(*arguments: str) -> subprocess.CompletedProcess[str]:
    # An empty environment: the script may need no variable at all.
    return subprocess.run(
        ["/bin/sh", DEV, *arguments], check=False, env={}, capture_output=True, text=True, timeout=30, cwd="/"
    )


def test_help_names_every_command() -> None:
    for arguments in ([], ["help"], ["--help"]):
        told = dev(*arguments)
        assert told.returncode == 0
        for command in ("demo", "manage", "check", "test", "bench"):
            assert f"\n  {command} " in told.stdout


@pytest.mark.parametrize("command", ["demo", "check", "test"])
def test_each_command_has_help_of_its_own(command: str) -> None:
    assert dev(command, "--help").stdout.startswith(f"Usage: ./dev {command}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "There is no command nothing."),
        (["demo", "--nothing"], "demo knows no --nothing."),
        (["demo", "--port"], "--port needs a value."),
        (["demo", "--port", "x"], "from 1 to 65535, not 'x'"),
        (["demo", "--port=0"], "from 1 to 65535, not '0'"),
        (["demo", "--port=65536"], "from 1 to 65535, not '65536'"),
        (["demo", "--port=100000000000000000000"], "from 1 to 65535"),
        (["check", "everything"], "check takes no everything."),
        (["bench", "nothing"], "Usage: ./dev bench NAME"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(arguments: list[str], words: str) -> None:
    told = dev(*arguments)
    assert told.returncode != 0
    assert words in told.stderr


def test_bench_hands_on_to_the_program_named() -> None:
    told = subprocess.run(
        [DEV, "bench", "replay", "--help"], check=False, env=os.environ, capture_output=True, text=True, timeout=120
    )
    assert told.stdout.startswith("usage: replay.py"), told.stderr
