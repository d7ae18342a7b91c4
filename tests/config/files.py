"""Writing a configuration and loading it, as every test here does."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from config.document import ConfigError
from config.load import Loaded, load
from gateway.cli.settings import known_kinds

ROOT = Path(__file__).parents[2]
KNOWN = known_kinds()

# a configuration that works, without variables; tests change a line of it
BASE = """
providers:
  lab: {kind: openai-compatible, base_url: "http://127.0.0.1:9100/v1"}
engines:
  cpu: {kind: llamacpp, model: "builtin:smollm2-135m-instruct"}
models:
  chat: {policy: interactive, targets: [{provider: lab, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}, {engine: cpu}]}
policies:
  interactive: {fallback: any}
teams:
  search: {models: [chat], keys: [sk-search]}
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "turnout.yaml"
    path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).strip().encode() + b"\n")
    return path


def loaded(folder: Path, text: str | bytes, env: Mapping[str, str] | None = None) -> Loaded:
    return load(written(folder, text), env or {}, KNOWN)


def refused(folder: Path, text: str | bytes, env: Mapping[str, str] | None = None) -> ConfigError:
    """The error that the text is refused with. Every line of it begins with the file's name."""
    path = written(folder, text)
    with pytest.raises(ConfigError) as caught:
        load(path, env or {}, KNOWN)
    lines = str(caught.value).splitlines()
    assert lines and len(lines) == len(caught.value.findings) and all(line.startswith(f"{path}:") for line in lines), lines
    return caught.value


def places(error: ConfigError) -> list[str]:
    """`line:column: message` of each finding."""
    return [line.removeprefix(f"{error.file}:") for line in str(error).splitlines()]
