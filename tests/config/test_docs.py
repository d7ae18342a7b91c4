"""docs/configuration.md: its examples load, and its tables have every key, default and kind."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from config import settings
from config.load import load
from providers.registry import LATER_KINDS, PROVIDER_KINDS
from tests.config.files import KNOWN, ROOT, written

TEXT = (ROOT / "docs" / "configuration.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)
ENV = {name: f"sk-{name.lower()}" for name in ("OPENAI_API_KEY", "LAB_KEY", "SEARCH_KEY", "WRITERS_KEY", "WRITERS_OLD_KEY")}
SECTIONS: list[type[BaseModel]] = [
    getattr(settings, name) for name in dir(settings) if name.endswith("Settings") and name not in ("Settings", "BaseSettings")
]


def rows() -> dict[str, list[str]]:
    """Each table row by each name of its first cell."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in TEXT.splitlines() if line.startswith("| `")]
    return {name: row for row in cells for name in re.findall(r"`([^`]+)`", row[0])}


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block{n}" for n in range(len(BLOCKS))])
def test_every_example_loads_with_nothing_to_say(tmp_path: Path, block: str) -> None:
    (tmp_path / "lab.key").write_text("sk-lab\n")
    result = load(written(tmp_path, block.encode()), ENV, KNOWN)
    assert result.advice == []


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 5


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_key_has_its_row(section: type[BaseModel]) -> None:
    known = rows()
    for name in section.model_fields:
        nested = name == "retry"
        assert nested or name in known or f"retry.{name}" in known, f"{section.__name__}.{name}"


PLAIN_DEFAULTS = [
    (name, field.default)
    for section in SECTIONS
    for name, field in section.model_fields.items()
    if isinstance(field.default, str | int | float) and not isinstance(field.default, bool)
]


@pytest.mark.parametrize(("name", "default"), PLAIN_DEFAULTS, ids=[name for name, _ in PLAIN_DEFAULTS])
def test_every_default_is_the_one_of_the_code(name: str, default: str | int | float) -> None:
    row = rows().get(name) or rows()[f"retry.{name}"]
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    assert row[2] == f"`{shown}`", row


def test_every_kind_has_its_row_with_url_and_variable() -> None:
    known = rows()
    for name, kind in PROVIDER_KINDS.items():
        url, variable = known[name][1], known[name][2]
        assert url == (f"`{kind.base_url}`" if kind.base_url else "name one")
        assert variable == (f"`{kind.key_env}`" if kind.key_env else "none needed")


def test_every_later_kind_is_named_as_such() -> None:
    later = TEXT.split("## Not supported yet")[1]
    assert all(f"`{kind}`" in later for kind in LATER_KINDS)
