"""What the documents and the units of systemd say must be there is there."""

import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from apikeys.models import AlertKind
from apikeys.models.alert_kind import NumberOption
from tests.database import setting_variables

pytestmark = pytest.mark.any_engine

ROOT = Path(__file__).parent.parent


def test_every_setting_is_documented_and_nothing_else() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(setting_variables())


def test_installation_sets_only_what_there_is() -> None:
    text = (ROOT / "docs/install.md").read_text()
    written = re.findall(r"^    ([A-Z_]+)=", text, re.MULTILINE)
    assert written
    assert set(written) <= set(setting_variables())


@pytest.mark.parametrize("unit", sorted((ROOT / "deploy").glob("*.service")), ids=lambda path: path.stem)
def test_unit_runs_a_command_that_exists(unit: Path) -> None:
    [started] = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    command = re.search(r"manage\.py (\w+)", started)
    assert "keyadmin.asgi:application" in started or (command and command[1] in get_commands())


@pytest.mark.parametrize("timer", sorted((ROOT / "deploy").glob("*.timer")), ids=lambda path: path.stem)
def test_timer_starts_a_unit_that_exists_and_is_told_of(timer: Path) -> None:
    assert timer.with_suffix(".service").exists()
    assert timer.name in (ROOT / "docs/install.md").read_text()


@pytest.mark.parametrize("kind", AlertKind)
def test_each_kind_of_alert_has_a_page_that_says_what_to_do(kind: AlertKind) -> None:
    page = f"{kind.value.replace('_', '-')}.md"
    text = (ROOT / "docs/alerts" / page).read_text()
    assert text.startswith(f"# {kind.label}\n")
    assert "\n## What to do\n" in text
    assert f"]({page})" in (ROOT / "docs/alerts/README.md").read_text()
    for option in kind.traits.options:
        if isinstance(option, NumberOption):
            assert f"| {option.default} |" in text, option.name


@pytest.mark.parametrize(
    "command", sorted(path.stem for path in (ROOT / "apikeys/management/commands").glob("[a-z]*.py"))
)
def test_each_command_is_documented(command: str) -> None:
    text = (ROOT / "docs/commands.md").read_text()
    assert f"\n## {command}\n" in text
    assert f"[`{command}`](#{command})" in text


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target
