"""What `turnout check` says of a batch's executor."""

import sys
from pathlib import Path

import pytest

from tests.config.files import loaded, refused

MODELS = """
providers: {one: {kind: openai-compatible, base_url: "http://127.0.0.1:9/v1", api_key: k}}
models: {chat: {targets: [{provider: one, model: m}]}}
"""
POSTGRES = 'state: {database: "postgresql://turnout@db/turnout"}\n'


def section(folder: str = "/shared/files", python: str = sys.executable, config: str = __file__) -> str:
    return f'batch: {{executor: ray, folder: "{folder}", ray: {{python: "{python}", config: "{config}", actors: 3, gpus: 1}}}}\n'


def test_ray_with_all_that_it_needs_loads(tmp_path: Path) -> None:
    batch = loaded(tmp_path, MODELS + POSTGRES + section(), {}).settings.batch
    assert batch.ray is not None and (batch.ray.actors, batch.ray.gpus, batch.ray.address) == (3, 1, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (POSTGRES + "batch: {executor: ray, folder: /shared}", "`batch.ray` is missing"),
        (section(), "name a PostgreSQL"),
        (POSTGRES + section(folder="files"), "a whole path"),
        (POSTGRES + section(python="/nowhere/python"), "no such interpreter"),
        (POSTGRES + section(config="/nowhere/actor.yaml"), "no such file"),
    ],
)
def test_what_ray_lacks_is_told(tmp_path: Path, text: str, said: str) -> None:
    assert said in str(refused(tmp_path, MODELS + text))


def test_a_section_that_nobody_reads_is_advised_against(tmp_path: Path) -> None:
    (advice,) = loaded(tmp_path, MODELS + POSTGRES + section().replace("executor: ray, ", ""), {}).advice
    assert "executor: ray" in advice.message
