"""The JSON schema: as the types say it, as the file holds it, and strict enough to be of use in an editor."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from config.schema import json_schema, schema_text
from config.settings import Settings
from tests.config.files import ROOT

FILE = ROOT / "config" / "turnout.schema.json"


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(child)


def test_the_file_holds_the_schema_of_the_types() -> None:
    assert FILE.read_text() == schema_text(), "write it again: turnout config schema > config/turnout.schema.json"


def test_the_schema_has_every_section() -> None:
    schema = json.loads(FILE.read_text())
    assert set(schema["properties"]) == set(Settings.model_fields)
    assert schema["additionalProperties"] is False and schema["title"] == "Turnout configuration"


def test_every_section_of_the_schema_refuses_unknown_keys() -> None:
    assert all(section["additionalProperties"] is False for section in json_schema()["$defs"].values())


def test_every_reference_of_the_schema_leads_somewhere() -> None:
    schema = json_schema()
    references = [node["$ref"] for node in nodes(schema) if isinstance(node.get("$ref"), str)]
    assert references and all(reference.removeprefix("#/$defs/") in schema["$defs"] for reference in references)


def test_every_pattern_of_the_schema_is_one() -> None:
    patterns = [node["pattern"] for node in nodes(json_schema()) if isinstance(node.get("pattern"), str)]
    patterns += [name for node in nodes(json_schema()) for name in node.get("patternProperties", {})]
    assert patterns and all(re.compile(pattern) for pattern in patterns)


BLOCKS = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "configuration.md").read_text(), re.M | re.S)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_schema_allows_what_the_documentation_shows(block: str) -> None:
    text = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", block)  # a variable for a number: the loader's matter
    jsonschema.validate(yaml.safe_load(text), json_schema())


REFUSED = [
    "policies: {p: {objective: cheapst}}",
    "policies: {p: {objective: {weighted: {latncy: 1}}}}",
    "policies: {p: {residency: eu}}",
    "policies: {p: {residency: []}}",
    "policies: {p: {hedge: {after: p99}}}",
    "policies: {p: {slo: {ttft_p95_ms: -1}}}",
    "teams: {t: {overrides: [polcy]}}",
]


@pytest.mark.parametrize("text", REFUSED)
def test_the_schema_refuses_what_the_loader_refuses(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), json_schema())


def test_the_schema_allows_the_example() -> None:
    jsonschema.validate(yaml.safe_load((ROOT / "config" / "example.yaml").read_text()), json_schema())
