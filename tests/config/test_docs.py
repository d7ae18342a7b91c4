"""docs/configuration.md: its examples load, and its tables have every key, default and kind."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from config import settings, tenancy
from config.load import load
from providers.address import Chosen, missing
from providers.registry import PROVIDER_KINDS
from tests.config.files import KNOWN, ROOT, written

TEXT = (ROOT / "docs" / "configuration.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)
ENV = {name: f"sk-{name.lower()}" for name in re.findall(r"\$\{([A-Z_]+)\}", "".join(BLOCKS))}
SECTIONS: list[type[BaseModel]] = [
    getattr(module, name)
    for module in (settings, tenancy)
    for name in dir(module)
    if name.endswith("Settings") and name not in ("Settings", "BaseSettings") and getattr(module, name).__module__ == module.__name__
]


def cells() -> list[list[str]]:
    """Each table row that begins with a name."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in TEXT.splitlines() if line.startswith("| `")]


def rows() -> dict[str, list[str]]:
    """Each table row by each name of its first cell."""
    return {name: row for row in cells() for name in re.findall(r"`([^`]+)`", row[0])}


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
        assert name == "retry" or name in known or f"retry.{name}" in known, f"{section.__name__}.{name}"


PLAIN_DEFAULTS = [
    (name, field.default)
    for section in SECTIONS
    for name, field in section.model_fields.items()
    if isinstance(field.default, str | int | float) and not isinstance(field.default, bool)
]


@pytest.mark.parametrize(("name", "default"), PLAIN_DEFAULTS, ids=[name for name, _ in PLAIN_DEFAULTS])
def test_every_default_is_the_one_of_the_code(name: str, default: str | int | float) -> None:
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    told = [row[2] for row in cells() if {f"`{name}`", f"`retry.{name}`"} & set(row[0].split(", "))]
    assert f"`{shown}`" in told


def test_every_kind_has_its_row_with_url_variable_wire_and_what_else_it_needs() -> None:
    known = rows()
    for name, kind in PROVIDER_KINDS.items():
        url, variable, wire, needs = known[name][1:5]
        assert url == (f"`{kind.base_url}`" if kind.base_url else "name one")
        assert variable == (f"`{kind.key_env}`" if kind.key_env else "none needed")
        assert wire == f"`{kind.wire}`"
        wanted = ([] if kind.base_url else ["base_url"]) + missing(kind, Chosen(name=name))
        assert needs == (", ".join(f"`{setting}`" for setting in wanted) or "–")


def test_no_kind_has_a_row_that_the_registry_lacks() -> None:
    table = TEXT.split("| Kind | Base URL |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `([^`]+)`", table, re.M)) == set(PROVIDER_KINDS)


LATER = TEXT.split("## Not supported yet")[1].split("## ")[0]


def test_what_the_settings_refuse_as_not_supported_yet_is_named_as_such() -> None:
    fields = {name for section in SECTIONS for name, field in section.model_fields.items() if "not supported yet" in (field.description or "")}
    assert [name for name in fields if f"{name}`" not in LATER] == []
